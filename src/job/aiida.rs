//! Profiles of AiiDA: what one table of the configuration stands for. The database is dumped, the
//! files are taken from where the profile keeps them, and so is the profile's own entry in AiiDA's
//! configuration, without the database's password. Nothing of AiiDA's is written to.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::{
    AiidaConfig, Databases, DocumentConfig, IndexConfig, Job, PostgresqlConfig, Secret,
    SqliteConfig, StreamConfig, stream_name,
};
use crate::format::path::printable;
use crate::ops::OpError;

/// Longest configuration of AiiDA that is read.
const MAX_LEN: u64 = 16 << 20;
/// What is taken out of a profile's entry.
const SECRETS: [&str; 5] =
    ["database_password", "AIIDADB_PASS", "broker_password", "password", "rmq_password"];

/// `job` with its presets replaced by what they stand for, as AiiDA's configuration says it now.
///
/// # Errors
/// When AiiDA's configuration cannot be read, has no such profile, or one that is kept in a way
/// that is not known here, or when AiiDA has locked the profile for maintenance.
pub fn expand(job: &Job) -> Result<Cow<'_, Job>, OpError> {
    if job.aiida.is_empty() {
        return Ok(Cow::Borrowed(job));
    }
    let mut whole = job.clone();
    let mut streams = Vec::new();
    for preset in whole.aiida.drain(..) {
        let found = profile(&preset)?;
        refuse_locked(&preset.folder, &found.name)?;
        streams.extend(found.streams);
        for path in found.paths {
            if !whole.paths.contains(&path) {
                whole.paths.push(path);
            }
        }
        whole.exclude.extend(found.exclude);
        whole.indexes.extend(found.indexes);
    }
    whole.streams.splice(0..0, streams);
    Ok(Cow::Owned(whole))
}

/// The folders that `preset` stands for.
///
/// # Errors
/// As [`expand`], of a profile that is not locked.
pub fn folders(preset: &AiidaConfig) -> Result<Vec<PathBuf>, OpError> {
    profile(preset).map(|found| found.paths)
}

/// What a profile stands for.
#[derive(Debug, PartialEq)]
struct Profile {
    name: String,
    streams: Vec<StreamConfig>,
    paths: Vec<PathBuf>,
    exclude: Vec<String>,
    indexes: Vec<IndexConfig>,
}

fn refused(preset: &AiidaConfig, why: impl std::fmt::Display) -> OpError {
    let file = printable(preset.folder.join("config.json").as_os_str().as_encoded_bytes());
    OpError::Refused(format!("AiiDA's {file}: {why}"))
}

fn profile(preset: &AiidaConfig) -> Result<Profile, OpError> {
    let file = preset.folder.join("config.json");
    let read = || {
        if file.metadata()?.len() > MAX_LEN {
            return Err(std::io::Error::other("it is too long"));
        }
        std::fs::read_to_string(&file)
    };
    let text = read().map_err(|error| refused(preset, error))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| refused(preset, error))?;
    let name = match (&preset.profile, config.get("default_profile").and_then(Value::as_str)) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => return Err(refused(preset, "it has no default profile: name one")),
    };
    let entry = config.get("profiles").and_then(|profiles| profiles.get(&name));
    let Some(entry) = entry else {
        let known = config.get("profiles").and_then(Value::as_object);
        let known: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let why = format!("no profile {name:?} (it has {})", known.join(", "));
        return Err(refused(preset, why));
    };
    let mut found = from_entry(preset, &name, entry)
        .map_err(|why| refused(preset, format!("the profile {name:?} {why}")))?;
    let document = DocumentConfig {
        name: stream_name(&preset.prefix, &name, ".aiida.json"),
        bytes: document(&config, &name, entry),
    };
    found.streams.push(StreamConfig::Document(document));
    Ok(found)
}

/// The profile's part of AiiDA's configuration, without passwords.
fn document(config: &Value, name: &str, entry: &Value) -> Vec<u8> {
    let mut entry = entry.clone();
    blank(&mut entry);
    let mut whole = Map::new();
    if let Some(version) = config.get("CONFIG_VERSION") {
        whole.insert("CONFIG_VERSION".to_owned(), version.clone());
    }
    let profiles = Map::from_iter([(name.to_owned(), entry)]);
    whole.insert("profiles".to_owned(), Value::Object(profiles));
    whole.insert("default_profile".to_owned(), name.into());
    let text = serde_json::to_vec_pretty(&Value::Object(whole));
    text.expect("what was JSON is JSON")
}

fn blank(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if SECRETS.contains(&key.as_str()) && value.is_string() {
                    *value = "".into();
                } else {
                    blank(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank),
        _ => {}
    }
}

