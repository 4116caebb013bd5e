//! Building a tree from entries in path order, taking over whole pages that did not change.

use std::ops::Range;
use std::sync::Arc;

use super::LeafPage;
use crate::crypto::ChunkKind;
use crate::format::entry::Entry;
use crate::format::page::{EntryRef, Leaf, PageRef, Upper};
use crate::format::path;
use crate::id::ChunkId;
use crate::repo::{PackClass, Repository, RepositoryError, Worker, Writer};

/// A page is cut at the latest when it is so many times longer than it should be on average.
const FORCED_CUT: usize = 8;
/// Estimated bytes at which a leaf is cut, whatever its paths say: only entries with very long
/// paths or attributes get there, and readers must not meet a page they refuse.
const MAX_LEAF_WEIGHT: usize = 8 << 20;

/// Counts of the entries in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeTotals {
    /// Entries.
    pub entries: u64,
    /// Plain bytes of their contents together.
    pub bytes: u64,
}

enum Item {
    /// Neighbours in an existing leaf.
    Same(Arc<LeafPage>, Range<usize>),
    New(Box<Entry>),
}

impl Item {
    fn last_path(&self) -> &[u8] {
        match self {
            Self::Same(page, range) => page.leaf.path(range.end - 1),
            Self::New(entry) => &entry.path,
        }
    }

    fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let (same, new) = match self {
            Self::Same(page, range) => (Some((page, range.clone())), None),
            Self::New(entry) => (None, Some(EntryRef::from(&**entry))),
        };
        let same =
            same.into_iter().flat_map(|(page, range)| range.map(|at| page.leaf.entry_ref(at)));
        same.chain(new)
    }
}

/// Builds one tree.
pub struct TreeBuilder {
    worker: Worker,
    fan_out_bits: u32,
    leaf: Vec<Item>,
    leaf_entries: usize,
    leaf_weight: usize,
    /// The first path of a page that was taken over whole, until an entry follows it.
    whole_page: Option<Box<[u8]>>,
    /// References waiting to be put into a page, by height of the pages they name.
    levels: Vec<Vec<PageRef>>,
    totals: TreeTotals,
}

impl std::fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeBuilder({} entries)", self.totals.entries)
    }
}

impl TreeBuilder {
    /// A builder of an empty tree that stores its pages through `writer`.
    ///
    /// # Errors
    /// When there is no memory for a compression context.
    pub fn new(writer: &Writer) -> Result<Self, RepositoryError> {
        Ok(Self {
            worker: writer.worker(PackClass::Pages)?,
            fan_out_bits: u32::from(writer.repository().config().pages.fan_out_bits),
            leaf: Vec::new(),
            leaf_entries: 0,
            leaf_weight: 0,
            whole_page: None,
            levels: Vec::new(),
            totals: TreeTotals::default(),
        })
    }

    /// The worker that stores the pages; content pages go the same way.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// What was added so far.
    pub fn totals(&self) -> TreeTotals {
        self.totals
    }

    /// Adds an entry behind the ones before.
    ///
    /// # Errors
    /// When storing a page fails, or the entry's path is not behind the last one: the tree would be
    /// wrong for ever.
    pub fn push(&mut self, entry: Entry) -> Result<(), RepositoryError> {
        self.require_order(&entry.path)?;
        if self.starts_page(&entry.path, 1) || self.is_full() {
            self.close_leaf()?;
        }
        self.count(entry.meta.size, entry.weight());
        self.leaf.push(Item::New(Box::new(entry)));
        Ok(())
    }

