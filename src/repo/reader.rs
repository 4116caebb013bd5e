//! Reading: from pack to block to chunk, every byte authenticated and every chunk compared with
//! its id before anybody sees it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::base::{Base, BaseBlocks};
use super::index::Location;
use super::{Repository, RepositoryError};
use crate::codec::{Codec, Encoding};
use crate::crypto::ChunkKind;
use crate::crypto::header::{HEADER_LEN, ObjectType};
use crate::crypto::seal::{FOOTER_SLOT, ObjectSealer, OpenError, PartKind};
use crate::format::pack::{Footer, FooterChunk, TRAILER_LEN, Trailer};
use crate::id::{ChunkId, PackId};
use crate::storage::{ObjectName, StorageErrorKind};

/// Most plain bytes of blocks that a chunk reader keeps.
const BLOCKS_KEPT: usize = 8 << 20;
/// Most packs whose sealer a reader keeps: making one costs a read and a key.
const SEALERS_KEPT: usize = 64;

/// Opens the parts of packs. One for each thread.
pub struct PackReader<'r> {
    repository: &'r Repository,
    /// Made when the first block is read: most readers of footers read none.
    codec: Option<Codec>,
    sealers: HashMap<PackId, Arc<ObjectSealer>>,
    stored: Vec<u8>,
    /// Blocks that hold bases of the blocks read last.
    bases: BaseBlocks,
}

impl std::fmt::Debug for PackReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackReader")
    }
}

impl<'r> PackReader<'r> {
    /// A reader of the packs of `repository`.
    pub fn new(repository: &'r Repository) -> Self {
        Self {
            repository,
            codec: None,
            sealers: HashMap::new(),
            stored: Vec::new(),
            bases: BaseBlocks::default(),
        }
    }

    /// # Panics
    /// When there is no memory for a decompression context.
    fn codec(&mut self) -> &mut Codec {
        self.codec.get_or_insert_with(|| {
            Codec::new(1).expect("a decompression context takes little memory")
        })
    }

    fn sealer(&mut self, pack: PackId) -> Result<Arc<ObjectSealer>, RepositoryError> {
        if let Some(sealer) = self.sealers.get(&pack) {
            return Ok(Arc::clone(sealer));
        }
        let mut header = [0; HEADER_LEN];
        self.read_range(pack, 0, &mut header)?;
        let repository = self.repository;
        let sealer = ObjectSealer::for_opening(
            repository.keys(),
            repository.id(),
            repository.config().sealing,
            ObjectType::Pack,
            &pack.0,
            &header,
        );
        let sealer =
            Arc::new(sealer.map_err(|e| RepositoryError::not_opened(ObjectName::pack(pack), &e))?);
        if self.sealers.len() >= SEALERS_KEPT {
            self.sealers.clear();
        }
        self.sealers.insert(pack, Arc::clone(&sealer));
        Ok(sealer)
    }

    /// Reads a range of a pack. A pack that is too short, or gone, is damage: something refers to
    /// it.
    fn read_range(&self, pack: PackId, offset: u64, out: &mut [u8]) -> Result<(), RepositoryError> {
        let name = ObjectName::pack(pack);
        self.repository.storage().read_range(name, offset, out).map_err(|error| match error.kind {
            StorageErrorKind::NotFound | StorageErrorKind::Truncated => RepositoryError::Damaged {
                object: name.to_string(),
                reason: match error.kind {
                    StorageErrorKind::NotFound => "it is missing".to_owned(),
                    _ => "it is too short".to_owned(),
                },
            },
            _ => error.into(),
        })
    }

