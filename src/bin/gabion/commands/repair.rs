//! `gabion repair`: puts right what a check finds.

use std::path::PathBuf;

use gabion::ops::repair::{RepairOptions, RepairSummary, repair};
use serde::Serialize;

use crate::commands::scrub;
use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::values::counted;
use crate::session::Session;
use crate::{machine, sources};

/// Put right what `gabion check` finds
///
/// Makes lost copies of the configuration, key slots and snapshot records again, lists packs that
/// are in no index segment, and stores again what can be read of damaged packs. Nothing is deleted:
/// what is of no use any more is moved to the folder "quarantine" of the repository, which
/// may be emptied at any time. What stays damaged is named, with what that costs. On a sound
/// repository nothing is changed.
///
/// In repositories that were made with `gabion init --parity`, damaged packs are rebuilt with their
/// parity. With --parity nothing but that is done: damaged parity is made again, too, and no key is
/// needed. Parity that is lost altogether is only made again with the passphrase or key file.
///
/// Files that still are what they were when a snapshot was taken can give back what the repository
/// has lost of it: name them, or folders above them, with --from.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion repair --dry-run
  gabion repair
  gabion repair --read-data --from /home --from /srv/data
  gabion repair --parity -r /srv/gabion --json")]
pub(crate) struct Args {
    /// Only rebuild packs and parity from each other
    #[arg(long, conflicts_with_all = ["dry_run", "read_data", "from", "compression"])]
    parity: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Read all data to find what is damaged, not only the structure
    #[arg(long)]
    read_data: bool,
    /// Take what was lost from files below this folder, where they still have it (repeatable)
    #[arg(long, value_name = "PATH")]
    from: Vec<PathBuf>,
    /// zstd level for what is stored again
    #[arg(long, value_name = "LEVEL", default_value_t = 1,
        value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary {
    dry_run: bool,
    problems_before: u64,
    problems: u64,
    rebuilt: u64,
    copies: u64,
    chunks: u64,
    set_aside: u64,
    packs_waiting: u64,
    segments: u64,
}

/// Repairs the repository.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    if args.parity {
        return scrub::run(session, true);
    }
    let interrupted = session.interruption()?;
    let from = args.from.iter().map(|path| sources::absolute(path)).collect::<Result<_, _>>()?;
    let opened = session.open()?;
    let options = RepairOptions {
        from,
        read_data: args.read_data,
        dry_run: args.dry_run,
        presence: machine::presence(),
        has_ended: machine::has_ended,
        compression: args.compression,
        threads: session.threads(),
        interrupted,
    };
    let summary = repair(&opened.repository, &options)?;
    session.console.finish();
    print(session, &summary, args.dry_run).map_err(|failure| match args.dry_run {
        true => failure,
        false => failure.after("the repair was finished"),
    })?;
    Ok(if summary.problems > 0 { Exit::Damage } else { Exit::Done })
}

fn print(session: &Session, summary: &RepairSummary, dry_run: bool) -> Result<(), Failure> {
    let &RepairSummary {
        problems_before,
        problems,
        rebuilt,
        copies,
        chunks,
        set_aside,
        packs_waiting,
        segments,
    } = summary;
    if session.json() {
        return one_json(&Summary {
            dry_run,
            problems_before,
            problems,
            rebuilt,
            copies,
            chunks,
            set_aside,
            packs_waiting,
            segments,
        });
    }
    if session.quiet() {
        return Ok(());
    }
    if problems_before == 0 {
        return one_line("nothing to repair".to_owned());
    }
    if dry_run {
        return one_line(format!(
            "{}; nothing was changed",
            counted(problems_before, "problem", "problems")
        ));
    }
    let left = match problems {
        0 => "no problems are left".to_owned(),
        _ => format!("{} left", counted(problems, "PROBLEM", "PROBLEMS")),
    };
    one_line(format!(
        "repaired: {} rebuilt, {} made again, {} stored again, {} set aside; {left}",
        counted(rebuilt, "pack", "packs"),
        counted(copies + segments, "object", "objects"),
        counted(chunks, "chunk", "chunks"),
        counted(set_aside, "object", "objects"),
    ))
}
