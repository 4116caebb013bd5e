//! A MariaDB or MySQL server for one drill.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

use super::scratch::{self, Room, Scratch, failure, find, lines_of};
use super::{Brought, Counted, Dump, Engine};
use crate::job::database::{is_mysqls, mariadb_census, safe_client_options};
use crate::ops::OpError;
use crate::ops::cat_into::{Unchanged, cat_into};

/// Errors of a dump that are told; the client stops at the first.
const MAX_ERRORS: usize = 10;
/// Tables that are counted by one call.
const TABLES_AT_ONCE: usize = 100;
const OPTIONS: [&str; 8] = [
    "--no-defaults",
    "--skip-networking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--skip-log-bin",
    // What a dump schedules must not begin to work here.
    "--event-scheduler=OFF",
    "--max-allowed-packet=1G",
    "--skip-name-resolve",
];

/// What MySQL's own server needs beside these, so that it leaves everything outside its folder
/// alone.
const MYSQL_OPTIONS: [&str; 2] = ["--mysqlx=OFF", "--secure-file-priv=NULL"];

/// The server and its client.
#[derive(Debug)]
pub(super) struct Server {
    /// Ends it when dropped, before the folder goes.
    _server: scratch::Server,
    room: Room,
    client: PathBuf,
    /// Keep the client from what a dump must not do.
    safe: Vec<&'static str>,
    version: String,
    interrupted: Arc<AtomicBool>,
}

impl Server {
    /// Makes a data folder and starts a server.
    pub(super) fn start(
        scratch: &Scratch,
        programs: Option<PathBuf>,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, OpError> {
        let folder = programs.as_deref();
        let daemon = find(folder, &["mariadbd", "mysqld"]);
        let client = find(folder, &["mariadb", "mysql"]);
        let (Some(daemon), Some(client)) = (daemon, client) else { return Err(not_here()) };
        let room = scratch.room("mariadb")?;
        let mut version = room.command(&daemon);
        version.arg("--version");
        let is_mysqls = is_mysqls(&room.ask("mariadb", version, &interrupted)?);
        let mut help = room.command(&client);
        help.args(["--no-defaults", "--help"]);
        let safe = safe_client_options(&room.ask("mariadb", help, &interrupted)?);
        let data = format!("--datadir={}", room.path().join("data").display());
        let mut make = if is_mysqls {
            let mut make = room.command(&daemon);
            make.args(["--no-defaults", "--initialize-insecure"]).args(MYSQL_OPTIONS);
            make
        } else {
            let install = find(folder, &["mariadb-install-db", "mysql_install_db"]);
            let mut make = room.command(&install.ok_or_else(not_here)?);
            make.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
            make.arg("--skip-test-db");
            make
        };
        make.args(["--innodb-flush-log-at-trx-commit=0", &data]);
        room.ask("mariadb", make, &interrupted)?;
        let mut serve = room.command(&daemon);
        serve.args(OPTIONS).args(if is_mysqls { &MYSQL_OPTIONS[..] } else { &[] }).arg(data);
        serve.arg(format!("--socket={}", room.path().join("socket").display()));
        serve.arg(format!("--pid-file={}", room.path().join("pid").display()));
        serve.arg(format!("--tmpdir={}", room.path().display()));
        if !is_mysqls {
            // No file of the machine can be read or written, and no library loaded.
            let nothing = room.folder("nothing")?;
            serve.arg(format!("--secure-file-priv={}", nothing.display()));
            serve.arg(format!("--plugin-dir={}", nothing.display()));
        }
        let answers = || {
            let mut ask = connect(&room, &client);
            ask.args(["--execute", "SELECT 1"]);
            room.ask("mariadb", ask, &interrupted).is_ok()
        };
        // It is one process, and nothing of it is to be kept.
        let server = room.serve(serve, Signal::KILL, &interrupted, answers)?;
        let version = String::new();
        let mut made = Self { _server: server, room, client, safe, version, interrupted };
        made.version = made.ask("", "SELECT VERSION()", false)?.trim().to_owned();
        Ok(made)
    }

    fn ask(&self, database: &str, statements: &str, force: bool) -> Result<String, OpError> {
        let mut client = connect(&self.room, &self.client);
        client.args(["--batch", "--skip-column-names", "--execute", statements]);
        client.arg(format!("--database={database}"));
        match force {
            true => {
                client.arg("--force");
                self.room.answer(database, client, &self.interrupted)
            }
            false => self.room.ask(database, client, &self.interrupted),
        }
    }
}

impl Engine for Server {
    fn version(&self) -> String {
        let name = if is_mysqls(&self.version) { "MySQL" } else { "MariaDB" };
        format!("{name} {}", self.version)
    }

