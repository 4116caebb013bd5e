//! Prune, on repositories in memory: what goes, what stays, and what of it survives being cut off.

mod cut_off;

use super::*;
use crate::event::Recorder;
use crate::format::snapshot::{Mark, Root, Snapshot};
use crate::ops::check::{CheckOptions, ReadData, check};
use crate::ops::test_support::{CHUNK, TestEntry, TestRepository, TestTree, noise, tree};
use crate::storage::MemoryStorage;
use crate::tree::PageReader;

pub(super) fn options() -> PruneOptions {
    PruneOptions::new("host".to_owned(), || Timestamp { seconds: 1_000_000, nanos: 0 }, 2)
}

fn confirmed(made: &TestRepository, files: &TestTree) -> Snapshot {
    let snapshot = Snapshot { mirrored: true, ..made.snapshot(files) };
    made.repository.confirm(&snapshot).unwrap();
    snapshot
}

fn forget(made: &TestRepository, snapshot: &Snapshot) {
    made.repository.remove_records(&[snapshot.id]).unwrap();
}

fn pruned(made: &TestRepository, options: &PruneOptions) -> PruneSummary {
    prune(&made.repository, options).unwrap()
}

fn count(storage: &MemoryStorage, kind: ObjectKind) -> usize {
    storage.names().into_iter().filter(|name| name.kind == kind).count()
}

/// Every byte of every snapshot is there and the check finds nothing.
fn assert_sound(made: &TestRepository, snapshots: &[(&Snapshot, &TestTree)]) {
    let made = made.reopen();
    let (found, damaged) = made.repository.snapshots().unwrap();
    assert!(damaged.is_empty());
    for (snapshot, files) in snapshots {
        assert!(found.iter().any(|found| found.id == snapshot.id));
        let mut cursor = PageReader::new(&made.repository).cursor(snapshot.root);
        let mut paths = Vec::new();
        while let Some(entry) = cursor.next_entry().unwrap() {
            paths.push(entry.path.to_vec());
        }
        assert_eq!(paths, files.keys().cloned().collect::<Vec<_>>());
    }
    let options = CheckOptions {
        read: ReadData::All,
        salt: 0,
        threads: 1,
        interrupted: Arc::new(AtomicBool::new(false)),
    };
    let summary = check(&made.repository, &options).unwrap();
    assert_eq!(summary.problems, 0, "{:#?}", made.events.events());
}

/// `count` files of their own and one that all trees share.
fn files(seed: u64, count: u64) -> TestTree {
    let mut files = tree([("shared", TestEntry::file(noise(0, 5 * CHUNK)))]);
    for number in 0..count {
        let bytes = noise(seed * 1000 + number, CHUNK);
        files.insert(format!("{seed}-{number:04}").into_bytes(), TestEntry::file(bytes));
    }
    files
}

#[test]
fn what_only_forgotten_snapshots_needed_goes_and_the_rest_stays() {
    let made = TestRepository::new();
    let (old, new) = (files(1, 20), files(2, 30));
    let first = confirmed(&made, &old);
    let second = confirmed(&made, &new);
    assert_eq!(pruned(&made, &options()).packs_deleted, 0, "all is needed");
    let without = HashSet::from([first.id]);
    let as_if = PruneOptions { dry_run: true, without, ..options() };
    let foreseen = prune(&made.repository, &as_if).unwrap();
    forget(&made, &first);
    let planned = prune(&made.repository, &PruneOptions { dry_run: true, ..options() }).unwrap();
    assert_eq!(foreseen, planned);
    assert_sound(&made, &[(&second, &new)]);
    let summary = pruned(&made, &options());
    assert_eq!((planned.packs_deleted, planned.packs_rewritten), (2, 1));
    assert_eq!((summary.packs_deleted, summary.packs_rewritten), (2, 1), "{summary:?}");
    assert!(summary.bytes_after < summary.bytes_before);
    assert_sound(&made, &[(&second, &new)]);
    for kind in [ObjectKind::Mark, ObjectKind::Session, ObjectKind::Root] {
        assert_eq!(count(&made.storage, kind), 0, "{kind:?}");
    }
    let again = pruned(&made, &options());
    assert_eq!((again.packs_deleted, again.bytes_after), (0, summary.bytes_after));
}

#[test]
fn everything_goes_when_nothing_is_needed() {
    let made = TestRepository::new();
    let first = confirmed(&made, &files(1, 20));
    forget(&made, &first);
    let summary = pruned(&made, &options());
    assert_eq!((summary.snapshots, summary.bytes_after), (0, 0));
    assert_eq!(count(&made.storage, ObjectKind::Pack), 0);
    assert_eq!(count(&made.storage, ObjectKind::Segment), 0, "none lists what is gone");
}

