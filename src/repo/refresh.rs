//! Loading the index, bringing it up to date with what the repository holds now, and making it anew
//! when it turns out that the cached one cannot be used.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::index::{CacheFolder, Index, Location, NewPack, PackFooter, UnusableIndex};
use super::{PackReader, Repository, RepositoryError};
use crate::event::{Event, Problem};
use crate::format::pack::Footer;
use crate::id::{ChunkId, PackId, SegmentId};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// Looks at a repository that does not hold still. What was not seen then is looked for when it is
/// needed.
const MAX_LOOKS: usize = 10;
/// Rebuilds of a cached index before the run keeps its index in memory.
const MAX_REBUILDS: u64 = 2;

impl Repository {
    /// Loads the index from the cache and brings it up to date with the repository. Needed before
    /// chunks can be read or written.
    ///
    /// # Errors
    /// When the repository cannot be listed or read. A cache that cannot be used is set aside and
    /// made anew, with a note.
    pub fn load_index(&self) -> Result<(), RepositoryError> {
        let index = self.latest_index()?;
        *self.index_mut() = index;
        Ok(())
    }

    /// Sets the cached index aside and makes it anew from what the repository holds.
    ///
    /// # Errors
    /// When the repository cannot be listed or read.
    pub fn rebuild_index(&self) -> Result<(), RepositoryError> {
        self.remake_index(&UnusableIndex::because("it was asked to be made anew"), None)
    }

    /// The folder of the client's own, derived data about this repository, if there is one.
    pub fn cache_folder(&self) -> Option<CacheFolder> {
        self.cache_base.as_ref().map(|base| CacheFolder::new(base, self.id()))
    }

    /// Brings the index up to date when `pack`, which it knows, is not there any more: a pruner has
    /// stored elsewhere what is needed of it. Of many readers who notice, one does it. Whether the
    /// pack was gone.
    pub(super) fn follow_prune(&self, pack: PackId) -> Result<bool, RepositoryError> {
        if self.has(ObjectName::pack(pack))? {
            return Ok(false);
        }
        let mut index = self.index_mut();
        if index.pack_len(&pack).is_some() {
            *index = self.latest_index()?;
        }
        Ok(true)
    }

    /// The cached index, brought up to date, or a new one.
    fn latest_index(&self) -> Result<Index, RepositoryError> {
        match self.up_to_date_index(self.cache_folder()) {
            Err(RepositoryError::Index(unusable)) => self.new_index(&unusable),
            result => result,
        }
    }

    fn up_to_date_index(&self, folder: Option<CacheFolder>) -> Result<Index, RepositoryError> {
        let mut index = Index::open(folder, self.id(), self.keys().cache_check())?;
        if self.config.has_delta() {
            index.expect_bases();
        }
        // Who moves packs meanwhile moves what was listed away: what it was moved to is found by
        // looking again.
        for _ in 0..MAX_LOOKS {
            let mut look = Refresh { repository: self, index: &mut index, is_outdated: false };
            if look.run()? {
                break;
            }
        }
        Ok(index)
    }

    fn new_index(&self, why: &UnusableIndex) -> Result<Index, RepositoryError> {
        if self.index_made.load(Ordering::Acquire) >= MAX_REBUILDS {
            // What fails again and again, such as a full or failing disk, fails once more.
            let note = format!("{why}; this run keeps its index in memory");
            self.observer.event(Event::Note(note));
            return self.up_to_date_index(None);
        }
        self.observer.event(Event::Note(format!("{why}; it is rebuilt")));
        let folder = self.cache_folder();
        if let Some(folder) = &folder {
            // Removing a whole cache is safe while another process uses it: open files live on.
            let _ = std::fs::remove_dir_all(folder.path());
        }
        match self.up_to_date_index(folder) {
            Err(RepositoryError::Index(unusable)) => {
                let note = format!("{unusable}; this run keeps its index in memory");
                self.observer.event(Event::Note(note));
                self.up_to_date_index(None)
            }
            result => result,
        }
    }

