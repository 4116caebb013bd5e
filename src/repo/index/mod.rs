//! The index: where every chunk lies. Derived from the packs' footers, kept in the client's cache
//! folder, never in the repository. Lost, damaged, stale or foreign, it is set aside and made anew.

mod bases;
mod cache_folder;
mod catalogue;
mod footers;
mod id_map;
mod known;
mod recent;
mod run;
mod runs;
mod seen;
mod unusable;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bases::Bases;
pub use cache_folder::CacheFolder;
use catalogue::PackRow;
use footers::FooterCache;
pub use footers::{NewPack, PackFooter};
pub use id_map::{IdHasher, IdMap, IdSet};
use known::{Known, PackToKnow};
use recent::Recent;
use run::Place;
use runs::Runs;
pub use unusable::UnusableIndex;

use crate::codec::Encoding;
use crate::crypto::ChunkKind;
use crate::format::pack::Footer;
use crate::id::{ChunkId, PackId, RepositoryId, SegmentId};

/// Where a chunk's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// The number of the block in the pack: its seal depends on it.
    pub block: u32,
    /// Offset of the block in the pack, in bytes.
    pub block_offset: u64,
    /// Stored length of the block, in bytes.
    pub block_stored_len: u32,
    /// Plain length of the block, in bytes.
    pub block_plain_len: u32,
    /// Encoding of the block.
    pub encoding: Encoding,
    /// Offset of the chunk in the plain block, in bytes.
    pub offset: u32,
    /// Plain length of the chunk, in bytes.
    pub len: u32,
    /// What the chunk belongs to.
    pub kind: ChunkKind,
}

/// The index of one repository.
#[derive(Debug)]
pub struct Index {
    known: Mutex<Known>,
    folder: Option<CacheFolder>,
    packs: BTreeMap<u32, PackRow>,
    numbers: HashMap<PackId, u32>,
    condemned: HashSet<u32>,
    runs: Runs,
    /// Chunks of packs that no run covers.
    recent: Recent,
    footers: Mutex<FooterCache>,
    /// Packs of which a chunk was found in the authenticated footer where a run says that it is:
    /// the run means the pack that the catalogue gives this number.
    proven: RwLock<HashSet<u32>>,
    bases: Bases,
}

impl Index {
    /// Opens the index in `folder`, or makes an empty one; without a folder it lives in memory.
    ///
    /// # Errors
    /// When what is in the folder is damaged, foreign or cannot be reached.
    pub fn open(
        folder: Option<CacheFolder>,
        repository: RepositoryId,
        check_key: &[u8; 32],
    ) -> Result<Self, UnusableIndex> {
        if let Some(folder) = &folder {
            folder.make()?;
        }
        let path = folder.as_ref().map(|folder| folder.path().join("index.sqlite"));
        let known = Known::open(path.as_deref(), repository, check_key)?;
        let packs = known.packs()?;
        let runs = match (&folder, &known) {
            (Some(folder), Known::Kept(catalogue)) => {
                Runs::open(folder.path(), catalogue, check_key)?
            }
            _ => Runs::default(),
        };
        let mut index = Self {
            known: Mutex::new(known),
            folder,
            numbers: packs.iter().map(|row| (row.id, row.no)).collect(),
            packs: packs.iter().map(|row| (row.no, *row)).collect(),
            condemned: HashSet::new(),
            recent: Recent::default(),
            footers: Mutex::default(),
            proven: RwLock::default(),
            bases: Bases::default(),
            runs,
        };
        let covered = index.runs.last_pack();
        for row in packs.iter().filter(|row| covered.is_none_or(|last| row.no > last)) {
            let footer = index.read_footer(row)?;
            index.remember(row.no, &footer);
        }
        Ok(index)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_footer(&self, row: &PackRow) -> Result<Footer, UnusableIndex> {
        let bytes = self.known().footer(row)?;
        Footer::decode(&bytes).map_err(|error| UnusableIndex(error.to_string()))
    }

    fn remember(&mut self, pack: u32, footer: &Footer) {
        for (chunk, at) in footer.chunks.iter().zip(0u32..) {
            self.recent.add(chunk.id, Place { pack, chunk: at });
        }
    }

    /// Brings to the disk what the cache would otherwise wait for in the end.
    pub fn settle(&self) {
        if let Known::Kept(catalogue) = &*self.known() {
            // What goes wrong goes wrong in the end, too, and costs nothing but the cache.
            let _ = catalogue.settle();
        }
    }

    /// The segments that were taken in.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentId>, UnusableIndex> {
        Ok(self.known().segments()?)
    }

