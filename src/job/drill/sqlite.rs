//! SQLite databases of a drill: files that are opened and looked through.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::scratch::{Scratch, failure};
use super::{Brought, Counted, Dump, Engine};
use crate::ops::OpError;
use crate::ops::cat::cat;
use crate::repo::RepositoryError;
use crate::threads::start_in;

/// How often it is looked whether the caller wishes to stop.
const TICK: Duration = Duration::from_millis(100);

/// Says that work is over when it is dropped, however that ended.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file of the database that was restored last.
#[derive(Debug)]
pub(super) struct Databases {
    file: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Databases {
    /// Makes their folder.
    pub(super) fn new(scratch: &Scratch, interrupted: Arc<AtomicBool>) -> Result<Self, OpError> {
        let folder = scratch.path().join("sqlite");
        std::fs::create_dir(&folder)
            .map_err(|error| failure("sqlite", format!("cannot make a folder: {error}")))?;
        Ok(Self { file: folder.join("database"), interrupted })
    }

    /// Runs `work` on the open database, which is ended when the caller wishes to stop.
    fn with<T>(
        &self,
        database: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, OpError> {
        let failed = |error: rusqlite::Error| failure(database, error.to_string());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags).map_err(failed)?;
        // Functions in its schema may do nothing that reaches beyond it.
        connection.execute_batch("PRAGMA trusted_schema = OFF").map_err(failed)?;
        let handle = connection.get_interrupt_handle();
        let done = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            // Ends the watch also when `work` panics.
            let over = Over(&done);
            let watch = start_in(scope, "interrupt", || {
                while !done.load(Ordering::Relaxed) {
                    if self.interrupted.load(Ordering::Relaxed) {
                        handle.interrupt();
                    }
                    std::thread::park_timeout(TICK);
                }
            });
            let watch = watch.map_err(|error| RepositoryError::Thread(error).into());
            let result = watch.and_then(|_| work(&connection).map_err(failed));
            drop(over);
            result
        });
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(OpError::Interrupted),
            false => result,
        }
    }
}

impl Engine for Databases {
    fn version(&self) -> String {
        format!("SQLite {}", rusqlite::version())
    }

    fn restore(&mut self, dump: &Dump<'_>, database: &str) -> Result<Brought, OpError> {
        let mut options = std::fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)
            .map_err(|error| failure(database, error.to_string()))?;
        cat(dump.repository, dump.snapshot, dump.stream.name.as_bytes(), &mut file)?;
        drop(file);
        let found: Vec<String> = self.with(database, |connection| {
            let mut check = connection.prepare("PRAGMA integrity_check(10)")?;
            let rows = check.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let errors = found.into_iter().filter(|line| line != "ok").collect();
        Ok(Brought { errors, notes: Vec::new() })
    }

    fn count(&self, database: &str, tables: Option<Vec<&str>>) -> Result<Counted, OpError> {
        const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' \
            AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'";
        self.with(database, |connection| {
            let listed: Vec<String> = match tables {
                Some(tables) => tables.into_iter().map(str::to_owned).collect(),
                None => {
                    let mut list = connection.prepare(TABLES)?;
                    let names = list.query_map([], |row| row.get(0))?;
                    names.collect::<Result<_, _>>()?
                }
            };
            let count = |table: String| {
                let name = table.replace('"', "\"\"");
                let query = format!("SELECT count(*) FROM \"{name}\"");
                let rows = connection.query_row(&query, [], |row| row.get::<_, u64>(0));
                (table, rows.map_err(|error| error.to_string()))
            };
            Ok(listed.into_iter().map(count).collect())
        })
    }

    fn query(&self, database: &str, query: &str) -> Result<Vec<String>, OpError> {
        self.with(database, |connection| {
            let mut statement = connection.prepare(query)?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next()? {
                let cells = (0..columns).map(|column| row.get_ref(column).map(text));
                lines.push(cells.collect::<Result<Vec<_>, _>>()?.join("|"));
            }
            Ok(lines)
        })
    }

    fn census(&self, _: &str) -> std::collections::BTreeMap<String, u64> {
        // The stream is the database itself.
        std::collections::BTreeMap::new()
    }

    fn remove(&mut self, database: &str) -> Result<(), OpError> {
        #[expect(clippy::disallowed_methods, reason = "a scratch file of our own")]
        std::fs::remove_file(&self.file).map_err(|error| failure(database, error.to_string()))
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}
