//! Which databases are to be dumped, and whether they answer.

use std::path::{Path, PathBuf};

use gabion::job::config::{
    Databases, MariadbConfig, PostgresqlConfig, SqliteConfig, StreamConfig, sqlite_stream,
};
use gabion::job::database::probe;
use gabion::ops::OpError;

use super::checks;
use super::dialogue::Dialogue;
use super::machine_files::Found;
use crate::errors::Failure;
use crate::session::Session;

/// Databases of the job
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Databases")]
pub(super) struct DatabaseArgs {
    /// A PostgreSQL database, or `*` for all; may be given several times
    #[arg(long, value_name = "NAME")]
    postgresql: Vec<String>,
    /// Host of the PostgreSQL server, or the folder of its socket
    #[arg(long, value_name = "HOST", requires = "postgresql")]
    postgresql_host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT", requires = "postgresql")]
    postgresql_port: Option<u16>,
    /// Role
    #[arg(long, value_name = "ROLE", requires = "postgresql")]
    postgresql_user: Option<String>,
    /// Its password file, in the place of ~/.pgpass
    #[arg(long, value_name = "FILE", requires = "postgresql")]
    pgpass: Option<PathBuf>,
    /// A MariaDB or MySQL database, or `*` for all; may be given several times
    #[arg(long, value_name = "NAME")]
    mariadb: Vec<String>,
    /// Host of the MariaDB server
    #[arg(long, value_name = "HOST", conflicts_with = "mariadb_socket")]
    mariadb_host: Option<String>,
    /// Its socket
    #[arg(long, value_name = "FILE")]
    mariadb_socket: Option<PathBuf>,
    /// User
    #[arg(long, value_name = "USER")]
    mariadb_user: Option<String>,
    /// Option file with user and password, in the place of ~/.my.cnf
    #[arg(long, value_name = "FILE")]
    mariadb_defaults_file: Option<PathBuf>,
    /// An SQLite database; may be given several times
    #[arg(long, value_name = "FILE")]
    sqlite: Vec<PathBuf>,
    /// Do not try whether the databases answer
    #[arg(long)]
    skip_database_test: bool,
}

impl DatabaseArgs {
    fn says_where_mariadb_is(&self) -> bool {
        let user = self.mariadb_user.is_some() || self.mariadb_defaults_file.is_some();
        user || self.mariadb_host.is_some() || self.mariadb_socket.is_some()
    }

    fn is_empty(&self) -> bool {
        self.postgresql.is_empty() && self.mariadb.is_empty() && self.sqlite.is_empty()
    }
}

/// The databases that flags or answers name.
pub(super) fn ask(
    args: &DatabaseArgs,
    dialogue: &Dialogue,
    found: &Found,
    linkahead: Option<&MariadbConfig>,
) -> Result<Vec<StreamConfig>, Failure> {
    if !args.is_empty() || !dialogue.asks() {
        return given(args, linkahead);
    }
    let mut streams = Vec::new();
    let proposed = found.postgresql();
    let default = proposed.as_ref().map(|server| names_text(&server.databases));
    let names = dialogue.line(
        "PostgreSQL databases (names, * for all, - for none)",
        Some(default.as_deref().unwrap_or("-")),
    )?;
    if let Some(databases) = databases(names.split_whitespace()) {
        let proposed = proposed.unwrap_or_else(|| postgresql(Databases::All { but: Vec::new() }));
        let host = proposed.host.clone().or_else(|| found.postgresql_socket());
        streams.push(StreamConfig::Postgresql(PostgresqlConfig {
            databases,
            host: value(dialogue.line("Its host, or the folder of its socket", host.as_deref())?),
            user: value(dialogue.line("Role", proposed.user.as_deref())?),
            ..proposed
        }));
    }
    let default = linkahead.map_or("-".to_owned(), |server| names_text(&server.databases));
    let question = "MariaDB or MySQL databases (names, * for all, - for none)";
    let names = dialogue.line(question, Some(&default))?;
    if let Some(databases) = databases(names.split_whitespace()) {
        let of = linkahead.cloned().unwrap_or_else(|| mariadb(Databases::All { but: Vec::new() }));
        let options = found.mariadb_options();
        let question = "Option file with user and password (empty: ~/.my.cnf)";
        let file = value(dialogue.line(question, options.as_deref())?);
        let defaults_file = file.map(|file| checks::absolute_text(Path::new(&file))).transpose()?;
        streams.push(StreamConfig::Mariadb(MariadbConfig { databases, defaults_file, ..of }));
    }
    loop {
        let file = dialogue.line("An SQLite database (- for none)", Some("-"))?;
        if file == "-" {
            return Ok(streams);
        }
        match sqlite(Path::new(&file)) {
            Ok(database) => streams.push(database),
            Err(failure) => drop(failure.report()),
        }
    }
}

