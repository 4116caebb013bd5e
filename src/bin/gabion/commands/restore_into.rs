//! `gabion restore --database`: brings a dump back into a command or a PostgreSQL database.

use std::process::Command;

use gabion::format::snapshot::{Snapshot, StreamRecord};
use gabion::job::database::{has_user_tables, psql};
use gabion::ops::cat_into::cat_into;
use gabion::ops::program::shell;
use gabion::ops::{SnapshotSpec, find_snapshot};

use crate::errors::{Exit, Failure};
use crate::output::one_line;
use crate::render::values::size;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct IntoArgs {
    /// Restore the dump of this database, or the stream of this name, into a command
    #[arg(long, value_name = "NAME", conflicts_with = "target")]
    database: Option<String>,
    /// The shell command that reads the dump
    #[arg(long, value_name = "COMMAND", requires = "database")]
    into_command: Option<String>,
    /// An empty PostgreSQL database that takes the dump, all or nothing; PGHOST, PGPORT, PGUSER
    /// and PGPASSFILE say where it is
    #[arg(long, value_name = "DATABASE", requires = "database", conflicts_with = "into_command")]
    into_postgresql: Option<String>,
}

impl IntoArgs {
    /// Whether a database is to be restored.
    pub(crate) fn is_given(&self) -> bool {
        self.database.is_some()
    }
}

/// Restores the stream.
pub(crate) fn run(
    session: &Session,
    spec: &SnapshotSpec,
    args: &IntoArgs,
) -> Result<Exit, Failure> {
    let wanted = args.database.as_deref().unwrap_or_default();
    if spec.path.is_some() {
        return Err(Failure::usage("--database names the stream: give SNAP without a path"));
    }
    let interrupted = session.interruption()?;
    let opened = session.open_with_index()?;
    let snapshot = find_snapshot(&opened.repository, &spec.snapshot)?;
    let stream = stream_of(&snapshot, wanted)?;
    let command: Command = match (&args.into_command, &args.into_postgresql) {
        (Some(line), _) => shell(line),
        (_, Some(database)) => {
            if has_user_tables(database, &interrupted)? {
                let message = format!("the database {database} is not empty");
                return Err(Failure::new(Exit::Failed, message)
                    .hint("make a new one: createdb --template template0 NAME"));
            }
            psql(database).command()
        }
        _ => {
            return Err(Failure::usage("into what? --into-command or --into-postgresql")
                .hint(format!("`gabion cat SNAP:{}` writes it to standard output", stream.name)));
        }
    };
    session.console.finish();
    let name = stream.name.as_bytes();
    let len = cat_into(&opened.repository, &snapshot, name, command, &interrupted)?;
    if !session.quiet() {
        one_line(format!("restored {}: {}, every byte verified", stream.name, size(len)))?;
        for step in next_steps(stream, args) {
            one_line(format!("next: {step}"))?;
        }
    }
    Ok(Exit::Done)
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

/// What is left to do by hand.
fn next_steps(stream: &StreamRecord, args: &IntoArgs) -> Vec<String> {
    let kind = stream.origin.as_ref().map(|origin| origin.kind.as_str());
    let mut steps = Vec::new();
    if let Some(database) = &args.into_postgresql {
        steps.push(format!("run ANALYZE in {database}, so that the server plans well"));
    }
    if matches!(kind, Some("postgresql" | "mariadb")) {
        steps.push("restore the files of the same snapshot: gabion restore SNAP --target".into());
        steps.push("point the program at the new database and look at its data".into());
    }
    steps
}
