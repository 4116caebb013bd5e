//! The snapshot operation on real trees, into a repository in memory.

mod stand_ins;

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use gabion::crypto::ChunkKind;
use gabion::crypto::passphrase::KdfCosts;
use gabion::event::{Event, Recorder};
use gabion::format::entry::{Content, ContentItem, Entry, EntryKind, Timestamp};
use gabion::ops::OpError;
use gabion::ops::snapshot::{
    Scope, SnapshotOptions, SnapshotSummary, StreamInput, StreamSource, snapshot,
};
use gabion::repo::{InitOptions, Repository, Unlock};
use gabion::source::exclude::Excludes;
use gabion::storage::{MemoryStorage, ObjectKind};
use gabion::tree::{ContentItems, PageReader};

pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) repository: Arc<Repository>,
}

impl World {
    pub(crate) fn new() -> Self {
        let storage = MemoryStorage::new();
        let options = InitOptions {
            unlock: Unlock::Nothing,
            costs: KdfCosts::default(),
            label: String::new(),
            now: "2026-11-22T00:00:00Z".to_owned(),
            parity_per_mille: None,
            delta: false,
        };
        Repository::init(&storage, "memory", &options).unwrap();
        Self::open(storage)
    }

    fn open(storage: MemoryStorage) -> Self {
        let recorder = Arc::new(Recorder::default());
        let repository = Repository::open(
            Arc::new(storage.clone()),
            "memory",
            &Unlock::Nothing,
            None,
            Arc::<Recorder>::clone(&recorder),
        );
        Self { storage, recorder, repository: Arc::new(repository.unwrap()) }
    }

    pub(crate) fn again(&self) -> Self {
        Self::open(self.storage.clone())
    }

    fn again_loaded(&self) -> Self {
        let world = self.again();
        world.repository.load_index().unwrap();
        world
    }

    pub(crate) fn take(
        &self,
        change: impl FnOnce(&mut SnapshotOptions),
    ) -> Result<SnapshotSummary, OpError> {
        let mut options = options();
        change(&mut options);
        snapshot(&self.repository, options)
    }

    pub(crate) fn of(&self, folder: &Path) -> SnapshotSummary {
        self.take(|options| options.paths = vec![folder.to_owned()]).unwrap()
    }

    fn entries(&self, summary: &SnapshotSummary) -> Vec<Entry> {
        let root = summary.snapshot.as_ref().unwrap().root;
        let mut cursor = PageReader::new(&self.repository).cursor(root);
        std::iter::from_fn(|| cursor.next_entry().unwrap()).collect()
    }

    fn content(&self, entry: &Entry) -> Vec<u8> {
        if let Content::Inline(bytes) = &entry.content {
            return bytes.to_vec();
        }
        let mut reader = PageReader::new(&self.repository);
        let mut items = ContentItems::new(&entry.content, entry.meta.size);
        let mut bytes = Vec::new();
        while let Some(item) = items.next(&mut reader).unwrap() {
            match item {
                ContentItem::Hole { len } => {
                    bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0);
                }
                ContentItem::Chunk { id, .. } => {
                    reader.chunks().read(ChunkKind::Content, &id, &mut bytes).unwrap();
                }
            }
        }
        bytes
    }

    fn confirmed(&self) -> usize {
        self.repository.snapshots().unwrap().0.len()
    }
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "tests tell the library the time")]
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(since.as_secs()).unwrap();
    Timestamp { seconds, nanos: since.subsec_nanos() }
}

pub(crate) fn options() -> SnapshotOptions {
    SnapshotOptions {
        identity: None,
        paths: Vec::new(),
        streams: Vec::new(),
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
        time: now(),
        clock: now,
        force: false,
        scope: Scope::Everything,
        full_scan_every: None,
        dry_run: false,
        rate: None,
        compression: 1,
        threads: 2,
        interrupted: Arc::new(AtomicBool::new(false)),
    }
}

#[expect(clippy::disallowed_methods, reason = "makes test data")]
fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Files of every size class, links, a hole, odd modes.
fn sample() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("a/b/empty")).unwrap();
    let sizes = [0, 1, 64, 65, 4096, 65_536, 65_537, 1 << 20, (4 << 20) + 1, 9_000_000];
    for (number, len) in sizes.into_iter().enumerate() {
        write(at(&format!("a/f{number}")), &noise(len, u8::try_from(number).unwrap()));
    }
    std::fs::hard_link(at("a/f4"), at("a/b/link")).unwrap();
    std::fs::hard_link(at("a/f9"), at("a/zlink")).unwrap();
    symlink("nowhere/at all", at("dead")).unwrap();
    std::fs::set_permissions(at("a/f1"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let mut sparse = std::fs::OpenOptions::new();
    let file = sparse.write(true).create(true).truncate(true).open(at("sparse")).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"end", 50 << 20).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    folder
}

