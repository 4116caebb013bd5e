//! Snapshots that ask `gabion watch` what changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::Event;
use crate::format::snapshot::Snapshot;
use crate::ops::snapshot::{ChangesSince, Scope, SnapshotSummary, Told};
use crate::repo::Repository;

/// A snapshot of which a watching process knows, or why none does.
#[derive(Debug, Clone)]
pub struct Watched(Result<Arc<Begun>, String>);

#[cfg(target_os = "linux")]
type Begun = crate::watch::Begun;
#[cfg(not(target_os = "linux"))]
type Begun = std::convert::Infallible;

/// Begins, before the snapshot of `paths` does. That nobody watches is no error: then everything
/// is looked at, and the summary says why.
#[must_use]
pub fn watched(
    socket: &Path,
    repository: &Repository,
    paths: &[PathBuf],
    one_file_system: bool,
) -> Watched {
    #[cfg(target_os = "linux")]
    let begun = crate::watch::begin(socket, repository.id(), paths, one_file_system)
        .map_err(crate::watch::words);
    #[cfg(not(target_os = "linux"))]
    let begun = {
        let _ = (socket, repository, paths, one_file_system);
        Err("on this system nothing can be watched".to_owned())
    };
    Watched(begun.map(Arc::new))
}

impl Watched {
    /// What is to be looked at.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let this = self.clone();
        let changes = move |parent: &Snapshot| {
            Ok(match this.changes(parent) {
                Ok(paths) => ChangesSince::Below(paths),
                Err(why) => ChangesSince::Unknown(why),
            })
        };
        Scope::Told(Told { parent: None, by_kernel: true, changes: Box::new(changes) })
    }

    #[cfg(target_os = "linux")]
    fn changes(&self, parent: &Snapshot) -> Result<Vec<PathBuf>, String> {
        self.0.as_ref().map_err(String::clone)?.changes(parent.id)
    }

    #[cfg(not(target_os = "linux"))]
    fn changes(&self, _parent: &Snapshot) -> Result<Vec<PathBuf>, String> {
        self.0.as_ref().map_err(String::clone).map(|begun| match **begun {})
    }

    /// Says what came of it, so that the next snapshot can be told what changed since.
    pub fn done(&self, repository: &Repository, summary: &SnapshotSummary) {
        let (Ok(begun), Some(snapshot)) = (&self.0, &summary.snapshot) else { return };
        #[cfg(target_os = "linux")]
        if let Err(why) = begun.confirm(snapshot.id) {
            let note = format!("the next snapshot will look at everything: {why}");
            repository.observer().event(Event::Note(note));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (begun, snapshot, repository);
    }
}
