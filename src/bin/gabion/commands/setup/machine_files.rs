//! What the machine shows of systems that are worth keeping.

use std::path::{Path, PathBuf};

use gabion::job::config::PostgresqlConfig;
use gabion::job::setup::{
    FoundAiida, FoundLinkahead, backup_folder, linkahead, pgpass_databases, profiles,
};

use super::dialogue::Dialogue;
use crate::machine;

/// Longest file that is looked at.
const MAX_LEN: u64 = 4 << 20;
/// Where Debian's PostgreSQL and most others put their socket.
const POSTGRESQL_SOCKETS: &[&str] = &["/var/run/postgresql", "/tmp"];
/// Where LinkAhead's server is most often installed.
const LINKAHEAD: &[&str] = &[
    "/opt/caosdb/git/caosdb-server/conf/ext/server.conf",
    "/opt/caosdb/git/caosdb-server/conf/core/server.conf",
    "/opt/linkahead/conf/ext/server.conf",
    "/opt/linkahead/conf/core/server.conf",
];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    aiida_folder: Option<PathBuf>,
    aiida: Vec<FoundAiida>,
    backup_folder: Option<PathBuf>,
    linkahead: Option<FoundLinkahead>,
    linkahead_files: Option<PathBuf>,
    postgresql: Vec<PostgresqlConfig>,
    postgresql_socket: Option<PathBuf>,
    mariadb_options: Option<PathBuf>,
}

impl Found {
    /// Looks. What cannot be read is as good as not there.
    pub(super) fn look() -> Self {
        let home = machine::home();
        let below = |name: &str| home.as_ref().map(|home| home.join(name));
        let aiida_folder = machine::variable("AIIDA_PATH")
            .map(|path| PathBuf::from(path).join(".aiida"))
            .or_else(|| below(".aiida"))
            .filter(|folder| folder.is_dir());
        let pgpass = machine::variable("PGPASSFILE").map(PathBuf::from);
        let pgpass = pgpass.or_else(|| below(".pgpass"));
        let root = machine::variable("CAOSDB_CONFIG_FILE_SYSTEM_ROOT").map(PathBuf::from);
        let conf = |path: &&str| Some(linkahead(&text(Path::new(path))?, Path::new(path)));
        Self {
            aiida: aiida_folder
                .as_ref()
                .and_then(|folder| text(&folder.join("config.json")))
                .map(|text| profiles(&text))
                .unwrap_or_default(),
            backup_folder: aiida_folder.as_deref().and_then(old_backup),
            aiida_folder,
            linkahead: LINKAHEAD.iter().find_map(conf).filter(|found| found.files.is_some()),
            linkahead_files: root.filter(|folder| folder.is_dir()),
            postgresql: pgpass
                .and_then(|file| text(&file))
                .map_or(Vec::new(), |t| pgpass_databases(&t)),
            postgresql_socket: POSTGRESQL_SOCKETS
                .iter()
                .map(PathBuf::from)
                .find(|folder| folder.join(".s.PGSQL.5432").exists()),
            mariadb_options: below(".my.cnf").filter(|file| file.exists()),
        }
    }

    /// Tells what was found.
    pub(super) fn tell(&self, dialogue: &Dialogue) {
        for profile in &self.aiida {
            let FoundAiida { name, backend, about } = profile;
            dialogue.say(&format!("found: the AiiDA profile {name} ({backend}, {about})"));
        }
        if let Some(found) = &self.linkahead {
            dialogue.say(&format!("found: a LinkAhead server ({})", found.file.display()));
        }
        if let Some(folder) = &self.postgresql_socket {
            dialogue.say(&format!("found: a PostgreSQL server ({})", folder.display()));
        }
    }

    /// Folders that are proposed.
    pub(super) fn folders(&self) -> Vec<String> {
        self.linkahead_files.iter().map(|folder| folder.display().to_string()).collect()
    }

    /// LinkAhead's server.
    pub(super) fn linkahead(&self) -> Option<&FoundLinkahead> {
        self.linkahead.as_ref()
    }

    /// The names of AiiDA's profiles.
    pub(super) fn aiida_profiles(&self) -> String {
        let names: Vec<&str> = self.aiida.iter().map(|profile| profile.name.as_str()).collect();
        names.join(" ")
    }

    /// The folder of AiiDA's configuration.
    pub(super) fn aiida_folder(&self) -> Option<PathBuf> {
        self.aiida_folder.clone()
    }

    /// Where AiiDA's old scripts put their copies: a folder of ours beside them.
    pub(super) fn backup_folder(&self) -> Option<PathBuf> {
        Some(self.backup_folder.as_ref()?.parent()?.join("gabion"))
    }

    /// The server of the first database that the password file names.
    pub(super) fn postgresql(&self) -> Option<PostgresqlConfig> {
        self.postgresql.first().cloned()
    }

    /// The folder of a local server's socket.
    pub(super) fn postgresql_socket(&self) -> Option<String> {
        self.postgresql_socket.as_ref().map(|folder| folder.display().to_string())
    }

    /// The user's own option file.
    pub(super) fn mariadb_options(&self) -> Option<String> {
        self.mariadb_options.as_ref().map(|file| file.display().to_string())
    }
}

/// The text of a file, if it is a short one that can be read.
pub(super) fn text(path: &Path) -> Option<String> {
    let short = path.metadata().ok().is_some_and(|about| about.is_file() && about.len() <= MAX_LEN);
    short.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The destination in the `backup_info.json` of one of the old set-ups.
fn old_backup(aiida: &Path) -> Option<PathBuf> {
    let items = std::fs::read_dir(aiida).ok()?.flatten();
    let mut folders: Vec<PathBuf> = items.map(|item| item.path()).collect();
    folders.sort();
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("backup"))
    };
    let files = folders.into_iter().filter(named).map(|folder| folder.join("backup_info.json"));
    files.filter_map(|file| text(&file)).find_map(|text| backup_folder(&text))
}
