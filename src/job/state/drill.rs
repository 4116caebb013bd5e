//! What is remembered of drills: the evidence of the last one, and where a scratch folder may have
//! been left behind.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{StateError, StateFolder, replace};

/// What a drill found out. Times are seconds since 1970 by the machine's clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillRecord {
    /// When it began.
    pub started: i64,
    /// When it ended.
    pub ended: i64,
    /// Whether everything was as it should be.
    pub ok: bool,
    /// The snapshot, if it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The time that the snapshot is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<i64>,
    /// What was wrong, one line each.
    pub problems: Vec<String>,
    /// Whether damage in the repository is among it.
    #[serde(default)]
    pub damaged: bool,
    /// What became of each stream.
    pub streams: Vec<DrilledStream>,
    /// What the restored databases answered.
    pub queries: Vec<DrilledQuery>,
    /// What became of the files.
    pub files: DrilledFiles,
}

/// What became of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrilledStream {
    /// Its name.
    pub stream: String,
    /// What it was restored into; nothing for a stream that was only read and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Plain bytes.
    pub bytes: u64,
    /// How long restoring and counting took.
    pub seconds: f64,
    /// Tables that were counted.
    pub tables: u64,
    /// Their rows together.
    pub rows: u64,
    /// How many of the tables were compared with what was counted when they were dumped.
    pub compared: u64,
    /// What is worth knowing and no problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a restored database answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrilledQuery {
    /// The database.
    pub database: String,
    /// The question.
    pub query: String,
    /// The first row of the answer.
    pub answer: Option<String>,
    /// Whether it is right.
    pub ok: bool,
}

/// What became of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrilledFiles {
    /// Restored and compared with the snapshot.
    pub restored: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chosen, but too large.
    pub too_large: u64,
    /// Required by the job and found.
    pub required: u64,
}

impl DrillRecord {
    /// How it ended, in a few words.
    pub fn verdict(&self) -> String {
        match &self.problems[..] {
            [] if self.ok => "all as it should be".to_owned(),
            [] => "it failed".to_owned(),
            [one] => one.clone(),
            [first, more @ ..] => format!("{first}; and {} more", more.len()),
        }
    }
}

impl StateFolder {
    /// The last drill of `job`, if there was one.
    ///
    /// # Errors
    /// When there is something that cannot be read or understood.
    pub fn last_drill(&self, job: &str) -> Result<Option<DrillRecord>, StateError> {
        self.read_json(&self.file(job, "drill"))
    }

    /// The last drill of `job` without a problem, if there was one.
    ///
    /// # Errors
    /// When there is something that cannot be read or understood.
    pub fn last_good_drill(&self, job: &str) -> Result<Option<DrillRecord>, StateError> {
        self.read_json(&self.file(job, "good-drill"))
    }

    /// Remembers a drill of `job`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_drill(&self, job: &str, drill: &DrillRecord) -> Result<(), StateError> {
        self.write_json(&self.file(job, "drill"), drill)?;
        if drill.ok {
            self.write_json(&self.file(job, "good-drill"), drill)?;
        }
        Ok(())
    }

    /// Remembers that the drill of `job` is about to make the scratch folder `path`, so that the
    /// next one can remove it if this one cannot.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember_scratch(&self, job: &str, path: &std::path::Path) -> Result<(), StateError> {
        self.make()?;
        let file = self.file(job, "scratch");
        replace(&file, path.as_os_str().as_encoded_bytes())
            .map_err(|source| self.error("write", &file, source))
    }

    /// The scratch folder that the last drill of `job` made, whether or not it is still there.
    pub fn remembered_scratch(&self, job: &str) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let bytes = std::fs::read(self.file(job, "scratch")).ok()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(bytes))).filter(|path| path.is_absolute())
    }

    /// Forgets the scratch folder of `job`, which is gone.
    ///
    /// # Errors
    /// When the folder of the state cannot be changed.
    pub fn forget_scratch(&self, job: &str) -> Result<(), StateError> {
        let path = self.file(job, "scratch");
        #[expect(clippy::disallowed_methods, reason = "no object of a repository")]
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.error("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}
