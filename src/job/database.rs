//! Databases as sources: each becomes one stream or more, made by the database's own program, or
//! by SQLite's backup interface. No password is ever an argument or kept.

mod census;
mod mariadb;
mod option_files;
mod postgresql;
mod psql_script;
mod psql_statement;
mod sqlite;
mod tool;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(super) use census::{differences, mariadb_census, postgresql_census};
pub use mariadb::{
    MariadbPlace, mariadb_client, mariadb_has_tables, mariadb_safety, mariadb_settings,
};
pub(super) use mariadb::{is_mysqls, safe_client_options};
pub use postgresql::{
    OLD_PSQL, has_user_tables, postgresql_encoding, psql, psql_can_be_restricted,
};
pub(super) use postgresql::{database_argument, knows_restrict};
pub use psql_script::PsqlScript;
pub(super) use sqlite::back_up;
pub use sqlite::write_sqlite;

use super::config::{Job, StreamConfig};
use crate::event::Observer;
use crate::format::snapshot::StreamOrigin;
use crate::ops::OpError;
use crate::ops::snapshot::{StreamInput, StreamSource};

/// What the sources of a job may use.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// A folder for copies that are made on the way, private and empty.
    pub work: &'a Path,
    /// Set by the caller to ask for an early end.
    pub interrupted: &'a Arc<AtomicBool>,
    /// Hears what is passed over.
    pub observer: &'a dyn Observer,
}

/// Connects as a run would, and tells what answers; nothing for a command, which is not run.
///
/// # Errors
/// When a program is missing, a password file is open to others, or a database does not answer.
pub fn probe(config: &StreamConfig, interrupted: &AtomicBool) -> Result<Option<String>, OpError> {
    match config {
        StreamConfig::Postgresql(server) => postgresql::probe(server, interrupted).map(Some),
        StreamConfig::Mariadb(server) => mariadb::probe(server, interrupted).map(Some),
        StreamConfig::Sqlite(database) => sqlite::probe(database).map(Some),
        StreamConfig::Command(_) | StreamConfig::Document(_) => Ok(None),
    }
}

/// The streams of a job, in the order in which they are to run. Servers are asked for their
/// versions, and for their databases where all are wanted.
///
/// # Errors
/// When a program is missing, a password file is open to others, or a server that must be asked
/// does not answer. A server that need not be asked is found to be down by its dump.
pub fn streams(job: &Job, around: &Surroundings<'_>) -> Result<Vec<StreamSource>, OpError> {
    let mut found = Vec::new();
    for (number, config) in job.streams.iter().enumerate() {
        match config {
            StreamConfig::Postgresql(server) => {
                found.extend(postgresql::streams(server, around)?);
            }
            StreamConfig::Mariadb(server) => {
                found.extend(mariadb::streams(server, around)?);
            }
            StreamConfig::Sqlite(database) => {
                let copy = around.work.join(format!("{number}.sqlite"));
                found.push(sqlite::stream(database, copy, around.interrupted));
            }
            StreamConfig::Document(document) => {
                let bytes = std::io::Cursor::new(document.bytes.clone());
                let input = StreamInput::Reader(Box::new(bytes));
                found.push(StreamSource::new(&document.name, input));
            }
            StreamConfig::Command(command) => {
                let input = StreamInput::Command(command.command.clone());
                let origin = StreamOrigin { kind: "command".into(), ..StreamOrigin::default() };
                found.push(StreamSource {
                    allow_empty: command.allow_empty,
                    origin: Some(origin),
                    ..StreamSource::new(&command.name, input)
                });
            }
        }
    }
    Ok(found)
}
