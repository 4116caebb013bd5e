//! Walking a tree in path order, page by page.

use std::sync::Arc;

use super::PageReader;
use crate::format::entry::Entry;
use crate::format::page::{Leaf, Page, PageRef};
use crate::format::path;
use crate::id::ChunkId;
use crate::repo::{Repository, RepositoryError};

/// A leaf with the reference that leads to it.
#[derive(Debug)]
pub struct LeafPage {
    /// What an upper page says of it.
    pub page: PageRef,
    /// Its entries.
    pub leaf: Leaf,
}

#[derive(Debug)]
enum Frame {
    Upper { height: u8, children: Vec<PageRef>, at: usize },
    Leaf { page: Arc<LeafPage>, at: usize },
}

impl Frame {
    fn step(&mut self) -> bool {
        let (at, len) = match self {
            Self::Upper { children, at, .. } => (at, children.len()),
            Self::Leaf { page, at } => (at, page.leaf.len()),
        };
        *at += 1;
        *at < len
    }
}

/// What lies at a cursor's position.
#[derive(Debug)]
pub enum Node<'a> {
    /// A page that was not looked into: all of its entries come next.
    Page {
        /// The page.
        page: &'a PageRef,
        /// Its height; the greatest number when it is not known yet (the top page).
        height: u8,
    },
    /// An entry.
    Entry {
        /// The leaf that holds it.
        page: &'a Arc<LeafPage>,
        /// Its position there.
        at: usize,
    },
}

/// A position in a tree.
#[derive(Debug)]
pub struct Cursor<'r> {
    reader: PageReader<'r>,
    root: ChunkId,
    stack: Vec<Frame>,
}

impl<'r> Cursor<'r> {
    pub(super) fn new(reader: PageReader<'r>, root: ChunkId) -> Self {
        let mut cursor = Self { reader, root, stack: Vec::new() };
        cursor.rewind();
        cursor
    }

    /// Goes back to the first entry.
    pub fn rewind(&mut self) {
        let top = PageRef { first_path: Box::default(), id: self.root, entries: 0, bytes: 0 };
        self.stack = vec![Frame::Upper { height: u8::MAX, children: vec![top], at: 0 }];
    }

