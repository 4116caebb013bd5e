//! The tables of a job that give streams: databases and commands.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::check::programs;
use super::file::{self, Text};
use super::values::{Wrong, absolute, optional, optional_path, port, text, texts, wrong};
use super::{
    AiidaConfig, CommandConfig, Databases, MariadbConfig, Place, PostgresqlConfig, SqliteConfig,
    StreamConfig,
};
use crate::format::path;

/// What the name of a PostgreSQL database's stream ends with.
const POSTGRESQL: &str = ".pgsql";
/// What the name of a MariaDB or MySQL database's stream ends with.
const MARIADB: &str = ".mysql";
/// What the name of an SQLite database's stream ends with.
const SQLITE: &str = ".sqlite";

/// The streams of a job, in the order in which they run. Their names must differ from each other
/// and from what the paths begin with.
pub(super) fn streams(
    name: &str,
    job: &mut file::Job,
    paths: &[PathBuf],
    places: &mut Vec<Place>,
) -> Result<Vec<StreamConfig>, Wrong> {
    let mut found: Vec<(usize, StreamConfig)> = Vec::new();
    for table in job.postgresql.drain(..) {
        let at = table.span().start;
        found.push((at, StreamConfig::Postgresql(postgresql(table)?)));
    }
    for table in job.mariadb.drain(..) {
        let at = table.span().start;
        found.push((at, StreamConfig::Mariadb(mariadb(table)?)));
    }
    for table in job.sqlite.drain(..) {
        let at = table.span().start;
        let table = table.into_inner();
        let path = absolute(&table.path, "path")?;
        places.push(Place::new(name, "path", &path, table.path.span().start));
        let stream = match table.name {
            Some(name) => stream_text(name)?,
            None => sqlite_stream(&path),
        };
        found.push((at, StreamConfig::Sqlite(SqliteConfig { path, stream })));
    }
    for table in job.command.drain(..) {
        let at = table.span().start;
        let table = table.into_inner();
        found.push((
            at,
            StreamConfig::Command(CommandConfig {
                name: stream_text(table.name)?,
                command: text(table.command, "command")?,
                allow_empty: table.allow_empty,
            }),
        ));
    }
    differ(&found, paths)?;
    prefixes_differ(&found)?;
    Ok(found.into_iter().map(|(_, stream)| stream).collect())
}

/// The profiles of AiiDA of a job. What they stand for is looked up when the job runs.
pub(super) fn aiida(
    name: &str,
    job: &mut file::Job,
    home: Option<&Path>,
    places: &mut Vec<Place>,
) -> Result<Vec<AiidaConfig>, Wrong> {
    let mut found: Vec<AiidaConfig> = Vec::new();
    for table in job.aiida.drain(..) {
        let whole = Spanned::new(table.span(), ());
        let table = table.into_inner();
        let (folder, at) = match (&table.folder, home) {
            (Some(folder), _) => (absolute(folder, "folder")?, folder.span().start),
            (None, Some(home)) => (home.join(".aiida"), whole.span().start),
            (None, None) => {
                let cure = "write `folder`, that of AiiDA's configuration";
                return Err(wrong(&whole, "the user who runs this has no home folder", cure));
            }
        };
        places.push(Place::new(name, "folder", &folder, at));
        let preset = AiidaConfig {
            folder,
            profile: optional(table.profile, "profile")?,
            programs: programs(table.programs)?,
            prefix: prefix(table.prefix)?,
        };
        if found.contains(&preset) {
            return Err(wrong(&whole, "the same profile is named twice", "name it once"));
        }
        found.push(preset);
    }
    Ok(found)
}

/// Of two servers of a kind whose databases are not all known before a run, one has a prefix: both
/// may have a database of the same name.
fn prefixes_differ(found: &[(usize, StreamConfig)]) -> Result<(), Wrong> {
    let open = |stream: &StreamConfig| match stream {
        StreamConfig::Postgresql(server) => Some((
            POSTGRESQL,
            server.prefix.clone(),
            matches!(server.databases, Databases::All { .. }),
        )),
        StreamConfig::Mariadb(server) => Some((
            MARIADB,
            server.prefix.clone(),
            matches!(server.databases, Databases::All { .. }),
        )),
        _ => None,
    };
    for (number, (at, stream)) in found.iter().enumerate() {
        let Some((kind, prefix, all)) = open(stream) else { continue };
        let clash = found[..number]
            .iter()
            .filter_map(|(_, other)| open(other))
            .any(|other| other.0 == kind && other.1 == prefix && (all || other.2));
        if clash {
            let reason = "two servers of the job may have a database of the same name".to_owned();
            let cure = "give one of them a `prefix`".to_owned();
            return Err(Wrong { at: Some(*at), reason, cure: Some(cure) });
        }
    }
    Ok(())
}

/// No two streams share a name, and none has that of a path's first component.
fn differ(found: &[(usize, StreamConfig)], paths: &[PathBuf]) -> Result<(), Wrong> {
    let mut known: Vec<String> = Vec::new();
    for (at, stream) in found {
        for name in stream.stream_names() {
            let of_path = |path: &PathBuf| {
                path.components().nth(1).is_some_and(|top| top.as_os_str() == name.as_str())
            };
            let reason = if known.contains(&name) {
                format!("two streams of the job are named {name:?}")
            } else if paths.iter().any(of_path) {
                format!("the stream {name:?} has the name of a path's first folder")
            } else {
                known.push(name);
                continue;
            };
            let cure = "give one of them another `name` (a command, an SQLite file) or a `prefix`";
            return Err(Wrong { at: Some(*at), reason, cure: Some(cure.to_owned()) });
        }
    }
    Ok(())
}

