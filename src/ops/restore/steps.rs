//! What is done at the target in path order, by one thread for each range.

use std::collections::HashMap;

use super::large::LargeFiles;
use super::{Overwrite, Restore};
use crate::format::entry::Metadata;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::target::{Put, TargetError, TargetErrorKind};

/// The content of a small file.
pub(super) enum SmallContent {
    /// It came with the entry.
    Inline(Box<[u8]>),
    /// It is among what was gathered for the window: the file's number, and where it begins.
    Gathered { number: usize, start: usize },
}

/// One thing to do.
pub(super) enum Step {
    MakeFolder(Box<[u8]>),
    /// Make the file and write all of it.
    SmallFile {
        path: Box<[u8]>,
        meta: Metadata,
        content: SmallContent,
        put: Put,
    },
    /// Make the large file with this number in its window, to be filled later.
    BeginLargeFile(usize),
    /// Nothing more goes into the folder.
    FinishFolder(Box<[u8]>, Metadata),
}

/// Consecutive steps.
#[derive(Default)]
pub(super) struct Range {
    pub(super) steps: Vec<Step>,
    /// Which of them make folders that later ranges need, too.
    pub(super) done_before: Vec<usize>,
}

impl Range {
    /// Makes the folders that later ranges need, too.
    pub(super) fn make_needed(&self, restore: &Restore<'_>) -> Result<(), OpError> {
        for &at in &self.done_before {
            if let Step::MakeFolder(path) = &self.steps[at] {
                restore.make_folder(path, None)?;
            }
        }
        Ok(())
    }

    /// Does everything else. `small` is what was gathered, `failed` says what is missing of it.
    pub(super) fn work_off(
        &self,
        restore: &Restore<'_>,
        small: &[u8],
        failed: &HashMap<usize, RepositoryError>,
        large: &LargeFiles,
    ) -> Result<(), OpError> {
        if restore.is_interrupted() {
            return Err(OpError::Interrupted);
        }
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::MakeFolder(_) if self.done_before.contains(&at) => {}
                Step::MakeFolder(path) => restore.make_folder(path, None).map(drop)?,
                Step::SmallFile { path, meta, content, put } => match content {
                    SmallContent::Inline(bytes) => {
                        restore.write_small(path, meta, bytes, *put)?;
                    }
                    SmallContent::Gathered { number, start } => match failed.get(number) {
                        Some(error) => restore.damage(path, error),
                        None => {
                            // A small file was found to fit into memory.
                            let len = usize::try_from(meta.size).unwrap_or(usize::MAX);
                            let bytes = &small[*start..*start + len];
                            restore.write_small(path, meta, bytes, *put)?;
                        }
                    },
                },
                Step::BeginLargeFile(number) => large.begin(restore, *number)?,
                Step::FinishFolder(path, meta) => restore.finish_folder(path, meta)?,
            }
        }
        Ok(())
    }
}

impl Restore<'_> {
    /// Makes a folder; says whether it was there before, or nothing when it cannot be made, which
    /// is reported. Something else in its place is replaced
    /// if `overwrite` allows it for an entry with the metadata `meta`.
    pub(super) fn make_folder(
        &self,
        path: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<Option<bool>, OpError> {
        let target = self.target()?;
        let made = match target.make_folder(path) {
            Err(TargetError { kind: TargetErrorKind::NotAFolder, .. })
                if self.may_replace(path, meta)? =>
            {
                target.replace_by_folder(path).map(|()| true)
            }
            made => made,
        };
        match made {
            Ok(new) => Ok(Some(!new)),
            Err(error) => self.one_entry_only(path, error).map(|()| None),
        }
    }

    /// Whether what is in the place of a folder and is not a folder may be replaced.
    fn may_replace(&self, path: &[u8], meta: Option<&Metadata>) -> Result<bool, OpError> {
        let there = self.target()?.existing(path)?;
        Ok(match (self.options.overwrite, meta, there) {
            (Some(Overwrite::Always | Overwrite::IfChanged), ..) => true,
            (Some(Overwrite::IfNewer), Some(meta), Some(there)) => meta.mtime > there.mtime,
            _ => false,
        })
    }

    /// Gives a folder that nothing more goes into its metadata.
    pub(super) fn finish_folder(&self, path: &[u8], meta: &Metadata) -> Result<(), OpError> {
        match self.target()?.finish_folder(path, meta, &self.options.policy) {
            Ok(applied) => self.made(path, applied),
            Err(error) => self.one_entry_only(path, error)?,
        }
        Ok(())
    }

    fn write_small(
        &self,
        path: &[u8],
        meta: &Metadata,
        bytes: &[u8],
        put: Put,
    ) -> Result<(), OpError> {
        let (target, policy) = (self.target()?, &self.options.policy);
        match target.put(path, put, |at| target.write_small(at, meta, bytes, policy, false)) {
            Ok(applied) => {
                self.made(path, applied);
                let len = bytes.len() as u64;
                self.counters.bytes.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }
            Err(error) => self.one_entry_only(path, error),
        }
    }
}
