//! `gabion completions`: lets a shell complete commands and options.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::errors::{Exit, Failure};
use crate::output::Output;

/// Print a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion completions bash > ~/.local/share/bash-completion/completions/gabion
  gabion completions zsh > ~/.zfunc/_gabion")]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    // Made in memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gabion", &mut script);
    let mut output = Output::new();
    std::io::Write::write_all(&mut output, &script).map_err(Failure::output)?;
    output.finish()?;
    Ok(Exit::Done)
}
