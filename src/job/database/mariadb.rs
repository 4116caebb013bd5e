//! MariaDB and MySQL: plain dumps of one moment, with routines, triggers and events, which the
//! tool leaves out by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::tool::{ask, check_secret, failure, first_line, names, program};
use super::{Surroundings, census, option_files};
use crate::event::{Event, Observer};
use crate::format::path::printable;
use crate::format::snapshot::StreamOrigin;
use crate::job::config::{Databases, MariadbConfig};
use crate::ops::OpError;
use crate::ops::program::Program;
use crate::ops::snapshot::{Census, StreamInput, StreamSource};

/// What failures of the whole server are reported under.
const STREAM: &str = "mariadb";
const DUMP_OPTIONS: [&str; 12] = [
    "--single-transaction",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    // Two dumps of an unchanged database are the same bytes.
    "--skip-dump-date",
    // Whatever option files say: all text comes back, and the dump can be read again.
    "--default-character-set=utf8mb4",
    "--set-charset",
    "--comments",
    "--create-options",
    "--quote-names",
    "--tz-utc",
];
/// The past of tables with system versioning, where server and program know how.
const HISTORY: &str = "--dump-history";
/// What MySQL's own program needs beside these. Tablespaces it may list only for those who may see
/// all processes, and a dump that sets the server's list of transactions can be restored into a new
/// server only.
const MYSQL_OPTIONS: [&str; 2] = ["--no-tablespaces", "--set-gtid-purged=OFF"];
/// How the server shows a directory in its data directory whose name no database can have.
const NO_DATABASE: &str = "#mysql50#";
/// What a server keeps for itself.
const OWN: [&str; 4] = ["information_schema", "performance_schema", "sys", "mysql"];

/// The streams of a server.
pub(super) fn streams(
    server: &MariadbConfig,
    around: &Surroundings<'_>,
) -> Result<Vec<StreamSource>, OpError> {
    let interrupted: &AtomicBool = around.interrupted;
    check_secret(STREAM, server.defaults_file.as_deref(), "defaults-file")?;
    let (dump, tool) = find(server, ["mariadb-dump", "mysqldump"], interrupted)?;
    option_files::check(STREAM, &connect(server, dump), interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All { but } => all(server, but, Some(around.observer), interrupted)?,
    };
    if databases.is_empty() {
        return Err(failure(STREAM, "the server has no database that could be dumped"));
    }
    // What a server that is down has to say, its dump will tell.
    let client = match find(server, ["mariadb", "mysql"], interrupted) {
        Ok((client, _)) => Some(client),
        Err(OpError::Interrupted) => return Err(OpError::Interrupted),
        Err(_) => None,
    };
    let version = match client {
        Some(client) => query(server, client, "SELECT VERSION()", interrupted)?,
        None => None,
    };
    let keeps_history = match &version {
        Some(version) => knows_history(version) && has_option(server, dump, interrupted)?,
        None => false,
    };
    let source = |database: &String| {
        let more = if is_mysqls(&tool) { &MYSQL_OPTIONS[..] } else { &[] };
        let more = more.iter().copied().chain(keeps_history.then_some(HISTORY));
        let program = connect(server, dump).args(DUMP_OPTIONS).args(more);
        let program = program.args(["--", database]);
        let origin = StreamOrigin {
            kind: STREAM.to_owned(),
            database: Some(database.clone()),
            tool: Some(tool.clone()),
            server: version.clone(),
            settings: settings(server, client, database, interrupted),
            ..StreamOrigin::default()
        };
        let input = StreamInput::Program(program);
        StreamSource {
            origin: Some(origin),
            census: client.map(|client| census_of(server, client, database, around)),
            ..StreamSource::new(server.stream_of(database), input)
        }
    };
    Ok(databases.iter().map(source).collect())
}

/// Connects to each database and tells what answers.
pub(super) fn probe(server: &MariadbConfig, interrupted: &AtomicBool) -> Result<String, OpError> {
    check_secret(STREAM, server.defaults_file.as_deref(), "defaults-file")?;
    let (dump, _) = find(server, ["mariadb-dump", "mysqldump"], interrupted)?;
    option_files::check(STREAM, &connect(server, dump), interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All { but } => all(server, but, None, interrupted)?,
    };
    let (client, _) = find(server, ["mariadb", "mysql"], interrupted)?;
    let mut version = String::new();
    for database in &databases {
        let program = connect(server, client)
            .args(["--batch", "--skip-column-names", "--execute", "SELECT VERSION()", "--"])
            .arg(database);
        let answer = ask(&server.stream_of(database), &program, interrupted)?;
        version = String::from_utf8_lossy(&answer).trim().to_owned();
    }
    let shown: Vec<String> = databases.iter().map(|name| printable(name.as_bytes())).collect();
    let name = if is_mysqls(&version) { "MySQL" } else { "MariaDB" };
    Ok(format!("{name} {} ({})", printable(version.as_bytes()), shown.join(", ")))
}

