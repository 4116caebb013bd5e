//! Blocks that are encoded against chunks of others: what they hold is lost with one of their
//! bases, though not a byte of their own pack is damaged.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::data::block_is_bad;
use super::lock;
use super::picture::{Copy, Picture};
use super::report::{self, Report};
use crate::codec::Encoding;
use crate::format::pack::{Footer, MAX_BASE_LEN};
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::index::{Location, PackFooter};
use crate::repo::{Base, PackReader};
use crate::storage::ObjectName;

/// A block with bases.
struct Delta {
    pack: u32,
    block: u32,
    first_chunk: u32,
    chunk_count: u32,
    bases: Vec<ChunkId>,
}

/// All of them, and which lack a base.
#[derive(Default)]
pub(super) struct Deltas {
    /// Sorted by pack and first chunk once all are in.
    all: Vec<Delta>,
    /// Those (by position in `all`) that cannot be decoded for lack of a base, and why.
    lacking: Mutex<HashMap<usize, String>>,
    told: Mutex<HashSet<usize>>,
}

impl Deltas {
    /// Takes in the blocks of a pack.
    pub(super) fn add(&mut self, pack: u32, footer: &Footer) {
        let numbered = footer.blocks.iter().zip(0u32..);
        for (block, number) in numbered.filter(|(block, _)| block.encoding == Encoding::Delta) {
            self.all.push(Delta {
                pack,
                block: number,
                first_chunk: block.first_chunk,
                chunk_count: block.chunk_count,
                bases: footer.bases_of(block).to_vec(),
            });
        }
    }

    pub(super) fn finish(&mut self) {
        self.all.sort_unstable_by_key(|delta| (delta.pack, delta.first_chunk));
    }

    /// The block with bases in which a chunk lies, if it lies in one.
    fn of(&self, pack: u32, chunk: u32) -> Option<usize> {
        let after =
            self.all.partition_point(|delta| (delta.pack, delta.first_chunk) <= (pack, chunk));
        let at = after.checked_sub(1)?;
        let delta = &self.all[at];
        (delta.pack == pack && chunk - delta.first_chunk < delta.chunk_count).then_some(at)
    }

    /// Whether the chunk cannot be decoded for lack of a base.
    pub(super) fn is_lacking(&self, pack: u32, chunk: u32) -> bool {
        self.of(pack, chunk).is_some_and(|at| lock(&self.lacking).contains_key(&at))
    }

    /// Whether a block of the pack lacks a base.
    pub(super) fn pack_is_lacking(&self, pack: u32) -> bool {
        lock(&self.lacking).keys().any(|at| self.all[*at].pack == pack)
    }

    fn lacks(&self, at: usize, why: String) {
        lock(&self.lacking).entry(at).or_insert(why);
    }
}

impl Picture {
    /// Finds the blocks that lack a base, as far as is known by now.
    pub(super) fn check_bases(&self) {
        let deltas = self.deltas();
        for (at, delta) in deltas.all.iter().enumerate() {
            let mut len = 0;
            for base in &delta.bases {
                match self.plain_copies(base).next() {
                    Some(copy) => len += u64::from(copy.len),
                    None => {
                        let why = "which is in no pack that can be used";
                        let why = format!("it is encoded against chunk {base}, {why}");
                        deltas.lacks(at, why);
                    }
                }
            }
            if len > u64::from(MAX_BASE_LEN) {
                deltas.lacks(at, "it is encoded against more than is allowed".to_owned());
            }
        }
    }

    /// Copies of a chunk that may be a base.
    fn plain_copies(&self, id: &ChunkId) -> impl Iterator<Item = &Copy> {
        let plain = |copy: &&Copy| self.deltas().of(copy.pack, copy.chunk).is_none();
        self.copies_of(id).iter().filter(plain).filter(|copy| !self.is_known_bad(copy))
    }

    /// Reads the plain bytes of a block; false when it cannot be read. Damage of its pack is noted
    /// and reported; that a base cannot be had is no damage of its pack, and told of when
    /// something needs the block.
    pub(super) fn read_block(
        &self,
        report: &Report<'_>,
        reader: &mut PackReader<'_>,
        no: u32,
        pack: &PackFooter,
        place: &Location,
        plain: &mut Vec<u8>,
    ) -> Result<bool, OpError> {
        let read = match self.deltas().of(no, pack.footer.blocks[place.block as usize].first_chunk)
        {
            None => reader.block(place, plain),
            Some(at) => match self.base(report, reader, place, at)? {
                None => return Ok(false),
                Some(base) => reader.block_against(place, &base, &mut Vec::new(), plain),
            },
        };
        if let Err(error) = read {
            let reason = report::reason(error)?;
            block_is_bad(report, self, no, pack, place.block, reason)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// What the block at `place`, number `at` of those with bases, is encoded against. Nothing, and
    /// the block is known to lack a base from then on, when that cannot be had.
    fn base(
        &self,
        report: &Report<'_>,
        reader: &mut PackReader<'_>,
        place: &Location,
        at: usize,
    ) -> Result<Option<Vec<u8>>, OpError> {
        if lock(&self.deltas().lacking).contains_key(&at) {
            return Ok(None);
        }
        let mut bases = Vec::new();
        for base in &self.deltas().all[at].bases {
            let mut places = Vec::new();
            for copy in self.plain_copies(base) {
                if let Some(pack) = self.footer(report, reader, copy.pack)? {
                    places.push(pack.location(copy.chunk));
                }
            }
            bases.push(Base { id: *base, places });
        }
        match reader.join(place, &bases) {
            Ok(base) => Ok(Some(base)),
            Err(error) => {
                self.deltas().lacks(at, report::reason(error)?);
                Ok(None)
            }
        }
    }

    /// Reports, once for each block, what a chunk lacks that is needed and cannot be had.
    pub(super) fn tell_lacking(&self, report: &Report<'_>, id: &ChunkId) {
        let deltas = self.deltas();
        for copy in self.copies_of(id) {
            let Some(at) = deltas.of(copy.pack, copy.chunk) else { continue };
            let Some(why) = lock(&deltas.lacking).get(&at).cloned() else { continue };
            if !lock(&deltas.told).insert(at) {
                continue;
            }
            let (delta, pack) = (&deltas.all[at], self.packs[copy.pack as usize].id);
            let (block, count) = (delta.block, delta.chunk_count);
            let text = format!("block {block} cannot be decoded ({count} chunks): {why}");
            report.problem(ObjectName::pack(pack), text);
        }
    }
}
