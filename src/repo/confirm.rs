//! The last step of a snapshot: its record is published, in two copies, and from then on it exists.

use super::snapshots::CopyState;
use super::{Repository, RepositoryError};
use crate::format::snapshot::{Root, Snapshot};
use crate::id::SnapshotId;
use crate::storage::{ObjectName, PendingObject, StorageErrorKind};

/// An object that is sealed and not written yet.
#[derive(Debug)]
pub struct Sealed {
    /// What it will be called.
    pub name: ObjectName,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Both copies of a record, written and not yet published.
pub struct PreparedRecord {
    snapshot: SnapshotId,
    /// The second copy, which is published first, and the record.
    copies: Vec<Box<dyn PendingObject>>,
}

impl std::fmt::Debug for PreparedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedRecord({})", self.snapshot)
    }
}

impl Repository {
    /// Writes an object, to be published later.
    fn begin(&self, sealed: &Sealed) -> Result<Box<dyn PendingObject>, RepositoryError> {
        let expected_len = u64::try_from(sealed.bytes.len()).ok();
        let mut object = self.storage.create(sealed.name, expected_len)?;
        object.append(&sealed.bytes)?;
        Ok(object)
    }

    /// Publishes the tentative root that announces `snapshot` and, at the same time, an index
    /// segment. The record is prepared meanwhile. Whether the segment was published is the second
    /// answer, also when something else failed.
    pub fn announce_root(
        &self,
        snapshot: &Snapshot,
        root: &Root,
        segment: Option<&Sealed>,
    ) -> (Result<PreparedRecord, RepositoryError>, bool) {
        let root = Sealed {
            name: ObjectName::root(snapshot.id),
            bytes: self.seal_record(ObjectName::root(snapshot.id), root),
        };
        let begun = || -> Result<_, RepositoryError> {
            let both = segment.into_iter().chain([&root]);
            let objects = both.map(|sealed| self.begin(sealed)).collect::<Result<_, _>>()?;
            Ok((objects, self.prepare(snapshot)?))
        };
        let (objects, mut prepared) = match begun() {
            Ok(begun) => begun,
            Err(error) => return (Err(error), false),
        };
        let mut results = self.storage.publish_all(objects, &mut prepared.copies);
        let root = results.pop().unwrap_or(Ok(()));
        let listed = results.pop().unwrap_or(Ok(()));
        let is_listed = listed.is_ok();
        (root.and(listed).map(|()| prepared).map_err(RepositoryError::from), is_listed)
    }

    fn prepare(&self, snapshot: &Snapshot) -> Result<PreparedRecord, RepositoryError> {
        let id = snapshot.id;
        let snapshot = mirrored(snapshot);
        let copies = [ObjectName::snapshot_copy(id), ObjectName::snapshot(id)]
            .map(|name| self.begin(&Sealed { name, bytes: self.seal_record(name, &snapshot) }));
        let copies = copies.into_iter().collect::<Result<_, _>>()?;
        Ok(PreparedRecord { snapshot: id, copies })
    }

    /// Confirms a snapshot: from here on it exists. The place is looked at once more before. A
    /// tentative root must have announced it. Returns how many bytes that took; nothing when
    /// somebody has given the snapshot up, so that it does not exist and never will.
    ///
    /// # Errors
    /// When the place holds another repository by now, or storage fails.
    pub fn confirm(&self, snapshot: &Snapshot) -> Result<Option<u64>, RepositoryError> {
        self.verify_place()?;
        let prepared = self.prepare(snapshot)?;
        self.publish_prepared(snapshot, prepared)
    }

    /// As [`Self::confirm`], with the record that was prepared for this snapshot.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub fn confirm_prepared(
        &self,
        snapshot: &Snapshot,
        prepared: PreparedRecord,
    ) -> Result<Option<u64>, RepositoryError> {
        if prepared.snapshot != snapshot.id {
            return self.confirm(snapshot);
        }
        self.verify_place()?;
        self.publish_prepared(snapshot, prepared)
    }

    fn publish_prepared(
        &self,
        snapshot: &Snapshot,
        prepared: PreparedRecord,
    ) -> Result<Option<u64>, RepositoryError> {
        let snapshot = mirrored(snapshot);
        let copy_name = ObjectName::snapshot_copy(snapshot.id);
        let mut copies = prepared.copies.into_iter();
        let (Some(copy), Some(record)) = (copies.next(), copies.next()) else { return Ok(None) };
        let copy = self.publish_copy(copy_name, copy, &snapshot)?;
        match self.publish_copy(ObjectName::snapshot(snapshot.id), record, &snapshot)? {
            Some(record) => {
                self.remember_confirmed(snapshot.id);
                Ok(Some(copy.unwrap_or_default() + record))
            }
            None => {
                self.storage.delete(copy_name)?;
                Ok(None)
            }
        }
    }

    /// Publishes one copy of a record, or finds that it is there already: the answer to a call may
    /// have been lost, and the call made again. Nothing when the snapshot was given up.
    fn publish_copy(
        &self,
        name: ObjectName,
        object: Box<dyn PendingObject>,
        snapshot: &Snapshot,
    ) -> Result<Option<u64>, RepositoryError> {
        let len = object.len();
        let taken = match object.publish() {
            Err(error) if error.kind == StorageErrorKind::AlreadyExists => error,
            published => return Ok(published.map(|()| Some(len))?),
        };
        match self.read_copy(name, snapshot.id)? {
            Ok(found) if found == *snapshot => Ok(Some(0)),
            Err(CopyState::GivenUp) => Ok(None),
            _ => Err(taken.into()),
        }
    }
}

fn mirrored(snapshot: &Snapshot) -> Snapshot {
    Snapshot { mirrored: true, ..snapshot.clone() }
}
