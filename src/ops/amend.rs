//! Changing the tags or the pin of snapshots.
//!
//! A record is never changed: the snapshot is published anew under a new id, with the ids that it
//! had, and then the old record is removed. The order, and why it is safe beside everything else,
//! is in FORMAT.md ("Changing the labels of a snapshot").

use super::OpError;
use super::resolve::{current, find_among};
use crate::format::snapshot::{MAX_RECORD_LEN, Root, Snapshot, encode};
use crate::id::{SessionId, SnapshotId};
use crate::repo::{Presence, Repository};

/// Room for what a tentative root says beside the snapshot, in bytes.
const ROOT_ROOM: usize = 1024;

/// What is to be changed. What is not named here stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amendment {
    /// These tags and no others, before any is added or removed.
    pub set: Option<Vec<String>>,
    /// These tags, too.
    pub add: Vec<String>,
    /// Not these tags.
    pub remove: Vec<String>,
    /// Pinned, or pinned no more.
    pub pinned: Option<bool>,
}

/// A snapshot that was to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Amended {
    /// The id that it had.
    pub before: SnapshotId,
    /// The record as it is now: the same as before when there was nothing to change.
    pub snapshot: Snapshot,
}

impl Amended {
    /// Whether there was anything to change.
    pub fn is_changed(&self) -> bool {
        self.before != self.snapshot.id
    }
}

/// Changes the snapshots that `names` name. What an interrupted change of them left behind is
/// removed on the way, also where there is nothing to change.
///
/// # Errors
/// When a name fits no snapshot or several, or a tag is empty: nothing is changed then. When
/// storage fails, the session is revoked or a snapshot is removed meanwhile: those before it are
/// changed, and the same call again does the rest.
pub fn amend(
    repository: &Repository,
    names: &[String],
    amendment: &Amendment,
    presence: &Presence,
) -> Result<Vec<Amended>, OpError> {
    let mut new_tags = amendment.set.iter().flatten().chain(&amendment.add);
    if new_tags.any(String::is_empty) {
        return Err(OpError::Refused("a tag must not be empty".to_owned()));
    }
    let (snapshots, _) = repository.snapshots()?;
    let mut chosen: Vec<Snapshot> = Vec::new();
    let now = current(snapshots.clone());
    for name in names {
        let found = find_among(&now, name)?;
        if chosen.iter().all(|known| known.id != found.id) {
            chosen.push(found);
        }
    }
    let replaced_by = |new: &Snapshot| -> Vec<SnapshotId> {
        snapshots.iter().filter(|old| new.replaces(old)).map(|old| old.id).collect()
    };
    let mut amended = Vec::new();
    let mut session = None;
    let mut result = Ok(());
    for old in chosen {
        let leftovers = replaced_by(&old);
        let one = match with(&old, amendment) {
            None => remove_all(repository, &leftovers, presence).map(|()| old.clone()),
            Some(new) => announced(repository, &mut session, presence)
                .and_then(|session| publish(repository, session, &old, new, leftovers, presence)),
        };
        match one {
            Ok(snapshot) => amended.push(Amended { before: old.id, snapshot }),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    if let Some(session) = session {
        // Nothing is under way any more, and a session that stays is harmless.
        let _ = repository.end_session(session);
    }
    result.map(|()| amended)
}

/// The record as it is to be; nothing when it is so already.
fn with(old: &Snapshot, amendment: &Amendment) -> Option<Snapshot> {
    let mut tags = amendment.set.clone().unwrap_or_else(|| old.tags.clone());
    for tag in &amendment.add {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags.retain(|tag| !amendment.remove.contains(tag));
    let pinned = amendment.pinned.unwrap_or(old.pinned);
    if tags == old.tags && pinned == old.pinned {
        return None;
    }
    let mut formerly = old.formerly.clone();
    formerly.push(old.id);
    Some(Snapshot { id: SnapshotId::random(), tags, pinned, formerly, ..old.clone() })
}

/// The session, announced when it is first needed.
fn announced(
    repository: &Repository,
    session: &mut Option<SessionId>,
    presence: &Presence,
) -> Result<SessionId, OpError> {
    if let Some(known) = *session {
        return Ok(known);
    }
    repository.verify_place()?;
    let announced = presence.session("tag", Vec::new());
    repository.begin_session(&announced)?;
    Ok(*session.insert(announced.id))
}

/// Puts `new` in the place of `old`, and removes `leftovers` that `old` was put in the place of.
fn publish(
    repository: &Repository,
    session: SessionId,
    old: &Snapshot,
    new: Snapshot,
    leftovers: Vec<SnapshotId>,
    presence: &Presence,
) -> Result<Snapshot, OpError> {
    if encode(&new).len() + ROOT_ROOM > usize::try_from(MAX_RECORD_LEN).unwrap_or(usize::MAX) {
        let id = old.id;
        return Err(OpError::Refused(format!("the record of snapshot {id} would be too long")));
    }
    let tentative = Root::Tentative { session, snapshot: Box::new(new.clone()) };
    repository.publish_root(new.id, &tentative)?;
    let confirmed = confirm(repository, session, old, &new, presence);
    let removed = confirmed.and_then(|()| {
        // The newest last: whatever interrupts this, no older one comes to light again.
        let mut gone = leftovers;
        gone.push(old.id);
        remove_all(repository, &gone, presence)
    });
    // It led up to the confirmation, or there is none. It must stay when half of the new record may
    // be there: it explains that.
    if matches!(removed, Ok(()) | Err(OpError::Refused(_))) || repository.withdraw(new.id).is_ok() {
        let _ = repository.remove_root(new.id);
    }
    removed.map(|()| new)
}

/// The looks that make it safe, and between them the confirmation.
fn confirm(
    repository: &Repository,
    session: SessionId,
    old: &Snapshot,
    new: &Snapshot,
    presence: &Presence,
) -> Result<(), OpError> {
    let forgotten = || {
        let id = old.id;
        OpError::Refused(format!("snapshot {id} was removed or changed by somebody else meanwhile"))
    };
    let taken_for_dead = || {
        OpError::Refused(
            "this process was taken for dead meanwhile; the same command again does the rest"
                .to_owned(),
        )
    };
    if !repository.session_exists(session)? {
        return Err(taken_for_dead());
    }
    if !repository.snapshot_exists(old.id)? {
        return Err(forgotten());
    }
    repository.confirm(new)?.ok_or_else(taken_for_dead)?;
    // As long as the old one is there after the new one is, every listing shows one of them. Who
    // removed it meanwhile wanted it gone, or has put another in its place.
    if !repository.snapshot_exists(old.id)? {
        repository.remove_replaced(&[new.id], presence)?;
        return Err(forgotten());
    }
    Ok(())
}

/// Removes records that others stand in the place of.
fn remove_all(
    repository: &Repository,
    ids: &[SnapshotId],
    presence: &Presence,
) -> Result<(), OpError> {
    if !ids.is_empty() {
        repository.remove_replaced(ids, presence)?;
    }
    Ok(())
}
