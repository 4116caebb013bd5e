//! Repositories as a whole: making and opening them, their keys, writers side by side, and places
//! that fail.

mod failures;
mod keys;

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::config::ConfigError;
use gabion::repo::{Repository, RepositoryError, Unlock};
use gabion::storage::{LocalStorage, MemoryStorage, ObjectKind, ObjectName, Storage};

use crate::small::{
    Files, files, noise, notes, open, open_plain, options, passphrase, problems, read_back, take,
};

fn some_files() -> Files {
    files([
        ("empty", Vec::new()),
        ("dir/inline", b"tiny".to_vec()),
        ("dir/short", noise(50, 1)),
        ("dir/sparse", [noise(60, 2), vec![0; 120], noise(60, 3)].concat()),
        ("long", noise(5_000, 4)),
    ])
}

fn plain() -> MemoryStorage {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    storage
}

#[test]
fn what_was_taken_reads_back_from_memory_and_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let local = Arc::new(LocalStorage::create(&path).unwrap());
    let memory = Arc::new(MemoryStorage::new());
    for storage in [local as Arc<dyn Storage>, memory] {
        for unlock in [Unlock::Nothing, passphrase("secret")] {
            if let Ok(bytes) = storage.read(ObjectName::CONFIG, 1 << 20) {
                assert!(!bytes.is_empty());
                continue; // One repository in each place.
            }
            Repository::init(&*storage, "here", &options(unlock)).unwrap();
        }
        let open = || {
            let opened = Repository::open(
                Arc::clone(&storage),
                "here",
                &Unlock::Nothing,
                None,
                Arc::new(()),
            );
            let opened = Arc::new(opened.unwrap());
            opened.load_index().unwrap();
            opened
        };
        let snapshot = take(&open(), &some_files(), 1).unwrap();
        let repository = open();
        let (snapshots, damaged) = repository.snapshots().unwrap();
        assert_eq!((snapshots, damaged.len()), (vec![snapshot.clone()], 0));
        assert_eq!(read_back(&repository, &snapshot).unwrap(), some_files());
    }
}

#[test]
fn a_place_is_initialised_once_and_an_empty_one_is_no_repository() {
    let storage = plain();
    let before = storage.get(ObjectName::CONFIG);
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        let again = Repository::init(&storage, "here", &options(Unlock::Nothing));
        assert!(matches!(again, Err(RepositoryError::AlreadyInitialised(_))), "{again:?}");
        // Either copy is enough to be a repository.
        let taken = storage.get(name).unwrap();
        storage.remove(name);
        let again = Repository::init(&storage, "here", &options(Unlock::Nothing));
        assert!(matches!(again, Err(RepositoryError::AlreadyInitialised(_))), "{again:?}");
        storage.put(name, taken);
    }
    assert_eq!(storage.get(ObjectName::CONFIG), before);
    let empty = MemoryStorage::new();
    let opened = open(&empty, &Unlock::Nothing, None, Arc::new(()));
    assert!(matches!(opened, Err(RepositoryError::NotARepository(_))), "{opened:?}");
}

fn newer_config(storage: &MemoryStorage, name: ObjectName, from: &str, to: &str) {
    let text = String::from_utf8(storage.get(name).unwrap().to_vec()).unwrap();
    let line = text.lines().next().unwrap().replace(from, to);
    assert!(line.contains(to));
    let hash = blake3::hash(line.as_bytes());
    let mut lines = vec![line];
    let second = text.lines().nth(1).unwrap();
    let word = second.split(' ').next().unwrap();
    lines.push(format!("{word} {hash}"));
    lines.extend(text.lines().skip(2).map(str::to_owned));
    storage.put(name, format!("{}\n", lines.join("\n")).into_bytes());
}

