//! An object that is being written to a server over SFTP: the one place that makes one durable and
//! visible there.
//!
//! The order is that of a folder of this machine, as far as the protocol reaches. The content goes
//! to a temporary name, made with `EXCL`; `fsync@openssh.com` makes it durable; the length is
//! compared. Then `hardlink@openssh.com` gives it its name, which never replaces anything (the
//! server's `rename` may), and the folder is opened as a file is and synced in the same way, which
//! makes the name durable: OpenSSH's server calls fsync(2) on whatever was opened. A server that
//! does not open folders is refused before a byte is written.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::fs::FileType;

use super::name::Folder;
use super::sftp_fault::Fault;
use super::sftp_owner::Ownership;
use super::sftp_server::{Done, Held, PIECE, Server};
use super::temporary::new_name_of;
use super::{ObjectName, PendingObject, StorageError, StorageErrorKind};

/// Writes that are under way at once.
const MAX_UNDER_WAY: usize = 64;

/// An object that is being written under a temporary name in the folder that it will stay in.
pub(super) struct PendingRemote {
    server: Arc<Server>,
    ownership: Arc<Ownership>,
    name: ObjectName,
    /// The path of the temporary name, as long as it exists.
    temporary: Option<String>,
    /// Open, as long as nothing has failed.
    file: Option<Held>,
    folder: Option<Held>,
    under_way: VecDeque<Done>,
    /// Bytes appended.
    written: u64,
}

impl PendingRemote {
    /// Begins the object `name`.
    pub(super) fn begin(
        server: &Arc<Server>,
        ownership: &Arc<Ownership>,
        name: ObjectName,
    ) -> Result<Self, Fault> {
        let folder = name.folder();
        let temporary = server.path(folder, &new_name_of(&ownership.begin()));
        let mut pending = Self {
            server: Arc::clone(server),
            ownership: Arc::clone(ownership),
            name,
            // Until it is known that it was not made.
            temporary: Some(temporary.clone()),
            file: None,
            folder: None,
            under_way: VecDeque::new(),
            written: 0,
        };
        let at = server.folder(folder);
        let (about, opening) = (server.ask_folder(folder)?, server.open(&at)?);
        let making = server.make(&temporary)?;
        let about = server.facts(about);
        let opened = server.held(opening);
        let made = server.held(making).map_err(|fault| server.explain(fault, &at));
        if made.as_ref().is_err_and(|fault| !matches!(fault, Fault::Lost(_))) {
            pending.temporary = None;
        }
        // A link that somebody planted must not lead out of the repository.
        if about?.file_type != FileType::Directory {
            return Err(Fault::Strange("its folder is no folder"));
        }
        pending.file = Some(made?);
        pending.folder = Some(opened.map_err(cannot_sync)?);
        Ok(pending)
    }

    fn dead(&self, operation: &'static str) -> StorageError {
        Fault::Strange("an earlier write to this object failed").during(operation, self.name)
    }

    fn start_writing(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for piece in bytes.chunks(PIECE) {
            if self.under_way.len() == MAX_UNDER_WAY {
                self.finish_writing(1)?;
            }
            let Some(file) = &self.file else { break };
            let done = file.write(self.written, piece)?;
            self.under_way.push_back(done);
            self.written += u64::try_from(piece.len()).expect("memory is smaller than 2^64 bytes");
        }
        Ok(())
    }

    /// Waits for the `count` oldest writes.
    fn finish_writing(&mut self, count: usize) -> Result<(), Fault> {
        for done in self.under_way.drain(..count) {
            self.server.done(done)?;
        }
        Ok(())
    }

