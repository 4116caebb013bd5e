//! What every place for a repository's objects promises, asked of every implementor.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod local_faults;
mod local_only;
mod sftp;

use std::str::FromStr as _;
use std::sync::Barrier;
use std::thread;

use gabion::id::{PackId, SegmentId, SessionId, SlotId, SnapshotId};
use gabion::storage::{
    Listing, LocalStorage, MemoryStorage, ObjectKind, ObjectName, Storage, StorageErrorKind,
};

/// Bytes without a period that a lost or doubled piece could hide behind.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn one_of_each_kind() -> Vec<ObjectName> {
    vec![
        ObjectName::CONFIG,
        ObjectName::CONFIG_COPY,
        ObjectName::key(SlotId::random()),
        ObjectName::key_copy(SlotId::random()),
        ObjectName::pack(PackId::random()),
        ObjectName::parity(PackId::random()),
        ObjectName::segment(SegmentId::random()),
        ObjectName::snapshot(SnapshotId::random()),
        ObjectName::root(SnapshotId::random()),
        ObjectName::session(SessionId::random()),
        ObjectName::mark([9; 16]),
        ObjectName::quarantine([9; 16]),
    ]
}

fn nothing_listed(storage: &dyn Storage) {
    for kind in ObjectKind::ALL {
        assert_eq!(storage.list(kind).unwrap(), Listing::default(), "{kind:?}");
    }
}

fn objects_of_all_sizes_come_back(storage: &dyn Storage) {
    for (seed, len) in [0, 1, 65_535, 65_536, 65_537, 20 << 20].into_iter().enumerate() {
        let (name, content) = (ObjectName::pack(PackId::random()), bytes(len, seed as u64));
        storage.publish(name, &content).unwrap();
        assert_eq!(storage.len(name).unwrap(), len as u64);
        assert!(storage.read(name, len as u64).unwrap() == content, "{len} bytes");
    }
}

fn pieces_add_up_whatever_was_expected(storage: &dyn Storage) {
    let content = bytes(9 << 20, 1);
    for expected_len in [None, Some(0), Some(10), Some(9 << 20), Some(16 << 20)] {
        let name = ObjectName::pack(PackId::random());
        let mut object = storage.create(name, expected_len).unwrap();
        assert_eq!(object.len(), 0);
        let mut done = 0;
        // Pieces of uneven lengths, empty ones among them.
        for step in (0..).map(|turn: usize| turn * 77_777) {
            let end = content.len().min(done + step);
            object.append(&content[done..end]).unwrap();
            done = end;
            assert_eq!(object.len(), done as u64);
            if done == content.len() {
                break;
            }
        }
        // What was written can be read before it is visible to anybody.
        let mut back = vec![0; 5 << 20];
        object.read_back(3 << 20, &mut back).unwrap();
        assert!(back == content[3 << 20..8 << 20]);
        object.publish().unwrap();
        assert!(storage.read(name, 9 << 20).unwrap() == content, "expected {expected_len:?}");
    }
}

fn every_kind_is_listed_alone_and_sorted(storage: &dyn Storage) {
    nothing_listed(storage);
    let mut names = one_of_each_kind();
    names.extend((0..40).map(|_| ObjectName::pack(PackId::random())));
    names.extend((0..40).map(|_| ObjectName::root(SnapshotId::random())));
    for (len, name) in names.iter().enumerate() {
        storage.publish(*name, &bytes(len, 3)).unwrap();
    }
    for kind in ObjectKind::ALL {
        let all = names.iter().enumerate().filter(|(_, name)| name.kind == kind);
        let mut objects: Vec<_> = all.map(|(len, name)| (*name, len as u64)).collect();
        objects.sort_unstable();
        assert_eq!(storage.list(kind).unwrap(), Listing { objects, foreign: vec![] }, "{kind:?}");
    }
}

fn two_objects_are_exchanged_or_stay_as_they_are(storage: &dyn Storage) {
    let (pack, other) = (ObjectName::pack(PackId::random()), ObjectName::quarantine([1; 16]));
    let missing = |one, other| {
        let error = storage.swap(one, other).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::NotFound);
    };
    missing(pack, other);
    storage.publish(pack, b"damaged").unwrap();
    missing(pack, other);
    missing(other, pack);
    assert_eq!(storage.read(pack, 10).unwrap(), b"damaged");
    storage.publish(other, b"rebuilt").unwrap();
    storage.swap(pack, other).unwrap();
    assert_eq!(storage.read(pack, 10).unwrap(), b"rebuilt");
    assert_eq!(storage.read(other, 10).unwrap(), b"damaged");
    storage.delete(pack).unwrap();
    missing(pack, other);
    missing(other, pack);
    assert_eq!(storage.read(other, 10).unwrap(), b"damaged");
    assert!(storage.list(ObjectKind::Pack).unwrap().objects.is_empty());
}

