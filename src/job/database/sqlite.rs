//! SQLite: a copy of one moment by its backup interface, whoever writes meanwhile, and never the
//! live file with its log beside it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::tool::failure;
use crate::format::path::printable;
use crate::format::snapshot::{Snapshot, StreamOrigin};
use crate::job::config::SqliteConfig;
use crate::ops::OpError;
use crate::ops::cat::cat;
use crate::ops::snapshot::{StreamInput, StreamSource};
use crate::repo::Repository;

/// Pages that are copied between two looks at whether the caller wishes to stop.
const STEP_PAGES: i32 = 1000;
/// How long another program may hold the database.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stream of a database; the copy is made at `copy` when its turn comes.
pub(super) fn stream(
    database: &SqliteConfig,
    copy: PathBuf,
    interrupted: &Arc<AtomicBool>,
) -> StreamSource {
    let origin = StreamOrigin {
        kind: "sqlite".to_owned(),
        database: Some(database.path.to_string_lossy().into_owned()),
        tool: Some(format!("SQLite {}", rusqlite::version())),
        ..StreamOrigin::default()
    };
    let interrupted = Arc::clone(interrupted);
    let reader = Later::NotYet { database: database.path.clone(), copy, interrupted };
    let input = StreamInput::Reader(Box::new(reader));
    StreamSource { origin: Some(origin), ..StreamSource::new(&database.stream, input) }
}

/// Opens the database as a run would, and tells what it is.
pub(super) fn probe(database: &SqliteConfig) -> Result<String, OpError> {
    let opened = open(&database.path, at_rest(&database.path).is_some())
        .map_err(|error| failure(&database.stream, error.to_string()))?;
    drop(opened);
    Ok(format!(
        "SQLite {} ({})",
        rusqlite::version(),
        printable(database.path.as_os_str().as_encoded_bytes())
    ))
}

/// What tells whether a database changed: inode, length, times.
type State = (u64, u64, i64, i64, i64, i64);

/// The state of a database with a log that nobody has open: nothing lies beside it. Whoever opens
/// it, if only to read, makes two files there and leaves them behind; so it is read as a file that
/// does not change, and then it is looked whether that was true.
fn at_rest(database: &Path) -> Option<State> {
    let mut head = [0; 20];
    File::open(database).ok()?.read_exact(&mut head).ok()?;
    let has_log = head[18] == 2;
    let beside = |ending: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(ending);
        Path::new(&name).symlink_metadata().is_ok()
    };
    if !has_log || beside("-wal") || beside("-shm") {
        return None;
    }
    let about = database.metadata().ok()?;
    let times = (about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec());
    Some((about.ino(), about.size(), times.0, times.1, times.2, times.3))
}

/// Opens a database to be read, at one moment: without a transaction around it a copy in steps
/// begins anew with every change, and need not end.
fn open(database: &Path, at_rest: bool) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = if at_rest {
        let mut address = String::from("file:");
        for byte in database.as_os_str().as_encoded_bytes() {
            address.push_str(&format!("%{byte:02X}"));
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(address + "?immutable=1", flags)?
    } else {
        Connection::open_with_flags(database, flags)?
    };
    source.busy_timeout(PATIENCE)?;
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(source)
}

/// A copy that is made when the first byte is asked for.
enum Later {
    NotYet { database: PathBuf, copy: PathBuf, interrupted: Arc<AtomicBool> },
    Made(File),
}

impl Read for Later {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::NotYet { database, copy, interrupted } = self {
            *self = Self::Made(back_up(database, copy, interrupted)?);
        }
        match self {
            Self::Made(file) => file.read(buffer),
            Self::NotYet { .. } => Ok(0),
        }
    }
}

/// Copies `database` to `copy` and returns that, open; its name is gone again.
pub(crate) fn back_up(database: &Path, copy: &Path, interrupted: &AtomicBool) -> io::Result<File> {
    // Made first, so that nobody else can read it for a moment.
    File::options().write(true).create_new(true).mode(0o600).open(copy)?;
    let made = fill(database, copy, interrupted).map_err(|error| match error {
        Trouble::Sqlite(error) => io::Error::other(error.to_string()),
        Trouble::Copy(error) => error,
        Trouble::Stopped => io::Error::other("interrupted"),
    });
    let opened = made.and_then(|()| File::open(copy));
    #[expect(clippy::disallowed_methods, reason = "a copy of our own, no object of a repository")]
    let removed = std::fs::remove_file(copy);
    opened.and_then(|file| removed.map(|()| file))
}