    /// The footer of a pack of `len` bytes, encoded and decoded.
    ///
    /// # Errors
    /// When the pack is cut short, damaged, or cannot be read.
    pub fn footer(&mut self, pack: PackId, len: u64) -> Result<(Vec<u8>, Footer), RepositoryError> {
        let name = ObjectName::pack(pack);
        let damaged = |reason: &str| RepositoryError::Damaged {
            object: name.to_string(),
            reason: reason.to_owned(),
        };
        let trailer_at = len.checked_sub((HEADER_LEN + TRAILER_LEN) as u64);
        trailer_at.ok_or_else(|| damaged("it is too short"))?;
        let mut trailer = [0; TRAILER_LEN];
        self.read_range(pack, len - TRAILER_LEN as u64, &mut trailer)?;
        let trailer =
            Trailer::decode(&trailer).map_err(|error| RepositoryError::damaged(name, &error))?;
        let start = (len - TRAILER_LEN as u64)
            .checked_sub(u64::from(trailer.footer_len))
            .filter(|start| *start >= HEADER_LEN as u64)
            .ok_or_else(|| damaged("its footer would begin before it does"))?;
        // Before memory is taken for the footer.
        let sealer = self.sealer(pack)?;
        let mut bytes = vec![0; trailer.footer_len as usize];
        self.read_range(pack, start, &mut bytes)?;
        sealer
            .open(PartKind::Footer, FOOTER_SLOT, &mut bytes)
            .map_err(|error| RepositoryError::not_opened(name, &error))?;
        let footer =
            Footer::decode(&bytes).map_err(|error| RepositoryError::damaged(name, &error))?;
        if footer.end() != start {
            return Err(damaged("its blocks do not end where its footer begins"));
        }
        Ok((bytes, footer))
    }

    /// Puts the plain bytes of the block at `location` into `out`. The bases of one that has some
    /// are looked up in the index, which must be loaded.
    ///
    /// # Errors
    /// When the block, or a base of it, is damaged or cannot be read.
    pub fn block(&mut self, location: &Location, out: &mut Vec<u8>) -> Result<(), RepositoryError> {
        let mut encoded = std::mem::take(&mut self.stored);
        let result = self.encoded_block(location, &mut encoded, out);
        self.stored = encoded;
        result
    }

    /// As [`Self::block`], and leaves in `encoded` the bytes as they were before they were sealed:
    /// they can be sealed again, in another pack, without being compressed again.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn encoded_block(
        &mut self,
        location: &Location,
        encoded: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let base = self.base(location)?;
        self.block_against(location, &base, encoded, out)
    }

    /// What the block at `location` is encoded against; nothing for most blocks.
    fn base(&mut self, location: &Location) -> Result<Vec<u8>, RepositoryError> {
        if location.encoding != Encoding::Delta {
            return Ok(Vec::new());
        }
        let bases = self.repository.bases_of_block(location)?;
        match self.join(location, &bases) {
            Err(error) if error.is_damage() && self.repository.follow_bases(&bases)? => {
                let bases = self.repository.bases_of_block(location)?;
                self.join(location, &bases)
            }
            result => result,
        }
    }

    /// The bytes of `bases`, which are those of the block at `location`, one behind the other, each
    /// compared with its id.
    ///
    /// # Errors
    /// When a base is in none of its places, or cannot be read.
    pub fn join(
        &mut self,
        location: &Location,
        bases: &[Base],
    ) -> Result<Vec<u8>, RepositoryError> {
        let mut blocks = std::mem::take(&mut self.bases);
        let joined = blocks.join(self, location, bases);
        self.bases = blocks;
        joined
    }

    /// As [`Self::encoded_block`], by a caller who has what the block is encoded against.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn block_against(
        &mut self,
        location: &Location,
        base: &[u8],
        encoded: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        self.open_block(location, encoded)?;
        let name = ObjectName::pack(location.pack);
        let plain_len = location.block_plain_len as usize;
        let decoded = match location.encoding {
            Encoding::Delta => self.codec().decode_delta(base, encoded, plain_len, out),
            encoding => self.codec().decode(encoding, encoded, plain_len, out),
        };
        decoded.map_err(|error| RepositoryError::damaged(name, &error))
    }

    /// Keys of the repository that it reads.
    pub(super) fn keys(&self) -> &'r crate::crypto::keys::Keys {
        self.repository.keys()
    }

    /// Reads a block and opens its seal.
    fn open_block(
        &mut self,
        location: &Location,
        encoded: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let name = ObjectName::pack(location.pack);
        encoded.clear();
        encoded.resize(location.block_stored_len as usize, 0);
        self.read_range(location.pack, location.block_offset, encoded)?;
        match self.sealer(location.pack)?.open(PartKind::Block, location.block, encoded) {
            Ok(()) => Ok(()),
            Err(OpenError::NotAuthentic) => Err(RepositoryError::Damaged {
                object: name.to_string(),
                reason: format!("block {} is damaged or forged", location.block),
            }),
            Err(error) => Err(RepositoryError::not_opened(name, &error)),
        }
    }
}

