//! The check's own picture of what lies where, made from the packs in storage.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::bases::Deltas;
use super::lock;
use super::report::{self, Report};
use crate::crypto::ChunkKind;
use crate::format::pack::Footer;
use crate::id::{ChunkId, PackId};
use crate::ops::OpError;
use crate::repo::index::PackFooter;
use crate::repo::{PackReader, RepositoryError};
use crate::storage::{ObjectKind, ObjectName};

/// Bytes of an id that are kept: no two ids agree in so many by chance.
const PREFIX_LEN: usize = 16;
/// Chunks in the footers that are kept decoded.
const CHUNKS_SHELVED: usize = 1 << 20;

/// A pack.
pub(in crate::ops) struct Pack {
    pub(in crate::ops) id: PackId,
    pub(in crate::ops) len: u64,
    /// Hash of its footer as it lies in the pack; none when that cannot be read.
    pub(super) footer_hash: Option<[u8; 32]>,
}

/// A copy of a chunk: 32 bytes for each.
#[derive(Clone, Copy)]
pub(super) struct Copy {
    prefix: [u8; PREFIX_LEN],
    pub(super) pack: u32,
    /// Its position in the pack's footer.
    pub(super) chunk: u32,
    pub(super) len: u32,
    kind: ChunkKind,
}

/// What lies where.
pub(in crate::ops) struct Picture {
    pub(in crate::ops) packs: Vec<Pack>,
    numbers: HashMap<PackId, u32>,
    /// Sorted by prefix, then pack.
    copies: Vec<Copy>,
    /// Footers that only an index segment has.
    spare: HashMap<u32, Arc<PackFooter>>,
    shelf: Mutex<Shelf>,
    damage: Mutex<Damage>,
    /// Whether `damage` holds anything: it mostly does not, and is asked for every chunk.
    any_damage: AtomicBool,
    deltas: Deltas,
}

#[derive(Default)]
struct Shelf {
    held: HashMap<u32, Arc<PackFooter>>,
    chunks: usize,
}

#[derive(Default)]
struct Damage {
    blocks: HashSet<(u32, u32)>,
    /// Copies (pack, position) that are not what their id says, whatever their block.
    chunks: HashSet<(u32, u32)>,
}

fn prefix(id: &ChunkId) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes.copy_from_slice(&id.0[..PREFIX_LEN]);
    bytes
}

fn copies(pack: u32, footer: &Footer) -> impl Iterator<Item = Copy> + '_ {
    footer.chunks.iter().zip(0..).map(move |(chunk, at)| Copy {
        prefix: prefix(&chunk.id),
        pack,
        chunk: at,
        len: chunk.len,
        kind: chunk.kind,
    })
}

