//! PostgreSQL: plain dumps by `pg_dump`, roles and tablespaces by `pg_dumpall`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::tool::{ask, check_secret, failure, first_line, names, program};
use super::{Surroundings, census};
use crate::event::{Event, Observer};
use crate::format::path::printable;
use crate::format::snapshot::StreamOrigin;
use crate::job::config::{Databases, PostgresqlConfig};
use crate::ops::OpError;
use crate::ops::program::Program;
use crate::ops::snapshot::{Census, StreamInput, StreamSource};

/// What failures of the whole server are reported under.
const STREAM: &str = "postgresql";
/// An interrupted `DROP DATABASE` leaves a database that nobody can connect to, with this limit of
/// connections. PostgreSQL's own programs pass it over.
const LIST: &str = "SELECT CASE WHEN datconnlimit = -2 THEN '-' ELSE '+' END || datname \
                    FROM pg_catalog.pg_database \
                    WHERE datallowconn AND NOT datistemplate ORDER BY datname";
const USER_RELATIONS: &str = "SELECT count(*) FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_' \
    AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')";

/// The streams of a server.
pub(super) fn streams(
    server: &PostgresqlConfig,
    around: &Surroundings<'_>,
) -> Result<Vec<StreamSource>, OpError> {
    let interrupted: &AtomicBool = around.interrupted;
    check_secret(STREAM, server.pgpass.as_deref(), "pgpass")?;
    let dump = tool(server, "pg_dump", interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All { but } => all(server, but, Some(around.observer), interrupted)?,
    };
    let Some(first) = databases.first() else {
        return Err(failure(STREAM, "the server has no database that could be dumped"));
    };
    let version = version_question(server, first);
    // What a server that is down has to say, its dump will tell.
    let version = first_line(STREAM, &version, interrupted)?;
    let version = version.map(|version| format!("PostgreSQL {version}"));
    let source = |stream: String, tool: &str, database: Option<&str>, program: Program| {
        let origin = StreamOrigin {
            kind: STREAM.to_owned(),
            database: database.map(str::to_owned),
            tool: Some(tool.to_owned()),
            server: version.clone(),
            ..StreamOrigin::default()
        };
        let input = StreamInput::Program(program);
        StreamSource { origin: Some(origin), ..StreamSource::new(stream, input) }
    };
    let mut found = Vec::new();
    for database in &databases {
        let program = connect(server, "pg_dump").arg(database_argument(database));
        let mut stream = source(server.stream_of(database), &dump, Some(database), program);
        let settings = question(server, database, census::POSTGRESQL_SETTINGS);
        let answer = ask(&stream.name, &settings, interrupted);
        if let (Ok(answer), Some(origin)) = (answer, &mut stream.origin) {
            origin.settings = census::pairs(&String::from_utf8_lossy(&answer), '|');
        }
        stream.census = Some(census_of(server, database, around));
        found.push(stream);
    }
    if server.globals {
        let dumpall = tool(server, "pg_dumpall", interrupted)?;
        let program = connect(server, "pg_dumpall").arg("--globals-only");
        found.push(source(server.globals_stream(), &dumpall, None, program));
    }
    Ok(found)
}

/// Connects to each database and tells what answers.
pub(super) fn probe(
    server: &PostgresqlConfig,
    interrupted: &AtomicBool,
) -> Result<String, OpError> {
    check_secret(STREAM, server.pgpass.as_deref(), "pgpass")?;
    tool(server, "pg_dump", interrupted)?;
    let databases = match &server.databases {
        Databases::Named(databases) => databases.clone(),
        Databases::All { but } => all(server, but, None, interrupted)?,
    };
    let mut version = String::new();
    for database in &databases {
        let program = version_question(server, database);
        let answer = ask(&server.stream_of(database), &program, interrupted)?;
        version = String::from_utf8_lossy(&answer).trim().to_owned();
    }
    let shown: Vec<String> = databases.iter().map(|name| printable(name.as_bytes())).collect();
    Ok(format!("PostgreSQL {} ({})", printable(version.as_bytes()), shown.join(", ")))
}

fn version_question(server: &PostgresqlConfig, database: &str) -> Program {
    question(server, database, "SHOW server_version")
}

fn question(server: &PostgresqlConfig, database: &str, statement: &str) -> Program {
    connect(server, "psql")
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", statement])
        .arg(database_argument(database))
}

/// Asks the server what the database holds.
fn census_of(server: &PostgresqlConfig, database: &str, around: &Surroundings<'_>) -> Census {
    let (server, database) = (server.clone(), database.to_owned());
    let interrupted = Arc::clone(around.interrupted);
    Census(Box::new(move || {
        census::postgresql_census(&|statement| {
            let question = question(&server, &database, statement);
            let answer = ask(STREAM, &question, &interrupted).ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        })
    }))
}

/// The version of a program that dumps.
fn tool(
    server: &PostgresqlConfig,
    name: &str,
    interrupted: &AtomicBool,
) -> Result<String, OpError> {
    let version = program(server.programs.as_deref(), name).arg("--version");
    let version = ask(STREAM, &version, interrupted)?;
    Ok(String::from_utf8_lossy(&version).trim().to_owned())
}

fn connect(server: &PostgresqlConfig, name: &str) -> Program {
    // Never a question: nobody could answer it.
    let mut program = program(server.programs.as_deref(), name).arg("--no-password");
    for (option, value) in [
        ("--host", server.host.clone()),
        ("--port", server.port.map(|port| port.to_string())),
        ("--username", server.user.clone()),
    ] {
        if let Some(value) = value {
            program = program.arg(format!("{option}={value}"));
        }
    }
    if let Some(file) = &server.pgpass {
        program = program.env("PGPASSFILE", file);
    }
    match &server.password {
        Some(password) => program.env("PGPASSWORD", password.reveal()),
        None => program,
    }
}

