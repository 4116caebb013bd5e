//! A repository in memory, for tests: the same promises as a folder, and ways to plant damage.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    Listing, ObjectKind, ObjectName, PendingObject, Storage, StorageError, StorageErrorKind,
};

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// The clock of the place, which stands still until it is set, and what it showed when each object
/// came.
struct Times {
    now: SystemTime,
    modified: BTreeMap<ObjectName, SystemTime>,
}

impl Default for Times {
    fn default() -> Self {
        Self { now: UNIX_EPOCH, modified: BTreeMap::new() }
    }
}

/// Objects in memory. A clone is a second handle on the same objects.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<Objects>>,
    times: Arc<Mutex<Times>>,
}

impl MemoryStorage {
    /// A place without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of an object.
    pub fn get(&self, name: ObjectName) -> Option<Arc<[u8]>> {
        self.lock().get(&name).cloned()
    }

    /// Puts an object there, in place of any that has the name: what no honest writer does.
    pub fn put(&self, name: ObjectName, bytes: impl Into<Arc<[u8]>>) {
        self.lock().insert(name, bytes.into());
        self.stamp(name);
    }

    /// Takes an object away, and says whether there was one.
    pub fn remove(&self, name: ObjectName) -> bool {
        self.lock().remove(&name).is_some()
    }

    /// Sets the clock of the place: what comes from now on was stored at this time.
    pub fn set_clock(&self, now: SystemTime) {
        self.times().now = now;
    }

    /// Changes when an object was stored: what no honest writer does.
    pub fn set_modified(&self, name: ObjectName, time: SystemTime) {
        self.times().modified.insert(name, time);
    }

    /// The names of all objects, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        // No operation leaves the map half changed, so a panic elsewhere does not matter.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self, name: ObjectName) {
        let mut times = self.times();
        let now = times.now;
        times.modified.insert(name, now);
    }

    fn find(&self, operation: &'static str, name: ObjectName) -> Result<Arc<[u8]>, StorageError> {
        self.get(name).ok_or_else(|| StorageError::new(operation, name, StorageErrorKind::NotFound))
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("objects", &self.lock().len()).finish()
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("memory is smaller than 2^64 bytes")
}

/// Fills `buffer` with the bytes of the object `name` from `offset` on.
fn copy_range(
    name: ObjectName,
    bytes: &[u8],
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), StorageError> {
    let wanted = usize::try_from(offset)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
    let Some(wanted) = wanted else {
        return Err(StorageError::new("read", name, StorageErrorKind::Truncated));
    };
    buffer.copy_from_slice(wanted);
    Ok(())
}

impl Storage for MemoryStorage {
    fn create(
        &self,
        name: ObjectName,
        _expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        Ok(Box::new(PendingBytes { storage: self.clone(), name, bytes: Vec::new() }))
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        let bytes = self.find("read", name)?;
        if length(&bytes) > limit {
            return Err(StorageError::new("read", name, StorageErrorKind::TooLong));
        }
        Ok(bytes.to_vec())
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        copy_range(name, &self.find("read", name)?, offset, buffer)
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.find("measure", name).map(|bytes| length(&bytes))
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.find("measure", name)?;
        Ok(self.times().modified.get(&name).copied().unwrap_or(UNIX_EPOCH))
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        let objects = self.lock();
        let of_kind = objects.iter().filter(|(name, _)| name.kind == kind);
        let objects = of_kind.map(|(name, bytes)| (*name, length(bytes))).collect();
        Ok(Listing { objects, foreign: Vec::new() })
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.remove(name);
        Ok(())
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        let mut objects = self.lock();
        let missing = |name| StorageError::new("exchange", name, StorageErrorKind::NotFound);
        let first = objects.get(&one).cloned().ok_or_else(|| missing(one))?;
        let second = objects.insert(other, first).ok_or_else(|| missing(other));
        let second = second.inspect_err(|_| drop(objects.remove(&other)))?;
        objects.insert(one, second);
        Ok(())
    }

    fn set_aside(&self, name: ObjectName) -> Result<ObjectName, StorageError> {
        let aside = ObjectName::quarantine(crate::id::SessionId::random().0);
        let mut objects = self.lock();
        let missing = || StorageError::new("set aside", name, StorageErrorKind::NotFound);
        let bytes = objects.remove(&name).ok_or_else(missing)?;
        objects.insert(aside, bytes);
        Ok(aside)
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        Ok(0)
    }
}

/// An object of a [`MemoryStorage`] that is being written.
struct PendingBytes {
    storage: MemoryStorage,
    name: ObjectName,
    bytes: Vec<u8>,
}

impl PendingObject for PendingBytes {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        length(&self.bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        copy_range(self.name, &self.bytes, offset, buffer)
    }

    fn publish(self: Box<Self>) -> Result<(), StorageError> {
        let mut objects = self.storage.lock();
        if objects.contains_key(&self.name) {
            return Err(StorageError::new("publish", self.name, StorageErrorKind::AlreadyExists));
        }
        objects.insert(self.name, self.bytes.into());
        self.storage.stamp(self.name);
        Ok(())
    }
}