    fn restore(&mut self, dump: &Dump<'_>, database: &str) -> Result<Brought, OpError> {
        let settings = dump.stream.origin.as_ref().map(|origin| &origin.settings);
        let mut create = format!("CREATE DATABASE {}", quoted(database));
        for (name, clause) in [("character-set", "CHARACTER SET"), ("collation", "COLLATE")] {
            let plain = |text: &&String| {
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            let value = settings.and_then(|settings| settings.get(name)).filter(plain);
            create.extend(value.map(|value| format!(" {clause} {value}")));
        }
        self.ask("", &create, false)?;
        let (stderr, said) = self.room.stderr("stderr")?;
        let mut client = connect(&self.room, &self.client);
        client.args(&self.safe);
        client.arg("--max-allowed-packet=1G").arg(format!("--database={database}"));
        client.stdout(Stdio::null()).stderr(stderr);
        let name = dump.stream.name.as_bytes();
        let done = cat_into(
            dump.repository,
            dump.snapshot,
            name,
            &mut Unchanged,
            client,
            dump.interrupted,
        );
        let (errors, _) = lines_of(&said, MAX_ERRORS, |line| line.starts_with("ERROR"));
        match done {
            Err(OpError::Stream(_)) if !errors.is_empty() => {}
            done => drop(done?),
        }
        Ok(Brought { errors: errors.into(), notes: Vec::new() })
    }

    fn count(&self, database: &str, tables: Option<Vec<&str>>) -> Result<Counted, OpError> {
        // `SHOW TABLES` shows no difference between tables with a past and without.
        let all = "SELECT table_name, table_type FROM information_schema.tables \
                   WHERE table_schema = DATABASE()";
        let all = self.ask(database, all, false)?;
        let kinds: BTreeMap<&str, &str> =
            all.lines().filter_map(|line| line.split_once('\t')).collect();
        let is_table = |kind: &str| matches!(kind, "BASE TABLE" | "SYSTEM VERSIONED");
        let tables: Vec<&str> = match tables {
            Some(tables) => tables,
            None => kinds.iter().filter(|pair| is_table(pair.1)).map(|pair| *pair.0).collect(),
        };
        let mut counted = Counted::new();
        for some in tables.chunks(TABLES_AT_ONCE) {
            let statement = |(at, table): (usize, &&str)| {
                // The rows of the past are in the dump, too.
                let past = match kinds.get(table) {
                    Some(&"SYSTEM VERSIONED") => " FOR SYSTEM_TIME ALL",
                    _ => "",
                };
                format!("SELECT {at}, COUNT(*) FROM {}{past};", quoted(table))
            };
            let statements: String = some.iter().enumerate().map(statement).collect();
            let answer = self.ask(database, &statements, true)?;
            for (at, table) in some.iter().enumerate() {
                let found = answer.lines().find_map(|line| {
                    let (number, rows) = line.split_once('\t')?;
                    (number.parse() == Ok(at)).then(|| rows.parse().ok())?
                });
                let found = found.ok_or_else(|| "it cannot be counted: it is not there".to_owned());
                counted.insert((*table).to_owned(), found);
            }
        }
        Ok(counted)
    }

    fn query(&self, database: &str, query: &str) -> Result<Vec<String>, OpError> {
        let answer = self.ask(database, query, false)?;
        Ok(answer.lines().map(|line| line.replace('\t', "|")).collect())
    }

    fn census(&self, database: &str) -> BTreeMap<String, u64> {
        mariadb_census(&|statement| self.ask(database, statement, false).ok())
    }

    fn remove(&mut self, database: &str) -> Result<(), OpError> {
        self.ask("", &format!("DROP DATABASE {}", quoted(database)), false).map(drop)
    }
}

fn not_here() -> OpError {
    failure(
        "mariadb",
        "the programs mariadb-install-db, mariadbd and mariadb (or MySQL's mysqld and mysql) are \
         not on this machine: install the server, or say with `programs` in which folder they are",
    )
}

fn connect(room: &Room, client: &std::path::Path) -> Command {
    let mut command = room.command(client);
    command.args(["--no-defaults", "--user=root"]);
    command.arg(format!("--socket={}", room.path().join("socket").display()));
    command
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