fn nothing_is_visible_before_it_is_published(storage: &dyn Storage) {
    for name in one_of_each_kind() {
        let mut object = storage.create(name, Some(100)).unwrap();
        object.append(b"not yet").unwrap();
        nothing_listed(storage);
        assert_eq!(storage.read(name, 100).unwrap_err().kind, StorageErrorKind::NotFound);
        assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
        object.publish().unwrap();
        assert_eq!(storage.read(name, 100).unwrap(), b"not yet");
        storage.delete(name).unwrap();
    }
}

fn a_dropped_object_leaves_nothing(storage: &dyn Storage) {
    for name in one_of_each_kind() {
        let mut object = storage.create(name, Some(1 << 20)).unwrap();
        object.append(&bytes(1000, 5)).unwrap();
        drop(object);
        assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
        // The name is free again.
        storage.publish(name, b"second try").unwrap();
        storage.delete(name).unwrap();
    }
    nothing_listed(storage);
}

fn nothing_is_ever_replaced(storage: &dyn Storage) {
    for name in one_of_each_kind() {
        storage.publish(name, b"first").unwrap();
        for other in [&b"second, and longer"[..], b"first", b""] {
            let error = storage.publish(name, other).unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::AlreadyExists, "{error}");
            assert!(error.to_string().contains(&name.to_string()), "{error}");
            assert_eq!(storage.read(name, 100).unwrap(), b"first");
        }
        assert_eq!(storage.list(name.kind).unwrap().objects, [(name, 5)]);
    }
}

fn of_many_writers_of_one_name_one_wins(storage: &dyn Storage) {
    for round in 0..4 {
        let name = ObjectName::session(SessionId::random());
        let start = Barrier::new(8);
        let content = |writer: u64| bytes(10_000, round * 8 + writer);
        let winners: Vec<u64> = thread::scope(|scope| {
            let write = |writer| {
                let (start, content) = (&start, &content);
                move || {
                    let mut object = storage.create(name, None).unwrap();
                    object.append(&content(writer)).unwrap();
                    start.wait();
                    match object.publish() {
                        Ok(()) => Some(writer),
                        Err(error) => {
                            assert_eq!(error.kind, StorageErrorKind::AlreadyExists, "{error}");
                            None
                        }
                    }
                }
            };
            let writers: Vec<_> = (0..8).map(|writer| scope.spawn(write(writer))).collect();
            writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1);
        assert!(storage.read(name, 10_000).unwrap() == content(winners[0]));
        storage.delete(name).unwrap();
    }
    nothing_listed(storage);
}

fn an_object_longer_than_the_limit_is_not_read(storage: &dyn Storage) {
    let name = ObjectName::segment(SegmentId::random());
    storage.publish(name, &bytes(1000, 8)).unwrap();
    for limit in [0, 1, 999] {
        let error = storage.read(name, limit).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::TooLong);
    }
    for limit in [1000, 1001, u64::MAX] {
        assert_eq!(storage.read(name, limit).unwrap().len(), 1000);
    }
}

fn a_range_is_whole_or_an_error(storage: &dyn Storage) {
    let (name, content) = (ObjectName::pack(PackId::random()), bytes(1000, 9));
    storage.publish(name, &content).unwrap();
    for (offset, len) in [(0, 1000), (0, 0), (1, 998), (999, 1), (1000, 0)] {
        let mut buffer = vec![0; len];
        storage.read_range(name, offset as u64, &mut buffer).unwrap();
        assert_eq!(buffer, content[offset..offset + len], "{len} bytes from {offset}");
    }
    for (offset, len) in
        [(0, 1001), (999, 2), (1000, 1), (5000, 1), (u64::MAX, 1), (u64::MAX - 3, 8), (1 << 63, 1)]
    {
        let error = storage.read_range(name, offset, &mut vec![0; len]).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Truncated, "{len} bytes from {offset}");
    }
}

fn a_missing_object_is_not_found(storage: &dyn Storage) {
    for name in one_of_each_kind() {
        let errors = [
            storage.read(name, 10).unwrap_err(),
            storage.read_range(name, 0, &mut [0]).unwrap_err(),
            storage.read_range(name, 0, &mut []).unwrap_err(),
            storage.len(name).unwrap_err(),
            storage.modified(name).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, StorageErrorKind::NotFound, "{error}");
            assert_eq!(error.object, name.to_string());
        }
    }
}

