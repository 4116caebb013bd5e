//! Setting a job up: what the machine shows of the systems that are to be kept, and the
//! configuration file that answers make. Nothing is looked at here: the caller brings the texts.

mod found;
mod text;

use std::path::{Path, PathBuf};

use super::config::{
    AiidaConfig, ConfigError, Configuration, Keep, KeyPlace, MountLinks, StreamConfig,
};
use super::schedule::Schedule;
use crate::storage::Place;

pub use found::{FoundAiida, FoundLinkahead, backup_folder, linkahead, pgpass_databases, profiles};

/// What was answered: one repository and one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Where the repository is.
    pub repository: Place,
    /// The shell command in place of `ssh`, if there is one.
    pub ssh_command: Option<String>,
    /// What opens it; nothing for one that is not encrypted.
    pub key: Option<KeyPlace>,
    /// The job's name.
    pub job: String,
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// What is done about links that lead out of the files.
    pub mount_links: Option<MountLinks>,
    /// Profiles of AiiDA.
    pub aiida: Vec<AiidaConfig>,
    /// Databases.
    pub streams: Vec<StreamConfig>,
    /// When it runs.
    pub schedule: Schedule,
    /// What is kept.
    pub keep: Keep,
    /// Who is told of failures.
    pub mail: Option<String>,
    /// Stored bytes that are verified after each run, as the file writes them.
    pub check_budget: Option<String>,
}

impl Answers {
    /// The text of the configuration file, and what it means.
    ///
    /// # Errors
    /// When an answer is nothing that the file may say, in the words in which the file would be
    /// refused.
    pub fn configuration(&self, file: &Path) -> Result<(String, Configuration), ConfigError> {
        let text = text::of(self);
        let configuration = Configuration::parse(&text, file, None)?;
        Ok((text, configuration))
    }
}

#[cfg(test)]
#[path = "setup/tests.rs"]
mod tests;
