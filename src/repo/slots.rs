//! Key slots: several ways to the one master key, each stored twice.

use std::collections::{BTreeMap, BTreeSet};

use super::open::{MAX_TEXT_LEN, read_slot};
use super::{InitOptions, Repository, RepositoryError, Unlock};
use crate::crypto::keys::MasterKey;
use crate::format::key_slot::{KeySlot, Secret, SlotKind, UnwrapError};
use crate::id::{RepositoryId, SlotId};
use crate::storage::{ObjectKind, ObjectName, Storage, StorageError, StorageErrorKind};

/// Times that a slot is removed which comes back.
const MAX_REMOVALS: usize = 5;

/// A slot as storage has it.
#[derive(Debug)]
pub struct SlotState {
    /// The slot's id.
    pub id: SlotId,
    /// The slot, or why neither copy is usable.
    pub slot: Result<KeySlot, String>,
    /// What is wrong with one of the two copies, if anything is.
    pub copy_problem: Option<String>,
}

/// What is shown of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// The slot's id.
    pub id: SlotId,
    /// Its name, or what is wrong with it.
    pub label: String,
    /// What opens it; none when it is damaged.
    pub kind: Option<SlotKind>,
    /// When it was made (RFC 3339), empty when it is damaged.
    pub created: String,
}

/// Reads all slots of a repository, each from whichever copy is whole.
pub(super) fn read_slots(
    storage: &dyn Storage,
    repository: RepositoryId,
) -> Result<Vec<SlotState>, RepositoryError> {
    let mut ids = BTreeMap::new();
    for kind in [ObjectKind::Key, ObjectKind::KeyCopy] {
        for (name, _) in storage.list(kind)?.objects {
            ids.insert(SlotId(name.id), ());
        }
    }
    let mut slots = Vec::new();
    for id in ids.into_keys() {
        let fits = |slot: KeySlot| {
            if slot.slot_id() == id && slot.repository_id() == repository {
                return Ok(slot);
            }
            Err("it belongs to another slot or repository".to_owned())
        };
        let first = read_slot(storage, ObjectName::key(id))?.and_then(fits);
        let second = read_slot(storage, ObjectName::key_copy(id))?.and_then(fits);
        let copy_problem = match (&first, &second) {
            (Err(reason), _) => Some(format!("{}: {reason}", ObjectName::key(id))),
            (_, Err(reason)) => Some(format!("{}: {reason}", ObjectName::key_copy(id))),
            _ => None,
        };
        slots.push(SlotState { id, slot: first.or(second), copy_problem });
    }
    Ok(slots)
}

/// The master key, from the first slot that `secret` opens.
pub(super) fn unwrap_master(
    slots: &[SlotState],
    secret: Option<Secret<'_>>,
) -> Result<MasterKey, RepositoryError> {
    let (mut tried, mut unusable) = (0, Vec::new());
    for state in slots {
        let slot = match &state.slot {
            Ok(slot) => slot,
            Err(reason) => {
                unusable.push(format!("{}: {reason}", ObjectName::key(state.id)));
                continue;
            }
        };
        let Some(secret) = secret else { break };
        match slot.unwrap_master(secret) {
            Ok(master) => return Ok(master),
            Err(UnwrapError::WrongKind) => {}
            Err(UnwrapError::WrongKey) => tried += 1,
            Err(error @ (UnwrapError::Damaged | UnwrapError::CostTooHigh(_))) => {
                unusable.push(format!("{}: {error}", ObjectName::key(state.id)));
            }
            Err(UnwrapError::OutOfMemory(error)) => {
                return Err(RepositoryError::Key(error.to_string()));
            }
        }
    }
    if tried > 0 || (unusable.is_empty() && !slots.is_empty()) {
        return Err(RepositoryError::WrongKey { slots: slots.len() });
    }
    let reason = if slots.is_empty() { "there is none".to_owned() } else { unusable.join("; ") };
    Err(RepositoryError::NoUsableSlot { reason })
}

/// Wraps `master` and publishes both copies of the slot.
pub(super) fn publish_slot(
    storage: &dyn Storage,
    master: &MasterKey,
    repository: RepositoryId,
    secret: Secret<'_>,
    options: &InitOptions,
) -> Result<SlotId, RepositoryError> {
    let slot =
        KeySlot::wrap(master, repository, &options.label, &options.now, secret, options.costs)
            .map_err(|error| RepositoryError::Key(error.to_string()))?;
    let bytes = slot.encode();
    storage.publish(ObjectName::key_copy(slot.slot_id()), &bytes)?;
    storage.publish(ObjectName::key(slot.slot_id()), &bytes)?;
    Ok(slot.slot_id())
}

