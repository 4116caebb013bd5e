//! The client's cache of the index: whatever is done to it, every run gives the same result, with
//! at most a note, and nothing is ever taken for present that is not.
#![expect(clippy::disallowed_methods, reason = "plants damage")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gabion::event::{Event, Observer, Recorder};
use gabion::format::snapshot::{RawBytes, Snapshot};
use gabion::ops::check::ReadData;
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::restore::{RestoreOptions, restore};
use gabion::ops::stats::stats;
use gabion::repo::{Repository, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind};
use rusqlite::Connection;

use crate::small::{
    Files, copy, files, noise, notes, open, open_plain, options, problems, read_back, store, take,
};
use crate::specimen::checked;

/// Chunks enough to fill an id run.
const LARGE: usize = 66_000 * 24;

/// A repository with a cache that has a run and packs beyond it.
struct Fixture {
    storage: MemoryStorage,
    cache: tempfile::TempDir,
    /// As it was before the last snapshot.
    stale: tempfile::TempDir,
    files: Files,
    taken: Vec<Snapshot>,
}

fn plain() -> MemoryStorage {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    storage
}

fn cached(storage: &MemoryStorage, cache: &Path, recorder: &Arc<Recorder>) -> Arc<Repository> {
    open(storage, &Unlock::Nothing, Some(cache), Arc::clone(recorder) as _).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let (item, target) = (item.as_ref().unwrap().path(), to.join(item.unwrap().file_name()));
        if item.is_dir() {
            copy_folder(&item, &target);
        } else {
            std::fs::copy(&item, &target).unwrap();
        }
    }
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let storage = plain();
        let (cache, stale) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // Its snapshot is removed, its packs stay: what matters is how much the cache lists.
        let large = noise(LARGE, 1);
        let repository = cached(&storage, cache.path(), &Arc::default());
        let snapshot = take(&repository, &files([("large", large.clone())]), 0).unwrap();
        repository.remove_records(&[snapshot.id]).unwrap();
        drop(repository);
        // Chunks of it from all over the run are needed all the same.
        let parts = [0, 20_000, 40_000, 60_000].map(|n| &large[n * 24..(n + 150) * 24]).concat();
        let mut files = files([("parts", parts), ("small", noise(100, 2))]);
        let mut taken = Vec::new();
        for n in 0..3i64 {
            let repository = cached(&storage, cache.path(), &Arc::default());
            files.insert(format!("new{n}"), noise(200, 10 + n.unsigned_abs()));
            taken.push(take(&repository, &files, n).unwrap());
            drop(repository);
            if n == 1 {
                copy_folder(cache.path(), stale.path());
            }
        }
        Fixture { storage, cache, stale, files, taken }
    })
}

/// The files of a cache: the catalogue first, then the runs.
fn cache_files(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(cache)
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort_by_key(|path| path.extension().is_none_or(|extension| extension != "sqlite"));
    assert!(files[0].ends_with("index.sqlite"));
    files
}

fn catalogue(cache: &Path) -> Connection {
    Connection::open(&cache_files(cache)[0]).unwrap()
}

/// A copy of the fixture's cache.
fn cache_copy() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    copy_folder(fixture().cache.path(), cache.path());
    cache
}

/// Damages copies of the fixture's cache and works with them as if nothing had been: a reader with
/// one, a writer, who asks other things first, with another.
fn works_with(what: &str, damage: impl Fn(&Path)) {
    let fixture = fixture();
    let storage = copy(&fixture.storage);
    let mut files = fixture.files.clone();
    files.insert("brand-new".to_owned(), noise(500, 99));
    for writes in [false, true] {
        let (cache, recorder) = (cache_copy(), Arc::new(Recorder::default()));
        damage(cache.path());
        let repository = cached(&storage, cache.path(), &recorder);
        if writes {
            take(&repository, &files, 9).unwrap();
        } else {
            let last = fixture.taken.last().unwrap();
            assert!(read_back(&repository, last).unwrap() == fixture.files, "{what}");
        }
        assert_eq!(problems(&recorder), [""; 0], "{what}");
        assert!(notes(&recorder).len() <= 1, "{what}: {:?}", notes(&recorder));
        // Does not look at the index: every chunk of every snapshot is in some pack.
        assert_eq!(checked(&repository, ReadData::Structure).problems, 0, "{what}");
    }
}

