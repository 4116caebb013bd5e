//! What files of other systems tell: profiles of AiiDA, the destination of its old scripts,
//! LinkAhead's folder of files, and databases that PostgreSQL's password file names.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::job::config::{Databases, PostgresqlConfig};

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

/// `FILE_SYSTEM_ROOT` of LinkAhead's `server.conf`; the last one counts. A path that is not
/// absolute is below the server's own folder, which is not known here.
pub fn file_system_root(text: &str) -> Option<PathBuf> {
    let mut values = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "FILE_SYSTEM_ROOT").then_some(value.trim())
    });
    let folder = Path::new(values.next_back()?);
    folder.is_absolute().then(|| folder.components().collect())
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
