//! What snapshots hold and what the repository stores for it, in numbers.

use std::collections::{HashMap, HashSet};

use super::OpError;
use crate::crypto::ChunkKind;
use crate::event::{Event, Problem};
use crate::format::entry::{Content, ContentItem};
use crate::format::page::{ContentPage, Page};
use crate::format::snapshot::Snapshot;
use crate::id::{ChunkId, PackId};
use crate::repo::index::Location;
use crate::repo::{PackClass, Repository, RepositoryError};
use crate::storage::ObjectKind;
use crate::tree::PageReader;

/// What was counted. All lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Entries of all of them together.
    pub entries: u64,
    /// Plain bytes of all their contents together, as they would be restored one beside the other
    /// (every hard link counted).
    pub bytes: u64,
    /// Different content chunks that they refer to.
    pub unique_chunks: u64,
    /// Plain bytes of these chunks.
    pub unique_bytes: u64,
    /// Different pages of all kinds that they refer to.
    pub pages: u64,
    /// Plain bytes of these pages.
    pub page_bytes: u64,
    /// Packs of the whole repository.
    pub packs: u64,
    /// Stored bytes of the blocks in all packs, by [`PackClass`].
    pub stored_blocks: [u64; 2],
    /// Plain bytes of the blocks in all packs, by [`PackClass`].
    pub plain_blocks: [u64; 2],
    /// Stored bytes of all packs.
    pub pack_bytes: u64,
    /// Index segments.
    pub segments: u64,
    /// Stored bytes of the index segments.
    pub segment_bytes: u64,
    /// Stored bytes of everything else: configuration, keys, snapshots, coordination.
    pub other_bytes: u64,
    /// Pages that could not be read, and pages that name chunks which are in no pack: what is lost
    /// is not counted above. Each was told to the repository's observer.
    pub problems: u64,
}

impl Stats {
    /// Stored bytes of the whole repository.
    pub fn stored_bytes(&self) -> u64 {
        self.pack_bytes + self.segment_bytes + self.other_bytes
    }

    /// Stored bytes that are neither content nor pages.
    pub fn overhead(&self) -> u64 {
        self.stored_bytes().saturating_sub(self.stored_blocks.iter().sum())
    }

    /// How many plain bytes one stored byte of the blocks stands for; nothing without blocks.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.plain_blocks.iter().sum(), self.stored_blocks.iter().sum())
    }

    /// How many bytes as restored one byte of the different chunks stands for; nothing without
    /// chunks.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.bytes, self.unique_bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(above: u64, below: u64) -> Option<f64> {
    (below > 0).then(|| above as f64 / below as f64)
}

/// Counts what `snapshots` refer to and what the whole repository stores. A page that several
/// snapshots share is read once; memory grows by a bit for each chunk of the repository.
///
/// # Errors
/// When storage fails. A page that is missing or damaged is a problem, and the rest is counted.
pub fn stats(repository: &Repository, snapshots: &[Snapshot]) -> Result<Stats, OpError> {
    let mut walk = Walk {
        reader: PageReader::new(repository),
        seen: Seen { repository, packs: HashMap::new() },
        stats: Stats::default(),
        waiting: Vec::new(),
        damaged: HashSet::new(),
    };
    for snapshot in snapshots {
        walk.stats.snapshots += 1;
        let counted = walk.count_top(&snapshot.root);
        walk.unless_damaged(&snapshot.root, counted)?;
        walk.waiting.push(Waiting::Page(snapshot.root));
        while let Some(next) = walk.waiting.pop() {
            let (Waiting::Page(id) | Waiting::Content(id)) = next;
            let visited = walk.visit(next);
            walk.unless_damaged(&id, visited)?;
        }
    }
    let mut stats = walk.stats;
    count_packs(repository, &mut stats)?;
    count_objects(repository, &mut stats)?;
    Ok(stats)
}

/// A page that is still to be looked at.
enum Waiting {
    Page(ChunkId),
    Content(ChunkId),
}

struct Walk<'r> {
    reader: PageReader<'r>,
    seen: Seen<'r>,
    stats: Stats,
    waiting: Vec<Waiting>,
    /// Pages that were told to be damaged.
    damaged: HashSet<ChunkId>,
}

