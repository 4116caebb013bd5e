//! The repository: opening it, its keys, its records, and where its chunks lie.

mod base;
mod confirm;
pub mod error;
mod forget;
pub mod index;
mod memory;
mod open;
mod parity;
mod reader;
mod records;
mod refresh;
mod slots;
mod snapshots;
pub mod times;
mod write;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use base::Base;
pub use confirm::{PreparedRecord, Sealed};
pub use error::RepositoryError;
pub use memory::{RepositoryMemory, SnapshotChanges};
pub use open::{InitOptions, OpenOptions, Unlock};
pub use parity::{PackState, ParityHead, pack_state, parity_head, publish_parity};
pub use reader::{ChunkReader, PackReader, check_block};
pub use records::{Damaged, ReadAll, SEGMENT_BYTES, SEGMENT_PACKS};
pub use slots::{OpenedBy, SlotInfo, SlotState};
pub use snapshots::{CopyState, Presence, SnapshotRecords};
pub use write::{PackClass, Worker, WriteTotals, Writer};

use crate::crypto::keys::Keys;
use crate::event::Observer;
use crate::format::config::Config;
use crate::id::RepositoryId;
use crate::storage::Storage;
use index::Index;

/// An open repository.
pub struct Repository {
    storage: Arc<dyn Storage>,
    place: String,
    config: Config,
    keys: Keys,
    opened_by: Option<OpenedBy>,
    memory: Option<Arc<RepositoryMemory>>,
    cache_base: Option<std::path::PathBuf>,
    index: RwLock<Index>,
    /// How often the index was made anew because the cached one could not be used.
    index_made: std::sync::atomic::AtomicU64,
    observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.config.repository_id, self.place)
    }
}

impl Repository {
    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository_id
    }

    /// Where it is, in the words of the user.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The key slot that opened it; none in a repository without encryption.
    pub fn opened_by(&self) -> Option<OpenedBy> {
        self.opened_by
    }

    /// Where its objects are kept.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Who is told what happens.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// The index, for looking up.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Repository {
    /// Pages of about 16 entries, so that small trees have many.
    pub(crate) fn shrink_pages_for_tests(&mut self) {
        self.config.pages.fan_out_bits = 4;
    }
}
