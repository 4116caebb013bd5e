//! Damaged packs: what can be read of them is stored again, what is lost is taken from wherever it
//! still is, and then they are moved aside.

use std::collections::{BTreeMap, BTreeSet};

use super::{Repair, live};
use crate::codec::Encoding;
use crate::crypto::ChunkKind;
use crate::format::pack::Footer;
use crate::format::snapshot::Mark;
use crate::id::{ChunkId, PackId, SegmentId};
use crate::ops::OpError;
use crate::ops::check::Looked;
use crate::repo::index::PackFooter;
use crate::repo::{PackClass, PackReader, RepositoryError, Worker, Writer};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// Repairs the packs, and stores again what snapshots have lost.
pub(super) fn repair(repair: &Repair<'_>, looked: &Looked) -> Result<(), OpError> {
    let damaged = looked.picture.damaged_packs();
    if damaged.is_empty() && looked.lost.is_empty() {
        return Ok(());
    }
    if repair.options.dry_run {
        for id in &damaged {
            repair.set_aside(ObjectName::pack(*id))?;
        }
        return Ok(());
    }
    let repository = repair.repository;
    repair.phase("storing again what can be read of damaged packs");
    let footers = footers(repair, looked, &damaged)?;
    repository.load_index()?;
    // From here on their chunks are not to be found where they are.
    repository.condemn(&damaged.iter().copied().collect::<Vec<_>>());
    let writer = Writer::new(repository, repair.options.compression);
    let stored = store(repair, &writer, looked, &damaged, &footers);
    let closed = writer.close();
    let movable = stored?;
    closed?;
    move_aside(repair, &movable)
}

/// Stores all that can be had; returns the packs of which nothing more can be.
fn store(
    repair: &Repair<'_>,
    writer: &Writer,
    looked: &Looked,
    damaged: &BTreeSet<PackId>,
    footers: &BTreeMap<PackId, PackFooter>,
) -> Result<Vec<PackId>, OpError> {
    let mut rescue = Rescue { repair, writer, workers: None };
    let mut movable = Vec::new();
    for id in damaged {
        repair.go_on()?;
        let whole = match footers.get(id) {
            Some(pack) => rescue.pack(pack)?,
            None => rescue.is_worthless(*id, looked)?,
        };
        if whole {
            movable.push(*id);
        }
    }
    rescue.flush()?;
    writer.checkpoint()?;
    let mut lost: BTreeMap<ChunkId, u32> = BTreeMap::new();
    for (id, len) in &looked.lost {
        if repair.repository.standing(id)?.is_none() {
            lost.insert(*id, *len);
        }
    }
    if !lost.is_empty() && !repair.options.from.is_empty() {
        repair.phase("looking for lost content in the sources");
        live::search(repair, lost, &mut |bytes| rescue.chunk(ChunkKind::Content, bytes, false))?;
    }
    rescue.flush()?;
    writer.checkpoint()?;
    Ok(movable)
}

/// The footers of damaged packs: their own, or what an index segment says of them, whatever length
/// they have by now.
fn footers(
    repair: &Repair<'_>,
    looked: &Looked,
    damaged: &BTreeSet<PackId>,
) -> Result<BTreeMap<PackId, PackFooter>, OpError> {
    let repository = repair.repository;
    let mut found = BTreeMap::new();
    let mut reader = PackReader::new(repository);
    for pack in looked.picture.packs.iter().filter(|pack| damaged.contains(&pack.id)) {
        match reader.footer(pack.id, pack.len) {
            Ok((_, footer)) => {
                found.insert(pack.id, PackFooter { id: pack.id, len: pack.len, footer });
            }
            // An error when the repository cannot be reached: that says nothing of the pack.
            Err(error) => drop(is_lost(error)?),
        }
    }
    if found.len() == damaged.len() {
        return Ok(found);
    }
    let segments = repository.storage().list(ObjectKind::Segment).map_err(RepositoryError::from)?;
    for (name, _) in segments.objects {
        let packs = match repository.read_segment(SegmentId(name.id)) {
            Ok(packs) => packs,
            Err(error) if is_for_good(&error) => continue,
            // It may have the only footer of a pack that would be given up without.
            Err(error) => return Err(error.into()),
        };
        for pack in packs.into_iter().filter(|pack| damaged.contains(&pack.id)) {
            if let Ok(footer) = Footer::decode(&pack.footer) {
                let listed = PackFooter { id: pack.id, len: pack.len, footer };
                found.entry(pack.id).or_insert(listed);
            }
        }
    }
    Ok(found)
}

/// Stores chunks again.
struct Rescue<'a, 'r> {
    repair: &'a Repair<'r>,
    writer: &'a Writer,
    /// For content and for pages; made when the first chunk comes.
    workers: Option<[Worker; 2]>,
}

