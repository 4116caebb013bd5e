//! What has to be so after something went wrong: what was confirmed is whole, and work goes on
//! without anybody's help. All in this process, so that it can be done thousands of times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gabion::event::{Event, Recorder};
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::{Session, Snapshot};
use gabion::id::SnapshotId;
use gabion::ops::check::{CheckOptions, ReadData, check};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::restore::{RestoreOptions, restore};
use gabion::ops::snapshot::{SnapshotOptions, snapshot};
use gabion::repo::{Repository, Unlock};
use gabion::storage::LocalStorage;

use super::small::noise;
use super::support::Sandbox;

/// The files of a source: what each one's bytes are made from.
pub(crate) type Tree = BTreeMap<String, u64>;

/// Bytes of a file of a tree.
pub(crate) const FILE: usize = 5_000;

/// Writes the files of a tree into the folder `name` of a sandbox.
pub(crate) fn write(sandbox: &Sandbox, name: &str, tree: &Tree) {
    for (file, seed) in tree {
        sandbox.write(format!("{name}/{file}"), noise(FILE, *seed));
    }
}

/// What somebody was told, and what therefore has to be so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promised {
    /// Snapshots that were confirmed, and nobody has begun to forget them.
    pub(crate) kept: BTreeMap<SnapshotId, Tree>,
    /// Snapshots that were forgotten.
    pub(crate) gone: BTreeSet<SnapshotId>,
}

/// A command that nobody has said to be done, and of which more is left than a next snapshot or
/// prune clears away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// `init`: it may be that one copy of the configuration is there, until somebody writes.
    Init,
    /// `key`: it may be that one copy of a slot is there, until somebody writes.
    Key,
}

/// A repository after the event, and how to go on with it.
pub(crate) struct Aftermath<'a> {
    pub(crate) repository: &'a Path,
    pub(crate) unlock: &'a Unlock,
    pub(crate) cache: Option<&'a Path>,
    /// What the next snapshot is taken of.
    pub(crate) source: &'a Path,
    /// What is in it now.
    pub(crate) tree: &'a Tree,
    /// An empty folder.
    pub(crate) scratch: &'a Path,
    /// Who of those that were at work has certainly ended.
    pub(crate) has_ended: fn(&Session) -> bool,
    pub(crate) unfinished: Option<Unfinished>,
}

