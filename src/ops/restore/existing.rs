//! What becomes of an entry in whose place something is already.

use std::sync::atomic::Ordering;

use super::delete::Kept;
use super::links::{OtherNames, may_have_names};
use super::verify::is_same_content;
use super::walk::{Walk, plan};
use super::window::FurtherName;
use super::{Overwrite, Restore};
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::ops::OpError;
use crate::target::{Existing, FileId, Put, TargetErrorKind};

/// What is to happen to an entry.
enum Verdict {
    Make(Put),
    /// Its content is there. What was at the target has this identity.
    OnlyMetadata(FileId),
    /// It is there as another name of a file whose first name was left as it was.
    Linked,
    Keep,
    /// It cannot be restored, which was reported.
    Refuse,
}

impl<'a> Walk<'a, 'a> {
    pub(super) fn restore_item(&mut self, entry: Entry) -> Result<(), OpError> {
        let restore = self.restore;
        let special = matches!(entry.meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        if special && !restore.options.policy.special {
            Restore::count(&restore.counters.specials_left_out);
            return Ok(());
        }
        if entry.meta.kind == EntryKind::Socket {
            Restore::count(&restore.counters.sockets);
            return Ok(());
        }
        let others = match may_have_names(&entry) {
            true => self.links.other_names(&entry),
            false => OtherNames::None,
        };
        let put = match self.verdict(&entry, &others)? {
            Verdict::Refuse => return Ok(()),
            Verdict::Keep => {
                Restore::count(&restore.counters.kept);
                return Ok(());
            }
            Verdict::Linked => {
                Restore::count(&restore.counters.unchanged);
                self.links.came(&entry);
                return Ok(());
            }
            Verdict::OnlyMetadata(there) => {
                Restore::count(&restore.counters.unchanged);
                self.remember(&entry, Some(there));
                return self.only_metadata(&entry);
            }
            Verdict::Make(put) => put,
        };
        let is_further = matches!(others, OtherNames::First(..));
        if restore.options.dry_run {
            Restore::count(&restore.counters.restored);
            let is_new = matches!(put, Put::Fresh | Put::New);
            plan(restore, if is_new { "make" } else { "replace" }, &entry.path);
            if !is_further {
                restore.counters.bytes.fetch_add(entry.meta.size, Ordering::Relaxed);
            }
        }
        match others {
            OtherNames::First(first, _) => {
                self.links.came(&entry);
                if !restore.options.dry_run {
                    self.finish_folder_late();
                    self.window.links.push(FurtherName { first, further: entry, put });
                }
                return Ok(());
            }
            OtherNames::OnlyOfAnother => restore.unlinked(
                &entry.path,
                "an entry with the same inode number is another file: they are not linked",
            ),
            OtherNames::None => {}
        }
        self.remember(&entry, None);
        match entry.meta.kind {
            _ if restore.options.dry_run => Ok(()),
            EntryKind::File | EntryKind::Stream => self.add_file(entry, put),
            _ => {
                self.finish_folder_late();
                self.window.specials.push((entry, put));
                Ok(())
            }
        }
    }

    fn only_metadata(&self, entry: &Entry) -> Result<(), OpError> {
        let restore = self.restore;
        if restore.options.dry_run {
            return Ok(());
        }
        match restore.target()?.set_metadata(&entry.path, &entry.meta, &restore.options.policy) {
            Ok(applied) => restore.applied(&entry.path, applied),
            Err(error) => restore.one_entry_only(&entry.path, error)?,
        }
        Ok(())
    }

    /// Remembers the first name of a file with several.
    fn remember(&mut self, entry: &Entry, there: Option<FileId>) {
        if !may_have_names(entry) {
            return;
        }
        if self.links.remember(entry, there) {
            // Its other names are made from this one, which has to be reached for that.
            self.finish_folder_late();
        } else {
            let why =
                "too many files with several names: its other names become files of their own";
            self.restore.unlinked(&entry.path, why);
        }
    }

    /// What is to happen to an entry. `others` is what is known of other names of the same file.
    fn verdict(&mut self, entry: &Entry, others: &OtherNames) -> Result<Verdict, OpError> {
        let restore = self.restore;
        let (Some(target), Some(overwrite)) = (&restore.target, restore.options.overwrite) else {
            return Ok(Verdict::Make(Put::Fresh));
        };
        let there = match target.existing(&entry.path) {
            Ok(Some(there)) => there,
            Ok(None) => return Ok(Verdict::Make(Put::New)),
            // The directory is still to be made in the place of something else.
            Err(error)
                if restore.options.dry_run
                    && matches!(
                        error.kind,
                        TargetErrorKind::NotAFolder | TargetErrorKind::UnsafePath
                    ) =>
            {
                return Ok(Verdict::Make(Put::New));
            }
            Err(error) => {
                restore.one_entry_only(&entry.path, error)?;
                return Ok(Verdict::Refuse);
            }
        };
        match overwrite {
            Overwrite::Never => Ok(Verdict::Keep),
            Overwrite::IfChanged if is_same(&there, &entry.meta) => {
                self.verdict_by_links(entry, others, &there)
            }
            Overwrite::IfNewer if entry.meta.mtime <= there.mtime => Ok(Verdict::Keep),
            _ if there.kind == EntryKind::Directory => self.replaces_folder(&entry.path),
            _ => Ok(Verdict::Make(Put::Replace)),
        }
    }

    /// What is to happen to a file that has the size and the time of its entry. Its content counts
    /// as unchanged only where no other file can have written to the same inode.
    fn verdict_by_links(
        &mut self,
        entry: &Entry,
        others: &OtherNames,
        there: &Existing,
    ) -> Result<Verdict, OpError> {
        let id = there.id();
        if let OtherNames::First(_, first) = others {
            return Ok(match first {
                Some(first) if *first == id => Verdict::Linked,
                _ => Verdict::Make(Put::Replace),
            });
        }
        if there.links == 1 {
            return Ok(Verdict::OnlyMetadata(id));
        }
        // Names beyond those of the snapshot: it is one with another entry, or with a file that
        // the restore is not about.
        let is_right = there.links <= u64::from(entry.meta.links)
            && may_have_names(entry)
            && self.restore.is_like(entry)?
            && self.links.claim(id);
        Ok(if is_right { Verdict::OnlyMetadata(id) } else { Verdict::Make(Put::Replace) })
    }

    /// A whole folder goes only when deleting was asked for, and only if all of it may go.
    fn replaces_folder(&mut self, path: &[u8]) -> Result<Verdict, OpError> {
        let kept = self.folders.last().map_or(Kept::No, |folder| folder.kept);
        let Some(deleter) = &mut self.deleter else {
            let why = "a folder is in its place (say --delete to have it removed)".to_owned();
            self.restore.problem(path, why);
            return Ok(Verdict::Refuse);
        };
        Ok(if deleter.clears(path, kept)? {
            Verdict::Make(Put::ReplaceTree)
        } else {
            Verdict::Refuse
        })
    }
}

impl Restore<'_> {
    /// Whether the file at the place of `entry` is like it in content and metadata.
    fn is_like(&self, entry: &Entry) -> Result<bool, OpError> {
        let compared = self.target()?.compare(&entry.path, &entry.meta, &self.options.policy);
        Ok(compared.is_ok_and(|found| found.is_empty()) && is_same_content(self, entry))
    }

    /// Removes what an interrupted restore left in a folder of the target.
    pub(super) fn clean(&self, folder: &[u8]) {
        if let Some(target) = &self.target {
            // What cannot be listed may still be written to.
            let _ = target.clean(folder);
        }
    }
}

/// Same enough to be left alone unless everything is to be written.
fn is_same(there: &Existing, meta: &Metadata) -> bool {
    let kind = if meta.kind == EntryKind::Stream { EntryKind::File } else { meta.kind };
    // A link's length is that of its target and says nothing about where it points.
    there.kind == kind
        && kind == EntryKind::File
        && there.size == meta.size
        && there.mtime == meta.mtime
}