fn from_entry(preset: &AiidaConfig, name: &str, entry: &Value) -> Result<Profile, String> {
    let storage = entry.pointer("/storage/config");
    let backend = entry.pointer("/storage/backend").and_then(Value::as_str);
    let mut found = Profile {
        name: name.to_owned(),
        streams: Vec::new(),
        paths: Vec::new(),
        exclude: Vec::new(),
        indexes: Vec::new(),
    };
    match (backend, storage) {
        (Some("core.psql_dos"), Some(storage)) => {
            found.streams.push(database(
                preset,
                storage,
                "database_",
                ["hostname", "username", "password"],
            )?);
            let folder = folder(storage, "repository_uri")?;
            found.container(folder.join("container"));
            found.paths.push(folder);
        }
        (Some("core.sqlite_dos"), Some(storage)) => {
            let folder = folder(storage, "filepath")?;
            let path = folder.join("database.sqlite");
            let stream = stream_name(&preset.prefix, name, ".sqlite");
            found.streams.push(StreamConfig::Sqlite(SqliteConfig { path, stream }));
            found.container(folder.join("container"));
            found.paths.push(folder);
        }
        (Some(other), _) => return Err(format!("has the storage {other:?}, which is not known")),
        // Before version 2 of AiiDA: files in folders, one for each node.
        (None, _) if entry.get("AIIDADB_NAME").is_some() => {
            found.streams.push(database(preset, entry, "AIIDADB_", ["HOST", "USER", "PASS"])?);
            found.paths.push(folder(entry, "AIIDADB_REPOSITORY_URI")?);
        }
        (None, _) => return Err("says nothing about its storage".to_owned()),
    }
    Ok(found)
}

impl Profile {
    /// A container of the disk-objectstore, in use: what is stored is moved from `loose` into
    /// `packs`, which only grow, and `packs.idx` says where it lies there.
    fn container(&mut self, container: PathBuf) {
        let at = |name: &str| crate::source::pattern::literal(container.join(name));
        // Half-written objects; the folder itself must be there.
        self.exclude.push(format!("{}/*", at("sandbox").to_string_lossy()));
        let (file, beside) = (container.join("packs.idx"), container.join("packs"));
        self.indexes.push(IndexConfig { file, beside });
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A folder that is named by a path or a `file:` address.
fn folder(value: &Value, key: &str) -> Result<PathBuf, String> {
    let written = text(value, key).ok_or_else(|| format!("has no {key}"))?;
    let path = written.strip_prefix("file://").unwrap_or(written);
    let path: PathBuf = Path::new(path).components().collect();
    if path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
    {
        return Ok(path);
    }
    Err(format!("has a {key} that is no absolute path: {written:?}"))
}

/// The dump of a profile's database. Keys begin with `start`; `names` are those of host, user and
/// password.
fn database(
    preset: &AiidaConfig,
    value: &Value,
    start: &str,
    names: [&str; 3],
) -> Result<StreamConfig, String> {
    let key =
        |name: &str| if start.ends_with("B_") { name.to_uppercase() } else { name.to_owned() };
    let get = |name: &str| text(value, &format!("{start}{name}")).map(str::to_owned);
    let [host, user, password] = names;
    let database = get(&key("name")).ok_or("names no database")?;
    let port = match value.get(format!("{start}{}", key("port"))) {
        None | Some(Value::Null) => None,
        Some(Value::String(port)) if port.is_empty() => None,
        Some(Value::String(port)) => Some(port.parse().map_err(|_| "has an odd port")?),
        Some(port) => {
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
            Some(port.ok_or("has an odd port")?)
        }
    };
    Ok(StreamConfig::Postgresql(PostgresqlConfig {
        databases: Databases::Named(vec![database]),
        host: get(host),
        port,
        user: get(user),
        globals: false,
        pgpass: None,
        password: get(password).map(Secret::new),
        programs: preset.programs.clone(),
        prefix: preset.prefix.clone(),
    }))
}

/// Refuses a profile that AiiDA itself works on: packs are written anew then.
fn refuse_locked(folder: &Path, name: &str) -> Result<(), OpError> {
    let Ok(items) = std::fs::read_dir(folder.join("access").join(name)) else { return Ok(()) };
    for item in items.flatten() {
        let file = item.file_name();
        let Some(process) = file.to_str().and_then(|name| name.strip_suffix(".lock")) else {
            continue;
        };
        let Some(id) = process.parse().ok().and_then(rustix::process::Pid::from_raw) else {
            continue;
        };
        // A lock whose process is gone is one that was left behind.
        if rustix::process::test_kill_process(id) != Err(rustix::io::Errno::SRCH) {
            return Err(OpError::Refused(format!(
                "AiiDA's profile {name:?} is locked by its process {process}, most likely for \
                 maintenance: run the job again when that has ended"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "aiida/tests.rs"]
mod tests;
