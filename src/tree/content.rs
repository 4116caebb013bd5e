//! Lists of content items: short ones sit in the entry, long ones become content pages.

use std::sync::Arc;

use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem};
use crate::format::page::{ContentChild, ContentPage, MAX_HEIGHT};
use crate::id::ChunkId;
use crate::repo::{Repository, RepositoryError, Worker};

use super::{OldContent, PageReader};

/// Items that may sit in the entry itself.
pub(crate) const MAX_IN_ENTRY: usize = 16;
/// A content page is cut at the latest when it is so many times longer than on average.
const FORCED_CUT: usize = 8;
/// Most bases of a page.
const MAX_BASES: usize = 8;

/// Gathers the items of one file or stream.
#[derive(Debug, Default)]
pub struct ContentWriter {
    items: Vec<ContentItem>,
    paged: bool,
    /// Pages waiting to be put into an upper page, by height, each with the hash that may cut.
    levels: Vec<Vec<(ContentChild, u64)>>,
    len: u64,
    /// What was there before: pages are encoded against its pages.
    basis: Option<Arc<OldContent>>,
    /// Plain bytes listed by the pages so far, by height.
    listed: Vec<u64>,
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
    /// A writer of a content that was there before as `basis`.
    pub fn against(basis: Option<Arc<OldContent>>) -> Self {
        Self { basis, ..Self::default() }
    }

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
        let child = self.store(worker, 0, &ContentPage::Items(items))?;
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
            let (upper, upper_hash) = self.store_children(worker, height, &children)?;
            self.add_child(worker, height + 1, upper, upper_hash)?;
        }
        self.levels[height].push((child, hash));
        Ok(())
    }

    fn store(
        &mut self,
        worker: &mut Worker,
        height: u8,
        page: &ContentPage,
    ) -> Result<ContentChild, RepositoryError> {
        let len = page.len().expect("a source is shorter than 2^64 bytes");
        let at = usize::from(height);
        self.listed.resize(self.listed.len().max(at + 1), 0);
        let start = self.listed[at];
        self.listed[at] += len;
        let id = store_page(worker, self.basis.as_deref(), height, start, page, len)?;
        Ok(ContentChild { id, len })
    }

    fn store_children(
        &mut self,
        worker: &mut Worker,
        height: usize,
        children: &[(ContentChild, u64)],
    ) -> Result<(ContentChild, u64), RepositoryError> {
        let height = u8::try_from(height + 1).expect("lists are low");
        let list = children.iter().map(|(child, _)| *child).collect();
        let child =
            self.store(worker, height, &ContentPage::Children { height, children: list })?;
        Ok((child, children[0].1))
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
            let upper = self.store_children(worker, height, &children)?;
            height += 1;
            self.levels[height].push(upper);
        }
    }
}

/// Stores a page, encoded against those that the earlier content has in its place, if that is good
/// for something.
fn store_page(
    worker: &mut Worker,
    basis: Option<&OldContent>,
    height: u8,
    start: u64,
    page: &ContentPage,
    len: u64,
) -> Result<ChunkId, RepositoryError> {
    let bytes = page.encode();
    let Some(basis) = basis else { return worker.store(ChunkKind::ContentPage, &bytes) };
    let (chunk, is_new) = worker.claim(ChunkKind::ContentPage, &bytes)?;
    if !is_new {
        return Ok(chunk.id);
    }
    let repository = Arc::clone(worker.repository());
    let mut reader = PageReader::new(&repository);
    // Not the neighbours, which it may just touch.
    let range = basis.place(start + len / 8)..basis.place(start) + len - len / 8;
    let bases = match bases(&repository, &mut reader, basis, height, &range) {
        Err(error) if error.is_damage() => Vec::new(),
        bases => bases?,
    };
    if !worker.store_against(reader.chunks(), &bases, &[chunk], &bytes)? {
        worker.store_claimed(chunk, &bytes)?;
    }
    Ok(chunk.id)
}

fn bases(
    repository: &Repository,
    reader: &mut PageReader<'_>,
    basis: &OldContent,
    height: u8,
    range: &std::ops::Range<u64>,
) -> Result<Vec<(ChunkKind, ChunkId)>, RepositoryError> {
    let mut bases = Vec::new();
    for old in basis.pages(reader, height, range)? {
        for id in repository.base_for(&old)? {
            let base = (ChunkKind::ContentPage, id);
            if bases.len() < MAX_BASES && !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    Ok(bases)
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
