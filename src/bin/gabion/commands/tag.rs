//! `gabion tag`: changes the words by which snapshots are found.

use gabion::format::path::printable;
use gabion::format::snapshot::Snapshot;
use gabion::id::SnapshotId;
use gabion::ops::amend::{Amended, Amendment, amend};
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::machine;
use crate::output::{Output, OutputError};
use crate::render::values::short;
use crate::session::Session;

/// Change the tags of snapshots
///
/// A snapshot gets a new id by this; its old ones go on naming it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion tag latest --add before-upgrade
  gabion tag 1a2b3c4d 5e6f7a8b --remove nightly --add monthly
  gabion tag latest --set ''                 takes all tags away")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct Args {
    /// The snapshots
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
    /// Add this tag
    #[arg(long, value_name = "TAG", group = "change")]
    add: Vec<String>,
    /// Take this tag away
    #[arg(long, value_name = "TAG", group = "change")]
    remove: Vec<String>,
    /// Put this tag in the place of all others; given several times: all of them
    #[arg(long, value_name = "TAG", group = "change", conflicts_with_all = ["add", "remove"])]
    set: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "amended")]
struct AmendedLine<'a> {
    before: SnapshotId,
    id: SnapshotId,
    changed: bool,
    tags: &'a [String],
    pinned: bool,
}

/// Changes the tags.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let set = args.set.clone().map(|tags| match &tags[..] {
        [only] if only.is_empty() => Vec::new(),
        _ => tags,
    });
    let (add, remove) = (args.add.clone(), args.remove.clone());
    let amendment = Amendment { set, add, remove, pinned: None };
    change(session, &args.snapshots, &amendment, |snapshot| {
        if snapshot.tags.is_empty() {
            return "has no tags".to_owned();
        }
        format!("has the tags {}", printable(snapshot.tags.join(",").as_bytes()))
    })
}

/// Changes snapshots, and says what is true of each of them now.
pub(super) fn change(
    session: &Session,
    snapshots: &[String],
    amendment: &Amendment,
    in_words: impl Fn(&Snapshot) -> String,
) -> Result<Exit, Failure> {
    let opened = session.open()?;
    let options = machine::presence();
    let amended = amend(&opened.repository, snapshots, amendment, &options)?;
    let said = print(session, &amended, in_words).map_err(Failure::from);
    said.map_err(|failure| failure.after("the snapshots were changed"))?;
    Ok(Exit::Done)
}

fn print(
    session: &Session,
    amended: &[Amended],
    in_words: impl Fn(&Snapshot) -> String,
) -> Result<(), OutputError> {
    let mut output = Output::new();
    for one in amended {
        let snapshot = &one.snapshot;
        if session.json() {
            output.json(&AmendedLine {
                before: one.before,
                id: snapshot.id,
                changed: one.is_changed(),
                tags: &snapshot.tags,
                pinned: snapshot.pinned,
            })?;
        } else if !session.quiet() {
            output.line(format!("snapshot {} {}", name(one), in_words(snapshot)))?;
        }
    }
    output.finish()
}

fn name(amended: &Amended) -> String {
    let id = short(amended.snapshot.id);
    match amended.is_changed() {
        true => format!("{id} (before: {})", short(amended.before)),
        false => id,
    }
}
