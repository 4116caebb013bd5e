//! What this client remembers of each repository, outside of it: which one lies at a location, how it
//! is sealed, which key slot opened it, and which snapshots this client confirmed and forgot. What
//! the storage shows is compared with that, so a repository that was exchanged, put back to an
//! earlier state, or that lost snapshots is noticed. Without the memory everything works, and less
//! is noticed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::open::read_usable;
use super::{OpenedBy, Repository, RepositoryError};
use crate::crypto::passphrase::KdfCosts;
use crate::event::Event;
use crate::format::config::UnverifiedConfig;
use crate::id::{RepositoryId, SlotId, SnapshotId};
use crate::storage::{ObjectKind, Storage};

/// Confirmed snapshots that are remembered: the newest.
const MAX_CONFIRMED: usize = 8192;
/// Forgotten snapshots that are remembered: the newest.
const MAX_FORGOTTEN: usize = 1024;
/// Repositories that may take turns at one location.
const MAX_TURNS: usize = 64;
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How often, and how long each time, another process is waited for that writes to the memory.
const PATIENCE: (u32, Duration) = (100, Duration::from_millis(50));

/// The memory of this client, as far as it is about one location.
#[derive(Debug)]
pub struct RepositoryMemory {
    folder: PathBuf,
    location: String,
    accept_changes: bool,
    warned: AtomicBool,
}

/// What is remembered of a repository, wherever it lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Remembered {
    /// The slot that opened it last, and what that cost.
    slot: Option<SlotId>,
    costs: Option<KdfCosts>,
    /// Snapshots that this client confirmed and did not forget, oldest first.
    confirmed: Vec<SnapshotId>,
    /// Snapshots that this client forgot, oldest first.
    forgotten: Vec<SnapshotId>,
}

/// What is remembered of a location.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct LocationRecord {
    location: String,
    repositories: Vec<SeenRepository>,
}

/// A repository that was seen at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SeenRepository {
    id: RepositoryId,
    encrypted: bool,
}

/// How the snapshots of a repository differ from what this client remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotChanges {
    /// Confirmed by this client and not forgotten by anybody, as far as the repository tells, and
    /// gone all the same.
    pub missing: Vec<SnapshotId>,
    /// Forgotten by this client, and back.
    pub returned: Vec<SnapshotId>,
}

impl SnapshotChanges {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.returned.is_empty()
    }
}

impl RepositoryMemory {
    /// The memory in `folder`, which is made when there is something to remember. `location` is
    /// where the repository is; with `accept_changes` what is found there counts from now on.
    pub fn new(folder: PathBuf, location: String, accept_changes: bool) -> Self {
        Self { folder, location, accept_changes, warned: AtomicBool::new(false) }
    }

