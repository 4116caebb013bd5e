//! The folders that the walk of a restore is in: making, leaving and emptying them.

use std::collections::HashSet;

use super::delete::{Deleter, Kept};
use super::names::NamesSeen;
use super::steps::Step;
use super::walk::{Walk, plan};
use crate::format::entry::{EntryKind, Metadata};
use crate::format::path;
use crate::ops::OpError;

/// A folder that the walk is in.
pub(super) struct Folder {
    pub(super) below: Box<[u8]>,
    meta: Metadata,
    made: bool,
    /// The range of steps in which it is made.
    range: u64,
    /// Which step of that range makes it, when the walk does not.
    step: Option<usize>,
    /// Something goes into it after the steps of the window.
    late: bool,
    /// It was there before, so that there may be something to delete in it.
    existed: bool,
    /// Whether what it holds stays although the snapshot does not have it.
    pub(super) kept: Kept,
    /// Nothing in it is restored: it cannot be made, or the target takes its name for another one.
    pub(super) clashes: bool,
    pub(super) names_seen: NamesSeen,
    /// What the snapshot has in it; only known when the rest is to be deleted.
    pub(super) names: HashSet<Box<[u8]>>,
}

impl Folder {
    pub(super) fn new(below: Box<[u8]>, meta: Metadata, clashes: bool) -> Self {
        Self {
            below,
            meta,
            made: false,
            range: 0,
            step: None,
            late: false,
            existed: false,
            kept: Kept::No,
            clashes,
            names_seen: NamesSeen::default(),
            names: HashSet::new(),
        }
    }
}

impl Walk<'_, '_> {
    /// Makes the folders that the walk is in, outermost first, where they are not made yet.
    pub(super) fn make_folders(&mut self) -> Result<(), OpError> {
        let restore = self.restore;
        let mut above = self.deleter.as_ref().map_or(Kept::No, Deleter::top);
        for folder in &mut self.folders {
            if folder.made {
                above = folder.kept;
                continue;
            }
            folder.made = true;
            folder.kept = above;
            if restore.options.dry_run {
                let there = match &restore.target {
                    Some(target) => target.existing(&folder.below)?,
                    None => None,
                };
                folder.existed = there.is_some_and(|there| there.kind == EntryKind::Directory);
                match &self.deleter {
                    _ if !folder.existed => plan(restore, "make", &folder.below),
                    Some(deleter) => folder.kept = deleter.enters(&folder.below, above)?,
                    None => {}
                }
                above = folder.kept;
                continue;
            }
            folder.range = self.range;
            if restore.options.overwrite.is_none() {
                // Nothing is in its way, and nobody looks into it before the window is written.
                folder.step = Some(self.window.step(Step::MakeFolder(folder.below.clone())));
            } else {
                let made = restore.make_folder(&folder.below, Some(&folder.meta))?;
                folder.clashes |= made.is_none();
                folder.existed = made == Some(true);
                if folder.existed {
                    restore.clean(&folder.below);
                }
                if let (true, Some(deleter)) = (folder.existed, &self.deleter) {
                    folder.kept = deleter.enters(&folder.below, above)?;
                }
            }
            above = folder.kept;
        }
        Ok(())
    }

    /// Notes that something goes into the last folder after the steps of the window.
    pub(super) fn finish_folder_late(&mut self) {
        if let Some(folder) = self.folders.last_mut() {
            folder.late = true;
        }
    }

    /// Begins another range of steps.
    pub(super) fn cut(&mut self) {
        let of_this_range = |folder: &Folder| (folder.range == self.range).then_some(folder.step);
        let needed = self.folders.iter().filter_map(of_this_range).flatten().collect();
        self.window.cut(needed);
        self.range += 1;
    }

    /// Leaves the folders that `next` does not lie in.
    pub(super) fn leave_folders(&mut self, next: &[u8], all: bool) -> Result<(), OpError> {
        while let Some(folder) = self.folders.last() {
            if !all && path::is_within(next, &folder.below) && *folder.below != *next {
                return Ok(());
            }
            let Some(folder) = self.folders.pop() else { return Ok(()) };
            if !folder.made {
                continue;
            }
            if folder.clashes {
                continue;
            }
            if let (true, Some(deleter)) = (folder.existed, &mut self.deleter) {
                deleter.extras(&folder.below, &folder.names, folder.kept)?;
            }
            if folder.range == self.range && !folder.late {
                self.window.step(Step::FinishFolder(folder.below, folder.meta));
            } else {
                self.window.folders.push((folder.below, folder.meta));
                // Finished, the one above might not let anybody through.
                self.finish_folder_late();
            }
        }
        Ok(())
    }
}
