//! `gabion restore --database`: brings a dump back into a command, a database or a file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use gabion::format::snapshot::{Snapshot, StreamRecord};
use gabion::job::database::{self, MariadbPlace, PsqlScript};
use gabion::ops::cat_into::{Feed, Unchanged, cat_into};
use gabion::ops::program::shell;
use gabion::repo::Repository;
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::values::{short, size};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct IntoArgs {
    /// Restore the dump of this database, or the stream of this name; with --target the files of
    /// the snapshot, too
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The shell command that reads the dump
    #[arg(long, value_name = "COMMAND", requires = "database", group = "into")]
    into_command: Option<String>,
    /// An empty PostgreSQL database that takes the dump, all or nothing; PGHOST, PGPORT, PGUSER
    /// and PGPASSFILE say where it is
    #[arg(long, value_name = "DATABASE", requires = "database", group = "into")]
    into_postgresql: Option<String>,
    /// An empty MariaDB or MySQL database that takes the dump
    #[arg(long, value_name = "DATABASE", requires = "database", group = "into")]
    into_mariadb: Option<String>,
    /// The option file with user, password and socket or host [default: ~/.my.cnf and the like]
    #[arg(long, value_name = "FILE", requires = "into_mariadb")]
    mariadb_defaults: Option<PathBuf>,
    /// The file that becomes the SQLite database; there must be none yet
    #[arg(long, value_name = "FILE", requires = "database", group = "into")]
    into_sqlite: Option<PathBuf>,
}

/// Where a dump goes, which was looked at.
pub(crate) struct Into<'a> {
    stream: &'a StreamRecord,
    place: Place<'a>,
}