/// The first of two programs that is there, with its version: MariaDB renamed them, MySQL did not.
fn find<'a>(
    server: &MariadbConfig,
    candidates: [&'a str; 2],
    interrupted: &AtomicBool,
) -> Result<(&'a str, String), OpError> {
    let [first, second] = candidates;
    let version = |name: &str| program(server.programs.as_deref(), name).arg("--version");
    if let Some(found) = first_line(STREAM, &version(first), interrupted)? {
        return Ok((first, found));
    }
    let found = ask(STREAM, &version(second), interrupted)?;
    Ok((second, String::from_utf8_lossy(&found).trim().to_owned()))
}

/// Whether a version line is that of a program of MySQL's own, which lacks options of MariaDB's and
/// has others. It need not have its name in it: Debian and Ubuntu put theirs there.
pub(in crate::job) fn is_mysqls(version: &str) -> bool {
    !version.contains("MariaDB")
}

fn connect(server: &MariadbConfig, name: &str) -> Program {
    let mut program = program(server.programs.as_deref(), name);
    if let Some(file) = &server.defaults_file {
        // It counts only as the very first argument.
        let mut argument = std::ffi::OsString::from("--defaults-file=");
        argument.push(file);
        program = program.arg(argument);
    }
    for (option, value) in [
        ("--host", server.host.clone()),
        ("--port", server.port.map(|port| port.to_string())),
        ("--user", server.user.clone()),
    ] {
        if let Some(value) = value {
            program = program.arg(format!("{option}={value}"));
        }
    }
    if let Some(socket) = &server.socket {
        let mut argument = std::ffi::OsString::from("--socket=");
        argument.push(socket);
        program = program.arg(argument);
    }
    program
}

/// Whether a server of this version takes the past of its tables back.
fn knows_history(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version_number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    !is_mysqls(version) && version_number >= (10, 11)
}

/// Whether the dump program has the option for it.
fn has_option(
    server: &MariadbConfig,
    dump: &str,
    interrupted: &AtomicBool,
) -> Result<bool, OpError> {
    let help = program(server.programs.as_deref(), dump).args(["--no-defaults", "--help"]);
    let help = ask(STREAM, &help, interrupted)?;
    Ok(String::from_utf8_lossy(&help).contains(HISTORY))
}

fn question(server: &MariadbConfig, client: &str, database: &str, statement: &str) -> Program {
    connect(server, client)
        .args(["--batch", "--skip-column-names", "--execute", statement, "--"])
        .arg(database)
}

/// What the database is set to and a dump does not hold; nothing if it cannot be asked.
fn settings(
    server: &MariadbConfig,
    client: Option<&str>,
    database: &str,
    interrupted: &AtomicBool,
) -> BTreeMap<String, String> {
    let Some(client) = client else { return BTreeMap::new() };
    let question = question(server, client, database, census::MARIADB_SETTINGS);
    let answer = ask(STREAM, &question, interrupted).unwrap_or_default();
    census::pairs(&String::from_utf8_lossy(&answer), '\t')
}

/// Asks the server what the database holds.
fn census_of(
    server: &MariadbConfig,
    client: &str,
    database: &str,
    around: &Surroundings<'_>,
) -> Census {
    let (server, client, database) = (server.clone(), client.to_owned(), database.to_owned());
    let interrupted = Arc::clone(around.interrupted);
    Census(Box::new(move || {
        census::mariadb_census(&|statement| {
            let question = question(&server, &client, &database, statement);
            let answer = ask(STREAM, &question, &interrupted).ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        })
    }))
}

fn query(
    server: &MariadbConfig,
    client: &str,
    sql: &str,
    interrupted: &AtomicBool,
) -> Result<Option<String>, OpError> {
    let program =
        connect(server, client).args(["--batch", "--skip-column-names", "--execute", sql]);
    first_line(STREAM, &program, interrupted)
}

