//! What an earlier snapshot has in the place of a content that is being read: where the two agree is
//! learned on the way, and a part of it is read only when somebody wants to know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{PageReader, malformed};
use crate::format::DecodeError;
use crate::format::entry::{Content, ContentItem};
use crate::format::page::ContentPage;
use crate::id::ChunkId;
use crate::repo::RepositoryError;

/// Places that are remembered: enough for what is under way between reading and writing.
const MAX_PLACES: usize = 1024;

/// An earlier content.
#[derive(Debug)]
pub struct OldContent {
    content: Content,
    size: u64,
    /// Where what is new continues as what is old: offsets of the one and of the other.
    places: Mutex<BTreeMap<u64, u64>>,
}

/// A content page to look into.
struct Part {
    id: ChunkId,
    height: u8,
    at: Range<u64>,
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl OldContent {
    /// An earlier content of `size` bytes; nothing when it has no chunks.
    pub fn new(content: &Content, size: u64) -> Option<Self> {
        let has_chunks = matches!(content, Content::Items(_) | Content::Paged { .. });
        has_chunks.then(|| Self { content: content.clone(), size, places: Mutex::default() })
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From `offset` on the new content goes on as the old one does from `old` on.
    pub fn agree(&self, offset: u64, old: u64) {
        let mut places = self.places();
        places.insert(offset, old);
        if places.len() > MAX_PLACES {
            places.pop_first();
        }
    }

    /// The last place at or before `offset` at which both were known to agree.
    pub fn agreed(&self, offset: u64) -> (u64, u64) {
        let places = self.places();
        places.range(..=offset).next_back().map_or((0, 0), |(new, old)| (*new, *old))
    }

    /// Where in the old content that should lie which lies at `offset` in the new one.
    pub fn place(&self, offset: u64) -> u64 {
        let (new, old) = self.agreed(offset);
        old.saturating_add(offset - new)
    }

    /// The items of the old content that touch `range`, with their offsets.
    ///
    /// # Errors
    /// When a page of it cannot be read.
    pub fn items(
        &self,
        reader: &mut PageReader<'_>,
        range: &Range<u64>,
    ) -> Result<Vec<(u64, ContentItem)>, RepositoryError> {
        let mut found = Vec::new();
        let mut add = |start: u64, items: &[ContentItem]| {
            let mut at = start;
            for item in items {
                let end = at.saturating_add(item.len());
                if overlap(&(at..end), range) {
                    found.push((at, *item));
                }
                at = end;
            }
        };
        match &self.content {
            Content::Empty | Content::Inline(_) => {}
            Content::Items(items) => add(0, items),
            Content::Paged { .. } => {
                for part in self.parts(reader, 0, range)? {
                    match reader.content_page(&part.id)? {
                        ContentPage::Items(items) => add(part.at.start, &items),
                        ContentPage::Children { .. } => return Err(not_as_said(&part.id)),
                    }
                }
            }
        }
        Ok(found)
    }

    /// The old content pages of `height` that list something in `range`.
    ///
    /// # Errors
    /// When a page above them cannot be read.
    pub fn pages(
        &self,
        reader: &mut PageReader<'_>,
        height: u8,
        range: &Range<u64>,
    ) -> Result<Vec<ChunkId>, RepositoryError> {
        Ok(self.parts(reader, height, range)?.into_iter().map(|part| part.id).collect())
    }

    fn parts(
        &self,
        reader: &mut PageReader<'_>,
        wanted: u8,
        range: &Range<u64>,
    ) -> Result<Vec<Part>, RepositoryError> {
        let Content::Paged { root, height } = &self.content else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut waiting = vec![Part { id: *root, height: *height, at: 0..self.size }];
        while let Some(part) = waiting.pop() {
            if !overlap(&part.at, range) || part.height < wanted {
                continue;
            }
            if part.height == wanted {
                found.push(part);
                continue;
            }
            let ContentPage::Children { height, children } = reader.content_page(&part.id)? else {
                return Err(not_as_said(&part.id));
            };
            if height != part.height {
                return Err(not_as_said(&part.id));
            }
            let mut end = part.at.end;
            for child in children.iter().rev() {
                let start = end.saturating_sub(child.len);
                waiting.push(Part { id: child.id, height: height - 1, at: start..end });
                end = start;
            }
        }
        Ok(found)
    }
}

fn not_as_said(id: &ChunkId) -> RepositoryError {
    malformed("content page", id, &DecodeError::new("content page", "it has another height"))
}