#[test]
fn an_untouched_cache_gives_no_note_and_adds_nothing() {
    let fixture = fixture();
    assert!(cache_files(fixture.cache.path()).len() >= 2, "there is a run");
    let storage = copy(&fixture.storage);
    let (cache, recorder) = (cache_copy(), Arc::new(Recorder::default()));
    let repository = cached(&storage, cache.path(), &recorder);
    let before = storage.names().len();
    take(&repository, &fixture.files, 9).unwrap();
    assert_eq!(storage.names().len(), before + 2, "only the snapshot and its copy are new");
    assert_eq!(recorder.events(), []);
}

#[test]
fn lost_cut_and_rubbish_files() {
    for number in 0..cache_files(fixture().cache.path()).len() {
        let file = |cache: &Path| cache_files(cache)[number].clone();
        works_with("lost", |cache| std::fs::remove_file(file(cache)).unwrap());
        works_with("empty", |cache| std::fs::write(file(cache), b"").unwrap());
        works_with("rubbish", |cache| std::fs::write(file(cache), noise(70_000, 7)).unwrap());
        for part in [2, 3] {
            works_with("cut", |cache| {
                let bytes = std::fs::read(file(cache)).unwrap();
                std::fs::write(file(cache), &bytes[..bytes.len() / part]).unwrap();
            });
        }
        works_with("a folder", |cache| {
            let file = file(cache);
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        });
    }
    works_with("all lost", |cache| std::fs::remove_dir_all(cache).unwrap());
}

#[test]
fn stale_swapped_and_foreign_files() {
    let stale = fixture().stale.path();
    works_with("stale", |cache| {
        std::fs::remove_dir_all(cache).unwrap();
        copy_folder(stale, cache);
    });
    works_with("stale catalogue", |cache| {
        std::fs::copy(&cache_files(stale)[0], &cache_files(cache)[0]).unwrap();
    });
    works_with("a run as catalogue and the other way round", |cache| {
        let files = cache_files(cache);
        let aside = files[0].with_extension("aside");
        std::fs::rename(&files[0], &aside).unwrap();
        std::fs::rename(&files[1], &files[0]).unwrap();
        std::fs::rename(&aside, &files[1]).unwrap();
    });
    // The cache of another repository, with as many chunks.
    let other = plain();
    let folder = tempfile::tempdir().unwrap();
    let repository = cached(&other, folder.path(), &Arc::default());
    take(&repository, &files([("large", noise(LARGE, 5))]), 1).unwrap();
    drop(repository);
    let foreign = cache_files(folder.path());
    assert!(foreign.len() >= 2);
    for (number, file) in foreign.iter().enumerate().take(2) {
        works_with("foreign", |cache| {
            std::fs::copy(file, &cache_files(cache)[number]).unwrap();
        });
    }
    works_with("all foreign", |cache| {
        for (from, to) in foreign.iter().zip(cache_files(cache)) {
            std::fs::copy(from, to).unwrap();
        }
    });
}

#[test]
fn flipped_bits_in_every_file() {
    for number in 0..cache_files(fixture().cache.path()).len() {
        let len = std::fs::metadata(&cache_files(fixture().cache.path())[number]).unwrap().len();
        let len = usize::try_from(len).unwrap();
        // The first page closely, the others (or the entries of a run) at odd distances.
        for at in (0..512).step_by(97).chain((512..len).step_by(len / 13)) {
            works_with(&format!("byte {at} of file {number}"), |cache| {
                let file = &cache_files(cache)[number];
                let mut bytes = std::fs::read(file).unwrap();
                bytes[at] ^= 0x11;
                std::fs::write(file, bytes).unwrap();
            });
        }
    }
}