    /// Remembers that a repository was made at the location, in place of any that was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember_made(&self, id: RepositoryId, encrypted: bool) -> io::Result<()> {
        let repositories = vec![SeenRepository { id, encrypted }];
        let record = LocationRecord { location: self.location.clone(), repositories };
        let _lock = self.lock()?;
        self.write(&self.location_file(), &record)
    }

    /// The snapshots that this client confirmed in the repository at the location, and that have no
    /// name there any more. Needs no key, so it cannot tell whether another client forgot them.
    ///
    /// # Errors
    /// When the storage cannot be read, or holds another repository than before.
    pub fn absent(&self, storage: &dyn Storage) -> Result<Vec<SnapshotId>, RepositoryError> {
        let found = read_usable(storage, &self.location)?;
        found.iter().try_for_each(|config| self.check(config))?;
        let ids = found.iter().filter_map(|config| self.recall(config.repository_id()).ok()?);
        let Some(remembered) = ids.into_iter().next() else { return Ok(Vec::new()) };
        let mut names: HashSet<SnapshotId> = HashSet::new();
        for kind in [ObjectKind::Snapshot, ObjectKind::SnapshotCopy] {
            names.extend(storage.list(kind)?.objects.iter().map(|(name, _)| SnapshotId(name.id)));
        }
        Ok(remembered.confirmed.into_iter().filter(|id| !names.contains(id)).collect())
    }

    /// Whether what is found counts from now on.
    pub fn accepts_changes(&self) -> bool {
        self.accept_changes
    }

    /// The slot that opened a repository before.
    pub(super) fn slot(&self, id: RepositoryId) -> Option<OpenedBy> {
        let known = self.recall(id).ok().flatten()?;
        Some(OpenedBy { slot: known.slot?, costs: known.costs })
    }

    /// Compares a configuration that nothing proves yet with what was at the location.
    pub(super) fn check(&self, found: &UnverifiedConfig) -> Result<(), RepositoryError> {
        let Ok(Some(record)) = self.read::<LocationRecord>(&self.location_file()) else {
            return Ok(());
        };
        if self.accept_changes || record.repositories.is_empty() {
            return Ok(());
        }
        let id = found.repository_id();
        let Some(known) = record.repositories.iter().find(|known| known.id == id) else {
            let known = record.repositories.last().map(|known| known.id.to_string());
            return Err(RepositoryError::AnotherRepository {
                place: self.location.clone(),
                found: id.to_string(),
                known: known.unwrap_or_default(),
            });
        };
        if known.encrypted && found.plaintext_key().is_some() {
            return Err(RepositoryError::NoLongerEncrypted(self.location.clone()));
        }
        Ok(())
    }

    /// Remembers that a repository was opened. Written only when that is news.
    fn remember_opened(
        &self,
        id: RepositoryId,
        encrypted: bool,
        by: Option<OpenedBy>,
    ) -> io::Result<()> {
        let file = self.location_file();
        let seen = SeenRepository { id, encrypted };
        // A file that cannot be understood is made again.
        let record: LocationRecord = self.read(&file).ok().flatten().unwrap_or_default();
        if !record.repositories.contains(&seen) {
            let _lock = self.lock()?;
            let mut record: LocationRecord = self.read(&file).ok().flatten().unwrap_or_default();
            record.location.clone_from(&self.location);
            record.repositories.retain(|known| known.id != id);
            record.repositories.push(seen);
            let excess = record.repositories.len().saturating_sub(MAX_TURNS);
            record.repositories.drain(..excess);
            self.write(&file, &record)?;
        }
        let (slot, costs) = (by.map(|by| by.slot), by.and_then(|by| by.costs));
        let remembered = self.recall(id).ok().flatten();
        if remembered.is_none_or(|known| (known.slot, known.costs) != (slot, costs)) {
            self.change(id, |known| (known.slot, known.costs) = (slot, costs))?;
        }
        Ok(())
    }

    fn recall(&self, id: RepositoryId) -> io::Result<Option<Remembered>> {
        self.read(&self.file(id))
    }

    /// Changes what is remembered of a repository, durably and at once.
    fn change(&self, id: RepositoryId, change: impl FnOnce(&mut Remembered)) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut remembered = self.recall(id).ok().flatten().unwrap_or_default();
        let before = remembered.clone();
        change(&mut remembered);
        keep_newest(&mut remembered.confirmed, MAX_CONFIRMED);
        keep_newest(&mut remembered.forgotten, MAX_FORGOTTEN);
        if remembered == before && self.file(id).exists() {
            return Ok(());
        }
        self.write(&self.file(id), &remembered)
    }

    fn file(&self, id: RepositoryId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn location_file(&self) -> PathBuf {
        let name = blake3::hash(self.location.as_bytes()).to_hex();
        self.folder.join(format!("at-{}.json", &name[..32]))
    }

    /// Keeps other processes of the user from writing as long as it is held.
    fn lock(&self) -> io::Result<File> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.folder.join("lock"))?;
        for _ in 0..PATIENCE.0 {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                locked => return Ok(locked.map(|()| file)?),
            }
            std::thread::sleep(PATIENCE.1);
        }
        Err(io::Error::other("another process holds its lock"))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> io::Result<Option<T>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Puts `value` in the place of the file. The lock is held, so there is one temporary file.
    #[expect(clippy::disallowed_methods, reason = "no object of a repository")]
    fn write(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        let temporary = self.folder.join("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn keep_newest(ids: &mut Vec<SnapshotId>, most: usize) {
    ids.drain(..ids.len().saturating_sub(most));
}

impl Repository {
    /// Says once when something cannot be remembered: it costs what would be noticed later.
    fn or_warn(&self, memory: &RepositoryMemory, result: io::Result<()>) {
        if let Err(error) = result
            && !memory.warned.swap(true, Ordering::Relaxed)
        {
            self.observer.event(Event::Warning(format!(
                "cannot use {}: {error}; this run goes on, but whether the repository lost \
                 snapshots or was exchanged goes unnoticed",
                memory.folder.display()
            )));
        }
    }

    fn remember(&self, change: impl FnOnce(&mut Remembered)) {
        if let Some(memory) = &self.memory {
            self.or_warn(memory, memory.change(self.id(), change));
        }
    }

    /// The repository was opened.
    pub(super) fn remember_opened(&self) {
        if let Some(memory) = &self.memory {
            let encrypted = self.config.plaintext_key.is_none();
            let recalled = memory.recall(self.id()).map(drop);
            self.or_warn(memory, recalled);
            let opened = memory.remember_opened(self.id(), encrypted, self.opened_by);
            self.or_warn(memory, opened);
        }
    }

    /// A snapshot was confirmed by this client.
    pub(super) fn remember_confirmed(&self, id: SnapshotId) {
        self.remember(|known| known.confirmed.push(id));
    }

    /// Snapshots are about to be forgotten by this client: from now on nobody wonders where they
    /// are.
    pub(super) fn remember_forgetting(&self, ids: &[SnapshotId]) {
        let ids: HashSet<&SnapshotId> = ids.iter().collect();
        self.remember(|known| known.confirmed.retain(|id| !ids.contains(id)));
    }

    /// Snapshots were forgotten by this client.
    pub(super) fn remember_forgotten(&self, ids: &[SnapshotId]) {
        self.remember(|known| known.forgotten.extend(ids));
    }

    /// Compares the snapshots with what this client remembers of them. What others forgot is
    /// dropped from the memory on the way; with `accept_changes` so is what is missing.
    ///
    /// # Errors
    /// When the snapshots cannot be listed.
    pub fn compare_with_memory(&self) -> Result<SnapshotChanges, RepositoryError> {
        let Some(memory) = &self.memory else { return Ok(SnapshotChanges::default()) };
        // Before the list is read: what is confirmed or forgotten meanwhile does not matter then.
        let Ok(Some(before)) = memory.recall(self.id()) else {
            return Ok(SnapshotChanges::default());
        };
        let objects = self.storage.list(ObjectKind::Snapshot)?.objects;
        let names: HashSet<SnapshotId> =
            objects.iter().map(|(name, _)| SnapshotId(name.id)).collect();
        let unchanged = before.confirmed.iter().all(|id| names.contains(id))
            && !before.forgotten.iter().any(|id| names.contains(id));
        if unchanged {
            return Ok(SnapshotChanges::default());
        }
        let records = self.snapshot_records(false)?;
        let there: HashSet<SnapshotId> = records.snapshots.iter().map(|one| one.id).collect();
        let damaged = records.damaged.iter().map(|one| SnapshotId(one.object.id));
        let there_somehow: HashSet<SnapshotId> = there.iter().copied().chain(damaged).collect();
        let mut successors: HashMap<SnapshotId, SnapshotId> = HashMap::new();
        for record in &records.snapshots {
            successors.extend(record.formerly.iter().map(|old| (*old, record.id)));
        }
        // Asked again: another process of this client may have forgotten some meanwhile.
        let now = memory.recall(self.id()).ok().flatten().unwrap_or_default();
        let before: HashSet<SnapshotId> = before.confirmed.into_iter().collect();
        let is_absent = |id: &&SnapshotId| !there_somehow.contains(id) && before.contains(id);
        let absent: Vec<SnapshotId> = now.confirmed.iter().filter(is_absent).copied().collect();
        let explained =
            |id: &SnapshotId| successors.contains_key(id) || records.forgotten.contains(id);
        let missing: Vec<SnapshotId> = absent.iter().filter(|id| !explained(id)).copied().collect();
        let returned: Vec<SnapshotId> =
            now.forgotten.iter().filter(|id| there.contains(id)).copied().collect();
        let gone: HashSet<SnapshotId> = match memory.accept_changes {
            true => absent.iter().copied().collect(),
            false => absent.iter().filter(|id| explained(id)).copied().collect(),
        };
        if !gone.is_empty() || memory.accept_changes {
            self.remember(|known| {
                for id in &mut known.confirmed {
                    // Tags were changed elsewhere.
                    *id = successors.get(id).copied().filter(|_| gone.contains(id)).unwrap_or(*id);
                }
                known.confirmed.retain(|id| !gone.contains(id));
                if memory.accept_changes {
                    known.forgotten.retain(|id| !returned.contains(id));
                }
            });
        }
        Ok(SnapshotChanges { missing, returned })
    }
}
