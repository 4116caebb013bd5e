//! Why an operation stopped.

use std::path::PathBuf;

use crate::repo::RepositoryError;
use crate::source::SourceError;
use crate::target::TargetError;
use crate::threads::Panicked;

/// An operation stopped. Nothing that it was to confirm was confirmed.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The repository failed.
    #[error(transparent)]
    Repository(RepositoryError),
    /// A source that was named cannot be used at all.
    #[error(transparent)]
    Source(SourceError),
    /// The target of a restore cannot be used.
    #[error(transparent)]
    Target(TargetError),
    /// The target of a restore is not empty, and nothing was said about what is in it.
    #[error("{} is not empty", .0.display())]
    TargetNotEmpty(PathBuf),
    /// It cannot be known what a restore must not delete.
    #[error("cannot delete what the snapshot does not have: {0}")]
    CannotDelete(String),
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
    /// What the result was written to failed: a closed pipe, a full disk.
    #[error("the output could not be written")]
    Output(#[source] std::io::Error),
    /// The caller asked to stop.
    #[error("interrupted; what was stored so far is kept and the next run goes on from there")]
    Interrupted,
    /// gabion itself failed.
    #[error(transparent)]
    Internal(Panicked),
}

impl From<Panicked> for OpError {
    fn from(error: Panicked) -> Self {
        Self::Internal(error)
    }
}

impl OpError {
    /// The same error; one of gabion itself is followed by what it means for the user.
    pub(super) fn with_outcome(self, outcome: &'static str) -> Self {
        match self {
            Self::Internal(panicked) | Self::Repository(RepositoryError::Internal(panicked)) => {
                Self::Internal(panicked.with_outcome(outcome))
            }
            other => other,
        }
    }
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

impl From<TargetError> for OpError {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
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