#[test]
fn a_thousand_flips_in_a_run_at_once() {
    works_with("rotten run", |cache| {
        let file = &cache_files(cache)[1];
        let mut bytes = std::fs::read(file).unwrap();
        for (n, spot) in noise(8_000, 3).chunks_exact(8).enumerate() {
            let at = u64::from_le_bytes(spot.try_into().unwrap()) % (bytes.len() as u64 - 24);
            bytes[24 + usize::try_from(at).unwrap()] ^= 1 << (n % 8);
        }
        std::fs::write(file, bytes).unwrap();
    });
}

#[test]
fn poisoned_rows() {
    let poisons = [
        "UPDATE pack SET footer = (SELECT footer FROM pack AS other ORDER BY no LIMIT 1)",
        "UPDATE pack SET footer = (SELECT footer FROM pack AS other ORDER BY no DESC LIMIT 1)",
        "UPDATE pack SET footer = zeroblob(100)",
        "UPDATE pack SET check_value = zeroblob(32)",
        "UPDATE pack SET len = len + 1",
        "UPDATE pack SET chunks = 4000000000",
        "UPDATE pack SET chunks = 0",
        "UPDATE pack SET chunks = -1",
        "UPDATE pack SET no = 1000 - no",
        "UPDATE pack SET no = -no",
        "UPDATE pack SET no = no + 4294967296",
        "UPDATE pack SET id = (SELECT hex(randomblob(8)) || no)",
        "UPDATE pack SET id = no",
        "DELETE FROM pack",
        "DELETE FROM pack WHERE no % 2 = 0",
        "DELETE FROM segment",
        "UPDATE segment SET id = randomblob(16)",
        "DELETE FROM run",
        "UPDATE run SET last_pack = 1000000",
        "UPDATE run SET last_pack = 0",
        "UPDATE run SET last_pack = -1",
        "UPDATE run SET name = 'elsewhere.ids'",
        "UPDATE run SET name = '../../../../etc/passwd'",
        "INSERT INTO run VALUES ('no-such.ids', 2)",
        "UPDATE meta SET value = zeroblob(16)",
        "DELETE FROM meta",
        "PRAGMA user_version = 2",
        "PRAGMA user_version = 0",
        "DROP TABLE segment",
        "DROP TABLE run",
        "DROP TABLE pack",
        "CREATE TRIGGER t BEFORE INSERT ON pack BEGIN SELECT RAISE(ABORT, 'no'); END",
    ];
    for poison in poisons {
        works_with(poison, |cache| catalogue(cache).execute_batch(poison).unwrap());
    }
    // Two packs change places: rows that are whole in themselves.
    works_with("swapped ids", |cache| {
        let ids = "SELECT max(no) FROM pack";
        let db = catalogue(cache);
        let last: u32 = db.query_row(ids, [], |row| row.get(0)).unwrap();
        for (from, to) in [(1, 0), (last, 1), (0, last)] {
            db.execute("UPDATE pack SET no = ?2 WHERE no = ?1", [from, to]).unwrap();
        }
    });
    works_with("a thousand packs that are not there, and some that are", |cache| {
        let mut db = catalogue(cache);
        let change = db.transaction().unwrap();
        for n in 0..1000u64 {
            let row = "INSERT INTO pack (id, len, chunks, footer, check_value)
                 SELECT randomblob(16), len, chunks, footer, check_value FROM pack
                 WHERE no = 2 + ?1 % 3";
            change.execute(row, [n]).unwrap();
        }
        change.commit().unwrap();
    });
}

#[test]
fn a_chunk_whose_pack_is_gone_is_stored_again() {
    let storage = plain();
    let cache = tempfile::tempdir().unwrap();
    let wanted = files([("a", noise(3_000, 1)), ("b", noise(50, 2))]);
    let repository = cached(&storage, cache.path(), &Arc::default());
    // Stored and never confirmed: garbage that a pruner may take at any time.
    store(&repository, &wanted, 1).unwrap();
    drop(repository);
    for name in storage.names() {
        if matches!(name.kind, ObjectKind::Pack | ObjectKind::Segment) {
            storage.remove(name);
        }
    }
    let recorder = Arc::new(Recorder::default());
    let repository = cached(&storage, cache.path(), &recorder);
    let taken = take(&repository, &wanted, 2).unwrap();
    assert_eq!(read_back(&open_plain(&storage), &taken).unwrap(), wanted);
    assert_eq!(recorder.events(), []);
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let storage = plain();
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, b"not a folder").unwrap();
    let recorder = Arc::new(Recorder::default());
    let repository = cached(&storage, &in_the_way, &recorder);
    let wanted = files([("a", noise(3_000, 1))]);
    let taken = take(&repository, &wanted, 2).unwrap();
    assert_eq!(read_back(&open_plain(&storage), &taken).unwrap(), wanted);
    assert_eq!(notes(&recorder).len(), 2);
    assert_eq!(std::fs::read(&in_the_way).unwrap(), b"not a folder");
}