    /// Makes the index anew, unless another thread did so since `seen` was its number. Everybody
    /// who wants to look something up waits: a half-made index would miss chunks.
    fn remake_index(&self, why: &UnusableIndex, seen: Option<u64>) -> Result<(), RepositoryError> {
        let mut index = self.index_mut();
        if seen.is_some_and(|seen| seen != self.index_made.load(Ordering::Acquire)) {
            return Ok(());
        }
        *index = self.new_index(why)?;
        self.index_made.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Asks the index. When it turns out that the cached one is damaged, it is made anew and asked
    /// again: damage there must never fail a run.
    pub(super) fn ask_index<T>(
        &self,
        ask: impl Fn(&Index) -> Result<T, UnusableIndex>,
    ) -> Result<T, RepositoryError> {
        // The last rebuild is one in memory, which cannot fail.
        for _ in 0..=MAX_REBUILDS {
            let seen = self.index_made.load(Ordering::Acquire);
            let answer = ask(&self.index());
            match answer {
                Err(unusable) => self.remake_index(&unusable, Some(seen))?,
                Ok(answer) => return Ok(answer),
            }
        }
        Ok(ask(&self.index())?)
    }

    /// See `Index::holder`.
    pub(super) fn holder(&self, id: &ChunkId) -> Result<Option<PackId>, RepositoryError> {
        self.ask_index(|index| index.holder(id))
    }

    /// See `Index::standing`.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn standing(&self, id: &ChunkId) -> Result<Option<(PackId, u32)>, RepositoryError> {
        self.ask_index(|index| index.standing(id))
    }

    /// See `Index::standing_plain`.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn standing_plain(&self, id: &ChunkId) -> Result<Option<(PackId, u32)>, RepositoryError> {
        self.ask_index(|index| index.standing_plain(id))
    }

    /// See `Index::bases`.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn bases(&self, pack: &PackId, chunk: u32) -> Result<Vec<ChunkId>, RepositoryError> {
        self.ask_index(|index| index.bases(pack, chunk))
    }

    /// Whether `id` is in any pack, condemned or not, and with it what it is encoded against.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn is_anywhere(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        if self.locate(id)?.is_none() {
            return Ok(false);
        }
        Ok(!self.config.has_delta() || self.ask_index(|index| index.can_be_decoded(id))?)
    }

    /// See `Index::lost_packs`.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn lost_packs(&self) -> Result<Vec<PackId>, RepositoryError> {
        self.ask_index(Index::lost_packs)
    }

    /// See `Index::locate_all`.
    pub(super) fn locate_all(&self, id: &ChunkId) -> Result<Vec<Location>, RepositoryError> {
        self.ask_index(|index| index.locate_all(id))
    }

    /// See `Index::locate`. That a chunk is missing is not said on the word of a cache: its files
    /// are looked at without checksums, for speed, and may have rotted.
    ///
    /// # Errors
    /// When the index cannot be rebuilt.
    pub fn locate(&self, id: &ChunkId) -> Result<Option<Location>, RepositoryError> {
        let found = self.ask_index(|index| index.locate(id))?;
        let first_index = self.index_made.load(Ordering::Acquire) == 0;
        if found.is_some() || self.cache_base.is_none() || !first_index {
            return Ok(found);
        }
        self.remake_index(&UnusableIndex::because("it lacks a chunk"), Some(0))?;
        self.ask_index(|index| index.locate(id))
    }

    /// See `Index::pack_footer`.
    ///
    /// # Errors
    /// When the index cannot be rebuilt.
    pub fn pack_footer(&self, pack: &PackId) -> Result<Option<Arc<PackFooter>>, RepositoryError> {
        self.ask_index(|index| index.pack_footer(pack))
    }

    /// All packs that are there, with their lengths.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list_packs(&self) -> Result<BTreeMap<PackId, u64>, RepositoryError> {
        let objects = self.storage().list(ObjectKind::Pack)?.objects;
        Ok(objects.into_iter().map(|(name, len)| (PackId(name.id), len)).collect())
    }

    /// From now on no chunk of these packs counts as present for whoever stores something.
    pub fn condemn(&self, packs: &[PackId]) {
        self.index_mut().condemn(packs);
    }

    /// Drops packs from the index that were just deleted.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn drop_from_index(&self, packs: &[PackId]) -> Result<(), RepositoryError> {
        let seen = self.index_made.load(Ordering::Acquire);
        let dropped = self.index_mut().forget(packs, &[]);
        match dropped {
            Err(unusable) => self.remake_index(&unusable, Some(seen)),
            Ok(()) => Ok(()),
        }
    }

    /// Takes a pack into the index that was just published.
    pub(super) fn add_to_index(&self, pack: &NewPack) -> Result<(), RepositoryError> {
        let seen = self.index_made.load(Ordering::Acquire);
        let added = self.index_mut().add(None, std::slice::from_ref(pack));
        match added {
            // A new index has it, like every pack that is there.
            Err(unusable) => self.remake_index(&unusable, Some(seen)),
            Ok(()) => Ok(()),
        }
    }

    fn report(&self, object: ObjectName, error: &RepositoryError) {
        let subject = object.to_string().into();
        let problem = Problem { subject, message: error.to_string() };
        self.observer.event(Event::Problem(problem));
    }
}

