//! The writer that a snapshot works with, and the per-thread state of its workers.

use std::sync::Arc;

use super::claims::Claims;
use super::packer::{PackClass, Packer, WriteTotals};
use crate::codec::{Codec, EncodeError, Encoding};
use crate::crypto::ChunkKind;
use crate::format::pack::{FooterChunk, MAX_BASES, MAX_BLOCK_CHUNKS};
use crate::id::{ChunkId, PackId, SegmentId, SessionId};
use crate::repo::{ChunkReader, Repository, RepositoryError, Sealed};

/// Most bytes of bases of one block: zstd at the level that is used looks no further back.
const MAX_BASE: usize = 2 << 20;

/// Adds chunks to a repository.
pub struct Writer {
    repository: Arc<Repository>,
    claims: Arc<Claims>,
    packer: Arc<Packer>,
    finisher: Option<std::thread::JoinHandle<()>>,
    level: i32,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Starts writing to `repository`, whose index is loaded, with zstd `level`.
    pub fn new(repository: &Arc<Repository>, level: i32) -> Self {
        let claims = Arc::new(Claims::new());
        let (packer, finisher) = Packer::start(repository, &claims);
        let repository = Arc::clone(repository);
        Self { repository, claims, packer, finisher, level }
    }

    /// Says which session the packs belong to that are begun from now on: as long as it is
    /// announced, no pruner takes them for garbage.
    pub fn announce(&self, session: SessionId) {
        self.packer.announce(session);
    }

    /// The repository it writes to.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// A worker for one thread, storing chunks of `class`.
    ///
    /// # Errors
    /// When there is no memory for a compression context.
    pub fn worker(&self, class: PackClass) -> Result<Worker, RepositoryError> {
        let config = self.repository.config();
        let block_size = match class {
            PackClass::Content => config.block_size,
            PackClass::Pages => config.page_block_size,
        };
        Ok(Worker {
            repository: Arc::clone(&self.repository),
            claims: Arc::clone(&self.claims),
            packer: Arc::clone(&self.packer),
            codec: Codec::new(self.level)?,
            class,
            block_size: block_size as usize,
            plain: Vec::new(),
            chunks: Vec::new(),
            stored: Vec::new(),
        })
    }

    /// Makes everything that workers have flushed durable, and lists the new packs in an index
    /// segment so that other machines need not read every footer.
    ///
    /// # Errors
    /// When storage fails, now or earlier in the background.
    pub fn checkpoint(&self) -> Result<(), RepositoryError> {
        self.packer.flush()?;
        self.packer.list_finished()
    }

    /// Makes everything that workers have flushed durable, and gives an index segment that lists the
    /// new packs, to be published: [`Self::segment_was_published`] is to be told. Nothing when there
    /// are none.
    ///
    /// # Errors
    /// When storage fails, now or earlier in the background.
    pub fn finish(&self) -> Result<Option<Sealed>, RepositoryError> {
        self.packer.flush()?;
        let packs = self.packer.take_unlisted();
        if packs.is_empty() {
            return Ok(None);
        }
        let segment = self.repository.seal_segment(SegmentId::random(), &packs);
        self.packer.still_unlisted(packs);
        self.packer.count_bytes(segment.bytes.len() as u64);
        Ok(Some(segment))
    }

    /// The segment is there that [`Self::finish`] gave last.
    pub fn segment_was_published(&self) {
        drop(self.packer.take_unlisted());
    }

    /// Ends the writer, also one that failed, and lists the packs that it finished in an index
    /// segment: to be called before the session ends that they belong to. What is in the making
    /// leaves nothing behind.
    ///
    /// # Errors
    /// When storage fails.
    pub fn close(mut self) -> Result<(), RepositoryError> {
        self.stop();
        if self.packer.has_lost_track() {
            let lost = "packs may be in no index segment".to_owned();
            return self.packer.list_finished().and(Err(RepositoryError::Writer(lost)));
        }
        // Under another name, once: a fault may have been of the moment.
        self.packer.list_finished().or_else(|_| self.packer.list_finished())
    }

    fn stop(&mut self) {
        self.packer.stop();
        if let Some(finisher) = self.finisher.take() {
            // What it was doing is done or has failed, and a panic there is a failure.
            let _ = finisher.join();
        }
    }

    /// What was added so far.
    pub fn totals(&self) -> WriteTotals {
        self.packer.totals()
    }

    /// Counts bytes of records that the caller published itself.
    pub fn count_bytes(&self, bytes: u64) {
        self.packer.count_bytes(bytes);
    }

    /// Packs in which chunks were found and not stored again.
    pub fn relied_on(&self) -> Vec<PackId> {
        self.claims.relied_on()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Gathers the new chunks of one thread into blocks.
pub struct Worker {
    repository: Arc<Repository>,
    claims: Arc<Claims>,
    packer: Arc<Packer>,
    codec: Codec,
    class: PackClass,
    block_size: usize,
    plain: Vec<u8>,
    chunks: Vec<FooterChunk>,
    stored: Vec<u8>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({:?})", self.class)
    }
}

impl Worker {
    /// Ends the whole writer: a thread that stored chunks failed, so chunks that others rely on may
    /// never be stored.
    pub fn fail(&self, error: &RepositoryError) {
        self.packer.fail(error.again());
    }