#[test]
fn of_two_copies_of_a_chunk_one_stays() {
    let made = TestRepository::new();
    let same = files(1, 20);
    // Two writers that do not see each other store everything twice.
    let other = made.reopen();
    let (first, second) = (confirmed(&made, &same), confirmed(&other, &same));
    let packs = count(&made.storage, ObjectKind::Pack);
    let made = made.reopen();
    assert_eq!(pruned(&made, &options()).packs_deleted, packs as u64 / 2);
    assert_sound(&made, &[(&first, &same), (&second, &same)]);
}

fn session(role: &str, forgets: Vec<crate::id::SnapshotId>) -> Session {
    Session {
        id: SessionId::random(),
        role: role.to_owned(),
        host: "elsewhere".to_owned(),
        process: 1,
        started: Timestamp::default().into(),
        identity: None,
        forgets,
        over: false,
    }
}

#[test]
fn a_writer_at_work_delays_the_deletion_and_its_end_frees_it() {
    let made = TestRepository::new();
    let (mut old, new) = (files(1, 20), files(2, 30));
    // Whether the list of a file's chunks is in a pack of pages depends on where the key cuts it:
    // nothing of the two packs is needed by the other snapshot.
    old.remove(&b"shared"[..]);
    let (first, second) = (confirmed(&made, &old), confirmed(&made, &new));
    forget(&made, &first);
    let writer = session("snapshot", Vec::new());
    made.repository.begin_session(&writer).unwrap();
    let packs = count(&made.storage, ObjectKind::Pack);
    let summary = pruned(&made, &options());
    assert_eq!((summary.packs_waiting, summary.sessions, summary.packs_deleted), (2, 1, 0));
    assert_eq!(count(&made.storage, ObjectKind::Pack), packs);
    assert_eq!(count(&made.storage, ObjectKind::Mark), 1, "it is said once, with the session");

    // Another writer that came later has seen the mark: it does not matter.
    let later = session("snapshot", Vec::new());
    made.repository.begin_session(&later).unwrap();
    made.repository.end_session(writer.id).unwrap();
    let summary = pruned(&made, &options());
    assert_eq!((summary.packs_deleted, summary.packs_waiting), (2, 0), "{summary:?}");
    made.repository.end_session(later.id).unwrap();
    pruned(&made, &options());
    assert_eq!(count(&made.storage, ObjectKind::Mark), 0);
    assert_sound(&made, &[(&second, &new)]);
}

#[test]
fn packs_of_a_session_at_work_stay_and_those_of_a_dead_one_go() {
    let made = TestRepository::new();
    let kept = files(1, 20);
    let first = confirmed(&made, &kept);
    let at_work = session("snapshot", Vec::new());
    made.repository.begin_session(&at_work).unwrap();
    let writer = crate::repo::Writer::new(&made.repository, 1);
    writer.announce(at_work.id);
    let mut worker = writer.worker(crate::repo::PackClass::Content).unwrap();
    worker.store(crate::crypto::ChunkKind::Content, &noise(77, 10_000)).unwrap();
    worker.flush().unwrap();
    writer.checkpoint().unwrap();
    let packs = count(&made.storage, ObjectKind::Pack);
    pruned(&made, &options());
    assert_eq!(count(&made.storage, ObjectKind::Pack), packs);
    assert_eq!(count(&made.storage, ObjectKind::Mark), 0, "not even condemned");

    let dead = PruneOptions { has_ended: |_| true, ..options() };
    let summary = pruned(&made, &dead);
    assert_eq!((summary.sessions_ended, summary.packs_deleted), (1, 1));
    assert_sound(&made, &[(&first, &kept)]);
}

#[test]
fn a_removal_that_was_cut_off_is_finished() {
    let made = TestRepository::new();
    let (a, b) = (files(1, 5), files(2, 5));
    let (first, second) = (confirmed(&made, &a), confirmed(&made, &b));
    let forgetter = session("forget", vec![first.id]);
    made.repository.begin_session(&forgetter).unwrap();
    made.storage.remove(ObjectName::snapshot(first.id));
    assert_eq!(made.repository.snapshots().unwrap().0.len(), 1, "it counts as removed");
    assert_sound(&made, &[(&second, &b)]);
    pruned(&made, &PruneOptions { has_ended: |_| true, ..options() });
    assert_eq!(count(&made.storage, ObjectKind::SnapshotCopy), 1);
    assert!(made.repository.sessions().unwrap().0.is_empty());
    assert_sound(&made, &[(&second, &b)]);
}

