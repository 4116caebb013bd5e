//! Drills: restoring for real into a scratch place, testing what came out, and keeping the
//! evidence.
//!
//! Databases go into servers that are started in a folder of their own, reached by a socket in it
//! and nothing else, one database at a time. Whatever they are given runs as a user without
//! rights, without the caller's environment, and ends with the caller.

mod files;
mod mariadb;
mod postgresql;
mod scratch;
mod sqlite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use scratch::{Account, remove_scratch, scratch_path};

use super::config::{DrillQuery, Expected, Job, StreamConfig};
use super::database::differences;
use super::state::{DrillRecord, DrilledQuery, DrilledStream};
use crate::format::entry::Timestamp;
use crate::format::snapshot::{Snapshot, StreamRecord};
use crate::ops::cat::cat;
use crate::ops::{OpError, StreamFailure};
use crate::repo::{Repository, RepositoryError};
use scratch::Scratch;

/// The format of a dump of roles, which is of no database.
const ROLES: &str = "pg_dumpall";
/// Differing tables that are named.
const NAMED_TABLES: usize = 5;

/// What a drill is told by its caller.
#[derive(Debug)]
pub struct DrillOptions {
    /// The scratch folder, which is made and removed again; see [`scratch_path`].
    pub scratch: PathBuf,
    /// Who runs the servers, if not the caller. Servers refuse to be run by root.
    pub account: Option<Account>,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
    /// Threads that decode and write.
    pub threads: usize,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

/// Restores what `snapshot` holds of `job` and looks at it. To be called by a thread that lives on:
/// the servers end with it.
///
/// # Errors
/// When the scratch folder cannot be made, or the caller wished to stop. Whatever is wrong with
/// what is restored is in the record.
pub fn drill(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    job: &Job,
    options: &DrillOptions,
) -> Result<DrillRecord, OpError> {
    let started = (options.clock)();
    repository.load_index()?;
    let scratch = Scratch::make(options.scratch.clone(), options.account)?;
    let largest = snapshot.streams.iter().map(|stream| stream.bytes).max().unwrap_or(0);
    scratch.check_room(largest)?;
    let mut drill = Drill {
        repository,
        snapshot,
        job,
        options,
        scratch: &scratch,
        record: DrillRecord {
            started: started.seconds,
            snapshot: Some(snapshot.id.to_string()),
            snapshot_time: Some(snapshot.time.seconds),
            ..DrillRecord::default()
        },
        engines: BTreeMap::new(),
    };
    drill.streams()?;
    drill.queries_left();
    // The servers are not needed any more.
    drill.engines.clear();
    drill.files()?;
    let mut record = drill.record;
    record.ok = record.problems.is_empty();
    record.ended = (options.clock)().seconds;
    Ok(record)
}

/// What kind of database a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Postgresql,
    Mariadb,
    Sqlite,
}

/// A dump that is to be restored.
struct Dump<'a> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    stream: &'a StreamRecord,
    interrupted: &'a AtomicBool,
}

/// Rows of tables, or why a table's could not be counted.
type Counted = BTreeMap<String, Result<u64, String>>;

/// Something that databases can be restored into, one at a time.
trait Engine {
    /// What it is, with its version.
    fn version(&self) -> String;
    /// Brings a dump into a new database; returns what is worth knowing and what went wrong.
    fn restore(&mut self, dump: &Dump<'_>, database: &str) -> Result<Brought, OpError>;
    /// Counts rows of these tables, or of all that there are.
    fn count(&self, database: &str, tables: Option<Vec<&str>>) -> Result<Counted, OpError>;
    /// The rows that a query gives, columns with `|` between them.
    fn query(&self, database: &str, query: &str) -> Result<Vec<String>, OpError>;
    /// What the database holds by the server's own account.
    fn census(&self, database: &str) -> BTreeMap<String, u64>;
    /// Removes a database again.
    fn remove(&mut self, database: &str) -> Result<(), OpError>;
}

/// What came of bringing a dump into a database.
#[derive(Debug, Default)]
struct Brought {
    notes: Vec<String>,
    errors: Vec<String>,
}

struct Drill<'a> {
    repository: &'a Arc<Repository>,
    snapshot: &'a Snapshot,
    job: &'a Job,
    options: &'a DrillOptions,
    scratch: &'a Scratch,
    record: DrillRecord,
    engines: BTreeMap<Kind, Box<dyn Engine>>,
}

