//! A repository in a folder of another machine, over SFTP, by the user's own `ssh`. Paths are
//! resolved by the server, which is trusted with no more than any place: it can lose what it is
//! given, and nothing else.

use std::sync::Arc;
use std::time::SystemTime;

use openssh_sftp_client_lowlevel::Extensions;
use rustix::fs::FileType;

use super::listing::is_unused;
use super::name::Folder;
use super::place::RemotePlace;
use super::sftp_connection::Connection;
use super::sftp_fault::{Fault, REACH};
use super::sftp_owner::{DeadOwner, Ownership};
use super::sftp_pending::{PendingRemote, cannot_sync, folder_not_synced, truncated};
use super::sftp_server::{Facts, Held, Server};
use super::sftp_ssh::{Ssh, command};
use super::{
    Listing, ObjectKind, ObjectName, ObjectTimes, PendingObject, Storage, StorageError,
    StorageErrorKind,
};

/// Longest config that is compared, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Requests of one kind that are under way at once.
pub(super) const AT_ONCE: usize = 64;

/// A repository in a folder of another machine.
#[derive(Debug)]
pub struct SftpStorage {
    pub(super) server: Arc<Server>,
    place: String,
    pub(super) ownership: Arc<Ownership>,
    /// The configs that were found when it was opened.
    configs: Vec<Vec<u8>>,
}

impl SftpStorage {
    /// Makes the folder of a new repository with all its sub-folders, durably; as
    /// [`LocalStorage::create`](super::LocalStorage::create).
    ///
    /// # Errors
    /// `AlreadyExists` when there is something at `place`; `PlaceLost` when the machine cannot be
    /// reached; whatever else stands in the way.
    pub fn create(place: &RemotePlace, ssh: &Ssh) -> Result<Self, StorageError> {
        let storage = Self::connect(place, ssh)?;
        let failed = |fault: Fault| fault.during("create", &storage.place);
        let made = storage.make_top().map_err(failed)?;
        if !made && !is_unused(&storage)? {
            return Err(failed(Fault::Known(StorageErrorKind::AlreadyExists)));
        }
        storage.make_folders(Folder::all_below_top().collect()).map_err(failed)?;
        if made {
            // The name of the repository itself has to survive a power failure, too.
            storage.sync(storage.server.above_top()).map_err(failed)?;
        }
        Ok(storage)
    }

    /// Opens the folder of a repository: one that holds a config, or at least the copy of one.
    ///
    /// # Errors
    /// `NotFound` when there is no repository at `place`; `PlaceLost` when the machine cannot be
    /// reached; whatever else stands in the way.
    pub fn open(place: &RemotePlace, ssh: &Ssh) -> Result<Self, StorageError> {
        let mut storage = Self::connect(place, ssh)?;
        storage.configs = storage.read_configs()?;
        if storage.configs.is_empty() {
            return Err(Fault::NotFound.during("open", place));
        }
        Ok(storage)
    }

    /// Whether there is a repository at `place`, if not that one can be made there: there is an
    /// empty folder, or none in a folder that is there.
    ///
    /// # Errors
    /// `AlreadyExists` when something else is there; `NotFound` when the folder above is not;
    /// `PlaceLost` when the machine cannot be reached; whatever else stands in the way.
    pub fn has_repository(place: &RemotePlace, ssh: &Ssh) -> Result<bool, StorageError> {
        let storage = Self::connect(place, ssh)?;
        if !storage.read_configs()?.is_empty() {
            return Ok(true);
        }
        let failed = |fault: Fault| fault.during("look at", place);
        match storage.server.is_folder(Folder::Top) {
            Ok(true) if is_unused(&storage)? => Ok(false),
            Ok(_) => Err(failed(Fault::Known(StorageErrorKind::AlreadyExists))),
            Err(Fault::NotFound) => match storage.server.is_folder_above() {
                Ok(true) => Ok(false),
                Ok(false) => Err(failed(Fault::NotFound)),
                Err(fault) => Err(failed(fault)),
            },
            Err(fault) => Err(failed(fault)),
        }
    }

    /// Whether the connection still holds, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.server.connection().is_open()
    }

    fn connect(place: &RemotePlace, ssh: &Ssh) -> Result<Self, StorageError> {
        let failed = |fault: Fault| fault.during(REACH, place);
        let connection = Connection::open(&mut command(place, ssh)).map_err(failed)?;
        let needed = [
            (Extensions::FSYNC, "the server cannot make files durable (fsync@openssh.com)"),
            (Extensions::HARDLINK, "the server makes no hard links (hardlink@openssh.com)"),
            (Extensions::POSIX_RENAME, "the server does not rename (posix-rename@openssh.com)"),
        ];
        let missing = needed.iter().find(|(one, _)| !connection.extensions.contains(*one));
        if let Some((_, text)) = missing {
            return Err(Fault::Strange(text).during("use", place));
        }
        let text = place.to_string();
        Ok(Self {
            server: Arc::new(Server::new(connection, place.path())),
            ownership: Arc::new(Ownership::new(ssh.notes.clone(), text.clone())),
            place: text,
            configs: Vec::new(),
        })
    }

    /// The configs that are there, of which there should be two.
    fn read_configs(&self) -> Result<Vec<Vec<u8>>, StorageError> {
        let mut configs = Vec::new();
        for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
            match self.read(name, MAX_CONFIG) {
                Ok(bytes) => configs.push(bytes),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(configs)
    }

    /// The place, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The path of an object.
    pub(super) fn at(&self, name: ObjectName) -> String {
        self.server.path(name.folder(), &name.file_name())
    }

    /// Facts about an object.
    fn facts(&self, name: ObjectName) -> Result<Facts, Fault> {
        only_regular(self.server.facts(self.server.ask(&self.at(name))?)?)
    }

    /// An object, open, and facts about it.
    fn open_object(&self, name: ObjectName) -> Result<(Held, Facts), Fault> {
        let at = self.at(name);
        let (asking, opening) = (self.server.ask(&at)?, self.server.open(&at)?);
        let facts = self.server.facts(asking)?;
        if facts.file_type == FileType::Fifo {
            // The server waits for whoever writes into it, and answers nothing more.
            self.server.connection().give_up("a pipe lies where an object belongs");
        }
        let facts = only_regular(facts)?;
        Ok((self.server.held(opening)?, facts))
    }
}

