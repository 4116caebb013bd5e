//! A prune that is cut off after any change that it makes.

use std::sync::atomic::AtomicI64;
use std::time::SystemTime;

use super::*;
use crate::repo::Unlock;
use crate::storage::{Listing, PendingObject, Storage, StorageError};

/// Storage that fails for good from the n-th change on: the process died there.
#[derive(Debug)]
struct Mortal {
    storage: MemoryStorage,
    left: AtomicI64,
}

impl Mortal {
    fn step(&self) -> Result<(), StorageError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(StorageError::new("do", "this", StorageErrorKind::Other)),
        }
    }
}

impl Storage for Mortal {
    fn create(
        &self,
        name: ObjectName,
        len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        self.step()?;
        self.storage.create(name, len)
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.storage.read(name, limit)
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.storage.read_range(name, offset, buffer)
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.storage.len(name)
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.storage.modified(name)
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        self.storage.list(kind)
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.step()?;
        self.storage.delete(name)
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        self.step()?;
        self.storage.swap(one, other)
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        Ok(0)
    }
}

#[test]
fn cut_off_after_any_change_nothing_is_lost_and_the_next_run_finishes() {
    let made = TestRepository::new();
    let trees: Vec<TestTree> = (1..=6).map(|seed| files(seed, 12)).collect();
    let snapshots: Vec<Snapshot> = trees.iter().map(|tree| confirmed(&made, tree)).collect();
    snapshots[..3].iter().for_each(|snapshot| forget(&made, snapshot));
    let kept: Vec<_> = snapshots.iter().zip(&trees).skip(3).collect();
    let finished = copy_of(&made.storage);
    let whole = pruned(&opened(finished.clone()), &options());
    assert!(whole.packs_deleted > 2 && whole.packs_rewritten > 0, "{whole:?}");
    for left in 0.. {
        let storage = copy_of(&made.storage);
        let mortal = Mortal { storage: storage.clone(), left: left.into() };
        let unlock = Unlock::Nothing;
        let place = Arc::new(mortal);
        let repository =
            Repository::open(place, "memory", &unlock, None, Arc::new(Recorder::default()));
        let died = prune(&Arc::new(repository.unwrap()), &options()).is_err();
        let next = opened(storage);
        assert_sound(&next, &kept);
        let summary = pruned(&next, &PruneOptions { has_ended: |_| true, ..options() });
        assert_sound(&next, &kept);
        assert!(summary.bytes_after <= whole.bytes_after * 11 / 10, "{left}: {summary:?}");
        for kind in [ObjectKind::Mark, ObjectKind::Session, ObjectKind::Root] {
            assert_eq!(count(&next.storage, kind), 0, "{left}: {kind:?}");
        }
        if !died {
            assert!(left > 10);
            break;
        }
    }
}

fn copy_of(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.names() {
        copy.put(name, storage.get(name).unwrap());
    }
    copy
}

fn opened(storage: MemoryStorage) -> TestRepository {
    TestRepository { storage, ..TestRepository::new() }.reopen()
}