impl Aftermath<'_> {
    /// Everything that was promised is there, a snapshot is taken, a prune succeeds, and all is
    /// still there.
    pub(crate) fn go_on(&self, promised: &Promised) -> Result<(), String> {
        let mut promised = promised.clone();
        let opened = self.open()?;
        match self.unfinished {
            Some(Unfinished::Init | Unfinished::Key) => {}
            None => self.whole(&opened, &promised, "first")?,
        }
        let taken = snapshot(&opened.repository, self.snapshot_options());
        let taken = taken.map_err(|error| format!("the next snapshot: {}", chain(&error)))?;
        let id = taken.snapshot.ok_or("the next snapshot: nothing was confirmed")?.id;
        promised.kept.insert(id, self.tree.clone());
        drop(opened);
        let opened = self.open()?;
        let options = PruneOptions {
            max_unused: 0.0,
            has_ended: self.has_ended,
            ..PruneOptions::new("box".to_owned(), now, 1)
        };
        prune(&opened.repository, &options)
            .map_err(|error| format!("the next prune: {}", chain(&error)))?;
        drop(opened);
        let opened = self.open()?;
        self.whole(&opened, &promised, "last")
    }

    fn open(&self) -> Result<Opened, String> {
        let recorder = Arc::new(Recorder::default());
        let storage = LocalStorage::open(self.repository)
            .map_err(|error| format!("open: {}", chain(&error)))?;
        let cache = self.cache.map(Path::to_path_buf);
        let observer = Arc::<Recorder>::clone(&recorder);
        let repository = Repository::open(Arc::new(storage), "here", self.unlock, cache, observer)
            .map_err(|error| format!("open: {}", chain(&error)))?;
        repository.load_index().map_err(|error| format!("the index: {}", chain(&error)))?;
        Ok(Opened { repository: Arc::new(repository), recorder })
    }

    fn whole(&self, opened: &Opened, promised: &Promised, when: &str) -> Result<(), String> {
        let Opened { repository, .. } = opened;
        let (snapshots, damaged) =
            repository.snapshots().map_err(|error| format!("snapshots: {}", chain(&error)))?;
        if !damaged.is_empty() {
            return Err(format!("{when}: damaged records: {damaged:?}"));
        }
        for (id, tree) in &promised.kept {
            let found = snapshots.iter().find(|found| is(found, *id));
            let found = found.ok_or_else(|| format!("{when}: snapshot {id} is lost"))?;
            self.restores(repository, found, tree)
                .map_err(|error| format!("{when}: snapshot {id}: {error}"))?;
        }
        if let Some(back) = snapshots.iter().find(|found| promised.gone.contains(&found.id)) {
            return Err(format!("{when}: snapshot {} was forgotten and is back", back.id));
        }
        let options =
            CheckOptions { read: ReadData::All, salt: 0, threads: 1, interrupted: Arc::default() };
        let checked = check(repository, &options);
        let checked = checked.map_err(|error| format!("{when}: check: {}", chain(&error)))?;
        if checked.problems > 0 {
            return Err(format!("{when}: check: {}", opened.problems().join("; ")));
        }
        Ok(())
    }

    fn restores(
        &self,
        repository: &Arc<Repository>,
        snapshot: &Snapshot,
        tree: &Tree,
    ) -> Result<(), String> {
        let target = self.scratch.join("restored");
        let options = RestoreOptions {
            verify: false,
            threads: 1,
            ..crate::restore_op::options(snapshot, &target)
        };
        let done = restore(repository, options).map_err(|error| chain(&error))?;
        if done.problems > 0 {
            return Err(format!("{} problems", done.problems));
        }
        let mut found = fs::read_dir(&target).unwrap().count();
        for (name, seed) in tree {
            let bytes = fs::read(target.join(name)).map_err(|error| format!("{name}: {error}"))?;
            if bytes != noise(FILE, *seed) {
                return Err(format!("{name} has other bytes"));
            }
            found -= 1;
        }
        fs::remove_dir_all(&target).unwrap();
        if found == 0 { Ok(()) } else { Err(format!("{found} files too many")) }
    }

    fn snapshot_options(&self) -> SnapshotOptions {
        SnapshotOptions {
            paths: vec![self.source.to_owned()],
            threads: 1,
            ..crate::snapshot_op::options()
        }
    }
}

struct Opened {
    repository: Arc<Repository>,
    recorder: Arc<Recorder>,
}

impl Opened {
    fn problems(&self) -> Vec<String> {
        let text = |event| match event {
            Event::Problem(problem) => {
                Some(format!("{}: {}", problem.subject.display(), problem.message))
            }
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(text).collect()
    }
}

/// The record is that of the snapshot, or took its place when its tags were changed.
fn is(record: &Snapshot, id: SnapshotId) -> bool {
    record.id == id || record.formerly.contains(&id)
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "tests tell the library the time")]
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(since.as_secs()).unwrap();
    Timestamp { seconds, nanos: since.subsec_nanos() }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How much of something is done: as many as the variable says, else a few.
pub(crate) fn scale(variable: &str, few: usize) -> usize {
    std::env::var(variable).ok().map_or(few, |text| text.parse().unwrap())
}

/// One line that `tests/prove` collects.
#[expect(clippy::print_stdout, reason = "the long form is run to see this")]
pub(crate) fn report(what: &str, counts: &str, lost: usize) {
    println!("proof: {what}: {counts}; lost: {lost}");
}

/// Says that something cannot be shown on this machine.
#[expect(clippy::print_stderr, reason = "a proof that was not made must not look like one")]
pub(crate) fn not_run(why: &str) {
    eprintln!("not run: {why}");
}

/// A folder in memory where that is possible, for one thing after the other.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_folder(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}
