//! Snapshots that do not look at everything: which folders are looked after one by one, and what
//! of them is taken over from the parent without a look.
//!
//! Each way rests on a rule that the caller has said aloud. Where a rule cannot be applied, or turns
//! out to be broken, everything is looked at, with a reason that is told.

#[cfg(target_os = "linux")]
mod pass;
mod seen;
#[cfg(target_os = "linux")]
mod verdict;
#[cfg(target_os = "linux")]
mod verify;
#[cfg(target_os = "linux")]
mod walk;

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::options::{ChangesSince, Scope, SnapshotOptions};
use super::pipeline::Shared;
use super::previous::Earlier;
use super::stand_in::StandIn;
use super::totals::FeedTotals;
use crate::crypto::ChunkKind;
use crate::format::entry::Timestamp;
use crate::format::path;
use crate::format::snapshot::{Continuation, RawBytes, Snapshot};
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::source::compare_paths;

pub(super) use seen::SeenFolders;
#[cfg(target_os = "linux")]
pub(super) use walk::Partial;

/// In so many runs at least every folder that is taken over unseen is verified once.
const MIN_SHARES: u64 = 32;
/// In so many at most.
const MAX_SHARES: u64 = 256;
/// Entries that a share has on average where it may have less than that part of them: an increment
/// of a large tree is not to cost what the tree has.
const SHARE_ENTRIES: u64 = 8192;

/// What of a snapshot is looked after folder by folder.
#[derive(Debug)]
pub(super) struct Increment {
    /// The folders, none within another, in the form of a scan.
    pub(super) folders: Vec<Box<[u8]>>,
    pub(super) rule: Rule,
    /// Folders that the parent was not sure of, sorted.
    pub(super) unsure: Vec<Box<[u8]>>,
    /// Where the next snapshot goes on verifying; nothing where it begins again.
    pub(super) verified_to: Option<Box<[u8]>>,
}

