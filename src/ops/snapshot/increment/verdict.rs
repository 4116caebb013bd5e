//! What is done about a folder of which the parent has an entry.

use super::seen::SeenFolders;
use super::{Increment, Rule};
use crate::format::entry::Timestamp;
use crate::format::page::EntryStat;
use crate::ops::snapshot::unchanged::is_before;
use crate::repo::Repository;
use crate::source::{Stat, Upkeep, compare_paths, is_at_or_below};

/// What is done about the contents of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All below is listed and looked at.
    Everything,
    /// It is listed, all in it is looked at, and its folders are judged.
    List {
        /// By the rule nothing in it but folders can have changed.
        verify: bool,
    },
    /// Its folders are looked at and judged, all else in it is taken over.
    Folders,
    /// What has these names in it is looked at and judged, all else is taken over. They are
    /// sorted; there may be none.
    Names(Vec<Box<[u8]>>),
}

/// Judges folders.
#[derive(Debug)]
pub(super) struct Verdicts<'i> {
    increment: &'i Increment,
    racy_from: Timestamp,
}

impl<'i> Verdicts<'i> {
    /// By `increment`, of which the parent could not tell changes from `racy_from` on.
    pub(super) fn new(increment: &'i Increment, racy_from: Timestamp) -> Self {
        Self { increment, racy_from }
    }

    /// What is known of folders beside the parent; nothing where their own times do not count.
    pub(super) fn seen(&self) -> Option<&'i SeenFolders> {
        match &self.increment.rule {
            Rule::WriteOnce { seen, .. } => Some(seen),
            Rule::Told { .. } => None,
        }
    }

    /// What is done about the folder at `path`, which was `old` with so many links and is `new`.
    pub(super) fn about(
        &self,
        repository: &Repository,
        path: &[u8],
        (old, old_links): (&EntryStat, u32),
        new: &Stat,
    ) -> Verdict {
        let is_unsure = holds(&self.increment.unsure, path);
        let is_same = is_same_folder(old, new);
        match &self.increment.rule {
            Rule::WriteOnce { share, shares, .. } => {
                let is_same = is_same && is_as_it_was(old, old_links, new) && self.is_settled(old);
                match is_same && !is_unsure {
                    false => Verdict::List { verify: false },
                    true if is_in_share(repository, path, *share, *shares) => {
                        Verdict::List { verify: true }
                    }
                    true => Verdict::Folders,
                }
            }
            Rule::Told { changes, .. } if !is_same || holds(changes, path) => Verdict::Everything,
            Rule::Told { .. } if is_unsure => Verdict::List { verify: false },
            Rule::Told { changes, .. } => {
                let mut names = names_below(changes, path);
                names.extend(names_below(&self.increment.unsure, path));
                names.sort_unstable();
                names.dedup();
                Verdict::Names(names)
            }
        }
    }

    /// Whether a later change in the folder is certain to have given it other times.
    fn is_settled(&self, old: &EntryStat) -> bool {
        is_before(old.mtime, self.racy_from) && is_before(old.ctime, self.racy_from)
    }
}

/// Whether it is the folder's turn. Keyed, so that nobody can choose names of which the turn is
/// late; pages are cut by the lower bits of the same hash.
pub(super) fn is_in_share(repository: &Repository, path: &[u8], share: u8, shares: u64) -> bool {
    (repository.keys().page_cut_hash(path) >> 32) % shares == u64::from(share)
}

/// Whether `path` is among the sorted paths.
fn holds(sorted: &[Box<[u8]>], path: &[u8]) -> bool {
    sorted.binary_search_by(|other| compare_paths(other, path)).is_ok()
}

/// The names in `folder` that lead to those of the sorted paths that lie below it.
fn names_below(sorted: &[Box<[u8]>], folder: &[u8]) -> Vec<Box<[u8]>> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let mut at = sorted.partition_point(|path| compare_paths(path, folder).is_le());
    while let Some(path) = sorted.get(at).filter(|path| is_at_or_below(path, folder)) {
        let below = &path[if folder.is_empty() { 0 } else { folder.len() + 1 }..];
        let end = below.iter().position(|&byte| byte == b'/').unwrap_or(below.len());
        let leading = &path[..path.len() - below.len() + end];
        names.push(below[..end].into());
        at += sorted[at..].partition_point(|path| is_at_or_below(path, leading));
    }
    names
}

/// Whether nothing in the folder came, went or was renamed.
fn is_as_it_was(old: &EntryStat, old_links: u32, new: &Stat) -> bool {
    old.mtime == new.mtime && old.ctime == new.ctime && old_links == new.links
}

/// Whether it is the same directory, whatever is in it. Only where the kernel keeps the numbers is
/// that certain.
fn is_same_folder(old: &EntryStat, new: &Stat) -> bool {
    old.kind == new.kind
        && old.inode == new.inode
        && old.filesystem == new.filesystem
        && old.filesystem != 0
        && new.upkeep == Upkeep::Kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_lead_to_what_is_below() {
        let mut sorted: Vec<Box<[u8]>> =
            ["a", "s/a", "s/a/b/c", "s/a/d", "s/a-b/c", "s/x/y", "s/x/z", "s0", "t"]
                .map(|path| path.as_bytes().into())
                .into();
        sorted.sort_by(|a, b| compare_paths(a, b));
        let names = |folder: &str| {
            let names = names_below(&sorted, folder.as_bytes());
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("s"), ["a", "a-b", "x"]);
        assert_eq!(names("s/a"), ["b", "d"]);
        assert_eq!(names("s/x"), ["y", "z"]);
        assert_eq!(names(""), ["a", "s", "s0", "t"]);
        assert_eq!(names("s/x/y"), [""; 0]);
        assert_eq!(names("q"), [""; 0]);
    }
}
