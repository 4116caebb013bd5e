//! `gabion snapshots`: lists the snapshots of a repository.

use std::collections::HashMap;

use gabion::event::Problem;
use gabion::format::path::printable;
use gabion::format::snapshot::Snapshot;
use gabion::id::SnapshotId;
use gabion::ops::replaced;
use gabion::repo::SnapshotRecords;

use crate::arguments::Selection;
use crate::errors::{Exit, Failure, with_causes};
use crate::output::Output;
use crate::render::records::SnapshotLine;
use crate::render::table::{Side, Table};
use crate::render::values::{short, size, time};
use crate::session::Session;

/// List the snapshots, oldest first
///
/// One that is dated more than a day after it was stored comes where it was stored.
///
/// Any beginning of an id of at least four digits names a snapshot to the other commands, and so
/// do `latest` and `latest~2`, the second before it. An id that a snapshot had before its tags or
/// its pin were changed names it, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion snapshots
  gabion snapshots --tag nightly --host db1
  gabion snapshots --path /srv/files
  gabion snapshots --json")]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
}

/// Lists the snapshots.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let wanted = args.selection.filter()?;
    let opened = session.open()?;
    let records = opened.repository.snapshot_records(false)?;
    let (damaged, all) = (&records.damaged, &records.snapshots);
    let replaced = replaced(all);
    let snapshots: Vec<&Snapshot> = all.iter().filter(|one| wanted(one)).collect();
    let mut output = Output::new();
    if session.json() {
        for snapshot in &snapshots {
            output.json(&SnapshotLine::new(snapshot))?;
        }
    } else if !snapshots.is_empty() {
        for line in table(&snapshots, &records, &replaced).lines() {
            output.line(line)?;
        }
    }
    output.finish()?;
    for damaged in damaged {
        session.console.problem(&Problem {
            subject: damaged.object.to_string().into(),
            message: with_causes(&damaged.error),
        });
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damage })
}

fn table(
    snapshots: &[&Snapshot],
    records: &SnapshotRecords,
    replaced: &HashMap<SnapshotId, SnapshotId>,
) -> Table {
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
            remarks(snapshot, records, replaced.get(&snapshot.id)),
        ]);
    }
    table
}

fn remarks(
    snapshot: &Snapshot,
    records: &SnapshotRecords,
    successor: Option<&SnapshotId>,
) -> String {
    let mut remarks = Vec::new();
    if snapshot.problems > 0 {
        remarks.push("incomplete".to_owned());
    }
    if snapshot.window.is_some() {
        remarks.push("partial".to_owned());
    }
    if snapshot.pinned {
        remarks.push("pinned".to_owned());
    }
    if records.is_of_the_future(snapshot) {
        remarks.push("dated after it was stored".to_owned());
    }
    remarks.extend(successor.map(|id| format!("replaced by {}", short(id))));
    remarks.join(", ")
}

fn sources(snapshot: &Snapshot) -> String {
    let paths = snapshot.paths.iter().map(|path| printable(&path.0));
    let streams = snapshot.streams.iter().map(|stream| printable(stream.name.as_bytes()));
    paths.chain(streams).collect::<Vec<_>>().join(" ")
}
