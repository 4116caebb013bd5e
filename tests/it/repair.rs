//! Repair: what it puts right, what it must never do, and what happens when it is cut off.

use std::collections::BTreeMap;
use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::ops::check::ReadData;
use gabion::ops::repair::{RepairOptions, RepairSummary, repair};
use gabion::repo::{Presence, Repository};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName, Storage, StorageErrorKind};
use proptest::prelude::*;

use crate::small::{
    FailAt, Files, copy, files, key_file, noise, open, options, problems, read_back, take, writing,
};
use crate::specimen::checked;
use crate::support::Sandbox;

fn how() -> RepairOptions {
    RepairOptions {
        from: Vec::new(),
        read_data: true,
        dry_run: false,
        presence: Presence {
            host: "here".to_owned(),
            now: Timestamp { seconds: 1_000_000, nanos: 0 },
            identity: None,
        },
        has_ended: |_| false,
        compression: 1,
        threads: 1,
        interrupted: Arc::default(),
    }
}

fn opened(storage: &(impl Storage + Clone + 'static), recorder: Arc<Recorder>) -> Arc<Repository> {
    let place: Arc<dyn Storage> = Arc::new(storage.clone());
    Arc::new(Repository::open(place, "here", &key_file(), None, recorder).unwrap())
}

fn repaired(storage: &MemoryStorage) -> RepairSummary {
    repair(&opened(storage, Arc::default()), &how()).unwrap()
}

/// What a check of all data finds.
fn found(storage: &MemoryStorage) -> Vec<String> {
    let recorder = Arc::new(Recorder::default());
    checked(&opened(storage, recorder.clone()), ReadData::All);
    problems(&recorder)
}

/// A sealed repository with two snapshots and two key slots, and what the snapshots hold.
fn made() -> (MemoryStorage, Vec<(Snapshot, Files)>) {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(key_file())).unwrap();
    let repository = open(&storage, &key_file(), None, Arc::new(())).unwrap();
    repository.add_slot(&key_file(), &options(key_file())).unwrap();
    let mut content = files([("a", noise(100, 1)), ("b/text", b"to be or not to be ".repeat(9))]);
    let mut taken = Vec::new();
    for seconds in 1..=2 {
        taken.push((take(&repository, &content, seconds).unwrap(), content.clone()));
        content.insert("c/new".to_owned(), noise(200, 3));
    }
    (storage, taken)
}

/// The files of a snapshot that can be read, by path; nothing when its tree cannot be walked.
fn readable(storage: &MemoryStorage, snapshot: &Snapshot) -> Option<Files> {
    let repository = open(storage, &key_file(), None, Arc::new(())).ok()?;
    let (known, _) = repository.snapshots().ok()?;
    let found = known.iter().find(|found| found.id == snapshot.id)?;
    read_back(&repository, found).ok()
}

fn of_kind(storage: &MemoryStorage, kind: ObjectKind) -> Vec<ObjectName> {
    storage.names().into_iter().filter(|name| name.kind == kind).collect()
}

fn all_of(storage: &MemoryStorage) -> BTreeMap<ObjectName, Vec<u8>> {
    let bytes = |name| storage.get(name).unwrap().to_vec();
    storage.names().into_iter().map(|name| (name, bytes(name))).collect()
}

#[test]
fn a_sound_repository_stays_as_it_is_byte_for_byte() {
    let (storage, _) = made();
    let before = all_of(&storage);
    assert_eq!(repaired(&storage), RepairSummary::default());
    assert_eq!(all_of(&storage), before);
}

