//! What is remembered of each job's runs, outside of the repository, so that one command can tell
//! without a key whether all is well. Also the lock that keeps two runs of a job apart: held by the
//! process, so that it ends with it.

mod drill;
mod history;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use drill::{DrillRecord, DrilledFiles, DrilledQuery, DrilledStream};
pub use history::{Past, PastDrill};

pub use super::output_file::replace;
use crate::format::snapshot::ProcessIdentity;

/// Longest record that is read, in bytes.
const MAX_LEN: u64 = 1 << 20;
/// The exit code of a run that was ended from outside.
const INTERRUPTED: i32 = 130;
/// What is said of a run whose process is gone and that did not say how it ended.
pub const CUT_OFF: &str = "it did not come to its end: it was killed, or the machine went down";
/// How often it is looked whether another run has ended.
const TICK: Duration = Duration::from_millis(100);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With a complete snapshot.
    Ok,
    /// With a snapshot that misses something, or trouble behind it.
    Incomplete,
    /// Without a snapshot.
    Failed,
}

/// One run of a job. Times are seconds since 1970 by the machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRecord {
    /// When it began.
    pub started: i64,
    /// When it ended.
    pub ended: i64,
    /// How.
    pub outcome: Outcome,
    /// The program's exit code.
    pub exit_code: i32,
    /// The summary or the error, one line.
    pub message: String,
    /// The last lines that a command wrote which failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// The snapshot's id, if one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Entries of the snapshot.
    #[serde(default)]
    pub entries: u64,
    /// Plain bytes of the snapshot.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that were added to the repository.
    #[serde(default)]
    pub added_bytes: u64,
    /// Sources that could not be read, and other findings.
    #[serde(default)]
    pub problems: u64,
    /// What was read back and verified behind the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
}

impl RunRecord {
    /// How it ended, in one line: the message and the last line of a command that failed.
    pub fn in_one_line(&self) -> String {
        match self.details.last() {
            Some(last) => format!("{}: {last}", self.message),
            None => self.message.clone(),
        }
    }

    /// How it ended, with all lines of a command that failed.
    pub fn in_lines(&self) -> String {
        let details = self.details.iter().map(|line| format!("\n  | {line}"));
        format!("{}{}", self.message, details.collect::<String>())
    }
}

/// Seconds by which a clock may have been ahead when something was remembered.
const CLOCK_TOLERANCE: i64 = 300;

/// Whether a time that is remembered lies in the future: the clock was wrong then, or is now, so
/// nothing that it dates counts as recent.
pub fn is_in_the_future(time: i64, now: i64) -> bool {
    time > now.saturating_add(CLOCK_TOLERANCE)
}

/// A run that has begun, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// When.
    pub started: i64,
    /// The number of its process.
    pub process: u32,
    /// What tells that process from others of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProcessIdentity>,
}

impl Begun {
    /// The record of a run that did not come to its end, as was seen at `seen`.
    pub fn cut_off(&self, seen: i64) -> RunRecord {
        RunRecord {
            started: self.started,
            ended: seen,
            outcome: Outcome::Failed,
            exit_code: INTERRUPTED,
            message: CUT_OFF.to_owned(),
            details: Vec::new(),
            snapshot: None,
            entries: 0,
            bytes: 0,
            added_bytes: 0,
            problems: 0,
            checked: None,
        }
    }
}

/// What the check behind a snapshot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// When it ended.
    pub ended: i64,
    /// Stored bytes that were read and verified.
    pub bytes: u64,
    /// Findings that mean damage.
    pub problems: u64,
}

/// What is remembered of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// The run that is under way, or that did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<Begun>,
    /// The last run.
    pub last_run: Option<RunRecord>,
    /// The last run with a complete snapshot.
    pub last_success: Option<RunRecord>,
    /// The last run that was not such.
    pub last_failure: Option<RunRecord>,
    /// The success before the last.
    #[serde(default)]
    pub previous_success: Option<RunRecord>,
    /// The last check behind a run.
    #[serde(default)]
    pub last_check: Option<Checked>,
    /// When the last weekly summary was sent, or the first week began.
    #[serde(default)]
    pub last_summary: Option<i64>,
    /// Who could not be told about the last run, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
    /// Since when, at least, each pack of the repository has been known to be whole, as of the last
    /// run that verified some (`check.budget`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_from: Option<i64>,
}

impl Status {
    /// Takes a run in.
    pub fn add(&mut self, run: RunRecord) {
        self.last_check = run.checked.or(self.last_check);
        match run.outcome {
            Outcome::Ok => {
                self.previous_success = self.last_success.replace(run.clone());
            }
            Outcome::Incomplete | Outcome::Failed => self.last_failure = Some(run.clone()),
        }
        self.last_run = Some(run);
    }
}

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct StateError {
    /// What was tried.
    pub action: &'static str,
    /// What it happened to.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The folder of the state.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

/// The right to run a job; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct JobLock(#[expect(dead_code, reason = "held for what its end does")] File);

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(JobLock),
    /// Another run has it.
    Busy,
    /// The caller wished to stop waiting.
    Interrupted,
}

