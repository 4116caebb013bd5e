//! Content pages: the chunk lists of large files and streams, cut up so that a change in the
//! middle of a terabyte rewrites a few kilobytes of list.

use super::columns::{column, put_column};
use super::leaf_decode::read_items;
use super::leaf_encode::put_items;
use super::{MAX_ITEMS, MAX_PAGE_LEN, VERSION, read_head};
use crate::format::DecodeError;
use crate::format::entry::ContentItem;
use crate::format::wire::{Reader, put_bytes, put_varint};
use crate::id::ChunkId;

/// What an upper content page keeps of a page below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentChild {
    /// The page.
    pub id: ChunkId,
    /// Plain bytes that it lists.
    pub len: u64,
}

/// A decoded content page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentPage {
    /// Height 0: steps of the content.
    Items(Vec<ContentItem>),
    /// Greater heights: pages one lower.
    Children {
        /// The page's own height.
        height: u8,
        /// Its children in content order.
        children: Vec<ContentChild>,
    },
}

impl ContentPage {
    /// Plain bytes that it lists, all together; nothing when they are more than 64 bits count.
    pub fn len(&self) -> Option<u64> {
        let mut lens: Box<dyn Iterator<Item = u64>> = match self {
            Self::Items(items) => Box::new(items.iter().map(ContentItem::len)),
            Self::Children { children, .. } => Box::new(children.iter().map(|child| child.len)),
        };
        lens.try_fold(0u64, u64::checked_add)
    }

    /// Whether it lists nothing; a valid page never does.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Encodes the page; the same page always gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (mut lens, mut ids) = (Vec::new(), Vec::new());
        let (height, count) = match self {
            Self::Items(items) => {
                put_items(&mut lens, &mut ids, items);
                (0, items.len())
            }
            Self::Children { height, children } => {
                for child in children {
                    put_varint(&mut lens, child.len);
                    ids.extend_from_slice(&child.id.0);
                }
                (*height, children.len())
            }
        };
        let mut out = vec![VERSION, height];
        put_varint(&mut out, count as u64);
        put_bytes(&mut out, &lens);
        put_column(&mut out, |out| out.append(&mut ids));
        out
    }

    /// Decodes a content page.
    ///
    /// # Errors
    /// When `bytes` are not exactly one valid content page.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("content page", bytes);
        if bytes.len() > MAX_PAGE_LEN {
            return Err(reader.error(format!("{} bytes are too many", bytes.len())));
        }
        let height = read_head(&mut reader)?;
        let count = reader.count(MAX_ITEMS)?;
        let [mut lens, mut ids] = [column(&mut reader)?, column(&mut reader)?];
        let page = if height == 0 {
            Self::Items(read_items(&mut lens, &mut ids, count)?)
        } else {
            let mut children = Vec::with_capacity(count.min(lens.remaining()));
            for _ in 0..count {
                children.push(ContentChild { len: lens.varint()?, id: ChunkId(ids.array()?) });
            }
            Self::Children { height, children }
        };
        if page.len().is_none_or(|len| len == 0) {
            return Err(reader.error("no content, or more than can be"));
        }
        [lens, ids, reader].into_iter().try_for_each(Reader::finish)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> [ContentPage; 2] {
        [
            ContentPage::Items(vec![
                ContentItem::Chunk { id: ChunkId([1; 32]), len: 4096 },
                ContentItem::Hole { len: 1 << 40 },
                ContentItem::Chunk { id: ChunkId([2; 32]), len: 1 },
            ]),
            ContentPage::Children {
                height: 2,
                children: vec![ContentChild { id: ChunkId([3; 32]), len: 77 }],
            },
        ]
    }

    #[test]
    fn round_trip() {
        for page in pages() {
            assert_eq!(ContentPage::decode(&page.encode()), Ok(page));
        }
    }

    #[test]
    fn damage_is_refused() {
        for page in pages() {
            let bytes = page.encode();
            for len in 0..bytes.len() {
                assert!(ContentPage::decode(&bytes[..len]).is_err());
            }
        }
        assert!(ContentPage::decode(&ContentPage::Items(Vec::new()).encode()).is_err());
        let twice = ContentItem::Hole { len: u64::MAX >> 1 };
        assert!(ContentPage::decode(&ContentPage::Items(vec![twice; 3]).encode()).is_err());
    }
}
