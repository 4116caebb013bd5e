//! Upper pages: references to the pages one lower.

use super::columns::{Paths, column, put_column, put_paths};
use super::{MAX_ITEMS, VERSION, read_head};
use crate::format::DecodeError;
use crate::format::wire::{Reader, put_varint};
use crate::id::ChunkId;

/// What an upper page keeps of a page below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// The path of the first entry below.
    pub first_path: Box<[u8]>,
    /// The page.
    pub id: ChunkId,
    /// Entries below it.
    pub entries: u64,
    /// Plain bytes of their contents together.
    pub bytes: u64,
}

/// A decoded upper page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upper {
    /// Its height: its children have one less.
    pub height: u8,
    /// Its children in path order.
    pub children: Vec<PageRef>,
}

impl Upper {
    /// The position of the child in whose range `path` lies (the first one for what is before it).
    pub fn child_for(&self, path: &[u8]) -> usize {
        self.children
            .partition_point(|child| crate::format::path::compare(&child.first_path, path).is_le())
            .saturating_sub(1)
    }

    pub(super) fn decode(height: u8, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("upper page", bytes);
        read_head(&mut reader)?;
        let count = reader.count(MAX_ITEMS)?;
        if count == 0 {
            return Err(reader.error("no children"));
        }
        let paths = Paths::decode(&mut reader, count)?;
        let [mut entries, mut lens] = [column(&mut reader)?, column(&mut reader)?];
        let mut ids = column(&mut reader)?;
        let mut children = Vec::with_capacity(count);
        for at in 0..paths.len() {
            children.push(PageRef {
                first_path: paths.get(at).into(),
                id: ChunkId(ids.array()?),
                entries: entries.varint()?,
                bytes: lens.varint()?,
            });
        }
        [entries, lens, ids, reader].into_iter().try_for_each(Reader::finish)?;
        Ok(Self { height, children })
    }

    /// Encodes the page; the same page always gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.height];
        put_varint(&mut out, self.children.len() as u64);
        put_paths(&mut out, self.children.iter().map(|child| &*child.first_path));
        put_column(&mut out, |out| {
            self.children.iter().for_each(|child| put_varint(out, child.entries));
        });
        put_column(&mut out, |out| {
            self.children.iter().for_each(|child| put_varint(out, child.bytes));
        });
        put_column(&mut out, |out| {
            self.children.iter().for_each(|child| out.extend_from_slice(&child.id.0));
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ChunkKind;
    use crate::format::page::{Page, references};

    fn page() -> Upper {
        let child = |path: &str, n: u8| PageRef {
            first_path: path.as_bytes().into(),
            id: ChunkId([n; 32]),
            entries: 256 + u64::from(n),
            bytes: u64::MAX,
        };
        Upper { height: 3, children: vec![child("a", 1), child("a/b", 2), child("c", 3)] }
    }

    #[test]
    fn round_trip_and_lookup() {
        let page = page();
        let Ok(Page::Upper(again)) = Page::decode(page.encode()) else { panic!("no upper page") };
        assert_eq!(again, page);
        let mut referred = Vec::new();
        references(&page.encode(), &mut referred).unwrap();
        let children = page.children.iter().map(|child| (ChunkKind::Page, child.id));
        assert_eq!(referred, children.collect::<Vec<_>>());
        let found: Vec<usize> = [&b"A"[..], b"a", b"a/a", b"a/b", b"a/z/z", b"b", b"d"]
            .iter()
            .map(|path| page.child_for(path))
            .collect();
        assert_eq!(found, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn disorder_and_truncation_are_refused() {
        let mut bad = page();
        bad.children.swap(0, 1);
        assert!(Page::decode(bad.encode()).is_err());
        bad.children.clear();
        assert!(Page::decode(bad.encode()).is_err());
        let bytes = page().encode();
        for len in 0..bytes.len() {
            assert!(Page::decode(bytes[..len].to_vec()).is_err());
            assert!(references(&bytes[..len], &mut Vec::new()).is_err());
        }
    }
}
