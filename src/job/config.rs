//! The configuration file: one repository and any number of jobs. What is here was checked; what
//! makes no sense is refused when the file is read, with its line and what to write instead.

mod check;
mod drill;
mod file;
mod notify;
mod presets;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use drill::{Drill, DrillQuery, Expected, Sample};
pub(in crate::job) use notify::host_of;
pub use notify::{Address, Notify, When};
pub use presets::{AiidaConfig, DocumentConfig, IndexConfig, Secret};
pub use sources::{sqlite_stream, stream_name};
pub use values::{duration_text, parse_duration};

use super::schedule::Schedule;
use crate::format::path::printable;

/// zstd's level where a job says nothing.
pub const DEFAULT_COMPRESSION: i32 = 1;
/// How long a hook may take where a job says nothing.
pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// A configuration file that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Where snapshots go.
    pub repository: RepositoryPlace,
    /// The jobs by their names.
    pub jobs: BTreeMap<String, Job>,
    file: PathBuf,
    places: Vec<Place>,
}

/// A path that a job needs, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    job: String,
    key: &'static str,
    path: PathBuf,
    line: usize,
}

impl Place {
    fn new(job: &str, key: &'static str, path: &Path, line: usize) -> Self {
        Self { job: job.to_owned(), key, path: path.to_owned(), line }
    }
}

/// `[repository]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPlace {
    /// Where it is: an absolute folder, or one of another machine.
    pub url: crate::storage::Place,
    /// The shell command in place of `ssh`, if the file says so.
    pub ssh_command: Option<String>,
    /// What opens it, if the file says so.
    pub key: Option<KeyPlace>,
}

/// Where a secret comes from; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A shell command that prints the passphrase.
    PasswordCommand(String),
    /// A file that holds the passphrase.
    PasswordFile(PathBuf),
    /// A key file.
    KeyFile(PathBuf),
}

/// `[job.NAME]`, with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Files and folders, absolute.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Files of such patterns.
    pub exclude_files: Vec<PathBuf>,
    /// Words to find the snapshots by.
    pub tags: Vec<String>,
    /// Stay on the file systems of the paths.
    pub one_file_system: bool,
    /// Whether a source may be empty of which the last complete snapshot holds files.
    pub allow_empty_source: bool,
    /// What is done about links that lead out of the paths; nothing does not look for them.
    pub mount_links: Option<MountLinks>,
    /// Take raw files of a running database although they cannot be consistent.
    pub allow_live_database: bool,
    /// Folders whose files never change once they are there; each lies in one of `paths`.
    pub write_once: Vec<PathBuf>,
    /// A shell command that lists what has changed in `paths` since the last snapshot.
    pub changed_from: Option<String>,
    /// Ask `gabion watch` what has changed.
    pub watched: bool,
    /// How old the last look at everything may be where less is asked for; `None` for no limit.
    pub full_scan_every: Option<Duration>,
    /// zstd level.
    pub compression: i32,
    /// Name of the machine, if not its own.
    pub host: Option<String>,
    /// When it is to run.
    pub schedule: Schedule,
    /// What runs before the walk, each giving one stream or more.
    pub streams: Vec<StreamConfig>,
    /// Profiles of AiiDA, until they are replaced by what they stand for.
    pub aiida: Vec<AiidaConfig>,
    /// Files that are stored as copies made between what they name before and after.
    pub indexes: Vec<IndexConfig>,
    /// Which snapshots are kept; nothing keeps all.
    pub keep: Option<Keep>,
    /// Commands around a run.
    pub hooks: Hooks,
    /// Who is told.
    pub notify: Notify,
    /// Stored bytes that are verified after each run.
    pub check_budget: Option<u64>,
    /// What a run may take.
    pub limits: Limits,
    /// What a drill does.
    pub drill: Drill,
}

/// What is done about links that lead out of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountLinks {
    /// They are named.
    Report,
    /// What they lead to becomes a source.
    Follow,
}

/// One table of a job that gives streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamConfig {
    /// `[[job.NAME.postgresql]]`.
    Postgresql(PostgresqlConfig),
    /// `[[job.NAME.mariadb]]`, or `mysql`.
    Mariadb(MariadbConfig),
    /// `[[job.NAME.sqlite]]`.
    Sqlite(SqliteConfig),
    /// `[[job.NAME.command]]`.
    Command(CommandConfig),
    /// Bytes that a preset brings.
    Document(DocumentConfig),
}

/// Which databases of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// These.
    Named(Vec<String>),
    /// All that it has when the job runs, but for its own ones and these.
    All {
        /// Names of databases that are left out.
        but: Vec<String>,
    },
}

