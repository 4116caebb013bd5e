//! Taking over a range of a tree: whole pages where that gives the pages that building anew would
//! give, entries otherwise.

use std::sync::Arc;

use super::{Cursor, LeafPage, Node, begins_page};
use crate::format::page::PageRef;
use crate::format::path;
use crate::repo::RepositoryError;

/// Where a range ends.
#[derive(Debug, Clone, Copy)]
pub enum Bound<'a> {
    /// Before the entry of this path.
    Before(&'a [u8]),
    /// Behind all that lies at or below this path.
    Within(&'a [u8]),
}

impl Bound<'_> {
    /// Whether an entry that is not before the range lies in it.
    pub fn holds(&self, path: &[u8]) -> bool {
        match self {
            Self::Before(end) => path::compare(path, end).is_lt(),
            Self::Within(folder) => path::is_within(path, folder),
        }
    }
}

/// A piece of a tree that is taken over.
#[derive(Debug, Clone)]
pub enum Taken {
    /// A whole page, unseen, and its height.
    Page(PageRef, u8),
    /// One entry of a leaf.
    Entry(Arc<LeafPage>, usize),
}

impl Cursor<'_> {
    /// Takes the next piece of the range that begins at the position and ends at `bound`, and goes
    /// past it; nothing at the end of the range.
    ///
    /// A page is given whole only where a page of its height begins in any tree that has its first
    /// path, and where the entry behind it belongs to the range, too: then it ends there in the new
    /// tree as it does in this one.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn take(&mut self, bound: Bound<'_>) -> Result<Option<Taken>, RepositoryError> {
        loop {
            let taken = match self.node() {
                None => return Ok(None),
                Some(Node::Entry { page, at }) => {
                    bound.holds(page.leaf.path(at)).then(|| Taken::Entry(Arc::clone(page), at))
                }
                Some(Node::Page { page, height }) if self.is_whole(page, height, bound) => {
                    Some(Taken::Page(page.clone(), height))
                }
                Some(Node::Page { page, height }) => {
                    if height < u8::MAX - 1 && !bound.holds(&page.first_path) {
                        return Ok(None);
                    }
                    self.descend()?;
                    continue;
                }
            };
            if taken.is_some() {
                self.skip();
            }
            return Ok(taken);
        }
    }

    fn is_whole(&self, page: &PageRef, height: u8, bound: Bound<'_>) -> bool {
        self.after().is_some_and(|next| bound.holds(next))
            && begins_page(self.repository(), &page.first_path, height)
    }
}