impl Rescue<'_, '_> {
    /// Makes sure that a chunk is in a whole pack; it is stored when it is in none. One that may be
    /// a base must be in a block that is encoded against no other.
    fn chunk(&mut self, kind: ChunkKind, bytes: &[u8], is_base: bool) -> Result<(), OpError> {
        let repository = self.repair.repository;
        let id = repository.keys().chunk_id(kind, bytes);
        let standing =
            if is_base { repository.standing_plain(&id)? } else { repository.standing(&id)? };
        if standing.is_some() {
            return Ok(());
        }
        if self.workers.is_none() {
            self.writer.announce(self.repair.announce()?);
            let worker = |class| self.writer.worker(class);
            self.workers = Some([worker(PackClass::Content)?, worker(PackClass::Pages)?]);
        }
        let Some([content, pages]) = &mut self.workers else { return Ok(()) };
        match kind {
            ChunkKind::Content => content.store_plain(kind, bytes)?,
            ChunkKind::Page | ChunkKind::ContentPage => pages.store_plain(kind, bytes)?,
        }
        self.repair.done.borrow_mut().chunks += 1;
        Ok(())
    }

    /// Stores again what can be read of a pack. Whether all of that was read: a pack that storage
    /// did not hand out this time is not given up.
    fn pack(&mut self, pack: &PackFooter) -> Result<bool, OpError> {
        let mut reader = PackReader::new(self.repair.repository);
        let mut plain = Vec::new();
        let mut all = true;
        for block in &pack.footer.blocks {
            self.repair.go_on()?;
            match reader.block(&pack.location(block.first_chunk), &mut plain) {
                Ok(()) => {}
                Err(error) => {
                    all &= is_lost(error)?;
                    continue;
                }
            }
            let mut rest = plain.as_slice();
            for chunk in pack.footer.chunks_of(block) {
                let (bytes, tail) = rest.split_at(rest.len().min(chunk.len as usize));
                rest = tail;
                if self.repair.repository.keys().chunk_id(chunk.kind, bytes) == chunk.id {
                    self.chunk(chunk.kind, bytes, block.encoding != Encoding::Delta)?;
                }
            }
        }
        Ok(all)
    }

    /// Whether a pack of which nobody knows what it holds can be given up: not when storage just
    /// did not hand it out.
    fn is_worthless(&self, id: PackId, looked: &Looked) -> Result<bool, OpError> {
        let pack = looked.picture.packs.iter().find(|pack| pack.id == id);
        let Some(pack) = pack else { return Ok(false) };
        match PackReader::new(self.repair.repository).footer(id, pack.len) {
            Ok(_) => Ok(false),
            Err(error) => is_lost(error),
        }
    }

    fn flush(&mut self) -> Result<(), OpError> {
        for worker in self.workers.iter_mut().flatten() {
            worker.flush()?;
        }
        Ok(())
    }
}

/// Whether what `error` is about is lost. A bad sector is; a refusal or a network that fails may
/// pass.
fn is_for_good(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::NewerFormat { .. } => false,
        RepositoryError::Storage(error) if error.is_bad_sector() => true,
        error => error.is_damage(),
    }
}

/// As [`is_for_good`]; an error when there is no going on.
fn is_lost(error: RepositoryError) -> Result<bool, OpError> {
    match error {
        error if is_for_good(&error) => Ok(true),
        RepositoryError::NewerFormat { .. } => Ok(false),
        RepositoryError::Storage(error) if error.kind != StorageErrorKind::PlaceLost => Ok(false),
        error => Err(error.into()),
    }
}

/// Moves packs to the quarantine of which all that can be read lies elsewhere, by the way of packs
/// that are pruned: condemned first, and only when nobody is at work who may not have seen that.
fn move_aside(repair: &Repair<'_>, packs: &[PackId]) -> Result<(), OpError> {
    if packs.is_empty() {
        return Ok(());
    }
    let repository = repair.repository;
    let wait = || {
        repair.done.borrow_mut().packs_waiting = packs.len() as u64;
        repair.note(format!(
            "{} damaged packs stay where they are, because somebody else is at work; the next \
             repair moves them aside",
            packs.len()
        ));
        Ok(())
    };
    if repair.others_at_work()? {
        return wait();
    }
    repair.phase("moving damaged packs aside");
    let session = repair.announce()?;
    let mark = Mark { session, packs: packs.to_vec(), waits_for: None };
    let mark = ObjectName::mark(repository.publish_mark(&mark)?);
    let withdraw = || repository.storage().delete(mark).map_err(RepositoryError::from);
    // Whoever came before the mark was visible is seen now; whoever comes later sees the mark.
    if repair.others_at_work()? {
        withdraw()?;
        return wait();
    }
    let moved = packs.iter().try_for_each(|id| {
        repair.set_aside(ObjectName::pack(*id))?;
        Ok(repository.drop_from_index(&[*id])?)
    });
    // Nobody will delete what is still there, so it need not stay condemned.
    withdraw()?;
    moved
}