/// The databases of the server but for `but`; an observer hears of those that are passed over.
fn all(
    server: &PostgresqlConfig,
    but: &[String],
    observer: Option<&dyn Observer>,
    interrupted: &AtomicBool,
) -> Result<Vec<String>, OpError> {
    let list = |database: &str| {
        let list = question(server, database, LIST).arg("--record-separator-zero");
        ask(STREAM, &list, interrupted)
    };
    // Not every server has the first, and all have the second.
    let listed = match list("postgres") {
        Err(OpError::Stream(first)) => list("template1").map_err(|_| OpError::Stream(first))?,
        listed => listed?,
    };
    let mut found = Vec::new();
    for name in names(STREAM, listed, '\0')? {
        let (mark, name) = name.split_at(1);
        if but.iter().any(|left_out| left_out == name) {
            continue;
        }
        if mark == "+" {
            found.push(name.to_owned());
        } else if let Some(observer) = observer {
            let name = printable(name.as_bytes());
            observer.event(Event::Notice(format!(
                "{STREAM}: the database {name} is passed over: an interrupted DROP DATABASE left \
                 it invalid (drop it again)"
            )));
        }
    }
    Ok(found)
}

/// The argument that names a database, whatever is in its name: a bare name that looks like a list
/// of parameters would be taken for one.
pub(in crate::job) fn database_argument(database: &str) -> String {
    let mut argument = "--dbname=dbname='".to_owned();
    for c in database.chars() {
        if matches!(c, '\'' | '\\') {
            argument.push('\\');
        }
        argument.push(c);
    }
    argument + "'"
}

/// psql, about to read a dump that [`PsqlScript`](super::PsqlScript) gives it into `database`. Where
/// the server is, the usual variables say (`PGHOST`, `PGPORT`, `PGUSER`, `PGPASSFILE`).
pub fn psql(database: &str) -> Program {
    Program::new("psql")
        .args(["--no-psqlrc", "--quiet", "--no-password"])
        .args(["--set", "ON_ERROR_STOP=1", "--output", "/dev/null"])
        .arg(database_argument(database))
}

/// Whether psql can be kept from running commands that are in a dump.
///
/// # Errors
/// When there is no psql.
pub fn psql_can_be_restricted(interrupted: &AtomicBool) -> Result<bool, OpError> {
    let help = ask("psql", &Program::new("psql").arg("--help=commands"), interrupted)?;
    Ok(knows_restrict(&String::from_utf8_lossy(&help)))
}

/// Whether psql's list of its commands has the restricted mode of August 2025.
pub(in crate::job) fn knows_restrict(help: &str) -> bool {
    help.contains("\\restrict ")
}

/// What to do about a psql that does not.
pub const OLD_PSQL: &str = "install the last release of the PostgreSQL client that you have (13.22, \
    14.19, 15.14, 16.10, 17.6 or later)";

/// Whether there is anything of users in `database`, found as [`psql`] finds it.
///
/// # Errors
/// When the server cannot be asked.
pub fn has_user_tables(database: &str, interrupted: &AtomicBool) -> Result<bool, OpError> {
    let count = Program::new("psql")
        .args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align"])
        .args(["--command", USER_RELATIONS])
        .arg(database_argument(database));
    let answer = ask(database, &count, interrupted)?;
    match String::from_utf8_lossy(&answer).trim().parse::<u64>() {
        Ok(count) => Ok(count > 0),
        Err(_) => Err(failure(database, "psql did not tell how many tables there are")),
    }
}

/// The encoding of `database`, found as [`psql`] finds it.
///
/// # Errors
/// When the server cannot be asked.
pub fn postgresql_encoding(database: &str, interrupted: &AtomicBool) -> Result<String, OpError> {
    let question = Program::new("psql")
        .args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align"])
        .args(["--command", "SHOW server_encoding"])
        .arg(database_argument(database));
    let answer = ask(database, &question, interrupted)?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::config::Secret;

    #[test]
    fn no_name_of_a_database_is_taken_for_parameters() {
        assert_eq!(database_argument("a b"), "--dbname=dbname='a b'");
        assert_eq!(database_argument("x' host='h\\"), "--dbname=dbname='x\\' host=\\'h\\\\'");
    }

    #[test]
    fn the_password_file_is_a_variable_and_never_an_argument() {
        let server = PostgresqlConfig {
            databases: Databases::All { but: Vec::new() },
            host: Some("h".into()),
            port: Some(1),
            user: Some("u".into()),
            globals: false,
            pgpass: Some("/secret/pgpass".into()),
            password: Some(Secret::new("very-secret".into())),
            programs: Some("/opt/pg/bin".into()),
            prefix: String::new(),
        };
        let program = connect(&server, "pg_dump");
        assert_eq!(program.program, "/opt/pg/bin/pg_dump");
        assert_eq!(program.args, ["--no-password", "--host=h", "--port=1", "--username=u"]);
        let variables: [(std::ffi::OsString, std::ffi::OsString); 2] = [
            ("PGPASSFILE".into(), "/secret/pgpass".into()),
            ("PGPASSWORD".into(), "very-secret".into()),
        ];
        assert_eq!(program.env, variables);
        assert!(!format!("{program:?}").contains("secret"), "{program:?}");
    }
}
