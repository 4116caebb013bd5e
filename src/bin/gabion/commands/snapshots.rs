//! `gabion snapshots`: lists the snapshots of a repository.

use gabion::event::Problem;
use gabion::format::path::printable;
use gabion::format::snapshot::Snapshot;

use crate::errors::{Exit, Failure, with_causes};
use crate::output::Output;
use crate::render::records::SnapshotLine;
use crate::render::table::{Side, Table};
use crate::render::values::{short, size, time};
use crate::session::Session;

/// List the snapshots, oldest first
///
/// Any beginning of an id of at least four digits names a snapshot to the other commands, and so
/// does `latest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion snapshots
  gabion snapshots --tag nightly --host db1
  gabion snapshots --json")]
pub(crate) struct Args {
    /// Only snapshots with this tag; given several times: with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only snapshots of this machine
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// Lists the snapshots.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let opened = session.open()?;
    let (mut snapshots, damaged) = opened.repository.snapshots()?;
    snapshots.retain(|snapshot| args.wants(snapshot));
    let mut output = Output::new();
    if session.json() {
        for snapshot in &snapshots {
            output.json(&SnapshotLine::new(snapshot))?;
        }
    } else if !snapshots.is_empty() {
        for line in table(&snapshots).lines() {
            output.line(line)?;
        }
    }
    output.finish()?;
    for damaged in &damaged {
        session.console.problem(&Problem {
            subject: damaged.object.to_string().into(),
            message: with_causes(&damaged.error),
        });
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damage })
}

impl Args {
    fn wants(&self, snapshot: &Snapshot) -> bool {
        self.tag.iter().all(|tag| snapshot.tags.contains(tag))
            && self.host.as_ref().is_none_or(|host| *host == snapshot.host)
    }
}

fn table(snapshots: &[Snapshot]) -> Table {
    let mut table = Table::new(&[
        ("ID", Side::Left),
        ("TIME", Side::Left),
        ("HOST", Side::Left),
        ("ENTRIES", Side::Right),
        ("SIZE", Side::Right),
        ("SOURCES", Side::Left),
        ("TAGS", Side::Left),
        ("", Side::Left),
    ]);
    for snapshot in snapshots {
        table.row([
            short(snapshot.id),
            time(snapshot.time),
            printable(snapshot.host.as_bytes()),
            snapshot.counts.entries.to_string(),
            size(snapshot.counts.bytes),
            sources(snapshot),
            printable(snapshot.tags.join(",").as_bytes()),
            if snapshot.problems > 0 { "incomplete".to_owned() } else { String::new() },
        ]);
    }
    table
}

fn sources(snapshot: &Snapshot) -> String {
    let paths = snapshot.paths.iter().map(|path| printable(&path.0));
    let streams = snapshot.streams.iter().map(|stream| printable(stream.name.as_bytes()));
    paths.chain(streams).collect::<Vec<_>>().join(" ")
}
