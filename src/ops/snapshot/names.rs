//! Hard-linked files in a walk that does not look at everything. A change through one name shows at
//! all of them; so when a name changed or went, all others must have been looked at, too.

use std::collections::HashMap;

use crate::format::entry::EntryKind;
use crate::source::{Stat, Upkeep};
use crate::tree::LeafPage;

/// The files with several names that were met, by file system and inode number, which is all that
/// the parent has of them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<(u64, u64), File>);

#[derive(Debug, Default)]
struct File {
    /// Names that it has; those that it had where none was seen.
    links: u32,
    seen: u32,
    gone: u32,
    /// As it was seen first.
    first: Option<Stat>,
    /// Names of several files may be counted here: two file systems have the same identity, or the
    /// number was given out again.
    is_mixed: bool,
    /// One of its names, when it is not as it was.
    changed: Option<Box<[u8]>>,
}

impl Names {
    /// An item of the source was looked at.
    pub(super) fn seen(&mut self, path: &[u8], stat: &Stat, same: bool) {
        if stat.kind != EntryKind::File || stat.links < 2 {
            return;
        }
        let file = self.0.entry((stat.filesystem, stat.inode)).or_default();
        file.is_mixed |= stat.filesystem == 0
            || stat.upkeep != Upkeep::Kernel
            || file.first.is_some_and(|first| !first.is_same_state(stat));
        file.first = Some(*stat);
        file.links = stat.links;
        file.seen += 1;
        if !same {
            file.changed.get_or_insert_with(|| path.into());
        }
    }

    /// An entry of the parent is not there any more, or is something else.
    pub(super) fn gone(&mut self, page: &LeafPage, at: usize) {
        let (stat, links) = (page.leaf.stat(at), page.leaf.links(at));
        if stat.kind != EntryKind::File || links < 2 {
            return;
        }
        let file = self.0.entry((stat.filesystem, stat.inode)).or_default();
        file.is_mixed |= stat.filesystem == 0;
        if file.seen == 0 {
            file.links = links;
        }
        file.gone += 1;
        file.changed.get_or_insert_with(|| page.leaf.path(at).into());
    }

    /// A name of a file that changed and has names that were not looked at.
    pub(super) fn unseen(&self) -> Option<&[u8]> {
        self.0.values().find_map(|file| {
            let met = if file.seen > 0 { file.seen } else { file.gone };
            file.changed.as_deref().filter(|_| file.is_mixed || met < file.links)
        })
    }
}
