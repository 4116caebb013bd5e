//! The folder of a client's own, derived data about one repository.

use std::path::{Path, PathBuf};

use crate::id::RepositoryId;

/// Where the index keeps its files.
#[derive(Debug, Clone)]
pub struct CacheFolder(PathBuf);

impl CacheFolder {
    /// The folder of one repository below the cache folder `base`. SQLite's locks do not work on
    /// network file systems; the caller passes none then and lives with an index in memory.
    pub fn new(base: &Path, repository: RepositoryId) -> Self {
        Self(base.join(repository.to_string()))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, for its owner only, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }
}
