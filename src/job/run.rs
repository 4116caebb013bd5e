//! Taking the snapshot of a job: dumps first, then the files that they name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::aiida::expand;
use super::config::{IndexConfig, Job, StreamConfig};
use super::database::{Surroundings, back_up, streams};
use super::watched::watched;
use crate::format::entry::Timestamp;
use crate::format::snapshot::{ProcessIdentity, Snapshot};
use crate::ops::OpError;
use crate::ops::program::{ProgramError, describe, run_to_end, shell};
use crate::ops::snapshot::{
    ChangesSince, Scope, SnapshotOptions, SnapshotSummary, StandIn, Told, changed_paths, snapshot,
};
use crate::repo::Repository;
use crate::source::exclude::{Excludes, ExcludesBuilder, literal};

/// What a run of a job is told by its caller.
#[derive(Debug)]
pub struct RunOptions {
    /// The machine's name, where the job gives none.
    pub host: String,
    /// What tells this process from others of the machine, where that can be known.
    pub identity: Option<ProcessIdentity>,
    /// The user's name.
    pub user: String,
    /// The time the snapshot is of.
    pub time: Timestamp,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
    /// Patterns that leave out the program's own directories.
    pub own_patterns: Vec<OsString>,
    /// A private, empty folder for copies of databases.
    pub work: PathBuf,
    /// Threads that read and store.
    pub threads: usize,
    /// Walk and compare, but run no stream and store nothing.
    pub dry_run: bool,
    /// Look at everything, whatever the job says of folders that are write-once.
    pub full_scan: bool,
    /// Where `gabion watch` listens.
    pub watch_socket: PathBuf,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

/// Takes the snapshot of `job`.
///
/// # Errors
/// As [`snapshot`]; a database that cannot be dumped is a failed stream.
pub fn run(
    repository: &Arc<Repository>,
    job: &Job,
    options: RunOptions,
) -> Result<SnapshotSummary, OpError> {
    let job = &*expand(job)?;
    let watched = job
        .watched
        .then(|| watched(&options.watch_socket, repository, &job.paths, job.one_file_system));
    let scope = match &watched {
        Some(watched) if !options.full_scan => watched.scope(),
        _ => scope(job, &options),
    };
    let excludes = excludes(job, options.own_patterns)?;
    let around = Surroundings {
        work: &options.work,
        interrupted: &options.interrupted,
        observer: &**repository.observer(),
    };
    // A dry run does not even ask the servers: they may be asleep, and nothing is stored.
    let streams = if options.dry_run { Vec::new() } else { streams(job, &around)? };
    if options.dry_run && job.paths.is_empty() {
        return Err(OpError::Refused(format!(
            "the job {} has streams only, which a dry run does not run",
            job.name
        )));
    }
    let snapshot_options = SnapshotOptions {
        paths: job.paths.clone(),
        streams,
        stand_ins: stand_ins(job, &options.work, &options.interrupted),
        allow_empty: false,
        allow_empty_source: job.allow_empty_source,
        excludes,
        allow_live_database: job.allow_live_database,
        one_file_system: job.one_file_system,
        tags: job.tags.clone(),
        host: job.host.clone().unwrap_or(options.host),
        identity: options.identity,
        user: options.user,
        job: Some(job.name.clone()),
        time: options.time,
        clock: options.clock,
        force: false,
        scope,
        full_scan_every: job.full_scan_every,
        dry_run: options.dry_run,
        rate: job.limits.rate,
        compression: job.compression,
        threads: options.threads,
        interrupted: options.interrupted,
    };
    let summary = snapshot(repository, snapshot_options)?;
    if let Some(watched) = watched {
        watched.done(repository, &summary);
    }
    Ok(summary)
}

/// The files that are stored as copies.
fn stand_ins(job: &Job, work: &Path, interrupted: &Arc<AtomicBool>) -> Vec<StandIn> {
    let stand_in = |(number, index): (usize, &IndexConfig)| {
        let (file, interrupted) = (index.file.clone(), Arc::clone(interrupted));
        let copy = work.join(format!("{number}.index"));
        StandIn {
            path: index.file.clone(),
            before: index.beside.clone(),
            // Packs have numbers. Beside them lie locks of whoever packs.
            names: |name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit),
            make: Box::new(move || back_up(&file, &copy, &interrupted)),
        }
    };
    job.indexes.iter().enumerate().map(stand_in).collect()
}

