//! MariaDB and MySQL: plain dumps of one moment, with routines, triggers and events, which the
//! tool leaves out by itself.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::tool::{ask, check_secret, failure, first_line, names, program};
use crate::format::path::printable;
use crate::format::snapshot::StreamOrigin;
use crate::job::config::{Databases, MariadbConfig};
use crate::ops::OpError;
use crate::ops::program::Program;
use crate::ops::snapshot::{StreamInput, StreamSource};

/// What failures of the whole server are reported under.
const STREAM: &str = "mariadb";
const DUMP_OPTIONS: [&str; 6] = [
    "--single-transaction",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    // Two dumps of an unchanged database are the same bytes.
    "--skip-dump-date",
];
/// What MySQL's own program needs beside these. Tablespaces it may list only for those who may see
/// all processes, and a dump that sets the server's list of transactions can be restored into a new
/// server only.
const MYSQL_OPTIONS: [&str; 2] = ["--no-tablespaces", "--set-gtid-purged=OFF"];
/// What a server keeps for itself.
const OWN: [&str; 4] = ["information_schema", "performance_schema", "sys", "mysql"];

/// The streams of a server.
pub(super) fn streams(
    server: &MariadbConfig,
    interrupted: &AtomicBool,
) -> Result<Vec<StreamSource>, OpError> {
    check_secret(STREAM, server.defaults_file.as_deref(), "defaults-file")?;
    let (dump, tool) = find(server, ["mariadb-dump", "mysqldump"], interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All => all(server, interrupted)?,
    };
    if databases.is_empty() {
        return Err(failure(STREAM, "the server has no database that could be dumped"));
    }
    // What a server that is down has to say, its dump will tell.
    let version = match find(server, ["mariadb", "mysql"], interrupted) {
        Ok((client, _)) => query(server, client, "SELECT VERSION()", interrupted)?,
        Err(OpError::Interrupted) => return Err(OpError::Interrupted),
        Err(_) => None,
    };
    let source = |database: &String| {
        let more = if is_mysqls(&tool) { &MYSQL_OPTIONS[..] } else { &[] };
        let program = connect(server, dump).args(DUMP_OPTIONS).args(more.iter().copied());
        let program = program.args(["--", database]);
        let origin = StreamOrigin {
            kind: STREAM.to_owned(),
            database: Some(database.clone()),
            tool: Some(tool.clone()),
            server: version.clone(),
        };
        let input = StreamInput::Program(program);
        StreamSource {
            origin: Some(origin),
            ..StreamSource::new(server.stream_of(database), input)
        }
    };
    Ok(databases.iter().map(source).collect())
}

/// Connects to each database and tells what answers.
pub(super) fn probe(server: &MariadbConfig, interrupted: &AtomicBool) -> Result<String, OpError> {
    check_secret(STREAM, server.defaults_file.as_deref(), "defaults-file")?;
    find(server, ["mariadb-dump", "mysqldump"], interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All => all(server, interrupted)?,
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

fn all(server: &MariadbConfig, interrupted: &AtomicBool) -> Result<Vec<String>, OpError> {
    let (client, _) = find(server, ["mariadb", "mysql"], interrupted)?;
    let list = connect(server, client).args([
        "--batch",
        "--raw",
        "--skip-column-names",
        "--execute",
        "SHOW DATABASES",
    ]);
    let mut found = names(STREAM, ask(STREAM, &list, interrupted)?, '\n')?;
    found.retain(|name| !OWN.contains(&name.as_str()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_file_comes_first() {
        let server = MariadbConfig {
            databases: Databases::All,
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
