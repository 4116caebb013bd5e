//! The pages of all snapshots: each is read once, however many snapshots share it, and every chunk
//! that an entry names must be in some pack. What is lost is counted on the way up, so that each
//! snapshot says what it cannot give back.

mod facts;
mod lists;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::lock;
use super::picture::Picture;
use super::reader::Reader;
use super::report::Report;
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem};
use crate::format::page::{Leaf, MAX_HEIGHT, Page, PageRef, Upper};
use crate::format::path;
use crate::format::snapshot::{Root, Snapshot};
use crate::id::{ChunkId, SnapshotId};
use crate::ops::OpError;
use crate::repo::index::IdMap;
use crate::storage::ObjectName;
use facts::{Loss, PageFacts};
use lists::ListFacts;

/// Leaves that one thread takes at once: about as many as share a block.
const LEAVES_AT_ONCE: usize = 16;

/// What was met on the way through all trees.
pub(super) struct Walked {
    /// How many pages there are.
    pub(super) pages: u64,
    /// Content that confirmed snapshots need and that is in no pack: ids and lengths.
    pub(super) lost: Vec<(ChunkId, u32)>,
}

/// Checks the trees of `snapshots`, then those below `roots`, which no confirmed snapshot needs.
pub(super) fn check(
    report: &Report<'_>,
    picture: &Picture,
    snapshots: &[Snapshot],
    roots: &[(SnapshotId, Root)],
) -> Result<Walked, OpError> {
    report.total((snapshots.len() + roots.len()) as u64, 0);
    let (pages, lists) = (Mutex::default(), Mutex::default());
    let lost = Mutex::default();
    let mut walk = Walk { report, picture, pages, lists, lost, confirmed: true };
    let mut reader = Reader::new(report, picture);
    for snapshot in snapshots {
        walk.snapshot(&mut reader, snapshot)?;
        report.progress(1, 0);
    }
    walk.confirmed = false;
    for (id, root) in roots {
        walk.root(&mut reader, *id, root)?;
        report.progress(1, 0);
    }
    let pages = (lock(&walk.pages).len() + lock(&walk.lists).len()) as u64;
    let lost = lock(&walk.lost).drain().collect();
    Ok(Walked { pages, lost })
}

struct Walk<'c> {
    report: &'c Report<'c>,
    picture: &'c Picture,
    /// What is known of the pages seen so far; nothing of those that cannot be read.
    pages: Mutex<IdMap<Option<Arc<PageFacts>>>>,
    /// The same for pages of content lists.
    lists: Mutex<IdMap<Option<ListFacts>>>,
    /// Content that is in no pack.
    lost: Mutex<HashSet<(ChunkId, u32)>>,
    /// Whether a confirmed snapshot needs the pages that are met now.
    confirmed: bool,
}

impl<'c> Walk<'c> {
    fn snapshot(&self, reader: &mut Reader<'c>, snapshot: &Snapshot) -> Result<(), OpError> {
        let name = ObjectName::snapshot(snapshot.id);
        let Some(facts) = self.page(reader, &snapshot.root, None)? else {
            self.report.problem(name, "nothing of it can be restored: its top page is lost");
            return Ok(());
        };
        if let Some(loss) = &facts.loss {
            self.report.problem(name, loss.to_string());
        }
        Ok(())
    }

    /// What an unfinished snapshot lost is worth a note: nobody can restore it anyway.
    fn root(&self, reader: &mut Reader<'c>, id: SnapshotId, root: &Root) -> Result<(), OpError> {
        let name = ObjectName::root(id);
        let top = match root {
            Root::Tentative { snapshot, .. } => snapshot.root,
            Root::Checkpoint { root, .. } => *root,
        };
        let lost = match self.page(reader, &top, None)? {
            None => "its top page is lost".to_owned(),
            Some(facts) => match &facts.loss {
                None => return Ok(()),
                Some(loss) => loss.to_string(),
            },
        };
        if !self.report.is_gone(name) {
            let cost = "an unfinished snapshot cannot be taken up again; no other is affected";
            self.report.note(format!("{name}: {lost}; {cost}"));
        }
        Ok(())
    }

    /// Reports what is wrong with a page or entry, if a confirmed snapshot needs it.
    fn problem(&self, subject: impl ToString, message: impl Into<String>) {
        if self.confirmed {
            self.report.problem(subject, message);
        }
    }