#[test]
fn a_tentative_root_counts_as_needed_until_its_session_is_over() {
    let made = TestRepository::new();
    let tree = files(1, 20);
    let snapshot = Snapshot { mirrored: true, ..made.snapshot(&tree) };
    let writer = session("snapshot", Vec::new());
    made.repository.begin_session(&writer).unwrap();
    let root = Root::Tentative { session: writer.id, snapshot: Box::new(snapshot.clone()) };
    made.repository.publish_root(snapshot.id, &root).unwrap();
    pruned(&made, &options());
    made.repository.confirm(&snapshot).unwrap().unwrap();
    made.repository.end_session(writer.id).unwrap();
    pruned(&made, &options());
    assert_sound(&made, &[(&snapshot, &tree)]);
    assert_eq!(count(&made.storage, ObjectKind::Root), 0, "it was confirmed");

    let other = Snapshot { mirrored: true, ..made.snapshot(&files(3, 9)) };
    let writer = session("snapshot", Vec::new());
    made.repository.begin_session(&writer).unwrap();
    let root = Root::Tentative { session: writer.id, snapshot: Box::new(other.clone()) };
    made.repository.publish_root(other.id, &root).unwrap();
    let summary = pruned(&made, &PruneOptions { has_ended: |_| true, ..options() });
    assert!(summary.packs_deleted > 0);
    assert_eq!(count(&made.storage, ObjectKind::Root), 0);
    assert_sound(&made, &[(&snapshot, &tree)]);
}

/// Its owner may sleep directly before it confirms, for ever.
#[test]
fn what_a_session_that_was_given_up_left_unfinished_goes_and_is_never_confirmed() {
    let made = TestRepository::new();
    let kept = files(1, 20);
    let confirmed = confirmed(&made, &kept);
    let snapshot = Snapshot { mirrored: true, ..made.snapshot(&files(2, 30)) };
    let root =
        Root::Tentative { session: SessionId::random(), snapshot: Box::new(snapshot.clone()) };
    made.repository.publish_root(snapshot.id, &root).unwrap();
    assert!(pruned(&made.reopen(), &options()).packs_deleted > 0);
    assert_eq!(count(&made.storage, ObjectKind::Root), 0);
    assert_eq!(made.repository.confirm(&snapshot).unwrap(), None);
    assert!(!made.repository.snapshot_exists(snapshot.id).unwrap());
    assert_sound(&made.reopen(), &[(&confirmed, &kept)]);

    // Its owner died between the two copies.
    let copy = ObjectName::snapshot_copy(snapshot.id);
    made.storage.put(copy, made.storage.get(ObjectName::snapshot_copy(confirmed.id)).unwrap());
    assert_sound(&made.reopen(), &[(&confirmed, &kept)]);
    pruned(&made.reopen(), &options());
    assert_eq!(made.storage.get(copy), None);

    pruned(&made.reopen(), &PruneOptions { drop_unfinished: true, ..options() });
    assert_eq!(count(&made.storage, ObjectKind::Snapshot), 1, "nobody sleeps");
    assert_sound(&made.reopen(), &[(&confirmed, &kept)]);
}

#[test]
fn a_needed_chunk_in_a_condemned_pack_alone_is_stored_again_before_the_pack_goes() {
    let made = TestRepository::new();
    let kept = files(1, 40);
    let snapshot = confirmed(&made, &kept);
    let packs: Vec<PackId> = made.packs().iter().map(|(name, _)| PackId(name.id)).collect();
    let mark = Mark { session: SessionId::random(), packs: packs.clone(), waits_for: None };
    made.repository.publish_mark(&mark).unwrap();
    let made = made.reopen();
    let summary = pruned(&made, &options());
    assert_eq!(summary.packs_deleted, packs.len() as u64);
    assert!(made.packs().iter().all(|(name, _)| !packs.contains(&PackId(name.id))));
    assert_sound(&made, &[(&snapshot, &kept)]);
    assert_eq!(count(&made.storage, ObjectKind::Mark), 0);
}

#[test]
fn nothing_is_deleted_when_it_is_not_known_what_is_needed() {
    let made = TestRepository::new();
    let (a, b) = (files(1, 20), files(2, 20));
    let (first, second) = (confirmed(&made, &a), confirmed(&made, &b));
    forget(&made, &first);
    let refused = |what: &str| {
        let before = made.storage.names();
        let made = made.reopen();
        let error = prune(&made.repository, &options()).unwrap_err();
        assert_eq!(made.storage.names(), before, "{what}");
        error.to_string()
    };
    let name = ObjectName::snapshot(second.id);
    let copy = ObjectName::snapshot_copy(second.id);
    let record = made.storage.get(name).unwrap();
    for name in [name, copy] {
        made.storage.put(name, *b"rubbish");
    }
    assert!(refused("a record").contains("cannot be read, so it is not known what it needs"));
    for name in [name, copy] {
        made.storage.put(name, Arc::clone(&record));
    }
    let mark = ObjectName::mark([1; 16]);
    made.storage.put(mark, *b"rubbish");
    refused("a mark");
    made.storage.remove(mark);
    let location = made.reopen().repository.locate(&second.root).unwrap().unwrap();
    let pack = ObjectName::pack(location.pack);
    let bytes = made.storage.get(pack).unwrap();
    made.storage.remove(pack);
    let said = refused("a pack");
    assert!(said.contains("is not whole") || said.contains("is missing"), "{said}");
    made.storage.put(pack, bytes);
    pruned(&made.reopen(), &options());
    assert_sound(&made, &[(&second, &b)]);
}

