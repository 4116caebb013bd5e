//! Making and opening a repository.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

use super::index::Index;
use super::memory::RepositoryMemory;
use super::slots::OpenedBy;
use super::{Repository, RepositoryError};
use crate::crypto::header::Sealing;
use crate::crypto::key_file::KeyFile;
use crate::crypto::keys::{Keys, MasterKey};
use crate::crypto::passphrase::{KdfCosts, Passphrase};
use crate::event::{Event, Observer};
use crate::format::config::{Config, ConfigError, UnverifiedConfig};
use crate::format::key_slot::{KeySlot, Secret};
use crate::id::{RepositoryId, SlotId};
use crate::storage::{ObjectKind, ObjectName, Storage, StorageError, StorageErrorKind};

/// Longest configuration or key slot that is read, in bytes.
pub(super) const MAX_TEXT_LEN: u64 = 64 << 10;

/// What opens a repository.
#[derive(Debug)]
pub enum Unlock {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A key file.
    KeyFile(KeyFile),
    /// Nothing: enough for a repository that was made with `--plaintext`.
    Nothing,
}

impl Unlock {
    fn secret(&self) -> Option<Secret<'_>> {
        match self {
            Self::Passphrase(passphrase) => Some(Secret::Passphrase(passphrase)),
            Self::KeyFile(file) => Some(Secret::KeyFile(file)),
            Self::Nothing => None,
        }
    }
}

/// How a repository is opened.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// The folder below which the index is kept; without one it is made in memory.
    pub cache: Option<PathBuf>,
    /// What this client remembers of it: the key slot that opened it before is tried first, and
    /// what is found is compared.
    pub memory: Option<Arc<RepositoryMemory>>,
    /// Try key slots that cost as much as the format allows, and as many as there are.
    pub allow_costly_keys: bool,
}

/// How a new repository is to be.
#[derive(Debug)]
pub struct InitOptions {
    /// What will open it; `Nothing` makes a plaintext repository.
    pub unlock: Unlock,
    /// What deriving a key from the passphrase costs.
    pub costs: KdfCosts,
    /// Name of the first key slot.
    pub label: String,
    /// The time, RFC 3339.
    pub now: String,
    /// Parity shards for every thousand data shards of a pack; none for a repository without
    /// parity.
    pub parity_per_mille: Option<u32>,
    /// Whether what changed in streams and large files may be stored as a difference.
    pub delta: bool,
}

