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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser as _;
use errors::Failure;

fn main() -> ExitCode {
    process::prepare();
    let cli = cli::Cli::parse();
    // What panicked was reported where it happened.
    match catch_unwind(AssertUnwindSafe(|| cli.run())) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => failure.report().into(),
        Err(_) => Failure::internal("internal error: the program stopped").report().into(),
    }
}
