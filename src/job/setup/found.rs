//! What files of other systems tell: profiles of AiiDA, the destination of its old scripts,
//! LinkAhead's folder of files, and databases that PostgreSQL's password file names.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::job::config::{Databases, MariadbConfig, PostgresqlConfig};

/// A profile of AiiDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAiida {
    /// Its name.
    pub name: String,
    /// The kind of its storage, such as `core.psql_dos`.
    pub backend: String,
    /// What it is about: the name of its database, or its folder.
    pub about: String,
}

/// The profiles of AiiDA's `config.json`, by name; the default one first.
pub fn profiles(text: &str) -> Vec<FoundAiida> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        default_profile: Option<String>,
        #[serde(default)]
        profiles: std::collections::BTreeMap<String, Value>,
    }
    let Ok(file) = serde_json::from_str::<File>(text) else { return Vec::new() };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let mut found = Vec::new();
    for (name, profile) in &file.profiles {
        let (storage, config) = (profile.get("storage"), profile.pointer("/storage/config"));
        let backend = text(storage.and_then(|storage| storage.get("backend")));
        let about = ["database_name", "filepath"]
            .iter()
            .find_map(|key| text(config.and_then(|config| config.get(*key))));
        // Before version 2 of AiiDA, all stood beside each other.
        let older = text(profile.get("AIIDADB_BACKEND"));
        let Some(backend) = backend.or(older) else { continue };
        let about = about.or_else(|| text(profile.get("AIIDADB_NAME"))).unwrap_or_default();
        found.push(FoundAiida { name: name.clone(), backend, about });
    }
    found.sort_by_key(|profile| Some(&profile.name) != file.default_profile.as_ref());
    found
}

/// The destination in a `backup_info.json` of AiiDA's old scripts.
pub fn backup_folder(text: &str) -> Option<PathBuf> {
    let value: Value = serde_json::from_str(text).ok()?;
    let folder = Path::new(value.get("backup_dir")?.as_str()?);
    folder.is_absolute().then(|| folder.components().collect())
}

/// A server of LinkAhead, as its `server.conf` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLinkahead {
    /// `server.conf`.
    pub file: PathBuf,
    /// `FILE_SYSTEM_ROOT`, if it can be told where that is.
    pub files: Option<PathBuf>,
    /// Its database; without the password, which is not looked at.
    pub database: MariadbConfig,
}

/// What the text of the `server.conf` at `file` tells. Of a key that is there twice, the last one
/// counts; a path that is not absolute is below the server's folder, which holds `conf/core` and
/// `conf/ext`.
pub fn linkahead(text: &str, file: &Path) -> FoundLinkahead {
    let value = |wanted: &str| {
        let mut values = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == wanted && !value.trim().is_empty()).then_some(value.trim())
        });
        values.next_back().map(str::to_owned)
    };
    let conf = file.parent().and_then(Path::parent).filter(|conf| conf.ends_with("conf"));
    let server = conf.and_then(Path::parent);
    let files = value("FILE_SYSTEM_ROOT").map(PathBuf::from).and_then(|path| {
        let path = if path.is_absolute() { path } else { server?.join(path) };
        Some(path.components().collect())
    });
    // On the machine itself, the socket needs no name.
    let host = value("MYSQL_HOST").filter(|host| host != "localhost");
    let port = host.as_ref().and_then(|_| value("MYSQL_PORT")?.parse().ok());
    let name = value("MYSQL_DATABASE_NAME").unwrap_or_else(|| "caosdb".to_owned());
    let databases = Databases::Named(vec![name]);
    let database = MariadbConfig {
        databases,
        defaults_file: None,
        host,
        port,
        socket: None,
        user: None,
        programs: None,
        prefix: String::new(),
    };
    FoundLinkahead { file: file.to_owned(), files, database }
}

/// The databases that lines of a `.pgpass` name in full. Passwords are not looked at.
pub fn pgpass_databases(text: &str) -> Vec<PostgresqlConfig> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(pgpass_database).collect()
}

fn pgpass_database(line: &str) -> Option<PostgresqlConfig> {
    let mut fields = line.splitn(5, ':');
    let mut field = || fields.next().filter(|field| !field.contains('\\'));
    let (host, port, database, user) = (field()?, field()?, field()?, field()?);
    if database == "*" || database.is_empty() {
        return None;
    }
    let given = |field: &str| (field != "*" && !field.is_empty()).then(|| field.to_owned());
    Some(PostgresqlConfig {
        databases: Databases::Named(vec![database.to_owned()]),
        host: given(host),
        port: given(port).and_then(|port| port.parse().ok()),
        user: given(user),
        globals: false,
        pgpass: None,
        password: None,
        programs: None,
        prefix: String::new(),
    })
}