    /// Checks a page and all below it, which has `height` unless it is a top page. Nothing when it
    /// cannot be read.
    fn page(
        &self,
        reader: &mut Reader<'c>,
        id: &ChunkId,
        height: Option<u8>,
    ) -> Result<Option<Arc<PageFacts>>, OpError> {
        self.report.go_on()?;
        if let Some(known) = lock(&self.pages).get(id) {
            return Ok(known.clone());
        }
        let facts = match reader.chunk(ChunkKind::Page, id)?.map(Page::decode) {
            None => {
                self.problem(format!("page {id}"), self.why_lost(id));
                None
            }
            Some(Err(error)) => {
                self.problem(format!("page {id}"), error.to_string());
                None
            }
            Some(Ok(Page::Leaf(leaf))) if height.is_none() || !leaf.is_empty() => {
                Some(Arc::new(self.leaf(reader, &leaf)?))
            }
            Some(Ok(Page::Leaf(_))) => {
                self.problem(format!("page {id}"), "it is empty, though not a top page");
                None
            }
            // A parent's height bounds that of its children, so this goes down at most so deep.
            Some(Ok(Page::Upper(upper))) if height.is_none_or(|height| upper.height == height) => {
                Some(Arc::new(self.upper(reader, id, &upper)?))
            }
            Some(Ok(Page::Upper(_))) => {
                self.problem(format!("page {id}"), "it is not of its parent's height less 1");
                None
            }
        };
        lock(&self.pages).insert(*id, facts.clone());
        Ok(facts)
    }

    fn why_lost(&self, id: &ChunkId) -> &'static str {
        if self.confirmed {
            self.picture.tell_lacking(self.report, id);
        }
        match self.picture.copies_of(id) {
            [] => "it is in no pack that can be used",
            _ => "every copy of it is damaged",
        }
    }

    fn upper(
        &self,
        reader: &mut Reader<'c>,
        id: &ChunkId,
        upper: &Upper,
    ) -> Result<PageFacts, OpError> {
        debug_assert!(upper.height <= MAX_HEIGHT);
        let below = self.children(reader, upper)?;
        let mut facts = PageFacts::new(upper.height, upper.children[0].first_path.clone());
        for (at, (child, found)) in upper.children.iter().zip(&below).enumerate() {
            let Some(found) = found else {
                facts.lose_page(child);
                continue;
            };
            let next = upper.children.get(at + 1).map(|next| &*next.first_path);
            if let Some(wrong) = found.contradiction(child, upper.height, next) {
                let first = path::display(&child.first_path);
                let text = format!("what it says of the page that begins with {first}: {wrong}");
                self.problem(format!("page {id}"), text);
            }
            facts.add(child, found);
        }
        Ok(facts)
    }

    fn children(
        &self,
        reader: &mut Reader<'c>,
        upper: &Upper,
    ) -> Result<Vec<Option<Arc<PageFacts>>>, OpError> {
        let height = upper.height.checked_sub(1);
        let all = |reader: &mut Reader<'c>, children: &[PageRef]| {
            let page = |child: &PageRef| self.page(reader, &child.id, height);
            children.iter().map(page).collect::<Result<Vec<_>, OpError>>()
        };
        if upper.height > 1 {
            return all(reader, &upper.children);
        }
        let groups: Vec<Vec<_>> = upper
            .children
            .par_chunks(LEAVES_AT_ONCE)
            .map_init(|| Reader::new(self.report, self.picture), all)
            .collect::<Result<_, OpError>>()?;
        Ok(groups.into_iter().flatten().collect())
    }

    fn leaf(&self, reader: &mut Reader<'c>, leaf: &Leaf) -> Result<PageFacts, OpError> {
        let first = if leaf.is_empty() { Box::default() } else { leaf.path(0).into() };
        let mut facts = PageFacts::new(0, first);
        for at in 0..leaf.len() {
            let (path, size) = (leaf.path(at), leaf.stat(at).size);
            facts.count(path, size);
            let whole = match leaf.content(at) {
                Content::Empty | Content::Inline(_) => true,
                Content::Items(items) => self.items(items),
                Content::Paged { root, height } => {
                    let list = self.list(reader, root, *height)?;
                    if list.is_some_and(|list| list.len != size) {
                        let text = "its content list is not as long as its entry says";
                        self.problem(path::display(path), text);
                    }
                    list.is_some_and(|list| list.whole && list.len == size)
                }
            };
            if !whole {
                facts.lose_entry(path);
            }
        }
        Ok(facts)
    }

    /// Whether every chunk among `items` is in some pack.
    fn items(&self, items: &[ContentItem]) -> bool {
        let mut whole = true;
        for item in items {
            let ContentItem::Chunk { id, len } = item else { continue };
            if !self.picture.has_content(id, *len) {
                whole = false;
                if self.confirmed {
                    self.picture.tell_lacking(self.report, id);
                    lock(&self.lost).insert((*id, *len));
                }
            }
        }
        whole
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.entries == 1 { "entry" } else { "entries" };
        write!(f, "{} {word} cannot be restored: ", self.entries)?;
        for (at, example) in self.examples.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path::display(example))?;
        }
        match self.entries - (self.examples.len() as u64).min(self.entries) {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}