/// Whatever single object is lost, emptied or cut: what there is twice is made again, and the
/// check finds nothing afterwards unless content is lost for good.
#[test]
fn every_object_that_there_is_twice_comes_back() {
    let (storage, taken) = made();
    for name in storage.names() {
        let good = storage.get(name).unwrap();
        for damaged in [None, Some(0), Some(good.len() / 2), Some(good.len() - 1)] {
            let place = copy(&storage);
            match damaged {
                None => drop(place.remove(name)),
                Some(len) => place.put(name, &good[..len]),
            }
            let before = found(&place);
            assert!(!before.is_empty(), "{name} {damaged:?}");
            let summary = repaired(&place);
            let after = found(&place);
            assert_eq!(summary.problems, after.len() as u64, "{name} {damaged:?}: {after:#?}");
            assert!(after.len() <= before.len(), "{name} {damaged:?}: {before:#?} {after:#?}");
            assert_eq!(of_kind(&place, ObjectKind::Session), []);
            assert_eq!(of_kind(&place, ObjectKind::Mark), []);
            if name.kind != ObjectKind::Pack {
                assert_eq!(after, [""; 0], "{name} {damaged:?}");
                for (snapshot, files) in &taken {
                    assert_eq!(readable(&place, snapshot).as_ref(), Some(files));
                }
            } else if damaged == Some(good.len() - 1) {
                // Only the trailer is cut: a segment has the footer, and every block can be read.
                assert_eq!(after, [""; 0], "{name}");
                assert_eq!(place.get(name), None, "it lies in the quarantine");
            }
            if let Some(len) = damaged {
                let aside = of_kind(&place, ObjectKind::Quarantine);
                let kept = |aside: &ObjectName| *place.get(*aside).unwrap() == good[..len];
                assert!(aside.iter().any(kept), "{name}: nothing is deleted");
            }
            let again = all_of(&place);
            repaired(&place);
            assert_eq!(all_of(&place), again, "{name} {damaged:?}: a second repair does nothing");
        }
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let (storage, _) = made();
    storage.remove(ObjectName::CONFIG_COPY);
    let pack = of_kind(&storage, ObjectKind::Pack)[0];
    let bytes = storage.get(pack).unwrap();
    storage.put(pack, &bytes[..bytes.len() - 1]);
    let before = all_of(&storage);
    let options = RepairOptions { dry_run: true, ..how() };
    let summary = repair(&opened(&storage, Arc::default()), &options).unwrap();
    assert_eq!((summary.copies, summary.set_aside), (1, 1), "{summary:?}");
    assert!(summary.problems > 0);
    assert_eq!(all_of(&storage), before);
}

/// Beside somebody at work a damaged pack is copied, and moved by a later repair.
#[test]
fn a_damaged_pack_stays_where_it_is_beside_others() {
    let (storage, taken) = made();
    let pack = of_kind(&storage, ObjectKind::Pack)[0];
    let bytes = storage.get(pack).unwrap();
    storage.put(pack, &bytes[..bytes.len() - 1]);
    let session = writing();
    let beside = opened(&storage, Arc::default());
    beside.begin_session(&session).unwrap();
    let summary = repaired(&storage);
    assert_eq!(summary.packs_waiting, 1, "{summary:?}");
    assert!(summary.chunks > 0 && storage.get(pack).is_some());
    assert_eq!(of_kind(&storage, ObjectKind::Mark), []);
    for (snapshot, files) in &taken {
        assert_eq!(readable(&storage, snapshot).as_ref(), Some(files));
    }
    beside.end_session(session.id).unwrap();
    let summary = repaired(&storage);
    assert_eq!((summary.packs_waiting, summary.problems, summary.chunks), (0, 0, 0));
    assert!(storage.get(pack).is_none());
}

#[test]
fn whichever_call_fails_nothing_is_lost_and_the_next_repair_finishes() {
    let (storage, taken) = made();
    storage.remove(ObjectName::CONFIG);
    storage.put(of_kind(&storage, ObjectKind::SnapshotCopy)[0], *b"rubbish");
    storage.put(of_kind(&storage, ObjectKind::Key)[0], *b"rubbish");
    // One segment is gone; what the other one lists has a footer there.
    let segments = of_kind(&storage, ObjectKind::Segment);
    let repository = opened(&storage, Arc::default());
    let listed = repository.read_segment(gabion::id::SegmentId(segments[1].id)).unwrap();
    storage.remove(segments[0]);
    let pack = ObjectName::pack(listed[0].id);
    let bytes = storage.get(pack).unwrap();
    storage.put(pack, [&bytes[..], b"more"].concat());
    let mut calls = 0;
    loop {
        calls += 1;
        let place = copy(&storage);
        let failing = FailAt::new(place.clone(), calls, StorageErrorKind::Other);
        let before: Vec<_> = taken.iter().map(|(one, _)| readable(&place, one)).collect();
        let Ok(repository) =
            Repository::open(Arc::new(failing.clone()), "here", &key_file(), None, Arc::new(()))
        else {
            continue;
        };
        let _ = repair(&Arc::new(repository), &how());
        for ((snapshot, _), before) in taken.iter().zip(before) {
            assert!(before.is_none() || readable(&place, snapshot) == before, "call {calls}");
        }
        // The process is gone: the next one sees that.
        let options = RepairOptions { has_ended: |_| true, ..how() };
        let summary = repair(&opened(&place, Arc::default()), &options).unwrap();
        assert_eq!(summary.problems, 0, "call {calls}: {:#?}", found(&place));
        for (snapshot, files) in &taken {
            assert_eq!(readable(&place, snapshot).as_ref(), Some(files), "call {calls}");
        }
        if !failing.has_failed() {
            break;
        }
    }
    assert!(calls > 60, "{calls}");
}

/// How many random repositories are repaired, unless `GABION_REPAIRS` says how many.
fn cases() -> u32 {
    std::env::var("GABION_REPAIRS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// After any damage: what could be read before can be read after a repair, no more is wrong
    /// than before, and a second repair does nothing.
    #[test]
    fn nothing_that_was_readable_is_lost(
        seeds in prop::collection::vec((any::<prop::sample::Index>(), 0..6u8, any::<u16>()), 1..5)
    ) {
        let (storage, taken) = made();
        for (index, action, at) in seeds {
            let names = storage.names();
            let name = names[index.index(names.len())];
            let mut bytes = storage.get(name).unwrap().to_vec();
            let at = usize::from(at) % bytes.len().max(1);
            match action {
                0 => drop(storage.remove(name)),
                1 => storage.put(name, &bytes[..at]),
                2 if !bytes.is_empty() => {
                    bytes[at] ^= 1;
                    storage.put(name, bytes);
                }
                3 => storage.put(name, [bytes, vec![0; at % 50]].concat()),
                4 => storage.put(ObjectName { id: [0x5a; 16], ..name }, bytes),
                _ => {
                    let other = names[at % names.len()];
                    storage.put(name, storage.get(other).unwrap());
                }
            }
        }
        let place: Arc<dyn Storage> = Arc::new(storage.clone());
        let Ok(repository) = Repository::open(place, "here", &key_file(), None, Arc::new(())) else {
            return Ok(());
        };
        let before: Vec<_> = taken.iter().map(|(one, _)| readable(&storage, one)).collect();
        let wrong = found(&storage);
        let summary = repair(&Arc::new(repository), &how()).unwrap();
        let left = found(&storage);
        prop_assert_eq!(summary.problems, left.len() as u64);
        prop_assert!(left.len() <= wrong.len(), "{:#?}\nnow {:#?}", wrong, left);
        for ((snapshot, files), before) in taken.iter().zip(before) {
            if let Some(before) = before {
                prop_assert_eq!(&before, files);
                prop_assert_eq!(readable(&storage, snapshot), Some(before));
            }
        }
        let objects = all_of(&storage);
        repaired(&storage);
        prop_assert_eq!(all_of(&storage), objects);
    }
}

/// With the program: a pack is gone, and the live files give back what it held.
#[test]
fn what_the_sources_still_have_comes_back_and_the_snapshot_restores() {
    let sandbox = Sandbox::with_encrypted_repository();
    sandbox.write("data/small", noise(5_000, 1));
    sandbox.write("data/large", noise(900_000, 2));
    sandbox.write("data/deep/er", noise(70_000, 3));
    sandbox.gabion(["snapshot", "data"]).run().success();
    sandbox.gabion(["repair"]).run().success();
    // The largest pack holds the content.
    sandbox.shell("rm $(ls -S repository/packs/*/* | head -1)").run().success();
    sandbox.gabion(["check"]).run().code(13);
    let dry = sandbox.gabion(["repair", "--dry-run"]).run().code(13);
    assert!(dry.stdout().contains("nothing was changed"), "{}", dry.stdout());
    let left = sandbox.gabion(["repair"]).run().code(13);
    left.says("3 entries cannot be restored");
    // Found wherever it is.
    sandbox.shell("mv data elsewhere").run().success();
    let done = sandbox.gabion(["repair", "--from", "elsewhere", "--json"]).run().success();
    let summary = &done.json_lines()[0];
    assert!(summary["chunks"].as_u64().unwrap() > 3, "{summary}");
    assert_eq!(summary["problems"], 0);
    sandbox.gabion(["check", "--read-data"]).run().success();
    sandbox.gabion(["restore", "latest", "--target", "out"]).run().success();
    sandbox.shell("diff -r elsewhere out/*/*/*/data 2>/dev/null || diff -r elsewhere $(find out -name data)")
        .run()
        .success();
    sandbox.gabion(["prune"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
}
