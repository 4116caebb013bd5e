//! Notes on folders that lie beside the index in the cache.

use super::{Index, UnusableIndex};
use crate::id::ChunkId;

impl Index {
    /// What a client noted of the folders of the tree below `root`, if it was this one and lately.
    ///
    /// # Errors
    /// When the catalogue is damaged.
    pub fn seen_folders(&self, root: &ChunkId) -> Result<Option<Vec<u8>>, UnusableIndex> {
        Ok(self.known().seen_folders(root)?)
    }

    /// Keeps notes on the folders of the tree below `root`, in the cache folder, if there is one.
    ///
    /// # Errors
    /// When the catalogue cannot be written.
    pub fn keep_seen_folders(&self, root: &ChunkId, notes: &[u8]) -> Result<(), UnusableIndex> {
        Ok(self.known().keep_seen_folders(root, notes)?)
    }
}
