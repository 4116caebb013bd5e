//! A repository compared with a model: whatever is done in whatever order, its snapshots hold what
//! a map of files says. `PROPTEST_CASES=1000` tries more than an ordinary run of the tests.

mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gabion::event::{Event, Recorder};
use gabion::format::entry::Timestamp;
use gabion::id::SnapshotId;
use gabion::ops::check::{CheckOptions, ReadData, check};
use gabion::ops::forget::{ForgetLimits, ForgetPlan};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::restore::{RestoreOptions, restore};
use gabion::ops::retention::GroupBy;
use gabion::ops::snapshot::{SnapshotOptions, StreamInput, StreamSource, snapshot};
use gabion::ops::{OpError, find_snapshot};
use gabion::repo::{Presence, Repository, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, Storage};
use proptest::prelude::*;

use crate::small::{FailAt, Files, copy, noise, open_plain, read_back, tiny};
use crate::specimen::checked;
pub(crate) use steps::edit;
use steps::{Operation, Step};

/// The world as it should be, and the repository as it is.
struct Compared {
    storage: MemoryStorage,
    folder: tempfile::TempDir,
    /// What is in the source.
    files: Files,
    /// What a stream gives.
    dump: Vec<u8>,
    snapshots: BTreeMap<SnapshotId, (Files, Vec<u8>)>,
}

/// The stream's name.
const DUMP: &str = "dump";

#[expect(clippy::disallowed_methods, reason = "what is unchanged is found out by true times")]
fn clock() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs().try_into().unwrap(), nanos: now.subsec_nanos() }
}

