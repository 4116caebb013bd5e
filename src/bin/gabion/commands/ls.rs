//! `gabion ls`: lists what a snapshot holds.

use std::ffi::OsString;

use gabion::format::page::EntryRef;
use gabion::ops::list::list;
use gabion::ops::{OpError, find_snapshot};

use crate::arguments::snapshot_spec;
use crate::errors::{Exit, Failure};
use crate::output::Output;
use crate::render::records::{EntryLine, long_line};
use crate::session::Session;

/// List what a snapshot holds, in the order of the paths
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion ls latest
  gabion ls -l latest:/home/me
  gabion ls --flat 1a2b3c4d:/etc")]
pub(crate) struct Args {
    /// The snapshot, and which folder of it
    #[arg(value_name = "SNAP[:PATH]")]
    what: OsString,
    /// Show kind, permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Only what lies directly in the folder
    #[arg(long)]
    flat: bool,
}

/// Lists the entries.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let spec = snapshot_spec(&args.what)?;
    let opened = session.open_with_index()?;
    let snapshot = find_snapshot(&opened.repository, &spec.snapshot)?;
    session.console.finish();
    let mut output = Output::new();
    let mut each = |entry: &EntryRef<'_>| {
        let printed = if session.json() {
            output.json(&EntryLine::new(&entry.to_entry()))
        } else if args.long {
            output.line(long_line(&entry.to_entry()))
        } else {
            output.path(entry.path(), entry.kind())
        };
        printed.map_err(|error| OpError::Output(error.0))
    };
    let path = spec.path.unwrap_or_default();
    list(&opened.repository, &snapshot, &path, !args.flat, &mut each)?;
    output.finish()?;
    Ok(Exit::Done)
}
