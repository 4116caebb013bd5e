//! Taking over a range of a tree: whole pages where that gives the pages that building anew would
//! give, entries otherwise.

use std::ops::Range;
use std::sync::Arc;

use super::{Cursor, LeafPage, Node, begins_page};
use crate::format::page::{Leaf, PageRef};
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

    /// Where the range ends in `leaf`, whose entries from `at` on are not before it.
    fn end_in(&self, leaf: &Leaf, at: usize) -> usize {
        if self.holds(leaf.path(leaf.len() - 1)) {
            return leaf.len();
        }
        let (mut low, mut high) = (at, leaf.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            if self.holds(leaf.path(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A piece of a tree that is taken over.
#[derive(Debug, Clone)]
pub enum Taken {
    /// A whole page, unseen, and its height.
    Page(PageRef, u8),
    /// Neighbouring entries of a leaf, by their positions.
    Entries(Arc<LeafPage>, Range<usize>),
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
                    let (page, end) = (Arc::clone(page), bound.end_in(&page.leaf, at));
                    if at == end {
                        return Ok(None);
                    }
                    self.skip_entries(end - at);
                    return Ok(Some(Taken::Entries(page, at..end)));
                }
                Some(Node::Page { page, height }) if self.is_whole(page, height, bound) => {
                    Taken::Page(page.clone(), height)
                }
                Some(Node::Page { page, height }) => {
                    if height < u8::MAX - 1 && !bound.holds(&page.first_path) {
                        return Ok(None);
                    }
                    self.descend()?;
                    continue;
                }
            };
            self.skip();
            return Ok(Some(taken));
        }
    }

    fn is_whole(&self, page: &PageRef, height: u8, bound: Bound<'_>) -> bool {
        self.after().is_some_and(|next| bound.holds(next))
            && begins_page(self.repository(), &page.first_path, height)
    }
}