enum Trouble {
    Sqlite(rusqlite::Error),
    Copy(io::Error),
    Stopped,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn fill(database: &Path, copy: &Path, interrupted: &AtomicBool) -> Result<(), Trouble> {
    if let Some(before) = at_rest(database) {
        let filled = fill_from(database, true, copy, interrupted);
        if at_rest(database) == Some(before) || matches!(filled, Err(Trouble::Stopped)) {
            return filled;
        }
        // Somebody opened it meanwhile, so the files beside it are there anyway.
        File::options().write(true).truncate(true).open(copy).map_err(Trouble::Copy)?;
    }
    fill_from(database, false, copy, interrupted)
}

fn fill_from(
    database: &Path,
    at_rest: bool,
    copy: &Path,
    interrupted: &AtomicBool,
) -> Result<(), Trouble> {
    let source = open(database, at_rest)?;
    let mut target = Connection::open(copy)?;
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    {
        let backup = Backup::new(&source, &mut target)?;
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Writes the database that the stream `name` of `snapshot` is to the new file `path`, durably, and
/// returns its length in bytes. Nothing stays if not every byte is right.
///
/// # Errors
/// When there is such a file, it cannot be written, or the content cannot be verified.
pub fn write_sqlite(
    repository: &Repository,
    snapshot: &Snapshot,
    name: &[u8],
    path: &Path,
) -> Result<u64, OpError> {
    let failed =
        |error: io::Error| OpError::Refused(format!("cannot write {}: {error}", path.display()));
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = cat(repository, snapshot, name, &mut file)
        .and_then(|len| file.sync_all().map(|()| len).map_err(failed));
    if written.is_err() {
        #[expect(clippy::disallowed_methods, reason = "the beginning of a file of our own")]
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_with_an_open_log_does_not_spoil_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); BEGIN").unwrap();
        for number in 0..1000 {
            writer.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
        }
        writer.execute_batch("COMMIT; BEGIN; INSERT INTO t VALUES (-1)").unwrap();
        assert!(dir.path().join("live.db-wal").metadata().unwrap().len() > 0);
        let copy = dir.path().join("copy");
        let mut bytes = Vec::new();
        let mut file = back_up(&path, &copy, &AtomicBool::new(false)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(!copy.exists(), "the copy was left behind");
        let restored = dir.path().join("restored");
        #[expect(clippy::disallowed_methods, reason = "makes test data")]
        std::fs::write(&restored, &bytes).unwrap();
        let restored = Connection::open(&restored).unwrap();
        let count = |sql: &str| restored.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM t WHERE x >= 0"), 1000);
        assert_eq!(count("SELECT count(*) FROM t WHERE x < 0"), 0, "not yet committed");
        let check: String =
            restored.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }

    #[test]
    fn nothing_is_left_beside_a_database_that_nobody_uses() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("odd ?#%.db"), dir.path().join("copy"));
        let names = || {
            let names =
                std::fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        assert!(at_rest(&path).is_none());
        writer.close().unwrap();
        assert!(at_rest(&path).is_some() && names().len() == 1, "{:?}", names());
        let mut bytes = Vec::new();
        let mut file = back_up(&path, &copy, &AtomicBool::new(false)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(names().len(), 1, "{:?}", names());
        assert!(bytes.starts_with(b"SQLite format 3"));
    }

    #[test]
    fn what_is_no_database_or_not_there_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (text, copy) = (dir.path().join("text"), dir.path().join("copy"));
        #[expect(clippy::disallowed_methods, reason = "makes test data")]
        std::fs::write(&text, "no database at all, but long enough to have a header".repeat(9))
            .unwrap();
        for path in [&text, &dir.path().join("gone")] {
            assert!(back_up(path, &copy, &AtomicBool::new(false)).is_err());
            assert!(!copy.exists());
        }
        assert!(!dir.path().join("gone").exists(), "it was made by looking for it");
    }
}