/// A stream's name as a user chose it.
fn stream_text(name: Text) -> Result<String, Wrong> {
    let text = name.get_ref();
    let odd = text.contains('/') || text.chars().any(char::is_control);
    if odd || path::problem(text.as_bytes()).is_some() {
        let reason = format!("{:?} cannot name a stream", path::printable(text.as_bytes()));
        return Err(wrong(&name, reason, "use a plain file name, without slashes"));
    }
    Ok(name.into_inner())
}

/// The name of an SQLite database's stream where none is given.
pub fn sqlite_stream(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let endings = [SQLITE, ".sqlite3", ".db"];
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
    stream_name("", stem.filter(|stem| !stem.is_empty()).unwrap_or(&name), SQLITE)
}

/// The name of a database's stream: what cannot stand in a name is written as `%` and two
/// hexadecimal digits for each byte, as is the `%` itself.
pub fn stream_name(prefix: &str, database: &str, ending: &str) -> String {
    let mut name = prefix.to_owned();
    for c in database.chars() {
        if c == '/' || c == '%' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(c);
        }
    }
    name + ending
}

impl PostgresqlConfig {
    /// The stream of one of its databases.
    pub fn stream_of(&self, database: &str) -> String {
        stream_name(&self.prefix, database, POSTGRESQL)
    }

    /// The stream of roles and tablespaces.
    pub fn globals_stream(&self) -> String {
        format!("{}postgresql-globals{POSTGRESQL}", self.prefix)
    }

    /// See [`StreamConfig::stream_names`].
    pub fn stream_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.databases {
            Databases::Named(names) => names.iter().map(|name| self.stream_of(name)).collect(),
            Databases::All { .. } => Vec::new(),
        };
        if self.globals {
            names.push(self.globals_stream());
        }
        names
    }
}

impl MariadbConfig {
    /// The stream of one of its databases.
    pub fn stream_of(&self, database: &str) -> String {
        stream_name(&self.prefix, database, MARIADB)
    }

    /// See [`StreamConfig::stream_names`].
    pub fn stream_names(&self) -> Vec<String> {
        match &self.databases {
            Databases::Named(names) => names.iter().map(|name| self.stream_of(name)).collect(),
            Databases::All { .. } => Vec::new(),
        }
    }
}

fn postgresql(table: Spanned<file::Postgresql>) -> Result<PostgresqlConfig, Wrong> {
    let whole = Spanned::new(table.span(), ());
    let table = table.into_inner();
    Ok(PostgresqlConfig {
        databases: databases(&whole, table.database, table.databases, table.all, table.exclude)?,
        host: optional(table.host, "host")?,
        port: port(table.port)?,
        user: optional(table.user, "user")?,
        globals: table.globals,
        pgpass: optional_path(table.pgpass, "pgpass")?,
        password: None,
        programs: programs(table.programs)?,
        prefix: prefix(table.prefix)?,
    })
}

fn mariadb(table: Spanned<file::Mariadb>) -> Result<MariadbConfig, Wrong> {
    let whole = Spanned::new(table.span(), ());
    let table = table.into_inner();
    if let (Some(socket), Some(_)) = (&table.socket, &table.host) {
        return Err(wrong(socket, "`host` and `socket` are both given", "leave one of them"));
    }
    Ok(MariadbConfig {
        databases: databases(&whole, table.database, table.databases, table.all, table.exclude)?,
        defaults_file: optional_path(table.defaults_file, "defaults-file")?,
        host: optional(table.host, "host")?,
        port: port(table.port)?,
        socket: optional_path(table.socket, "socket")?,
        user: optional(table.user, "user")?,
        programs: programs(table.programs)?,
        prefix: prefix(table.prefix)?,
    })
}

fn prefix(written: Option<Text>) -> Result<String, Wrong> {
    written.map(stream_text).transpose().map(Option::unwrap_or_default)
}

fn databases(
    whole: &Spanned<()>,
    one: Option<Text>,
    several: Option<Spanned<Vec<Text>>>,
    all: Option<Spanned<bool>>,
    exclude: Option<Spanned<Vec<Text>>>,
) -> Result<Databases, Wrong> {
    const CURE: &str = "write one of `database`, `databases` and `all = true`";
    let all = all.filter(|all| *all.get_ref()).is_some();
    if let (Some(exclude), false) = (&exclude, all) {
        let reason = "`exclude` is for `all = true`";
        return Err(wrong(exclude, reason, "name only the databases that are wanted"));
    }
    let exclude = exclude.map(|names| texts(names.into_inner(), "exclude")).transpose()?;
    let exclude = exclude.unwrap_or_default();
    match (one, several, all) {
        (Some(name), None, false) => Ok(Databases::Named(vec![text(name, "database")?])),
        (None, Some(names), false) if !names.get_ref().is_empty() => {
            Ok(Databases::Named(texts(names.into_inner(), "databases")?))
        }
        (None, None, true) => Ok(Databases::All { but: exclude }),
        (None, _, false) => Err(wrong(whole, "it is not said which database", CURE)),
        _ => Err(wrong(whole, "it is said twice which databases are meant", CURE)),
    }
}
