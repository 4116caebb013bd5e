//! Verifying a share of what a change list lets this snapshot reuse without a look: some entries of
//! the parent, other ones in each snapshot, are compared with the sources.
//!
//! An entry that differs although nothing reported it is a problem, and everything is looked at.

use std::ffi::CString;

use rustix::fd::{AsFd as _, OwnedFd};

use super::{Increment, Rule, Stop, shares};
use crate::format::entry::{EntryKind, Timestamp};
use crate::format::page::EntryStat;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::ops::snapshot::pipeline::Shared;
use crate::ops::snapshot::unchanged::{RACY_NANOS, before, is_before};
use crate::source::lister::stat_at;
use crate::source::open::Roots;
use crate::source::{Stat, Upkeep, compare_paths, is_at_or_below};
use crate::tree::PageReader;

/// Most entries that are verified in one snapshot: an increment of a large tree must not cost what
/// the tree has.
const MAX_ENTRIES: u64 = 4096;

/// Compares the share whose turn it is, and remembers where the next one begins.
///
/// # Errors
/// When an entry differs that was not reported, or a page of the parent cannot be read.
pub(in crate::ops::snapshot) fn verify_share(
    shared: &Shared,
    increment: &mut Increment,
    parent: &Snapshot,
    scan_started: Timestamp,
) -> Result<(), Stop> {
    let Rule::Told { changes, by_kernel } = &increment.rule else { return Ok(()) };
    let from = parent.continuation.as_ref().and_then(|base| base.verified_to.as_ref());
    let from = from.map_or(&b""[..], |path| &path.0);
    let count = parent.counts.entries.div_ceil(shares(parent)).min(MAX_ENTRIES);
    let mut look = Look { roots: shared.roots(), folder: None };
    let mut cursor = PageReader::new(&shared.repository).cursor(parent.root);
    cursor.seek(from)?;
    let (mut doubtful, mut lost) = (Vec::new(), None);
    for _ in 0..count {
        let Some((page, at)) = cursor.peek()? else { break };
        let (path, old) = (page.leaf.path(at), page.leaf.stat(at));
        if !is_reported(changes, path) && !is_unsure(&increment.unsure, path) {
            let settled = before(scan_started, RACY_NANOS);
            match look.compare(path, old, settled) {
                Finding::Same => {}
                // A file that came and went changes the times of its directory; a list need not
                // have it, but the kernel reports it.
                Finding::Changed if old.kind == EntryKind::Directory && !by_kernel => {
                    doubtful.push(path.into());
                }
                Finding::Changed => lost = Some(Box::from(path)),
                Finding::Doubtful => doubtful.push(place_of(path, old.kind)),
            }
        }
        cursor.skip();
        if lost.is_some() {
            break;
        }
    }
    increment.verified_to = cursor.peek()?.map(|(page, at)| page.leaf.path(at).into());
    if let Some(path) = lost {
        return Err(report(shared, &path, *by_kernel));
    }
    increment.unsure.append(&mut doubtful);
    increment.unsure.sort_by(|a, b| compare_paths(a, b));
    increment.unsure.dedup();
    Ok(())
}

fn report(shared: &Shared, path: &[u8], by_kernel: bool) -> Stop {
    let who = if by_kernel { "the kernel" } else { "the list of changes" };
    let message = format!(
        "it changed before this snapshot began, and {who} did not report it: earlier snapshots may \
         have older content of this and other files"
    );
    shared.problem(path, message);
    Stop::StartOver(format!("{} changed and was not reported", path::display(path)))
}

/// The directory that must be listed so that an entry is looked at.
fn place_of(path: &[u8], kind: EntryKind) -> Box<[u8]> {
    if kind == EntryKind::Directory { path.into() } else { path::parent(path).into() }
}

/// Whether something at or above the path, or below it, was reported as changed.
fn is_reported(changes: &[Box<[u8]>], path: &[u8]) -> bool {
    let next = changes.partition_point(|change| compare_paths(change, path).is_lt());
    let below = changes.get(next).is_some_and(|change| is_at_or_below(change, path));
    // The changes do not lie within each other.
    below || next.checked_sub(1).is_some_and(|last| is_at_or_below(path, &changes[last]))
}

/// Whether the walk looks at the entry anyway.
fn is_unsure(unsure: &[Box<[u8]>], path: &[u8]) -> bool {
    let has = |path: &[u8]| unsure.binary_search_by(|other| compare_paths(other, path)).is_ok();
    has(path) || has(path::parent(path))
}