fn only_regular(facts: Facts) -> Result<Facts, Fault> {
    match facts.file_type {
        FileType::RegularFile => Ok(facts),
        _ => Err(Fault::Strange("not a regular file")),
    }
}

impl Storage for SftpStorage {
    fn create(
        &self,
        name: ObjectName,
        _expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        let begin = || PendingRemote::begin(&self.server, &self.ownership, name);
        let pending = match begin() {
            Err(Fault::NotFound) if name.folder().may_be_absent() => {
                self.make_missing(name.folder())?;
                begin()
            }
            begun => begun,
        };
        Ok(Box::new(pending.map_err(|fault| fault.during("create", name))?))
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        let failed = |fault: Fault| fault.during("read", name);
        let (held, facts) = self.open_object(name).map_err(failed)?;
        if facts.len > limit {
            return Err(failed(Fault::Known(StorageErrorKind::TooLong)));
        }
        let len = usize::try_from(facts.len).ok();
        let mut bytes = Vec::new();
        let Some(len) = len.filter(|&len| bytes.try_reserve_exact(len).is_ok()) else {
            return Err(failed(Fault::Strange("there is no memory for it")));
        };
        bytes.resize(len, 0);
        match held.read(0, &mut bytes).map_err(failed)? {
            true => Ok(bytes),
            false => Err(failed(truncated())),
        }
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let failed = |fault: Fault| fault.during("read", name);
        let (held, facts) = self.open_object(name).map_err(failed)?;
        let end = u64::try_from(buffer.len()).ok().and_then(|wanted| offset.checked_add(wanted));
        if end.is_none_or(|end| end > facts.len) {
            return Err(failed(truncated()));
        }
        match held.read(offset, buffer).map_err(failed)? {
            true => Ok(()),
            false => Err(failed(truncated())),
        }
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.facts(name).map(|facts| facts.len).map_err(|fault| fault.during("measure", name))
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.facts(name).map(|facts| facts.modified).map_err(|fault| fault.during("measure", name))
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        Ok(self.list_kind(kind)?.0)
    }

    fn list_with_times(&self, kind: ObjectKind) -> Result<(Listing, ObjectTimes), StorageError> {
        self.list_kind(kind)
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        let removed = || {
            let opening = self.server.open(&self.server.folder(name.folder()))?;
            let removing = self.server.remove(&self.at(name))?;
            let held = self.server.held(opening);
            match self.server.done(removing) {
                Ok(()) | Err(Fault::NotFound) => {}
                Err(fault) => {
                    return Err(self.server.explain(fault, &self.server.folder(Folder::Top)));
                }
            }
            match held {
                // Also after "no such file": whoever removed it may have died before this step.
                Ok(held) => self.server.done(held.sync()?).or_else(folder_not_synced),
                Err(Fault::NotFound) => Ok(()),
                Err(fault) => Err(cannot_sync(fault)),
            }
        };
        removed().map_err(|fault| fault.during("delete", name))
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        self.exchange(one, other).map_err(|fault| fault.during("exchange", one))
    }

    fn set_aside(&self, name: ObjectName) -> Result<ObjectName, StorageError> {
        let failed = |fault: Fault| fault.during("set aside", name);
        let aside = ObjectName::quarantine(crate::id::SessionId::random().0);
        self.server
            .ask(&self.at(name))
            .and_then(|asking| self.server.facts(asking))
            .map_err(failed)?;
        match self.server.is_folder(Folder::Quarantine) {
            Err(Fault::NotFound) => self.make_missing(Folder::Quarantine)?,
            other => drop(other.map_err(failed)?),
        }
        self.move_aside(name, aside).map_err(failed)?;
        Ok(aside)
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        let lost = |source| StorageError {
            operation: "find",
            object: self.place.clone(),
            kind: StorageErrorKind::PlaceLost,
            source,
        };
        if self.configs.is_empty() {
            // Made just now, and without a config yet.
            let top = self.server.is_folder(Folder::Top);
            return if matches!(top, Ok(true)) { Ok(()) } else { Err(lost(None)) };
        }
        for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
            match self.read(name, MAX_CONFIG) {
                Ok(config) if self.configs.contains(&config) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(lost(error.source)),
            }
        }
        Err(lost(None))
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        let dead = self.ownership.dead();
        if dead.is_empty() {
            return Ok(0);
        }
        let swept = self.sweep_behind(&dead)?;
        dead.into_iter().for_each(DeadOwner::forget);
        Ok(swept)
    }
}