fn open(
    storage: &(impl Storage + Clone + 'static),
    cache: &Path,
) -> (Arc<Repository>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let place: Arc<dyn Storage> = Arc::new(storage.clone());
    let cache = Some(cache.to_owned());
    let repository = Repository::open(place, "here", &Unlock::Nothing, cache, recorder.clone());
    (Arc::new(repository.unwrap()), recorder)
}

impl Compared {
    fn new(delta: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        Self {
            storage: tiny(delta),
            folder,
            files: Files::new(),
            dump: noise(20_000, 3),
            snapshots: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(path, content) => self.write(path, content.bytes()),
            Step::Edit(at, content) => {
                if let Some(path) = self.files.keys().nth(at % self.files.len().max(1)).cloned() {
                    self.write(&path, content.bytes());
                }
            }
            Step::Remove(at) => {
                if let Some(path) = self.files.keys().nth(at % self.files.len().max(1)).cloned() {
                    self.remove(&path);
                }
            }
            Step::Whole(operation) => {
                let storage = self.storage.clone();
                let (result, problem) = self.run(operation, &storage);
                result.unwrap();
                assert_eq!(problem, None);
            }
            Step::Crash(operation, after) => {
                let dying = FailAt::dying(self.storage.clone(), *after);
                // Whether it got so far or not: what is there must be right.
                let (_, problem) = self.run(operation, &dying);
                // A check tells of what it could not read.
                assert!(problem.is_none() || matches!(operation, Operation::Check));
            }
            Step::Rows(seed) => steps::edit(&mut self.dump, *seed),
            Step::Twins => self.twins(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
    fn write(&mut self, path: &str, bytes: Vec<u8>) {
        let place = self.folder.path().join("source").join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, &bytes).unwrap();
        self.files.insert(path.to_owned(), bytes);
    }

    #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
    fn remove(&mut self, path: &str) {
        std::fs::remove_file(self.folder.path().join("source").join(path)).unwrap();
        self.files.remove(path);
    }

    fn run(
        &mut self,
        operation: &Operation,
        storage: &(impl Storage + Clone + 'static),
    ) -> (Result<(), OpError>, Option<Event>) {
        let (repository, recorder) = open(storage, &self.folder.path().join("cache"));
        let result = self.operate(operation, &repository);
        (result, recorder.events().into_iter().find(is_problem))
    }

    fn operate(
        &mut self,
        operation: &Operation,
        repository: &Arc<Repository>,
    ) -> Result<(), OpError> {
        match operation {
            Operation::Snapshot => self.snapshot(repository)?,
            Operation::Forget(at) => {
                let Some(id) = self.snapshot_at(*at) else { return Ok(()) };
                let plan = ForgetPlan::named(repository, &[id.to_string()], GroupBy::default())?;
                let limits = ForgetLimits { force: true, ..ForgetLimits::default() };
                let presence = Presence { host: "box".to_owned(), now: clock(), identity: None };
                let done = plan.execute(repository, limits, &presence);
                // It is gone from the moment on at which that was said.
                if done.is_ok() || !self.visible().contains(&id) {
                    self.snapshots.remove(&id);
                }
                done?;
            }
            Operation::Prune(max_unused) => {
                let options = PruneOptions {
                    max_unused: f64::from(*max_unused) / 100.0,
                    has_ended: |_| true,
                    ..PruneOptions::new("box".to_owned(), clock, 1)
                };
                prune(repository, &options)?;
            }
            Operation::Check => {
                let (read, interrupted) = (ReadData::All, Arc::default());
                check(repository, &CheckOptions { read, salt: 0, threads: 1, interrupted })?;
            }
            Operation::Restore(at) => {
                if let Some(id) = self.snapshot_at(*at) {
                    self.restore(repository, id)?;
                }
            }
        }
        Ok(())
    }

    fn snapshot_at(&self, at: usize) -> Option<SnapshotId> {
        self.snapshots.keys().nth(at % self.snapshots.len().max(1)).copied()
    }

    fn snapshot(&mut self, repository: &Arc<Repository>) -> Result<(), OpError> {
        let dump = StreamInput::Reader(Box::new(std::io::Cursor::new(self.dump.clone())));
        let options = SnapshotOptions {
            // Random steps may remove all files.
            allow_empty_source: true,
            paths: vec![self.source()],
            streams: vec![StreamSource::new(DUMP, dump)],
            threads: 1,
            ..crate::snapshot_op::options()
        };
        let taken = snapshot(repository, options)?.snapshot.unwrap();
        self.snapshots.insert(taken.id, (self.files.clone(), self.dump.clone()));
        Ok(())
    }

    /// The second writer works on a copy, and what it stored is there afterwards, too.
    fn twins(&mut self) {
        let other = copy(&self.storage);
        self.run(&Operation::Snapshot, &self.storage.clone()).0.unwrap();
        let (repository, _) = open(&other, &self.folder.path().join("another-cache"));
        self.snapshot(&repository).unwrap();
        for name in other.names() {
            self.storage.put(name, other.get(name).unwrap());
        }
    }

    fn source(&self) -> std::path::PathBuf {
        self.folder.path().canonicalize().unwrap().join("source")
    }

    fn visible(&self) -> Vec<SnapshotId> {
        let repository = open_plain(&self.storage);
        let (snapshots, damaged) = repository.snapshots().unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        let mut ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The folders that may be among the files.
    fn without_folders(mut found: Files) -> Files {
        found.retain(|path, _| !matches!(path.as_str(), "" | "x" | "y"));
        found
    }

    fn restore(&self, repository: &Arc<Repository>, id: SnapshotId) -> Result<(), OpError> {
        let snapshot = find_snapshot(repository, &id.to_string())?;
        let target = self.folder.path().join("target");
        let options = crate::restore_op::options(&snapshot, &target);
        let options = RestoreOptions { threads: 1, ..options };
        let restored = restore(repository, options).map(|summary| summary.problems);
        let found = if restored.is_ok() { files_below(&target) } else { Files::new() };
        let _ = std::fs::remove_dir_all(&target);
        assert_eq!(restored?, 0);
        assert!(found == self.snapshots[&id].0, "{:?}", found.keys());
        Ok(())
    }

    /// Everything that must be true at any time.
    fn compare(&self) {
        let known: Vec<SnapshotId> = self.snapshots.keys().copied().collect();
        assert_eq!(self.visible(), known);
    }

    /// Every byte is there, and with nobody at work nothing is left behind.
    fn finish(&self) {
        let (repository, recorder) = open(&self.storage, &self.folder.path().join("cache"));
        let options =
            PruneOptions { has_ended: |_| true, ..PruneOptions::new("box".to_owned(), clock, 1) };
        prune(&repository, &options).unwrap();
        assert_eq!(recorder.events().iter().find(|event| is_problem(event)), None);
        let repository = open_plain(&self.storage);
        assert_eq!(checked(&repository, ReadData::All).problems, 0);
        for snapshot in repository.snapshots().unwrap().0 {
            let top = self.source();
            let top = top.strip_prefix("/").unwrap().to_str().unwrap();
            let mut found = read_back(&repository, &snapshot).unwrap();
            assert!(found.remove(DUMP).as_ref() == Some(&self.snapshots[&snapshot.id].1));
            let found = found.into_iter();
            let below = |path: String| Some(path.strip_prefix(top)?.strip_prefix('/')?.to_owned());
            let found = found.filter_map(|(path, bytes)| Some((below(path)?, bytes))).collect();
            assert!(Self::without_folders(found) == self.snapshots[&snapshot.id].0);
        }
        let names = self.storage.names();
        let left = names.iter().filter(|name| {
            matches!(name.kind, ObjectKind::Session | ObjectKind::Mark | ObjectKind::Root)
        });
        // One session that is over may name what was forgotten.
        assert!(left.clone().all(|name| name.kind == ObjectKind::Session) && left.count() <= 1);
        if self.snapshots.is_empty() {
            assert!(self.storage.names().iter().all(|name| name.kind != ObjectKind::Pack));
        }
    }
}

fn is_problem(event: &Event) -> bool {
    matches!(event, Event::Problem(_))
}

fn files_below(folder: &Path) -> Files {
    let all = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    all.filter(|item| item.file_type().is_file())
        .map(|item| (name(item.path()), std::fs::read(item.path()).unwrap()))
        .collect()
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().map_or(60, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(), failure_persistence: None, max_shrink_iters: 200, ..Default::default()
    })]

    #[test]
    fn a_repository_is_what_the_model_says(
        steps in proptest::collection::vec(steps::step(), 1..30),
        delta: bool,
    ) {
        let mut compared = Compared::new(delta);
        for step in &steps {
            compared.take(step);
            compared.compare();
        }
        compared.finish();
    }
}
