//! Sealed small objects: roots, sessions, marks and index segments. Snapshots, which have two
//! copies, are in `snapshots.rs`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Repository, RepositoryError, Sealed};
use crate::crypto::header::{HEADER_LEN, ObjectHeader, ObjectType};
use crate::crypto::seal::{open_object, seal_object};
use crate::format::segment::{self, MAX_SEGMENT_LEN, SegmentPack};
use crate::format::snapshot::{self, MAX_RECORD_LEN, Mark, Root, Session};
use crate::id::{SegmentId, SessionId, SnapshotId};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// An object that could not be read, beside the ones that could.
#[derive(Debug)]
pub struct Damaged {
    /// Which object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub error: RepositoryError,
}

/// The records that could be read, and the ones that could not.
pub type ReadAll<T> = (Vec<T>, Vec<Damaged>);

/// Bytes of footers after which an index segment should be closed: whoever makes or reads one has
/// all of it in memory.
pub const SEGMENT_BYTES: usize = 8 << 20;
/// Packs after which an index segment should be closed.
pub const SEGMENT_PACKS: usize = 16384;
/// Room for the header and tag around a sealed body.
const SEAL_ROOM: u64 = 1024;

fn object_type(kind: ObjectKind) -> ObjectType {
    match kind {
        ObjectKind::Segment => ObjectType::Segment,
        ObjectKind::Snapshot | ObjectKind::SnapshotCopy => ObjectType::Snapshot,
        ObjectKind::Root => ObjectType::Root,
        ObjectKind::Session => ObjectType::Session,
        ObjectKind::Mark => ObjectType::Mark,
        ObjectKind::Pack
        | ObjectKind::Parity
        | ObjectKind::Quarantine
        | ObjectKind::Config
        | ObjectKind::ConfigCopy
        | ObjectKind::Key
        | ObjectKind::KeyCopy => ObjectType::Pack,
    }
}

impl Repository {
    fn seal(&self, name: ObjectName, body: &[u8]) -> Vec<u8> {
        let sealing = self.config.sealing;
        seal_object(&self.keys, self.id(), sealing, object_type(name.kind), name.id, body)
    }

    pub(super) fn seal_record<T: Serialize>(&self, name: ObjectName, record: &T) -> Vec<u8> {
        self.seal(name, &snapshot::encode(record))
    }

    fn publish_sealed(&self, name: ObjectName, body: &[u8]) -> Result<u64, RepositoryError> {
        let bytes = self.seal(name, body);
        self.storage.publish(name, &bytes)?;
        Ok(bytes.len() as u64)
    }

    pub(super) fn read_sealed(
        &self,
        name: ObjectName,
        limit: u64,
    ) -> Result<Vec<u8>, RepositoryError> {
        let bytes = match self.storage.read(name, limit + SEAL_ROOM) {
            Err(error) if error.kind == StorageErrorKind::TooLong => {
                let (object, reason) = (name.to_string(), "it is far too long".to_owned());
                return Err(RepositoryError::Damaged { object, reason });
            }
            read => read?,
        };
        let kind = object_type(name.kind);
        open_object(&self.keys, self.id(), self.config.sealing, kind, &name.id, bytes)
            .map_err(|error| RepositoryError::not_opened(name, &error))
    }

    /// Makes sure, before memory is taken for the rest, that an object begins like the one that is
    /// wanted.
    fn check_header(&self, name: ObjectName) -> Result<(), RepositoryError> {
        let mut header = [0; HEADER_LEN];
        if let Err(error) = self.storage.read_range(name, 0, &mut header) {
            if error.kind == StorageErrorKind::Truncated {
                let (object, reason) = (name.to_string(), "it is too short".to_owned());
                return Err(RepositoryError::Damaged { object, reason });
            }
            return Err(error.into());
        }
        ObjectHeader::decode(&header)
            .and_then(|found| found.expect(object_type(name.kind), self.config.sealing, &name.id))
            .map_err(|error| RepositoryError::not_opened(name, &error))
    }

    pub(super) fn read_record<T: DeserializeOwned>(
        &self,
        name: ObjectName,
        what: &'static str,
    ) -> Result<T, RepositoryError> {
        let body = self.read_sealed(name, MAX_RECORD_LEN)?;
        snapshot::decode(what, &body).map_err(|error| RepositoryError::damaged(name, &error))
    }

    /// Reads all records of a kind; what cannot be read is listed beside them: one bad sector must
    /// not hide the others. An object that goes between the listing and the reading is no problem:
    /// it was removed.
    fn read_all<T: DeserializeOwned>(
        &self,
        kind: ObjectKind,
        what: &'static str,
    ) -> Result<ReadAll<(ObjectName, T)>, RepositoryError> {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for (object, _) in self.storage.list(kind)?.objects {
            match self.read_record(object, what) {
                Ok(record) => records.push((object, record)),
                Err(RepositoryError::Storage(error)) => match error.kind {
                    StorageErrorKind::NotFound => {}
                    StorageErrorKind::PlaceLost => return Err(error.into()),
                    _ => damaged.push(Damaged { object, error: error.into() }),
                },
                Err(error) => damaged.push(Damaged { object, error }),
            }
        }
        Ok((records, damaged))
    }

    pub(super) fn publish_record<T: Serialize>(
        &self,
        name: ObjectName,
        record: &T,
    ) -> Result<u64, RepositoryError> {
        self.publish_sealed(name, &snapshot::encode(record))
    }

    /// Publishes a root that is not a confirmed snapshot.
    ///
    /// # Errors
    /// When storage fails.
    pub fn publish_root(&self, id: SnapshotId, root: &Root) -> Result<u64, RepositoryError> {
        self.publish_record(ObjectName::root(id), root)
    }