    /// The packs it knows, with their lengths.
    pub fn packs(&self) -> impl Iterator<Item = (PackId, u64)> + '_ {
        self.packs.values().map(|row| (row.id, row.len))
    }

    /// The length of a pack, if it is known.
    pub fn pack_len(&self, pack: &PackId) -> Option<u64> {
        self.numbers.get(pack).map(|no| self.packs[no].len)
    }

    /// How many chunks it knows, duplicates counted.
    pub fn chunk_count(&self) -> u64 {
        self.packs.values().map(|row| u64::from(row.chunks)).sum()
    }

    /// Packs that segments list and that it does not know: whoever deletes a pack on purpose
    /// replaces these segments.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn lost_packs(&self) -> Result<Vec<PackId>, UnusableIndex> {
        let mut lost = self.known().listed()?;
        lost.retain(|pack| !self.numbers.contains_key(pack));
        Ok(lost)
    }

    /// Takes in new packs; with a segment, and all that it lists.
    ///
    /// # Errors
    /// When the catalogue cannot be written.
    pub fn add(
        &mut self,
        segment: Option<(SegmentId, &[PackId])>,
        packs: &[NewPack],
    ) -> Result<(), UnusableIndex> {
        let rows: Vec<PackToKnow<'_>> = packs
            .iter()
            .map(|pack| {
                let chunks = u32::try_from(pack.footer.chunks.len()).unwrap_or(u32::MAX);
                (pack.id, pack.len, chunks, &pack.encoded[..])
            })
            .collect();
        let rows = self.known().add(segment, &rows)?;
        self.bases.ask_again();
        for (row, pack) in rows.iter().zip(packs) {
            self.numbers.insert(row.id, row.no);
            if self.packs.insert(row.no, *row).is_none() {
                self.remember(row.no, &pack.footer);
            }
        }
        self.spill()
    }

    /// Moves what is in memory to a sorted run once it is large.
    fn spill(&mut self) -> Result<(), UnusableIndex> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if self.recent.len() < runs::SPILL_CHUNKS {
            return Ok(());
        }
        let folder = folder.path().to_owned();
        self.take_in_rows_of_others()?;
        let Some((&last_pack, _)) = self.packs.last_key_value() else { return Ok(()) };
        let is_known = |no: u32| self.packs.contains_key(&no);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known::Kept(catalogue) = &mut *known else { return Ok(()) };
        if self.runs.spill(&folder, catalogue, self.recent.entries(), last_pack, &is_known)? {
            self.recent = Recent::default();
        }
        Ok(())
    }

    /// Takes in packs that another process added to the same catalogue: a run covers all packs up
    /// to its last one, and the next to open the catalogue relies on that.
    fn take_in_rows_of_others(&mut self) -> Result<(), UnusableIndex> {
        let rows = self.known().packs()?;
        self.bases.ask_again();
        let covered = self.runs.last_pack();
        for row in rows {
            if self.packs.contains_key(&row.no) || covered.is_some_and(|last| row.no <= last) {
                continue;
            }
            let footer = self.read_footer(&row)?;
            self.numbers.insert(row.id, row.no);
            self.packs.insert(row.no, row);
            self.remember(row.no, &footer);
        }
        Ok(())
    }

    /// Drops packs and segments that the repository no longer has.
    ///
    /// # Errors
    /// When the catalogue cannot be written.
    pub fn forget(
        &mut self,
        packs: &[PackId],
        segments: &[SegmentId],
    ) -> Result<(), UnusableIndex> {
        self.bases.ask_again();
        let gone: Vec<u32> = packs.iter().filter_map(|id| self.numbers.remove(id)).collect();
        for no in &gone {
            self.packs.remove(no);
        }
        if !gone.is_empty() {
            let packs = &self.packs;
            self.recent.retain(|pack| packs.contains_key(&pack));
        }
        Ok(self.known().forget(&gone, segments)?)
    }

    /// From now on no chunk of these packs counts as present for new snapshots: a pruner has
    /// announced their removal.
    pub fn condemn(&mut self, packs: &[PackId]) {
        self.bases.ask_again();
        self.condemned.extend(packs.iter().filter_map(|id| self.numbers.get(id)));
    }

    /// The packs whose removal was announced.
    pub fn condemned(&self) -> impl Iterator<Item = PackId> + '_ {
        self.condemned.iter().filter_map(|no| self.packs.get(no)).map(|row| row.id)
    }

    /// The authenticated footer of a pack.
    fn footer(&self, no: u32) -> Result<Option<Arc<PackFooter>>, UnusableIndex> {
        let Some(row) = self.packs.get(&no) else { return Ok(None) };
        if let Some(found) = self.footers().get(no) {
            return Ok(Some(found));
        }
        let made = Arc::new(PackFooter::new(row.id, row.len, self.read_footer(row)?));
        self.footers().put(no, Arc::clone(&made));
        Ok(Some(made))
    }

    fn footers(&self) -> std::sync::MutexGuard<'_, FooterCache> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The authenticated footer of `pack`, if the pack is known.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub(in crate::repo) fn pack_footer(
        &self,
        pack: &PackId,
    ) -> Result<Option<Arc<PackFooter>>, UnusableIndex> {
        self.numbers.get(pack).map_or(Ok(None), |no| self.footer(*no))
    }

    /// Finds a place of `id` that `accept` accepts, compared with the footer it names.
    fn find<T>(
        &self,
        id: &ChunkId,
        mut accept: impl FnMut(u32, &PackFooter, u32) -> Option<T>,
    ) -> Result<Option<T>, UnusableIndex> {
        let places = self.recent.places(id).chain(self.runs.places(id));
        for place in places {
            let Some(footer) = self.footer(place.pack)? else { continue };
            let chunk = footer.footer.chunks.get(place.chunk as usize);
            if chunk.is_some_and(|chunk| chunk.id == *id)
                && let Some(found) = accept(place.pack, &footer, place.chunk)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The pack in which a new snapshot may count on finding `id`, if there is one.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn holder(&self, id: &ChunkId) -> Result<Option<PackId>, UnusableIndex> {
        Ok(self.standing(id)?.map(|(pack, _)| pack))
    }

    /// A pack that is not condemned and holds `id`, and the chunk's position in its footer; always
    /// the same one as long as the index does not change. Where the chunk's block is encoded
    /// against others, they are in such packs, too.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn standing(&self, id: &ChunkId) -> Result<Option<(PackId, u32)>, UnusableIndex> {
        if self.bases.are_expected() {
            return self.standing_with_bases(id);
        }
        if let Some(place) = self.recent.place(id)
            && !self.condemned.contains(&place.pack)
            && let Some(row) = self.packs.get(&place.pack)
        {
            // What is in memory was read from authenticated footers, whole ids and all.
            return Ok(Some((row.id, place.chunk)));
        }
        for place in self.recent.places(id).chain(self.runs.sound_places(id)) {
            let Some(row) = self.packs.get(&place.pack) else { continue };
            if self.condemned.contains(&place.pack) {
                continue;
            }
            // Chunks in no order would each need another pack's footer.
            if self.is_proven(place.pack) || self.prove(id, place)? {
                return Ok(Some((row.id, place.chunk)));
            }
        }
        Ok(None)
    }

    fn is_proven(&self, pack: u32) -> bool {
        self.proven.read().unwrap_or_else(PoisonError::into_inner).contains(&pack)
    }

    /// Compares what a run says of `id` with the footer.
    fn prove(&self, id: &ChunkId, place: Place) -> Result<bool, UnusableIndex> {
        let Some(footer) = self.footer(place.pack)? else { return Ok(false) };
        let chunk = footer.footer.chunks.get(place.chunk as usize);
        let is_so = chunk.is_some_and(|chunk| chunk.id == *id);
        if is_so {
            self.proven.write().unwrap_or_else(PoisonError::into_inner).insert(place.pack);
        }
        Ok(is_so)
    }

    /// Where the bytes of `id` are. Operations ask [`crate::repo::Repository::locate`], which rebuilds
    /// an index that fails.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn locate(&self, id: &ChunkId) -> Result<Option<Location>, UnusableIndex> {
        self.find(id, |_, footer, chunk| Some(footer.location(chunk)))
    }

    /// Every place of `id`: duplicates are what a damaged pack is repaired from.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn locate_all(&self, id: &ChunkId) -> Result<Vec<Location>, UnusableIndex> {
        let mut found = Vec::new();
        self.find(id, |_, footer, chunk| {
            found.push(footer.location(chunk));
            None::<()>
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
