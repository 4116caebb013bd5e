//! Finding entries in many snapshots at once.

mod pattern;
mod walk;

pub use pattern::NamePatterns;

use super::OpError;
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::format::page::Leaf;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::repo::Repository;
use crate::tree::{PageReader, with_pages_ahead};
use walk::{Found, Walks};

/// What to find: an entry must satisfy all of it.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// Only what is at or below this path; empty for everything.
    pub within: Vec<u8>,
    /// Names or paths.
    pub names: NamePatterns,
    /// Kinds, any of them; empty for all.
    pub kinds: Vec<EntryKind>,
    /// Changed after this time.
    pub newer: Option<Timestamp>,
    /// Changed before this time.
    pub older: Option<Timestamp>,
    /// Files and streams of at least so many bytes.
    pub min_size: Option<u64>,
    /// Files and streams of at most so many bytes.
    pub max_size: Option<u64>,
}

impl FindOptions {
    fn accepts(&self, leaf: &Leaf, at: usize) -> bool {
        let stat = leaf.stat(at);
        let sized = matches!(stat.kind, EntryKind::File | EntryKind::Stream);
        let large_enough = self.min_size.is_none_or(|min| sized && stat.size >= min);
        let small_enough = self.max_size.is_none_or(|max| sized && stat.size <= max);
        (self.kinds.is_empty() || self.kinds.contains(&stat.kind))
            && self.newer.is_none_or(|newer| stat.mtime > newer)
            && self.older.is_none_or(|older| stat.mtime < older)
            && large_enough
            && small_enough
            && path::is_within(leaf.path(at), &self.within)
            && self.names.accept(leaf.path(at), stat.kind)
    }
}

/// An entry that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindItem {
    /// The snapshots that hold it exactly so, in the order in which they were given.
    pub snapshots: Vec<SnapshotId>,
    /// The entry.
    pub entry: Entry,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FindSummary {
    /// Entries; one that several snapshots hold alike counts once.
    pub items: u64,
    /// Pages that were read for it.
    pub pages: u64,
    /// Pages that could not be read; what they hold was not searched. Each was told to the
    /// repository's observer.
    pub problems: u64,
}

/// Gives every entry of `snapshots` that `options` describe to `each`, in path order, equal ones
/// of several snapshots as one. A page is read once, however many of the snapshots share it;
/// memory grows with the number of snapshots, not with their sizes.
///
/// # Errors
/// When storage fails; what `each` fails with. A page that is missing or damaged is a problem, and
/// everything else is searched.
pub fn find(
    repository: &Repository,
    snapshots: &[Snapshot],
    options: &FindOptions,
    each: &mut dyn FnMut(&FindItem) -> Result<(), OpError>,
) -> Result<FindSummary, OpError> {
    let accept = |leaf: &Leaf, at: usize| options.accepts(leaf, at);
    let mut search = |reader: PageReader<'_>| {
        let roots = snapshots.iter().map(|snapshot| snapshot.root);
        let mut walks = Walks::new(reader, roots, &options.within, &accept);
        let mut summary = FindSummary::default();
        while let Some(Found { entry, holders }) = walks.next_found()? {
            summary.items += 1;
            let snapshots = holders.into_iter().map(|at| snapshots[at].id).collect();
            each(&FindItem { snapshots, entry })?;
        }
        (summary.pages, summary.problems) = (walks.pages_read(), walks.damaged());
        Ok(summary)
    };
    match snapshots {
        [_] => with_pages_ahead(repository, search),
        // Whose page comes next is not known before.
        _ => search(PageReader::new(repository)),
    }
}

#[cfg(test)]
mod tests;