/// Compares every chunk of a plain block with its id; gives the ids that do not fit.
pub fn check_block(
    repository: &Repository,
    plain: &[u8],
    chunks: &[FooterChunk],
) -> Vec<(ChunkKind, ChunkId)> {
    let mut rest = plain;
    let mut wrong = Vec::new();
    for chunk in chunks {
        let (bytes, tail) = rest.split_at(rest.len().min(chunk.len as usize));
        rest = tail;
        if repository.keys().chunk_id(chunk.kind, bytes) != chunk.id {
            wrong.push((chunk.kind, chunk.id));
        }
    }
    wrong
}

/// Reads chunks by id, keeping the blocks read last: neighbours in a tree are neighbours in packs.
pub struct ChunkReader<'r> {
    packs: PackReader<'r>,
    blocks: VecDeque<(PackId, u32, Arc<Vec<u8>>)>,
    kept: usize,
}

impl std::fmt::Debug for ChunkReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkReader")
    }
}

impl<'r> ChunkReader<'r> {
    /// A reader of the chunks of `repository`, whose index is loaded.
    pub fn new(repository: &'r Repository) -> Self {
        Self { packs: PackReader::new(repository), blocks: VecDeque::new(), kept: 0 }
    }

    /// The repository it reads from.
    pub fn repository(&self) -> &'r Repository {
        self.packs.repository
    }

    /// Where `id` lies.
    ///
    /// # Errors
    /// When it is in no pack.
    pub fn locate(&self, id: &ChunkId) -> Result<Location, RepositoryError> {
        self.repository().locate(id)?.ok_or(RepositoryError::MissingChunk(*id))
    }

    /// Appends the bytes of the chunk to `out`.
    ///
    /// # Errors
    /// When the chunk is missing or damaged in every pack that should have it.
    pub fn read(
        &mut self,
        kind: ChunkKind,
        id: &ChunkId,
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let location = self.locate(id)?;
        match self.read_at(&location, kind, id, out) {
            Err(error) if error.is_damage() => {
                let found = self.read_elsewhere(kind, id, out)?;
                let repository = self.repository();
                let found = found
                    || repository.follow_prune(location.pack)?
                        && self.read_elsewhere(kind, id, out)?;
                if found { Ok(()) } else { Err(error) }
            }
            result => result,
        }
    }

    /// Tries all packs that hold the same chunk; whether one of them had it.
    ///
    /// # Errors
    /// When a pack could not be reached, and no other one had the chunk: that is no damage.
    fn read_elsewhere(
        &mut self,
        kind: ChunkKind,
        id: &ChunkId,
        out: &mut Vec<u8>,
    ) -> Result<bool, RepositoryError> {
        let places = self.repository().locate_all(id)?;
        let mut unreached = None;
        for place in &places {
            match self.read_at(place, kind, id, out) {
                Ok(()) => return Ok(true),
                Err(error) if error.is_about_one_object() => {}
                Err(error) => unreached = Some(error),
            }
        }
        unreached.map_or(Ok(false), Err)
    }

    fn read_at(
        &mut self,
        location: &Location,
        kind: ChunkKind,
        id: &ChunkId,
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let block = self.block(location)?;
        let start = location.offset as usize;
        let bytes = block.get(start..start + location.len as usize);
        let bytes = bytes.filter(|bytes| {
            location.kind == kind && self.repository().keys().chunk_id(kind, bytes) == *id
        });
        let Some(bytes) = bytes else {
            return Err(RepositoryError::Damaged {
                object: ObjectName::pack(location.pack).to_string(),
                reason: format!("chunk {id} is not what its id says"),
            });
        };
        out.extend_from_slice(bytes);
        Ok(())
    }

    /// The plain block at `location`.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn block(&mut self, location: &Location) -> Result<Arc<Vec<u8>>, RepositoryError> {
        let held = self
            .blocks
            .iter()
            .position(|(pack, block, _)| (*pack, *block) == (location.pack, location.block));
        if let Some(at) = held
            && let Some(found) = self.blocks.remove(at)
        {
            let plain = Arc::clone(&found.2);
            self.blocks.push_back(found);
            return Ok(plain);
        }
        let mut plain = Vec::new();
        self.packs.block(location, &mut plain)?;
        let plain = Arc::new(plain);
        self.kept += plain.len();
        self.blocks.push_back((location.pack, location.block, Arc::clone(&plain)));
        while self.kept > BLOCKS_KEPT && self.blocks.len() > 1 {
            if let Some((_, _, old)) = self.blocks.pop_front() {
                self.kept -= old.len();
            }
        }
        Ok(plain)
    }
}
