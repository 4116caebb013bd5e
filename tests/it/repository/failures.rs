//! A place that fails at any one call: no snapshot is confirmed, and what was there stays readable.

use std::sync::Arc;

use gabion::repo::{Repository, RepositoryError, Unlock};
use gabion::storage::{
    LocalStorage, MemoryStorage, ObjectKind, ObjectName, Storage, StorageErrorKind,
};

use super::{plain, some_files};
use crate::small::{FailAt, Files, copy, noise, open, open_plain, options, read_back, take};

fn snapshot_names(storage: &MemoryStorage) -> Vec<ObjectName> {
    storage.names().into_iter().filter(|name| name.kind == ObjectKind::Snapshot).collect()
}

/// Opens through `storage` and takes a snapshot of `files`.
fn run(
    storage: &FailAt<MemoryStorage>,
    files: &Files,
) -> Result<gabion::format::snapshot::Snapshot, RepositoryError> {
    take(&open(storage, &Unlock::Nothing, None, Arc::new(()))?, files, 2)
}

#[test]
fn whichever_call_fails_nothing_is_confirmed_and_nothing_is_lost() {
    let original = plain();
    let old = take(&open_plain(&original), &some_files(), 1).unwrap();
    let mut files = some_files();
    files.insert("new".to_owned(), noise(9_000, 5));
    for kind in [StorageErrorKind::NoSpace, StorageErrorKind::Other, StorageErrorKind::PlaceLost] {
        let mut failed = 0;
        for at in 1.. {
            let storage = copy(&original);
            let failing = FailAt::new(storage.clone(), at, kind);
            let result = run(&failing, &files);
            let repository = open_plain(&storage);
            assert_eq!(read_back(&repository, &old).unwrap(), some_files(), "call {at}");
            match result {
                Ok(snapshot) => {
                    assert_eq!(read_back(&repository, &snapshot).unwrap(), files, "call {at}");
                }
                Err(error) => {
                    failed += 1;
                    let text = format!("{error:?}");
                    assert!(failing.has_failed(), "call {at}: {text}");
                    assert_eq!(snapshot_names(&storage), [ObjectName::snapshot(old.id)], "{text}");
                    // The next run goes on from there.
                    let again = take(&repository, &files, 3).unwrap();
                    assert_eq!(read_back(&open_plain(&storage), &again).unwrap(), files);
                }
            }
            if !failing.has_failed() {
                assert!(at > 20, "only {at} calls were made");
                // Only reading the second copies of things may fail without harm.
                assert!(failed + 4 >= at - 1, "{failed} of {} calls failed the run", at - 1);
                break;
            }
        }
    }
}

#[test]
fn a_failed_init_leaves_nothing_that_opens() {
    for at in 1.. {
        let storage = MemoryStorage::new();
        let failing = FailAt::new(storage.clone(), at, StorageErrorKind::NoSpace);
        let result = Repository::init(&failing, "here", &options(crate::small::key_file()));
        if !failing.has_failed() {
            result.unwrap();
            assert!(at > 8);
            break;
        }
        result.unwrap_err();
        let opened = open(&storage, &crate::small::key_file(), None, Arc::new(()));
        match opened {
            Err(RepositoryError::NotARepository(_)) => {
                Repository::init(&storage, "here", &options(crate::small::key_file())).unwrap();
            }
            // The second copy was published already: a whole repository.
            Ok(_) => assert!(storage.get(ObjectName::CONFIG_COPY).is_some()),
            Err(error) => panic!("call {at}: {error:?}"),
        }
    }
}

#[test]
fn a_folder_that_was_moved_away_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(&path).unwrap());
    Repository::init(&*storage, "here", &options(Unlock::Nothing)).unwrap();
    let repository = Repository::open(storage, "here", &Unlock::Nothing, None, Arc::new(()));
    let repository = Arc::new(repository.unwrap());
    repository.load_index().unwrap();
    take(&repository, &some_files(), 1).unwrap();
    #[expect(clippy::disallowed_methods, reason = "plays the user")]
    std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    let lost = |result: Result<_, RepositoryError>| matches!(result, Err(RepositoryError::Storage(e)) if e.kind == StorageErrorKind::PlaceLost);
    assert!(lost(repository.verify_place()));
    assert!(lost(take(&repository, &some_files(), 2).map(|_| ())));
    // Another repository in its place is not taken for it either.
    let other = LocalStorage::create(&path).unwrap();
    Repository::init(&other, "here", &options(Unlock::Nothing)).unwrap();
    assert!(lost(take(&repository, &some_files(), 3).map(|_| ())));
    for kind in [ObjectKind::Snapshot, ObjectKind::Pack] {
        assert!(other.list(kind).unwrap().objects.is_empty());
    }
}
