//! Several objects at once: whoever waits for the disk for one of them waits for all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::local::LocalStorage;
use super::local_folder::sync_folder;
use super::{ObjectName, PendingObject, StorageError};
use crate::threads::start_in;

/// Most threads that wait for the disk at the same time.
const MOST: usize = 16;

/// A part of the work: on its own thread, or to be done by the caller.
enum Part<'scope, I, T> {
    Started(ScopedJoinHandle<'scope, T>),
    Left(Arc<Mutex<Option<I>>>),
}

impl<'scope, I: Send + 'scope, T: Send + 'scope> Part<'scope, I, T> {
    fn begin(
        scope: &'scope Scope<'scope, '_>,
        item: I,
        work: impl FnOnce(I) -> T + Send + 'scope,
    ) -> Self {
        // The item must not be lost with a thread that does not start.
        let item = Arc::new(Mutex::new(Some(item)));
        let taken = Arc::clone(&item);
        let take = move || taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let run = move || work(take().expect("only one thread takes it"));
        start_in(scope, "sync", run).map_or(Self::Left(item), Self::Started)
    }

    fn finish(self, work: impl FnOnce(I) -> T) -> T {
        match self {
            Self::Started(thread) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            Self::Left(item) => {
                let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
                work(item.expect("no thread took it"))
            }
        }
    }
}

fn publish(object: Box<dyn PendingObject>) -> Result<(), StorageError> {
    object.publish()
}

/// See [`super::Storage::publish_all`].
pub(super) fn publish_all(
    objects: Vec<Box<dyn PendingObject>>,
    beside: &mut [Box<dyn PendingObject>],
) -> Vec<Result<(), StorageError>> {
    let mut objects = objects.into_iter();
    std::thread::scope(|scope| {
        for object in beside {
            // Without another thread it is only later durable: publishing settles it, too.
            let _ = start_in(scope, "sync", || object.settle());
        }
        let mut results = Vec::new();
        loop {
            let mut some = objects.by_ref().take(MOST);
            let Some(own) = some.next() else { break results };
            let others: Vec<_> = some.map(|object| Part::begin(scope, object, publish)).collect();
            results.push(own.publish());
            results.extend(others.into_iter().map(|other| other.finish(publish)));
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
        let sync = |(folder, name): &(Arc<File>, ObjectName)| {
            sync_folder(folder).map_err(|error| StorageError::from_io("delete", name, error))
        };
        for some in folders.chunks(MOST) {
            std::thread::scope(|scope| {
                let (own, others) = some.split_first().expect("chunks are not empty");
                let others: Vec<_> =
                    others.iter().map(|other| Part::begin(scope, other, sync)).collect();
                results.push(sync(own));
                results.extend(others.into_iter().map(|other| other.finish(sync)));
            });
        }
        results.into_iter().collect()
    }
}
