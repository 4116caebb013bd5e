//! `gabion cat`: writes a file or a stream to standard output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gabion::format::entry::EntryKind;
use gabion::format::snapshot::Snapshot;
use gabion::job::output_file::OutputFile;
use gabion::ops::OpError;
use gabion::ops::cat::cat;
use gabion::ops::find_snapshot;
use gabion::ops::list::find_entry;
use gabion::repo::Repository;

use crate::arguments::snapshot_spec;
use crate::errors::{Exit, Failure};
use crate::output::Output;
use crate::session::Session;

/// Write a file or a stream of a snapshot to standard output or a file
///
/// Ends with another code than 0 if not every byte was written and verified. A reader that has
/// enough before the end makes that code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion cat latest:/etc/fstab
  gabion cat latest:db.sql | psql mydb
  gabion cat latest:/srv/app/config.json --output config.json")]
pub(crate) struct Args {
    /// The snapshot, and the file's path or the stream's name
    #[arg(value_name = "SNAP:PATH")]
    what: OsString,
    /// Write to this file instead, which is replaced once all of it is there. A new one gets the
    /// permissions that the file has in the snapshot; a stream's can be read by its owner only
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    if let Some(file) = &args.output {
        return into_file(&opened.repository, &snapshot, &path, file);
    }
    let mut output = Output::new();
    let result = cat(&opened.repository, &snapshot, &path, &mut output).map_err(Failure::from);
    result.and_then(|_| output.finish().map_err(Failure::from)).map_err(|failure| {
        // What follows in a pipe may have taken a part for the whole.
        if failure.is_closed_output() { failure.with_exit(Exit::Failed) } else { failure }
    })?;
    Ok(Exit::Done)
}

fn into_file(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    file: &Path,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::io(format!("cannot write {}", file.display()), &error);
    let meta = find_entry(repository, snapshot, path)?.meta;
    let mode = match meta.kind {
        EntryKind::File => u32::from(meta.mode) & 0o777,
        _ => 0o600,
    };
    let mut output = OutputFile::create(file, mode).map_err(failed)?;
    match cat(repository, snapshot, path, &mut output) {
        Ok(_) => output.finish().map_err(failed)?,
        Err(OpError::Output(error)) => return Err(failed(error)),
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}