impl Drill<'_> {
    fn streams(&mut self) -> Result<(), OpError> {
        let mut streams: Vec<&StreamRecord> = self.snapshot.streams.iter().collect();
        // Roles are there before what belongs to them.
        streams.sort_by_key(|stream| stream.format.as_deref() != Some(ROLES));
        for stream in streams {
            let begun = Instant::now();
            let mut drilled = DrilledStream {
                stream: stream.name.clone(),
                bytes: stream.bytes,
                ..DrilledStream::default()
            };
            let done = self.stream(stream, &mut drilled);
            drilled.seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
            self.record.streams.push(drilled);
            if let Err(error) = done {
                self.failed(&stream.name, error)?;
            }
        }
        Ok(())
    }

    /// Makes a problem of an error, unless the whole drill ends with it.
    fn failed(&mut self, subject: &str, error: OpError) -> Result<(), OpError> {
        if matches!(error, OpError::Interrupted) || self.interrupted() {
            return Err(OpError::Interrupted);
        }
        self.record.damaged |= matches!(
            error,
            OpError::Repository(RepositoryError::Damaged { .. } | RepositoryError::MissingChunk(_))
        );
        let said = in_words(&error);
        self.record.problems.push(match said.contains(subject) {
            true => said,
            false => format!("{subject}: {said}"),
        });
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    fn stream(
        &mut self,
        stream: &StreamRecord,
        drilled: &mut DrilledStream,
    ) -> Result<(), OpError> {
        let dump = Dump {
            repository: self.repository,
            snapshot: self.snapshot,
            stream,
            interrupted: &self.options.interrupted,
        };
        let Some(kind) = kind_of(stream) else {
            drilled.notes.push("no known dump: read and verified".to_owned());
            let mut sink = Sink(&self.options.interrupted);
            return cat(dump.repository, dump.snapshot, stream.name.as_bytes(), &mut sink)
                .map(drop);
        };
        if !self.engines.contains_key(&kind) {
            let engine = self.start(kind)?;
            self.engines.insert(kind, engine);
        }
        let Some(engine) = self.engines.get_mut(&kind) else { return Ok(()) };
        let database = database_of(stream);
        drilled.server = Some(engine.version());
        let brought = engine.restore(&dump, &database)?;
        drilled.notes.extend(brought.notes);
        if stream.format.as_deref() == Some(ROLES) {
            return Ok(());
        }
        let name = &stream.name;
        self.record.problems.extend(brought.errors.iter().map(|said| format!("{name}: {said}")));
        let tables = stream.rows.as_ref();
        let names = tables.map(|rows| rows.keys().map(String::as_str).collect());
        let counted = engine.count(&database, names)?;
        compare(stream, &counted, drilled, &mut self.record.problems);
        if let Some(origin) = stream.origin.as_ref().filter(|origin| !origin.counted.is_empty()) {
            let mut wrong = differences(&origin.counted, &engine.census(&database));
            let more = wrong.len().saturating_sub(NAMED_TABLES);
            wrong.truncate(NAMED_TABLES);
            self.record.problems.extend(wrong.iter().map(|said| format!("{name}: {said}")));
            if more > 0 {
                self.record.problems.push(format!("{name}: {more} more counts differ"));
            }
        }
        for query in self.job.drill.queries.iter().filter(|query| is_about(query, stream)) {
            let answer = engine.query(&database, &query.query);
            let drilled = judge(query, answer, &mut self.record.problems);
            self.record.queries.push(drilled);
        }
        engine.remove(&database)
    }

    fn start(&self, kind: Kind) -> Result<Box<dyn Engine>, OpError> {
        let interrupted = Arc::clone(&self.options.interrupted);
        let programs = self.job.streams.iter().find_map(|stream| match (kind, stream) {
            (Kind::Postgresql, StreamConfig::Postgresql(server)) => server.programs.clone(),
            (Kind::Mariadb, StreamConfig::Mariadb(server)) => server.programs.clone(),
            _ => None,
        });
        Ok(match kind {
            Kind::Postgresql => {
                Box::new(postgresql::Server::start(self.scratch, programs, interrupted)?)
            }
            Kind::Mariadb => Box::new(mariadb::Server::start(self.scratch, programs, interrupted)?),
            Kind::Sqlite => Box::new(sqlite::Databases::new(self.scratch, interrupted)?),
        })
    }

    /// Queries about databases that are not in the snapshot.
    fn queries_left(&mut self) {
        for query in &self.job.drill.queries {
            let known = self.snapshot.streams.iter().any(|stream| is_about(query, stream));
            if !known {
                let database = &query.database;
                let said = format!("{database}: the snapshot holds no such database or stream");
                self.record.problems.push(said);
            }
        }
    }

    fn files(&mut self) -> Result<(), OpError> {
        let drill = &self.job.drill;
        let found = files::restore_sample(
            self.repository,
            self.snapshot,
            drill,
            &files::Place {
                target: self.scratch.path().join("files"),
                threads: self.options.threads,
                interrupted: Arc::clone(&self.options.interrupted),
            },
        );
        match found {
            Ok(found) => {
                self.record.files = found.files;
                self.record.damaged |= found.damaged;
                self.record.problems.extend(found.problems);
                Ok(())
            }
            Err(error) => self.failed("files", error),
        }
    }
}

