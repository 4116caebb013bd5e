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
        let mut shard = self.shard(id);
        if shard.contains(id) {
            return Ok(false);
        }
        if let Some(pack) = repository.holder(id)? {
            lock(&self.relied_on).insert(pack);
            return Ok(false);
        }
        shard.insert(*id);
        Ok(true)
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
