//! The configuration file as it is written: names and types, nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text and where it stands.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) repository: Spanned<Repository>,
    #[serde(default)]
    pub(super) job: BTreeMap<Text, Spanned<Job>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Repository {
    pub(super) url: Text,
    pub(super) ssh_command: Option<Text>,
    pub(super) password_command: Option<Text>,
    pub(super) password_file: Option<Text>,
    pub(super) key_file: Option<Text>,
}

/// One text or several, and where they stand.
pub(super) type Texts = Spanned<OneOrMany>;

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The texts, each with the place of all: a choice of types hides where its parts stand.
pub(super) fn list(texts: Texts) -> Vec<Text> {
    let span = texts.span();
    let texts = match texts.into_inner() {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    texts.into_iter().map(|text| Spanned::new(span.clone(), text)).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Job {
    #[serde(default)]
    pub(super) paths: Vec<Text>,
    #[serde(default)]
    pub(super) exclude: Vec<Text>,
    pub(super) exclude_file: Option<Texts>,
    #[serde(default)]
    pub(super) tags: Vec<Text>,
    #[serde(default)]
    pub(super) one_file_system: bool,
    #[serde(default)]
    pub(super) allow_empty_source: bool,
    pub(super) mount_links: Option<Text>,
    #[serde(default)]
    pub(super) allow_live_database: bool,
    #[serde(default)]
    pub(super) write_once: Vec<Text>,
    pub(super) changed_from: Option<Text>,
    pub(super) watched: Option<Spanned<bool>>,
    pub(super) full_scan_every: Option<Text>,
    pub(super) compression: Option<Spanned<i64>>,
    pub(super) host: Option<Text>,
    pub(super) schedule: Option<Text>,
    #[serde(default)]
    pub(super) postgresql: Vec<Spanned<Postgresql>>,
    #[serde(default, alias = "mysql")]
    pub(super) mariadb: Vec<Spanned<Mariadb>>,
    #[serde(default)]
    pub(super) sqlite: Vec<Spanned<Sqlite>>,
    #[serde(default)]
    pub(super) command: Vec<Spanned<Command>>,
    #[serde(default)]
    pub(super) aiida: Vec<Spanned<Aiida>>,
    pub(super) keep: Option<Spanned<Keep>>,
    pub(super) hooks: Option<Hooks>,
    pub(super) notify: Option<Spanned<super::notify::Written>>,
    pub(super) check: Option<Check>,
    pub(super) limits: Option<Limits>,
    pub(super) drill: Option<super::drill::Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Postgresql {
    pub(super) database: Option<Text>,
    pub(super) databases: Option<Spanned<Vec<Text>>>,
    pub(super) all: Option<Spanned<bool>>,
    pub(super) exclude: Option<Spanned<Vec<Text>>>,
    pub(super) host: Option<Text>,
    pub(super) port: Option<Spanned<i64>>,
    pub(super) user: Option<Text>,
    #[serde(default)]
    pub(super) globals: bool,
    pub(super) pgpass: Option<Text>,
    pub(super) programs: Option<Text>,
    pub(super) prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Mariadb {
    pub(super) database: Option<Text>,
    pub(super) databases: Option<Spanned<Vec<Text>>>,
    pub(super) all: Option<Spanned<bool>>,
    pub(super) exclude: Option<Spanned<Vec<Text>>>,
    pub(super) defaults_file: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) port: Option<Spanned<i64>>,
    pub(super) socket: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) programs: Option<Text>,
    pub(super) prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aiida {
    pub(super) folder: Option<Text>,
    pub(super) profile: Option<Text>,
    pub(super) programs: Option<Text>,
    pub(super) prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sqlite {
    pub(super) path: Text,
    pub(super) name: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Command {
    pub(super) name: Text,
    pub(super) command: Text,
    #[serde(default)]
    pub(super) allow_empty: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    pub(super) last: Option<Spanned<i64>>,
    pub(super) hourly: Option<Spanned<i64>>,
    pub(super) daily: Option<Spanned<i64>>,
    pub(super) weekly: Option<Spanned<i64>>,
    pub(super) monthly: Option<Spanned<i64>>,
    pub(super) yearly: Option<Spanned<i64>>,
    pub(super) within: Option<Text>,
    #[serde(default)]
    pub(super) tags: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hooks {
    pub(super) before: Option<Text>,
    pub(super) after: Option<Text>,
    pub(super) failed: Option<Text>,
    pub(super) finally: Option<Text>,
    pub(super) timeout: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) budget: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) time: Option<Text>,
    pub(super) wait: Option<Text>,
    pub(super) nice: Option<Spanned<i64>>,
    pub(super) ionice: Option<Text>,
    pub(super) rate: Option<Text>,
}
