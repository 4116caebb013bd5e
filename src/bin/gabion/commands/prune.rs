//! `gabion prune`: gives back the space of what no snapshot needs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gabion::format::entry::Timestamp;
use gabion::id::SnapshotId;
use gabion::ops::forget::{ForgetLimits, ForgetPlan};
use gabion::ops::prune::{PruneOptions, PruneSummary, prune};
use gabion::ops::retention::{GroupBy, Policy};
use gabion::repo::Repository;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::keep::KeepArgs;
use crate::machine;
use crate::output::{one_json, one_line};
use crate::render::values::{counted, parse_size, size};
use crate::session::Session;

/// Give back the space of what no snapshot needs
///
/// Deletes packs of which nothing is needed, and stores again what is needed of packs that are
/// mostly dead. Snapshots may be taken meanwhile, by this and other machines: what they may rely on
/// stays until they have ended. It may be stopped at any time; the next run goes on.
///
/// With --keep-..., snapshots are forgotten first, as `gabion forget` does with the same options.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion prune
  gabion prune --dry-run
  gabion prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12
  gabion prune --max-unused 0% --budget 10m
  gabion prune --max-repack-size 20GiB")]
pub(crate) struct Args {
    /// Only say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Dead bytes that may stay in packs that are mostly needed, as a share of what is needed
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = parse_share)]
    max_unused: f64,
    /// Store no more than this again in one run
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_repack_size: Option<u64>,
    /// Stop storing again after this time, such as 90s, 10m or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    budget: Option<Duration>,
    /// Believe that snapshots are gone that were there when this machine last pruned
    #[arg(long)]
    accept_fewer: bool,
    /// Drop unfinished snapshots of other machines at once; say this only when none is at work
    #[arg(long)]
    drop_unfinished: bool,
    /// zstd level for what is stored again
    #[arg(long, value_name = "LEVEL", default_value_t = 1,
        value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
    /// With a policy: remove even the last complete snapshot of a group, or most of them
    #[arg(long)]
    force: bool,
    // Last, because all that follows would come under its heading.
    #[command(flatten)]
    keep: KeepArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary {
    dry_run: bool,
    snapshots: u64,
    bytes_before: u64,
    bytes_after: u64,
    packs_deleted: u64,
    packs_rewritten: u64,
    bytes_rewritten: u64,
    bytes_unused: u64,
    packs_waiting: u64,
    sessions: u64,
    sessions_ended: u64,
}

/// Prunes the repository.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let interrupted = session.interruption()?;
    let opened = session.open()?;
    if !args.dry_run {
        opened.certain()?;
    }
    let late_at = args.budget.map(|budget| {
        let now = machine::now();
        let seconds = i64::try_from(budget.as_secs()).unwrap_or(i64::MAX);
        Timestamp { seconds: now.seconds.saturating_add(seconds), ..now }
    });
    let forgotten = match args.keep.policy() {
        Some(policy) => forget(session, &opened.repository, &policy, args)?,
        None => Vec::new(),
    };
    let options = PruneOptions {
        max_unused: args.max_unused,
        max_repack: args.max_repack_size,
        late_at,
        dry_run: args.dry_run,
        without: forgotten.into_iter().collect(),
        accept_fewer: args.accept_fewer,
        drop_unfinished: args.drop_unfinished,
        compression: args.compression,
        ..usual(session, interrupted)
    };
    let summary = prune(&opened.repository, &options)?;
    session.console.finish();
    print(session, &summary, args.dry_run).map_err(|failure| match args.dry_run {
        true => failure,
        false => failure.after("the prune was finished"),
    })?;
    Ok(Exit::Done)
}

/// How to prune when nothing is said about it.
pub(crate) fn usual(session: &Session, interrupted: Arc<AtomicBool>) -> PruneOptions {
    PruneOptions {
        identity: machine::identity(),
        has_ended: machine::has_ended,
        interrupted,
        ..PruneOptions::new(machine::host(), machine::now, session.threads())
    }
}

/// Forgets by policy, or in a dry run only says what would be forgotten.
fn forget(
    session: &Session,
    repository: &Repository,
    policy: &Policy,
    args: &Args,
) -> Result<Vec<SnapshotId>, Failure> {
    let (by, zone) = (GroupBy::default(), TimeZone::system());
    let plan = ForgetPlan::by_policy(repository, &|_| true, policy, by, &zone)?;
    let limits = ForgetLimits { force: args.force, ..ForgetLimits::default() };
    let summary = match args.dry_run {
        true => plan.check(limits).map(|()| plan.summary())?,
        false => plan.execute(repository, limits, &machine::presence())?,
    };
    let removed = summary.removed;
    if !removed.is_empty() && !session.json() && !session.quiet() {
        let count = counted(removed.len() as u64, "snapshot", "snapshots");
        one_line(match args.dry_run {
            true => format!("{count} would be forgotten; `gabion forget --dry-run` shows them"),
            false => format!("{count} forgotten"),
        })?;
    }
    Ok(removed)
}

fn print(session: &Session, summary: &PruneSummary, dry_run: bool) -> Result<(), Failure> {
    if session.json() {
        return one_json(&Summary {
            dry_run,
            snapshots: summary.snapshots,
            bytes_before: summary.bytes_before,
            bytes_after: summary.bytes_after,
            packs_deleted: summary.packs_deleted,
            packs_rewritten: summary.packs_rewritten,
            bytes_rewritten: summary.bytes_rewritten,
            bytes_unused: summary.bytes_unused,
            packs_waiting: summary.packs_waiting,
            sessions: summary.sessions,
            sessions_ended: summary.sessions_ended,
        });
    }
    if session.quiet() { Ok(()) } else { one_line(in_words(summary, dry_run)) }
}

fn in_words(summary: &PruneSummary, dry_run: bool) -> String {
    let freed = size(summary.bytes_before.saturating_sub(summary.bytes_after));
    let what = if dry_run { "dry run, nothing deleted: would free" } else { "pruned: freed" };
    let mut line = format!(
        "{what} {freed} of {}, deleting {}",
        size(summary.bytes_before),
        counted(summary.packs_deleted, "pack", "packs"),
    );
    if summary.packs_rewritten > 0 {
        line += &format!(
            ", {} of them after storing {} again",
            summary.packs_rewritten,
            size(summary.bytes_rewritten)
        );
    }
    line += &format!(
        "; {} left, of which {} unused",
        size(summary.bytes_after),
        size(summary.bytes_unused)
    );
    if summary.packs_waiting > 0 {
        line += &format!(
            "; {} more will go with the next prune: {} at work",
            counted(summary.packs_waiting, "pack", "packs"),
            counted(summary.sessions, "snapshot is", "snapshots are"),
        );
    }
    line
}

fn parse_share(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no percentage such as 5%");
    let percent: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| bad())?;
    if (0.0..=1000.0).contains(&percent) { Ok(percent / 100.0) } else { Err(bad()) }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time such as 90s, 10m or 2h");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_read() {
        assert_eq!(parse_share("0"), Ok(0.0));
        assert_eq!(parse_share("12.5%"), Ok(0.125));
        assert_eq!(parse_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "%", "-1%", "x", "NaN"] {
            assert!(parse_share(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "10", "m", "1d", "-1s", "99999999999999999999h", "1é"] {
            assert!(parse_time(bad).is_err(), "{bad:?}");
        }
    }
}
