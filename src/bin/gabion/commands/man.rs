//! `gabion man`: writes the manual pages.

use std::path::PathBuf;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::errors::{Exit, Failure};

/// Write the manual pages, one for each command, to a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion man ~/.local/share/man/man1 && man gabion-snapshot")]
pub(crate) struct Args {
    /// The folder; made if it is missing
    folder: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| {
            let folder = folder.display();
            Failure::io(format!("cannot write manual pages to {folder}"), &error)
        })?;
    Ok(Exit::Done)
}