enum Place<'a> {
    Command(&'a str),
    Postgresql(&'a str),
    Mariadb(MariadbPlace<'a>),
    Sqlite(&'a Path),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "database")]
struct Line<'a> {
    stream: &'a str,
    bytes: u64,
    next: Vec<String>,
}

impl IntoArgs {
    /// Whether a database is to be restored.
    pub(crate) fn is_given(&self) -> bool {
        self.database.is_some()
    }

    /// Finds the stream and looks at where it is to go, before anything is written.
    pub(crate) fn check<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        interrupted: &AtomicBool,
    ) -> Result<Into<'a>, Failure> {
        let wanted = self.database.as_deref().unwrap_or_default();
        let stream = stream_of(snapshot, wanted)?;
        let place = match self {
            Self { into_command: Some(line), .. } => Place::Command(line),
            Self { into_postgresql: Some(database), .. } => Place::Postgresql(database),
            Self { into_mariadb: Some(database), .. } => {
                let defaults = self.mariadb_defaults.as_deref();
                Place::Mariadb(MariadbPlace { database, defaults })
            }
            Self { into_sqlite: Some(file), .. } => Place::Sqlite(file),
            _ => {
                let message = "into what? --into-command, --into-postgresql, --into-mariadb or \
                               --into-sqlite";
                let hint = format!("`gabion cat SNAP:{}` writes it out", stream.name);
                return Err(Failure::usage(message).hint(hint));
            }
        };
        let into = Into { stream, place };
        into.check_kind()?;
        into.check_program(interrupted)?;
        into.check_empty(interrupted)?;
        into.check_settings(interrupted)?;
        Ok(into)
    }
}

impl Into<'_> {
    /// The stream's name.
    pub(crate) fn stream(&self) -> &str {
        &self.stream.name
    }

    /// Refuses the dump of another kind of database.
    fn check_kind(&self) -> Result<(), Failure> {
        let kind = self.stream.origin.as_ref().map(|origin| origin.kind.as_str());
        let wanted = match &self.place {
            Place::Command(_) => return Ok(()),
            Place::Postgresql(_) => "postgresql",
            Place::Mariadb(_) => "mariadb",
            Place::Sqlite(_) => "sqlite",
        };
        match kind {
            Some(kind @ ("postgresql" | "mariadb" | "sqlite")) if kind != wanted => {
                let message = format!("{} is a dump of {kind}, not of {wanted}", self.stream.name);
                Err(Failure::usage(message).hint(format!("use --into-{kind}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a psql that would run the commands in a dump.
    fn check_program(&self, interrupted: &AtomicBool) -> Result<(), Failure> {
        let is_psql = matches!(self.place, Place::Postgresql(_));
        if !is_psql || database::psql_can_be_restricted(interrupted)? {
            return Ok(());
        }
        let message = "this psql cannot be kept from running commands in a dump";
        Err(Failure::new(Exit::Failed, message).hint(database::OLD_PSQL))
    }

    fn check_empty(&self, interrupted: &AtomicBool) -> Result<(), Failure> {
        let (is_used, name, hint) = match &self.place {
            Place::Command(_) => return Ok(()),
            Place::Postgresql(database) => (
                database::has_user_tables(database, interrupted).map_err(|error| {
                    let variables = "PGHOST, PGPORT, PGUSER and PGPASSFILE say where the server is";
                    Failure::from(error).hint(variables)
                })?,
                (*database).to_owned(),
                "make a new one: createdb --template template0 NAME",
            ),
            Place::Mariadb(place) => (
                database::mariadb_has_tables(place, interrupted)?,
                place.database.to_owned(),
                "make a new one: mariadb -e 'CREATE DATABASE NAME'",
            ),
            Place::Sqlite(file) => {
                (file.exists(), file.display().to_string(), "name a file that is not there yet")
            }
        };
        match is_used {
            true => {
                let message = format!("the database {name} is not empty");
                Err(Failure::new(Exit::Failed, message).hint(hint))
            }
            false => Ok(()),
        }
    }

    /// Refuses a database in which the dump would become another one.
    fn check_settings(&self, interrupted: &AtomicBool) -> Result<(), Failure> {
        let Some(origin) = &self.stream.origin else { return Ok(()) };
        let was = |name: &str| origin.settings.get(name).map(String::as_str);
        match &self.place {
            Place::Postgresql(database) => {
                let Some(encoding) = was("encoding") else { return Ok(()) };
                let is = database::postgresql_encoding(database, interrupted)?;
                if is == encoding {
                    return Ok(());
                }
                let (collation, ctype) =
                    (was("collation").unwrap_or("C"), was("character-type").unwrap_or("C"));
                let message = format!(
                    "the database {database} has the encoding {is}, the dump's had {encoding}"
                );
                let hint = format!(
                    "make one like it: createdb --template template0 --encoding {encoding} \
                     --lc-collate {collation} --lc-ctype {ctype} NAME"
                );
                Err(Failure::new(Exit::Failed, message).hint(hint))
            }
            Place::Mariadb(place) => {
                let (Some(set), Some(collation)) = (was("character-set"), was("collation")) else {
                    return Ok(());
                };
                let is = database::mariadb_settings(place, interrupted)?;
                let is = |name: &str| is.get(name).map(String::as_str);
                if is("character-set") == Some(set) && is("collation") == Some(collation) {
                    return Ok(());
                }
                let message = format!(
                    "the database {} has the collation {}, the dump's had {collation}",
                    place.database,
                    is("collation").unwrap_or("of the server")
                );
                let hint = format!(
                    "run: mariadb -e 'ALTER DATABASE `{}` CHARACTER SET {set} COLLATE {collation}'",
                    place.database
                );
                Err(Failure::new(Exit::Failed, message).hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// Brings the dump there and says what is left to do.
    pub(crate) fn bring(
        &self,
        session: &Session,
        repository: &Repository,
        snapshot: &Snapshot,
        target: Option<&Path>,
        interrupted: &AtomicBool,
    ) -> Result<(), Failure> {
        let name = self.stream.name.as_bytes();
        let into = |feed: &mut dyn Feed, command: Command| {
            cat_into(repository, snapshot, name, feed, command, interrupted)
        };
        let bytes = match &self.place {
            Place::Command(line) => into(&mut Unchanged, shell(line))?,
            Place::Postgresql(database) => {
                let mut script = PsqlScript::all_or_nothing();
                into(&mut script, database::psql(database).command())?
            }
            Place::Mariadb(place) => {
                let safety = database::mariadb_safety(interrupted)?;
                let client = database::mariadb_client(place).args(safety);
                into(&mut Unchanged, client.command())?
            }
            Place::Sqlite(file) => database::write_sqlite(repository, snapshot, name, file)?,
        };
        let next = self.next_steps(snapshot, target);
        if session.json() {
            return one_json(&Line { stream: &self.stream.name, bytes, next });
        }
        if !session.quiet() {
            one_line(format!(
                "restored {}: {}, every byte verified",
                self.stream.name,
                size(bytes)
            ))?;
            for step in next {
                one_line(format!("next: {step}"))?;
            }
        }
        Ok(())
    }

    /// What is left to do by hand, in order.
    fn next_steps(&self, snapshot: &Snapshot, target: Option<&Path>) -> Vec<String> {
        let id = short(snapshot.id);
        let mut steps = Vec::new();
        match &self.place {
            Place::Postgresql(database) => {
                steps.push(format!("run ANALYZE in {database}, so that the server plans well"));
            }
            Place::Mariadb(place) => {
                let database = place.database;
                steps.push(format!("give the program's user its rights on {database} (GRANT)"));
            }
            Place::Sqlite(file) => {
                let file = file.display();
                steps.push(format!("give {file} to the program's user (chown); it has mode 600"));
            }
            Place::Command(_) => {}
        }
        let is_database = self.stream.origin.as_ref().is_some_and(|from| from.kind != "command");
        if !is_database && target.is_none() {
            return steps;
        }
        match target {
            None if snapshot.paths.is_empty() => {}
            None => {
                steps.push(format!("restore its files: gabion restore {id} --target FOLDER"));
            }
            Some(target) => {
                let target = target.display();
                for path in &snapshot.paths {
                    let path = gabion::format::path::printable(&path.0);
                    steps.push(format!(
                        "stop the program and move {target}{path} to where it belongs; `gabion \
                         diff {id}:{path} {path}` then shows what differs"
                    ));
                }
            }
        }
        steps.push("point the program at the restored database".to_owned());
        steps.push("start it and look at its data before the old is removed".to_owned());
        steps
    }
}

fn stream_of<'a>(snapshot: &'a Snapshot, wanted: &str) -> Result<&'a StreamRecord, Failure> {
    let named = |stream: &&StreamRecord| stream.name == wanted;
    let of_database = |stream: &&StreamRecord| {
        let origin = stream.origin.as_ref();
        origin.and_then(|origin| origin.database.as_deref()) == Some(wanted)
    };
    let mut found: Vec<&StreamRecord> = snapshot.streams.iter().filter(named).collect();
    if found.is_empty() {
        found = snapshot.streams.iter().filter(of_database).collect();
    }
    match found[..] {
        [stream] => Ok(stream),
        ref several => {
            let names = |list: &[&StreamRecord]| {
                list.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ")
            };
            let (many, hint) = match several.is_empty() {
                true => ("no", names(&snapshot.streams.iter().collect::<Vec<_>>())),
                false => ("more than one", names(several)),
            };
            let message = format!("snapshot {} holds {many} database {wanted:?}", snapshot.id);
            Err(Failure::new(Exit::Failed, message).hint(format!("its streams: {hint}")))
        }
    }
}