fn kind_of(stream: &StreamRecord) -> Option<Kind> {
    match (stream.format.as_deref(), stream.origin.as_ref().map(|origin| origin.kind.as_str())) {
        (Some("pg_dump" | "pg_dumpall"), _) => Some(Kind::Postgresql),
        (Some("mariadb-dump" | "mysqldump"), _) => Some(Kind::Mariadb),
        (_, Some("sqlite")) => Some(Kind::Sqlite),
        _ => None,
    }
}

/// The name that a dump's database gets: its own, since what is in it may say it.
fn database_of(stream: &StreamRecord) -> String {
    let named = stream.origin.as_ref().and_then(|origin| origin.database.clone());
    named.unwrap_or_else(|| stream.name.clone())
}

fn is_about(query: &DrillQuery, stream: &StreamRecord) -> bool {
    let database = stream.origin.as_ref().and_then(|origin| origin.database.as_deref());
    query.database == stream.name || database == Some(&*query.database)
}

/// Compares what was counted with what passed when the dump was made.
fn compare(
    stream: &StreamRecord,
    counted: &Counted,
    drilled: &mut DrilledStream,
    problems: &mut Vec<String>,
) {
    let mut wrong = Vec::new();
    for (table, rows) in counted {
        let expected = stream.rows.as_ref().and_then(|rows| rows.get(table));
        match (rows, expected) {
            (Ok(rows), Some(expected)) if rows != expected => {
                wrong.push(format!("table {table} has {rows} rows, its dump {expected}"));
            }
            (Err(said), _) => wrong.push(format!("table {table}: {said}")),
            _ => {}
        }
        drilled.tables += 1;
        drilled.rows += rows.as_ref().copied().unwrap_or(0);
        drilled.compared += u64::from(expected.is_some());
    }
    let more = wrong.len().saturating_sub(NAMED_TABLES);
    wrong.truncate(NAMED_TABLES);
    problems.extend(wrong.iter().map(|said| format!("{}: {said}", stream.name)));
    if more > 0 {
        problems.push(format!("{}: {more} more tables differ", stream.name));
    }
}

fn judge(
    query: &DrillQuery,
    answer: Result<Vec<String>, OpError>,
    problems: &mut Vec<String>,
) -> DrilledQuery {
    let wrong = match &answer {
        Err(error) => Some(in_words(error)),
        Ok(rows) => match (&query.expected, rows.first()) {
            (_, None) => Some("it gives no row".to_owned()),
            (Expected::Row, Some(_)) => None,
            (Expected::Value(value), Some(row)) => {
                (row != value).then(|| format!("it gives {row:?}, not {value:?}"))
            }
            (Expected::AtLeast(least), Some(row)) => match row.trim().parse::<f64>() {
                #[expect(clippy::cast_precision_loss, reason = "far below that precision")]
                Ok(number) if number >= *least as f64 => None,
                _ => Some(format!("it gives {row:?}, which is not {least} or more")),
            },
        },
    };
    let (database, text) = (query.database.clone(), query.query.clone());
    let ok = wrong.is_none();
    problems.extend(wrong.map(|wrong| format!("{database}: {text}: {wrong}")));
    let answer = answer.ok().and_then(|rows| rows.into_iter().next());
    DrilledQuery { database, query: text, answer, ok }
}

/// An error and its causes on one line, and what a program had to say last.
fn in_words(error: &OpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let OpError::Stream(StreamFailure { stderr_tail, .. }) = error {
        for line in stderr_tail {
            text.push_str(&format!(" | {line}"));
        }
    }
    text
}

/// Takes everything, until the caller wishes to stop.
struct Sink<'a>(&'a AtomicBool);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("interrupted")),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