/// What of the job's files is looked at.
fn scope(job: &Job, options: &RunOptions) -> Scope {
    // A dry run starts no command of the user's.
    let may_ask = !options.full_scan && !options.dry_run;
    if let Some(command) = job.changed_from.as_ref().filter(|_| may_ask) {
        let (command, paths) = (command.clone(), job.paths.clone());
        let (limit, interrupted) = (job.hooks.timeout, Arc::clone(&options.interrupted));
        let changes = Box::new(move |parent: &Snapshot| {
            let list = ask_for_changes(&command, parent, limit, &interrupted)?;
            let source = if let [only] = &paths[..] { Some(&**only) } else { None };
            changed_paths(&list, source).map(ChangesSince::Below).map_err(OpError::Refused)
        });
        return Scope::Told(Told { parent: None, by_kernel: false, changes });
    }
    match &job.write_once[..] {
        [] => Scope::Everything,
        _ if options.full_scan => Scope::Everything,
        folders => Scope::WriteOnce(folders.to_vec()),
    }
}

/// Runs the command that lists what has changed since `parent`. A list that may be cut is none.
fn ask_for_changes(
    command: &str,
    parent: &Snapshot,
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<Vec<u8>, OpError> {
    let mut shell = shell(command);
    // Whole seconds, and one to spare: what changed just then is told once more.
    shell.env("GABION_SINCE", (parent.scan_started.seconds - 1).to_string());
    shell.env("GABION_PARENT", parent.id.to_string());
    let failed =
        |what: String| Err(OpError::Refused(format!("the command of `changed-from` {what}")));
    match run_to_end(shell, Some(limit), interrupted) {
        Ok(done) if !done.status.success() => {
            let said = done.stderr_tail.iter().map(|line| format!("\n  {line}"));
            failed(format!("{}{}", describe(done.status), said.collect::<String>()))
        }
        Ok(done) if !done.stdout_is_whole => {
            failed("listed too much, or left something behind that may list more".to_owned())
        }
        Ok(done) => Ok(done.stdout),
        Err(ProgramError::Interrupted) => Err(OpError::Interrupted),
        Err(error) => failed(format!("failed: {error}")),
    }
}

/// What a job leaves out: by its patterns, and the live files of databases that it takes as
/// streams.
///
/// # Errors
/// When a pattern or pattern file cannot be used.
pub fn excludes(job: &Job, own_patterns: Vec<OsString>) -> Result<Excludes, OpError> {
    let mut patterns: Vec<OsString> = job.exclude.iter().map(Into::into).collect();
    for stream in &job.streams {
        if let StreamConfig::Sqlite(database) = stream {
            patterns.extend(live_files(&database.path));
        }
    }
    for index in &job.indexes {
        // The copy needs none of what lies beside the file while it is in use.
        patterns.extend(live_files(&index.file).into_iter().skip(1));
    }
    patterns.extend(own_patterns);
    let builder = ExcludesBuilder {
        patterns,
        pattern_files: job.exclude_files.clone(),
        use_ignore_files: true,
        ..ExcludesBuilder::default()
    };
    builder.build().map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let advice = error.advice().map(|advice| format!("; {advice}"));
        let (cause, advice) = (cause.unwrap_or_default(), advice.unwrap_or_default());
        OpError::Refused(format!("{error}{cause}{advice}"))
    })
}

/// Patterns for an SQLite database and what lies beside it while it is in use.
fn live_files(database: &Path) -> Vec<OsString> {
    let beside = |ending: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(ending);
        literal(path)
    };
    ["", "-wal", "-shm", "-journal"].map(beside).to_vec()
}
