//! Walking many trees at once, in path order, so that a page shared by several is read once and
//! an entry they share is given once.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::event::{Event, Problem};
use crate::format::entry::Entry;
use crate::format::page::{Leaf, Page, PageRef};
use crate::format::path;
use crate::id::ChunkId;
use crate::repo::RepositoryError;
use crate::tree::PageReader;

/// An accepted entry and the positions of the trees that hold it.
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) holders: Vec<usize>,
}

/// A page's part that is of interest, shared between the trees that have the page.
#[derive(Clone)]
enum Frame {
    /// The pages below, and their height; nothing is known of the height of a top page.
    Pages { children: Arc<[PageRef]>, height: Option<u8>, at: usize },
    /// The accepted entries of a leaf.
    Entries { entries: Arc<[Entry]>, at: usize },
}

/// What lies at a position.
enum At<'a> {
    Page(&'a PageRef, Option<u8>),
    Entry(&'a Arc<[Entry]>, usize),
}

impl At<'_> {
    fn path(&self) -> &[u8] {
        match self {
            Self::Page(page, _) => &page.first_path,
            Self::Entry(entries, at) => &entries[*at].path,
        }
    }

    /// Greater pages come first: only so do all trees stand before a page when it is read.
    fn rank(&self) -> Reverse<u16> {
        Reverse(match self {
            Self::Page(_, height) => height.map_or(u16::MAX, |height| u16::from(height) + 1),
            Self::Entry(..) => 0,
        })
    }

    fn is_same(&self, other: &At<'_>) -> bool {
        match (self, other) {
            (At::Page(a, a_height), At::Page(b, b_height)) => {
                a.id == b.id && a_height == b_height && a.first_path == b.first_path
            }
            (At::Entry(a, a_at), At::Entry(b, b_at)) => {
                (Arc::ptr_eq(a, b) && a_at == b_at) || a[*a_at] == b[*b_at]
            }
            _ => false,
        }
    }
}

/// A position in one tree.
struct Walk(Vec<Frame>);

impl Walk {
    fn at(&self) -> Option<At<'_>> {
        Some(match self.0.last()? {
            Frame::Pages { children, height, at } => At::Page(&children[*at], *height),
            Frame::Entries { entries, at } => At::Entry(entries, *at),
        })
    }

    /// Goes past what lies at the position.
    fn step(&mut self) {
        while let Some(frame) = self.0.last_mut() {
            let (at, len) = match frame {
                Frame::Pages { children, at, .. } => (at, children.len()),
                Frame::Entries { entries, at } => (at, entries.len()),
            };
            *at += 1;
            if *at < len {
                return;
            }
            self.0.pop();
        }
    }

    /// Goes into the page at the position, or past it when nothing in it is of interest.
    fn enter(&mut self, frame: Option<&Frame>) {
        match frame {
            Some(frame) => self.0.push(frame.clone()),
            None => self.step(),
        }
    }
}

/// Positions in many trees.
pub(super) struct Walks<'a> {
    reader: PageReader<'a>,
    walks: Vec<Walk>,
    within: &'a [u8],
    accept: &'a dyn Fn(&Leaf, usize) -> bool,
    pages_read: u64,
    /// Pages that could not be read.
    damaged: u64,
}