/// The databases of the server but for `but`; an observer hears of what is passed over.
fn all(
    server: &MariadbConfig,
    but: &[String],
    observer: Option<&dyn Observer>,
    interrupted: &AtomicBool,
) -> Result<Vec<String>, OpError> {
    let (client, _) = find(server, ["mariadb", "mysql"], interrupted)?;
    let list = connect(server, client).args([
        "--batch",
        "--raw",
        "--skip-column-names",
        "--execute",
        "SHOW DATABASES",
    ]);
    let mut found = names(STREAM, ask(STREAM, &list, interrupted)?, '\n')?;
    found.retain(|name| !OWN.contains(&name.as_str()) && !but.contains(name));
    let (found, odd): (Vec<String>, Vec<String>) =
        found.into_iter().partition(|name| !name.starts_with(NO_DATABASE));
    for (name, observer) in odd.iter().flat_map(|name| observer.map(|observer| (name, observer))) {
        let name = printable(name.as_bytes());
        observer.event(Event::Notice(format!(
            "{STREAM}: {name} is passed over: it is a directory beside the databases, not one of \
             them"
        )));
    }
    Ok(found)
}

/// A database that a dump is to be restored into.
#[derive(Debug, Clone, Copy)]
pub struct MariadbPlace<'a> {
    /// Its name.
    pub database: &'a str,
    /// The option file that says where it is, in the place of the usual ones.
    pub defaults: Option<&'a Path>,
}

/// The options that keep a client, whose `--help` this is, from doing what a dump must not ask for:
/// in binary mode it knows no commands of its own in what it reads but `delimiter` and `charset`,
/// it sends the server no file, and where it has a sandbox it is kept in that.
pub(in crate::job) fn safe_client_options(help: &str) -> Vec<&'static str> {
    let mut options = vec!["--binary-mode", "--local-infile=0", "--skip-named-commands"];
    if help.contains("--sandbox ") {
        options.push("--sandbox");
    }
    options
}

/// The options that keep the client from doing what a dump must not ask for.
///
/// # Errors
/// When there is no client.
pub fn mariadb_safety(interrupted: &AtomicBool) -> Result<Vec<&'static str>, OpError> {
    let help = Program::new(client_name()).args(["--no-defaults", "--help"]);
    let help = ask(STREAM, &help, interrupted)?;
    Ok(safe_client_options(&String::from_utf8_lossy(&help)))
}

/// The client, about to read a dump into `place`, which it must be given the options of
/// [`mariadb_safety`] for. It stops at the first error; what was done before stays, since these
/// servers cannot take back the making of tables.
pub fn mariadb_client(place: &MariadbPlace<'_>) -> Program {
    let mut program = Program::new(client_name());
    if let Some(file) = place.defaults {
        let mut argument = std::ffi::OsString::from("--defaults-file=");
        argument.push(file);
        program = program.arg(argument);
    }
    program
        .arg("--batch")
        .arg("--max-allowed-packet=1G")
        .arg(format!("--database={}", place.database))
}

/// MySQL has only the old name.
fn client_name() -> &'static str {
    let usual = ["/usr/bin/mariadb", "/usr/local/bin/mariadb"];
    if usual.iter().any(|path| Path::new(path).exists()) { "mariadb" } else { "mysql" }
}

/// Whether there is anything in `place`, found as [`mariadb_client`] finds it.
///
/// # Errors
/// When the server cannot be asked, or there is no such database.
pub fn mariadb_has_tables(
    place: &MariadbPlace<'_>,
    interrupted: &AtomicBool,
) -> Result<bool, OpError> {
    const COUNT: &str = "SELECT \
        (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()) + \
        (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = DATABASE()) + \
        (SELECT COUNT(*) FROM information_schema.events WHERE event_schema = DATABASE())";
    let count = mariadb_client(place).args(["--skip-column-names", "--execute", COUNT]);
    let answer = ask(place.database, &count, interrupted)?;
    match String::from_utf8_lossy(&answer).trim().parse::<u64>() {
        Ok(count) => Ok(count > 0),
        Err(_) => Err(failure(place.database, "the client did not tell how many tables there are")),
    }
}

/// What `place` is set to and a dump does not hold: its character set and collation.
///
/// # Errors
/// When the server cannot be asked.
pub fn mariadb_settings(
    place: &MariadbPlace<'_>,
    interrupted: &AtomicBool,
) -> Result<BTreeMap<String, String>, OpError> {
    let question =
        mariadb_client(place).args(["--skip-column-names", "--execute", census::MARIADB_SETTINGS]);
    let answer = ask(place.database, &question, interrupted)?;
    Ok(census::pairs(&String::from_utf8_lossy(&answer), '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_file_comes_first() {
        let server = MariadbConfig {
            databases: Databases::All { but: Vec::new() },
            defaults_file: Some("/secret/my.cnf".into()),
            host: None,
            port: Some(3307),
            socket: Some("/run/s".into()),
            user: Some("u".into()),
            programs: None,
            prefix: String::new(),
        };
        let program = connect(&server, "mariadb-dump");
        let expected =
            ["--defaults-file=/secret/my.cnf", "--port=3307", "--user=u", "--socket=/run/s"];
        assert_eq!(program.args, expected);
    }
}