impl Repository {
    /// Makes a repository in empty `storage` and returns its id. The configuration is published
    /// last: an interrupted `init` leaves nothing that could be taken for a repository.
    ///
    /// # Errors
    /// When there is one already, or storage fails.
    pub fn init(
        storage: &dyn Storage,
        place: &str,
        options: &InitOptions,
    ) -> Result<RepositoryId, RepositoryError> {
        for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
            match storage.len(name) {
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(RepositoryError::AlreadyInitialised(place.to_owned())),
            }
        }
        for kind in [ObjectKind::Pack, ObjectKind::Snapshot] {
            // Somebody's data whose config is lost.
            if !storage.list(kind)?.objects.is_empty() {
                return Err(RepositoryError::AlreadyInitialised(place.to_owned()));
            }
        }
        let (master, id) = (MasterKey::random(), RepositoryId::random());
        let secret = options.unlock.secret();
        let sealing = if secret.is_some() { Sealing::Aes256Gcm } else { Sealing::None };
        let mut config = Config::new(id, sealing, options.now.clone());
        if let Some(per_mille) = options.parity_per_mille {
            config
                .add_parity(per_mille)
                .map_err(|error| RepositoryError::Config(ConfigError::Damaged(error)))?;
        }
        if options.delta {
            config.add_delta();
        }
        let slot = match secret {
            Some(secret) => {
                Some(super::slots::publish_slot(storage, &master, id, secret, options)?)
            }
            None => {
                config.plaintext_key = Some(master.clone());
                None
            }
        };
        let bytes = config.encode(&Keys::derive(&master));
        let is_taken = |error: &StorageError| error.kind == StorageErrorKind::AlreadyExists;
        // Of several who make a repository at once this one step lets one win.
        match storage.publish(ObjectName::CONFIG_COPY, &bytes) {
            Err(error) if is_taken(&error) => {
                if let Some(slot) = slot {
                    storage.delete(ObjectName::key(slot))?;
                    storage.delete(ObjectName::key_copy(slot))?;
                }
                return Err(RepositoryError::AlreadyInitialised(place.to_owned()));
            }
            published => published?,
        }
        match storage.publish(ObjectName::CONFIG, &bytes) {
            // The first writer makes what an interrupted `init` left out.
            Err(error) if is_taken(&error) => {
                if storage.read(ObjectName::CONFIG, MAX_TEXT_LEN)? != bytes {
                    return Err(error.into());
                }
            }
            published => published?,
        }
        remove_other_slots(storage, slot)?;
        Ok(id)
    }

    /// Opens the repository in `storage`. `cache` is the folder below which the index is kept;
    /// without one it is made in memory. `place` is what messages call the repository.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(
        storage: Arc<dyn Storage>,
        place: &str,
        unlock: &Unlock,
        cache: Option<PathBuf>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, RepositoryError> {
        Self::open_with(
            storage,
            place,
            unlock,
            &OpenOptions { cache, ..OpenOptions::default() },
            observer,
        )
    }

    /// Opens the repository in `storage`. `place` is what messages call the repository.
    ///
    /// # Errors
    /// When there is none, the key does not fit, or it is damaged beyond its second copies.
    pub fn open_with(
        storage: Arc<dyn Storage>,
        place: &str,
        unlock: &Unlock,
        options: &OpenOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, RepositoryError> {
        let (config, keys, opened_by) =
            unlock_config(&*storage, place, unlock, options, &*observer)?;
        let index = Index::open(None, config.repository_id, keys.cache_check())?;
        let repository = Self {
            storage,
            place: place.to_owned(),
            config,
            keys,
            opened_by,
            memory: options.memory.clone(),
            cache_base: options.cache.clone(),
            index: RwLock::new(index),
            index_made: AtomicU64::new(0),
            observer,
        };
        repository.remember_opened();
        Ok(repository)
    }

    /// Makes sure that the place still holds the repository that was opened, by reading its id
    /// again. To be called before anything is confirmed.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify_place(&self) -> Result<(), RepositoryError> {
        self.storage.verify_place()?;
        let found = ConfigCopies::read(&*self.storage, &self.place)?;
        if found.usable.iter().any(|(_, copy)| copy.repository_id() == self.id()) {
            return Ok(());
        }
        Err(RepositoryError::Replaced(self.place.clone()))
    }

    /// Makes the copies that are missing of what was cut off while it was made.
    pub(crate) fn complete_copies(&self) {
        self.complete_config();
        self.complete_slots();
    }

    /// Publishes `config` where an `init` that was cut off left its second copy alone. Nothing
    /// depends on it: when it cannot be done now, the next writer does it.
    fn complete_config(&self) {
        let is_missing = |name| {
            self.storage.len(name).is_err_and(|error| error.kind == StorageErrorKind::NotFound)
        };
        if !is_missing(ObjectName::CONFIG) {
            return;
        }
        let Ok(bytes) = self.storage.read(ObjectName::CONFIG_COPY, MAX_TEXT_LEN) else { return };
        if Config::decode(&bytes).is_ok_and(|copy| copy.verify(&self.keys).is_ok()) {
            let _ = self.storage.publish(ObjectName::CONFIG, &bytes);
        }
    }
}

/// Removes the key slots of those who did not come to publish a config, which opened nothing.
fn remove_other_slots(storage: &dyn Storage, own: Option<SlotId>) -> Result<(), RepositoryError> {
    for kind in [ObjectKind::Key, ObjectKind::KeyCopy] {
        for (name, _) in storage.list(kind)?.objects {
            if own.is_none_or(|own| own.0 != name.id) {
                storage.delete(name)?;
            }
        }
    }
    Ok(())
}

/// The configuration, the keys, and the slot that gave them, if one did.
type OpenConfig = (Config, Keys, Option<OpenedBy>);

