//! Snapshots that do not look at everything: which folders are looked after one by one, and what
//! of them is taken over from the parent without a look.
//!
//! Each way rests on a rule that the caller has said aloud. Where a rule cannot be applied, or turns
//! out to be broken, everything is looked at, with a reason that is told.

#[cfg(target_os = "linux")]
mod verdict;
#[cfg(target_os = "linux")]
mod walk;

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::options::{Scope, SnapshotOptions};
use super::previous::Earlier;
use crate::crypto::ChunkKind;
use crate::format::path;
use crate::format::snapshot::Continuation;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::Repository;
use crate::source::compare_paths;

#[cfg(target_os = "linux")]
pub(super) use walk::Partial;

/// In so many runs every folder that is taken over unseen is verified once.
const SHARES: u8 = 32;

/// What of a snapshot is looked after folder by folder.
#[derive(Debug)]
pub(super) struct Increment {
    /// The folders, none within another, in the form of a scan.
    pub(super) folders: Vec<Box<[u8]>>,
    /// Folders that the parent was not sure of, sorted.
    pub(super) unsure: Vec<Box<[u8]>>,
    /// The share that is verified.
    pub(super) share: u8,
}

/// Why a walk that does not look at everything came to no end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something failed.
    Error(OpError),
    /// Everything must be looked at.
    StartOver(String),
}

impl<E: Into<OpError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Refuses what makes no sense whatever the parent is.
pub(super) fn check(options: &SnapshotOptions) -> Result<(), OpError> {
    let Scope::WriteOnce(folders) = &options.scope else { return Ok(()) };
    let outside =
        folders.iter().find(|folder| !options.paths.iter().any(|path| folder.starts_with(path)));
    match outside {
        Some(folder) => Err(OpError::Refused(format!(
            "{} is to be write-once but lies in none of the sources",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// What is taken over unseen, or why nothing can be; neither where nothing is to be.
pub(super) fn plan(
    repository: &Repository,
    options: &SnapshotOptions,
    earlier: &Earlier,
) -> Result<Option<Increment>, String> {
    let Scope::WriteOnce(folders) = &options.scope else { return Ok(None) };
    if options.force || folders.is_empty() {
        return Ok(None);
    }
    if cfg!(not(target_os = "linux")) {
        return Err("on this system nothing else is possible".to_owned());
    }
    let base = base(repository, options, earlier)?;
    let mut unsure: Vec<Box<[u8]>> = base.unsure.iter().map(|path| path.0[..].into()).collect();
    unsure.sort_by(|a, b| compare_paths(a, b));
    Ok(Some(Increment { folders: outermost(folders), unsure, share: (base.share + 1) % SHARES }))
}

fn base<'e>(
    repository: &Repository,
    options: &SnapshotOptions,
    earlier: &'e Earlier,
) -> Result<&'e Continuation, String> {
    let because = |reason: &str| Err(reason.to_owned());
    let Some(parent) = &earlier.parent else {
        return because("there is no earlier snapshot of these sources");
    };
    if earlier.checkpoint.is_some() {
        return because("an unfinished snapshot is taken up");
    }
    let Some(base) = &parent.continuation else {
        return because("the parent could not be sure of too much, or is of an older gabion");
    };
    if base.rules != rules(repository, options) {
        return because("the parent left out other things, by other rules");
    }
    let within =
        |path: &PathBuf| options.paths.iter().any(|other| path != other && path.starts_with(other));
    if options.paths.iter().any(within) {
        return because("a source lies within another");
    }
    if options.paths.iter().any(|path| path.parent().is_none()) {
        return because("the source is the whole file system");
    }
    Ok(base)
}

/// Stands for all options that decide what is in a snapshot of the same sources.
fn rules(repository: &Repository, options: &SnapshotOptions) -> ChunkId {
    let mut bytes = options.excludes.fingerprint();
    bytes.extend([u8::from(options.one_file_system), u8::from(options.allow_live_database)]);
    repository.keys().chunk_id(ChunkKind::Content, &bytes)
}

/// What the next snapshot is to know of this one.
pub(super) fn continuation(
    repository: &Repository,
    options: &SnapshotOptions,
    earlier: &Earlier,
    unsure: Option<Vec<crate::format::snapshot::RawBytes>>,
    used: bool,
) -> Option<Continuation> {
    let before = earlier.parent.as_ref().and_then(|parent| parent.continuation.as_ref());
    let share = before.map_or(0, |before| before.share);
    let share = if used { (share + 1) % SHARES } else { share };
    Some(Continuation { rules: rules(repository, options), unsure: unsure?, share })
}

/// The paths in the form of a scan, in its order, without those within others.
fn outermost(paths: &[PathBuf]) -> Vec<Box<[u8]>> {
    let mut outer: Vec<Box<[u8]>> = paths
        .iter()
        .map(|path| path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default().into())
        .collect();
    outer.sort_by(|a, b| compare_paths(a, b));
    outer.dedup_by(|later, earlier| path::is_within(later, earlier));
    outer
}

#[cfg(all(test, target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "makes test data")]
mod tests;