/// One pass over marks, segments and packs.
struct Refresh<'a> {
    repository: &'a Repository,
    index: &'a mut Index,
    /// Whether something that was listed was gone when it was read.
    is_outdated: bool,
}

impl Refresh<'_> {
    /// Marks are listed before packs: a pack that is listed afterwards and not marked before was
    /// not condemned when this process announced itself (see FORMAT.md, "Writers and pruners").
    /// False when something that was listed was gone when it was read.
    fn run(&mut self) -> Result<bool, RepositoryError> {
        let (repository, storage) = (self.repository, self.repository.storage());
        // A mark that cannot be read does not keep anybody from reading chunks; writers ask for the
        // marks themselves before they confirm anything.
        let (marks, damaged) = repository.readable_marks()?;
        damaged.iter().for_each(|mark| repository.report(mark.object, &mark.error));
        let segments = storage.list(ObjectKind::Segment)?.objects;
        let segments = segments.into_iter().map(|(name, _)| SegmentId(name.id)).collect();
        let packs = repository.list_packs()?;
        for segment in self.drop_what_is_gone(&packs, &segments)? {
            self.take_in_segment(segment, &packs)?;
        }
        self.adopt_packs(&packs)?;
        let condemned: Vec<PackId> = marks.into_iter().flat_map(|mark| mark.packs).collect();
        self.index.condemn(&condemned);
        Ok(!self.is_outdated)
    }

    /// Drops what the repository no longer has, and returns the segments that are new.
    fn drop_what_is_gone(
        &mut self,
        packs: &BTreeMap<PackId, u64>,
        segments: &HashSet<SegmentId>,
    ) -> Result<Vec<SegmentId>, UnusableIndex> {
        let known: HashSet<SegmentId> = self.index.segments()?.into_iter().collect();
        let gone: Vec<PackId> = self
            .index
            .packs()
            .filter(|(id, len)| packs.get(id) != Some(len))
            .map(|(id, _)| id)
            .collect();
        let old: Vec<SegmentId> = known.difference(segments).copied().collect();
        if !gone.is_empty() || !old.is_empty() {
            self.index.forget(&gone, &old)?;
        }
        let mut new: Vec<SegmentId> = segments.difference(&known).copied().collect();
        new.sort_unstable();
        Ok(new)
    }

    fn take_in_segment(
        &mut self,
        id: SegmentId,
        packs: &BTreeMap<PackId, u64>,
    ) -> Result<(), RepositoryError> {
        let listed = match self.repository.read_segment(id) {
            Ok(listed) => listed,
            Err(error) if error.is_damage() => {
                // Its packs are adopted from their own footers instead.
                self.repository.report(ObjectName::segment(id), &error);
                return Ok(());
            }
            // Replaced since the segments were listed; its packs are adopted likewise.
            Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NotFound => {
                self.is_outdated = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let all: Vec<PackId> = listed.iter().map(|pack| pack.id).collect();
        let present: Vec<NewPack> = listed
            .into_iter()
            .filter(|pack| packs.get(&pack.id) == Some(&pack.len))
            .filter_map(|pack| {
                let footer = Footer::decode(&pack.footer).ok()?;
                Some(NewPack { id: pack.id, len: pack.len, encoded: pack.footer, footer })
            })
            .collect();
        Ok(self.index.add(Some((id, &all)), &present)?)
    }

    /// Takes in packs that no segment lists: an interrupted run left them, and nothing that was
    /// packed is lost.
    fn adopt_packs(&mut self, packs: &BTreeMap<PackId, u64>) -> Result<(), RepositoryError> {
        let unknown: Vec<(PackId, u64)> = packs
            .iter()
            .filter(|(id, _)| self.index.pack_len(id).is_none())
            .map(|(id, len)| (*id, *len))
            .collect();
        let mut reader = PackReader::new(self.repository);
        for (id, len) in unknown {
            match reader.footer(id, len) {
                Ok((encoded, footer)) => {
                    self.index.add(None, &[NewPack { id, len, encoded, footer }])?;
                }
                Err(error) if error.is_damage() => {
                    if self.repository.has(ObjectName::pack(id))? {
                        self.repository.report(ObjectName::pack(id), &error);
                    } else {
                        self.is_outdated = true;
                    }
                }
                Err(RepositoryError::Storage(error))
                    if error.kind == StorageErrorKind::NotFound =>
                {
                    self.is_outdated = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
