//! What this client remembers of the repository that it opens, and what it says when that has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gabion::id::{RepositoryId, SnapshotId};
use gabion::repo::{Repository, RepositoryMemory, SnapshotChanges};
use gabion::storage::Place;

use super::{Opened, Session};
use crate::errors::{Exit, Failure};
use crate::machine;
use crate::render::values::counted;

/// Snapshots that are named one by one.
const NAMED: usize = 10;

impl Session {
    /// What this client remembers of the repository; nothing where there is no place for it.
    pub(crate) fn memory(&self) -> Result<Option<Arc<RepositoryMemory>>, Failure> {
        let named = machine::variable("GABION_STATE_DIR").map(PathBuf::from);
        let Some(state) = named.or_else(machine::state_folder) else {
            self.console.note("nothing is remembered: neither HOME nor XDG_STATE_HOME is set");
            return Ok(None);
        };
        let location = match self.place()? {
            // However it is spelled.
            Place::Folder(path) => path.canonicalize().unwrap_or(path).display().to_string(),
            place @ Place::Remote(_) => place.to_string(),
        };
        let folder = std::path::absolute(&state).unwrap_or(state).join("repositories");
        let accept = self.global.accept_changes;
        Ok(Some(Arc::new(RepositoryMemory::new(folder, location, accept))))
    }

    /// Remembers a repository that was just made.
    pub(crate) fn remember_made(&self, id: RepositoryId, encrypted: bool) -> Result<(), Failure> {
        if let Some(memory) = self.memory()?
            && let Err(error) = memory.remember_made(id, encrypted)
        {
            self.console.notice(&format!("this repository is not remembered: {error}"));
        }
        Ok(())
    }

    /// Compares the snapshots with what this client remembers, and says what nothing explains.
    pub(super) fn compare(&self, repository: &Repository) -> Result<SnapshotChanges, Failure> {
        let changes = repository.compare_with_memory()?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let accepted = self.global.accept_changes;
        for (ids, what) in [
            (&changes.missing, "gone, although this machine took and did not forget"),
            (&changes.returned, "back, although this machine forgot"),
        ] {
            if let Some(text) = in_words(ids, what) {
                let end = if accepted { ": accepted" } else { "" };
                self.console.warning(&format!("{text}{end}"));
            }
        }
        if accepted {
            return Ok(SnapshotChanges::default());
        }
        self.console.warning(
            "either the repository was put back to an earlier state, or they were removed or put \
             back without this gabion; use --accept-changes once if that is right",
        );
        self.changed.store(true, Ordering::Relaxed);
        Ok(changes)
    }

    /// How a command ends that found nothing else.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Done | Exit::Incomplete if self.changed.load(Ordering::Relaxed) => Exit::Damage,
            exit => exit,
        }
    }
}

/// Snapshots by name, as far as they are few.
fn in_words(ids: &[SnapshotId], what: &str) -> Option<String> {
    let named: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match ids.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (noun, verb) = if ids.len() == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
    (!ids.is_empty())
        .then(|| format!("{noun} {}{more} {verb} {what} {}", named.join(", "), pronoun(ids)))
}

fn pronoun(ids: &[SnapshotId]) -> &'static str {
    if ids.len() == 1 { "it" } else { "them" }
}

impl Opened {
    /// Refuses to remove anything while it is not known what became of snapshots.
    pub(crate) fn certain(&self) -> Result<(), Failure> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let count = self.changes.missing.len() + self.changes.returned.len();
        let count = counted(count as u64, "snapshot", "snapshots");
        let message = format!("nothing is removed: {count} changed in a way that nothing explains");
        Err(Failure::new(Exit::Damage, message)
            .hint("use --accept-changes once if that is right, `gabion check` otherwise"))
    }
}
