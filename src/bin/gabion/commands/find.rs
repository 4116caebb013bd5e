//! `gabion find`: in which snapshots something is.

use std::ffi::OsString;

use gabion::event::Problem;
use gabion::format::entry::{EntryKind, Timestamp};
use gabion::format::snapshot::Snapshot;
use gabion::id::SnapshotId;
use gabion::ops::find::{FindItem, FindOptions, NamePatterns, find};
use gabion::ops::{OpError, current, find_snapshot};
use gabion::repo::{Damaged, Repository};
use gabion::source::pattern::Patterns;
use serde::Serialize;

use crate::errors::{Exit, Failure, with_causes};
use crate::output::Output;
use crate::render::records::{EntryLine, long_line};
use crate::render::values::{parse_size, parse_time, short};
use crate::session::Session;

/// Find files in all snapshots
///
/// Patterns are those of git's ignore files: one without a slash is compared with the name, one with
/// a slash with the whole path. Of several that match, the last one decides: after '*.c', '!b*' takes
/// back what begins with b.
/// An entry that several snapshots hold alike is shown once, with the first and the last of them.
/// What cannot be searched because of damage is named, and the program ends with 13.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion find '*.conf'
  gabion find '/home/**/thesis*' --newer '2026-11-01 00:00'
  gabion find '*' --min-size 1GiB --snapshot latest")]
pub(crate) struct Args {
    /// Names or paths, as in an ignore file; any of them
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<OsString>,
    /// Only in these snapshots [default: all]
    #[arg(long, value_name = "SNAP")]
    snapshot: Vec<String>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    ignore_case: bool,
    /// Only entries of this kind
    #[arg(long, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only what was changed after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    newer: Option<Timestamp>,
    /// Only what was changed before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    older: Option<Timestamp>,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,
    /// Only files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    File,
    Directory,
    Symlink,
    Stream,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "found")]
struct FoundLine<'a> {
    snapshots: &'a [SnapshotId],
    entry: EntryLine,
}

/// Finds and prints.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let patterns = Patterns::selecting(&args.patterns)?;
    let options = FindOptions {
        within: Vec::new(),
        names: NamePatterns::new(&patterns, args.ignore_case)?,
        kinds: args.kind.iter().map(|&kind| kind.into()).collect(),
        newer: args.newer,
        older: args.older,
        min_size: args.min_size,
        max_size: args.max_size,
    };
    let repository = session.open_with_index()?.repository;
    let (snapshots, damaged) = chosen(session, &repository, &args.snapshot)?;
    session.console.finish();
    let mut output = Output::new();
    let mut each = |item: &FindItem| {
        let FindItem { snapshots, entry } = item;
        let printed = if session.json() {
            output.json(&FoundLine { snapshots, entry: EntryLine::new(entry) })
        } else {
            output.line(format!("{}  in {}", long_line(entry), in_words(snapshots)))
        };
        printed.map_err(|error| OpError::Output(error.0))
    };
    let summary = find(&repository, &snapshots, &options, &mut each)?;
    output.finish()?;
    Ok(if damaged + summary.problems > 0 { Exit::Damage } else { Exit::Done })
}

/// The named snapshots, or all that can be read and are not replaced; then also how many cannot, each of which is said.
pub(crate) fn chosen(
    session: &Session,
    repository: &Repository,
    named: &[String],
) -> Result<(Vec<Snapshot>, u64), Failure> {
    if named.is_empty() {
        let (snapshots, damaged) = repository.snapshots()?;
        for Damaged { object, error } in &damaged {
            let subject = object.to_string().into();
            session.console.problem(&Problem { subject, message: with_causes(error) });
        }
        return Ok((current(snapshots), damaged.len() as u64));
    }
    let found = named.iter().map(|name| find_snapshot(repository, name));
    Ok((found.collect::<Result<_, _>>()?, 0))
}

fn in_words(snapshots: &[SnapshotId]) -> String {
    match snapshots {
        [] => "no snapshot".to_owned(),
        [only] => short(only),
        [first, .., last] => {
            format!("{} to {} ({} snapshots)", short(first), short(last), snapshots.len())
        }
    }
}

impl From<Kind> for EntryKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Directory => Self::Directory,
            Kind::Symlink => Self::Symlink,
            Kind::Stream => Self::Stream,
        }
    }
}
