//! The records of confirmed snapshots. Each lies in the repository twice, because it is all that
//! leads to the snapshot's data: one copy that is lost or damaged costs nothing and is noticed.
//!
//! The copy is published first and the record second; the record is removed first and the copy
//! second. Who does either says so before (a tentative root, a session that forgets) and takes
//! that back afterwards, so that half of a pair is always either explained or damage.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Damaged, ReadAll, Repository, RepositoryError, times};
use crate::format::entry::Timestamp;
use crate::format::snapshot::{self, GivenUp, MAX_RECORD_LEN, ProcessIdentity, Session, Snapshot};
use crate::id::{SessionId, SnapshotId};
use crate::storage::{ObjectKind, ObjectName, ObjectTimes, StorageErrorKind};

/// Who is at work, as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The machine's name.
    pub host: String,
    /// The time, for people.
    pub now: Timestamp,
    /// What tells this process from others of the machine, where that can be known.
    pub identity: Option<ProcessIdentity>,
}

impl Presence {
    /// A new session of this process.
    pub fn session(&self, role: &str, forgets: Vec<SnapshotId>) -> Session {
        Session {
            id: SessionId::random(),
            role: role.to_owned(),
            host: self.host.clone(),
            process: std::process::id(),
            started: self.now.into(),
            identity: self.identity.clone(),
            forgets,
            over: false,
        }
    }
}

/// Why one of the two copies of a snapshot's record cannot be read.
#[derive(Debug)]
pub enum CopyState {
    /// It is not there, and nothing explains that.
    Missing,
    /// It is there and cannot be used.
    Damaged(RepositoryError),
    /// There never was a snapshot, and there never will be one: see [`GivenUp`].
    GivenUp,
}

/// The confirmed snapshots, and what was found on the way to them.
#[derive(Debug, Default)]
pub struct SnapshotRecords {
    /// All that can be read from one of their copies, oldest first by their
    /// [trusted](times::trusted) times.
    pub snapshots: Vec<Snapshot>,
    /// When each was stored, by the clock of the place.
    pub stored: HashMap<SnapshotId, Timestamp>,
    /// Those of which neither copy can be read.
    pub damaged: Vec<Damaged>,
    /// Copies that should be there and are not, or cannot be read, while the other one can.
    pub lost_copies: Vec<(ObjectName, CopyState)>,
    /// Ids of snapshots that somebody forgets or forgot, as far as there is a trace of it.
    pub forgotten: HashSet<SnapshotId>,
    /// Ids of which no snapshot will ever be confirmed.
    pub given_up: Vec<SnapshotId>,
}

impl SnapshotRecords {
    /// The time by which a snapshot is put in order.
    pub fn trusted(&self, snapshot: &Snapshot) -> Timestamp {
        let claimed = snapshot.time.into();
        self.stored.get(&snapshot.id).map_or(claimed, |stored| times::trusted(claimed, *stored))
    }

    /// Whether a snapshot claims to be of a time long after it was stored.
    pub fn is_of_the_future(&self, snapshot: &Snapshot) -> bool {
        let stored = self.stored.get(&snapshot.id);
        stored.is_some_and(|stored| times::is_of_the_future(snapshot.time.into(), *stored))
    }
}

/// Which copies the listings show, and what explains that one of a pair is not among them.
struct Listings {
    originals: BTreeSet<SnapshotId>,
    copies: BTreeSet<SnapshotId>,
    /// Being confirmed: the record may not be there yet, and then the snapshot does not exist.
    tentative: HashSet<SnapshotId>,
    /// Being removed: they count as removed.
    forgotten: HashSet<SnapshotId>,
    /// When the originals were stored; the copies where there is no original.
    stored: HashMap<SnapshotId, Timestamp>,
}

impl Repository {
    /// All confirmed snapshots, oldest first by their [trusted](times::trusted) times, and the ones
    /// that cannot be read.
    ///
    /// # Errors
    /// When storage fails.
    pub fn snapshots(&self) -> Result<ReadAll<Snapshot>, RepositoryError> {
        let found = self.snapshot_records(false)?;
        Ok((found.snapshots, found.damaged))
    }

