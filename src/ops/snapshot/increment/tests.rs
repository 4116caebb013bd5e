//! Tests of snapshots that do not look at everything, on real folders: they must hold what a look at
//! everything finds, and must not look at what they need not.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::SeenFolders;
use super::verdict::is_in_share;
use crate::event::Event;
use crate::format::entry::Timestamp;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::ops::OpError;
use crate::ops::snapshot::{ChangesSince, Scope, SnapshotOptions, SnapshotSummary, Told, snapshot};
use crate::ops::test_support::TestRepository;
use crate::repo::Writer;
use crate::source::exclude::{Excludes, ExcludesBuilder};
use crate::tree::{Change, Diff, PageReader, TreeBuilder};

#[path = "random_tests.rs"]
mod random;
#[path = "told_tests.rs"]
mod told_changes;

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp { seconds: i64::try_from(now.as_secs()).unwrap(), nanos: now.subsec_nanos() }
}

/// A repository and a folder to take snapshots of.
struct World {
    made: TestRepository,
    folder: tempfile::TempDir,
    excludes: Excludes,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = TestRepository::with_small_pages_and_cache(&folder.path().join("cache"));
        fs::create_dir(folder.path().join("source")).unwrap();
        Self { made, folder, excludes: Excludes::default() }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn path(&self, below: &str) -> PathBuf {
        self.source().join(below)
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Waits until what has changed so far is older than the grain of the clock of files.
    fn settle(&self) {
        let probe = self.folder.path().join("probe");
        let time = |path: &Path| {
            fs::write(path, "").unwrap();
            let found = fs::metadata(path).unwrap();
            i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec())
        };
        let first = time(&probe);
        while time(&probe) - first < 40_000_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn options(&self, scope: Scope) -> SnapshotOptions {
        SnapshotOptions {
            paths: vec![self.source()],
            streams: Vec::new(),
            stand_ins: Vec::new(),
            allow_empty: false,
            allow_empty_source: false,
            excludes: self.excludes.clone(),
            allow_live_database: false,
            one_file_system: false,
            tags: Vec::new(),
            host: "box".to_owned(),
            identity: None,
            user: "me".to_owned(),
            job: None,
            time: now(),
            clock: now,
            force: false,
            scope,
            full_scan_every: None,
            dry_run: false,
            rate: None,
            compression: 1,
            threads: 2,
            interrupted: Arc::new(AtomicBool::new(false)),
        }
    }

    fn try_take(&self, scope: Scope) -> Result<SnapshotSummary, OpError> {
        self.settle();
        snapshot(&self.made.repository, self.options(scope))
    }

    fn take(&self, scope: Scope) -> SnapshotSummary {
        self.try_take(scope).unwrap()
    }

    fn told(&self, below: &[&str]) -> Scope {
        told(below.iter().map(|below| self.path(below)).collect())
    }

    fn write_once(&self, below: &[&str]) -> Scope {
        Scope::WriteOnce(below.iter().map(|below| self.path(below)).collect())
    }

    /// Takes a snapshot that looks at everything and reads everything: it must find what the one
    /// before has found. It is not kept: the next one follows that one.
    fn assert_equals_force(&self, summary: &SnapshotSummary) {
        let options = SnapshotOptions { force: true, ..self.options(Scope::Everything) };
        let forced = snapshot(&self.made.repository, options).unwrap();
        self.made.repository.remove_records(&[forced.snapshot.as_ref().unwrap().id]).unwrap();
        self.assert_same(summary, &forced);
        assert_eq!(summary.counts.entries, forced.counts.entries);
        assert_eq!(summary.counts.bytes, forced.counts.bytes);
    }

    /// Both have the same entries and the pages that such entries have. The folders above the
    /// source are left out: others work in them at the same time.
    fn assert_same(&self, one: &SnapshotSummary, other: &SnapshotSummary) {
        let root = |summary: &SnapshotSummary| summary.snapshot.as_ref().unwrap().root;
        let repository = &self.made.repository;
        let cursor = |root| PageReader::new(repository).cursor(root);
        let mut diff = Diff::new(cursor(root(one)), cursor(root(other)));
        let top = self.source().as_os_str().as_bytes()[1..].to_vec();
        while let Some(change) = diff.next_change().unwrap() {
            let entry = match &change {
                Change::Added(entry) | Change::Removed(entry) => entry,
                Change::Changed { new, .. } => new,
            };
            let is_above = *entry.path != top[..] && path::is_within(&top, &entry.path);
            assert!(is_above, "{change:?}");
        }
        for root in [root(one), root(other)] {
            let writer = Writer::new(repository, 1);
            let mut builder = TreeBuilder::new(&writer).unwrap();
            let mut entries = cursor(root);
            while let Some(entry) = entries.next_entry().unwrap() {
                builder.push(entry).unwrap();
            }
            assert_eq!(builder.finish().unwrap().0, root, "not the pages of these entries");
        }
    }

    fn problems(&self) -> Vec<String> {
        let events = self.made.events.events().into_iter();
        let told = events.filter_map(|event| match event {
            Event::Problem(problem) => {
                Some(format!("{}: {}", problem.subject.display(), problem.message))
            }
            _ => None,
        });
        told.collect()
    }

    /// 40 folders with 25 files each, and one file beside them.
    fn store(&self) {
        for folder in 0..40 {
            for file in 0..25 {
                self.write(&format!("store/{folder:02}/{file:02}"), &format!("{folder} {file}"));
            }
        }
        self.write("beside", "1");
    }
}

fn told(paths: Vec<PathBuf>) -> Scope {
    let changes = Box::new(|_: &Snapshot| Ok(ChangesSince::Below(paths)));
    Scope::Told(Told { parent: None, by_kernel: false, changes })
}

/// Entries of the store that are looked at when nothing changed: its folders, itself and what lies
/// above, and the files of the folders whose turn it is.
fn looked_at(summary: &SnapshotSummary) -> u64 {
    summary.counts.entries - summary.unseen_entries
}

#[test]
fn what_is_write_once_is_taken_over_unseen() {
    let world = World::new();
    world.store();
    let first = world.take(world.write_once(&["store"]));
    assert_eq!(
        first.full_scan_because.as_deref(),
        Some("there is no earlier snapshot of these sources")
    );
    let mut verified = 0;
    for _ in 0..32 {
        let again = world.take(world.write_once(&["store"]));
        assert_eq!(again.full_scan_because, None);
        world.assert_same(&again, &first);
        verified += 1000 - again.unseen_entries;
        assert!(again.unseen_entries >= 500, "{again:?}");
    }
    assert_eq!(verified, 1000, "in 32 runs each file is looked at once");
    world.write("store/07/new", "new");
    fs::remove_file(world.path("store/08/03")).unwrap();
    world.write("store/new/deep/file", "deep");
    fs::rename(world.path("store/09"), world.path("store/renamed")).unwrap();
    fs::remove_dir_all(world.path("store/10")).unwrap();
    world.write("beside", "22");
    let changed = world.take(world.write_once(&["store"]));
    assert_eq!(changed.full_scan_because, None);
    assert_eq!(changed.removed_entries, 1 + 26 + 26);
    assert!(looked_at(&changed) < 500, "{changed:?}");
    world.assert_equals_force(&changed);
    assert_eq!(world.problems(), [""; 0]);
}

/// So many files that several threads ask for their attributes.
#[test]
fn a_large_folder_that_changed_is_looked_at_in_full() {
    let world = World::new();
    let name = |number: usize| format!("store/large/{:04}-{number}", number * 7919 % 3001);
    (0..1500).for_each(|number| world.write(&name(number), &format!("{number}")));
    world.take(world.write_once(&["store"]));
    for number in (0..1500).step_by(300) {
        fs::remove_file(world.path(&name(number))).unwrap();
        world.write(&name(1500 + number), "new");
    }
    let last = world.take(world.write_once(&["store"]));
    assert_eq!((last.full_scan_because.as_deref(), last.problems), (None, 0));
    assert_eq!((last.new_entries, last.removed_entries), (5, 5));
    assert_eq!(last.unseen_entries, 0, "all in it is looked at");
    world.assert_equals_force(&last);
}

#[test]
fn folders_are_compared_with_what_was_seen_of_them() {
    let world = World::new();
    world.store();
    fs::create_dir(world.path("store/17/inner")).unwrap();
    world.write("store/17/inner/file", "1");
    let seen_by = |summary: &SnapshotSummary| {
        let root = summary.snapshot.as_ref().unwrap().root;
        (SeenFolders::of(&world.made.repository, &root), root)
    };
    let first = world.take(world.write_once(&["store"]));
    assert_eq!(seen_by(&first).0, SeenFolders::default(), "it looked at everything");
    let mut last = world.take(world.write_once(&["store"]));
    let (seen, _) = seen_by(&last);
    assert!(seen.behind(0) == 42 && seen.get(42).is_none(), "store, 40 in it and one more");
    for _ in 0..12 {
        last = world.take(world.write_once(&["store"]));
        assert_eq!(seen_by(&last).0, seen, "and so are those that were only passed");
        world.assert_equals_force(&last);
    }
    world.write("store/07/new", "new");
    world.write("store/17/inner/new", "new");
    fs::remove_dir_all(world.path("store/21")).unwrap();
    last = world.take(world.write_once(&["store"]));
    assert_eq!((last.new_entries, last.removed_entries), (2, 26));
    world.assert_equals_force(&last);
    // Whoever believes a list that has a change that the snapshot has not, misses that change.
    let is_in_turn = |last: &SnapshotSummary, path: &Path| {
        let continuation = last.snapshot.as_ref().unwrap().continuation.as_ref().unwrap();
        // The one after the next.
        let share = (continuation.share + 2) % 32;
        let path = &path.as_os_str().as_bytes()[1..];
        super::verdict::is_in_share(&world.made.repository, path, share, 32)
    };
    if is_in_turn(&last, &world.path("store")) {
        last = world.take(world.write_once(&["store"]));
    }
    let folders = ["08", "09", "10", "11"].map(|name| world.path("store").join(name));
    // All of them once in a million keys.
    let path = folders.iter().find(|path| !is_in_turn(&last, path)).unwrap();
    fs::write(path.join("new"), "new").unwrap();
    let (mut forged, _) = seen_by(&last);
    last = world.take(world.told(&[]));
    let now = fs::metadata(path).unwrap();
    let time = |seconds, nanos| Timestamp { seconds, nanos: u32::try_from(nanos).unwrap() };
    let at = forged.find(&path.as_os_str().as_bytes()[1..]).unwrap();
    let stat = &mut forged.folder_mut(at).stat;
    stat.mtime = time(now.mtime(), now.mtime_nsec());
    stat.ctime = time(now.ctime(), now.ctime_nsec());
    forged.keep(&world.made.repository, &seen_by(&last).1);
    last = world.take(world.write_once(&["store"]));
    assert_eq!((last.full_scan_because.as_deref(), last.new_entries), (None, 0));
    let full = world.take(Scope::Everything);
    assert_eq!((full.new_entries, seen_by(&full).0), (1, SeenFolders::default()));
}

#[test]
fn a_file_changed_in_place_is_found_within_32_runs_and_everything_looked_at() {
    let world = World::new();
    world.store();
    world.take(world.write_once(&["store"]));
    world.write("store/21/13", "changed in place");
    for run in 0..33 {
        let summary = world.take(world.write_once(&["store"]));
        if summary.problems == 0 {
            assert!(run < 32, "it was never found");
            continue;
        }
        let why = summary.full_scan_because.clone().unwrap();
        assert!(why.ends_with("store/21/13 is not write-once"), "{why}");
        let told = world.problems();
        assert!(
            told.len() == 1 && told[0].contains("store/21/13: it is not as it was"),
            "{told:?}"
        );
        assert_eq!(summary.unseen_entries, 0);
        return world.assert_equals_force(&summary);
    }
}

#[test]
fn what_the_parent_could_not_be_sure_of_is_looked_at() {
    let world = World::new();
    world.store();
    // By this clock all was made after the walk began: it may change again without another time.
    let clock = || Timestamp { seconds: now().seconds - 3600, ..now() };
    let options = SnapshotOptions { clock, ..world.options(world.write_once(&["store"])) };
    let record = snapshot(&world.made.repository, options).unwrap().snapshot.unwrap();
    let unsure = record.continuation.unwrap().unsure;
    let folders = unsure.iter().filter(|path| path.0.ends_with(b"store/05")).count();
    assert_eq!((folders, unsure.len() > 40), (1, true), "{unsure:?}");
    world.write("store/05/05", "changed in place");
    let second = world.take(world.write_once(&["store"]));
    assert_eq!((second.full_scan_because.as_deref(), second.unseen_entries), (None, 0));
    world.assert_equals_force(&second);
    let third = world.take(world.write_once(&["store"]));
    assert!(third.unseen_entries > 500, "{third:?}");
}

#[test]
fn other_rules_or_a_changed_ignore_file_mean_a_look() {
    let mut world = World::new();
    let rules = |patterns: &[&str]| {
        let patterns = patterns.iter().map(|&text| text.into()).collect();
        let builder =
            ExcludesBuilder { patterns, use_ignore_files: true, ..ExcludesBuilder::default() };
        builder.build().unwrap()
    };
    world.excludes = rules(&["*.tmp"]);
    world.store();
    world.write("store/03/x.tmp", "left out");
    world.write("store/03/sub/y.tmp", "left out");
    world.take(world.write_once(&["store"]));
    world.excludes = rules(&[]);
    let other = world.take(world.write_once(&["store"]));
    assert_eq!(
        other.full_scan_because.as_deref(),
        Some("the parent left out other things, by other rules")
    );
    assert_eq!(other.new_entries, 2);
    world.write("store/03/.gabionignore", "*.tmp\n");
    let ignoring = world.take(world.write_once(&["store"]));
    assert_eq!((ignoring.full_scan_because.as_deref(), ignoring.removed_entries), (None, 2));
    world.assert_equals_force(&ignoring);
    fs::remove_file(world.path("store/03/.gabionignore")).unwrap();
    let bare = world.take(world.write_once(&["store"]));
    assert_eq!((bare.new_entries, bare.full_scan_because.as_deref()), (2, None));
    world.assert_equals_force(&bare);
    // Above what is write-once, where no look at it would tell.
    world.write(".gabionignore", "store/04/*\n");
    let above = world.take(world.write_once(&["store"]));
    world.assert_equals_force(&above);
    assert_eq!(above.removed_entries, 25);
    fs::remove_file(world.path(".gabionignore")).unwrap();
    let gone = world.take(world.write_once(&["store"]));
    world.assert_equals_force(&gone);
    assert_eq!(gone.new_entries, 25);
}

#[test]
fn other_names_of_a_changed_file_mean_a_look_at_everything() {
    let world = World::new();
    world.store();
    world.take(world.write_once(&["store"]));
    // One whose directory is not looked at anyway, to verify it.
    let is_verified = |number: &u32| {
        let directory = world.path(&format!("store/{number:02}"));
        let path = &directory.as_os_str().as_bytes()[1..];
        (0..3).any(|share| is_in_share(&world.made.repository, path, share, super::MIN_SHARES))
    };
    let number = (1..12).find(|number| !is_verified(number)).unwrap();
    fs::hard_link(world.path(&format!("store/{number:02}/11")), world.path("link")).unwrap();
    let linked = world.take(world.write_once(&["store"]));
    let why = linked.full_scan_because.clone().unwrap();
    assert!(why.contains("hard links"), "{why}");
    world.assert_equals_force(&linked);
    fs::remove_file(world.path("link")).unwrap();
    let unlinked = world.take(world.write_once(&["store"]));
    assert!(unlinked.full_scan_because.as_deref().is_some_and(|why| why.contains("hard links")));
    world.assert_equals_force(&unlinked);
    // Two names that are both seen are no reason.
    world.write("store/12/twice", "twice");
    fs::hard_link(world.path("store/12/twice"), world.path("store/12/thrice")).unwrap();
    let both = world.take(world.write_once(&["store"]));
    assert_eq!(both.full_scan_because, None);
    world.assert_equals_force(&both);
}

#[test]
fn a_folder_in_no_source_is_refused_and_a_dry_run_counts_the_same() {
    let world = World::new();
    world.store();
    let outside = Scope::WriteOnce(vec![PathBuf::from("/elsewhere")]);
    let error = world.try_take(outside).unwrap_err().to_string();
    assert!(error.contains("/elsewhere") && error.contains("none of the sources"), "{error}");
    world.take(world.write_once(&["store"]));
    world.write("store/01/more", "more");
    let dry = SnapshotOptions { dry_run: true, ..world.options(world.write_once(&["store"])) };
    let dry = snapshot(&world.made.repository, dry).unwrap();
    let real = world.take(world.write_once(&["store"]));
    // The folders that lead to the source may change meanwhile: others work there, too.
    let counts = |s: &SnapshotSummary| {
        let known = s.modified_entries + s.unchanged_entries;
        (s.counts.entries, s.new_entries, known, s.unseen_entries)
    };
    assert_eq!(counts(&dry), counts(&real));
}
