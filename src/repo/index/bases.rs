//! Blocks that are encoded against chunks of others: such a block is worth as much as its bases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Index, PackFooter, UnusableIndex};
use crate::codec::Encoding;
use crate::id::{ChunkId, PackId};

/// What is known of blocks with bases.
#[derive(Debug, Default)]
pub(super) struct Bases {
    expected: bool,
    /// Whether all bases of a block (pack, number) stand; holds until packs come or go.
    stand: Mutex<HashMap<(u32, u32), bool>>,
}

impl Bases {
    /// Whether any block may have some.
    pub(super) fn are_expected(&self) -> bool {
        self.expected
    }

    /// Packs came, went or were condemned.
    pub(super) fn ask_again(&mut self) {
        self.stand.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether the chunk at this position lies in a block that needs no other.
fn is_plain(pack: &PackFooter, chunk: u32) -> bool {
    pack.footer.blocks[pack.footer.block_of(chunk)].encoding != Encoding::Delta
}

impl Index {
    /// From now on blocks may have bases.
    pub fn expect_bases(&mut self) {
        self.bases.expected = true;
    }

    /// As [`Self::standing`], in a block that is encoded against no other: such a copy may be a
    /// base.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn standing_plain(&self, id: &ChunkId) -> Result<Option<(PackId, u32)>, UnusableIndex> {
        self.find(id, |no, pack, chunk| {
            let stands = !self.condemned.contains(&no) && is_plain(pack, chunk);
            stands.then_some((pack.id, chunk))
        })
    }

    pub(super) fn standing_with_bases(
        &self,
        id: &ChunkId,
    ) -> Result<Option<(PackId, u32)>, UnusableIndex> {
        let mut with_bases = Vec::new();
        let plain = self.find(id, |no, pack, chunk| {
            if self.condemned.contains(&no) {
                return None;
            }
            if is_plain(pack, chunk) {
                return Some((pack.id, chunk));
            }
            with_bases.push((no, chunk));
            None
        })?;
        if plain.is_some() {
            return Ok(plain);
        }
        for (no, chunk) in with_bases {
            let Some(pack) = self.footer(no)? else { continue };
            if self.bases_stand(no, &pack, chunk)? {
                return Ok(Some((pack.id, chunk)));
            }
        }
        Ok(None)
    }

    fn bases_stand(
        &self,
        no: u32,
        pack: &Arc<PackFooter>,
        chunk: u32,
    ) -> Result<bool, UnusableIndex> {
        let block = pack.footer.block_of(chunk);
        let key = (no, u32::try_from(block).unwrap_or(u32::MAX));
        let known = || self.bases.stand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stand) = known().get(&key).copied() {
            return Ok(stand);
        }
        let mut stand = true;
        for base in pack.footer.bases_of(&pack.footer.blocks[block]) {
            stand = stand && self.standing_plain(base)?.is_some();
        }
        known().insert(key, stand);
        Ok(stand)
    }

    /// Whether a copy of `id` is in any pack, condemned or not, whose bases are in such packs.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn can_be_decoded(&self, id: &ChunkId) -> Result<bool, UnusableIndex> {
        let mut with_bases = Vec::new();
        let plain = self.find(id, |_, pack, chunk| {
            if is_plain(pack, chunk) {
                return Some(());
            }
            with_bases.push((pack.id, chunk));
            None
        })?;
        if plain.is_some() {
            return Ok(true);
        }
        for (pack, chunk) in with_bases {
            let mut all = true;
            for base in self.bases(&pack, chunk)? {
                all = all
                    && self.find(&base, |_, pack, at| is_plain(pack, at).then_some(()))?.is_some();
            }
            if all {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The chunks that the block is encoded against in which the chunk at position `chunk` of
    /// `pack` lies: none, mostly.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn bases(&self, pack: &PackId, chunk: u32) -> Result<Vec<ChunkId>, UnusableIndex> {
        if !self.bases.expected {
            return Ok(Vec::new());
        }
        let footer = self.pack_footer(pack)?;
        Ok(footer.map_or_else(Vec::new, |pack| {
            let block = &pack.footer.blocks[pack.footer.block_of(chunk)];
            pack.footer.bases_of(block).to_vec()
        }))
    }
}