#[test]
fn everything_is_kept_and_reads_back() {
    let (world, folder) = (World::new(), sample());
    let summary = world.of(folder.path());
    assert_eq!(summary.problems, 0, "{:?}", world.recorder.events());
    let entries = world.entries(&summary);
    let mut files = 0;
    for entry in &entries {
        let path = Path::new("/").join(std::ffi::OsStr::from_bytes(&entry.path));
        if !path.starts_with(folder.path()) {
            continue;
        }
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(u32::from(entry.meta.mode), meta.mode() & 0o7777, "{path:?}");
        assert_eq!((entry.meta.owner.uid, entry.meta.inode), (meta.uid(), meta.ino()));
        assert_eq!(entry.meta.mtime.seconds, meta.mtime());
        assert_eq!(i64::from(entry.meta.mtime.nanos), meta.mtime_nsec());
        if entry.meta.kind == EntryKind::File {
            assert_eq!(world.content(entry), std::fs::read(&path).unwrap(), "{path:?}");
            files += 1;
        }
    }
    assert_eq!(files, 13);
    assert!(entries.iter().any(|e| &*e.meta.target == b"nowhere/at all"));
    let sparse = entries.iter().find(|e| e.path.ends_with(b"/sparse")).unwrap();
    assert_eq!(sparse.meta.size, (50 << 20) + 3);
    assert!(summary.counts.new_bytes < 26_000_000, "holes are not stored");
    let root = folder.path().strip_prefix("/").unwrap().as_os_str().as_encoded_bytes();
    assert!(entries.iter().any(|e| *e.path == *root));
}

#[test]
fn an_unchanged_tree_reads_and_stores_nothing() {
    let (world, folder) = (World::new(), sample());
    let first = world.of(folder.path());
    let second = world.again().of(folder.path());
    assert_eq!(second.counts.read_bytes, 0);
    assert!(second.counts.stored_bytes < 4_000, "{:?}", second.counts);
    // The folder above, which other tests use too, may have changed.
    assert!(second.modified_entries <= 1, "{second:?}");
    assert_eq!((second.new_entries, second.removed_entries), (0, 0));
    let forced = world.again().take(|options| {
        options.paths = vec![folder.path().to_owned()];
        options.force = true;
    });
    let forced = forced.unwrap();
    let below = |summary: &SnapshotSummary| {
        let entries = world.again_loaded().entries(summary);
        entries.into_iter().filter(|e| e.path.iter().filter(|b| **b == b'/').count() > 1).collect()
    };
    let all: Vec<Entry> = below(&first);
    assert_eq!(below(&second), all);
    assert_eq!(below(&forced), all);
    assert_eq!(forced.counts.new_bytes, 0);
    assert!(forced.counts.read_bytes > 10_000_000);
}

#[test]
fn changes_are_found_and_counted() {
    let (world, folder) = (World::new(), sample());
    world.of(folder.path());
    write(folder.path().join("a/f2"), b"other");
    write(folder.path().join("a/new"), b"new");
    #[expect(clippy::disallowed_methods, reason = "changes test data")]
    std::fs::remove_file(folder.path().join("a/f3")).unwrap();
    let again = world.again();
    let second = again.of(folder.path());
    assert_eq!((second.new_entries, second.removed_entries), (1, 1));
    // The folder "a" changed too, and the one above the source may have.
    assert!((2..=3).contains(&second.modified_entries), "{second:?}");
    assert_eq!(second.counts.read_bytes, 8);
    let found = again.entries(&second);
    let file = found.iter().find(|e| e.path.ends_with(b"a/f2")).unwrap();
    assert_eq!(again.content(file), b"other");
    assert!(!found.iter().any(|e| e.path.ends_with(b"a/f3")));
}

fn command(name: &str, line: &str) -> StreamSource {
    StreamSource::new(name, StreamInput::Command(line.to_owned()))
}