    /// Adds the entry at `at` of an existing leaf, unchanged. When a whole leaf is added so and
    /// nothing comes between, the leaf is taken over as it is.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_same(&mut self, page: &Arc<LeafPage>, at: usize) -> Result<(), RepositoryError> {
        let (size, weight) = (page.leaf.stat(at).size, page.leaf.weight(at));
        let is_full = self.is_full();
        if let Some(Item::Same(last, range)) = self.leaf.last_mut()
            && range.end == at
            && Arc::ptr_eq(last, page)
            && !is_full
        {
            // Neighbours are in order, and only the first entry of a page can be one that begins
            // a page.
            range.end += 1;
            self.count(size, weight);
            return Ok(());
        }
        self.require_order(page.leaf.path(at))?;
        if is_full || at == 0 && self.starts_page(page.leaf.path(0), 1) {
            self.close_leaf()?;
        }
        self.count(size, weight);
        self.leaf.push(Item::Same(Arc::clone(page), at..at + 1));
        Ok(())
    }

    /// Whether the leaf is cut here, whatever comes.
    fn is_full(&self) -> bool {
        self.leaf_entries >= FORCED_CUT << self.fan_out_bits || self.leaf_weight >= MAX_LEAF_WEIGHT
    }

    /// Counts an entry that is added to the leaf.
    fn count(&mut self, size: u64, weight: usize) {
        self.whole_page = None;
        self.totals.entries += 1;
        self.totals.bytes += size;
        self.leaf_entries += 1;
        self.leaf_weight += weight;
    }

    /// What is taken over comes from trees that anybody may have made.
    fn require_order(&self, path: &[u8]) -> Result<(), RepositoryError> {
        let last = self.leaf.last().map(Item::last_path).or(self.whole_page.as_deref());
        if last.is_none_or(|last| path::compare(last, path).is_lt()) {
            return Ok(());
        }
        Err(RepositoryError::Damaged {
            object: "the tree".to_owned(),
            reason: format!("{} does not come in path order", path::display(path)),
        })
    }

    /// Adds a whole page of an existing tree, unseen. Where it begins, [`begins_page`] must say
    /// that a page of its height does; and the entry that followed it there must be the next.
    /// Then building anew from its entries would give the same page.
    ///
    /// # Errors
    /// As [`Self::push`].
    ///
    /// # Panics
    /// When no such page begins there.
    pub fn push_page(&mut self, page: &PageRef, height: u8) -> Result<(), RepositoryError> {
        let first = &page.first_path;
        assert!(self.starts_page(first, u32::from(height) + 1), "the page begins where one must");
        self.require_order(first)?;
        self.close_leaf()?;
        let height = usize::from(height);
        if self.levels.len() <= height {
            self.levels.resize_with(height + 1, Vec::new);
        }
        // All that is lower ends here, as it would before the first entry of the page.
        for lower in 0..height {
            let children = std::mem::take(&mut self.levels[lower]);
            if !children.is_empty() {
                let upper = self.store_upper(lower, children)?;
                self.add_page(lower + 1, upper)?;
            }
        }
        self.totals.entries += page.entries;
        self.totals.bytes += page.bytes;
        self.whole_page = Some(first.clone());
        self.add_page(height, page.clone())
    }

    fn starts_page(&self, path: &[u8], heights: u32) -> bool {
        starts_page(self.worker.repository(), path, heights)
    }

    fn close_leaf(&mut self) -> Result<(), RepositoryError> {
        if self.leaf.is_empty() {
            return Ok(());
        }
        (self.leaf_entries, self.leaf_weight) = (0, 0);
        let items = std::mem::take(&mut self.leaf);
        if let Some(page) = taken_over(&items) {
            return self.add_page(0, page);
        }
        let entries: Vec<EntryRef<'_>> = items.iter().flat_map(Item::entries).collect();
        let page = PageRef {
            first_path: entries[0].path().into(),
            id: self.worker.store(ChunkKind::Page, &Leaf::encode_refs(&entries))?,
            entries: entries.len() as u64,
            bytes: entries.iter().map(EntryRef::size).sum(),
        };
        self.add_page(0, page)
    }

    fn add_page(&mut self, height: usize, page: PageRef) -> Result<(), RepositoryError> {
        if self.levels.len() == height {
            self.levels.push(Vec::new());
        }
        let heights = u32::try_from(height + 2).unwrap_or(u32::MAX);
        let forced = self.levels[height].len() >= FORCED_CUT << self.fan_out_bits;
        if !self.levels[height].is_empty()
            && (forced || self.starts_page(&page.first_path, heights))
        {
            let children = std::mem::take(&mut self.levels[height]);
            let upper = self.store_upper(height, children)?;
            self.add_page(height + 1, upper)?;
        }
        self.levels[height].push(page);
        Ok(())
    }

    fn store_upper(
        &mut self,
        height: usize,
        children: Vec<PageRef>,
    ) -> Result<PageRef, RepositoryError> {
        let height = u8::try_from(height + 1).expect("trees are low");
        let upper = Upper { height, children };
        Ok(PageRef {
            id: self.worker.store(ChunkKind::Page, &upper.encode())?,
            entries: upper.children.iter().map(|child| child.entries).sum(),
            bytes: upper.children.iter().map(|child| child.bytes).sum(),
            first_path: upper.children[0].first_path.clone(),
        })
    }

    /// Stores what is missing above `levels` and returns the top page.
    fn close_levels(&mut self, mut levels: Vec<Vec<PageRef>>) -> Result<ChunkId, RepositoryError> {
        let mut height = 0;
        loop {
            let children = std::mem::take(&mut levels[height]);
            if height + 1 == levels.len() {
                if let [only] = &children[..] {
                    return Ok(only.id);
                }
                levels.push(Vec::new());
            }
            // Below a page that was taken over whole there may be nothing.
            if !children.is_empty() {
                let upper = self.store_upper(height, children)?;
                levels[height + 1].push(upper);
            }
            height += 1;
        }
    }

    /// A tree of the entries in all pages closed so far, for a checkpoint; the builder goes on as
    /// if nothing had been. Nothing when no page is closed yet.
    ///
    /// # Errors
    /// When storing a page fails.
    pub fn checkpoint(&mut self) -> Result<Option<ChunkId>, RepositoryError> {
        if self.levels.is_empty() {
            return Ok(None);
        }
        let root = self.close_levels(self.levels.clone())?;
        self.worker.flush()?;
        Ok(Some(root))
    }

    /// Stores what is left and returns the top page.
    ///
    /// # Errors
    /// When storing a page fails.
    pub fn finish(mut self) -> Result<(ChunkId, TreeTotals), RepositoryError> {
        self.close_leaf()?;
        let root = if self.levels.is_empty() {
            self.worker.store(ChunkKind::Page, &Leaf::encode(&[]))?
        } else {
            let levels = std::mem::take(&mut self.levels);
            self.close_levels(levels)?
        };
        self.worker.flush()?;
        Ok((root, self.totals))
    }
}

/// Whether a page of this height (0: a leaf) begins at `path` in every tree of `repository` that
/// has the path.
pub fn begins_page(repository: &Repository, path: &[u8], height: u8) -> bool {
    starts_page(repository, path, u32::from(height) + 1)
}

/// Whether a page of so many heights (1: a leaf) begins at `path`: decided by the path alone.
fn starts_page(repository: &Repository, path: &[u8], heights: u32) -> bool {
    let bits = u32::from(repository.config().pages.fan_out_bits);
    repository.keys().page_cut_hash(path).trailing_zeros() >= bits * heights
}

/// The page whose entries are exactly `items`, if there is one.
fn taken_over(items: &[Item]) -> Option<PageRef> {
    let [Item::Same(page, range)] = items else { return None };
    (*range == (0..page.leaf.len())).then(|| page.page.clone())
}