/// The configuration, from whichever copy the key fits, and the keys.
fn unlock_config(
    storage: &dyn Storage,
    place: &str,
    unlock: &Unlock,
    options: &OpenOptions,
    observer: &dyn Observer,
) -> Result<OpenConfig, RepositoryError> {
    let copies = ConfigCopies::read(storage, place)?;
    let (mut notes, mut failure) = (copies.notes, None);
    if let Some(memory) = &options.memory {
        // Before a passphrase is tried on anything, or asked for.
        copies.usable.iter().try_for_each(|(_, copy)| memory.check(copy))?;
    }
    for (name, copy) in copies.usable {
        match unlock_copy(storage, place, unlock, options, copy) {
            Ok(opened) => {
                for note in notes {
                    observer.event(Event::Note(format!("{note}; the other copy is used")));
                }
                return Ok(opened);
            }
            // What is read without a key may have been damaged where no checksum covers it.
            Err(
                error @ (RepositoryError::Config(ConfigError::NotAuthentic)
                | RepositoryError::NoUsableSlot { .. }
                | RepositoryError::KeyTooCostly { .. }),
            ) => {
                notes.push(format!("{name}: {}", with_source(&error)));
                failure.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(|| RepositoryError::NotARepository(place.to_owned())))
}

fn unlock_copy(
    storage: &dyn Storage,
    place: &str,
    unlock: &Unlock,
    options: &OpenOptions,
    copy: UnverifiedConfig,
) -> Result<OpenConfig, RepositoryError> {
    let (master, opened_by) = match (copy.plaintext_key(), unlock.secret()) {
        // Whoever can write to the place could put a plaintext configuration there, and have
        // everything from then on in the open.
        (Some(_), Some(_)) => {
            return Err(RepositoryError::UnexpectedPlaintext(place.to_owned()));
        }
        (Some(key), None) => (key.clone(), None),
        (None, secret) => {
            let unlocked = super::slots::unlock(storage, copy.repository_id(), secret, options)?;
            (unlocked.0, Some(unlocked.1))
        }
    };
    let keys = Keys::derive(&master);
    let config = copy.verify(&keys).map_err(RepositoryError::Config)?;
    Ok((config, keys, opened_by))
}

/// An error with its causes on one line, for a note.
fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// The copies of the configuration that could be decoded.
struct ConfigCopies {
    usable: Vec<(ObjectName, UnverifiedConfig)>,
    /// What is wrong with the others.
    notes: Vec<String>,
}

impl ConfigCopies {
    /// Reads both copies; an error when neither can be used.
    fn read(storage: &dyn Storage, place: &str) -> Result<Self, RepositoryError> {
        let (mut copies, mut failure) = (Self { usable: Vec::new(), notes: Vec::new() }, None);
        for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
            let error = match read_config(storage, name)? {
                Ok(config) => {
                    copies.usable.push((name, config));
                    continue;
                }
                Err(error) => error,
            };
            let missing = matches!(
                &error,
                RepositoryError::Storage(error) if error.kind == StorageErrorKind::NotFound
            );
            if missing {
                copies.notes.push(format!("{name} is missing"));
            } else {
                copies.notes.push(format!("{name}: {}", with_source(&error)));
                failure.get_or_insert(error);
            }
        }
        if !copies.usable.is_empty() {
            return Ok(copies);
        }
        Err(failure.unwrap_or_else(|| RepositoryError::NotARepository(place.to_owned())))
    }
}

/// The configurations that could be decoded; nothing proves them.
pub(super) fn read_usable(
    storage: &dyn Storage,
    place: &str,
) -> Result<Vec<UnverifiedConfig>, RepositoryError> {
    let copies = ConfigCopies::read(storage, place)?.usable;
    Ok(copies.into_iter().map(|(_, copy)| copy).collect())
}

/// Whether a failed read may be the fault of the one object: a bad sector, say.
fn may_be_object(kind: StorageErrorKind) -> bool {
    use StorageErrorKind::{NotFound, Other, TooLong, Truncated};
    matches!(kind, NotFound | TooLong | Truncated | Other)
}

/// Reads one copy of the configuration; the inner error leaves hope for the other one.
fn read_config(
    storage: &dyn Storage,
    name: ObjectName,
) -> Result<Result<UnverifiedConfig, RepositoryError>, RepositoryError> {
    match storage.read(name, MAX_TEXT_LEN) {
        Ok(bytes) => match Config::decode(&bytes) {
            Ok(config) => Ok(Ok(config)),
            Err(error @ ConfigError::Damaged(_)) => Ok(Err(RepositoryError::Config(error))),
            Err(error) => Err(RepositoryError::Config(error)),
        },
        Err(error) if may_be_object(error.kind) => Ok(Err(error.into())),
        Err(error) => Err(error.into()),
    }
}

/// Decodes a key slot that was read from storage.
pub(super) fn read_slot(
    storage: &dyn Storage,
    name: ObjectName,
) -> Result<Result<KeySlot, String>, RepositoryError> {
    match storage.read(name, MAX_TEXT_LEN) {
        Ok(bytes) => Ok(KeySlot::decode(&bytes).map_err(|error| error.to_string())),
        Err(error) if error.kind == StorageErrorKind::NotFound => Ok(Err("missing".to_owned())),
        Err(error) if may_be_object(error.kind) => Ok(Err(with_source(&error))),
        Err(error) => Err(error.into()),
    }
}
