//! Records when not all of a kind can be had: each by itself, so that one bad sector does not keep
//! the others from being checked.

use serde::de::DeserializeOwned;

use super::report::Report;
use crate::crypto::header::ObjectType;
use crate::crypto::seal::open_object;
use crate::format::snapshot::{self, MAX_RECORD_LEN, Mark, Root, Session, Snapshot};
use crate::id::SnapshotId;
use crate::ops::OpError;
use crate::repo::{Damaged, ReadAll, RepositoryError};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// Room for the header and tag around a sealed body.
const SEAL_ROOM: u64 = 1024;

/// The confirmed snapshots, oldest first.
pub(super) fn snapshots(report: &Report<'_>) -> Result<ReadAll<Snapshot>, OpError> {
    let alone = || {
        let (mut found, damaged) = one_by_one::<Snapshot>(report, ObjectKind::Snapshot)?;
        found.sort_by_key(|(_, snapshot)| (snapshot.time, snapshot.id));
        Ok((found.into_iter().map(|(_, snapshot)| snapshot).collect(), damaged))
    };
    or_alone(report.repository.snapshots(), alone)
}

/// The roots that are not confirmed snapshots.
pub(super) fn roots(report: &Report<'_>) -> Result<ReadAll<(SnapshotId, Root)>, OpError> {
    let alone = || {
        let (found, damaged) = one_by_one::<Root>(report, ObjectKind::Root)?;
        let found = found.into_iter().map(|(name, root)| (SnapshotId(name.id), root));
        Ok((found.collect(), damaged))
    };
    or_alone(report.repository.roots(), alone)
}

/// The sessions that cannot be read.
pub(super) fn damaged_sessions(report: &Report<'_>) -> Result<Vec<Damaged>, OpError> {
    let alone = || Ok(one_by_one::<Session>(report, ObjectKind::Session)?.1);
    or_alone(report.repository.sessions().map(|(_, damaged)| damaged), alone)
}

/// The marks that cannot be read.
pub(super) fn damaged_marks(report: &Report<'_>) -> Result<Vec<Damaged>, OpError> {
    let alone = || Ok(one_by_one::<Mark>(report, ObjectKind::Mark)?.1);
    or_alone(report.repository.readable_marks().map(|(_, damaged)| damaged), alone)
}

/// What was read at once, or what `alone` gives when storage failed on the way.
fn or_alone<T>(
    read: Result<T, RepositoryError>,
    alone: impl FnOnce() -> Result<T, OpError>,
) -> Result<T, OpError> {
    match read {
        Ok(read) => Ok(read),
        Err(RepositoryError::Storage(error)) if error.kind != StorageErrorKind::PlaceLost => {
            alone()
        }
        Err(error) => Err(error.into()),
    }
}

/// Every record of a kind that can be read, and the ones that cannot. None of either when the kind
/// cannot be listed, which is told elsewhere.
fn one_by_one<T: DeserializeOwned>(
    report: &Report<'_>,
    kind: ObjectKind,
) -> Result<ReadAll<(ObjectName, T)>, OpError> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for (object, _) in report.list(kind)?.map(|listing| listing.objects).unwrap_or_default() {
        match read(report, object) {
            Ok(record) => found.push((object, record)),
            Err(error) => damaged.push(Damaged { object, error }),
        }
    }
    Ok((found, damaged))
}

fn read<T: DeserializeOwned>(report: &Report<'_>, name: ObjectName) -> Result<T, RepositoryError> {
    let repository = report.repository;
    let kind = match name.kind {
        ObjectKind::Snapshot => ObjectType::Snapshot,
        ObjectKind::Root => ObjectType::Root,
        ObjectKind::Session => ObjectType::Session,
        _ => ObjectType::Mark,
    };
    let bytes = repository.storage().read(name, MAX_RECORD_LEN + SEAL_ROOM)?;
    let (keys, sealing) = (repository.keys(), repository.config().sealing);
    let body = open_object(keys, repository.id(), sealing, kind, &name.id, &bytes)
        .map_err(|error| RepositoryError::not_opened(name, &error))?;
    snapshot::decode("record", &body).map_err(|error| RepositoryError::damaged(name, &error))
}