/// By what it is judged which folders changed.
#[derive(Debug)]
pub(super) enum Rule {
    /// By their own times, which `seen` may have, too; and one of so many shares is verified.
    WriteOnce { share: u8, shares: u64, seen: SeenFolders },
    /// Only what is at or below these paths changed, sorted. The kernel reports all changes of a
    /// directory; another list may leave out what came and went.
    Told { changes: Vec<Box<[u8]>>, by_kernel: bool },
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

/// What is taken over unseen: nothing where nothing was asked for. Asks for changes that are to be
/// told.
///
/// # Errors
/// Why everything must be looked at, or what is wrong with the changes.
pub(super) fn plan(
    repository: &Repository,
    options: &mut SnapshotOptions,
    earlier: &Earlier,
    doubt: Option<String>,
    now: Timestamp,
) -> Result<Option<Increment>, Stop> {
    if options.force || matches!(options.scope, Scope::Everything) {
        return Ok(None);
    }
    if let Some(why) = doubt {
        return Err(Stop::StartOver(why));
    }
    let (parent, base) = base(repository, options, earlier).map_err(Stop::StartOver)?;
    if let Some(every) = options.full_scan_every {
        full_scan_due(base, every, now).map_err(Stop::StartOver)?;
    }
    let mut unsure: Vec<Box<[u8]>> = base.unsure.iter().map(|path| path.0[..].into()).collect();
    unsure.sort_by(|a, b| compare_paths(a, b));
    let (folders, rule) = match std::mem::take(&mut options.scope) {
        Scope::Everything => return Ok(None),
        Scope::WriteOnce(folders) => {
            let seen = SeenFolders::of(repository, &parent.root);
            let (share, shares) = (next_share(parent, base), shares(parent));
            (outermost(&folders), Rule::WriteOnce { share, shares, seen })
        }
        Scope::Told(told) => {
            let changes = match (told.changes)(parent)? {
                ChangesSince::Below(paths) => paths,
                ChangesSince::Unknown(why) => return Err(Stop::StartOver(why)),
            };
            let changes = in_sources(&changes, &options.paths)?;
            (outermost(&options.paths), Rule::Told { changes, by_kernel: told.by_kernel })
        }
    };
    Ok(Some(Increment { folders, rule, unsure, verified_to: None }))
}

/// Whether the last look at everything was long enough ago.
///
/// # Errors
/// In words, why everything must be looked at.
fn full_scan_due(base: &Continuation, every: Duration, now: Timestamp) -> Result<(), String> {
    let Some(last) = base.full_scan.map(Timestamp::from) else {
        return Err("it is not known when everything was looked at last".to_owned());
    };
    let seconds = u64::try_from(now.seconds.saturating_sub(last.seconds)).ok();
    match seconds {
        Some(seconds) if seconds < every.as_secs() => Ok(()),
        Some(seconds) => {
            let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
            let fits = units.into_iter().find(|(_, length)| seconds >= *length);
            let (unit, length) = fits.unwrap_or(("second", 1));
            let count = seconds / length;
            let plural = if count == 1 { "" } else { "s" };
            Err(format!("everything was looked at last {count} {unit}{plural} ago"))
        }
        None => Err("everything was looked at last at a time that is in the future".to_owned()),
    }
}

/// Verifies a share of what would be reused without a look.
pub(super) fn verify(
    shared: &Shared,
    increment: Option<&mut Increment>,
    earlier: &Earlier,
    scan_started: Timestamp,
) -> Result<(), Stop> {
    #[cfg(target_os = "linux")]
    if let (Some(increment), Some(parent)) = (increment, &earlier.parent) {
        return verify::verify_share(shared, increment, parent, scan_started);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (shared, increment, earlier, scan_started);
    Ok(())
}

/// Into how many shares the folders fall of which one is verified in each run. A power of two, so
/// that a tree that grows goes on where it was.
fn shares(parent: &Snapshot) -> u64 {
    let wanted = parent.counts.entries / SHARE_ENTRIES;
    wanted.next_power_of_two().clamp(MIN_SHARES, MAX_SHARES)
}

/// The share whose turn it is after that of the parent.
fn next_share(parent: &Snapshot, base: &Continuation) -> u8 {
    let next = (u64::from(base.share) + 1) % shares(parent);
    u8::try_from(next).unwrap_or_default()
}

/// Why everything must be looked at, if that helps.
///
/// # Errors
/// When it does not.
pub(super) fn why_all_over(stop: Stop, is_partial: bool) -> Result<String, OpError> {
    match stop {
        Stop::StartOver(why) => Ok(why),
        Stop::Error(OpError::Repository(RepositoryError::MissingChunk(_))) if is_partial => {
            Ok("the repository has lost a page of the earlier snapshot".to_owned())
        }
        Stop::Error(error) => Err(error),
    }
}

/// The paths in the form of a scan, without those within others; each must lie in a source.
fn in_sources(changes: &[PathBuf], sources: &[PathBuf]) -> Result<Vec<Box<[u8]>>, OpError> {
    let is_clean = |path: &PathBuf| path.components().collect::<PathBuf>().as_os_str() == path;
    let lies_in = |path: &PathBuf| sources.iter().any(|source| path.starts_with(source));
    match changes.iter().find(|path| !is_clean(path) || !lies_in(path)) {
        Some(path) => Err(OpError::Refused(format!(
            "{} is told as changed but lies in none of the sources",
            path.display()
        ))),
        None => Ok(outermost(changes)),
    }
}

fn base<'e>(
    repository: &Repository,
    options: &SnapshotOptions,
    earlier: &'e Earlier,
) -> Result<(&'e Snapshot, &'e Continuation), String> {
    let because = |reason: &str| Err(reason.to_owned());
    if cfg!(not(target_os = "linux")) {
        return because("on this system nothing else is possible");
    }
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
    if let Some(copied) = options.stand_ins.iter().find(|copied| meets(copied, options)) {
        let (file, beside) = (copied.path.display(), copied.before.display());
        return Err(format!("{file} is stored as a copy, and must agree with all in {beside}"));
    }
    if options.paths.iter().any(|path| path.parent().is_none()) {
        return because("the source is the whole file system");
    }
    Ok((parent, base))
}

/// Whether a file that is stored as a copy, or what it names, might be taken over unseen.
fn meets(copied: &StandIn, options: &SnapshotOptions) -> bool {
    let folders = match &options.scope {
        Scope::Everything => &[],
        Scope::WriteOnce(folders) => &folders[..],
        Scope::Told(_) => &options.paths[..],
    };
    folders.iter().any(|folder| {
        copied.path.starts_with(folder)
            || copied.before.starts_with(folder)
            || folder.starts_with(&copied.before)
    })
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
    unsure: Option<Vec<RawBytes>>,
    fed: &FeedTotals,
    scan_started: Timestamp,
) -> Option<Continuation> {
    let used = fed.unseen > 0;
    let before = earlier.parent.as_ref();
    let before = before.and_then(|parent| Some((parent, parent.continuation.as_ref()?)));
    let share = before.map_or(0, |(parent, before)| match used {
        true => next_share(parent, before),
        false => before.share,
    });
    let base = before.map(|(_, before)| before);
    let full_scan = match fed.is_partial {
        true => base.and_then(|base| base.full_scan),
        false => Some(scan_started.into()),
    };
    let verified_to = match fed.is_partial {
        true => fed.verified_to.clone(),
        false => base.and_then(|base| base.verified_to.clone()),
    };
    let rules = rules(repository, options);
    Some(Continuation { rules, unsure: unsure?, share, verified_to, full_scan })
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

#[cfg(test)]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "makes test data")]
mod tests;
