//! The reading operations on snapshots of real trees, through the public library.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gabion::crypto::passphrase::{KdfCosts, Passphrase};
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::ops::OpError;
use gabion::ops::cat::cat;
use gabion::ops::diff::{Aspect, Change, LiveMapping, LiveOptions, diff_live, diff_snapshots};
use gabion::ops::find::{FindOptions, NamePatterns, find};
use gabion::ops::list::list;
use gabion::ops::snapshot::{Scope, SnapshotOptions, StreamInput, StreamSource, snapshot};
use gabion::ops::stats::stats;
use gabion::repo::{InitOptions, Repository, Unlock};
use gabion::source::exclude::Excludes;
use gabion::source::pattern::Patterns;
use gabion::storage::{MemoryStorage, ObjectKind};

const TIME: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 0 };

struct World {
    storage: MemoryStorage,
    repository: Arc<Repository>,
    dir: tempfile::TempDir,
}

fn unlock() -> Unlock {
    Unlock::Passphrase(Passphrase::new("secret").unwrap())
}

impl World {
    /// An encrypted repository and a folder with a few things.
    fn new() -> Self {
        let storage = MemoryStorage::new();
        let costs = KdfCosts { memory_kib: 8 << 10, passes: 1, ..KdfCosts::default() };
        let options = InitOptions {
            unlock: unlock(),
            costs,
            label: String::new(),
            now: "2026-11-22T00:00:00Z".to_owned(),
            parity_per_mille: None,
            delta: false,
        };
        Repository::init(&storage, "memory", &options).unwrap();
        let repository = open(&storage);
        let world = Self { storage, repository, dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(world.place("src/sub")).unwrap();
        write(&world.place("src/sub/large"), &noise(5 << 20, 1));
        write(&world.place("src/sub/small"), b"a few bytes");
        write(&world.place("src/\u{e9}t\u{e9}\n"), b"odd name");
        symlink("sub/large", world.place("src/link")).unwrap();
        std::fs::hard_link(world.place("src/sub/small"), world.place("src/hard")).unwrap();
        world
    }

    fn place(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The path in a snapshot of what lies at `path` in the folder.
    fn stored(&self, path: &str) -> Vec<u8> {
        self.place(path).as_os_str().as_bytes()[1..].to_vec()
    }

    fn take(&self) -> Snapshot {
        let dump = StreamInput::Reader(Box::new(std::io::Cursor::new(noise(3 << 20, 2))));
        let options = SnapshotOptions {
            identity: None,
            paths: vec![self.place("src")],
            streams: vec![StreamSource::new("db.dump", dump)],
            stand_ins: Vec::new(),
            allow_empty: false,
            allow_empty_source: false,
            excludes: Excludes::default(),
            allow_live_database: false,
            one_file_system: false,
            tags: Vec::new(),
            host: "box".to_owned(),
            user: "me".to_owned(),
            job: None,
            time: TIME,
            clock: || TIME,
            force: false,
            scope: Scope::Everything,
            full_scan_every: None,
            dry_run: false,
            rate: None,
            compression: 1,
            threads: 2,
            interrupted: Arc::new(AtomicBool::new(false)),
        };
        snapshot(&self.repository, options).unwrap().snapshot.unwrap()
    }

    fn cat(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Vec<u8>, OpError> {
        let mut out = Vec::new();
        let len = cat(&self.repository, snapshot, path, &mut out)?;
        assert_eq!(len, out.len() as u64);
        Ok(out)
    }

    /// The paths in the folder that differ from the snapshot.
    fn live(&self, snapshot: &Snapshot) -> Vec<(PathBuf, Change)> {
        let (repository, options) = (&self.repository, LiveOptions::default());
        let live = self.place("src");
        let mapping = LiveMapping::resolve(repository, snapshot, None, &live).unwrap();
        let mut found = Vec::new();
        let summary = diff_live(repository, snapshot, &mapping, &options, &mut |item| {
            let whole = Path::new("/").join(std::ffi::OsStr::from_bytes(&item.path));
            found.push((whole.strip_prefix(&live).unwrap().to_owned(), item.change));
            Ok(())
        });
        assert_eq!(summary.unwrap().is_clean(), found.is_empty());
        found
    }
}

fn open(storage: &MemoryStorage) -> Arc<Repository> {
    let place = Arc::new(storage.clone());
    let opened = Repository::open(place, "memory", &unlock(), None, Arc::new(())).unwrap();
    opened.load_index().unwrap();
    Arc::new(opened)
}

#[expect(clippy::disallowed_methods, reason = "makes test data")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "changes test data")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_was_taken_is_listed_found_and_comes_back() {
    let world = World::new();
    let taken = world.take();
    let repository = &world.repository;
    let mut names = Vec::new();
    let summary = list(repository, &taken, &world.stored("src"), false, &mut |entry| {
        names.push(String::from_utf8(entry.path().to_vec()).unwrap());
        Ok(())
    });
    assert_eq!(summary.unwrap().entries, 4);
    let wanted = ["src/hard", "src/link", "src/sub", "src/\u{e9}t\u{e9}\n"];
    let wanted = wanted.map(|path| String::from_utf8(world.stored(path)).unwrap());
    assert_eq!(names, wanted);
    assert!(world.cat(&taken, &world.stored("src/sub/large")).unwrap() == noise(5 << 20, 1));
    assert!(world.cat(&taken, b"db.dump").unwrap() == noise(3 << 20, 2));
    assert_eq!(world.cat(&taken, &world.stored("src/hard")).unwrap(), b"a few bytes");
    assert!(matches!(world.cat(&taken, &world.stored("src")), Err(OpError::Refused(_))));
    let names = NamePatterns::new(&Patterns::new(["LARGE", "db.*"]).unwrap(), true).unwrap();
    let options = FindOptions { names, min_size: Some(1 << 20), ..FindOptions::default() };
    let mut found = Vec::new();
    let snapshots = [taken.clone(), world.take()];
    find(repository, &snapshots, &options, &mut |item| {
        found.push((item.entry.path.to_vec(), item.snapshots.len()));
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [(b"db.dump".to_vec(), 2), (world.stored("src/sub/large"), 2)]);
    let counted = stats(repository, &snapshots).unwrap();
    assert_eq!(counted.bytes, 2 * ((8 << 20) + 8 + 2 * 11));
    assert_eq!(counted.unique_bytes, 8 << 20, "small files sit in their entries");
}

#[test]
fn differences_with_the_live_folder_and_between_snapshots_agree() {
    let world = World::new();
    let before = world.take();
    assert_eq!(world.live(&before), []);
    let mut edited = noise(5 << 20, 1);
    edited[4 << 20] ^= 1;
    write(&world.place("src/sub/large"), &edited);
    rename(&world.place("src/link"), &world.place("link"));
    write(&world.place("src/sub/new"), b"new");
    let live = world.live(&before);
    let after = world.take();
    assert_eq!(world.live(&after), []);
    let mut between = Vec::new();
    let (repository, within) = (&world.repository, world.stored("src"));
    diff_snapshots(repository, &before, &after, Some(&within), &mut |item| {
        let whole = Path::new("/").join(std::ffi::OsStr::from_bytes(&item.path));
        let relative = whole.strip_prefix(world.place("src")).unwrap().to_owned();
        between.push((relative, item.change));
        Ok(())
    })
    .unwrap();
    assert_eq!(between, live);
    let paths: Vec<&str> = live.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "link", "sub", "sub/large", "sub/new"]);
    let Change::Changed(aspects) = live[3].1 else { panic!("it was changed") };
    assert_eq!(aspects.iter().next(), Some(Aspect::Content));
}

#[test]
fn any_damaged_pack_makes_cat_fail_with_nothing_wrong_written() {
    let world = World::new();
    let taken = world.take();
    let wanted = noise(3 << 20, 2);
    let mut failures = 0;
    for name in world.storage.names() {
        if name.kind != ObjectKind::Pack {
            continue;
        }
        let sound = world.storage.get(name).unwrap();
        for part in 1..20 {
            let mut bytes = sound.to_vec();
            let at = bytes.len() * part / 20;
            bytes[at] ^= 0x40;
            world.storage.put(name, bytes);
            let mut out = Vec::new();
            let result = cat(&world.repository, &taken, b"db.dump", &mut out);
            assert!(wanted.starts_with(&out));
            assert_eq!(result.is_ok(), out.len() == wanted.len());
            failures += u32::from(result.is_err());
        }
        world.storage.put(name, sound);
    }
    assert!(failures > 5, "{failures}");
    assert!(world.cat(&taken, b"db.dump").unwrap() == wanted);
}