#[test]
fn streams_and_files_make_one_snapshot() {
    let (world, folder) = (World::new(), sample());
    let dump =
        "printf '%s\\n' '-- PostgreSQL database dump' x '-- PostgreSQL database dump complete'";
    let given = StreamInput::Reader(Box::new(&b"given"[..]));
    let summary = world.take(|options| {
        options.paths = vec![folder.path().to_owned()];
        options.streams = vec![
            command("zz.txt", "seq 1 300000; echo warned >&2"),
            command("aa.sql", dump),
            StreamSource::new("in", given),
        ];
    });
    let summary = summary.unwrap();
    let entries = world.entries(&summary);
    let find = |name: &[u8]| entries.iter().find(|e| *e.path == *name).unwrap();
    assert_eq!(world.content(find(b"in")), b"given");
    let numbers: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(world.content(find(b"zz.txt")), numbers.as_bytes());
    assert_eq!(find(b"aa.sql").meta.kind, EntryKind::Stream);
    let snapshot = summary.snapshot.unwrap();
    assert_eq!(snapshot.streams[1].format.as_deref(), Some("pg_dump"));
    let output = Event::CommandOutput { stream: "zz.txt".to_owned(), line: "warned".to_owned() };
    assert!(world.recorder.events().contains(&output));
}

#[test]
fn no_failed_stream_is_ever_confirmed() {
    let world = World::new();
    for (line, expected) in [
        ("echo some; exit 3", "exit status 3"),
        ("echo some; kill -9 $$", "signal 9"),
        ("true", "empty"),
        ("echo some; false | cat", "exit status 1"),
        ("no-such-command-anywhere", "exit status 127"),
        ("echo '-- PostgreSQL database dump'; seq 1 10000", "not complete"),
        ("echo '-- MariaDB dump 10.19'; seq 1 10000", "not complete"),
        ("printf 'PRAGMA foreign_keys=OFF;\\nBEGIN TRANSACTION;\\nROLLBACK;'", "not complete"),
    ] {
        let result = world.take(|options| {
            options.streams = vec![command("good", "echo good"), command("bad.sql", line)];
        });
        let Err(OpError::Stream(failure)) = result else { panic!("{line}: {result:?}") };
        assert!(failure.to_string().contains(expected), "{line}: {failure}");
        assert_eq!(failure.name, "bad.sql");
    }
    assert_eq!(world.confirmed(), 0);
    let kinds = |kind| world.storage.names().into_iter().filter(|name| name.kind == kind).count();
    assert_eq!((kinds(ObjectKind::Session), kinds(ObjectKind::Root)), (0, 0));
    let empty = world.take(|options| {
        options.streams = vec![command("empty", "true")];
        options.allow_empty = true;
    });
    assert_eq!(world.entries(&empty.unwrap()).len(), 1);
}

#[test]
fn the_tail_of_stderr_comes_with_the_failure() {
    let result = World::new().take(|options| {
        let line = "seq 1 100 >&2; echo 'FATAL: no password' >&2; exit 2";
        options.streams = vec![command("db", line)];
    });
    let Err(OpError::Stream(failure)) = result else { panic!("{result:?}") };
    assert_eq!(failure.stderr_tail.last().unwrap(), "FATAL: no password");
    assert_eq!(failure.stderr_tail.len(), 20);
}

#[test]
fn names_that_collide_or_leave_are_refused() {
    let world = World::new();
    for names in [&["a", "a"][..], &["tmp"], &["a/b"], &[".."], &[""], &["a\nb"]] {
        let result = world.take(|options| {
            options.paths = vec![PathBuf::from("/tmp")];
            options.streams = names.iter().map(|name| command(name, "echo x")).collect();
        });
        assert!(matches!(result, Err(OpError::Refused(_))), "{names:?}: {result:?}");
    }
    let missing = world.take(|options| options.paths = vec![PathBuf::from("/no/such/place")]);
    assert!(matches!(missing, Err(OpError::Source(_))));
    assert_eq!(world.confirmed(), 0);
}

#[test]
fn a_dry_run_leaves_no_trace() {
    let (world, folder) = (World::new(), sample());
    let before = world.storage.names();
    let summary = world.take(|options| {
        options.paths = vec![folder.path().to_owned()];
        options.dry_run = true;
    });
    let summary = summary.unwrap();
    assert_eq!(world.storage.names(), before);
    assert!(summary.snapshot.is_none());
    assert!(summary.counts.read_bytes > 10_000_000 && summary.new_entries > 10);
}

#[test]
fn an_interrupted_run_confirms_nothing() {
    let (world, folder) = (World::new(), sample());
    let result = world.take(|options| {
        options.paths = vec![folder.path().to_owned()];
        options.interrupted = Arc::new(AtomicBool::new(true));
    });
    assert!(matches!(result, Err(OpError::Interrupted)));
    assert_eq!(world.confirmed(), 0);
    world.again().of(folder.path());
    assert_eq!(world.confirmed(), 1);
}