    /// Everything up to the point at which the object is durable under its final name.
    fn finish(&mut self, file: &Held, folder: &Held) -> Result<(), Fault> {
        // Both may be sent before the writes were answered: what concerns one file a server does
        // in the order in which it was asked.
        let (syncing, asking) = (file.sync()?, file.ask()?);
        self.finish_writing(self.under_way.len())?;
        self.server.done(syncing)?;
        if self.server.facts(asking)?.len != self.written {
            return Err(Fault::Strange("the server kept more or less than was written"));
        }
        let Some(temporary) = self.temporary.clone() else { return Ok(()) };
        let target = self.server.path(self.name.folder(), &self.name.file_name());
        let linking = self.server.link(&temporary, &target)?;
        let (syncing, removing) = (folder.sync()?, self.server.remove(&temporary)?);
        let linked = self.server.done(linking);
        let synced = self.server.done(syncing);
        if self.server.done(removing).is_ok() {
            self.temporary = None;
        }
        linked.map_err(|fault| self.not_linked(fault, &target))?;
        synced.or_else(folder_not_synced)
    }

    /// Why the name could not be given: the protocol has no number for "it is taken".
    fn not_linked(&self, fault: Fault, target: &str) -> Fault {
        if !fault.is_vague() && !matches!(fault, Fault::Denied) {
            return fault;
        }
        match self.server.ask(target).and_then(|asking| self.server.facts(asking)) {
            Ok(_) => Fault::Known(StorageErrorKind::AlreadyExists),
            Err(Fault::NotFound) => self.no_link_but(fault),
            Err(other) => other,
        }
    }

    fn no_link_but(&self, fault: Fault) -> Fault {
        match self.server.explain(fault, &self.server.folder(Folder::Top)) {
            Fault::Known(kind) => Fault::Known(kind),
            _ => Fault::Strange("the server cannot make a hard link there"),
        }
    }

    /// Gives the object up, and with it the space that it took.
    fn discard(&mut self) {
        self.file = None;
        self.folder = None;
        if let Some(temporary) = self.temporary.clone() {
            // Best effort: what stays is neither listed nor read, and swept later.
            let removed = self.server.remove(&temporary).and_then(|done| self.server.done(done));
            if matches!(removed, Ok(()) | Err(Fault::NotFound)) {
                self.temporary = None;
            }
        }
    }

    /// The end of the object because of `fault`, with a reason as good as can be had.
    fn failed(&mut self, fault: Fault, operation: &'static str) -> StorageError {
        let fault = self.server.explain(fault, &self.server.folder(self.name.folder()));
        self.discard();
        fault.during(operation, self.name)
    }
}

impl PendingObject for PendingRemote {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if self.file.is_none() {
            return Err(self.dead("write"));
        }
        self.start_writing(bytes).map_err(|fault| self.failed(fault, "write"))
    }

    fn len(&self) -> u64 {
        self.written
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let Some(file) = self.file.take() else { return Err(self.dead("read")) };
        let read = self
            .finish_writing(self.under_way.len())
            .and_then(|()| file.read(offset, buffer))
            .and_then(|whole| if whole { Ok(()) } else { Err(truncated()) });
        match read {
            Ok(()) => self.file = Some(file),
            Err(fault) => {
                drop(file);
                return Err(self.failed(fault, "read"));
            }
        }
        Ok(())
    }

    fn publish(mut self: Box<Self>) -> Result<(), StorageError> {
        let (Some(file), Some(folder)) = (self.file.take(), self.folder.take()) else {
            return Err(self.dead("publish"));
        };
        // On failure the temporary name is removed when `self` is dropped.
        self.finish(&file, &folder).map_err(|fault| self.failed(fault, "publish"))
    }
}

impl Drop for PendingRemote {
    fn drop(&mut self) {
        self.discard();
        self.ownership.end(self.temporary.is_none());
    }
}

/// An object is shorter than it must be.
pub(super) fn truncated() -> Fault {
    Fault::Known(StorageErrorKind::Truncated)
}

/// Why a folder could not be opened in order to sync it.
pub(super) fn cannot_sync(fault: Fault) -> Fault {
    if fault.is_vague() {
        return Fault::Strange("the server cannot make names durable, as that of OpenSSH can");
    }
    fault
}

/// Some file systems cannot sync folders, and have nothing to sync in them either.
pub(super) fn folder_not_synced(fault: Fault) -> Result<(), Fault> {
    if matches!(fault, Fault::Senseless(_)) { Ok(()) } else { Err(fault) }
}
