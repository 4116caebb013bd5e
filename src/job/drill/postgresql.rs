//! A PostgreSQL server for one drill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

use super::scratch::{self, Room, Scratch, failure, find, lines_of};
use super::{Brought, Counted, Dump, Engine};
use crate::job::database::{OLD_PSQL, PsqlScript, knows_restrict, postgresql_census};
use crate::ops::OpError;
use crate::ops::cat::cat;
use crate::ops::cat_into::{Feed as _, cat_into};
use crate::ops::snapshot::qualified_name_len;

const USER: &str = "gabion_drill";
/// Errors of a dump that are told.
const MAX_ERRORS: usize = 10;
/// Tables that are counted by one call.
const TABLES_AT_ONCE: usize = 100;
/// Longest dump of roles that is taken into memory.
const MAX_GLOBALS: u64 = 16 << 20;
const SETTINGS: [&str; 13] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "archive_mode=off",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_messages=fatal",
    "max_connections=20",
    "autovacuum=off",
];
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    ORDER BY 1";

/// The server and its programs.
#[derive(Debug)]
pub(super) struct Server {
    /// Ends it when dropped, before the folder goes.
    _server: scratch::Server,
    room: Room,
    programs: PathBuf,
    version: String,
    interrupted: Arc<AtomicBool>,
}

impl Server {
    /// Makes a cluster and starts its server.
    pub(super) fn start(
        scratch: &Scratch,
        programs: Option<PathBuf>,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, OpError> {
        let Some(programs) = newest(programs) else {
            return Err(failure(
                "postgresql",
                "the server programs initdb, postgres and psql are not on this machine: install \
                 PostgreSQL's server, or say with `programs` in which folder they are",
            ));
        };
        let room = scratch.room("postgresql")?;
        let mut help = room.command(&programs.join("psql"));
        help.arg("--help=commands");
        if !knows_restrict(&room.ask("postgresql", help, &interrupted)?) {
            let psql = programs.join("psql").display().to_string();
            let said = format!("{psql} cannot be kept from running commands in a dump: {OLD_PSQL}");
            return Err(failure("postgresql", said));
        }
        let data = room.path().join("data");
        let mut made = Err(OpError::Interrupted);
        // Not every system has the first; the second knows only the letters of English.
        for locale in ["C.UTF-8", "C"] {
            let mut initdb = room.command(&programs.join("initdb"));
            initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--username", USER]);
            initdb.arg(format!("--locale={locale}")).arg("--pgdata").arg(&data);
            made = room.ask("postgresql", initdb, &interrupted);
            if made.is_ok() || matches!(made, Err(OpError::Interrupted)) {
                break;
            }
        }
        made?;
        let mut postgres = room.command(&programs.join("postgres"));
        postgres.arg("-D").arg(&data);
        postgres.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        postgres.arg("-c").arg(format!("unix_socket_directories={}", room.path().display()));
        let (programs_, room_) = (&programs, &room);
        let answers = || {
            let mut ask = psql(room_, programs_, "template1");
            ask.args(["--command", "SELECT 1"]);
            room_.ask("postgresql", ask, &interrupted).is_ok()
        };
        // This signal ends it at once, with all of its processes.
        let server = room.serve(postgres, Signal::QUIT, &interrupted, answers)?;
        let mut made =
            Self { _server: server, room, programs, version: String::new(), interrupted };
        made.version =
            made.ask("template1", &["SHOW server_version".to_owned()])?.trim().to_owned();
        Ok(made)
    }

    fn ask(&self, database: &str, statements: &[String]) -> Result<String, OpError> {
        let mut psql = psql(&self.room, &self.programs, database);
        psql.args(["--tuples-only", "--no-align"]);
        psql.args(statements.iter().flat_map(|statement| ["--command", statement]));
        self.room.ask(database, psql, &self.interrupted)
    }

    /// Roles, as far as they can be made here. Tablespaces are left out: they are folders of the
    /// machine, which a scratch server must not touch.
    fn globals(&self, dump: &Dump<'_>) -> Result<Brought, OpError> {
        let mut bytes = Vec::new();
        if dump.stream.bytes > MAX_GLOBALS {
            return Err(failure(&dump.stream.name, "it is too long for a dump of roles"));
        }
        cat(dump.repository, dump.snapshot, dump.stream.name.as_bytes(), &mut bytes)?;
        let statements: Vec<String> = String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| {
                ["CREATE ROLE ", "ALTER ROLE ", "GRANT "].iter().any(|w| line.starts_with(w))
            })
            .filter(|line| !line.contains(" TABLESPACE "))
            .map(str::to_owned)
            .collect();
        let mut brought = Brought::default();
        let roles = statements.iter().filter(|line| line.starts_with("CREATE ")).count();
        for some in statements.chunks(TABLES_AT_ONCE) {
            // One that cannot be made leaves its databases without an owner, and is told there.
            if let Err(OpError::Interrupted) = self.ask("template1", some) {
                return Err(OpError::Interrupted);
            }
        }
        brought.notes.push(format!("{roles} roles; no tablespaces"));
        Ok(brought)
    }
}