impl Repository {
    /// All key slots, damaged ones included.
    ///
    /// # Errors
    /// When storage fails.
    pub fn slots(
        storage: &dyn Storage,
        id: RepositoryId,
    ) -> Result<Vec<SlotInfo>, RepositoryError> {
        let states = read_slots(storage, id)?;
        Ok(states
            .into_iter()
            .map(|state| match state.slot {
                Ok(slot) => SlotInfo {
                    id: state.id,
                    label: slot.label().to_owned(),
                    kind: Some(slot.kind()),
                    created: slot.created().to_owned(),
                },
                Err(reason) => SlotInfo {
                    id: state.id,
                    label: format!("damaged: {reason}"),
                    kind: None,
                    created: String::new(),
                },
            })
            .collect())
    }

    /// The states of all key slots, for `check`.
    ///
    /// # Errors
    /// When storage fails.
    pub fn slot_states(&self) -> Result<Vec<SlotState>, RepositoryError> {
        read_slots(&*self.storage, self.id())
    }

    /// Adds a key slot, opened by `options.unlock`, and proves that it opens before returning.
    /// `current` is what opens the repository now: the master key is not kept in memory for this.
    ///
    /// # Errors
    /// When `current` does not fit, the repository is a plaintext one, or storage fails.
    pub fn add_slot(
        &self,
        current: &Unlock,
        options: &InitOptions,
    ) -> Result<SlotId, RepositoryError> {
        let master = self.master(current)?;
        self.complete_slots();
        let Some(secret) = secret_of(&options.unlock) else {
            return Err(RepositoryError::Key("nothing was given to open the new slot".to_owned()));
        };
        let id = publish_slot(&*self.storage, &master, self.id(), secret, options)?;
        let written = read_slots(&*self.storage, self.id())?;
        let new: Vec<SlotState> = written.into_iter().filter(|state| state.id == id).collect();
        if unwrap_master(&new, Some(secret))? == master {
            return Ok(id);
        }
        Err(RepositoryError::Key(format!("the new slot {id} does not open")))
    }

    /// Removes a key slot, both copies.
    ///
    /// # Errors
    /// When it is the last usable one, there is no such slot, or storage fails.
    pub fn remove_slot(&self, id: SlotId) -> Result<(), RepositoryError> {
        self.complete_slots();
        let slots = read_slots(&*self.storage, self.id())?;
        if !slots.iter().any(|state| state.id == id) {
            return Err(RepositoryError::NoSuchSlot(id.to_string()));
        }
        if !slots.iter().any(|state| state.id != id && state.slot.is_ok()) {
            return Err(RepositoryError::LastSlot(id.to_string()));
        }
        let names = [ObjectName::key(id), ObjectName::key_copy(id)];
        for _ in 0..MAX_REMOVALS {
            for name in names {
                self.storage.delete(name)?;
            }
            // Somebody may just have taken the half that was left for one to be completed.
            if !self.has(names[0])? && !self.has(names[1])? {
                return Ok(());
            }
        }
        Err(RepositoryError::Key(format!("the slot {id} comes back: somebody else makes it again")))
    }

    /// Makes the copy that is missing where `add_slot` or `remove_slot` was cut off between the two:
    /// neither said that it was done. Nothing depends on it: when it cannot be done now, the next
    /// writer does it.
    pub(crate) fn complete_slots(&self) {
        let ids = |kind| -> Option<BTreeSet<[u8; 16]>> {
            let listing = self.storage.list(kind).ok()?;
            Some(listing.objects.into_iter().map(|(name, _)| name.id).collect())
        };
        let (Some(first), Some(second)) = (ids(ObjectKind::Key), ids(ObjectKind::KeyCopy)) else {
            return;
        };
        for id in first.symmetric_difference(&second).map(|id| SlotId(*id)) {
            let mut names = [ObjectName::key(id), ObjectName::key_copy(id)];
            if second.contains(&id.0) {
                names.reverse();
            }
            let [whole, missing] = names;
            let Ok(bytes) = self.storage.read(whole, MAX_TEXT_LEN) else { continue };
            let is_whole = KeySlot::decode(&bytes)
                .is_ok_and(|slot| slot.slot_id() == id && slot.repository_id() == self.id());
            if is_whole && self.storage.publish(missing, &bytes).is_ok() {
                // Whoever removes a slot removes both copies, and looks once more afterwards: it
                // must not outlive the other.
                let gone = |error: StorageError| error.kind == StorageErrorKind::NotFound;
                if self.storage.len(whole).is_err_and(gone) {
                    let _ = self.storage.delete(missing);
                }
            }
        }
    }

    fn master(&self, current: &Unlock) -> Result<MasterKey, RepositoryError> {
        if self.config.plaintext_key.is_some() {
            let reason = "a plaintext repository has no key slots".to_owned();
            return Err(RepositoryError::Key(reason));
        }
        unwrap_master(&read_slots(&*self.storage, self.id())?, secret_of(current))
    }
}

fn secret_of(unlock: &Unlock) -> Option<Secret<'_>> {
    match unlock {
        Unlock::Passphrase(passphrase) => Some(Secret::Passphrase(passphrase)),
        Unlock::KeyFile(file) => Some(Secret::KeyFile(file)),
        Unlock::Nothing => None,
    }
}