impl Walk<'_> {
    /// Tells damage of a page, once, and goes on.
    fn unless_damaged(
        &mut self,
        page: &ChunkId,
        result: Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        match result {
            Err(error) if error.is_damage() => {
                let text = format!("{error}; what it leads to is not counted");
                self.problem(page, text);
                Ok(())
            }
            result => result,
        }
    }

    fn problem(&mut self, page: &ChunkId, message: String) {
        if self.damaged.insert(*page) {
            self.stats.problems += 1;
            let problem = Problem { subject: format!("page {page}").into(), message };
            self.seen.repository.observer().event(Event::Problem(problem));
        }
    }

    /// Takes a snapshot's totals from what its top page says of the ones below.
    fn count_top(&mut self, root: &ChunkId) -> Result<(), RepositoryError> {
        let (entries, bytes) = match self.reader.page(root)? {
            Page::Leaf(leaf) => {
                let sizes = (0..leaf.len()).map(|at| leaf.stat(at).size);
                (leaf.len() as u64, sizes.fold(0, u64::saturating_add))
            }
            Page::Upper(upper) => upper.children.iter().fold((0u64, 0u64), |sum, child| {
                (sum.0.saturating_add(child.entries), sum.1.saturating_add(child.bytes))
            }),
        };
        self.stats.entries = self.stats.entries.saturating_add(entries);
        self.stats.bytes = self.stats.bytes.saturating_add(bytes);
        Ok(())
    }

    fn visit(&mut self, next: Waiting) -> Result<(), RepositoryError> {
        let (Waiting::Page(id) | Waiting::Content(id)) = &next;
        let Some(location) = self.seen.first_time(id)? else { return Ok(()) };
        self.stats.pages += 1;
        self.stats.page_bytes += u64::from(location.len);
        match next {
            Waiting::Page(id) => match self.reader.page(&id)? {
                Page::Upper(upper) => {
                    let below = upper.children.iter().map(|child| Waiting::Page(child.id));
                    self.waiting.extend(below);
                }
                Page::Leaf(leaf) => {
                    for at in 0..leaf.len() {
                        match leaf.content(at) {
                            Content::Empty | Content::Inline(_) => {}
                            Content::Items(items) => self.count_items(&id, items)?,
                            Content::Paged { root, .. } => {
                                self.waiting.push(Waiting::Content(*root));
                            }
                        }
                    }
                }
            },
            Waiting::Content(id) => match self.reader.content_page(&id)? {
                ContentPage::Items(items) => self.count_items(&id, &items)?,
                ContentPage::Children { children, .. } => {
                    let below = children.iter().map(|child| Waiting::Content(child.id));
                    self.waiting.extend(below);
                }
            },
        }
        Ok(())
    }

    fn count_items(
        &mut self,
        page: &ChunkId,
        items: &[ContentItem],
    ) -> Result<(), RepositoryError> {
        for item in items {
            let ContentItem::Chunk { id, .. } = item else { continue };
            match self.seen.first_time(id) {
                Ok(None) => {}
                Ok(Some(location)) => {
                    self.stats.unique_chunks += 1;
                    self.stats.unique_bytes += u64::from(location.len);
                }
                Err(error) if error.is_damage() => {
                    let text = format!("{error}, and there may be more that it names");
                    self.problem(page, text);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The chunks met so far: one bit for each chunk of every pack that holds one.
struct Seen<'r> {
    repository: &'r Repository,
    packs: HashMap<PackId, Vec<u64>>,
}

impl Seen<'_> {
    /// Where the chunk lies, if it was not asked for before.
    fn first_time(&mut self, id: &ChunkId) -> Result<Option<Location>, RepositoryError> {
        let missing = || RepositoryError::MissingChunk(*id);
        let location = self.repository.locate(id)?.ok_or_else(missing)?;
        let pack = self.repository.pack_footer(&location.pack)?.ok_or_else(missing)?;
        let block = &pack.footer.blocks[location.block as usize];
        let mut offset = 0;
        let mut position = block.first_chunk as usize;
        while offset < location.offset {
            offset += pack.footer.chunks[position].len;
            position += 1;
        }
        let words = pack.footer.chunks.len().div_ceil(64);
        let bits = self.packs.entry(location.pack).or_insert_with(|| vec![0; words]);
        let (word, bit) = (&mut bits[position / 64], 1 << (position % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        Ok(is_new.then_some(location))
    }
}

fn count_packs(repository: &Repository, stats: &mut Stats) -> Result<(), RepositoryError> {
    let packs: Vec<(PackId, u64)> = repository.index().packs().collect();
    for (id, len) in packs {
        stats.packs += 1;
        stats.pack_bytes += len;
        let Some(pack) = repository.pack_footer(&id)? else { continue };
        for block in &pack.footer.blocks {
            let first = pack.footer.chunks.get(block.first_chunk as usize);
            let class = match first.map(|chunk| chunk.kind) {
                Some(ChunkKind::Page | ChunkKind::ContentPage) => PackClass::Pages,
                _ => PackClass::Content,
            };
            stats.stored_blocks[class as usize] += u64::from(block.stored_len);
            stats.plain_blocks[class as usize] += u64::from(block.plain_len);
        }
    }
    Ok(())
}

fn count_objects(repository: &Repository, stats: &mut Stats) -> Result<(), RepositoryError> {
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Pack) {
        let objects = repository.storage().list(kind)?.objects;
        let bytes: u64 = objects.iter().map(|(_, len)| len).sum();
        if kind == ObjectKind::Segment {
            stats.segments = objects.len() as u64;
            stats.segment_bytes = bytes;
        } else {
            stats.other_bytes += bytes;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