impl Engine for Server {
    fn version(&self) -> String {
        format!("PostgreSQL {}", self.version)
    }

    fn restore(&mut self, dump: &Dump<'_>, database: &str) -> Result<Brought, OpError> {
        if dump.stream.format.as_deref() == Some(super::ROLES) {
            return self.globals(dump);
        }
        if !matches!(database, "postgres" | "template1") {
            let settings = dump.stream.origin.as_ref().map(|origin| &origin.settings);
            let encoding = settings.and_then(|settings| settings.get("encoding"));
            let plain = |text: &&String| {
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            // The dump comes back in the encoding that it was made of. Only the locale C fits any.
            let encoding = match encoding.filter(plain) {
                Some(encoding) if encoding != "UTF8" => {
                    format!(" ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
                }
                _ => String::new(),
            };
            let create =
                format!("CREATE DATABASE {} TEMPLATE template0{encoding}", quoted(database));
            self.ask("template1", &[create])?;
        }
        let (stderr, said) = self.room.stderr("stderr")?;
        let mut psql = psql(&self.room, &self.programs, database);
        psql.args(["--quiet", "--output", "/dev/null"]).stdout(Stdio::null()).stderr(stderr);
        let name = dump.stream.name.as_bytes();
        let mut script = PsqlScript::statement_by_statement();
        let done =
            cat_into(dump.repository, dump.snapshot, name, &mut script, psql, dump.interrupted);
        let is_error = |line: &str| {
            ["ERROR:", "FATAL:", "PANIC:", "error:"].iter().any(|word| line.contains(word))
        };
        let (errors, more) = lines_of(&said, MAX_ERRORS, |l| is_error(l) && !is_harmless(l));
        let (without, more_without) =
            lines_of(&said, 0, |line| is_error(line) && is_harmless(line));
        let mut brought = Brought { errors: errors.into(), ..Brought::default() };
        let was_refused = script.refusal().is_some();
        if let (Err(OpError::Stream(_)), false, false) =
            (&done, brought.errors.is_empty(), was_refused)
        {
            // The server's own words say more than how the program ended.
        } else {
            done?;
        }
        if more > 0 {
            brought.errors.push(format!("{more} more errors"));
        }
        if without.len() + more_without > 0 {
            let count = without.len() + more_without;
            brought.notes.push(format!(
                "{count} owners, rights or tablespaces not set, which are not in the snapshot \
                 (`globals = true` takes roles)"
            ));
        }
        Ok(brought)
    }

    fn count(&self, database: &str, tables: Option<Vec<&str>>) -> Result<Counted, OpError> {
        let listed;
        let tables: Vec<&str> = match tables {
            Some(tables) => tables,
            None => {
                listed = self.ask(database, &[TABLES.to_owned()])?;
                listed.lines().collect()
            }
        };
        let (known, odd): (Vec<&str>, Vec<&str>) =
            tables.into_iter().partition(|name| qualified_name_len(name) == Some(name.len()));
        let mut counted: Counted =
            odd.iter().map(|&name| (name.to_owned(), Err("no name of a table".into()))).collect();
        for some in known.chunks(TABLES_AT_ONCE) {
            let statements: Vec<String> = some
                .iter()
                .enumerate()
                // Rows of tables that inherit are in dumps of their own.
                .map(|(at, table)| format!("SELECT {at}, count(*) FROM ONLY {table}"))
                .collect();
            let mut psql = psql(&self.room, &self.programs, database);
            psql.args(["--tuples-only", "--no-align"]);
            psql.args(statements.iter().flat_map(|statement| ["--command", statement]));
            let answer = self.room.answer(database, psql, &self.interrupted)?;
            for (at, table) in some.iter().enumerate() {
                let found = answer.lines().find_map(|line| {
                    let (number, rows) = line.split_once('|')?;
                    (number.parse() == Ok(at)).then(|| rows.parse().ok())?
                });
                let found = found.ok_or_else(|| "it cannot be counted: it is not there".to_owned());
                counted.insert((*table).to_owned(), found);
            }
        }
        Ok(counted)
    }

    fn query(&self, database: &str, query: &str) -> Result<Vec<String>, OpError> {
        let answer = self.ask(database, &[query.to_owned()])?;
        Ok(answer.lines().map(str::to_owned).collect())
    }

    fn census(&self, database: &str) -> BTreeMap<String, u64> {
        postgresql_census(&|statement| self.ask(database, &[statement.to_owned()]).ok())
    }

    fn remove(&mut self, database: &str) -> Result<(), OpError> {
        if matches!(database, "postgres" | "template1") {
            return Ok(());
        }
        self.ask("template1", &[format!("DROP DATABASE IF EXISTS {}", quoted(database))]).map(drop)
    }
}

/// psql as the server's superuser, by the socket in the room.
fn psql(room: &Room, programs: &Path, database: &str) -> Command {
    let mut psql = room.command(&programs.join("psql"));
    psql.args(["--no-psqlrc", "--no-password", "--username", USER, "--host"]).arg(room.path());
    psql.arg(super::super::database::database_argument(database));
    psql
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Roles and tablespaces belong to a cluster, not to a database's dump.
fn is_harmless(line: &str) -> bool {
    let about = ["role \"", "tablespace \""].iter().any(|what| line.contains(what));
    about && line.ends_with(" does not exist")
}

/// The folder with the programs of the newest server.
fn newest(configured: Option<PathBuf>) -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file())
    };
    if let Some(folder) = configured.filter(has_all) {
        return Some(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.filter_map(|item| {
        let version: f64 = item.file_name().to_str()?.parse().ok()?;
        Some((version, item.path().join("bin")))
    });
    let others = std::fs::read_dir("/usr").into_iter().flatten().flatten().filter_map(|item| {
        let version: f64 = item.file_name().to_str()?.strip_prefix("pgsql-")?.parse().ok()?;
        Some((version, item.path().join("bin")))
    });
    let found = debian.chain(others).filter(|(_, folder)| has_all(folder));
    let newest = found.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, folder)| folder);
    newest.or_else(|| {
        let folder = find(None, &["initdb"])?.parent()?.to_owned();
        Some(folder).filter(has_all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dump_of_one_database_lacks_is_harmless() {
        for line in [
            "psql:<stdin>:9: ERROR:  role \"aiida\" does not exist",
            "psql:<stdin>:9: ERROR:  invalid value: tablespace \"fast\" does not exist",
        ] {
            assert!(is_harmless(line), "{line}");
        }
        for line in [
            "psql:<stdin>:9: ERROR:  relation \"role\" does not exist",
            "psql:<stdin>:9: ERROR:  role \"aiida\" already exists",
        ] {
            assert!(!is_harmless(line), "{line}");
        }
    }
}
