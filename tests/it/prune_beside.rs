//! A prune beside others that are faster than it, at each of its calls.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::{Mark, Root, Snapshot};
use gabion::id::{PackId, SessionId};
use gabion::ops::cat::cat;
use gabion::ops::check::ReadData;
use gabion::ops::prune::{PruneOptions, PruneSummary, prune};
use gabion::ops::restore::{RestoreOptions, restore};
use gabion::ops::snapshot::{SnapshotOptions, snapshot};
use gabion::repo::{Repository, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, Storage};

use crate::small::{
    FailAt, Files, copy, files, noise, open_plain, options, problems, store, take, writing,
};
use crate::specimen::checked;

fn pruned(
    place: &(impl Storage + Clone + 'static),
    options: &PruneOptions,
) -> (PruneSummary, Vec<String>) {
    let recorder = Arc::new(Recorder::default());
    let storage: Arc<dyn Storage> = Arc::new(place.clone());
    let opened = Repository::open(storage, "here", &Unlock::Nothing, None, recorder.clone());
    let summary = prune(&Arc::new(opened.unwrap()), options).unwrap();
    (summary, problems(&recorder))
}

fn ordinary() -> PruneOptions {
    let clock = || Timestamp { seconds: 1_000_000, nanos: 0 };
    PruneOptions::new("box".to_owned(), clock, 1)
}

#[test]
fn a_snapshot_that_comes_while_a_prune_looks_is_no_reason_to_stop() {
    let before = MemoryStorage::new();
    Repository::init(&before, "here", &options(Unlock::Nothing)).unwrap();
    let repository = open_plain(&before);
    let gone = take(&repository, &files([("a", noise(500, 1)), ("b", noise(90, 2))]), 1).unwrap();
    take(&repository, &files([("b", noise(90, 2)), ("c", noise(200, 3))]), 2).unwrap();
    repository.remove_records(&[gone.id]).unwrap();
    let mut at = 1;
    loop {
        let storage = copy(&before);
        let place = FailAt::meddling(storage.clone(), at, |storage| {
            let new = files([("c", noise(200, 3)), ("d", noise(300, 4))]);
            take(&open_plain(storage), &new, 3).unwrap();
        });
        let (summary, problems) = pruned(&place, &ordinary());
        assert_eq!(problems, [""; 0], "at call {at}");
        assert!(summary.packs_deleted > 0, "at call {at}: {summary:?}");
        assert_eq!(checked(&open_plain(&storage), ReadData::All).problems, 0, "at call {at}");
        if !place.has_failed() {
            break;
        }
        at += 1;
    }
    assert!(at > 50, "{at} calls");
}

fn rewriting() -> PruneOptions {
    PruneOptions { max_unused: 0.0, ..ordinary() }
}

/// Moves what is needed of the packs of a forgotten snapshot.
fn move_packs(storage: &MemoryStorage) {
    let summary = prune(&open_plain(storage), &rewriting()).unwrap();
    assert!(summary.packs_rewritten > 0, "{summary:?}");
}

/// A repository in which a prune moves packs that the snapshot needs, of pages too.
fn movable() -> (MemoryStorage, Snapshot, Files) {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    let repository = open_plain(&storage);
    let kept = files([("b", noise(700, 2)), ("c", noise(200, 3)), ("e", noise(40, 5))]);
    let mut first = kept.clone();
    first.insert("a".to_owned(), noise(9000, 1));
    let gone = take(&repository, &first, 1).unwrap();
    let taken = take(&repository, &kept, 2).unwrap();
    repository.remove_records(&[gone.id]).unwrap();
    (storage, taken, kept)
}

/// Found by the simulator: after it had stored something again, a prune counted packs as known that
/// its index did not know of, and called the snapshot that needs them damaged.
#[test]
fn a_snapshot_that_comes_while_a_prune_moves_packs_is_no_reason_to_stop() {
    let (before, _, _) = movable();
    for at in 1.. {
        let storage = copy(&before);
        let place = FailAt::meddling(storage.clone(), at, |storage| {
            let new = files([("b", noise(700, 2)), ("d", noise(300, 4)), ("f", noise(3000, 6))]);
            take(&open_plain(storage), &new, 3).unwrap();
        });
        let (_, problems) = pruned(&place, &rewriting());
        assert_eq!(problems, [""; 0], "at call {at}");
        assert_eq!(checked(&open_plain(&storage), ReadData::All).problems, 0, "at call {at}");
        if !place.has_failed() {
            assert!(at > 50, "{at} calls");
            break;
        }
    }
}

/// Somebody who needs little of what was there, and lets the rest go.
fn forget_the_rest_and_prune(storage: &MemoryStorage) {
    let repository = open_plain(storage);
    let (old, _) = repository.snapshots().unwrap();
    take(&repository, &files([("c", noise(200, 3))]), 3).unwrap();
    let old: Vec<_> = old.iter().map(|snapshot| snapshot.id).collect();
    repository.remove_records(&old).unwrap();
    prune(&open_plain(storage), &rewriting()).unwrap();
}

/// Has a prune done beside somebody who forgets and prunes, before each of its calls in turn.
fn beside_who_forgets(before: &MemoryStorage) {
    for at in 1.. {
        let storage = copy(before);
        let place = FailAt::meddling(storage.clone(), at, forget_the_rest_and_prune);
        let (_, problems) = pruned(&place, &rewriting());
        assert_eq!(problems, [""; 0], "at call {at}");
        assert_eq!(checked(&open_plain(&storage), ReadData::All).problems, 0, "at call {at}");
        if !place.has_failed() {
            assert!(at > 40, "{at} calls");
            break;
        }
    }
}

/// Found by the simulator: what a prune was about to store again was not needed any more, and gone,
/// and the prune said that it cannot be read.
#[test]
fn what_is_forgotten_while_a_prune_moves_packs_is_no_reason_to_stop() {
    let (before, ..) = movable();
    beside_who_forgets(&before);
}

/// Found by the simulator: the same of what lies only in packs that an earlier prune condemned.
#[test]
fn what_is_forgotten_while_a_prune_saves_it_is_no_reason_to_stop() {
    let (before, ..) = movable();
    let packs = before.names().into_iter().filter(|name| name.kind == ObjectKind::Pack);
    let packs = packs.map(|name| PackId(name.id)).collect();
    let mark = Mark { session: SessionId::random(), packs, waits_for: None };
    open_plain(&before).publish_mark(&mark).unwrap();
    beside_who_forgets(&before);
}

/// Found by the simulator: a snapshot came after a prune had listed the packs, was confirmed and
/// forgotten after that prune had read its root, and was pruned by somebody else; the packs were the
/// same as before by then, and the prune said that an unfinished snapshot is not whole.
#[test]
fn what_comes_and_goes_while_a_prune_looks_is_no_reason_to_complain() {
    let before = MemoryStorage::new();
    Repository::init(&before, "here", &options(Unlock::Nothing)).unwrap();
    take(&open_plain(&before), &files([("b", noise(90, 2))]), 1).unwrap();
    let announce = |storage: &MemoryStorage| {
        let repository = open_plain(storage);
        let session = writing();
        repository.begin_session(&session).unwrap();
        let stored = store(&repository, &files([("d", noise(300, 4))]), 3).unwrap();
        let root = Root::Tentative { session: session.id, snapshot: Box::new(stored.clone()) };
        repository.publish_root(stored.id, &root).unwrap();
    };
    let confirm_and_forget = |storage: &FailAt<MemoryStorage>| {
        let repository = open_plain(storage);
        for (id, root) in repository.roots().unwrap().0 {
            let Root::Tentative { session, snapshot } = root else { continue };
            repository.confirm(&snapshot).unwrap().unwrap();
            repository.remove_root(id).unwrap();
            repository.end_session(session).unwrap();
            repository.remove_records(&[id]).unwrap();
        }
        prune(&open_plain(storage), &ordinary()).unwrap();
    };
    for at in 1.. {
        let mut came = false;
        // It goes while what was read of it is fresh: later calls look at all of it again.
        for later in 1..=12 {
            let storage = copy(&before);
            let comes = FailAt::meddling(storage.clone(), at, announce);
            let goes = FailAt::meddling(comes.clone(), at + later, confirm_and_forget);
            let (_, problems) = pruned(&goes, &ordinary());
            assert_eq!(problems, [""; 0], "at calls {at} and {}", at + later);
            came |= comes.has_failed();
        }
        if !came {
            assert!(at > 40, "{at} calls");
            break;
        }
    }
}

/// Has `work` done with a repository whose packs are moved before each of its calls in turn.
fn beside_a_prune(work: impl Fn(&Arc<Repository>, &Snapshot, &Files, u64)) -> u64 {
    let (before, taken, kept) = movable();
    let mut at = 1;
    loop {
        let storage = copy(&before);
        let place = FailAt::meddling(storage.clone(), at, move_packs);
        let shared: Arc<dyn Storage> = Arc::new(place.clone());
        let opened = Repository::open(shared, "here", &Unlock::Nothing, None, Arc::new(()));
        work(&Arc::new(opened.unwrap()), &taken, &kept, at);
        if !place.has_failed() {
            return at;
        }
        at += 1;
    }
}

#[test]
fn a_restore_beside_a_prune_that_moves_its_packs_is_whole() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let calls = beside_a_prune(|repository, taken, kept, at| {
        repository.load_index().unwrap();
        let target = folder.path().join(at.to_string());
        let options =
            RestoreOptions { path: None, threads: 1, ..crate::restore_op::options(taken, &target) };
        let summary = restore(repository, options).unwrap();
        assert_eq!(summary.problems, 0, "at call {at}");
        for (path, bytes) in kept {
            assert!(std::fs::read(target.join(path)).unwrap() == *bytes, "{path} at call {at}");
        }
    });
    assert!(calls > 15, "{calls} calls");
}

