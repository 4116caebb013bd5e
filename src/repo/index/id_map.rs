//! Maps and sets of chunk ids.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::ChunkId;

/// Chunk ids are keyed hashes already: their first bytes are as good as any hash of them.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    /// The id's bytes come last, behind their length.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }
}

/// A map from chunk id.
pub type IdMap<V> = HashMap<ChunkId, V, BuildHasherDefault<IdHasher>>;
/// A set of chunk ids.
pub type IdSet = HashSet<ChunkId, BuildHasherDefault<IdHasher>>;
