//! Several objects at once: whoever waits for the disk for one of them waits for all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::local::LocalStorage;
use super::local_folder::sync_folder;
use super::{ObjectName, PendingObject, StorageError};

/// Most threads that wait for the disk at the same time.
const MOST: usize = 16;

/// See [`super::Storage::publish_all`].
pub(super) fn publish_all(
    objects: Vec<Box<dyn PendingObject>>,
    beside: &mut [Box<dyn PendingObject>],
) -> Vec<Result<(), StorageError>> {
    let mut objects = objects.into_iter();
    std::thread::scope(|scope| {
        for object in beside {
            scope.spawn(|| object.settle());
        }
        let mut results = Vec::new();
        loop {
            let mut some = objects.by_ref().take(MOST);
            let Some(own) = some.next() else { break results };
            let others: Vec<_> = some.map(|object| scope.spawn(move || object.publish())).collect();
            results.push(own.publish());
            let panicked = |panic| std::panic::resume_unwind(panic);
            results.extend(others.into_iter().map(|other| other.join().unwrap_or_else(panicked)));
        }
    })
}

impl LocalStorage {
    /// See [`super::Storage::delete_all`].
    pub(super) fn delete_together(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        let mut results = Vec::new();
        // The folders that names were taken out of, each with one of the names.
        let mut folders: BTreeMap<_, (Arc<File>, ObjectName)> = BTreeMap::new();
        for name in names {
            let failed = |error: io::Error| StorageError::from_io("delete", name, error);
            match self.folder(name.folder()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => results.push(Err(failed(error))),
                Ok(folder) => {
                    match rustix::fs::unlinkat(&*folder, name.file_name(), AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(error) => results.push(Err(failed(error.into()))),
                    }
                    // Also after "no such file": whoever unlinked it may have died before this.
                    folders.entry(name.folder()).or_insert((folder, *name));
                }
            }
        }
        let folders: Vec<_> = folders.into_values().collect();
        let sync = &|(folder, name): &(Arc<File>, ObjectName)| {
            sync_folder(folder).map_err(|error| StorageError::from_io("delete", name, error))
        };
        for some in folders.chunks(MOST) {
            std::thread::scope(|scope| {
                let (own, others) = some.split_first().expect("chunks are not empty");
                let others: Vec<_> =
                    others.iter().map(|other| scope.spawn(move || sync(other))).collect();
                results.push(sync(own));
                let panicked = |panic| std::panic::resume_unwind(panic);
                results
                    .extend(others.into_iter().map(|other| other.join().unwrap_or_else(panicked)));
            });
        }
        results.into_iter().collect()
    }
}
