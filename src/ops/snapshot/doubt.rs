//! Whether the repository may have lost something of what a snapshot takes over. Where nothing speaks
//! for that, nothing is looked at: an unchanged tree costs no look at its contents.

use super::previous::Earlier;
use crate::crypto::ChunkKind;
use crate::id::{PackId, SnapshotId};
use crate::ops::OpError;
use crate::ops::check::findings;
use crate::repo::{Repository, RepositoryError};
use crate::storage::ObjectKind;

/// The file in the client's cache that says which snapshots are whole although there is doubt. A
/// line: what the doubt stands on, and the snapshot.
const FILE: &str = "whole-in-doubt";
/// Snapshots that are remembered.
const MOST: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Why there is doubt, for people.
    why: Vec<String>,
    /// The same, as one word: as long as it is the same nothing more was lost.
    key: String,
    parent: Option<SnapshotId>,
    /// The parent was found whole in the face of all this.
    settled: bool,
    /// What an interrupted run left is nobody's concern but ours: it may have been lost unnoticed.
    resumes: bool,
}

impl Doubt {
    /// What speaks for a loss. The index is loaded.
    pub(super) fn about(repository: &Repository, earlier: &Earlier) -> Result<Self, OpError> {
        let mut doubt = Self {
            why: Vec::new(),
            key: String::new(),
            parent: earlier.parent.as_ref().map(|parent| parent.id),
            settled: false,
            resumes: earlier.checkpoint.is_some(),
        };
        let mut stands_on = Vec::new();
        let lost: Vec<PackId> = repository.lost_packs()?;
        if !lost.is_empty() {
            doubt.why.push("packs are gone that the index lists".to_owned());
            for pack in &lost {
                stands_on.extend(pack.0);
            }
        }
        let aside = repository.storage().list(ObjectKind::Quarantine);
        let aside = aside.map_err(RepositoryError::from)?.objects;
        if !aside.is_empty() {
            doubt.why.push("damaged objects are in quarantine".to_owned());
            for (name, _) in &aside {
                stands_on.extend(name.id);
            }
        }
        if let Some(found) = findings(repository) {
            doubt.why.push("the last check found problems".to_owned());
            stands_on.extend(found.bytes());
        }
        // A name for it, and no secret.
        doubt.key = repository.keys().chunk_id(ChunkKind::Content, &stands_on).to_string();
        if !doubt.why.is_empty() {
            let known = recall(repository);
            doubt.settled = doubt.parent.is_some_and(|id| known.contains(&doubt.line(id)));
        }
        Ok(doubt)
    }

    fn line(&self, id: SnapshotId) -> String {
        format!("{} {id}", self.key)
    }

    /// Whether contents must be looked for before they are taken over.
    pub(super) fn remains(&self) -> bool {
        self.resumes || self.why().is_some()
    }

    /// Why nothing may be taken over unseen.
    pub(super) fn why(&self) -> Option<String> {
        (!self.settled && !self.why.is_empty()).then(|| self.why.join(", and "))
    }

    /// Remembers that a snapshot is whole, so that the next one need not look again as long as
    /// there is no other reason for doubt.
    #[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
    pub(super) fn settle(&self, repository: &Repository, id: SnapshotId) {
        let Some(folder) = repository.cache_folder() else { return };
        if self.why.is_empty() {
            return;
        }
        let mut lines = recall(repository);
        let replaced = self.parent.map(|parent| self.line(parent));
        lines.retain(|line| line.starts_with(&self.key) && Some(line) != replaced.as_ref());
        lines.push(self.line(id));
        let from = lines.len().saturating_sub(MOST);
        let _ = std::fs::write(folder.path().join(FILE), lines[from..].join("\n") + "\n");
    }
}

fn recall(repository: &Repository) -> Vec<String> {
    let path = repository.cache_folder().map(|folder| folder.path().join(FILE));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