impl StateFolder {
    /// The state in `folder`, which is made when something is to be written.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn make(&self) -> Result<(), StateError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| self.error("make the folder", &self.0, source))
    }

    fn error(&self, action: &'static str, path: &Path, source: io::Error) -> StateError {
        StateError { action, path: path.to_owned(), source }
    }

    fn file(&self, job: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{job}.{ending}"))
    }

    /// Asks for the right to run `job`, for at most `patience`.
    ///
    /// # Errors
    /// When the lock's file cannot be made or locked.
    pub fn lock(
        &self,
        job: &str,
        patience: Option<Duration>,
        interrupted: &AtomicBool,
    ) -> Result<Locked, StateError> {
        self.lock_file(&self.file(job, "lock"), patience, interrupted)
    }

    /// Asks for the right to drill `job`, which a run of it does not keep away.
    ///
    /// # Errors
    /// As [`StateFolder::lock`].
    pub fn lock_drill(&self, job: &str, interrupted: &AtomicBool) -> Result<Locked, StateError> {
        self.lock_file(&self.file(job, "drill-lock"), None, interrupted)
    }

    fn lock_file(
        &self,
        path: &Path,
        patience: Option<Duration>,
        interrupted: &AtomicBool,
    ) -> Result<Locked, StateError> {
        self.make()?;
        let failed = |source| self.error("lock", path, source);
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(failed)?;
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locked::Ours(JobLock(file))),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(error.into())),
            }
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Locked::Interrupted);
            }
            if until.is_none_or(|until| Instant::now() >= until) {
                return Ok(Locked::Busy);
            }
            std::thread::sleep(TICK);
        }
    }

    /// A private, empty folder for the run that holds the lock; what a killed run left is removed.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn work_folder(&self, job: &str, _lock: &JobLock) -> Result<PathBuf, StateError> {
        let path = self.file(job, "work");
        let failed = |source| self.error("make the folder", &path, source);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        Ok(path)
    }

    /// What is remembered of `job`; nothing if it never ran.
    ///
    /// # Errors
    /// When there is something that cannot be read or understood.
    pub fn read(&self, job: &str) -> Result<Option<Status>, StateError> {
        self.read_json(&self.file(job, "json"))
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StateError> {
        let failed = |source| self.error("read", path, source);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_LEN).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into()))
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), StateError> {
        self.make()?;
        let failed = |source| self.error("write", path, source);
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
        replace(path, &bytes).map_err(failed)
    }

    /// The jobs of which something is remembered, by name.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there holds nothing.
    pub fn jobs(&self) -> Result<Vec<String>, StateError> {
        let failed = |source| self.error("read the folder", &self.0, source);
        let items = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut names = Vec::new();
        for item in items {
            let name = item.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Remembers `status`, durably and at once: whoever reads sees the old or the new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, status: &Status) -> Result<(), StateError> {
        self.write_json(&self.file(&status.job, "json"), status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome, ended: i64) -> RunRecord {
        RunRecord {
            started: ended - 5,
            ended,
            outcome,
            exit_code: 0,
            message: "m".into(),
            details: vec![],
            snapshot: None,
            entries: 1,
            bytes: 2,
            added_bytes: 3,
            problems: 0,
            checked: None,
        }
    }

    #[test]
    fn runs_are_remembered_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::new(dir.path().join("a/state"));
        assert_eq!((state.read("x").unwrap(), state.jobs().unwrap()), (None, vec![]));
        let mut status = Status { job: "x".into(), ..Status::default() };
        status.add(run(Outcome::Ok, 10));
        status.add(run(Outcome::Incomplete, 20));
        status.add(run(Outcome::Failed, 30));
        state.write(&status).unwrap();
        let read = state.read("x").unwrap().unwrap();
        assert_eq!(read, status);
        let ended = |run: Option<RunRecord>| run.unwrap().ended;
        let times = (ended(read.last_success), ended(read.last_failure), ended(read.last_run));
        assert_eq!(times, (10, 30, 30));
        assert_eq!(state.jobs().unwrap(), ["x"]);
        #[expect(clippy::disallowed_methods, reason = "damages the record")]
        std::fs::write(state.path().join("x.json"), "{").unwrap();
        assert!(state.read("x").is_err());
    }

    #[test]
    fn two_runs_of_a_job_are_kept_apart_and_two_jobs_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::new(dir.path().to_owned());
        let never = AtomicBool::new(false);
        let lock = |job: &str, patience| state.lock(job, patience, &never).unwrap();
        let Locked::Ours(first) = lock("x", None) else { panic!() };
        assert!(matches!(lock("x", None), Locked::Busy));
        assert!(matches!(lock("x", Some(Duration::from_millis(150))), Locked::Busy));
        assert!(matches!(lock("y", None), Locked::Ours(_)));
        let stopped = AtomicBool::new(true);
        assert!(matches!(state.lock("x", None, &stopped).unwrap(), Locked::Interrupted));
        let work = state.work_folder("x", &first).unwrap();
        #[expect(clippy::disallowed_methods, reason = "what a killed run leaves")]
        std::fs::write(work.join("left"), "x").unwrap();
        assert_eq!(std::fs::read_dir(state.work_folder("x", &first).unwrap()).unwrap().count(), 0);
        drop(first);
        assert!(matches!(lock("x", None), Locked::Ours(_)));
    }
}
