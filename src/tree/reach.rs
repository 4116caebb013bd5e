//! Which chunks trees need, and which copy of each is counted on.
//!
//! A chunk may lie in several packs. One copy, in a pack that is not condemned, is chosen to be the
//! live one; the others are garbage. A needed chunk that lies only in condemned packs is stranded:
//! it must be stored again before they go. A copy in a block that is encoded against other chunks
//! counts only as long as they lie in packs that are not condemned, and then they are needed, too.

use std::collections::HashMap;

use super::PageReader;
use crate::crypto::ChunkKind;
use crate::format::entry::ContentItem;
use crate::format::page::ContentPage;
use crate::id::{ChunkId, PackId};
use crate::repo::index::IdMap;
use crate::repo::{Repository, RepositoryError};

/// A growing set of small numbers.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds `number`; whether it was not in the set.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Whether `number` is in the set.
    fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// The chunks of a pack that are needed, by position in its footer.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// By trees.
    needed: Option<&'a Bits>,
    /// By blocks that are encoded against them.
    bases: Option<&'a Bits>,
}

impl Live<'_> {
    /// Whether the chunk at position `chunk` is needed.
    pub fn contains(&self, chunk: u32) -> bool {
        let has = |bits: &Bits| bits.contains(chunk);
        self.needed.is_some_and(has) || self.bases.is_some_and(has)
    }
}

/// What is needed by the trees walked so far. Memory grows by a bit for each chunk that is needed.
pub struct Reach<'r> {
    repository: &'r Repository,
    reader: PageReader<'r>,
    /// What trees need, and what blocks that they need are encoded against: a page that is needed
    /// only as a base is not walked.
    needed: HashMap<PackId, Bits>,
    bases: HashMap<PackId, Bits>,
    stranded: IdMap<ChunkKind>,
    waiting: Vec<(ChunkKind, ChunkId)>,
}

impl std::fmt::Debug for Reach<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reach({} packs, {} stranded)", self.needed.len(), self.stranded.len())
    }
}

impl<'r> Reach<'r> {
    /// Nothing yet. The index must be loaded; what it takes for condemned counts as condemned.
    pub fn new(repository: &'r Repository) -> Self {
        Self {
            repository,
            reader: PageReader::new(repository),
            needed: HashMap::new(),
            bases: HashMap::new(),
            stranded: IdMap::default(),
            waiting: Vec::new(),
        }
    }

    /// Adds all that the tree below `root` needs. Pages that other trees share are walked once.
    ///
    /// # Errors
    /// When a needed chunk is in no pack, or a page cannot be read.
    pub fn walk(&mut self, root: &ChunkId) -> Result<(), RepositoryError> {
        self.waiting.clear();
        self.need(ChunkKind::Page, root)?;
        let mut found = Vec::new();
        while let Some((kind, id)) = self.waiting.pop() {
            if kind == ChunkKind::Page {
                self.reader.references(&id, &mut found)?;
                for (kind, id) in found.drain(..) {
                    self.need(kind, &id)?;
                }
                continue;
            }
            match self.reader.content_page(&id)? {
                ContentPage::Items(items) => self.items(&items)?,
                ContentPage::Children { children, .. } => {
                    for child in &children {
                        self.need(ChunkKind::ContentPage, &child.id)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn items(&mut self, items: &[ContentItem]) -> Result<(), RepositoryError> {
        for item in items {
            if let ContentItem::Chunk { id, .. } = item {
                self.need(ChunkKind::Content, id)?;
            }
        }
        Ok(())
    }

    /// Counts a chunk as needed; a page that was not needed before is walked later.
    fn need(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<(), RepositoryError> {
        let is_new = match self.repository.standing(id)? {
            Some((pack, position)) => {
                let is_new = self.needed.entry(pack).or_default().insert(position);
                if is_new {
                    self.need_bases(&pack, position)?;
                }
                is_new
            }
            None if self.stranded.contains_key(id) => false,
            // Not on the word of a cache alone: this looks again, in a new index.
            None if self.repository.is_anywhere(id)? => self.stranded.insert(*id, kind).is_none(),
            None => return Err(RepositoryError::MissingChunk(*id)),
        };
        if is_new && kind != ChunkKind::Content {
            self.waiting.push((kind, *id));
        }
        Ok(())
    }

    /// Counts the bases of a block as needed, of which this chunk is needed.
    fn need_bases(&mut self, pack: &PackId, position: u32) -> Result<(), RepositoryError> {
        for base in self.repository.bases(pack, position)? {
            self.need_base(&base)?;
        }
        Ok(())
    }

    fn need_base(&mut self, id: &ChunkId) -> Result<(), RepositoryError> {
        let (pack, position) =
            self.repository.standing_plain(id)?.ok_or(RepositoryError::MissingChunk(*id))?;
        self.bases.entry(pack).or_default().insert(position);
        Ok(())
    }

    /// The chunks of `pack` that are needed and counted on there; nothing when none is.
    pub fn live(&self, pack: &PackId) -> Option<Live<'_>> {
        let live = Live { needed: self.needed.get(pack), bases: self.bases.get(pack) };
        (live.needed.is_some() || live.bases.is_some()).then_some(live)
    }

    /// The packs in which needed chunks are counted on, some of them twice.
    pub fn counted_on(&self) -> impl Iterator<Item = &PackId> {
        self.needed.keys().chain(self.bases.keys())
    }

    /// Counts what was counted on in packs that are condemned by now where else it lies.
    ///
    /// # Errors
    /// When it is nowhere else and the index cannot be read.
    pub fn count_elsewhere(&mut self, packs: &[PackId]) -> Result<(), RepositoryError> {
        for pack in packs {
            let (needed, bases) = (self.needed.remove(pack), self.bases.remove(pack));
            if needed.is_none() && bases.is_none() {
                continue;
            }
            let footer = self.repository.pack_footer(pack)?;
            let chunks = footer.iter().flat_map(|pack| pack.footer.chunks.iter().zip(0u32..));
            for (chunk, at) in chunks {
                let has = |bits: &Option<Bits>| bits.as_ref().is_some_and(|bits| bits.contains(at));
                if has(&needed) {
                    self.need(chunk.kind, &chunk.id)?;
                }
                if has(&bases) {
                    self.need_base(&chunk.id)?;
                }
            }
        }
        Ok(())
    }

    /// Counts the stranded chunks where they were stored again.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn stranded_were_stored(&mut self) -> Result<(), RepositoryError> {
        for (id, kind) in std::mem::take(&mut self.stranded) {
            self.need(kind, &id)?;
        }
        Ok(())
    }

    /// Needed chunks that lie only in condemned packs.
    pub fn stranded(&self) -> impl Iterator<Item = (ChunkKind, ChunkId)> + '_ {
        self.stranded.iter().map(|(id, kind)| (*kind, *id))
    }

    /// Whether no needed chunk is stranded.
    pub fn is_safe(&self) -> bool {
        self.stranded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut bits = Bits::default();
        for number in [0, 63, 64, 1000] {
            assert!(!bits.contains(number));
            assert!(bits.insert(number));
            assert!(!bits.insert(number));
            assert!(bits.contains(number));
        }
        assert!(!bits.contains(65));
    }
}
