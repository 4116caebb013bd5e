//! How findings are told, and which errors are findings.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::event::{Event, Problem};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::storage::{StorageError, StorageErrorKind};

/// What all parts of a check share.
pub(super) struct Report<'r> {
    pub(super) repository: &'r Repository,
    interrupted: &'r AtomicBool,
    problems: AtomicU64,
    notes: AtomicU64,
}

impl<'r> Report<'r> {
    pub(super) fn new(repository: &'r Repository, interrupted: &'r AtomicBool) -> Self {
        let (problems, notes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { repository, interrupted, problems, notes }
    }

    /// Damage: `message` says of `subject` what is wrong and what that costs.
    pub(super) fn problem(&self, subject: impl ToString, message: impl Into<String>) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        let problem = Problem { subject: subject.to_string().into(), message: message.into() };
        self.repository.observer().event(Event::Problem(problem));
    }

    /// Worth knowing, but no damage.
    pub(super) fn note(&self, text: String) {
        self.notes.fetch_add(1, Ordering::Relaxed);
        self.repository.observer().event(Event::Note(text));
    }

    pub(super) fn total(&self, items: u64, bytes: u64) {
        self.repository.observer().event(Event::Total { items, bytes });
    }

    pub(super) fn progress(&self, items: u64, bytes: u64) {
        self.repository.observer().event(Event::Progress { items, bytes });
    }

    pub(super) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    pub(super) fn notes(&self) -> u64 {
        self.notes.load(Ordering::Relaxed)
    }

    /// Stops the check when its caller wants that.
    pub(super) fn go_on(&self) -> Result<(), OpError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(OpError::Interrupted) } else { Ok(()) }
    }
}

/// In words why one object could not be used. An error only when the whole place is gone: one bad
/// sector must not keep the rest from being checked.
pub(super) fn reason(error: RepositoryError) -> Result<String, OpError> {
    match error {
        RepositoryError::Storage(error) => storage_reason(error),
        RepositoryError::Damaged { reason, .. } => Ok(reason),
        RepositoryError::NewerFormat { found, supported, .. } => {
            Ok(format!("its format version is {found}; this program knows up to {supported}"))
        }
        error @ RepositoryError::MissingChunk(_) => Ok(error.to_string()),
        error => Err(error.into()),
    }
}

/// As [`reason`].
pub(super) fn storage_reason(error: StorageError) -> Result<String, OpError> {
    match (error.kind, &error.source) {
        (StorageErrorKind::PlaceLost, _) => Err(RepositoryError::from(error).into()),
        (StorageErrorKind::NotFound, _) => Ok("it is missing".to_owned()),
        (StorageErrorKind::TooLong, _) => Ok("it is far too long".to_owned()),
        (_, Some(source)) => Ok(format!("it cannot be read: {source}")),
        (_, None) => Ok(format!("it cannot be read: {error}")),
    }
}