    /// The repository it writes to.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Makes sure that the repository will have the chunk with these bytes; returns its id.
    ///
    /// # Errors
    /// When storage fails or the bytes cannot be encoded so that they come back.
    pub fn store(&mut self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkId, RepositoryError> {
        let (chunk, is_new) = self.claim(kind, bytes)?;
        if is_new {
            self.store_claimed(chunk, bytes)?;
        }
        Ok(chunk.id)
    }

    /// As [`Self::store`], so that the chunk may be the base of a block.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_plain(&mut self, kind: ChunkKind, bytes: &[u8]) -> Result<(), RepositoryError> {
        let chunk = self.describe(kind, bytes)?;
        if self.claims.claim_plain(&self.repository, &chunk.id)? {
            self.gather(chunk, bytes)?;
        }
        Ok(())
    }

    fn describe(&self, kind: ChunkKind, bytes: &[u8]) -> Result<FooterChunk, RepositoryError> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| RepositoryError::Writer("a chunk is too long".to_owned()))?;
        Ok(FooterChunk { kind, id: self.repository.keys().chunk_id(kind, bytes), len })
    }

    /// The chunk with these bytes, and whether the caller must store it now, by
    /// [`Self::store_claimed`] or [`Self::store_against`]: nobody else will.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn claim(
        &mut self,
        kind: ChunkKind,
        bytes: &[u8],
    ) -> Result<(FooterChunk, bool), RepositoryError> {
        let chunk = self.describe(kind, bytes)?;
        Ok((chunk, self.claims.claim(&self.repository, &chunk.id)?))
    }

    /// Stores a chunk that was claimed.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_claimed(
        &mut self,
        chunk: FooterChunk,
        bytes: &[u8],
    ) -> Result<(), RepositoryError> {
        self.gather(chunk, bytes)
    }

    /// Stores chunks that were claimed, whose bytes are `plain` together, as a block that is
    /// encoded against the chunks `bases`, which `reader` reads. False, and nothing is stored, when
    /// that would not save half of what they take by themselves, or a base cannot be had.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_against(
        &mut self,
        reader: &mut ChunkReader<'_>,
        bases: &[(ChunkKind, ChunkId)],
        chunks: &[FooterChunk],
        plain: &[u8],
    ) -> Result<bool, RepositoryError> {
        if bases.is_empty() || bases.len() > MAX_BASES || chunks.len() > MAX_BLOCK_CHUNKS {
            return Ok(false);
        }
        let Some(base) = self.read_bases(reader, bases)? else { return Ok(false) };
        let alone = match self.codec.encode(plain, &mut self.stored)? {
            Encoding::Raw => plain.len(),
            Encoding::Zstd | Encoding::Delta => self.stored.len(),
        };
        self.codec.encode_delta(&base, plain, &mut self.stored)?;
        // Each base's id is in the footer and in an index segment.
        let taken = self.stored.len() + bases.len() * 2 * ChunkId::LEN;
        if taken >= alone / 2 {
            return Ok(false);
        }
        let mut rest = &base[..];
        for (kind, id) in bases {
            // What it was encoded against must be what a reader will find, too.
            let len = reader.locate(id)?.len as usize;
            let (bytes, tail) = rest.split_at(rest.len().min(len));
            rest = tail;
            if self.repository.keys().chunk_id(*kind, bytes) != *id {
                return Err(EncodeError::NotReversible.into());
            }
        }
        if !crate::repo::check_block(&self.repository, plain, chunks).is_empty() {
            return Err(EncodeError::NotReversible.into());
        }
        let ids: Vec<ChunkId> = bases.iter().map(|(_, id)| *id).collect();
        self.packer.append(self.class, Encoding::Delta, &mut self.stored, chunks, &ids)?;
        Ok(true)
    }

    /// The bytes of all bases; nothing when one of them cannot be had or may not be counted on.
    fn read_bases(
        &self,
        reader: &mut ChunkReader<'_>,
        bases: &[(ChunkKind, ChunkId)],
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        let mut bytes = Vec::new();
        for (kind, id) in bases {
            let Some((pack, _)) = self.repository.standing_plain(id)? else { return Ok(None) };
            self.claims.rely_on(pack);
            match reader.read(*kind, id, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.is_damage() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok((bytes.len() <= MAX_BASE).then_some(bytes))
    }

    /// Makes sure that the repository will have the `wanted` chunks (by position) of a block that
    /// was read from one of its packs: `encoded` are its bytes before they were sealed and `plain`
    /// after they were decoded. A block of which everything is wanted is not compressed again, and
    /// keeps its `bases`.
    ///
    /// # Errors
    /// As [`Self::store`]; when a chunk is not what its id says.
    pub fn store_block(
        &mut self,
        (encoding, bases): (Encoding, &[ChunkId]),
        encoded: &mut Vec<u8>,
        plain: &[u8],
        chunks: &[FooterChunk],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(), RepositoryError> {
        if !crate::repo::check_block(&self.repository, plain, chunks).is_empty() {
            return Err(EncodeError::NotReversible.into());
        }
        let mut taken = Vec::with_capacity(chunks.len());
        for (at, chunk) in chunks.iter().enumerate() {
            let claims = &self.claims;
            taken.push(
                wanted(at)
                    && match encoding {
                        Encoding::Delta => claims.claim(&self.repository, &chunk.id)?,
                        // It may be a base.
                        Encoding::Raw | Encoding::Zstd => {
                            claims.claim_plain(&self.repository, &chunk.id)?
                        }
                    },
            );
        }
        if taken.iter().all(|taken| *taken) {
            return self.packer.append(self.class, encoding, encoded, chunks, bases);
        }
        let mut rest = plain;
        for (chunk, taken) in chunks.iter().zip(taken) {
            let (bytes, tail) = rest.split_at(rest.len().min(chunk.len as usize));
            rest = tail;
            if taken {
                self.gather(*chunk, bytes)?;
            }
        }
        Ok(())
    }

    fn gather(&mut self, chunk: FooterChunk, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.plain.extend_from_slice(bytes);
        self.chunks.push(chunk);
        if self.plain.len() >= self.block_size || self.chunks.len() >= MAX_BLOCK_CHUNKS {
            self.flush()?;
        }
        Ok(())
    }

    /// Compresses, verifies and seals what was gathered.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn flush(&mut self) -> Result<(), RepositoryError> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let encoding = self.codec.encode(&self.plain, &mut self.stored)?;
        self.verify_gathered()?;
        self.packer.append(self.class, encoding, &mut self.stored, &self.chunks, &[])?;
        self.plain.clear();
        self.chunks.clear();
        Ok(())
    }

    /// Hashes the gathered bytes a second time, after the encoder's output was compared with them:
    /// memory that flipped a bit since the first hash would otherwise store damage under a good id.
    fn verify_gathered(&self) -> Result<(), RepositoryError> {
        let wrong = crate::repo::check_block(&self.repository, &self.plain, &self.chunks);
        if wrong.is_empty() { Ok(()) } else { Err(EncodeError::NotReversible.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::passphrase::KdfCosts;
    use crate::repo::{InitOptions, Unlock};
    use crate::storage::{MemoryStorage, ObjectKind, Storage as _};

    fn plaintext(storage: &MemoryStorage) -> Arc<Repository> {
        let options = InitOptions {
            unlock: Unlock::Nothing,
            costs: KdfCosts::default(),
            label: String::new(),
            now: "2026-11-22T00:00:00Z".to_owned(),
            parity_per_mille: None,
            delta: false,
        };
        Repository::init(storage, "here", &options).unwrap();
        let place = Arc::new(storage.clone());
        let opened = Repository::open(place, "here", &Unlock::Nothing, None, Arc::new(()));
        let repository = Arc::new(opened.unwrap());
        repository.load_index().unwrap();
        repository
    }

    /// Memory that flips a bit after a chunk was hashed must not bring damage under a good id.
    #[test]
    fn a_bit_that_flips_before_the_block_is_sealed_is_noticed() {
        let storage = MemoryStorage::new();
        let repository = plaintext(&storage);
        let before = storage.names();
        let chunks = [&b"one chunk"[..], b"", b"and another"];
        let bits = chunks.concat().len() * 8;
        for bit in 0..bits {
            let writer = Writer::new(&repository, 1);
            let mut worker = writer.worker(PackClass::Content).unwrap();
            for chunk in chunks {
                worker.store(ChunkKind::Content, chunk).unwrap();
            }
            worker.plain[bit / 8] ^= 1 << (bit % 8);
            for _ in 0..2 {
                let error = worker.flush().unwrap_err();
                assert!(matches!(error, RepositoryError::Encode(EncodeError::NotReversible)));
            }
            writer.checkpoint().unwrap();
            assert_eq!(storage.names(), before, "nothing was stored from it");
        }
    }

    /// A first snapshot of very many small files may be over before a checkpoint is due.
    #[test]
    fn footers_do_not_wait_in_memory_for_a_checkpoint() {
        let storage = MemoryStorage::new();
        let repository = plaintext(&storage);
        let writer = Writer::new(&repository, 1);
        let mut worker = writer.worker(PackClass::Content).unwrap();
        let segments = || storage.list(ObjectKind::Segment).unwrap().objects;
        for number in 0..(1u32 << 18) + 1 {
            worker.store(ChunkKind::Content, &number.to_le_bytes()).unwrap();
        }
        worker.flush().unwrap();
        writer.packer.flush().unwrap();
        let [(first, _)] = segments()[..] else { panic!("{:?}", segments()) };
        let first = repository.read_segment(SegmentId(first.id)).unwrap();
        writer.checkpoint().unwrap();
        let all: Vec<SegmentId> = segments().iter().map(|(name, _)| SegmentId(name.id)).collect();
        let listed: usize = all.iter().map(|id| repository.read_segment(*id).unwrap().len()).sum();
        assert_eq!((first.len(), all.len(), listed as u64), (1, 2, writer.totals().packs));
    }
}