    /// The repository it reads from.
    pub(super) fn repository(&self) -> &'r Repository {
        self.reader.repository()
    }

    /// The reader below, for reading contents.
    pub fn reader(&mut self) -> &mut PageReader<'r> {
        &mut self.reader
    }

    /// What lies at the position; nothing at the end.
    pub fn node(&self) -> Option<Node<'_>> {
        Some(match self.stack.last()? {
            Frame::Upper { height, children, at } => {
                Node::Page { page: &children[*at], height: height.saturating_sub(1) }
            }
            Frame::Leaf { page, at } => Node::Entry { page, at: *at },
        })
    }

    /// Goes past what lies at the position: an entry, or a whole page unseen.
    pub fn skip(&mut self) {
        while let Some(frame) = self.stack.last_mut() {
            if frame.step() {
                return;
            }
            self.stack.pop();
        }
    }

    /// Goes past so many entries of the leaf that the position is in; it must have them.
    pub fn skip_entries(&mut self, count: usize) {
        if let Some(Frame::Leaf { at, .. }) = self.stack.last_mut() {
            *at += count - 1;
        }
        self.skip();
    }

    /// The path of the entry that follows what lies at the position, an entry or a whole page,
    /// where that can be said without reading a page; nothing at the end of the tree.
    pub fn after(&self) -> Option<&[u8]> {
        self.stack.iter().rev().find_map(|frame| match frame {
            Frame::Upper { children, at, .. } => {
                children.get(at + 1).map(|child| &*child.first_path)
            }
            Frame::Leaf { page, at } => (at + 1 < page.leaf.len()).then(|| page.leaf.path(at + 1)),
        })
    }

    /// Looks into the page at the position; does nothing at an entry or the end.
    ///
    /// # Errors
    /// When the page is missing or damaged. The position stays: `skip` goes past the page.
    pub fn descend(&mut self) -> Result<(), RepositoryError> {
        let Some(Frame::Upper { height, children, at }) = self.stack.last() else { return Ok(()) };
        let (height, page) = (*height, children[*at].clone());
        if height == 1 {
            self.reader.expect(children[*at..].iter().map(|child| child.id));
        }
        let wrong = |reason: &str| RepositoryError::Damaged {
            object: format!("page {}", page.id),
            reason: reason.to_owned(),
        };
        match self.reader.page(&page.id)? {
            Page::Upper(upper) => {
                if height != u8::MAX && upper.height + 1 != height {
                    return Err(wrong("it is not of the height that its parent says"));
                }
                if height != u8::MAX && upper.children[0].first_path != page.first_path {
                    return Err(wrong("it does not begin where its parent says"));
                }
                let children = upper.children;
                self.stack.push(Frame::Upper { height: upper.height, children, at: 0 });
            }
            Page::Leaf(leaf) => {
                if height != u8::MAX && (height != 1 || leaf.is_empty()) {
                    return Err(wrong("it is not of the height that its parent says"));
                }
                if leaf.is_empty() {
                    self.stack.clear();
                    return Ok(());
                }
                if height != u8::MAX && leaf.path(0) != &*page.first_path {
                    return Err(wrong("it does not begin where its parent says"));
                }
                let last = leaf.path(leaf.len() - 1);
                if self.after().is_some_and(|next| path::compare(last, next).is_ge()) {
                    return Err(wrong("it reaches into the next page"));
                }
                let page = if height == u8::MAX { top_leaf(page.id, &leaf) } else { page };
                let page = Arc::new(LeafPage { page, leaf });
                self.stack.push(Frame::Leaf { page, at: 0 });
            }
        }
        Ok(())
    }

    /// The entry at the position, looking into pages as needed; nothing at the end.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn peek(&mut self) -> Result<Option<(&Arc<LeafPage>, usize)>, RepositoryError> {
        while matches!(self.stack.last(), Some(Frame::Upper { .. })) {
            self.descend()?;
        }
        Ok(match self.stack.last() {
            Some(Frame::Leaf { page, at }) => Some((page, *at)),
            _ => None,
        })
    }

    /// Takes the entry at the position and goes past it.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, RepositoryError> {
        let entry = self.peek()?.map(|(page, at)| page.leaf.entry(at));
        self.skip();
        Ok(entry)
    }

    /// Goes to the first entry whose path is not before `path`.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn seek(&mut self, wanted: &[u8]) -> Result<(), RepositoryError> {
        self.rewind();
        loop {
            match self.stack.last_mut() {
                None => return Ok(()),
                Some(Frame::Upper { children, at, .. }) => {
                    let after = |child: &PageRef| path::compare(&child.first_path, wanted).is_le();
                    *at = children.partition_point(after).saturating_sub(1);
                    self.descend()?;
                }
                Some(Frame::Leaf { page, at }) => {
                    *at = page.leaf.lower_bound(wanted);
                    if *at >= page.leaf.len() {
                        *at = page.leaf.len() - 1;
                        self.skip();
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The entry at exactly `path`.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn find(&mut self, wanted: &[u8]) -> Result<Option<Entry>, RepositoryError> {
        self.seek(wanted)?;
        let found = self.peek()?.filter(|(page, at)| page.leaf.path(*at) == wanted);
        Ok(found.map(|(page, at)| page.leaf.entry(at)))
    }
}

fn top_leaf(id: ChunkId, leaf: &Leaf) -> PageRef {
    PageRef {
        first_path: leaf.path(0).into(),
        id,
        entries: leaf.len() as u64,
        bytes: (0..leaf.len()).map(|at| leaf.stat(at).size).sum(),
    }
}
