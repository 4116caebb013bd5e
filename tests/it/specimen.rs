//! A small repository with an object of every kind, for planting damage.

use std::sync::Arc;

use gabion::format::snapshot::{Mark, Root, Snapshot};
use gabion::id::{PackId, SnapshotId};
use gabion::ops::check::{CheckOptions, CheckSummary, ReadData, check};
use gabion::repo::{Repository, Unlock};
use gabion::storage::MemoryStorage;

use crate::small::{
    Files, files, key_file, noise, open, options, publish_mark, store, take, writing,
};

/// A repository with an object of every kind, and what its snapshots hold.
pub(crate) struct Specimen {
    pub(crate) storage: MemoryStorage,
    /// Two snapshots, oldest first, and what they hold.
    pub(crate) taken: Vec<(Snapshot, Files)>,
}

/// Makes a specimen that `unlock`, a key file or nothing, opens.
pub(crate) fn specimen(unlock: &Unlock) -> Specimen {
    let storage = MemoryStorage::new();
    let again = if matches!(unlock, Unlock::Nothing) { Unlock::Nothing } else { key_file() };
    Repository::init(&storage, "here", &options(again)).unwrap();
    let repository = open(&storage, unlock, None, Arc::new(())).unwrap();
    let first = files([
        ("a", b"tiny".to_vec()),
        ("b/text", b"to be or not to be, ".repeat(3)),
        ("b/sparse", [noise(24, 2), vec![0; 48], noise(24, 3)].concat()),
        // So many chunks that their list is a page of its own, but few that differ.
        ("long", noise(48, 4).repeat(9)),
    ]);
    let mut second = first.clone();
    second.insert("b/new".to_owned(), noise(40, 5));
    let mut taken = Vec::new();
    for (seconds, files) in [(1, first), (2, second)] {
        taken.push((take(&repository, &files, seconds).unwrap(), files));
    }
    add_coordination(&repository, &storage, &taken[1].1);
    Specimen { storage, taken }
}

/// Adds a session with its root and mark.
pub(crate) fn add_coordination(
    repository: &Arc<Repository>,
    storage: &MemoryStorage,
    files: &Files,
) {
    let session = writing();
    let tentative = store(repository, files, 3).unwrap();
    let root = Root::Tentative { session: session.id, snapshot: Box::new(tentative) };
    repository.begin_session(&session).unwrap();
    repository.publish_root(SnapshotId::random(), &root).unwrap();
    let mark = Mark { session: session.id, packs: vec![PackId::random()], waits_for: None };
    publish_mark(repository, storage, &mark);
}

/// Checks a repository on one thread.
pub(crate) fn checked(repository: &Arc<Repository>, read: ReadData) -> CheckSummary {
    let interrupted = Arc::default();
    check(repository, &CheckOptions { read, salt: 0, threads: 1, interrupted }).unwrap()
}
