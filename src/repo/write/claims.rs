//! Claims: the one place that decides whether a chunk is new.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::{ChunkId, PackId};
use crate::repo::index::IdSet;
use crate::repo::{Repository, RepositoryError};

/// Locks that share the claims, so that threads rarely wait for each other.
const SHARDS: usize = 64;

/// What this process is about to store, and what it relies on.
#[derive(Debug)]
pub(super) struct Claims {
    /// Chunks that were claimed and are not yet in the index.
    pending: Vec<Mutex<IdSet>>,
    /// Packs in which chunks were found.
    relied_on: Mutex<HashSet<PackId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claims {
    pub(super) fn new() -> Self {
        let pending = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { pending, relied_on: Mutex::default() }
    }

    fn shard(&self, id: &ChunkId) -> MutexGuard<'_, IdSet> {
        lock(&self.pending[usize::from(id.0[31]) % SHARDS])
    }

    /// Whether the caller must store the chunk. For each chunk this is said once.
    pub(super) fn claim(
        &self,
        repository: &Repository,
        id: &ChunkId,
    ) -> Result<bool, RepositoryError> {
        self.claim_unless(id, || repository.holder(id))
    }

    /// As [`Self::claim`], by a caller who will store the chunk so that it may be a base: copies in
    /// blocks that are encoded against others do not count.
    pub(super) fn claim_plain(
        &self,
        repository: &Repository,
        id: &ChunkId,
    ) -> Result<bool, RepositoryError> {
        self.claim_unless(id, || Ok(repository.standing_plain(id)?.map(|(pack, _)| pack)))
    }

    fn claim_unless(
        &self,
        id: &ChunkId,
        holder: impl FnOnce() -> Result<Option<PackId>, RepositoryError>,
    ) -> Result<bool, RepositoryError> {
        let mut shard = self.shard(id);
        if shard.contains(id) {
            return Ok(false);
        }
        if let Some(pack) = holder()? {
            self.rely_on(pack);
            return Ok(false);
        }
        shard.insert(*id);
        Ok(true)
    }

    /// Something in `pack` is counted on.
    pub(super) fn rely_on(&self, pack: PackId) {
        lock(&self.relied_on).insert(pack);
    }

    /// The chunk is in the index now.
    pub(super) fn settle(&self, id: &ChunkId) {
        self.shard(id).remove(id);
    }

    /// The packs in which chunks were found.
    pub(super) fn relied_on(&self) -> Vec<PackId> {
        lock(&self.relied_on).iter().copied().collect()
    }
}
