//! The SQLite catalogue: which segments and packs are known, one row for each pack with its whole
//! footer, so that adding a hundred thousand chunks is a few rows and not a hundred thousand.
//!
//! Every footer carries a keyed checksum made with the repository's key: a row that was damaged,
//! or put there by somebody else, is not believed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::known::PackToKnow;
use crate::id::{ChunkId, PackId, RepositoryId, SegmentId};

const SCHEMA_VERSION: u32 = 3;

/// Trees of which it is known what was seen of their folders. The parent of a next snapshot is
/// nearly always among the newest ones of its sources.
const MAX_SEEN: u32 = 16;

/// Longest that a statement waits for another process, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 30_000;

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE segment (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE listed (segment BLOB, pack BLOB, PRIMARY KEY (segment, pack)) WITHOUT ROWID;
    CREATE TABLE pack (
        no INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        len INTEGER NOT NULL,
        chunks INTEGER NOT NULL,
        footer BLOB NOT NULL,
        check_value BLOB NOT NULL
    );
    CREATE TABLE run (name TEXT PRIMARY KEY, last_pack INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE seen (
        no INTEGER PRIMARY KEY AUTOINCREMENT,
        root BLOB NOT NULL UNIQUE,
        folders BLOB NOT NULL,
        check_value BLOB NOT NULL
    );
";

/// Why the catalogue cannot be used. Always cured by setting it aside and making it anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogueError {
    /// SQLite failed.
    #[error("SQLite: {0}")]
    Sqlite(rusqlite::Error),
    /// It belongs to another repository, or another version of this program.
    #[error("it is not the catalogue of this repository")]
    Foreign,
    /// A row does not carry the checksum that it should.
    #[error("a row is damaged")]
    Damaged,
}

impl From<rusqlite::Error> for CatalogueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A pack as the catalogue knows it, without its footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRow {
    /// The catalogue's own number: small, never used twice.
    pub(super) no: u32,
    /// The pack.
    pub(super) id: PackId,
    /// Its stored length, in bytes.
    pub(super) len: u64,
    /// How many chunks it holds.
    pub(super) chunks: u32,
}

/// An open catalogue.
pub(super) struct Catalogue {
    db: Connection,
    check_key: zeroize::Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Catalogue")
    }
}

