//! Encoding of leaf pages.

use super::VERSION;
use super::columns::{Dictionary, put_column, put_paths};
use super::leaf::{
    CONTENT_EMPTY, CONTENT_INLINE, CONTENT_LIST, CONTENT_PAGED, EntryRef, Leaf, has_content,
    is_device,
};
use crate::format::entry::{Content, ContentItem, Entry, EntryKind};
use crate::format::wire::{put_bytes, put_signed, put_varint};

impl Leaf {
    /// Encodes `entries`, which are sorted by path and valid. The same entries always give the
    /// same bytes.
    pub fn encode(entries: &[Entry]) -> Vec<u8> {
        Self::encode_refs(&entries.iter().map(EntryRef::from).collect::<Vec<_>>())
    }

    /// As [`Self::encode`], of entries that lie anywhere.
    pub fn encode_refs(entries: &[EntryRef<'_>]) -> Vec<u8> {
        let mut out = vec![VERSION, 0];
        put_varint(&mut out, entries.len() as u64);
        put_paths(&mut out, entries.iter().map(|entry| entry.path));
        put_column(&mut out, |out| {
            out.extend(entries.iter().map(|e| e.stat.kind as u8 | u8::from(e.stat.unsettled) << 7));
        });
        put_shared(&mut out, entries);
        put_stats(&mut out, entries);
        put_column(&mut out, |out| {
            for entry in entries.iter().filter(|e| e.stat.kind == EntryKind::Symlink) {
                put_bytes(out, entry.target);
            }
        });
        put_column(&mut out, |out| {
            for entry in entries.iter().filter(|e| is_device(e.stat.kind)) {
                put_varint(out, entry.device);
            }
        });
        put_contents(&mut out, entries);
        out
    }
}

/// Owners and extended attributes (as dictionaries), modes and link counts.
fn put_shared(out: &mut Vec<u8>, entries: &[EntryRef<'_>]) {
    let (mut owners, mut xattrs) = (Dictionary::new(), Dictionary::new());
    let mut rest = [const { Vec::new() }; 4];
    for entry in entries {
        put_varint(&mut rest[0], u64::from(entry.mode));
        put_varint(&mut rest[1], owners.number(entry.owner));
        put_varint(&mut rest[2], xattrs.number(entry.xattrs));
        put_varint(&mut rest[3], u64::from(entry.links));
    }
    put_column(out, |out| {
        put_varint(out, owners.values().len() as u64);
        for owner in owners.values() {
            put_varint(out, u64::from(owner.uid));
            put_varint(out, u64::from(owner.gid));
            put_bytes(out, &owner.user);
            put_bytes(out, &owner.group);
        }
    });
    put_column(out, |out| {
        put_varint(out, xattrs.values().len() as u64);
        for set in xattrs.values() {
            put_varint(out, set.len() as u64);
            for xattr in set.iter() {
                put_bytes(out, &xattr.name);
                put_bytes(out, &xattr.value);
            }
        }
    });
    for column in &rest {
        put_bytes(out, column);
    }
}

/// Times, inodes, file systems and sizes.
fn put_stats(out: &mut Vec<u8>, entries: &[EntryRef<'_>]) {
    let mut filesystems = Dictionary::new();
    let mut columns = [const { Vec::new() }; 7];
    let [mtimes, mtime_nanos, ctimes, ctime_nanos, inodes, numbers, sizes] = &mut columns;
    let (mut last_mtime, mut last_inode) = (0i64, 0u64);
    for EntryRef { stat, .. } in entries {
        put_signed(mtimes, stat.mtime.seconds.wrapping_sub(last_mtime));
        last_mtime = stat.mtime.seconds;
        mtime_nanos.extend_from_slice(&stat.mtime.nanos.to_le_bytes());
        put_signed(ctimes, stat.ctime.seconds.wrapping_sub(stat.mtime.seconds));
        // Mostly 0: a file that was written and left alone has both times equal.
        let nanos = stat.ctime.nanos ^ stat.mtime.nanos;
        put_varint(ctime_nanos, u64::from(nanos));
        put_signed(inodes, stat.inode.wrapping_sub(last_inode).cast_signed());
        last_inode = stat.inode;
        put_varint(numbers, filesystems.number(&stat.filesystem));
        if has_content(stat.kind) {
            put_varint(sizes, stat.size);
        }
    }
    put_column(out, |out| {
        put_varint(out, filesystems.values().len() as u64);
        for id in filesystems.values() {
            out.extend_from_slice(&id.to_le_bytes());
        }
    });
    for column in &columns {
        put_bytes(out, column);
    }
}

fn put_contents(out: &mut Vec<u8>, entries: &[EntryRef<'_>]) {
    let mut columns = [const { Vec::new() }; 4];
    let [forms, lens, inline, ids] = &mut columns;
    for entry in entries.iter().filter(|e| has_content(e.stat.kind)) {
        match entry.content {
            Content::Empty => put_varint(forms, CONTENT_EMPTY),
            Content::Inline(bytes) => {
                put_varint(forms, CONTENT_INLINE);
                put_bytes(inline, bytes);
            }
            Content::Paged { root, height } => {
                put_varint(forms, CONTENT_PAGED);
                lens.push(*height);
                ids.extend_from_slice(&root.0);
            }
            Content::Items(items) => {
                put_varint(forms, CONTENT_LIST + items.len() as u64);
                put_items(lens, ids, items);
            }
        }
    }
    for column in &columns {
        put_bytes(out, column);
    }
}

/// Lengths (doubled, odd for holes) and ids of content items.
pub(super) fn put_items(lens: &mut Vec<u8>, ids: &mut Vec<u8>, items: &[ContentItem]) {
    for item in items {
        match item {
            ContentItem::Chunk { id, len } => {
                put_varint(lens, u64::from(*len) << 1);
                ids.extend_from_slice(&id.0);
            }
            ContentItem::Hole { len } => put_varint(lens, len << 1 | 1),
        }
    }
}