    /// All confirmed snapshots; with `both`, each copy is read though the other one is whole.
    ///
    /// # Errors
    /// When storage fails.
    pub fn snapshot_records(&self, both: bool) -> Result<SnapshotRecords, RepositoryError> {
        let listed = self.list_snapshots(both)?;
        let mut found = SnapshotRecords::default();
        let ids: BTreeSet<SnapshotId> = listed.originals.union(&listed.copies).copied().collect();
        for id in ids.into_iter().filter(|id| !listed.forgotten.contains(id)) {
            let unconfirmed = listed.tentative.contains(&id) && !listed.originals.contains(&id);
            if !unconfirmed {
                self.read_pair(id, &listed, both, &mut found)?;
            }
        }
        (found.stored, found.forgotten) = (listed.stored, listed.forgotten);
        let mut snapshots = std::mem::take(&mut found.snapshots);
        snapshots
            .sort_by_cached_key(|snapshot| (found.trusted(snapshot), snapshot.time, snapshot.id));
        found.snapshots = snapshots;
        Ok(found)
    }

    /// What explains half a pair is listed after the pairs: it is published before them and
    /// removed after them. Who reads both copies anyway can do without all lists but the first.
    fn list_snapshots(&self, both: bool) -> Result<Listings, RepositoryError> {
        let mut stored = HashMap::new();
        let mut ids = |kind| -> Result<Vec<SnapshotId>, RepositoryError> {
            let listed = match kind {
                ObjectKind::Root => self.storage.list(kind).map(|list| (list, ObjectTimes::new())),
                _ => self.storage.list_with_times(kind),
            };
            let (listing, times) = match listed {
                Err(error)
                    if both
                        && kind != ObjectKind::Snapshot
                        && error.kind != StorageErrorKind::PlaceLost =>
                {
                    return Ok(Vec::new());
                }
                listed => listed?,
            };
            for (name, time) in times.into_iter().filter(|(name, _)| name.kind == kind) {
                stored.entry(SnapshotId(name.id)).or_insert_with(|| timestamp(time));
            }
            Ok(listing.objects.into_iter().map(|(name, _)| SnapshotId(name.id)).collect())
        };
        let originals = ids(ObjectKind::Snapshot)?.into_iter().collect();
        let copies = ids(ObjectKind::SnapshotCopy)?.into_iter().collect();
        let tentative = ids(ObjectKind::Root)?.into_iter().collect();
        let sessions = match self.session_records() {
            Err(RepositoryError::Storage(error))
                if both && error.kind != StorageErrorKind::PlaceLost =>
            {
                Vec::new()
            }
            sessions => sessions?.0,
        };
        let forgotten = sessions.into_iter().flat_map(|session| session.forgets).collect();
        Ok(Listings { originals, copies, tentative, forgotten, stored })
    }

    fn read_pair(
        &self,
        id: SnapshotId,
        listed: &Listings,
        both: bool,
        found: &mut SnapshotRecords,
    ) -> Result<(), RepositoryError> {
        let (name, copy_name) = (ObjectName::snapshot(id), ObjectName::snapshot_copy(id));
        let first = self.read_copy(name, id)?;
        if matches!(first, Err(CopyState::GivenUp)) {
            // What may lie in the place of its copy is of one who found out too late.
            found.given_up.push(id);
            return Ok(());
        }
        let second = match both || first.is_err() {
            true => Some(self.read_copy(copy_name, id)?),
            false => None,
        };
        let explained = listed.tentative.contains(&id);
        match (first, second) {
            (Ok(snapshot), second) => {
                let missed = match second {
                    None => None,
                    Some(Ok(copy)) if copy == snapshot => None,
                    Some(Ok(_)) => Some(CopyState::Damaged(differs(copy_name))),
                    Some(Err(CopyState::Missing)) if explained || !snapshot.mirrored => None,
                    Some(Err(state)) => Some(state),
                };
                found.lost_copies.extend(missed.map(|state| (copy_name, state)));
                found.snapshots.push(snapshot);
            }
            (Err(state), Some(Ok(snapshot))) => {
                found.lost_copies.push((name, state));
                found.snapshots.push(snapshot);
            }
            (Err(CopyState::Damaged(error)), _) => {
                found.damaged.push(Damaged { object: name, error });
            }
            (Err(_), Some(Err(CopyState::Damaged(error)))) => {
                found.damaged.push(Damaged { object: copy_name, error });
            }
            // Both are gone: removed since they were listed.
            (Err(_), _) => {}
        }
        Ok(())
    }