impl Catalogue {
    /// Opens the catalogue at `path`, or makes it.
    pub(super) fn open(
        path: &Path,
        repository: RepositoryId,
        check_key: &[u8; 32],
    ) -> Result<Self, CatalogueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        // The catalogue is derived: after a power failure an older state is as good as none lost.
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "cell_size_check", true)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.pragma_update(None, "cache_size", -4096)?;
        let mut catalogue = Self { db, check_key: zeroize::Zeroizing::new(*check_key) };
        catalogue.prepare(repository)?;
        Ok(catalogue)
    }

    fn prepare(&mut self, repository: RepositoryId) -> Result<(), CatalogueError> {
        let version = |db: &Connection| -> Result<u32, rusqlite::Error> {
            db.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        if version(&self.db)? == 0 {
            let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have been first.
            if version(&change)? == 0 {
                change.execute_batch(SCHEMA)?;
                change.execute(
                    "INSERT INTO meta VALUES ('repository', ?1)",
                    params![&repository.0[..]],
                )?;
                change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            change.commit()?;
        }
        let owner: Option<Vec<u8>> = self
            .db
            .query_row("SELECT value FROM meta WHERE key = 'repository'", [], |row| row.get(0))
            .optional()?;
        if version(&self.db)? != SCHEMA_VERSION || owner.as_deref() != Some(&repository.0[..]) {
            return Err(CatalogueError::Foreign);
        }
        Ok(())
    }

    fn check_value(&self, id: &PackId, len: u64, footer: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.check_key);
        hasher.update(&id.0).update(&len.to_le_bytes()).update(footer);
        *hasher.finalize().as_bytes()
    }

    /// Puts what is in the log into the file, which is otherwise done in the end.
    pub(super) fn settle(&self) -> Result<(), CatalogueError> {
        Ok(self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// All packs, by number.
    pub(super) fn packs(&self) -> Result<Vec<PackRow>, CatalogueError> {
        let mut query = self.db.prepare("SELECT no, id, len, chunks FROM pack ORDER BY no")?;
        let rows = query.query_map([], |row| {
            Ok(PackRow {
                no: row.get(0)?,
                id: PackId(row.get(1)?),
                len: row.get(2)?,
                chunks: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All segments that were taken in.
    pub(super) fn segments(&self) -> Result<Vec<SegmentId>, CatalogueError> {
        let mut query = self.db.prepare("SELECT id FROM segment")?;
        let rows = query.query_map([], |row| Ok(SegmentId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All packs that segments list, whether they are there or not.
    pub(super) fn listed(&self) -> Result<Vec<PackId>, CatalogueError> {
        let mut query = self.db.prepare("SELECT DISTINCT pack FROM listed")?;
        let rows = query.query_map([], |row| Ok(PackId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The encoded footer of a pack.
    pub(super) fn footer(&self, pack: &PackRow) -> Result<Vec<u8>, CatalogueError> {
        let mut query =
            self.db.prepare_cached("SELECT footer, check_value FROM pack WHERE no = ?1")?;
        let (footer, check): (Vec<u8>, Vec<u8>) =
            query.query_row([pack.no], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if check != self.check_value(&pack.id, pack.len, &footer) {
            return Err(CatalogueError::Damaged);
        }
        Ok(footer)
    }

    /// Takes packs in, all or none; those already known keep their number. Notes `segment`, which
    /// lists some, as taken in with them. Returns the rows in the order of `packs`.
    pub(super) fn add(
        &mut self,
        segment: Option<(SegmentId, &[PackId])>,
        packs: &[PackToKnow<'_>],
    ) -> Result<Vec<PackRow>, CatalogueError> {
        let checks: Vec<[u8; 32]> =
            packs.iter().map(|(id, len, _, footer)| self.check_value(id, *len, footer)).collect();
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut rows = Vec::with_capacity(packs.len());
        for ((id, len, chunks, footer), check) in packs.iter().zip(checks) {
            change
                .prepare_cached(
                    "INSERT INTO pack (id, len, chunks, footer, check_value)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
                )?
                .execute(params![&id.0[..], len, chunks, footer, &check[..]])?;
            let no = change
                .prepare_cached("SELECT no FROM pack WHERE id = ?1")?
                .query_row([&id.0[..]], |row| row.get(0))?;
            rows.push(PackRow { no, id: *id, len: *len, chunks: *chunks });
        }
        if let Some((segment, listed)) = segment {
            change.execute("INSERT OR IGNORE INTO segment VALUES (?1)", [&segment.0[..]])?;
            let mut note = change.prepare("INSERT OR IGNORE INTO listed VALUES (?1, ?2)")?;
            for pack in listed {
                note.execute([&segment.0[..], &pack.0[..]])?;
            }
        }
        change.commit()?;
        Ok(rows)
    }

    /// Drops what the repository no longer has.
    pub(super) fn forget(
        &mut self,
        packs: &[u32],
        segments: &[SegmentId],
    ) -> Result<(), CatalogueError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for no in packs {
            change.execute("DELETE FROM pack WHERE no = ?1", [no])?;
        }
        for segment in segments {
            change.execute("DELETE FROM segment WHERE id = ?1", [&segment.0[..]])?;
            change.execute("DELETE FROM listed WHERE segment = ?1", [&segment.0[..]])?;
        }
        change.commit()?;
        Ok(())
    }

    /// What was seen of the folders of the tree below `root`, if that was kept.
    pub(super) fn seen_folders(&self, root: &ChunkId) -> Result<Option<Vec<u8>>, CatalogueError> {
        let found: Option<(Vec<u8>, Vec<u8>)> = self
            .db
            .query_row(
                "SELECT folders, check_value FROM seen WHERE root = ?1",
                [&root.0[..]],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        match found {
            Some((folders, check)) if check != self.seen_check(root, &folders) => {
                Err(CatalogueError::Damaged)
            }
            found => Ok(found.map(|(folders, _)| folders)),
        }
    }

    /// Keeps what was seen of the folders of the tree below `root`, for the newest trees only.
    pub(super) fn keep_seen_folders(
        &self,
        root: &ChunkId,
        folders: &[u8],
    ) -> Result<(), CatalogueError> {
        let check = self.seen_check(root, folders);
        self.db.execute(
            "INSERT OR REPLACE INTO seen (root, folders, check_value) VALUES (?1, ?2, ?3)",
            params![&root.0[..], folders, &check[..]],
        )?;
        self.db
            .execute("DELETE FROM seen WHERE no <= (SELECT max(no) FROM seen) - ?1", [MAX_SEEN])?;
        Ok(())
    }

    fn seen_check(&self, root: &ChunkId, folders: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.check_key);
        hasher.update(b"seen").update(&root.0).update(folders);
        *hasher.finalize().as_bytes()
    }

    /// The id runs that belong to the catalogue, with the last pack that each covers.
    pub(super) fn runs(&self) -> Result<Vec<(String, u32)>, CatalogueError> {
        let mut query = self.db.prepare("SELECT name, last_pack FROM run ORDER BY last_pack")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let runs: Vec<(String, u32)> = rows.collect::<Result<_, _>>()?;
        // Runs are removed one day; what is removed must be a file of this cache.
        let plain = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
        if runs.iter().all(|(name, _)| plain(name)) {
            Ok(runs)
        } else {
            Err(CatalogueError::Damaged)
        }
    }

    /// Adds the run `name`, which covers packs up to `last_pack`. False when that is not so: a run
    /// covers so many already, or another process added a pack that is not `known`.
    pub(super) fn add_run(
        &mut self,
        name: &str,
        last_pack: u32,
        known: &dyn Fn(u32) -> bool,
    ) -> Result<bool, CatalogueError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let newest = newest_covered(&change)?;
        if newest.is_some_and(|newest| newest >= last_pack) {
            return Ok(false);
        }
        let uncovered: Vec<u32> = change
            .prepare("SELECT no FROM pack WHERE no > ?1 AND no <= ?2")?
            .query_map([newest.unwrap_or(0), last_pack], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if !uncovered.into_iter().all(known) {
            return Ok(false);
        }
        change.execute("INSERT INTO run VALUES (?1, ?2)", params![name, last_pack])?;
        change.commit()?;
        Ok(true)
    }

    /// Puts `name`, covering packs up to `last_pack`, in the place of the runs in `instead_of`.
    /// False when those are no longer the catalogue's runs (another process was first).
    pub(super) fn replace_runs(
        &mut self,
        instead_of: &[String],
        name: &str,
        last_pack: u32,
    ) -> Result<bool, CatalogueError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for old in instead_of {
            if change.execute("DELETE FROM run WHERE name = ?1", [old])? == 0 {
                return Ok(false);
            }
        }
        if newest_covered(&change)?.is_some_and(|newest| newest >= last_pack) {
            return Ok(false);
        }
        change.execute("INSERT INTO run VALUES (?1, ?2)", params![name, last_pack])?;
        change.commit()?;
        Ok(true)
    }
}

/// The last pack that any run covers.
fn newest_covered(db: &Connection) -> Result<Option<u32>, CatalogueError> {
    Ok(db.query_row("SELECT max(last_pack) FROM run", [], |row| row.get(0))?)
}
