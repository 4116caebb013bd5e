//! Key slots: several ways to the one master key, each stored twice.

use std::collections::{BTreeMap, BTreeSet};

use super::open::{MAX_TEXT_LEN, read_slot};
use super::{InitOptions, OpenOptions, Repository, RepositoryError, Unlock};
use crate::crypto::keys::MasterKey;
use crate::crypto::passphrase::KdfCosts;
use crate::format::key_slot::{KeySlot, Secret, SlotKind, UnwrapError};
use crate::id::{RepositoryId, SlotId};
use crate::storage::{ObjectKind, ObjectName, Storage, StorageError, StorageErrorKind};

/// Times that a slot is removed which comes back.
const MAX_REMOVALS: usize = 5;

/// How much more memory than by default a slot may ask for that nobody vouches for.
const MEMORY_FACTOR: u32 = 2;
/// How often the default costs may be spent on slots that nobody vouches for: some seconds.
const WORK_FACTOR: u64 = 24;

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
    ids.into_keys().map(|id| read_state(storage, repository, id)).collect()
}

/// Reads one slot, from whichever copy is whole.
pub(super) fn read_state(
    storage: &dyn Storage,
    repository: RepositoryId,
    id: SlotId,
) -> Result<SlotState, RepositoryError> {
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
    Ok(SlotState { id, slot: first.or(second), copy_problem })
}

/// The master key, and which of the slots gave it.
pub(super) type Unlocked = (MasterKey, OpenedBy);

/// The key slot that opened a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedBy {
    /// Its id.
    pub slot: SlotId,
    /// What deriving its key cost; none for a key file.
    pub costs: Option<KdfCosts>,
}

/// What may be spent on slots that nobody vouches for: whoever can write to the storage can add
/// any number of them, with any costs.
#[derive(Debug, Clone, Copy)]
struct KdfBudget {
    /// Most memory that one slot may ask for, in KiB.
    memory_kib: u32,
    /// KiB of memory times passes that are left for all slots together.
    left: u64,
}

impl KdfBudget {
    fn new(allow_costly: bool) -> Self {
        match allow_costly {
            true => Self { memory_kib: KdfCosts::LIMITS.memory_kib, left: u64::MAX },
            false => Self {
                memory_kib: KdfCosts::default().memory_kib * MEMORY_FACTOR,
                left: KdfCosts::default().work() * WORK_FACTOR,
            },
        }
    }

    /// Takes what trying a slot costs, if that is allowed.
    fn take(&mut self, costs: Option<KdfCosts>) -> bool {
        let Some(costs) = costs else { return true };
        match self.left.checked_sub(costs.work()) {
            Some(left) if costs.memory_kib <= self.memory_kib => {
                self.left = left;
                true
            }
            _ => false,
        }
    }
}

/// The master key of a repository. The slot that opened it before is read by its name: what lies
/// beside it is not even listed.
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: RepositoryId,
    secret: Option<Secret<'_>>,
    options: &OpenOptions,
) -> Result<Unlocked, RepositoryError> {
    let first = options.memory.as_ref().and_then(|memory| memory.slot(repository));
    if let (Some(first), Some(_)) = (first, secret) {
        let known = [read_state(storage, repository, first.slot)?];
        if let Ok(unlocked) = unwrap_master(&known, secret, Some(first), false) {
            return Ok(unlocked);
        }
    }
    let slots = read_slots(storage, repository)?;
    unwrap_master(&slots, secret, first, options.allow_costly_keys)
}

/// The master key, from the first slot that `secret` opens: the one that is known to have opened
/// the repository before, whatever it costs; then the others, the cheapest first.
pub(super) fn unwrap_master(
    slots: &[SlotState],
    secret: Option<Secret<'_>>,
    first: Option<OpenedBy>,
    allow_costly: bool,
) -> Result<Unlocked, RepositoryError> {
    let mut tried = Tried::default();
    let mut usable = Vec::new();
    for state in slots {
        match &state.slot {
            Ok(slot) => usable.push(slot),
            Err(reason) => tried.unusable.push(format!("{}: {reason}", ObjectName::key(state.id))),
        }
    }
    // Not if it costs another amount now: then it is not the slot that was.
    let is_first =
        |slot: &KeySlot| first == Some(OpenedBy { slot: slot.slot_id(), costs: slot.costs() });
    usable.sort_by_key(|slot| {
        let work = slot.costs().map(|costs| (costs.work(), costs.memory_kib));
        (!is_first(slot), work, slot.slot_id())
    });
    let mut budget = KdfBudget::new(allow_costly);
    let Some(secret) = secret else { return Err(tried.failure(slots.len())) };
    for slot in usable.into_iter().filter(|slot| slot.fits(secret)) {
        if !is_first(slot) && !budget.take(slot.costs()) {
            tried.too_costly += 1;
            continue;
        }
        if let Some(master) = tried.one(slot, secret)? {
            return Ok((master, OpenedBy { slot: slot.slot_id(), costs: slot.costs() }));
        }
    }
    Err(tried.failure(slots.len()))
}

/// What came of the slots that did not open.
#[derive(Default)]
struct Tried {
    wrong: usize,
    too_costly: usize,
    /// What is wrong with the others.
    unusable: Vec<String>,
}

impl Tried {
    /// Tries one slot.
    fn one(
        &mut self,
        slot: &KeySlot,
        secret: Secret<'_>,
    ) -> Result<Option<MasterKey>, RepositoryError> {
        match slot.unwrap_master(secret) {
            Ok(master) => return Ok(Some(master)),
            Err(UnwrapError::WrongKind) => {}
            Err(UnwrapError::WrongKey) => self.wrong += 1,
            Err(error @ (UnwrapError::Damaged | UnwrapError::CostTooHigh(_))) => {
                self.unusable.push(format!("{}: {error}", ObjectName::key(slot.slot_id())));
            }
            Err(UnwrapError::OutOfMemory(error)) => {
                return Err(RepositoryError::Key(error.to_string()));
            }
        }
        Ok(None)
    }

    fn failure(self, slots: usize) -> RepositoryError {
        if self.too_costly > 0 {
            return RepositoryError::KeyTooCostly { tried: self.wrong, skipped: self.too_costly };
        }
        if self.wrong > 0 || (self.unusable.is_empty() && slots > 0) {
            return RepositoryError::WrongKey { slots };
        }
        let reason = if slots == 0 { "there is none".to_owned() } else { self.unusable.join("; ") };
        RepositoryError::NoUsableSlot { reason }
    }
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
        if unwrap_master(&new, Some(secret), None, true)?.0 == master {
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
        let slots = read_slots(&*self.storage, self.id())?;
        Ok(unwrap_master(&slots, secret_of(current), self.opened_by, false)?.0)
    }
}

fn secret_of(unlock: &Unlock) -> Option<Secret<'_>> {
    match unlock {
        Unlock::Passphrase(passphrase) => Some(Secret::Passphrase(passphrase)),
        Unlock::KeyFile(file) => Some(Secret::KeyFile(file)),
        Unlock::Nothing => None,
    }
}
