//! The storage as one operation of a client sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gabion::storage::{
    Listing, ObjectKind, ObjectName, ObjectTimes, PendingObject, Storage, StorageError,
    StorageErrorKind,
};

use super::scheduler::Verb;
use super::weak::{Memory, Weakness};
use super::world::{Shared, World};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Place {
    world: Arc<World>,
    client: usize,
    /// Which life of the client: a crash ends it, and all calls of it fail from then on.
    life: u64,
    memory: Arc<Mutex<Memory>>,
}

impl Place {
    pub(super) fn new(world: &Arc<World>, client: usize, life: u64, weakness: Weakness) -> Self {
        let memory = Arc::new(Mutex::new(Memory::new(weakness, client)));
        Self { world: Arc::clone(world), client, life, memory }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(
        &self,
        verb: Verb,
        name: ObjectName,
        effect: impl FnOnce(&mut Shared) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.world.call(self.client, self.life, verb, name, effect)
    }

    fn get(&self, verb: Verb, name: ObjectName) -> Result<Arc<[u8]>, StorageError> {
        self.call(verb, name, |shared| {
            let found = shared.objects.get(&name).map(Arc::clone);
            found.ok_or_else(|| StorageError::new("read", name, StorageErrorKind::NotFound))
        })
    }

    fn list_now(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        let first = ObjectName { kind, id: [0; 16] };
        self.call(Verb::List, first, |shared| {
            let of_kind = shared.objects.range(first..).take_while(|(name, _)| name.kind == kind);
            let mut objects: Vec<(ObjectName, u64)> =
                of_kind.map(|(name, bytes)| (*name, bytes.len() as u64)).collect();
            let lacks = shared.faults.lacks(kind, objects.len());
            for at in lacks.into_iter().rev() {
                let (name, _) = objects.remove(at);
                shared.say(|| format!("      the list lacks {name}"));
            }
            Ok(Listing { objects, foreign: Vec::new() })
        })
    }
}

/// When everything was stored: nothing depends on it here.
fn stored() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

impl Storage for Place {
    fn create(
        &self,
        name: ObjectName,
        _expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        Ok(Box::new(Pending { place: self.clone(), name, bytes: Vec::new() }))
    }

    fn publish_all(
        &self,
        objects: Vec<Box<dyn PendingObject>>,
        _beside: &mut [Box<dyn PendingObject>],
    ) -> Vec<Result<(), StorageError>> {
        let mut objects: Vec<_> = objects.into_iter().map(Some).collect();
        let mut results: Vec<_> = objects.iter().map(|_| Ok(())).collect();
        let order = self.world.lock().faults.order(objects.len());
        for at in order {
            results[at] = objects[at].take().unwrap().publish();
        }
        results
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        let bytes = self.get(Verb::Read, name)?;
        match bytes.len() as u64 > limit {
            true => Err(StorageError::new("read", name, StorageErrorKind::TooLong)),
            false => Ok(bytes.to_vec()),
        }
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let bytes = self.get(Verb::Read, name)?;
        let start = usize::try_from(offset).unwrap();
        let Some(wanted) = bytes.get(start..start + buffer.len()) else {
            return Err(StorageError::new("read", name, StorageErrorKind::Truncated));
        };
        buffer.copy_from_slice(wanted);
        Ok(())
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        let len = self.get(Verb::Measure, name).map(|bytes| bytes.len() as u64);
        if self.memory().believes_in(name) { Ok(1) } else { len }
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.get(Verb::Measure, name)?;
        Ok(stored())
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        let listing = self.list_now(kind)?;
        Ok(self.memory().sees(kind, listing))
    }

    fn list_with_times(&self, kind: ObjectKind) -> Result<(Listing, ObjectTimes), StorageError> {
        // One call, as in every real place.
        let listing = self.list(kind)?;
        let times = listing.objects.iter().map(|(name, _)| (*name, stored())).collect();
        Ok((listing, times))
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.call(Verb::Delete, name, |shared| {
            shared.remove(name);
            Ok(())
        })
    }

    fn swap(&self, one: ObjectName, _other: ObjectName) -> Result<(), StorageError> {
        // Nobody repairs here.
        Err(StorageError::new("swap", one, StorageErrorKind::Other))
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        Ok(0)
    }
}

/// An object that is being written.
struct Pending {
    place: Place,
    name: ObjectName,
    bytes: Vec<u8>,
}

impl PendingObject for Pending {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes[start..start + buffer.len()]);
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<(), StorageError> {
        let (name, bytes) = (self.name, Arc::from(self.bytes));
        let real = self.place.memory().publishes(name);
        self.place.call(Verb::Publish, name, |shared| match real {
            true => shared.put(name, bytes),
            false => Ok(()),
        })
    }
}
