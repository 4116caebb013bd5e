//! `gabion cat`: writes a file or a stream to standard output.

use std::ffi::OsString;

use gabion::ops::cat::cat;
use gabion::ops::find_snapshot;

use crate::arguments::snapshot_spec;
use crate::errors::{Exit, Failure};
use crate::output::Output;
use crate::session::Session;

/// Write a file or a stream of a snapshot to standard output
///
/// Ends with another code than 0 if not every byte was written and verified. A reader that has
/// enough before the end makes that code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion cat latest:/etc/fstab
  gabion cat latest:db.sql | psql mydb")]
pub(crate) struct Args {
    /// The snapshot, and the file's path or the stream's name
    #[arg(value_name = "SNAP:PATH")]
    what: OsString,
}

/// Writes the content.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let spec = snapshot_spec(&args.what)?;
    let path = spec.path.filter(|path| !path.is_empty()).ok_or_else(|| {
        Failure::usage("which file? write SNAP:PATH").hint("`gabion ls SNAP` shows the paths")
    })?;
    let opened = session.open_with_index()?;
    let snapshot = find_snapshot(&opened.repository, &spec.snapshot)?;
    session.console.finish();
    let mut output = Output::new();
    let result = cat(&opened.repository, &snapshot, &path, &mut output).map_err(Failure::from);
    result.and_then(|_| output.finish().map_err(Failure::from)).map_err(|failure| {
        // What follows in a pipe may have taken a part for the whole.
        if failure.is_closed_output() { failure.with_exit(Exit::Failed) } else { failure }
    })?;
    Ok(Exit::Done)
}
