//! Making and opening a repository.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use super::index::{CacheFolder, Index};
use super::{Repository, RepositoryError};
use crate::crypto::header::Sealing;
use crate::crypto::key_file::KeyFile;
use crate::crypto::keys::{Keys, MasterKey};
use crate::crypto::passphrase::{KdfCosts, Passphrase};
use crate::event::{Event, Observer};
use crate::format::config::{Config, ConfigError, UnverifiedConfig};
use crate::format::key_slot::{KeySlot, Secret};
use crate::id::RepositoryId;
use crate::storage::{ObjectName, Storage, StorageErrorKind};

/// Longest configuration or key slot that is read, in bytes.
const MAX_TEXT_LEN: u64 = 64 << 10;

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
        let (master, id) = (MasterKey::random(), RepositoryId::random());
        let secret = options.unlock.secret();
        let sealing = if secret.is_some() { Sealing::Aes256Gcm } else { Sealing::None };
        let mut config = Config::new(id, sealing, options.now.clone());
        if let Some(secret) = secret {
            super::slots::publish_slot(storage, &master, id, secret, options)?;
        } else {
            config.plaintext_key = Some(master.clone());
        }
        let bytes = config.encode(&Keys::derive(&master));
        storage.publish(ObjectName::CONFIG_COPY, &bytes)?;
        storage.publish(ObjectName::CONFIG, &bytes)?;
        Ok(id)
    }

    /// Opens the repository in `storage`. `cache` is the folder below which the index is kept;
    /// without one it is made in memory. `place` is what messages call the repository.
    ///
    /// # Errors
    /// When there is none, the key does not fit, or it is damaged beyond its second copies.
    pub fn open(
        storage: Arc<dyn Storage>,
        place: &str,
        unlock: &Unlock,
        cache: Option<PathBuf>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, RepositoryError> {
        let unverified = read_config(&*storage, place, &*observer)?;
        let master = match (unverified.plaintext_key(), unlock.secret()) {
            // Whoever can write to the place could put a plaintext configuration there, and have
            // everything from then on in the open.
            (Some(_), Some(_)) => {
                return Err(RepositoryError::UnexpectedPlaintext(place.to_owned()));
            }
            (Some(key), None) => key.clone(),
            (None, secret) => {
                let slots = super::slots::read_slots(&*storage, unverified.repository_id())?;
                super::slots::unwrap_master(&slots, secret)?
            }
        };
        let keys = Keys::derive(&master);
        let config = unverified.verify(&keys).map_err(RepositoryError::Config)?;
        let index = Index::open(None, config.repository_id, keys.cache_check())?;
        let repository = Self {
            storage,
            place: place.to_owned(),
            config,
            keys,
            cache_base: cache,
            index: RwLock::new(index),
            observer,
        };
        Ok(repository)
    }

    /// Loads the index from the cache and brings it up to date with the repository. Needed before
    /// chunks can be read or written.
    ///
    /// # Errors
    /// When the repository cannot be listed or read. A cache that cannot be used is set aside and
    /// made anew, with a note.
    pub fn load_index(&self) -> Result<(), RepositoryError> {
        match self.load_index_from(self.cache_folder()) {
            Err(RepositoryError::Index(unusable)) => {
                self.observer.event(Event::Note(format!("{unusable}; it is made anew")));
                self.rebuild_index()
            }
            result => result,
        }
    }

    /// Sets the cached index aside and makes it anew from what the repository holds.
    ///
    /// # Errors
    /// When the repository cannot be listed or read.
    pub fn rebuild_index(&self) -> Result<(), RepositoryError> {
        let folder = self.cache_folder();
        if let Some(folder) = &folder {
            // Removing a whole cache is safe while another process uses it: open files live on.
            let _ = std::fs::remove_dir_all(folder.path());
        }
        match self.load_index_from(folder) {
            Err(RepositoryError::Index(unusable)) => {
                let note = format!("{unusable}; this run keeps its index in memory");
                self.observer.event(Event::Note(note));
                self.load_index_from(None)
            }
            result => result,
        }
    }

    fn cache_folder(&self) -> Option<CacheFolder> {
        self.cache_base.as_ref().map(|base| CacheFolder::new(base, self.id()))
    }

    fn load_index_from(&self, folder: Option<CacheFolder>) -> Result<(), RepositoryError> {
        let index = Index::open(folder, self.id(), self.keys.cache_check())?;
        *self.index_mut() = index;
        self.refresh_index_once()
    }

    /// Makes sure that the place still holds the repository that was opened, by reading its id
    /// again. To be called before anything is confirmed.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify_place(&self) -> Result<(), RepositoryError> {
        self.storage.verify_place()?;
        let found = read_config(&*self.storage, &self.place, &())?;
        if found.repository_id() == self.id() {
            return Ok(());
        }
        Err(RepositoryError::Replaced(self.place.clone()))
    }
}

/// Reads the configuration, from its second copy when the first is gone or damaged.
fn read_config(
    storage: &dyn Storage,
    place: &str,
    observer: &dyn Observer,
) -> Result<UnverifiedConfig, RepositoryError> {
    let mut failure = None;
    for (name, other) in
        [(ObjectName::CONFIG, "second copy"), (ObjectName::CONFIG_COPY, "first copy")]
    {
        let read = match storage.read(name, MAX_TEXT_LEN) {
            Ok(bytes) => Config::decode(&bytes),
            Err(error) if error.kind == StorageErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        match read {
            Ok(config) => {
                if failure.is_some() {
                    let note = format!("{name} is used: the {other} is damaged");
                    observer.event(Event::Note(note));
                }
                return Ok(config);
            }
            Err(ConfigError::Damaged(reason)) => failure = Some(ConfigError::Damaged(reason)),
            Err(error) => return Err(RepositoryError::Config(error)),
        }
    }
    Err(failure
        .map_or_else(|| RepositoryError::NotARepository(place.to_owned()), RepositoryError::Config))
}

/// Decodes a key slot that was read from storage.
pub(super) fn read_slot(
    storage: &dyn Storage,
    name: ObjectName,
) -> Result<Result<KeySlot, String>, RepositoryError> {
    match storage.read(name, MAX_TEXT_LEN) {
        Ok(bytes) => Ok(KeySlot::decode(&bytes).map_err(|error| error.to_string())),
        Err(error) if error.kind == StorageErrorKind::NotFound => Ok(Err("missing".to_owned())),
        Err(error) if error.kind == StorageErrorKind::TooLong => Ok(Err("too long".to_owned())),
        Err(error) => Err(error.into()),
    }
}
