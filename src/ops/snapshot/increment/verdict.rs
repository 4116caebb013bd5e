//! What is done about a folder of which the parent has an entry.

use super::{Increment, SHARES};
use crate::format::entry::Timestamp;
use crate::format::page::EntryStat;
use crate::repo::Repository;
use crate::source::{Stat, compare_paths};

/// What is done about the contents of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops::snapshot) enum Verdict {
    /// It is listed, all in it is looked at, and its folders are judged.
    List {
        /// By the rule nothing in it but folders can have changed.
        verify: bool,
    },
    /// Its folders are looked at and judged, all else in it is taken over.
    Folders,
}

/// Judges folders.
#[derive(Debug)]
pub(in crate::ops::snapshot) struct Verdicts {
    unsure: Vec<Box<[u8]>>,
    share: u8,
    racy_from: Timestamp,
}

impl Verdicts {
    /// By `increment`, of which the parent could not tell changes from `racy_from` on.
    pub(in crate::ops::snapshot) fn new(increment: &Increment, racy_from: Timestamp) -> Self {
        Self { unsure: increment.unsure.clone(), share: increment.share, racy_from }
    }

    /// What is done about the folder at `path`, which was `old` with so many links and is `new`.
    pub(super) fn about(
        &self,
        repository: &Repository,
        path: &[u8],
        (old, old_links): (&EntryStat, u32),
        new: &Stat,
    ) -> Verdict {
        let listed_before = self.unsure.binary_search_by(|other| compare_paths(other, path));
        if listed_before.is_ok() || !is_same_folder(old, new) || !self.is_settled(old) {
            return Verdict::List { verify: false };
        }
        let as_it_was = old.mtime == new.mtime && old.ctime == new.ctime && old_links == new.links;
        match as_it_was {
            false => Verdict::List { verify: false },
            true if self.is_in_share(repository, path) => Verdict::List { verify: true },
            true => Verdict::Folders,
        }
    }

    /// Whether a later change in the folder is certain to have given it other times.
    fn is_settled(&self, old: &EntryStat) -> bool {
        old.mtime < self.racy_from && old.ctime < self.racy_from
    }

    /// Whether it is the folder's turn. Keyed, so that nobody can choose names of which the turn is
    /// late; pages are cut by the lower bits of the same hash.
    fn is_in_share(&self, repository: &Repository, path: &[u8]) -> bool {
        let top = repository.keys().page_cut_hash(path) >> 32;
        top % u64::from(SHARES) == u64::from(self.share)
    }
}

/// Whether it is the same folder, whatever is in it.
pub(super) fn is_same_folder(old: &EntryStat, new: &Stat) -> bool {
    old.kind == new.kind
        && old.inode == new.inode
        && old.filesystem == new.filesystem
        && old.filesystem != 0
}
