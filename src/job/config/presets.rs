//! Presets of systems that are kept, and what they stand for.

use std::path::PathBuf;

/// `[[job.NAME.aiida]]`: a profile of AiiDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AiidaConfig {
    /// The folder of AiiDA's configuration, most often `~/.aiida`.
    pub folder: PathBuf,
    /// The profile; the default one otherwise.
    pub profile: Option<String>,
    /// The folder of `pg_dump` and `psql`, if not in the search path.
    pub programs: Option<PathBuf>,
    /// Stands before the names of its streams.
    pub prefix: String,
}

/// An SQLite file that names what lies in files beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexConfig {
    /// The file.
    pub file: PathBuf,
    /// The folder of what it names: files that only grow.
    pub beside: PathBuf,
}

/// A stream that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentConfig {
    /// The stream's name.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What it is, for the one who needs it.
    pub(in crate::job) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