    /// All roots that are not confirmed snapshots, and the ones that cannot be read.
    ///
    /// # Errors
    /// When storage fails.
    pub fn roots(&self) -> Result<ReadAll<(SnapshotId, Root)>, RepositoryError> {
        let (records, damaged) = self.read_all(ObjectKind::Root, "root")?;
        Ok((records.into_iter().map(|(name, root)| (SnapshotId(name.id), root)).collect(), damaged))
    }

    /// Whether the root is still there: it goes when its snapshot is confirmed or given up.
    ///
    /// # Errors
    /// When storage fails.
    pub fn root_exists(&self, id: SnapshotId) -> Result<bool, RepositoryError> {
        self.has(ObjectName::root(id))
    }

    /// Removes a root that is not a confirmed snapshot.
    ///
    /// # Errors
    /// When storage fails.
    pub fn remove_root(&self, id: SnapshotId) -> Result<(), RepositoryError> {
        Ok(self.storage.delete(ObjectName::root(id))?)
    }

    /// Announces a session.
    ///
    /// # Errors
    /// When storage fails.
    pub fn begin_session(&self, session: &Session) -> Result<u64, RepositoryError> {
        self.publish_record(ObjectName::session(session.id), session)
    }

    /// Whether the session is still announced: a pruner may have revoked it.
    ///
    /// # Errors
    /// When storage fails.
    pub fn session_exists(&self, id: SessionId) -> Result<bool, RepositoryError> {
        self.has(ObjectName::session(id))
    }

    pub(super) fn has(&self, name: ObjectName) -> Result<bool, RepositoryError> {
        match self.storage.len(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When storage fails.
    pub fn end_session(&self, id: SessionId) -> Result<(), RepositoryError> {
        Ok(self.storage.delete(ObjectName::session(id))?)
    }

    /// All sessions that are announced, and the ones that cannot be read.
    ///
    /// # Errors
    /// When storage fails.
    pub fn sessions(&self) -> Result<ReadAll<Session>, RepositoryError> {
        let (mut records, damaged) = self.session_records()?;
        records.retain(|session| !session.over);
        Ok((records, damaged))
    }

    /// As [`Self::sessions`], with the traces of removals that are over.
    ///
    /// # Errors
    /// When storage fails.
    pub(super) fn session_records(&self) -> Result<ReadAll<Session>, RepositoryError> {
        let (records, damaged) = self.read_all(ObjectKind::Session, "session")?;
        Ok((records.into_iter().map(|(_, session)| session).collect(), damaged))
    }

    /// All marks. One that cannot be read is an error: what it condemns must not be relied on.
    ///
    /// # Errors
    /// When storage fails or a mark is damaged.
    pub fn marks(&self) -> Result<Vec<Mark>, RepositoryError> {
        let (marks, damaged) = self.readable_marks()?;
        match damaged.into_iter().next() {
            Some(first) => Err(first.error),
            None => Ok(marks),
        }
    }

    /// All marks that can be read, and the ones that cannot. Enough for whoever only reads chunks;
    /// whoever writes needs [`Self::marks`].
    ///
    /// # Errors
    /// When storage fails.
    pub fn readable_marks(&self) -> Result<ReadAll<Mark>, RepositoryError> {
        let (records, damaged) = self.named_marks()?;
        Ok((records.into_iter().map(|(_, mark)| mark).collect(), damaged))
    }

    /// As [`Self::readable_marks`], with the names of the objects.
    ///
    /// # Errors
    /// When storage fails.
    pub fn named_marks(&self) -> Result<ReadAll<(ObjectName, Mark)>, RepositoryError> {
        self.read_all(ObjectKind::Mark, "mark")
    }

    /// Removes the marks of packs that are all gone.
    ///
    /// # Errors
    /// When storage fails.
    pub fn remove_finished_marks(&self) -> Result<(), RepositoryError> {
        let (marks, _) = self.named_marks()?;
        if marks.is_empty() {
            return Ok(());
        }
        // Packs are listed after the marks: a pack that is not among them was deleted for good.
        let present = self.list_packs()?;
        for (name, mark) in marks {
            if !mark.packs.iter().any(|pack| present.contains_key(pack)) {
                self.storage.delete(name)?;
            }
        }
        Ok(())
    }

    /// Publishes a mark and returns the id of its object.
    ///
    /// # Errors
    /// When storage fails.
    pub fn publish_mark(&self, mark: &Mark) -> Result<[u8; 16], RepositoryError> {
        let id = SessionId::random().0;
        self.publish_record(ObjectName::mark(id), mark)?;
        Ok(id)
    }

    /// An index segment that lists `packs`, to be published.
    pub fn seal_segment(&self, id: SegmentId, packs: &[SegmentPack]) -> Sealed {
        let name = ObjectName::segment(id);
        Sealed { name, bytes: self.seal(name, &segment::encode(packs)) }
    }

    /// Publishes an index segment that lists `packs` and returns its stored length in bytes.
    ///
    /// # Errors
    /// When storage fails.
    pub fn publish_segment(
        &self,
        id: SegmentId,
        packs: &[SegmentPack],
    ) -> Result<u64, RepositoryError> {
        self.publish_sealed(ObjectName::segment(id), &segment::encode(packs))
    }

    /// Reads an index segment.
    ///
    /// # Errors
    /// When storage fails or the segment is damaged.
    pub fn read_segment(&self, id: SegmentId) -> Result<Vec<SegmentPack>, RepositoryError> {
        let name = ObjectName::segment(id);
        self.check_header(name)?;
        let body = self.read_sealed(name, MAX_SEGMENT_LEN)?;
        segment::decode(&body).map_err(|error| RepositoryError::damaged(name, &error))
    }
}