    /// One copy of a record. Trouble with one object is that object's: the other copy may do.
    pub(super) fn read_copy(
        &self,
        name: ObjectName,
        id: SnapshotId,
    ) -> Result<Result<Snapshot, CopyState>, RepositoryError> {
        let body = self.read_sealed(name, MAX_RECORD_LEN);
        let given_up = |body: &[u8]| snapshot::decode::<GivenUp>("snapshot", body).ok();
        let error =
            match body.and_then(|body| match snapshot::decode::<Snapshot>("snapshot", &body) {
                Ok(snapshot) => Ok(Some(snapshot)),
                Err(_) if given_up(&body) == Some(GivenUp { given_up: id }) => Ok(None),
                Err(error) => Err(RepositoryError::damaged(name, &error)),
            }) {
                Ok(Some(snapshot)) if snapshot.id == id => return Ok(Ok(snapshot)),
                Ok(None) => return Ok(Err(CopyState::GivenUp)),
                Ok(Some(_)) => RepositoryError::Damaged {
                    object: name.to_string(),
                    reason: "it names itself otherwise".to_owned(),
                },
                Err(RepositoryError::Storage(error)) => match error.kind {
                    StorageErrorKind::NotFound => return Ok(Err(CopyState::Missing)),
                    StorageErrorKind::PlaceLost => return Err(error.into()),
                    _ => error.into(),
                },
                Err(error) => error,
            };
        Ok(Err(CopyState::Damaged(error)))
    }

    /// Takes care that the snapshot that a tentative root announced is never confirmed any more,
    /// unless it is already. Who comes to confirm it later finds its name taken.
    ///
    /// # Errors
    /// When storage fails.
    pub fn give_up(&self, id: SnapshotId) -> Result<(), RepositoryError> {
        let name = ObjectName::snapshot(id);
        match self.publish_record(name, &GivenUp { given_up: id }) {
            Ok(_) => {}
            Err(RepositoryError::Storage(error))
                if error.kind == StorageErrorKind::AlreadyExists =>
            {
                if !matches!(self.read_copy(name, id)?, Err(CopyState::GivenUp)) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
        Ok(self.storage.delete(ObjectName::snapshot_copy(id))?)
    }

    /// Removes what a confirmation that failed has left of a record, unless it got so far that the
    /// snapshot exists. Only for who tried to confirm it.
    ///
    /// # Errors
    /// When storage fails: then something may be left.
    pub fn withdraw(&self, id: SnapshotId) -> Result<(), RepositoryError> {
        match self.read_copy(ObjectName::snapshot(id), id)? {
            Err(CopyState::Missing | CopyState::GivenUp) => {
                Ok(self.storage.delete(ObjectName::snapshot_copy(id))?)
            }
            Err(CopyState::Damaged(error @ RepositoryError::Storage(_))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the snapshot is there, and nobody is removing it.
    ///
    /// # Errors
    /// When storage fails.
    pub fn snapshot_exists(&self, id: SnapshotId) -> Result<bool, RepositoryError> {
        let there = match self.read_copy(ObjectName::snapshot(id), id)? {
            Err(CopyState::Damaged(error @ RepositoryError::Storage(_))) => return Err(error),
            found => !matches!(found, Err(CopyState::Missing | CopyState::GivenUp)),
        };
        Ok(there && !self.session_records()?.0.iter().any(|session| session.forgets.contains(&id)))
    }

    /// When the snapshot's object was stored, by the clock of the place; nothing when neither copy
    /// is there.
    ///
    /// # Errors
    /// When storage fails.
    pub fn snapshot_stored(&self, id: SnapshotId) -> Result<Option<Timestamp>, RepositoryError> {
        for name in [ObjectName::snapshot(id), ObjectName::snapshot_copy(id)] {
            match self.storage.modified(name) {
                Ok(time) => return Ok(Some(timestamp(time))),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

fn differs(name: ObjectName) -> RepositoryError {
    let reason = "it is not the same as the record".to_owned();
    RepositoryError::Damaged { object: name.to_string(), reason }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let nanos = |since: Duration| since.subsec_nanos();
    let seconds = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp { seconds: seconds(since), nanos: nanos(since) },
        Err(before) if nanos(before.duration()) == 0 => {
            Timestamp { seconds: -seconds(before.duration()), nanos: 0 }
        }
        Err(before) => Timestamp {
            seconds: -1 - seconds(before.duration()),
            nanos: 1_000_000_000 - nanos(before.duration()),
        },
    }
}