fn the_time_of_an_object_is_settled_when_it_is_published(storage: &dyn Storage) {
    let (first, second) = (ObjectName::mark([1; 16]), ObjectName::snapshot(SnapshotId([2; 16])));
    storage.publish(first, b"first").unwrap();
    let stored = storage.modified(first).unwrap();
    storage.publish(second, b"second").unwrap();
    assert!(storage.modified(second).unwrap() >= stored);
    storage.read(first, 10).unwrap();
    storage.publish(first, b"refused").unwrap_err();
    storage.delete(second).unwrap();
    assert_eq!(storage.modified(first).unwrap(), stored);
    assert_eq!(storage.modified(second).unwrap_err().kind, StorageErrorKind::NotFound);
}

fn what_is_deleted_stays_so(storage: &dyn Storage) {
    let others = one_of_each_kind();
    for name in &others {
        storage.publish(*name, b"stays").unwrap();
    }
    for kind in [ObjectKind::Pack, ObjectKind::Mark, ObjectKind::KeyCopy] {
        let name = ObjectName { kind, id: PackId::random().0 };
        storage.delete(name).unwrap();
        storage.publish(name, b"goes").unwrap();
        storage.delete(name).unwrap();
        storage.delete(name).unwrap();
        assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
        assert_eq!(storage.list(kind).unwrap().objects.len(), 1);
    }
    for name in others {
        assert_eq!(storage.read(name, 10).unwrap(), b"stays");
        storage.delete(name).unwrap();
    }
    nothing_listed(storage);
}

fn what_is_set_aside_is_gone_from_its_place_and_kept(storage: &dyn Storage) {
    for name in one_of_each_kind() {
        let missing = storage.set_aside(name).unwrap_err();
        assert_eq!(missing.kind, StorageErrorKind::NotFound, "{name}");
        // The same name may come again, and go again.
        for content in [&b"first"[..], b"second"] {
            storage.publish(name, content).unwrap();
            let aside = storage.set_aside(name).unwrap();
            assert_eq!(aside.kind, ObjectKind::Quarantine);
            assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
            assert_eq!(storage.read(aside, 10).unwrap(), content);
        }
    }
    let kept = storage.list(ObjectKind::Quarantine).unwrap().objects;
    assert!(kept.len() >= 2 * 10, "{kept:?}");
}

fn several_objects_are_finished_and_removed_together(storage: &dyn Storage) {
    let (names, late) = (one_of_each_kind(), ObjectName::session(SessionId::random()));
    let taken = names[4];
    storage.publish(taken, b"first").unwrap();
    let begin = |name| {
        let mut object = storage.create(name, None).unwrap();
        object.append(b"new").unwrap();
        object
    };
    let mut beside = vec![begin(late)];
    let results = storage.publish_all(names.iter().map(|name| begin(*name)).collect(), &mut beside);
    for (name, result) in names.iter().zip(&results) {
        let kind = result.as_ref().err().map(|error| error.kind);
        assert_eq!(kind, (*name == taken).then_some(StorageErrorKind::AlreadyExists), "{name}");
        let content = if *name == taken { &b"first"[..] } else { b"new" };
        assert_eq!(storage.read(*name, 10).unwrap(), content, "{name}");
    }
    assert_eq!(results.len(), names.len());
    assert_eq!(storage.len(late).unwrap_err().kind, StorageErrorKind::NotFound);
    let mut settled = beside.pop().unwrap();
    settled.append(b"er").unwrap();
    settled.publish().unwrap();
    assert_eq!(storage.read(late, 10).unwrap(), b"newer");

    let missing = ObjectName::pack(PackId::random());
    let all = [&names[..], &[missing, late]].concat();
    storage.delete_all(&all).unwrap();
    nothing_listed(storage);
    storage.delete_all(&all).unwrap();
}

fn a_healthy_place_is_confirmed_and_has_nothing_to_sweep(storage: &dyn Storage) {
    let mut pending = storage.create(ObjectName::CONFIG, None).unwrap();
    storage.verify_place().unwrap();
    assert_eq!(storage.sweep_abandoned().unwrap(), 0);
    pending.append(b"alive").unwrap();
    pending.publish().unwrap();
    assert_eq!(storage.read(ObjectName::CONFIG, 5).unwrap(), b"alive");
}

/// Makes one test of every case for every implementor.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            use super::MemoryStorage;
            $(#[test] fn $case() { super::$case(&MemoryStorage::new()); })*
        }
        mod local {
            use super::LocalStorage;
            $(#[test] fn $case() {
                let folder = tempfile::tempdir().unwrap();
                super::$case(&LocalStorage::create(&folder.path().join("r")).unwrap());
            })*
        }
        mod over_sftp {
            $(#[test] fn $case() { super::sftp::ask(super::$case); })*
        }
    };
}

