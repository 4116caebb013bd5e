//! The configuration file as answers make it, with a comment wherever somebody may want to change
//! something.

use std::fmt::Write as _;
use std::path::Path;

use super::Answers;
use crate::job::config::{
    Databases, KeyPlace, MariadbConfig, MountLinks, PostgresqlConfig, StreamConfig,
};
use crate::storage::Place;

/// The text of the file.
pub(super) fn of(answers: &Answers) -> String {
    let mut file = Lines::default();
    file.line("# Jobs of gabion. `gabion jobs --explain` checks this file and shows all defaults.");
    file.table("[repository]");
    match &answers.repository {
        Place::Folder(path) => file.path("url", path),
        place @ Place::Remote(_) => file.text("url", &place.to_string()),
    }
    file.optional_text("ssh-command", answers.ssh_command.as_ref());
    match &answers.key {
        None => file.line("# The repository is not encrypted: whoever reads the folder reads all."),
        Some(KeyPlace::PasswordFile(path)) => {
            file.path("password-file", path);
            file.line(
                "# A copy of the passphrase must lie somewhere else: without it all is lost.",
            );
        }
        Some(KeyPlace::PasswordCommand(command)) => file.text("password-command", command),
        Some(KeyPlace::KeyFile(path)) => file.path("key-file", path),
    }
    job(&mut file, answers);
    file.0
}

fn job(file: &mut Lines, answers: &Answers) {
    let name = &answers.job;
    file.table(&format!("[job.{}]", key(name)));
    if !answers.paths.is_empty() {
        file.paths("paths", &answers.paths);
    }
    if answers.exclude.is_empty() {
        file.line("# exclude = [\"*.tmp\"]       # patterns as in git's ignore files");
    } else {
        file.texts("exclude", &answers.exclude);
    }
    match answers.mount_links {
        None => {}
        Some(how) => {
            file.line("# Links out of the paths: \"report\" names them, \"follow\" takes what they lead to.");
            file.text("mount-links", if how == MountLinks::Report { "report" } else { "follow" });
        }
    }
    file.text("schedule", &answers.schedule.to_string());
    for preset in &answers.aiida {
        file.table(&format!("[[job.{}.aiida]]", key(name)));
        file.line(
            "# Its database, its files and its entry in AiiDA's configuration, which also says",
        );
        file.line("# the database's password.");
        file.path("folder", &preset.folder);
        file.optional_text("profile", preset.profile.as_ref());
    }
    for stream in &answers.streams {
        self::stream(file, name, stream);
    }
    file.table(&format!("[job.{}.keep]", key(name)));
    let keep = &answers.keep;
    for (rule, count) in [
        ("last", keep.last),
        ("hourly", keep.hourly),
        ("daily", keep.daily),
        ("weekly", keep.weekly),
        ("monthly", keep.monthly),
        ("yearly", keep.yearly),
    ] {
        if let Some(count) = count {
            file.number(rule, count);
        }
    }
    if let Some(budget) = &answers.check_budget {
        file.table(&format!("[job.{}.check]", key(name)));
        file.line("# So much of the repository is read back and verified after each run.");
        file.text("budget", budget);
    }
    file.line("\n# Once a week everything restored for real and tested (`gabion cron` prints its line, too):");
    file.line(&format!("# [job.{}.drill]", key(name)));
    file.line("# schedule = \"sun 05:00\"");
    file.line("# max-age = \"9d\"");
    match &answers.mail {
        None => {
            file.line("\n# Nobody else is told of failures than who gets cron's mail. For mail of its own:");
            file.line(&format!("# [job.{}.notify]", key(name)));
            file.line("# mail = \"admin@example.org\"");
        }
        Some(address) => {
            file.table(&format!("[job.{}.notify]", key(name)));
            file.text("mail", address);
        }
    }
}

fn stream(file: &mut Lines, job: &str, stream: &StreamConfig) {
    file.table(&format!("[[job.{}.{}]]", key(job), stream.kind()));
    match stream {
        StreamConfig::Postgresql(server) => postgresql(file, server),
        StreamConfig::Mariadb(server) => mariadb(file, server),
        StreamConfig::Sqlite(database) => {
            file.path("path", &database.path);
            file.text("name", &database.stream);
        }
        // No answer makes one.
        StreamConfig::Document(_) => {}
        StreamConfig::Command(command) => {
            file.text("name", &command.name);
            file.text("command", &command.command);
        }
    }
}

fn postgresql(file: &mut Lines, server: &PostgresqlConfig) {
    databases(file, &server.databases);
    file.optional_text("host", server.host.as_ref());
    file.optional_number("port", server.port);
    file.optional_text("user", server.user.as_ref());
    if server.globals {
        file.line("globals = true            # roles and tablespaces, as a stream of their own");
    }
    match &server.pgpass {
        Some(path) => file.path("pgpass", path),
        None => {
            file.line("# pgpass = \"/etc/gabion/pgpass\"   # in the place of ~/.pgpass, mode 600");
        }
    }
    file.optional_path("programs", server.programs.as_deref());
}

fn mariadb(file: &mut Lines, server: &MariadbConfig) {
    databases(file, &server.databases);
    file.optional_text("host", server.host.as_ref());
    file.optional_number("port", server.port);
    file.optional_path("socket", server.socket.as_deref());
    file.optional_text("user", server.user.as_ref());
    match &server.defaults_file {
        Some(path) => file.path("defaults-file", path),
        None => file.line("# defaults-file = \"/etc/gabion/my.cnf\"  # in the place of ~/.my.cnf"),
    }
    file.optional_path("programs", server.programs.as_deref());
}

fn databases(file: &mut Lines, which: &Databases) {
    match which {
        Databases::All { but } => {
            file.line("all = true");
            if !but.is_empty() {
                file.texts("exclude", but);
            }
        }
        Databases::Named(names) => match &names[..] {
            [name] => file.text("database", name),
            names => file.texts("databases", names),
        },
    }
}

/// A key of TOML, in quotes where it needs them.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// The file as it grows.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn table(&mut self, head: &str) {
        self.0.push('\n');
        self.line(head);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {}", quoted(value)));
    }

    fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(&format!("{key} = {value}"));
    }

    /// A path; one that is no text is refused when it is answered.
    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, &path.to_string_lossy());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.line(&format!("{key} = [{}]", values.join(", ")));
    }

    fn paths(&mut self, key: &str, paths: &[std::path::PathBuf]) {
        let paths: Vec<String> =
            paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        self.texts(key, &paths);
    }

    fn optional_text(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn optional_number(&mut self, key: &str, value: Option<u16>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    fn optional_path(&mut self, key: &str, value: Option<&Path>) {
        if let Some(value) = value {
            self.path(key, value);
        }
    }
}