fn given(
    args: &DatabaseArgs,
    linkahead: Option<&MariadbConfig>,
) -> Result<Vec<StreamConfig>, Failure> {
    let mut streams = Vec::new();
    let path = |path: &Option<PathBuf>| path.as_deref().map(checks::absolute_text).transpose();
    if let Some(databases) = databases(args.postgresql.iter().map(String::as_str)) {
        streams.push(StreamConfig::Postgresql(PostgresqlConfig {
            host: args.postgresql_host.clone(),
            port: args.postgresql_port,
            user: args.postgresql_user.clone(),
            pgpass: path(&args.pgpass)?,
            ..postgresql(databases)
        }));
    }
    let named = databases(args.mariadb.iter().map(String::as_str)).map(mariadb);
    if let Some(server) = named.or_else(|| linkahead.cloned()) {
        let socket = path(&args.mariadb_socket)?;
        streams.push(StreamConfig::Mariadb(MariadbConfig {
            host: args.mariadb_host.clone().or(server.host).filter(|_| socket.is_none()),
            socket,
            user: args.mariadb_user.clone(),
            defaults_file: path(&args.mariadb_defaults_file)?,
            ..server
        }));
    } else if args.says_where_mariadb_is() {
        return Err(Failure::usage("it is not said which MariaDB database").hint(
            "say --mariadb NAME, or --linkahead FILE for the one that LinkAhead's server.conf names",
        ));
    }
    for file in &args.sqlite {
        streams.push(sqlite(file)?);
    }
    Ok(streams)
}

fn databases<'a>(names: impl Iterator<Item = &'a str>) -> Option<Databases> {
    let names: Vec<String> = names.filter(|name| *name != "-").map(str::to_owned).collect();
    match &names[..] {
        [] => None,
        names if names.iter().any(|name| name == "*") => Some(Databases::All { but: Vec::new() }),
        _ => Some(Databases::Named(names)),
    }
}

fn names_text(databases: &Databases) -> String {
    match databases {
        Databases::All { .. } => "*".to_owned(),
        Databases::Named(names) => names.join(" "),
    }
}

fn value(answer: String) -> Option<String> {
    Some(answer).filter(|answer| !answer.is_empty() && answer != "-")
}

fn postgresql(databases: Databases) -> PostgresqlConfig {
    PostgresqlConfig {
        databases,
        host: None,
        port: None,
        user: None,
        globals: false,
        pgpass: None,
        password: None,
        programs: None,
        prefix: String::new(),
    }
}

fn mariadb(databases: Databases) -> MariadbConfig {
    MariadbConfig {
        databases,
        defaults_file: None,
        host: None,
        port: None,
        socket: None,
        user: None,
        programs: None,
        prefix: String::new(),
    }
}

fn sqlite(file: &Path) -> Result<StreamConfig, Failure> {
    let path = checks::source(file)?;
    let stream = sqlite_stream(&path);
    Ok(StreamConfig::Sqlite(SqliteConfig { path, stream }))
}

/// Asks every database whether it answers, and returns what says so.
pub(super) fn answering(
    session: &Session,
    streams: &[StreamConfig],
    args: &DatabaseArgs,
) -> Result<Vec<String>, Failure> {
    let mut servers = Vec::new();
    if args.skip_database_test {
        return Ok(servers);
    }
    let interrupted = session.interruption()?;
    for stream in streams {
        match probe(stream, &interrupted) {
            Ok(answer) => servers.extend(answer),
            Err(error) => return Err(cure(stream, error)),
        }
    }
    Ok(servers)
}

fn cannot_start(error: &OpError) -> bool {
    matches!(error, OpError::Stream(failure) if failure.reason.starts_with("cannot start "))
}

/// A database that does not answer, with what most often helps.
fn cure(stream: &StreamConfig, error: OpError) -> Failure {
    let said = match &error {
        OpError::Stream(failure) => failure.stderr_tail.join("\n"),
        _ => String::new(),
    };
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let hint = match stream {
        StreamConfig::Postgresql(_) if cannot_start(&error) => {
            Some("install PostgreSQL's client programs (Debian: postgresql-client)".to_owned())
        }
        StreamConfig::Mariadb(_) if cannot_start(&error) => {
            Some("install MariaDB's client programs (Debian: mariadb-client)".to_owned())
        }
        _ if says(&["group or world access"]) => {
            Some("`chmod 600` the password file: PostgreSQL ignores it otherwise".to_owned())
        }
        StreamConfig::Postgresql(server)
            if says(&["no password supplied", "password authentication failed"]) =>
        {
            let file = server.pgpass.as_ref().map_or("~/.pgpass".into(), |p| p.display().to_string());
            let or = |value: &Option<String>, default: &str| {
                value.clone().unwrap_or_else(|| default.to_owned())
            };
            let (host, user) = (or(&server.host, "localhost"), or(&server.user, "ROLE"));
            let port = server.port.unwrap_or(5432);
            let name = names_text(&server.databases);
            Some(format!(
                "put the line {host}:{port}:{name}:{user}:PASSWORD into {file} and `chmod 600` it"
            ))
        }
        StreamConfig::Postgresql(_) if says(&["role "]) && says(&["does not exist"]) => {
            Some("name the role that may read it with --postgresql-user".to_owned())
        }
        StreamConfig::Mariadb(_) if says(&["Access denied"]) => Some(
            "write [client], user=USER and password=PASSWORD on three lines of a file, `chmod 600` \
             it, and name it with --mariadb-defaults-file"
                .to_owned(),
        ),
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint("is it running? --skip-database-test sets up without asking it"),
    }
}