#[test]
fn a_newer_format_and_an_unknown_feature_are_refused_by_name() {
    for (from, to) in [
        ("\"format-version\":1", "\"format-version\":2"),
        ("\"required-features\":[]", "\"required-features\":[\"magic\"]"),
    ] {
        let storage = plain();
        newer_config(&storage, ObjectName::CONFIG, from, to);
        let error = open(&storage, &Unlock::Nothing, None, Arc::new(())).unwrap_err();
        match error {
            RepositoryError::Config(ConfigError::NewerFormat { found: 2, supported: 1 }) => {}
            RepositoryError::Config(ConfigError::UnknownFeature(name)) => assert_eq!(name, "magic"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_bad_copy_of_the_config_is_survived_with_a_note() {
    type Damage = fn(&[u8]) -> Option<Vec<u8>>;
    let flip_last_digit: Damage = |bytes| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - 2; // In the MAC, which no checksum covers.
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        Some(bytes)
    };
    let damages: [Damage; 5] = [
        |_| None,
        |_| Some(Vec::new()),
        |bytes| Some(bytes[..bytes.len() - 1].to_vec()),
        |bytes| Some([bytes, &[b'x'; 1 << 17]].concat()),
        flip_last_digit,
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for unlock in [Unlock::Nothing, passphrase("secret")] {
            let storage = MemoryStorage::new();
            let again = match &unlock {
                Unlock::Nothing => Unlock::Nothing,
                _ => passphrase("secret"),
            };
            Repository::init(&storage, "here", &options(again)).unwrap();
            for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
                let good = storage.get(name).unwrap();
                match damage(&good) {
                    None => assert!(storage.remove(name)),
                    Some(bytes) => storage.put(name, bytes),
                }
                let recorder = Arc::new(Recorder::default());
                let repository = open(&storage, &unlock, None, recorder.clone());
                let repository = repository.unwrap_or_else(|e| panic!("{number} {name}: {e:?}"));
                repository.verify_place().unwrap();
                assert_eq!(problems(&recorder), [""; 0]);
                // The first copy is enough, so nobody looks at the mac of the second one.
                let told = notes(&recorder).iter().any(|note| note.contains(&name.to_string()));
                assert!(
                    told || (number == 4 && name == ObjectName::CONFIG_COPY),
                    "{number} {name}"
                );
                storage.put(name, good);
            }
        }
    }
    let storage = plain();
    storage.put(ObjectName::CONFIG, *b"x");
    storage.put(ObjectName::CONFIG_COPY, *b"x");
    let error = open(&storage, &Unlock::Nothing, None, Arc::new(())).unwrap_err();
    assert!(matches!(error, RepositoryError::Config(ConfigError::Damaged(_))), "{error:?}");
}

#[test]
fn packs_of_an_interrupted_run_and_of_damaged_segments_are_adopted() {
    let storage = plain();
    let snapshot = take(&open_plain(&storage), &some_files(), 1).unwrap();
    let segments: Vec<ObjectName> =
        storage.names().into_iter().filter(|name| name.kind == ObjectKind::Segment).collect();
    assert_eq!(segments.len(), 1);
    let good = storage.get(segments[0]).unwrap();
    let mut newer = good.to_vec();
    newer[9] ^= 1;
    for bad in [None, Some(good[..good.len() / 2].to_vec()), Some(newer)] {
        let expected = usize::from(bad.is_some());
        match bad {
            None => assert!(storage.remove(segments[0])),
            Some(bytes) => storage.put(segments[0], bytes),
        }
        let recorder = Arc::new(Recorder::default());
        let repository = open(&storage, &Unlock::Nothing, None, recorder.clone()).unwrap();
        assert_eq!(problems(&recorder).len(), expected);
        assert_eq!(read_back(&repository, &snapshot).unwrap(), some_files());
        let packs = storage.names().len();
        take(&repository, &some_files(), 2).unwrap();
        assert_eq!(
            storage.names().len(),
            packs + 2,
            "everything was found: only a snapshot and its copy are new"
        );
    }
}

#[test]
fn damaged_records_are_listed_beside_the_good_ones() {
    let storage = plain();
    let repository = open_plain(&storage);
    let taken: Vec<_> = (0..3).map(|n| take(&repository, &some_files(), n).unwrap()).collect();
    let name = |n: usize| ObjectName::snapshot(taken[n].id);
    let mut newer = storage.get(name(0)).unwrap().to_vec();
    newer[8] = 2;
    storage.put(name(0), newer);
    storage.put(name(2), storage.get(name(1)).unwrap());
    assert_eq!(repository.snapshots().unwrap().0, taken, "their copies are whole");
    storage.put(ObjectName::snapshot_copy(taken[0].id), *b"rubbish");
    assert!(storage.remove(ObjectName::snapshot_copy(taken[2].id)));
    let (snapshots, damaged) = repository.snapshots().unwrap();
    assert_eq!(snapshots, [taken[1].clone()]);
    assert_eq!(damaged.len(), 2);
    for found in damaged {
        match found.error {
            RepositoryError::NewerFormat { found: 2, supported: 1, .. } => {
                assert_eq!(found.object, name(0));
            }
            RepositoryError::Damaged { .. } => assert_eq!(found.object, name(2)),
            other => panic!("{other:?}"),
        }
    }
    // A mark nobody can read keeps writers from confirming, not readers from reading.
    storage.put(ObjectName::mark([7; 16]), *b"rubbish");
    assert!(matches!(repository.marks(), Err(RepositoryError::Damaged { .. })));
    let recorder = Arc::new(Recorder::default());
    let repository = open(&storage, &Unlock::Nothing, None, recorder.clone()).unwrap();
    assert_eq!(problems(&recorder).len(), 1);
    assert_eq!(read_back(&repository, &taken[1]).unwrap(), some_files());
}

#[test]
fn two_writers_at_once_store_what_both_need() {
    for _ in 0..20 {
        let storage = plain();
        let repositories = [open_plain(&storage), open_plain(&storage)];
        let mut other = some_files();
        other.insert("mine".to_owned(), noise(3_000, 9));
        let sources = [some_files(), other];
        let taken: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = repositories
                .iter()
                .zip(&sources)
                .map(|(repository, files)| scope.spawn(|| take(repository, files, 1).unwrap()))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let fresh = open_plain(&storage);
        for repository in repositories.iter().chain([&fresh]) {
            for (snapshot, files) in taken.iter().zip(&sources) {
                match read_back(repository, snapshot) {
                    Ok(found) => assert_eq!(found, *files),
                    // A handle does not see what others wrote after it was opened, but says so.
                    Err(RepositoryError::MissingChunk(_)) if !Arc::ptr_eq(repository, &fresh) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        // Threads of one process claim each chunk once.
        let shared = open_plain(&plain());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| take(&shared, &some_files(), 1).unwrap());
            }
        });
    }
}

#[test]
fn one_copy_of_a_chunk_is_enough() {
    let storage = plain();
    let repositories = [open_plain(&storage), open_plain(&storage)];
    let taken: Vec<_> =
        repositories.iter().map(|repository| take(repository, &some_files(), 1).unwrap()).collect();
    let packs: Vec<ObjectName> =
        storage.names().into_iter().filter(|name| name.kind == ObjectKind::Pack).collect();
    assert_eq!(packs.len(), 4, "both stored everything");
    for pack in packs {
        let good = storage.get(pack).unwrap();
        let mut bad = good.to_vec();
        bad[70] ^= 1; // In its first block.
        for damage in [None, Some(bad)] {
            match damage {
                None => assert!(storage.remove(pack)),
                Some(bytes) => storage.put(pack, bytes),
            }
            let repository = open_plain(&storage);
            for snapshot in &taken {
                assert_eq!(read_back(&repository, snapshot).unwrap(), some_files());
            }
        }
        storage.put(pack, good);
    }
}

#[test]
fn a_repository_that_was_replaced_is_not_written_to() {
    let storage = plain();
    let repository = open_plain(&storage);
    let snapshot = take(&repository, &some_files(), 1).unwrap();
    let other = plain();
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        storage.put(name, other.get(name).unwrap());
    }
    assert!(matches!(repository.verify_place(), Err(RepositoryError::Replaced(_))));
    let again = take(&repository, &some_files(), 2);
    assert!(matches!(again, Err(RepositoryError::Replaced(_))), "{again:?}");
    let found: Vec<ObjectName> =
        storage.names().into_iter().filter(|name| name.kind == ObjectKind::Snapshot).collect();
    assert_eq!(found, [ObjectName::snapshot(snapshot.id)]);
}
