//! Why an operation stopped.

use crate::repo::RepositoryError;
use crate::source::SourceError;

/// An operation stopped. Nothing that it was to confirm was confirmed.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The repository failed.
    #[error(transparent)]
    Repository(RepositoryError),
    /// A source that was named cannot be used at all.
    #[error(transparent)]
    Source(SourceError),
    /// A stream failed.
    #[error(transparent)]
    Stream(StreamFailure),
    /// No snapshot fits what was asked for.
    #[error("no snapshot {0} in the repository")]
    UnknownSnapshot(String),
    /// Several snapshots begin with what was asked for.
    #[error("{wanted} could be any of the snapshots {}", candidates.join(", "))]
    AmbiguousSnapshot {
        /// The prefix.
        wanted: String,
        /// The ids it could mean.
        candidates: Vec<String>,
    },
    /// A snapshot does not hold a path.
    #[error("snapshot {snapshot} holds no {path}")]
    NoSuchPath {
        /// The snapshot's id.
        snapshot: String,
        /// The path, for people.
        path: String,
    },
    /// What was asked for cannot be done as it was said.
    #[error("{0}")]
    Refused(String),
    /// The caller asked to stop.
    #[error("interrupted; what was stored so far is kept and the next run goes on from there")]
    Interrupted,
}

impl From<RepositoryError> for OpError {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

impl From<SourceError> for OpError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<StreamFailure> for OpError {
    fn from(error: StreamFailure) -> Self {
        Self::Stream(error)
    }
}

/// A stream that must not be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {name}: {reason}")]
pub struct StreamFailure {
    /// The stream's name.
    pub name: String,
    /// What was wrong, in words.
    pub reason: String,
    /// The last lines that its command wrote to its standard error.
    pub stderr_tail: Vec<String>,
}