impl<'a> Walks<'a> {
    /// Before the first entries of the trees below `roots`, of which only those at and below
    /// `within` that are accepted will be given.
    pub(super) fn new(
        reader: PageReader<'a>,
        roots: impl Iterator<Item = ChunkId>,
        within: &'a [u8],
        accept: &'a dyn Fn(&Leaf, usize) -> bool,
    ) -> Self {
        let top = |id| PageRef { first_path: Box::default(), id, entries: 0, bytes: 0 };
        let walks = roots.map(|root| {
            Walk(vec![Frame::Pages { children: Arc::new([top(root)]), height: None, at: 0 }])
        });
        let walks = walks.collect();
        Self { reader, walks, within, accept, pages_read: 0, damaged: 0 }
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    pub(super) fn pages_read(&self) -> u64 {
        self.pages_read
    }

    /// The next accepted entry; nothing at the end of all trees. A page that is missing or damaged
    /// is told and passed over.
    pub(super) fn next_found(&mut self) -> Result<Option<Found>, RepositoryError> {
        loop {
            let Some(holders) = self.foremost() else { return Ok(None) };
            match self.walks[holders[0]].at() {
                None => return Ok(None),
                Some(At::Entry(entries, at)) => {
                    let entry = entries[at].clone();
                    holders.iter().for_each(|&holder| self.walks[holder].step());
                    return Ok(Some(Found { entry, holders }));
                }
                Some(At::Page(page, height)) => {
                    let page = page.clone();
                    let frame = match self.look_into(&page, height) {
                        Err(error) if error.is_damage() => {
                            self.pass_over(&page, &error, holders.len());
                            None
                        }
                        looked => looked?,
                    };
                    holders.iter().for_each(|&holder| self.walks[holder].enter(frame.as_ref()));
                }
            }
        }
    }

    fn pass_over(&mut self, page: &PageRef, error: &RepositoryError, holders: usize) {
        self.damaged += 1;
        let from = match &*page.first_path {
            b"" => "the top".to_owned(),
            first => path::display(first),
        };
        let subject = format!("page {}", page.id).into();
        let of =
            if holders == 1 { "a snapshot".to_owned() } else { format!("{holders} snapshots") };
        let message = format!("{error}; what {of} should have from {from} on is not searched");
        self.reader.repository().observer().event(Event::Problem(Problem { subject, message }));
    }

    /// The trees at what comes first in path order, all at the same; nothing at the end.
    fn foremost(&self) -> Option<Vec<usize>> {
        let positions =
            || self.walks.iter().enumerate().filter_map(|(n, walk)| Some((n, walk.at()?)));
        let (_, first) = positions().min_by(|(_, a), (_, b)| {
            path::compare(a.path(), b.path()).then_with(|| a.rank().cmp(&b.rank()))
        })?;
        Some(positions().filter(|(_, at)| at.is_same(&first)).map(|(n, _)| n).collect())
    }

    /// What of a page is of interest; nothing when nothing is.
    fn look_into(
        &mut self,
        page: &PageRef,
        height: Option<u8>,
    ) -> Result<Option<Frame>, RepositoryError> {
        self.pages_read += 1;
        let found = self.reader.page(&page.id)?;
        let (found_height, found_first) = match &found {
            Page::Upper(upper) => (upper.height, upper.children.first().map(|c| &*c.first_path)),
            Page::Leaf(leaf) => (0, (!leaf.is_empty()).then(|| leaf.path(0))),
        };
        let fits = height == Some(found_height) && found_first == Some(&*page.first_path);
        if height.is_some() && !fits {
            return Err(RepositoryError::Damaged {
                object: format!("page {}", page.id),
                reason: "it is not what its parent says".to_owned(),
            });
        }
        Ok(match found {
            Page::Upper(upper) => {
                let children = overlapping(upper.children, self.within);
                let height = Some(upper.height.saturating_sub(1));
                if height == Some(0) {
                    self.reader.expect(children.iter().map(|child| child.id));
                }
                (!children.is_empty()).then_some(Frame::Pages { children, height, at: 0 })
            }
            Page::Leaf(leaf) => {
                let accepted = (0..leaf.len()).filter(|&at| (self.accept)(&leaf, at));
                let entries: Arc<[Entry]> = accepted.map(|at| leaf.entry(at)).collect();
                (!entries.is_empty()).then_some(Frame::Entries { entries, at: 0 })
            }
        })
    }
}

/// The pages that may hold something at or below `within`.
fn overlapping(children: Vec<PageRef>, within: &[u8]) -> Arc<[PageRef]> {
    let behind =
        |path: &[u8]| path::compare(path, within).is_gt() && !path::is_within(path, within);
    let before = |next: Option<&PageRef>| {
        next.is_some_and(|next| path::compare(&next.first_path, within).is_le())
    };
    let keep: Vec<bool> = children
        .iter()
        .enumerate()
        .map(|(at, child)| !behind(&child.first_path) && !before(children.get(at + 1)))
        .collect();
    children.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(child, _)| child).collect()
}
