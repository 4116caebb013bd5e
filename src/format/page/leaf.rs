//! Leaf pages: the entries themselves.

use std::sync::Arc;

use super::columns::Paths;
use crate::format::entry::{self, Content, Entry, EntryKind, Metadata, Owner, Timestamp, Xattr};

/// What a walk compares to tell whether an entry changed: plain numbers, decoded for every entry
/// of a page, while the rest is decoded only when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryStat {
    /// What the entry is.
    pub kind: EntryKind,
    /// See [`Metadata::unsettled`].
    pub unsettled: bool,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Stable identity of the file system.
    pub filesystem: u64,
    /// Plain length in bytes.
    pub size: u64,
}

/// An entry as it lies somewhere, with nothing copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    pub(super) path: &'a [u8],
    pub(super) stat: EntryStat,
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) owner: &'a Arc<Owner>,
    pub(super) xattrs: &'a Arc<[Xattr]>,
    pub(super) device: u64,
    pub(super) target: &'a [u8],
    pub(super) content: &'a Content,
}

impl<'a> EntryRef<'a> {
    /// Its path.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// Its plain length in bytes.
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// What it is.
    pub fn kind(&self) -> EntryKind {
        self.stat.kind
    }

    /// All of it, copied.
    pub fn to_entry(&self) -> Entry {
        let stat = &self.stat;
        let meta = Metadata {
            kind: stat.kind,
            mode: self.mode,
            owner: Arc::clone(self.owner),
            mtime: stat.mtime,
            ctime: stat.ctime,
            inode: stat.inode,
            filesystem: stat.filesystem,
            links: self.links,
            size: stat.size,
            device: self.device,
            xattrs: Arc::clone(self.xattrs),
            target: self.target.into(),
            unsettled: stat.unsettled,
        };
        Entry { path: self.path.into(), meta, content: self.content.clone() }
    }
}

impl<'a> From<&'a Entry> for EntryRef<'a> {
    fn from(entry: &'a Entry) -> Self {
        let meta = &entry.meta;
        Self {
            path: &entry.path,
            stat: EntryStat {
                kind: meta.kind,
                unsettled: meta.unsettled,
                mtime: meta.mtime,
                ctime: meta.ctime,
                inode: meta.inode,
                filesystem: meta.filesystem,
                size: meta.size,
            },
            mode: meta.mode,
            links: meta.links,
            owner: &meta.owner,
            xattrs: &meta.xattrs,
            device: meta.device,
            target: &meta.target,
            content: &entry.content,
        }
    }
}

/// The fixed-size part of an entry beside its stat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) mode: u16,
    pub(super) owner: u32,
    pub(super) xattrs: u32,
    pub(super) links: u32,
}

/// A decoded leaf page. Everything in it has been checked; entries are made on demand.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub(super) paths: Paths,
    pub(super) stats: Vec<EntryStat>,
    pub(super) rest: Vec<Rest>,
    pub(super) owners: Vec<Arc<Owner>>,
    pub(super) xattrs: Vec<Arc<[Xattr]>>,
    pub(super) targets: Vec<(usize, Box<[u8]>)>,
    pub(super) devices: Vec<(usize, u64)>,
    pub(super) contents: Vec<Content>,
}

impl Leaf {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.stats.len()
    }

    /// Whether it has none (only the single page of an empty snapshot has not).
    pub fn is_empty(&self) -> bool {
        self.stats.is_empty()
    }

    /// The path of the entry at `at`.
    pub fn path(&self, at: usize) -> &[u8] {
        self.paths.get(at)
    }

    /// What a walk compares of the entry at `at`.
    pub fn stat(&self, at: usize) -> &EntryStat {
        &self.stats[at]
    }

    /// The number of hard links of the entry at `at`.
    pub fn links(&self, at: usize) -> u32 {
        self.rest[at].links
    }

    /// The content of the entry at `at`.
    pub fn content(&self, at: usize) -> &Content {
        &self.contents[at]
    }

    /// About how many bytes the entry at `at` takes in a page.
    pub fn weight(&self, at: usize) -> usize {
        let target = self.targets.binary_search_by_key(&at, |item| item.0);
        entry::weight(
            self.path(at),
            &self.xattrs[self.rest[at].xattrs as usize],
            target.map_or(0, |found| self.targets[found].1.len()),
            self.content(at),
        )
    }

    /// The position of the first entry whose path is not before `path`.
    pub fn lower_bound(&self, path: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if crate::format::path::compare(self.path(middle), path).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The whole entry at `at`.
    pub fn entry(&self, at: usize) -> Entry {
        self.entry_ref(at).to_entry()
    }

    /// The entry at `at`, with nothing copied.
    pub fn entry_ref(&self, at: usize) -> EntryRef<'_> {
        let (stat, rest) = (self.stats[at], &self.rest[at]);
        let device = self.devices.binary_search_by_key(&at, |item| item.0);
        let target = self.targets.binary_search_by_key(&at, |item| item.0);
        EntryRef {
            path: self.path(at),
            stat,
            mode: rest.mode,
            links: rest.links,
            owner: &self.owners[rest.owner as usize],
            xattrs: &self.xattrs[rest.xattrs as usize],
            device: device.map_or(0, |found| self.devices[found].1),
            target: target.map_or(b"", |found| &self.targets[found].1),
            content: &self.contents[at],
        }
    }
}

pub(super) fn is_device(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
}

pub(super) fn has_content(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::File | EntryKind::Stream)
}

pub(super) const CONTENT_EMPTY: u64 = 0;
pub(super) const CONTENT_INLINE: u64 = 1;
pub(super) const CONTENT_PAGED: u64 = 2;
/// From here on: a list of (value - CONTENT_LIST) items.
pub(super) const CONTENT_LIST: u64 = 3;

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
