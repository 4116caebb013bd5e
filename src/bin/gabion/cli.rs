//! The command line as a whole: the commands and their order in the help.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::errors::{EXIT_CODES, Exit, Failure};
use crate::session::{Global, Session};

/// Deduplicating, encrypted snapshots of databases and very large file trees
#[derive(Debug, Parser)]
#[command(name = "gabion", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(commands::init::Args),
    Snapshot(Box<commands::snapshot::Args>),
    Snapshots(commands::snapshots::Args),
    Ls(commands::ls::Args),
    Cat(commands::cat::Args),
    Check(commands::check::Args),
    Repair(commands::repair::Args),
    Restore(commands::restore::Args),
    Diff(commands::diff::Args),
    Find(commands::find::Args),
    Stats(commands::stats::Args),
    Forget(Box<commands::forget::Args>),
    Tag(commands::tag::Args),
    Pin(commands::pin::PinArgs),
    Unpin(commands::pin::UnpinArgs),
    Prune(commands::prune::Args),
    RebuildIndex(commands::rebuild_index::Args),
    Key(commands::key::Args),
    Setup(Box<commands::setup::Args>),
    Run(commands::run::Args),
    Jobs(commands::jobs::Args),
    Drill(commands::drill::Args),
    Status(commands::status::Args),
    Report(commands::report::Args),
    Cron(commands::cron::Args),
    #[cfg(target_os = "linux")]
    Watch(commands::watch::Args),
    Why(commands::why::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    Version(commands::version::Args),
}

impl Command {
    /// Whether it hands out what snapshots hold, which is as good as ever when others are gone.
    fn reads_content(&self) -> bool {
        matches!(
            self,
            Self::Ls(_) | Self::Cat(_) | Self::Restore(_) | Self::Diff(_) | Self::Find(_)
        )
    }

    /// Whether it opens the repository of its own accord; a run takes that of its configuration.
    fn needs_repository(&self) -> bool {
        #[cfg(target_os = "linux")]
        if matches!(self, Self::Watch(_)) {
            return false;
        }
        !matches!(
            self,
            Self::Init(_)
                | Self::Setup(_)
                | Self::Run(_)
                | Self::Drill(_)
                | Self::Jobs(_)
                | Self::Status(_)
                | Self::Cron(_)
                | Self::Report(_)
                | Self::Why(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Version(_)
        )
    }
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut session = Session::new(self.global);
        if self.command.needs_repository() {
            session.fall_back_on_configuration()?;
        }
        let reads_content = self.command.reads_content();
        let result = match self.command {
            Command::Init(args) => commands::init::run(&session, &args),
            Command::Snapshot(args) => commands::snapshot::run(&session, *args),
            Command::Snapshots(args) => commands::snapshots::run(&session, &args),
            Command::Ls(args) => commands::ls::run(&session, &args),
            Command::Cat(args) => commands::cat::run(&session, &args),
            Command::Check(args) => commands::check::run(&session, &args),
            Command::Repair(args) => commands::repair::run(&session, &args),
            Command::Restore(args) => commands::restore::run(&session, args),
            Command::Diff(args) => commands::diff::run(&session, &args),
            Command::Find(args) => commands::find::run(&session, &args),
            Command::Stats(args) => commands::stats::run(&session, &args),
            Command::Forget(args) => commands::forget::run(&session, &args),
            Command::Tag(args) => commands::tag::run(&session, &args),
            Command::Pin(args) => commands::pin::run(&session, &args.snapshots, true),
            Command::Unpin(args) => commands::pin::run(&session, &args.snapshots, false),
            Command::Prune(args) => commands::prune::run(&session, &args),
            Command::RebuildIndex(args) => commands::rebuild_index::run(&session, &args),
            Command::Key(args) => commands::key::run(&session, &args),
            Command::Setup(args) => commands::setup::run(&mut session, &args),
            Command::Run(args) => commands::run::run(&mut session, &args),
            Command::Jobs(args) => commands::jobs::run(&session, &args),
            Command::Drill(args) => commands::drill::run(&mut session, &args),
            Command::Status(args) => commands::status::run(&mut session, &args),
            Command::Report(args) => commands::report::run(&session, &args),
            Command::Cron(args) => commands::cron::run(&session, &args),
            #[cfg(target_os = "linux")]
            Command::Watch(args) => commands::watch::run(&session, args),
            Command::Why(args) => commands::why::run(&session, &args),
            Command::Completions(args) => commands::completions::run(&args),
            Command::Man(args) => commands::man::run(&args),
            Command::Version(args) => commands::version::run(&session, &args),
        };
        // An error is not written across a bar.
        session.console.finish();
        // What was asked for was done where something was read; that was said loudly.
        if reads_content { result } else { result.map(|exit| session.exit(exit)) }
    }
}
