//! Where a repository's objects lie: the trait that the rest is written against, and its
//! implementors. An object is written once, appears whole under its final name or not at all, and
//! is never changed.

mod error;
mod listing;
mod local;
mod local_folder;
mod local_group;
mod local_listing;
mod local_pending;
mod memory;
mod name;
mod place;
mod sftp;
mod sftp_connection;
mod sftp_fault;
mod sftp_folders;
mod sftp_list;
mod sftp_moves;
mod sftp_owner;
mod sftp_packets;
mod sftp_pending;
mod sftp_server;
mod sftp_ssh;
mod temporary;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

pub use error::{StorageError, StorageErrorKind};
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use name::{ObjectKind, ObjectName, ParseNameError};
pub use place::{ParsePlaceError, Place, RemotePlace};
pub use sftp::SftpStorage;
pub use sftp_ssh::Ssh;

/// All objects of one kind, and what else lies among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects with their lengths in bytes, sorted by name.
    pub objects: Vec<(ObjectName, u64)>,
    /// Paths inside the repository, sorted, of what is there but is no object: strange names,
    /// folders and links where an object belongs, packs in a wrong folder. Bytes that are not
    /// UTF-8 are replaced.
    pub foreign: Vec<String>,
}

/// When objects were stored, as [`Storage::modified`] says.
pub type ObjectTimes = BTreeMap<ObjectName, SystemTime>;

/// A place that holds the objects of one repository.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Begins an object that becomes visible only by [`PendingObject::publish`].
    ///
    /// `expected_len`, in bytes, is a guess: where the place can, and has it, it sets so much space
    /// aside.
    ///
    /// # Errors
    /// When the place cannot be written to or has no space.
    fn create(
        &self,
        name: ObjectName,
        expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError>;

    /// Publishes `bytes` under `name`; see [`PendingObject::publish`].
    ///
    /// # Errors
    /// As [`Storage::create`], [`PendingObject::append`] and [`PendingObject::publish`].
    fn publish(&self, name: ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        let expected_len = u64::try_from(bytes.len()).ok();
        let mut object = self.create(name, expected_len)?;
        object.append(bytes)?;
        object.publish()
    }

    /// Publishes objects of which none depends on another, each as by [`PendingObject::publish`],
    /// and settles those of `beside` meanwhile. All are tried; the results are in their order.
    fn publish_all(
        &self,
        objects: Vec<Box<dyn PendingObject>>,
        beside: &mut [Box<dyn PendingObject>],
    ) -> Vec<Result<(), StorageError>> {
        beside.iter_mut().for_each(|object| object.settle());
        objects.into_iter().map(PendingObject::publish).collect()
    }

    /// The whole object.
    ///
    /// # Errors
    /// `TooLong` for an object of more than `limit` bytes, before any memory is taken for it;
    /// `NotFound`; whatever else stands in the way.
    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError>;

    /// Fills the whole of `buffer` with the bytes of the object from `offset` on.
    ///
    /// # Errors
    /// `Truncated` when the object ends before the buffer is full; `NotFound`; whatever else
    /// stands in the way. The buffer's content is then of no use.
    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError>;

    /// The object's length in bytes.
    ///
    /// # Errors
    /// `NotFound`; whatever else stands in the way.
    fn len(&self, name: ObjectName) -> Result<u64, StorageError>;

    /// When the object was stored, by the clock of the place. Whoever can only add objects cannot
    /// choose it freely, as they can what is in an object; a copy of the repository may have lost
    /// it, so nothing that is needed may depend on it.
    ///
    /// # Errors
    /// `NotFound`; whatever else stands in the way.
    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError>;

    /// All objects of a kind. Objects that are published or deleted meanwhile may or may not be
    /// among them; unfinished objects never are.
    ///
    /// # Errors
    /// When anything of the list could not be had: a list is whole or it is an error.
    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError>;

    /// As [`Storage::list`], with the times at which the objects were stored. An object that is
    /// deleted meanwhile may have no time.
    ///
    /// # Errors
    /// As [`Storage::list`].
    fn list_with_times(&self, kind: ObjectKind) -> Result<(Listing, ObjectTimes), StorageError> {
        let listing = self.list(kind)?;
        let mut times = ObjectTimes::new();
        for (name, _) in &listing.objects {
            match self.modified(*name) {
                Ok(time) => drop(times.insert(*name, time)),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((listing, times))
    }

    /// Removes an object for good. An object that does not exist counts as removed.
    ///
    /// # Errors
    /// When the object may still be there, or may come back after a power failure.
    fn delete(&self, name: ObjectName) -> Result<(), StorageError>;

    /// Removes objects, in this order, of which none must be gone for good before another goes. All
    /// are tried.
    ///
    /// # Errors
    /// As [`Storage::delete`], for the first that could not be removed.
    fn delete_all(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        let results: Vec<_> = names.iter().map(|name| self.delete(*name)).collect();
        results.into_iter().collect()
    }

    /// Exchanges the names of two objects, at once and durably: at no time is either name without
    /// one of them. For what was rebuilt to take the place of what was damaged.
    ///
    /// # Errors
    /// `NotFound` when one of them is not there; when the place cannot do it. The names are then
    /// as they were; when the very last step failed they may be exchanged.
    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError>;

    /// Moves an object, whatever is in it and whether it can be read or not, to the quarantine.
    /// Returns its name there.
    ///
    /// # Errors
    /// `NotFound`; when the place cannot do it; when the object may still be where it was, or may
    /// be there again after a power failure.
    fn set_aside(&self, name: ObjectName) -> Result<ObjectName, StorageError> {
        Err(StorageError::new("set aside", name, StorageErrorKind::Other))
    }

    /// Makes sure that the place this storage was opened at still leads to it.
    ///
    /// # Errors
    /// `PlaceLost` when it was unmounted, moved away, removed or replaced.
    fn verify_place(&self) -> Result<(), StorageError>;

    /// Removes what dead processes left behind of unfinished objects, and returns how many there
    /// were. What belongs to a living process, or may do so, stays.
    ///
    /// # Errors
    /// When the place cannot be listed or written to.
    fn sweep_abandoned(&self) -> Result<u64, StorageError>;
}

/// An object that is being written. Dropped before it is published, it leaves nothing behind.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a new object is empty")]
pub trait PendingObject: Send {
    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// Any error is the end of this object: it is removed, and so is the space it took.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// The bytes appended so far.
    fn len(&self) -> u64;

    /// Fills the whole of `buffer` with what was appended, from `offset` on.
    ///
    /// # Errors
    /// `Truncated` when less was appended; any other error is the end of this object.
    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Makes durable what was appended, so that publishing it has less to wait for. What goes wrong
    /// is told by [`PendingObject::publish`].
    fn settle(&mut self) {}

    /// Makes the object durable and visible under its name, at once.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; the object that has it stays as it was. After
    /// any other error the object is usually not there; when the very last step failed it may be,
    /// but then whole.
    fn publish(self: Box<Self>) -> Result<(), StorageError>;
}
