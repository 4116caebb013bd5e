//! Bases: the chunks of other blocks that a block is encoded against.

use std::collections::VecDeque;
use std::sync::Arc;

use super::index::Location;
use super::{PackReader, Repository, RepositoryError};
use crate::codec::Encoding;
use crate::format::pack::MAX_BASE_LEN;
use crate::id::{ChunkId, PackId};
use crate::storage::ObjectName;

/// Most plain bytes of blocks with bases that a reader of packs keeps: neighbouring blocks have
/// neighbouring bases.
const BYTES_KEPT: usize = 4 << 20;

/// A base of a block, and where it lies.
#[derive(Debug, Clone)]
pub struct Base {
    /// The chunk.
    pub id: ChunkId,
    /// Its places. Those in blocks that have bases themselves do not count.
    pub places: Vec<Location>,
}

/// Blocks that hold bases, the one read last at the end.
#[derive(Default)]
pub(super) struct BaseBlocks {
    kept: VecDeque<(PackId, u32, Arc<Vec<u8>>)>,
    bytes: usize,
}

impl BaseBlocks {
    /// The bytes of `bases`, one behind the other, for the block at `location`.
    pub(super) fn join(
        &mut self,
        packs: &mut PackReader<'_>,
        location: &Location,
        bases: &[Base],
    ) -> Result<Vec<u8>, RepositoryError> {
        let unusable = |id: &ChunkId, why: &str| RepositoryError::Damaged {
            object: ObjectName::pack(location.pack).to_string(),
            reason: format!("block {} is encoded against chunk {id}, which {why}", location.block),
        };
        let mut joined = Vec::new();
        for Base { id, places } in bases {
            let mut why = "is in no pack that can be used";
            let mut found = false;
            for place in places.iter().filter(|place| place.encoding != Encoding::Delta) {
                if joined.len() + place.len as usize > MAX_BASE_LEN as usize {
                    why = "makes its base too long";
                    break;
                }
                match self.append(packs, place, id, &mut joined) {
                    Ok(true) => {
                        found = true;
                        break;
                    }
                    Ok(false) => why = "is damaged",
                    Err(error) if error.is_damage() => why = "cannot be read",
                    Err(error) => return Err(error),
                }
            }
            if !found {
                return Err(unusable(id, why));
            }
        }
        Ok(joined)
    }

    /// Appends the chunk at `place` to `joined`; false when it is not what its id says.
    fn append(
        &mut self,
        packs: &mut PackReader<'_>,
        place: &Location,
        id: &ChunkId,
        joined: &mut Vec<u8>,
    ) -> Result<bool, RepositoryError> {
        let block = self.block(packs, place)?;
        let start = place.offset as usize;
        let bytes = block.get(start..start + place.len as usize);
        let bytes = bytes.filter(|bytes| packs.keys().chunk_id(place.kind, bytes) == *id);
        joined.extend_from_slice(bytes.unwrap_or_default());
        Ok(bytes.is_some())
    }

    fn block(
        &mut self,
        packs: &mut PackReader<'_>,
        place: &Location,
    ) -> Result<Arc<Vec<u8>>, RepositoryError> {
        let is_it = |kept: &(PackId, u32, _)| (kept.0, kept.1) == (place.pack, place.block);
        if let Some(at) = self.kept.iter().position(is_it)
            && let Some(found) = self.kept.remove(at)
        {
            let plain = Arc::clone(&found.2);
            self.kept.push_back(found);
            return Ok(plain);
        }
        let (mut encoded, mut plain) = (Vec::new(), Vec::new());
        packs.block_against(place, &[], &mut encoded, &mut plain)?;
        let plain = Arc::new(plain);
        self.bytes += plain.len();
        self.kept.push_back((place.pack, place.block, Arc::clone(&plain)));
        while self.bytes > BYTES_KEPT && self.kept.len() > 1 {
            if let Some((_, _, old)) = self.kept.pop_front() {
                self.bytes -= old.len();
            }
        }
        Ok(plain)
    }
}

impl Repository {
    /// What a block may be encoded against in the place of the chunk `id`: the chunk itself, or
    /// what its own block is encoded against. Bases have no bases.
    ///
    /// # Errors
    /// When the index cannot be made anew.
    pub fn base_for(&self, id: &ChunkId) -> Result<Vec<ChunkId>, RepositoryError> {
        if self.standing_plain(id)?.is_some() {
            return Ok(vec![*id]);
        }
        let Some((pack, chunk)) = self.standing(id)? else { return Ok(Vec::new()) };
        self.bases(&pack, chunk)
    }

    /// The bases of the block at `location`, none for most, and where the index says that they are.
    pub(super) fn bases_of_block(&self, location: &Location) -> Result<Vec<Base>, RepositoryError> {
        if location.encoding != Encoding::Delta {
            return Ok(Vec::new());
        }
        let pack = self.ask_index(|index| index.pack_footer(&location.pack))?;
        let block = pack.as_ref().and_then(|pack| {
            let block = pack.footer.blocks.get(location.block as usize)?;
            Some(pack.footer.bases_of(block))
        });
        let ids = block.ok_or_else(|| RepositoryError::Damaged {
            object: ObjectName::pack(location.pack).to_string(),
            reason: format!("what block {} is encoded against is not known", location.block),
        })?;
        ids.iter().map(|id| Ok(Base { id: *id, places: self.locate_all(id)? })).collect()
    }

    /// Brings the index up to date when a pack with a base is not there any more; whether one is
    /// not.
    pub(super) fn follow_bases(&self, bases: &[Base]) -> Result<bool, RepositoryError> {
        let mut gone = false;
        for place in bases.iter().flat_map(|base| &base.places) {
            gone = gone || self.follow_prune(place.pack)?;
        }
        Ok(gone)
    }
}