/// Spoils the catalogue, which is in use, whenever something is told.
struct Spoiler {
    cache: PathBuf,
    how: fn(&Path),
}

impl Observer for Spoiler {
    fn event(&self, _event: Event) {
        (self.how)(&self.cache);
    }
}

/// Overwrites the catalogue in place.
fn overwrite(cache: &Path) {
    for file in walked(cache).iter().filter(|file| file.ends_with("index.sqlite")) {
        let len = std::fs::metadata(file).unwrap().len();
        std::fs::write(file, vec![0x5a; usize::try_from(len).unwrap()]).unwrap();
    }
}

/// Cuts the catalogue off.
fn cut(cache: &Path) {
    for file in walked(cache).iter().filter(|file| file.ends_with("index.sqlite")) {
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(100).unwrap();
    }
}

/// As another process does that rebuilds the index.
fn removed(cache: &Path) {
    for directory in std::fs::read_dir(cache).into_iter().flatten() {
        let _ = std::fs::remove_dir_all(directory.unwrap().path());
    }
}

/// The files of a cache of which some may be gone.
fn walked(cache: &Path) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(cache).into_iter().flatten();
    let files = directories.flat_map(|directory| std::fs::read_dir(directory.unwrap().path()));
    files.flatten().map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_catalogue_that_is_spoiled_while_it_is_used_fails_no_operation() {
    let fixture = fixture();
    let clock = || gabion::format::entry::Timestamp { seconds: 5_000_000, nanos: 0 };
    for how in [overwrite as fn(&Path), cut, removed] {
        let storage = copy(&fixture.storage);
        let with = |storage: &MemoryStorage| {
            let cache = cache_copy();
            let observer = Arc::new(Spoiler { cache: cache.path().to_owned(), how });
            let opened = open(storage, &Unlock::Nothing, Some(cache.path()), observer).unwrap();
            how(cache.path());
            (cache, opened)
        };
        let last = fixture.taken.last().unwrap();
        let (_cache, repository) = with(&storage);
        assert!(read_back(&repository, last).unwrap() == fixture.files);
        let (_cache, repository) = with(&storage);
        let counted = stats(&repository, std::slice::from_ref(last)).unwrap();
        assert_eq!((counted.problems, counted.snapshots), (0, 1));
        let (_cache, repository) = with(&storage);
        let target = tempfile::tempdir().unwrap();
        let named = Snapshot { paths: vec![RawBytes(b"/src".to_vec())], ..last.clone() };
        let options = RestoreOptions {
            path: None,
            verify: true,
            ..crate::restore_op::options(&named, target.path())
        };
        let restored = restore(&repository, options).unwrap();
        assert_eq!((restored.problems, restored.damaged), (0, 0), "{restored:?}");
        let (_cache, repository) = with(&storage);
        let mut options = PruneOptions::new("box".to_owned(), clock, 2);
        options.max_unused = 0.0;
        let pruned = prune(&repository, &options).unwrap();
        assert!(pruned.packs_deleted > 0, "{pruned:?}");
        let (_cache, repository) = with(&storage);
        let mut files = fixture.files.clone();
        files.insert("brand-new".to_owned(), noise(500, 99));
        let newest = take(&repository, &files, 9).unwrap();
        assert!(read_back(&repository, &newest).unwrap() == files);
        assert_eq!(checked(&repository, ReadData::Structure).problems, 0);
    }
}