/// What a look at an entry showed.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It is as the parent has it, changed too late to be reported, or cannot be compared.
    Same,
    /// It changed before this snapshot began.
    Changed,
    /// Only the time of its last change of status differs: flags, which are in no snapshot, change
    /// it without an event.
    Doubtful,
}

/// Looks at entries in path order.
struct Look<'r> {
    roots: &'r Roots,
    /// The directory of the last entry, if it can be opened.
    folder: Option<(Box<[u8]>, Option<OwnedFd>)>,
}

impl Look<'_> {
    /// Compares an entry; what changed at `settled` or later may have been reported too late.
    fn compare(&mut self, path: &[u8], old: &EntryStat, settled: Timestamp) -> Finding {
        if old.kind == EntryKind::Stream || old.unsettled {
            return Finding::Same;
        }
        let Some(folder) = self.folder_of(path) else { return Finding::Same };
        let Ok(name) = CString::new(path::name(path)) else { return Finding::Same };
        match stat_at(folder.as_fd(), &name) {
            Ok(new) => compare(old, &new, settled),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Its removal changed the directory.
                let folder = stat_at(folder.as_fd(), c"");
                let is_old = folder.is_ok_and(|folder| is_before(folder.ctime, settled));
                if is_old { Finding::Changed } else { Finding::Same }
            }
            Err(_) => Finding::Same,
        }
    }

    /// A handle of the directory that holds an entry; nothing for a source and what lies above.
    fn folder_of(&mut self, path: &[u8]) -> Option<&OwnedFd> {
        let parent = path::parent(path);
        if self.folder.as_ref().is_none_or(|(last, _)| **last != *parent) {
            let located = self.roots.locate(path).ok().filter(|(_, below)| !below.is_empty());
            let handle = located.and_then(|(root, below)| Some(root.parent_of(below).ok()?.0));
            // What the kernel makes up changes by itself.
            let handle = handle.filter(|handle| {
                let found = self.roots.stat_of(handle.as_fd());
                found.is_ok_and(|found| found.upkeep != Upkeep::MadeUp)
            });
            self.folder = Some((parent.into(), handle));
        }
        self.folder.as_ref()?.1.as_ref()
    }
}

/// Inode numbers do not count: not every file system keeps them.
fn compare(old: &EntryStat, new: &Stat, settled: Timestamp) -> Finding {
    let is_same = old.kind == new.kind && old.mtime == new.mtime;
    match (is_same, old.ctime == new.ctime, old.size == new.size) {
        (true, true, _) => Finding::Same,
        _ if !is_before(new.ctime, settled) => Finding::Same,
        (true, false, true) => Finding::Doubtful,
        _ => Finding::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::test_stat;

    #[test]
    fn what_was_reported_is_at_above_or_below() {
        let changes: Vec<Box<[u8]>> =
            [&b"s/a"[..], b"s/b/c", b"s/b-d"].map(Box::from).into_iter().collect();
        let mut changes = changes;
        changes.sort_by(|a, b| compare_paths(a, b));
        for reported in ["s", "s/a", "s/a/x/y", "s/b", "s/b/c", "s/b/c/d", "s/b-d"] {
            assert!(is_reported(&changes, reported.as_bytes()), "{reported}");
        }
        for other in ["s/aa", "s/b/d", "s/b/cc", "s/b-c", "s/c", "r", "t"] {
            assert!(!is_reported(&changes, other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn late_changes_and_flags_are_not_missed_changes() {
        let at = |seconds| Timestamp { seconds, nanos: 1 };
        let new = Stat { mtime: at(1), ctime: at(2), ..test_stat() };
        let Stat { kind, mtime, ctime, inode, filesystem, size, .. } = new;
        let old = EntryStat { kind, unsettled: false, mtime, ctime, inode, filesystem, size };
        let about = |new: Stat| compare(&old, &new, at(100));
        assert_eq!(about(new), Finding::Same);
        assert_eq!(about(Stat { ctime: at(50), ..new }), Finding::Doubtful);
        for changed in [
            Stat { size: 6, ..new },
            Stat { mtime: at(2), ..new },
            Stat { kind: EntryKind::Symlink, ..new },
        ] {
            assert_eq!(about(Stat { ctime: at(50), ..changed }), Finding::Changed);
            assert_eq!(about(Stat { ctime: at(100), ..changed }), Finding::Same);
        }
    }
}
