//! `gabion diff`: what differs between two snapshots, or a snapshot and the files of now.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use gabion::format::snapshot::Snapshot;
use gabion::ops::diff::{
    Aspect, Change, DiffItem, DiffSummary, LiveMapping, LiveOptions, diff_live, diff_snapshots,
};
use gabion::ops::{OpError, find_snapshot};
use gabion::repo::Repository;
use gabion::source::exclude::ExcludesBuilder;
use serde::Serialize;

use crate::arguments::snapshot_spec;
use crate::errors::{Exit, Failure};
use crate::output::{Output, OutputError};
use crate::render::names::PathText;
use crate::render::records::EntryLine;
use crate::render::values::{count, size};
use crate::session::Session;
use crate::sources;

/// Show what differs between two snapshots, or between a snapshot and the files of now
///
/// `+` is new, `-` is gone, `M` differs, and in what. SNAP:PATH compares a part. A live folder that
/// the snapshot holds is compared with itself, any other with all of SNAP (a restored tree, say).
/// The exit code is 0 when nothing differs, and 4 when something does; --quiet prints nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion diff latest~1 latest
  gabion diff 1a2b3c4d latest
  gabion diff 1a2b3c4d:/etc latest
  gabion diff latest /home/me
  gabion diff latest:/home/me /tmp/restored --quick")]
pub(crate) struct Args {
    /// The old side
    #[arg(value_name = "SNAP[:PATH]")]
    old: OsString,
    /// The new side: a snapshot, or a path that holds a slash or begins with a dot
    #[arg(value_name = "SNAP|/LIVE/PATH")]
    new: OsString,
    /// Take live files of the same size and time for the same, without reading them
    #[arg(long)]
    quick: bool,
    /// Of the live files, leave out what matches the pattern
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Stay on the file system of the live path
    #[arg(long)]
    one_file_system: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "difference")]
struct DifferenceLine {
    path: PathText,
    change: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aspects: Vec<&'static str>,
    old: Option<EntryLine>,
    new: Option<EntryLine>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary {
    added: u64,
    removed: u64,
    changed: u64,
    added_bytes: u64,
    removed_bytes: u64,
    problems: u64,
}

/// Compares the two sides.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let spec = snapshot_spec(&args.old)?;
    let repository = session.open_with_index()?.repository;
    let old = find_snapshot(&repository, &spec.snapshot)?;
    session.console.finish();
    let mut output = Output::new();
    let mut each = |item: &DiffItem| {
        if session.quiet() && !session.json() {
            return Ok(());
        }
        print(session, &mut output, item).map_err(|error| OpError::Output(error.0))
    };
    let path = spec.path.as_deref();
    let summary = if is_live(&args.new) {
        live(session, args, &repository, &old, path, &mut each)?
    } else {
        let new = snapshot_spec(&args.new)?;
        if new.path.is_some_and(|new| Some(&new[..]) != path) {
            return Err(Failure::usage("the path belongs to the old side: SNAP:PATH SNAP"));
        }
        let new = find_snapshot(&repository, &new.snapshot).map_err(|error| {
            let live = Path::new(&args.new).symlink_metadata().is_ok();
            let failure = Failure::from(error);
            let path = args.new.display();
            if live {
                failure.hint(format!("for the files in {path} say ./{path}"))
            } else {
                failure
            }
        })?;
        diff_snapshots(&repository, &old, &new, path, &mut each)?
    };
    if session.json() {
        output.json(&Summary::from(summary))?;
    } else if !session.quiet() {
        output.line(in_words(&summary))?;
    }
    output.finish()?;
    Ok(match summary {
        DiffSummary { problems: 1.., .. } => Exit::Incomplete,
        DiffSummary { added: 0, removed: 0, changed: 0, .. } => Exit::Done,
        _ => Exit::Differs,
    })
}

/// No snapshot's name holds a slash but behind the colon.
fn is_live(text: &OsStr) -> bool {
    let bytes = text.as_bytes();
    bytes.first() == Some(&b'.')
        || bytes.split(|&b| b == b':').next().unwrap_or(bytes).contains(&b'/')
}

fn live(
    session: &Session,
    args: &Args,
    repository: &Repository,
    old: &Snapshot,
    path: Option<&[u8]>,
    each: &mut dyn FnMut(&DiffItem) -> Result<(), OpError>,
) -> Result<DiffSummary, Failure> {
    let folder = sources::absolute(Path::new(&args.new))?;
    let mut patterns = args.exclude.clone();
    let places = std::slice::from_ref(&folder);
    patterns.extend(sources::patterns_against_own(session, places)?);
    let builder = ExcludesBuilder { patterns, use_ignore_files: true, ..Default::default() };
    let options = LiveOptions {
        content: !args.quick,
        excludes: builder.build()?,
        one_file_system: args.one_file_system,
        threads: session.readers(),
    };
    let mapping = LiveMapping::resolve(repository, old, path, &folder)?;
    Ok(diff_live(repository, old, &mapping, &options, each)?)
}

fn print(session: &Session, output: &mut Output, item: &DiffItem) -> Result<(), OutputError> {
    let known = item.new.as_ref().or(item.old.as_ref());
    let path = known.map_or_else(|| PathText::of_path(Path::new("")), PathText::of_entry);
    let aspects = match item.change {
        Change::Changed(aspects) => aspects.iter().map(Aspect::name).collect(),
        Change::Added | Change::Removed => Vec::new(),
    };
    let (sign, change) = match item.change {
        Change::Added => ('+', "added"),
        Change::Removed => ('-', "removed"),
        Change::Changed(_) => ('M', "changed"),
    };
    if session.json() {
        let (old, new) = (item.old.as_ref(), item.new.as_ref());
        let (old, new) = (old.map(EntryLine::new), new.map(EntryLine::new));
        return output.json(&DifferenceLine { path, change, aspects, old, new });
    }
    let path = path.printable();
    match aspects.is_empty() {
        true => output.line(format!("{sign} {path}")),
        false => output.line(format!("{sign} {path}  ({})", aspects.join(", "))),
    }
}

impl From<DiffSummary> for Summary {
    fn from(summary: DiffSummary) -> Self {
        let DiffSummary { added, removed, changed, added_bytes, removed_bytes, problems } = summary;
        Self { added, removed, changed, added_bytes, removed_bytes, problems }
    }
}

fn in_words(summary: &DiffSummary) -> String {
    format!(
        "{} added, {} removed, {} changed; +{}, -{}",
        count(summary.added),
        count(summary.removed),
        count(summary.changed),
        size(summary.added_bytes),
        size(summary.removed_bytes),
    )
}
