//! The `gabion` program: arguments in, one operation of the library, text and an exit code out.
//!
//! Everything that a library must not do happens here and only here: printing, asking, reading the
//! environment, handling signals.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks to its user; the library stays silent"
)]

mod arguments;
mod cli;
mod commands;
mod configuration;
mod console;
mod errors;
mod gentle;
mod keep;
mod key_sources;
mod limit;
mod machine;
mod mail;
mod nearby;
mod next_run;
mod notify;
mod output;
mod process;
mod progress;
mod render;
mod running;
mod session;
mod sources;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    process::prepare();
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}
