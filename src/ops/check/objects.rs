//! The small objects: configuration, key slots, records, and what does not belong there.

use super::records;
use super::report::{self, Report};
use crate::crypto::header::Sealing;
use crate::format::config::Config;
use crate::format::snapshot::{Root, Snapshot};
use crate::id::SnapshotId;
use crate::ops::OpError;
use crate::repo::{CopyState, Damaged};
use crate::storage::{ObjectKind, ObjectName};

/// Longest configuration or key slot that is read, in bytes.
const MAX_TEXT_LEN: u64 = 64 << 10;

/// Both copies of the configuration must be whole, authentic and equal.
pub(super) fn check_config(report: &Report<'_>) -> Result<(), OpError> {
    let repository = report.repository;
    for (name, other) in [
        (ObjectName::CONFIG, ObjectName::CONFIG_COPY),
        (ObjectName::CONFIG_COPY, ObjectName::CONFIG),
    ] {
        let problem = match repository.storage().read(name, MAX_TEXT_LEN) {
            Err(error) => Some(report::storage_reason(error)?),
            Ok(bytes) => {
                let decoded = Config::decode(&bytes);
                match decoded.and_then(|config| config.verify(repository.keys())) {
                    Err(error) => Some(error.to_string()),
                    Ok(config) if config != *repository.config() => Some(
                        "it is not the configuration that the repository was opened with".into(),
                    ),
                    Ok(_) => None,
                }
            }
        };
        if let Some(problem) = problem {
            report.problem(name, format!("{problem}; as long as {other} is whole, it is used"));
        }
    }
    Ok(())
}

/// Both copies of every key slot must be whole and equal.
pub(super) fn check_slots(report: &Report<'_>) -> Result<(), OpError> {
    let repository = report.repository;
    if repository.config().sealing == Sealing::None {
        return Ok(());
    }
    let mut usable = 0;
    for state in repository.slot_states()? {
        let (first, second) = (ObjectName::key(state.id), ObjectName::key_copy(state.id));
        match (&state.slot, state.copy_problem) {
            (Err(reason), _) => report.problem(
                first,
                format!("neither copy is usable ({reason}): what opened this slot opens nothing"),
            ),
            (Ok(slot), problem) => {
                usable += 1;
                let label = slot.label();
                if let Some(problem) = problem {
                    let text = format!("one copy of the key slot {label:?} is lost: {problem}");
                    report.problem(first, text);
                } else if !same_bytes(report, first, second)? {
                    let text = format!("the two copies of the key slot {label:?} differ");
                    report.problem(first, text);
                }
            }
        }
    }
    if usable == 0 {
        let text = "no key slot is usable: once it is closed, nobody can open the repository again";
        report.problem("keys", text);
    }
    Ok(())
}

fn same_bytes(report: &Report<'_>, first: ObjectName, second: ObjectName) -> Result<bool, OpError> {
    let read = |name| report.repository.storage().read(name, MAX_TEXT_LEN);
    match (read(first), read(second)) {
        (Ok(first), Ok(second)) => Ok(first == second),
        // Both could be read a moment ago; one that cannot any more is another.
        (Err(error), _) | (_, Err(error)) => report::storage_reason(error).map(|_| false),
    }
}

/// What is in the folders but is no object. It is in the way when it bears the name of one.
pub(super) fn check_foreign(report: &Report<'_>) -> Result<(), OpError> {
    for kind in ObjectKind::ALL {
        let Some(listing) = report.list(kind)? else {
            let text = "the objects of this kind cannot be listed; none of them is checked";
            report.problem(format!("{kind:?}").to_lowercase(), text);
            continue;
        };
        let aside = listing.objects.len();
        if kind == ObjectKind::Quarantine && aside > 0 {
            report.note(format!(
                "{aside} objects that were set aside lie in quarantine; nothing reads them"
            ));
        }
        for path in listing.foreign {
            if path.parse::<ObjectName>().is_ok() {
                report.problem(path, "something that is no regular file is in an object's place");
            } else {
                report.note(format!("{path} is no part of the repository"));
            }
        }
    }
    Ok(())
}

/// Roots with their ids.
pub(super) type Roots = Vec<(SnapshotId, Root)>;

/// Every record must open. Returns the confirmed snapshots, oldest first, and the roots of those
/// that are not confirmed.
pub(super) fn check_records(report: &Report<'_>) -> Result<(Vec<Snapshot>, Roots), OpError> {
    let snapshots = check_snapshots(report)?;
    let (roots, damaged) = records::roots(report)?;
    tell(report, damaged, "an unfinished snapshot cannot be taken up again; no other is affected")?;
    let damaged = records::damaged_sessions(report)?;
    tell(report, damaged, "nothing is lost, but it cannot be told whether somebody is writing")?;
    let damaged = records::damaged_marks(report)?;
    tell(report, damaged, "nothing is lost, but no snapshot can be taken while it is there")?;
    Ok((snapshots, roots))
}

/// Both copies of every snapshot must be whole and equal.
fn check_snapshots(report: &Report<'_>) -> Result<Vec<Snapshot>, OpError> {
    let repository = report.repository;
    let found = repository.snapshot_records(true)?;
    tell(report, found.damaged, "this snapshot cannot be restored")?;
    if !found.lost_copies.is_empty() {
        // What is being confirmed or removed just now looks like this for a moment.
        let again = repository.snapshot_records(true)?.lost_copies;
        for (name, state) in again {
            if found.lost_copies.iter().any(|(first, _)| *first == name) {
                let what = lost_copy(state)?;
                report.problem(name, format!("{what}; its other copy is whole and is used"));
            }
        }
    }
    Ok(found.snapshots)
}

fn lost_copy(state: CopyState) -> Result<String, OpError> {
    match state {
        CopyState::Damaged(error) => report::reason(error),
        CopyState::Missing | CopyState::GivenUp => Ok("it is missing".to_owned()),
    }
}

fn tell(report: &Report<'_>, damaged: Vec<Damaged>, cost: &str) -> Result<(), OpError> {
    for Damaged { object, error } in damaged {
        let reason = report::reason(error)?;
        if !report.is_gone(object) {
            report.problem(object, format!("{reason}; {cost}"));
        }
    }
    Ok(())
}
