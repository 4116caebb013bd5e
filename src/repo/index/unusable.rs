//! Why a cached index is made anew.

use super::catalogue::CatalogueError;

/// The cached files cannot be used and should be made anew.
#[derive(Debug, thiserror::Error)]
#[error("the cached index cannot be used: {0}")]
pub struct UnusableIndex(pub(super) String);

impl UnusableIndex {
    /// For a reason that is not an error of the files.
    pub(in crate::repo) fn because(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<CatalogueError> for UnusableIndex {
    fn from(error: CatalogueError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for UnusableIndex {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
