//! The sorted map of a snapshot's entries, stored as pages: building, walking, comparing.
//!
//! The map is a prolly tree (probabilistic B-tree): where a page ends is decided by a keyed hash of
//! the paths alone, so the same set of paths is always cut at the same places, whatever was edited
//! in between and in which order. Two trees share every page whose entries are equal, which makes
//! unchanged parts free to store and to compare.

mod ahead;
mod builder;
mod content;
mod cursor;
mod diff;
mod old_content;
mod range;
mod reach;

pub use ahead::with_pages_ahead;
pub use builder::{TreeBuilder, TreeTotals, begins_page};
pub(crate) use content::MAX_IN_ENTRY;
pub use content::{ContentItems, ContentWriter};
pub use cursor::{Cursor, LeafPage, Node};
pub use diff::{Change, Diff};
pub use old_content::OldContent;
pub use range::{Bound, Taken};
pub use reach::{Live, Reach};

use std::sync::Arc;

use crate::crypto::ChunkKind;
use crate::format::page::{ContentPage, Page, references};
use crate::id::ChunkId;
use crate::repo::{ChunkReader, Repository, RepositoryError};

/// Reads pages.
#[derive(Debug)]
pub struct PageReader<'r> {
    chunks: ChunkReader<'r>,
    plain: Vec<u8>,
    ahead: Option<ahead::Ahead>,
}

impl<'r> PageReader<'r> {
    /// A reader of the pages of `repository`, whose index is loaded.
    pub fn new(repository: &'r Repository) -> Self {
        Self { chunks: ChunkReader::new(repository), plain: Vec::new(), ahead: None }
    }

    /// The repository it reads from.
    pub fn repository(&self) -> &'r Repository {
        self.chunks.repository()
    }

    /// The chunk reader below, for reading contents.
    pub fn chunks(&mut self) -> &mut ChunkReader<'r> {
        &mut self.chunks
    }

    /// Reads and decodes a page of a snapshot's map.
    ///
    /// # Errors
    /// When it is missing, damaged, or not one.
    pub fn page(&mut self, id: &ChunkId) -> Result<Page, RepositoryError> {
        if let Some(page) = self.ahead.as_mut().and_then(|ahead| ahead.page(id)) {
            return page;
        }
        let mut plain = Vec::new();
        self.chunks.read(ChunkKind::Page, id, &mut plain)?;
        Page::decode(plain).map_err(|error| malformed("page", id, &error))
    }

    /// Says which pages will be read next, in this order; of use only [where another thread works
    /// ahead](with_pages_ahead).
    pub fn expect(&mut self, ids: impl Iterator<Item = ChunkId>) {
        if let Some(ahead) = &mut self.ahead {
            ahead.expect(ids);
        }
    }

    /// Reads a page of a snapshot's map for what it refers to, and appends that to `found`.
    ///
    /// # Errors
    /// When it is missing, damaged, or not one.
    pub fn references(
        &mut self,
        id: &ChunkId,
        found: &mut Vec<(ChunkKind, ChunkId)>,
    ) -> Result<(), RepositoryError> {
        self.plain.clear();
        self.chunks.read(ChunkKind::Page, id, &mut self.plain)?;
        references(&self.plain, found).map_err(|error| malformed("page", id, &error))
    }

    /// Reads and decodes a page of a content list.
    ///
    /// # Errors
    /// When it is missing, damaged, or not one.
    pub fn content_page(&mut self, id: &ChunkId) -> Result<ContentPage, RepositoryError> {
        self.plain.clear();
        self.chunks.read(ChunkKind::ContentPage, id, &mut self.plain)?;
        ContentPage::decode(&self.plain).map_err(|error| malformed("content page", id, &error))
    }

    /// A cursor at the first entry of the tree below `root`.
    pub fn cursor(self, root: ChunkId) -> Cursor<'r> {
        Cursor::new(self, root)
    }
}

fn malformed(what: &str, id: &ChunkId, error: &crate::format::DecodeError) -> RepositoryError {
    RepositoryError::Damaged { object: format!("{what} {id}"), reason: error.to_string() }
}

/// A leaf shared between a cursor and a builder that may take it over.
pub type SharedLeaf = Arc<LeafPage>;

#[cfg(test)]
mod range_tests;
#[cfg(test)]
mod tests;