contract!(
    objects_of_all_sizes_come_back,
    pieces_add_up_whatever_was_expected,
    every_kind_is_listed_alone_and_sorted,
    nothing_is_visible_before_it_is_published,
    a_dropped_object_leaves_nothing,
    nothing_is_ever_replaced,
    of_many_writers_of_one_name_one_wins,
    an_object_longer_than_the_limit_is_not_read,
    a_range_is_whole_or_an_error,
    a_missing_object_is_not_found,
    the_time_of_an_object_is_settled_when_it_is_published,
    what_is_deleted_stays_so,
    what_is_set_aside_is_gone_from_its_place_and_kept,
    several_objects_are_finished_and_removed_together,
    two_objects_are_exchanged_or_stay_as_they_are,
    a_healthy_place_is_confirmed_and_has_nothing_to_sweep,
);

#[test]
fn the_clock_of_the_memory_is_set_by_its_user() {
    let (storage, name) = (MemoryStorage::new(), ObjectName::mark([1; 16]));
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    storage.set_clock(at(1000));
    storage.publish(name, b"").unwrap();
    storage.set_clock(at(2000));
    assert_eq!(storage.modified(name).unwrap(), at(1000));
    storage.put(name, &b"other"[..]);
    assert_eq!(storage.modified(name).unwrap(), at(2000));
    storage.set_modified(name, at(5));
    assert_eq!(storage.clone().modified(name).unwrap(), at(5));
}

#[test]
fn the_time_of_a_file_is_that_of_its_last_write() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&folder.path().join("r")).unwrap();
    let name = ObjectName::snapshot(SnapshotId([7; 16]));
    storage.publish(name, b"bytes").unwrap();
    let file = std::fs::File::open(folder.path().join("r").join(name.to_string())).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    file.set_modified(old).unwrap();
    assert_eq!(storage.modified(name).unwrap(), old);
}

#[test]
fn names_are_paths_and_back() {
    let hex = "00112233445566778899aabbccddeeff";
    let id: PackId = hex.parse().unwrap();
    let expected = [
        (ObjectName::CONFIG, "config".to_owned()),
        (ObjectName::CONFIG_COPY, "copy/config".to_owned()),
        (ObjectName::key(SlotId(id.0)), format!("keys/{hex}")),
        (ObjectName::key_copy(SlotId(id.0)), format!("copy/keys/{hex}")),
        (ObjectName::pack(id), format!("packs/00/{hex}")),
        (ObjectName::parity(id), format!("parity/00/{hex}")),
        (ObjectName::quarantine(id.0), format!("quarantine/{hex}")),
        (ObjectName::segment(SegmentId(id.0)), format!("index/{hex}")),
        (ObjectName::snapshot(SnapshotId(id.0)), format!("snapshots/{hex}")),
        (ObjectName::root(SnapshotId(id.0)), format!("roots/{hex}")),
        (ObjectName::session(SessionId(id.0)), format!("sessions/{hex}")),
        (ObjectName::mark(id.0), format!("marks/{hex}")),
    ];
    for (name, path) in &expected {
        assert_eq!(&name.to_string(), path);
        assert_eq!(ObjectName::from_str(path), Ok(*name));
    }
    let wrong = ["", "/", "config/", "/config", "copy", "other", "packs/config", "keys/config"];
    for path in wrong.map(str::to_owned).into_iter().chain([
        hex.to_owned(),
        format!("packs/{hex}"),
        format!("packs/01/{hex}"),
        format!("packs/00/{}", hex.to_uppercase()),
        format!("packs//{hex}"),
        format!("index/00/{hex}"),
        format!("index/{hex} "),
        format!("./index/{hex}"),
        format!("index/../index/{hex}"),
    ]) {
        assert!(ObjectName::from_str(&path).is_err(), "{path:?} must not parse");
    }
}

#[test]
fn a_clone_of_the_memory_shares_its_objects_and_takes_damage() {
    let (storage, name) = (MemoryStorage::new(), ObjectName::mark([1; 16]));
    let other = storage.clone();
    storage.publish(name, b"whole").unwrap();
    assert_eq!(other.get(name).as_deref(), Some(&b"whole"[..]));
    other.put(name, &b"broken"[..]);
    assert_eq!(storage.read(name, 10).unwrap(), b"broken");
    assert_eq!(storage.names(), [name]);
    assert!(other.remove(name));
    assert!(!other.remove(name));
    assert_eq!(storage.names(), []);
}