#[test]
fn what_is_read_from_a_snapshot_beside_a_prune_that_moves_its_packs_is_whole() {
    let calls = beside_a_prune(|repository, taken, kept, at| {
        repository.load_index().unwrap();
        for (path, bytes) in kept {
            let mut out = Vec::new();
            let read = cat(repository, taken, path.as_bytes(), &mut out);
            read.unwrap_or_else(|error| panic!("{path} at call {at}: {error}"));
            assert!(out == *bytes, "{path} at call {at}");
        }
    });
    assert!(calls > 15, "{calls} calls");
}

#[test]
fn a_check_of_all_data_beside_a_prune_that_moves_packs_finds_nothing() {
    let calls = beside_a_prune(|repository, _, _, at| {
        assert_eq!(checked(repository, ReadData::All).problems, 0, "at call {at}");
    });
    assert!(calls > 15, "{calls} calls");
}

/// Found by the simulator: the one that came later lies in packs that were not listed.
#[test]
fn a_snapshot_beside_another_of_the_same_sources_succeeds() {
    static SOURCE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    fn how() -> SnapshotOptions {
        let paths = vec![SOURCE.get().unwrap().path().canonicalize().unwrap()];
        SnapshotOptions { paths, threads: 1, ..crate::snapshot_op::options() }
    }
    #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
    let source = SOURCE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        (0..9)
            .for_each(|n| std::fs::write(folder.path().join(n.to_string()), noise(99, n)).unwrap());
        folder
    });
    assert!(source.path().exists());
    let mut at = 1;
    loop {
        let storage = MemoryStorage::new();
        Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
        let place = FailAt::meddling(storage.clone(), at, |storage| {
            snapshot(&open_plain(storage), how()).unwrap();
        });
        let shared: Arc<dyn Storage> = Arc::new(place.clone());
        let opened = Repository::open(shared, "here", &Unlock::Nothing, None, Arc::new(()));
        let taken = snapshot(&Arc::new(opened.unwrap()), how());
        taken.unwrap_or_else(|error| panic!("at call {at}: {error}"));
        assert_eq!(checked(&open_plain(&storage), ReadData::All).problems, 0, "at call {at}");
        if !place.has_failed() {
            break;
        }
        at += 1;
    }
    assert!(at > 25, "{at} calls");
}
