//! What lies in the repository twice: each copy is made again from the other.

use super::Repair;
use crate::crypto::header::Sealing;
use crate::format::config::Config;
use crate::format::key_slot::KeySlot;
use crate::id::{SlotId, SnapshotId};
use crate::ops::OpError;
use crate::repo::{CopyState, RepositoryError};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// Longest configuration or key slot that is read, in bytes.
const MAX_TEXT_LEN: u64 = 64 << 10;
/// Longest record that is read, with its seal, in bytes.
const MAX_RECORD_LEN: u64 = (1 << 20) + 1024;

/// One of two copies.
enum Found {
    Whole(Vec<u8>),
    Missing,
    Damaged,
    /// It could not be read this time, which says nothing about it.
    Unknown,
}

fn read(
    repair: &Repair<'_>,
    name: ObjectName,
    limit: u64,
    is_whole: impl Fn(&[u8]) -> bool,
) -> Result<Found, OpError> {
    Ok(match repair.repository.storage().read(name, limit) {
        Ok(bytes) if is_whole(&bytes) => Found::Whole(bytes),
        Ok(_) => Found::Damaged,
        Err(error) => match error.kind {
            StorageErrorKind::NotFound => Found::Missing,
            StorageErrorKind::TooLong => Found::Damaged,
            StorageErrorKind::PlaceLost => return Err(RepositoryError::from(error).into()),
            _ => Found::Unknown,
        },
    })
}

/// Makes what is lost of a pair again; whether anything was. A pair of which both are whole and
/// differ is left alone: it cannot be told which one is right.
fn mend(
    repair: &Repair<'_>,
    names: [ObjectName; 2],
    [first, second]: [Found; 2],
) -> Result<Option<(ObjectName, ObjectName)>, OpError> {
    let (bytes, good, bad, found) = match (first, second) {
        (Found::Whole(bytes), found) => (bytes, names[0], names[1], found),
        (found, Found::Whole(bytes)) => (bytes, names[1], names[0], found),
        _ => return Ok(None),
    };
    match found {
        Found::Whole(_) | Found::Unknown => return Ok(None),
        Found::Damaged => repair.set_aside(bad)?,
        Found::Missing => {}
    }
    repair.publish(bad, &bytes)?;
    Ok(Some((good, bad)))
}

/// The two copies of the configuration.
pub(super) fn config(repair: &Repair<'_>) -> Result<(), OpError> {
    let repository = repair.repository;
    let is_whole = |bytes: &[u8]| {
        let decoded = Config::decode(bytes).and_then(|config| config.verify(repository.keys()));
        decoded.is_ok_and(|config| config == *repository.config())
    };
    let names = [ObjectName::CONFIG, ObjectName::CONFIG_COPY];
    let found = [
        read(repair, names[0], MAX_TEXT_LEN, is_whole)?,
        read(repair, names[1], MAX_TEXT_LEN, is_whole)?,
    ];
    mend(repair, names, found).map(drop)
}

/// The two copies of each key slot.
pub(super) fn slots(repair: &Repair<'_>) -> Result<(), OpError> {
    let repository = repair.repository;
    if repository.config().sealing == Sealing::None {
        return Ok(());
    }
    for state in repository.slot_states()? {
        let id: SlotId = state.id;
        let is_whole = |bytes: &[u8]| {
            KeySlot::decode(bytes)
                .is_ok_and(|slot| slot.slot_id() == id && slot.repository_id() == repository.id())
        };
        let names = [ObjectName::key(id), ObjectName::key_copy(id)];
        let found = [
            read(repair, names[0], MAX_TEXT_LEN, is_whole)?,
            read(repair, names[1], MAX_TEXT_LEN, is_whole)?,
        ];
        let Some((good, new)) = mend(repair, names, found)? else { continue };
        // Whoever removes a slot removes both copies; one that was made again meanwhile must not
        // outlive the other.
        if !repair.options.dry_run && is_gone(repair, good)? {
            repository.storage().delete(new).map_err(RepositoryError::from)?;
        }
    }
    Ok(())
}

/// The two copies of each snapshot's record.
pub(super) fn snapshots(repair: &Repair<'_>) -> Result<(), OpError> {
    let repository = repair.repository;
    let first = repository.snapshot_records(true)?.lost_copies;
    if first.is_empty() {
        return Ok(());
    }
    // What is being confirmed or removed just now looks like this for a moment.
    for (name, state) in repository.snapshot_records(true)?.lost_copies {
        if !first.iter().any(|(lost, _)| *lost == name) {
            continue;
        }
        let id = SnapshotId(name.id);
        let other = match name.kind {
            ObjectKind::Snapshot => ObjectName::snapshot_copy(id),
            _ => ObjectName::snapshot(id),
        };
        let lost = match state {
            CopyState::Missing => Found::Missing,
            CopyState::Damaged(RepositoryError::Damaged { .. }) => Found::Damaged,
            CopyState::Damaged(_) | CopyState::GivenUp => Found::Unknown,
        };
        let found = [read(repair, other, MAX_RECORD_LEN, |_| true)?, lost];
        if mend(repair, [other, name], found)?.is_some() && !repair.options.dry_run {
            undo_if_forgotten(repair, id, other, name)?;
        }
    }
    Ok(())
}

/// Takes a record back that was made again while somebody removed the snapshot. Whoever removes it
/// has said so before and takes that back afterwards: sessions are listed before the other copy is
/// looked for, so that he is seen, or has removed it.
fn undo_if_forgotten(
    repair: &Repair<'_>,
    id: SnapshotId,
    other: ObjectName,
    made: ObjectName,
) -> Result<(), OpError> {
    let (sessions, _) = repair.repository.sessions()?;
    let forgotten = sessions.iter().any(|session| session.forgets.contains(&id));
    if forgotten || is_gone(repair, other)? {
        repair.repository.storage().delete(made).map_err(RepositoryError::from)?;
    }
    Ok(())
}

fn is_gone(repair: &Repair<'_>, name: ObjectName) -> Result<bool, OpError> {
    match repair.repository.storage().len(name) {
        Ok(_) => Ok(false),
        Err(error) if error.kind == StorageErrorKind::NotFound => Ok(true),
        Err(error) => Err(RepositoryError::from(error).into()),
    }
}