impl Picture {
    /// Reads the header, footer and trailer of every pack.
    pub(super) fn read(report: &Report<'_>) -> Result<Self, OpError> {
        let mut picture = Self::of_lengths(list(report)?.into_iter());
        report.total(picture.packs.len() as u64, 0);
        let found = Mutex::new((Vec::new(), Deltas::default()));
        let hashes = picture.packs.par_iter().zip(0u32..u32::MAX).map_init(
            || PackReader::new(report.repository),
            |reader, (pack, no)| {
                report.go_on()?;
                let footer = read_footer(report, reader, pack)?;
                report.progress(1, 0);
                Ok(footer.map(|(encoded, footer)| {
                    let mut found = lock(&found);
                    found.0.extend(copies(no, &footer));
                    found.1.add(no, &footer);
                    *blake3::hash(&encoded).as_bytes()
                }))
            },
        );
        let hashes: Vec<Option<[u8; 32]>> = hashes.collect::<Result<_, OpError>>()?;
        for (pack, hash) in picture.packs.iter_mut().zip(hashes) {
            pack.footer_hash = hash;
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        (picture.copies, picture.deltas) = found;
        Ok(picture)
    }

    /// A picture of packs whose footers are not known yet.
    pub(super) fn of_lengths(packs: impl Iterator<Item = (PackId, u64)>) -> Self {
        let packs: Vec<Pack> = packs.map(|(id, len)| Pack { id, len, footer_hash: None }).collect();
        Self {
            numbers: packs.iter().zip(0..).map(|(pack, no)| (pack.id, no)).collect(),
            packs,
            copies: Vec::new(),
            spare: HashMap::new(),
            shelf: Mutex::default(),
            damage: Mutex::default(),
            any_damage: AtomicBool::new(false),
            deltas: Deltas::default(),
        }
    }

    /// The number of a pack.
    pub(super) fn number(&self, id: &PackId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// Takes the footer of a pack whose own cannot be read from somewhere else.
    pub(super) fn add_spare(&mut self, no: u32, footer: Footer) {
        if self.spare.contains_key(&no) {
            return;
        }
        self.copies.extend(copies(no, &footer));
        self.deltas.add(no, &footer);
        let pack = &self.packs[no as usize];
        let footer = PackFooter { id: pack.id, len: pack.len, footer };
        self.spare.insert(no, Arc::new(footer));
    }

    /// Whether the pack's footer is known only from an index segment.
    pub(super) fn has_spare(&self, no: u32) -> bool {
        self.spare.contains_key(&no)
    }

    /// To be called when all footers are in: from now on chunks can be found.
    pub(super) fn finish(&mut self, report: &Report<'_>) {
        self.deltas.finish();
        self.copies.par_sort_unstable_by_key(|copy| (copy.prefix, copy.pack, copy.chunk));
        let twice = self.copies.windows(2).filter(|pair| pair[0].prefix == pair[1].prefix);
        let (count, bytes) =
            twice.fold((0u64, 0u64), |sum, pair| (sum.0 + 1, sum.1 + u64::from(pair[1].len)));
        if count > 0 {
            report.note(format!(
                "{count} chunks with {bytes} plain bytes are stored more than once; prune may \
                 take back their space"
            ));
        }
    }

    /// How many chunks there are, duplicates counted.
    pub(super) fn chunk_count(&self) -> u64 {
        self.copies.len() as u64
    }

    /// All copies of a chunk.
    pub(super) fn copies_of(&self, id: &ChunkId) -> &[Copy] {
        let wanted = prefix(id);
        let start = self.copies.partition_point(|copy| copy.prefix < wanted);
        let rest = &self.copies[start..];
        &rest[..rest.iter().take_while(|copy| copy.prefix == wanted).count()]
    }

    /// Whether content of `len` bytes with this id is in some pack, as far as is known by now.
    pub(super) fn has_content(&self, id: &ChunkId, len: u32) -> bool {
        let fits = |copy: &&Copy| copy.kind == ChunkKind::Content && copy.len == len;
        let mut copies = self.copies_of(id).iter().filter(fits);
        copies.any(|copy| !self.is_known_bad(copy))
    }

    /// Blocks that are encoded against others.
    pub(super) fn deltas(&self) -> &Deltas {
        &self.deltas
    }

    /// Whether this copy was found to be damaged, or to lack a base.
    pub(super) fn is_known_bad(&self, copy: &Copy) -> bool {
        self.is_known_damaged(copy) || self.deltas.is_lacking(copy.pack, copy.chunk)
    }

    fn is_known_damaged(&self, copy: &Copy) -> bool {
        self.any_damage.load(Ordering::Acquire)
            && lock(&self.damage).chunks.contains(&(copy.pack, copy.chunk))
    }

    /// Notes that a copy is not what its id says.
    pub(super) fn mark_chunk(&self, pack: u32, chunk: u32) {
        lock(&self.damage).chunks.insert((pack, chunk));
        self.any_damage.store(true, Ordering::Release);
    }

    /// Notes that a block cannot be read, and with it none of its chunks. False when that was
    /// known before.
    pub(super) fn mark_block(&self, pack: u32, block: u32, footer: &Footer) -> bool {
        let mut damage = lock(&self.damage);
        if !damage.blocks.insert((pack, block)) {
            return false;
        }
        let block = &footer.blocks[block as usize];
        let chunks = block.first_chunk..block.first_chunk + block.chunk_count;
        damage.chunks.extend(chunks.map(|chunk| (pack, chunk)));
        self.any_damage.store(true, Ordering::Release);
        true
    }

    /// Whether other packs are there by now.
    pub(super) fn is_stale(&self, report: &Report<'_>) -> Result<bool, OpError> {
        let now: HashMap<PackId, u64> = list(report)?.into_iter().collect();
        let known = |pack: &Pack| now.contains_key(&pack.id);
        Ok(now.len() != self.packs.len() || !self.packs.iter().all(known))
    }

    /// The packs that are not whole, as far as is known: with a damaged block, or without a footer
    /// of their own that can be read.
    pub(in crate::ops) fn damaged_packs(&self) -> BTreeSet<PackId> {
        let numbered = self.packs.iter().zip(0u32..);
        let without = numbered.filter(|(pack, _)| pack.footer_hash.is_none());
        let damage = lock(&self.damage);
        let damaged = damage.chunks.iter().map(|(no, _)| *no).chain(without.map(|(_, no)| no));
        damaged.map(|no| self.packs[no as usize].id).collect()
    }

    /// Whether a chunk of the pack was found to be damaged, or to lack a base.
    pub(super) fn is_damaged(&self, pack: u32) -> bool {
        let lacking = self.deltas.pack_is_lacking(pack);
        lacking
            || self.any_damage.load(Ordering::Acquire)
                && lock(&self.damage).chunks.iter().any(|(damaged, _)| *damaged == pack)
    }

    /// The copies of chunks that were found to be damaged.
    pub(in crate::ops) fn bad_copies(&self) -> Vec<(PackId, u32)> {
        let damage = lock(&self.damage);
        let by_id = |&(pack, chunk): &(u32, u32)| (self.packs[pack as usize].id, chunk);
        damage.chunks.iter().map(by_id).collect()
    }

    /// Takes over which copies are damaged from an earlier picture.
    pub(super) fn mark_bad_copies(&self, copies: &[(PackId, u32)]) {
        let known = copies.iter().filter_map(|(id, chunk)| Some((self.number(id)?, *chunk)));
        known.for_each(|(pack, chunk)| self.mark_chunk(pack, chunk));
    }

    /// The footer of a pack; nothing when it cannot be read (which was reported).
    pub(super) fn footer(
        &self,
        report: &Report<'_>,
        reader: &mut PackReader<'_>,
        no: u32,
    ) -> Result<Option<Arc<PackFooter>>, OpError> {
        if let Some(found) = self.spare.get(&no) {
            return Ok(Some(Arc::clone(found)));
        }
        let pack = &self.packs[no as usize];
        if pack.footer_hash.is_none() {
            return Ok(None);
        }
        if let Some(found) = lock(&self.shelf).held.get(&no) {
            return Ok(Some(Arc::clone(found)));
        }
        let footer = match reader.footer(pack.id, pack.len) {
            Ok((_, footer)) => footer,
            Err(error) => return unusable(report, pack.id, error).map(|()| None),
        };
        let made = Arc::new(PackFooter { id: pack.id, len: pack.len, footer });
        let mut shelf = lock(&self.shelf);
        if shelf.chunks > CHUNKS_SHELVED {
            *shelf = Shelf::default();
        }
        shelf.chunks += made.footer.chunks.len();
        shelf.held.insert(no, Arc::clone(&made));
        Ok(Some(made))
    }
}

fn read_footer(
    report: &Report<'_>,
    reader: &mut PackReader<'_>,
    pack: &Pack,
) -> Result<Option<(Vec<u8>, Footer)>, OpError> {
    match reader.footer(pack.id, pack.len) {
        Ok(found) => Ok(Some(found)),
        Err(error) => unusable(report, pack.id, error).map(|()| None),
    }
}

/// Reports a pack whose footer cannot be read, unless a pruner deleted it since the packs were
/// listed.
fn unusable(report: &Report<'_>, id: PackId, error: RepositoryError) -> Result<(), OpError> {
    let (name, reason) = (ObjectName::pack(id), report::reason(error)?);
    if !report.is_gone(name) {
        report.problem(name, format!("the pack cannot be used by itself: {reason}"));
    }
    Ok(())
}

/// The packs that are there, with their lengths in bytes.
fn list(report: &Report<'_>) -> Result<Vec<(PackId, u64)>, OpError> {
    let listed = report.list(ObjectKind::Pack)?.map(|listing| listing.objects).unwrap_or_default();
    Ok(listed.into_iter().map(|(name, len)| (PackId(name.id), len)).collect())
}
