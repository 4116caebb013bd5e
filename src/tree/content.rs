//! Lists of content items: short ones sit in the entry, long ones become content pages.

use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem};
use crate::format::page::{ContentChild, ContentPage, MAX_HEIGHT};
use crate::id::ChunkId;
use crate::repo::{RepositoryError, Worker};

use super::PageReader;

/// Items that may sit in the entry itself.
const MAX_IN_ENTRY: usize = 16;
/// A content page is cut at the latest when it is so many times longer than on average.
const FORCED_CUT: usize = 8;

/// Gathers the items of one file or stream.
#[derive(Debug, Default)]
pub struct ContentWriter {
    items: Vec<ContentItem>,
    paged: bool,
    /// Pages waiting to be put into an upper page, by height, each with the hash that may cut.
    levels: Vec<Vec<(ContentChild, u64)>>,
    len: u64,
}

/// What decides whether a page begins at an item: the item's own id, so that equal runs of chunks
/// are cut alike wherever they stand. A hole never begins a page.
fn cut_hash(item: &ContentItem) -> u64 {
    match item {
        ContentItem::Chunk { id, .. } => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&id.0[8..16]);
            u64::from_le_bytes(bytes)
        }
        ContentItem::Hole { .. } => 1,
    }
}

impl ContentWriter {
    /// Plain bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item; pages are stored through `worker` as they fill.
    ///
    /// # Errors
    /// When storing a page fails.
    pub fn push(&mut self, worker: &mut Worker, item: ContentItem) -> Result<(), RepositoryError> {
        if item.is_empty() {
            return Ok(());
        }
        if let (ContentItem::Hole { len }, Some(ContentItem::Hole { len: last })) =
            (item, self.items.last_mut())
        {
            self.len += len;
            *last += len;
            return Ok(());
        }
        if self.paged {
            self.cut_before(worker, &item)?;
        }
        self.len += item.len();
        self.items.push(item);
        if !self.paged && self.items.len() > MAX_IN_ENTRY {
            // The items so far are put through the cutting that they escaped.
            self.paged = true;
            for item in std::mem::take(&mut self.items) {
                self.cut_before(worker, &item)?;
                self.items.push(item);
            }
        }
        Ok(())
    }

    fn bits(worker: &Worker) -> u32 {
        u32::from(worker.repository().config().pages.content_fan_out_bits)
    }

    fn cut_before(
        &mut self,
        worker: &mut Worker,
        item: &ContentItem,
    ) -> Result<(), RepositoryError> {
        let bits = Self::bits(worker);
        let forced = self.items.len() >= FORCED_CUT << bits;
        if !self.items.is_empty() && (forced || cut_hash(item).trailing_zeros() >= bits) {
            self.close_page(worker)?;
        }
        Ok(())
    }

    fn close_page(&mut self, worker: &mut Worker) -> Result<(), RepositoryError> {
        let items = std::mem::take(&mut self.items);
        let hash = cut_hash(&items[0]);
        let child = store(worker, &ContentPage::Items(items))?;
        self.add_child(worker, 0, child, hash)
    }

    fn add_child(
        &mut self,
        worker: &mut Worker,
        height: usize,
        child: ContentChild,
        hash: u64,
    ) -> Result<(), RepositoryError> {
        if self.levels.len() == height {
            self.levels.push(Vec::new());
        }
        let bits = Self::bits(worker);
        let heights = u32::try_from(height + 2).unwrap_or(u32::MAX);
        let level = &mut self.levels[height];
        let forced = level.len() >= FORCED_CUT << bits;
        if !level.is_empty() && (forced || hash.trailing_zeros() >= bits * heights) {
            let children = std::mem::take(level);
            let (upper, upper_hash) = store_children(worker, height, &children)?;
            self.add_child(worker, height + 1, upper, upper_hash)?;
        }
        self.levels[height].push((child, hash));
        Ok(())
    }

    /// Stores what is left and returns the content.
    ///
    /// # Errors
    /// When storing a page fails.
    pub fn finish(mut self, worker: &mut Worker) -> Result<Content, RepositoryError> {
        if !self.paged {
            return Ok(match self.items.is_empty() {
                true => Content::Empty,
                false => Content::Items(self.items),
            });
        }
        self.close_page(worker)?;
        let mut height = 0;
        loop {
            let children = std::mem::take(&mut self.levels[height]);
            if height + 1 == self.levels.len() {
                if let [(only, _)] = &children[..] {
                    let height = u8::try_from(height).expect("lists are low");
                    return Ok(Content::Paged { root: only.id, height });
                }
                self.levels.push(Vec::new());
            }
            let upper = store_children(worker, height, &children)?;
            height += 1;
            self.levels[height].push(upper);
        }
    }
}

fn store(worker: &mut Worker, page: &ContentPage) -> Result<ContentChild, RepositoryError> {
    let len = page.len().expect("a source is shorter than 2^64 bytes");
    Ok(ContentChild { id: worker.store(ChunkKind::ContentPage, &page.encode())?, len })
}

fn store_children(
    worker: &mut Worker,
    height: usize,
    children: &[(ContentChild, u64)],
) -> Result<(ContentChild, u64), RepositoryError> {
    let height = u8::try_from(height + 1).expect("lists are low");
    let list = children.iter().map(|(child, _)| *child).collect();
    let child = store(worker, &ContentPage::Children { height, children: list })?;
    Ok((child, children[0].1))
}

/// The items of a content in order, pages read as they are needed.
#[derive(Debug)]
pub struct ContentItems {
    items: std::vec::IntoIter<ContentItem>,
    /// Pages still to be read, the next one last, with the height each must have.
    pages: Vec<(ChunkId, u8, u64)>,
}

impl ContentItems {
    /// The items of `content`, which is `size` bytes long. What sits in the entry itself has none.
    pub fn new(content: &Content, size: u64) -> Self {
        let (items, pages) = match content {
            Content::Empty | Content::Inline(_) => (Vec::new(), Vec::new()),
            Content::Items(items) => (items.clone(), Vec::new()),
            Content::Paged { root, height } => (Vec::new(), vec![(*root, *height, size)]),
        };
        Self { items: items.into_iter(), pages }
    }

    /// The next item.
    ///
    /// # Errors
    /// When a content page is missing, damaged, or lists another length than it should.
    pub fn next(
        &mut self,
        reader: &mut PageReader<'_>,
    ) -> Result<Option<ContentItem>, RepositoryError> {
        loop {
            if let Some(item) = self.items.next() {
                return Ok(Some(item));
            }
            let Some((id, height, len)) = self.pages.pop() else { return Ok(None) };
            let page = reader.content_page(&id)?;
            let wrong = |reason: &str| RepositoryError::Damaged {
                object: format!("content page {id}"),
                reason: reason.to_owned(),
            };
            if page.len() != Some(len) {
                return Err(wrong("it lists another length than it should"));
            }
            match page {
                ContentPage::Items(items) if height == 0 => self.items = items.into_iter(),
                ContentPage::Children { height: found, children }
                    if found == height && height <= MAX_HEIGHT =>
                {
                    let below =
                        children.iter().rev().map(|child| (child.id, height - 1, child.len));
                    self.pages.extend(below);
                }
                _ => return Err(wrong("it is not of the height that it should be")),
            }
        }
    }
}