#[test]
fn many_small_packs_become_one() {
    let made = TestRepository::new();
    let trees: Vec<TestTree> = (1..=10).map(|seed| files(seed, 5)).collect();
    let snapshots: Vec<Snapshot> = trees.iter().map(|tree| confirmed(&made, tree)).collect();
    let before = count(&made.storage, ObjectKind::Pack);
    let summary = pruned(&made, &options());
    assert!(summary.packs_rewritten >= 9, "{summary:?}");
    assert!(count(&made.storage, ObjectKind::Pack) <= before / 4);
    let all: Vec<_> = snapshots.iter().zip(&trees).collect();
    assert_sound(&made, &all);
    assert_eq!(pruned(&made, &options()).packs_rewritten, 0, "and stay one");
}

#[test]
fn a_session_that_stands_still_for_a_day_is_given_up_by_the_second_prune() {
    let folder = tempfile::tempdir().unwrap();
    let made = TestRepository::new();
    let writer = session("snapshot", Vec::new());
    made.repository.begin_session(&writer).unwrap();
    let ended = |clock: fn() -> Timestamp| {
        let place = Arc::new(made.storage.clone());
        let cache = Some(folder.path().to_owned());
        let unlock = crate::repo::Unlock::Nothing;
        let repository = Repository::open(place, "memory", &unlock, cache, Arc::new(()));
        let options = PruneOptions { clock, ..options() };
        prune(&Arc::new(repository.unwrap()), &options).unwrap().sessions_ended
    };
    assert_eq!(ended(|| Timestamp { seconds: 1_000_000, nanos: 0 }), 0);
    assert_eq!(ended(|| Timestamp { seconds: 1_080_000, nanos: 0 }), 0, "not a day yet");
    assert_eq!(ended(|| Timestamp { seconds: 1_086_400, nanos: 0 }), 1);
    assert!(!made.repository.session_exists(writer.id).unwrap());
}

#[test]
fn a_list_that_lost_most_snapshots_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let made = TestRepository::new();
    let snapshots: Vec<Snapshot> = (1..=5).map(|seed| confirmed(&made, &files(seed, 3))).collect();
    let with_cache = |accept_fewer| {
        let place = Arc::new(made.storage.clone());
        let cache = Some(folder.path().to_owned());
        let unlock = crate::repo::Unlock::Nothing;
        let repository = Repository::open(place, "memory", &unlock, cache, Arc::new(()));
        let options = PruneOptions { accept_fewer, ..options() };
        prune(&Arc::new(repository.unwrap()), &options)
    };
    with_cache(false).unwrap();
    let gone: Vec<_> = snapshots[..3].iter().map(|snapshot| snapshot.id).collect();
    made.repository.remove_records(&gone).unwrap();
    let before = made.storage.names();
    let error = with_cache(false).unwrap_err().to_string();
    assert!(error.contains("3 of the 5 snapshots"), "{error}");
    assert_eq!(made.storage.names(), before);
    assert!(with_cache(true).unwrap().packs_deleted > 0);
}

/// Who has read the index before a prune finds what the prune moved.
#[test]
fn a_reader_follows_what_a_prune_moves() {
    let made = TestRepository::new();
    let (old, new) = (files(1, 20), files(2, 30));
    let (first, second) = (confirmed(&made, &old), confirmed(&made, &new));
    let reader = made.reopen();
    forget(&made, &first);
    // The second snapshot needs a chunk of the first one's pack, which is stored again.
    assert_eq!(pruned(&made, &options()).packs_rewritten, 1);
    let mut chunks = crate::repo::ChunkReader::new(&reader.repository);
    for piece in noise(0, 5 * CHUNK).chunks(CHUNK) {
        let kind = crate::crypto::ChunkKind::Content;
        let mut found = Vec::new();
        chunks.read(kind, &reader.repository.keys().chunk_id(kind, piece), &mut found).unwrap();
        assert!(found == piece);
    }
    assert_sound(&made, &[(&second, &new)]);
}
