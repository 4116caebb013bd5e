//! How findings are told, and which errors are findings.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Problem};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::storage::{Listing, ObjectKind, ObjectName, StorageError, StorageErrorKind};

/// What all parts of a check share.
pub(super) struct Report<'r> {
    pub(super) repository: &'r Repository,
    interrupted: &'r AtomicBool,
    /// Nobody is told what is found; it is counted all the same.
    silent: bool,
    findings: Mutex<Findings>,
}

#[derive(Default)]
struct Findings {
    problems: u64,
    notes: u64,
    /// Hashes of what was told: a second look tells nothing twice.
    told: HashSet<[u8; 32]>,
    /// What waits until it is known whether it is still so; nothing when nothing is to wait.
    held: Option<Vec<Event>>,
}

impl<'r> Report<'r> {
    pub(super) fn new(repository: &'r Repository, interrupted: &'r AtomicBool) -> Self {
        Self { repository, interrupted, silent: false, findings: Mutex::default() }
    }

    /// One that tells nobody what is found.
    pub(super) fn silent(repository: &'r Repository, interrupted: &'r AtomicBool) -> Self {
        Self { silent: true, ..Self::new(repository, interrupted) }
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Damage: `message` says of `subject` what is wrong and what that costs.
    pub(super) fn problem(&self, subject: impl ToString, message: impl Into<String>) {
        let problem = Problem { subject: subject.to_string().into(), message: message.into() };
        self.found(Event::Problem(problem));
    }

    /// Worth knowing, but no damage.
    pub(super) fn note(&self, text: String) {
        self.found(Event::Note(text));
    }

    fn found(&self, finding: Event) {
        let mut findings = self.findings();
        if let Some(held) = &mut findings.held {
            held.push(finding);
            return;
        }
        if !findings.told.insert(*blake3::hash(format!("{finding:?}").as_bytes()).as_bytes()) {
            return;
        }
        match finding {
            Event::Problem(_) => findings.problems += 1,
            _ => findings.notes += 1,
        }
        drop(findings);
        if !self.silent {
            self.repository.observer().event(finding);
        }
    }

    /// From here on findings wait for [`Self::tell_held`] or [`Self::drop_held`].
    pub(super) fn hold(&self) {
        self.findings().held.get_or_insert_default();
    }

    /// Whether a finding waits.
    pub(super) fn holds_any(&self) -> bool {
        self.findings().held.as_ref().is_some_and(|held| !held.is_empty())
    }

    /// Tells what waits.
    pub(super) fn tell_held(&self) {
        let held = self.findings().held.take();
        held.into_iter().flatten().for_each(|finding| self.found(finding));
    }

    /// Forgets what waits.
    pub(super) fn drop_held(&self) {
        self.findings().held = None;
    }

    /// Whether an object that was listed is not there any more: somebody removed it meanwhile, and
    /// what is wrong with it does not count.
    pub(super) fn is_gone(&self, name: ObjectName) -> bool {
        let len = self.repository.storage().len(name);
        matches!(len, Err(error) if error.kind == StorageErrorKind::NotFound)
    }

    /// All objects of a kind. Nothing when they cannot be listed, which `check_foreign` tells:
    /// without packs or snapshots there is nothing to check, but without the others there is.
    pub(super) fn list(&self, kind: ObjectKind) -> Result<Option<Listing>, OpError> {
        let needed = matches!(kind, ObjectKind::Pack | ObjectKind::Snapshot);
        match self.repository.storage().list(kind) {
            Err(error) if !needed && error.kind != StorageErrorKind::PlaceLost => Ok(None),
            listing => Ok(Some(listing.map_err(RepositoryError::from)?)),
        }
    }

    pub(super) fn total(&self, items: u64, bytes: u64) {
        self.repository.observer().event(Event::Total { items, bytes });
    }

    pub(super) fn progress(&self, items: u64, bytes: u64) {
        self.repository.observer().event(Event::Progress { items, bytes });
    }

    pub(super) fn problems(&self) -> u64 {
        self.findings().problems
    }

    pub(super) fn notes(&self) -> u64 {
        self.findings().notes
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