/// A PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlConfig {
    /// Which databases.
    pub databases: Databases,
    /// Host, or folder of the socket; libpq's default otherwise.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Roles and tablespaces as a stream of their own.
    pub globals: bool,
    /// The password file, in the place of `~/.pgpass`.
    pub pgpass: Option<PathBuf>,
    /// The password, where a preset knows it; never from the configuration.
    pub password: Option<Secret>,
    /// The folder of `pg_dump` and `psql`, if not in the search path.
    pub programs: Option<PathBuf>,
    /// Stands before the names of its streams.
    pub prefix: String,
}

/// A MariaDB or MySQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MariadbConfig {
    /// Which databases.
    pub databases: Databases,
    /// The option file with user and password, in the place of `~/.my.cnf`.
    pub defaults_file: Option<PathBuf>,
    /// Host.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Socket.
    pub socket: Option<PathBuf>,
    /// User.
    pub user: Option<String>,
    /// The folder of `mariadb-dump` and `mariadb`, if not in the search path.
    pub programs: Option<PathBuf>,
    /// Stands before the names of its streams.
    pub prefix: String,
}

/// An SQLite database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    /// Its file.
    pub path: PathBuf,
    /// The stream's name.
    pub stream: String,
}

/// The output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// The stream's name.
    pub name: String,
    /// For the shell.
    pub command: String,
    /// Whether it may print nothing.
    pub allow_empty: bool,
}

/// `[job.NAME.keep]`: what a policy keeps. A snapshot that any rule keeps is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub last: Option<u32>,
    /// The newest of each of so many hours.
    pub hourly: Option<u32>,
    /// The newest of each of so many days.
    pub daily: Option<u32>,
    /// The newest of each of so many weeks.
    pub weekly: Option<u32>,
    /// The newest of each of so many months.
    pub monthly: Option<u32>,
    /// The newest of each of so many years.
    pub yearly: Option<u32>,
    /// All that are not older than this, counted from the newest.
    pub within: Option<Duration>,
    /// All with one of these tags.
    pub tags: Vec<String>,
}

/// `[job.NAME.hooks]`: shell commands around a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Before everything; its failure is the job's.
    pub before: Option<String>,
    /// After a snapshot was taken.
    pub after: Option<String>,
    /// After a failure.
    pub failed: Option<String>,
    /// At the end, however it went.
    pub finally: Option<String>,
    /// How long each may take.
    pub timeout: Duration,
}

/// What a second run does while the first is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wait {
    /// It leaves: the first does the work.
    #[default]
    Leave,
    /// It waits so long, then fails.
    For(Duration),
}

/// `[job.NAME.limits]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// A run that takes longer is interrupted and fails.
    pub time: Option<Duration>,
    /// What happens while another run of the job is under way.
    pub wait: Wait,
    /// By how much its processor time counts less than that of others, 0 to 19.
    pub nice: u8,
    /// Reads and writes only when nobody else does.
    pub idle_io: bool,
    /// Bytes of the sources that are read in a second.
    pub rate: Option<u64>,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
    /// What to write instead.
    pub cure: Option<String>,
}

impl Configuration {
    /// Reads and checks the text of the configuration file `file`. What the file leaves to the
    /// user's home lies in `home`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str, file: &Path, home: Option<&Path>) -> Result<Self, ConfigError> {
        let file = file.to_owned();
        match check::configuration(text, home) {
            Ok(checked) => Ok(Self { file, ..checked }),
            Err(wrong) => {
                let line = wrong.at.map(|at| check::line_of(text, at));
                Err(ConfigError { file, line, reason: wrong.reason, cure: wrong.cure })
            }
        }
    }

    /// The file that it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Looks whether what the job `name` reads is there.
    ///
    /// # Errors
    /// The first path that is not.
    pub fn check_places(&self, name: &str) -> Result<(), ConfigError> {
        for place in self.places.iter().filter(|place| place.job == name) {
            if let Err(error) = place.path.symlink_metadata() {
                let path = printable(place.path.as_os_str().as_encoded_bytes());
                return Err(ConfigError {
                    file: self.file.clone(),
                    line: Some(place.line),
                    reason: format!("`{}` names {path}: {}", place.key, error.kind()),
                    cure: Some("correct the path; is a disk not mounted?".to_owned()),
                });
            }
        }
        Ok(())
    }
}

impl StreamConfig {
    /// The name of its table.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgresql(_) => "postgresql",
            Self::Mariadb(_) => "mariadb",
            Self::Sqlite(_) => "sqlite",
            Self::Command(_) => "command",
            Self::Document(_) => "document",
        }
    }

    /// The names of the streams that it gives, as far as they are known before it runs.
    pub fn stream_names(&self) -> Vec<String> {
        match self {
            Self::Postgresql(server) => server.stream_names(),
            Self::Mariadb(server) => server.stream_names(),
            Self::Sqlite(database) => vec![database.stream.clone()],
            Self::Command(command) => vec![command.name.clone()],
            Self::Document(document) => vec![document.name.clone()],
        }
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
