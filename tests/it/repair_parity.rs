//! A plain repair of a repository with parity: first the parity, then other copies, then quarantine.

use std::sync::Arc;

use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::id::PackId;
use gabion::ops::check::ReadData;
use gabion::ops::repair::{RepairOptions, RepairSummary, repair};
use gabion::repo::{InitOptions, ParityHead, Presence, Repository, parity_head};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName};

use crate::small::{Files, copy, files, key_file, noise, open, options, read_back, take};
use crate::specimen::checked;

const SEVERAL_SHARDS: usize = 60_000;

fn init(storage: &MemoryStorage) {
    let options = InitOptions { parity_per_mille: Some(30), ..options(key_file()) };
    Repository::init(storage, "here", &options).unwrap();
}

fn opened(storage: &MemoryStorage) -> Arc<Repository> {
    open(storage, &key_file(), None, Arc::new(())).unwrap()
}

/// A repository with one snapshot and a pack of several shards.
fn made() -> (MemoryStorage, Snapshot, Files) {
    let storage = MemoryStorage::new();
    init(&storage);
    let content = files([("a", noise(SEVERAL_SHARDS, 1)), ("b", noise(50, 2))]);
    let taken = take(&opened(&storage), &content, 1).unwrap();
    (storage, taken, content)
}

fn repaired(storage: &MemoryStorage, read_data: bool) -> RepairSummary {
    let options = RepairOptions {
        from: Vec::new(),
        read_data,
        dry_run: false,
        presence: Presence { host: "here".to_owned(), now: Timestamp::default(), identity: None },
        has_ended: |_| false,
        compression: 1,
        threads: 1,
        interrupted: Arc::default(),
    };
    repair(&opened(storage), &options).unwrap()
}

fn problems(storage: &MemoryStorage) -> u64 {
    checked(&opened(storage), ReadData::All).problems
}

fn longest(storage: &MemoryStorage, kind: ObjectKind) -> ObjectName {
    let names = storage.names().into_iter().filter(|name| name.kind == kind);
    names.max_by_key(|name| storage.get(*name).unwrap().len()).unwrap()
}

fn change(storage: &MemoryStorage, name: ObjectName, change: impl FnOnce(&mut [u8])) {
    let mut bytes = storage.get(name).unwrap().to_vec();
    change(&mut bytes);
    storage.put(name, bytes);
}

fn objects(storage: &MemoryStorage) -> Vec<(ObjectName, Arc<[u8]>)> {
    let names = storage.names().into_iter();
    let names = names.filter(|name| name.kind != ObjectKind::Quarantine);
    names.map(|name| (name, storage.get(name).unwrap())).collect()
}

fn aside(storage: &MemoryStorage) -> usize {
    storage.names().iter().filter(|name| name.kind == ObjectKind::Quarantine).count()
}

/// More shards than there is parity for.
fn beyond(storage: &MemoryStorage, pack: ObjectName) {
    let ParityHead::Usable { head, .. } = parity_head(storage, PackId(pack.id)).unwrap() else {
        panic!("no parity of {pack}");
    };
    let shards = head.layout.parity_shards() as usize + 1;
    change(storage, pack, |bytes| (0..shards).for_each(|shard| bytes[4096 * shard + 100] ^= 1));
}

#[test]
fn damage_within_the_parity_comes_back_byte_for_byte() {
    let (base, taken, content) = made();
    let pack = longest(&base, ObjectKind::Pack);
    let len = base.get(pack).unwrap().len();
    // In a block, in the header, in the footer, in the trailer.
    for (at, read_data) in [(9000, true), (20, false), (len - 40, false), (len - 4, false)] {
        let storage = copy(&base);
        change(&storage, pack, |bytes| bytes[at] ^= 1);
        assert!(problems(&storage) > 0, "byte {at}");
        let summary = repaired(&storage, read_data);
        assert_eq!((summary.rebuilt, summary.problems, summary.chunks), (1, 0, 0), "byte {at}");
        assert_eq!(objects(&storage), objects(&base), "byte {at}");
        assert_eq!(aside(&storage), 1, "the damaged one is kept");
        assert_eq!(read_back(&opened(&storage), &taken).unwrap(), content);
    }
}

#[test]
fn what_is_beyond_the_parity_goes_to_quarantine_and_other_copies_are_used() {
    let (base, taken, content) = made();
    let storage = copy(&base);
    let pack = longest(&storage, ObjectKind::Pack);
    beyond(&storage, pack);
    let summary = repaired(&storage, true);
    assert_eq!(summary.rebuilt, 0);
    assert!(summary.set_aside > 0 && summary.problems > 0, "{summary:?}");
    assert!(storage.get(pack).is_none() && aside(&storage) > 0);
    let (after, left) = (objects(&storage), problems(&storage));
    let again = repaired(&storage, true);
    assert_eq!((again.problems, again.chunks, again.rebuilt), (left, 0, 0));
    assert_eq!(objects(&storage), after, "a second repair changes nothing");

    // The same content a second time, by a writer that did not see the first.
    let (twice, apart) = (copy(&base), copy(&base));
    for (name, _) in objects(&base) {
        if !matches!(name.kind, ObjectKind::Config | ObjectKind::ConfigCopy)
            && !matches!(name.kind, ObjectKind::Key | ObjectKind::KeyCopy)
        {
            apart.remove(name);
        }
    }
    take(&opened(&apart), &content, 2).unwrap();
    objects(&apart).into_iter().for_each(|(name, bytes)| twice.put(name, bytes));
    beyond(&twice, pack);
    let summary = repaired(&twice, true);
    assert_eq!((summary.rebuilt, summary.problems), (0, 0), "{summary:?}");
    assert_eq!(problems(&twice), 0);
    assert_eq!(read_back(&opened(&twice), &taken).unwrap(), content);
}

#[test]
fn parity_that_is_damaged_or_lost_is_made_again_from_a_whole_pack() {
    let (base, ..) = made();
    let parity = longest(&base, ObjectKind::Parity);
    for (what, damage) in [
        ("lost", None),
        ("all of it", Some(0..usize::MAX)),
        ("a shard", Some(1000..1010)),
        ("the first head", Some(80..96)),
    ] {
        let storage = copy(&base);
        match damage {
            None => drop(storage.remove(parity)),
            Some(range) => change(&storage, parity, |bytes| {
                let end = range.end.min(bytes.len());
                bytes[range.start..end].fill(0);
            }),
        }
        assert!(problems(&storage) > 0, "{what}");
        let summary = repaired(&storage, true);
        assert_eq!((summary.copies, summary.problems), (1, 0), "{what}: {summary:?}");
        assert_eq!(objects(&storage), objects(&base), "{what}");
    }
}

#[test]
fn a_pack_that_is_gone_is_beyond_parity_and_what_is_there_stays() {
    let (storage, taken, content) = made();
    let pack = longest(&storage, ObjectKind::Pack);
    let kept = storage.get(pack).unwrap();
    assert!(storage.remove(pack));
    let summary = repaired(&storage, false);
    assert!(summary.problems > 0 && summary.rebuilt == 0, "{summary:?}");
    // Somebody finds it in a copy of the repository.
    storage.put(pack, kept);
    repaired(&storage, true);
    assert_eq!(problems(&storage), 0);
    assert_eq!(read_back(&opened(&storage), &taken).unwrap(), content);
}
