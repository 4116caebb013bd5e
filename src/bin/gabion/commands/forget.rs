//! `gabion forget`: removes snapshots, by name or by a policy.

use std::sync::Arc;

use gabion::format::path::{harmless, printable};
use gabion::format::snapshot::RawBytes;
use gabion::id::SnapshotId;
use gabion::ops::forget::{ForgetLimits, ForgetPlan, ForgetSummary};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::retention::{Decision, Group, GroupBy, GroupKey};
use gabion::repo::Repository;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::arguments::Selection;
use crate::errors::{Exit, Failure};
use crate::keep::KeepArgs;
use crate::machine;
use crate::output::{Output, OutputError, one_line};
use crate::render::table::{Side, Table};
use crate::render::values::{counted, rfc3339, short, size, time};
use crate::session::Session;

/// Remove snapshots, by name or by what is to be kept
///
/// Only the records of the snapshots are removed; what they hold stays stored until it is pruned.
/// A policy judges the snapshots of the same host, paths (and streams) and job among themselves,
/// and keeps what any of its rules keeps. Durations such as 1y5m7d2h (years, months, weeks, days,
/// hours) count from the newest snapshot. A snapshot of which sources could not be read takes no
/// place of a complete one. One whose time is more than a day away from when it was stored (taken
/// with --time, say, or tagged later) competes only with others of that kind. Pinned ones stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion forget 1a2b3c4d
  gabion forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  gabion forget --keep-within 14d --keep-tag yearly --host db1")]
pub(crate) struct Args {
    /// The snapshots that go
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    /// What the snapshots that are judged together have in common: host, paths, job and tags, with
    /// commas between them; '' for all together [default: host,paths,job]
    #[arg(long, value_name = "WORDS")]
    group_by: Option<GroupBy>,
    #[command(flatten)]
    selection: Selection,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove even the last complete snapshot of a group, more than --max-share, or what is damaged
    #[arg(long)]
    force: bool,
    /// Refuse a policy that removes a larger share of the snapshots, when it is more than 3
    #[arg(long, value_name = "P%", default_value = "50%", value_parser = parse_percent)]
    max_share: u8,
    // Last, because all that follows would come under its heading.
    #[command(flatten)]
    keep: KeepArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "decision")]
struct DecisionLine<'a> {
    id: SnapshotId,
    time: String,
    host: &'a str,
    paths: &'a [RawBytes],
    streams: Vec<&'a str>,
    tags: &'a [String],
    job: Option<&'a str>,
    problems: u64,
    pinned: bool,
    time_believed: bool,
    group: GroupLine<'a>,
    keep: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct GroupLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<&'a RawBytes>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<&'a str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct SummaryLine<'a> {
    removed: &'a [SnapshotId],
    kept: u64,
    dry_run: bool,
}

/// Decides, shows, and removes.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    args.check()?;
    let opened = session.open()?;
    if !args.dry_run {
        opened.certain()?;
    }
    let plan = plan(&opened.repository, args)?;
    let limits = ForgetLimits { force: args.force, max_share_percent: args.max_share };
    let by_name = !args.snapshots.is_empty();
    let shown = plan.clone();
    if args.dry_run {
        let summary = plan.summary();
        print(session, &shown, &summary, by_name, true)?;
        // A dry run says how the real one would end.
        plan.check(limits)?;
        foresee(session, &opened.repository, summary)?;
    } else {
        let summary = plan.execute(&opened.repository, limits, &machine::presence())?;
        print(session, &shown, &summary, by_name, false).map_err(|failure| {
            failure.after(format!("{} snapshots were removed", summary.removed.len()))
        })?;
    }
    Ok(Exit::Done)
}

/// Says what a prune would give back then.
fn foresee(
    session: &Session,
    repository: &Arc<Repository>,
    summary: ForgetSummary,
) -> Result<(), Failure> {
    if session.quiet() || session.json() || summary.removed.is_empty() {
        return Ok(());
    }
    let options = PruneOptions {
        dry_run: true,
        without: summary.removed.into_iter().collect(),
        max_unused: 0.0,
        ..super::prune::usual(session, session.interruption()?)
    };
    let freed = prune(repository, &options)?;
    session.console.finish();
    let bytes = freed.bytes_before.saturating_sub(freed.bytes_after);
    one_line(format!("a prune would then free {}", size(bytes)))
}

fn plan(repository: &Repository, args: &Args) -> Result<ForgetPlan, Failure> {
    let by = args.group_by.unwrap_or_default();
    if !args.snapshots.is_empty() {
        return Ok(ForgetPlan::named(repository, &args.snapshots, by)?);
    }
    let wanted = args.selection.filter()?;
    let policy = args.keep.policy().unwrap_or_default();
    Ok(ForgetPlan::by_policy(repository, &wanted, &policy, by, &TimeZone::system())?)
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        let policy = self.keep.policy();
        if self.snapshots.is_empty() {
            return policy.map(drop).ok_or_else(|| {
                Failure::usage("nothing says which snapshots go")
                    .hint("name snapshots, or say with --keep-daily and the like what stays")
            });
        }
        if policy.is_some() || !self.selection.is_all() {
            return Err(Failure::usage(
                "either name snapshots, or let a policy and filters choose them",
            ));
        }
        Ok(())
    }
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let percent = number.parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| format!("{text:?} is no share from 0% to 100%"))
}

fn print(
    session: &Session,
    plan: &ForgetPlan,
    summary: &ForgetSummary,
    by_name: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    let mut output = Output::new();
    // Of what was named, only what goes is of interest.
    let is_shown = |one: &&Decision| !by_name || !one.kept;
    for group in plan.groups() {
        let shown: Vec<&Decision> = group.decisions.iter().filter(is_shown).collect();
        if session.json() {
            for decision in shown {
                output.json(&DecisionLine::new(decision, group))?;
            }
        } else if !session.quiet() && !shown.is_empty() {
            table(&mut output, group, &shown)?;
        }
    }
    if session.json() {
        output.json(&SummaryLine { removed: &summary.removed, kept: summary.kept, dry_run })?;
    } else if !session.quiet() {
        let count = u64::try_from(summary.removed.len()).unwrap_or(u64::MAX);
        let removed = counted(count, "snapshot", "snapshots");
        let kept = counted(summary.kept, "stays", "stay");
        output.line(match dry_run {
            true => format!("dry run, nothing removed: {removed} would go, {kept}"),
            false => format!("{removed} removed, {kept}"),
        })?;
    }
    Ok(output.finish()?)
}

fn table(output: &mut Output, group: &Group, shown: &[&Decision]) -> Result<(), OutputError> {
    output.line(&group.key)?;
    let columns = ["", "ID", "TIME", "HOST", "WHY"].map(|name| (name, Side::Left));
    let mut table = Table::new(&columns);
    for decision in shown {
        let snapshot = &decision.snapshot;
        table.row([
            if decision.kept { "keep" } else { "remove" }.to_owned(),
            short(snapshot.id),
            time(snapshot.time),
            printable(snapshot.host.as_bytes()),
            why(decision),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    output.line("")
}

fn why(decision: &Decision) -> String {
    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    let mut why = reasons.join(", ");
    if !decision.believed {
        why.push_str(" (its time is not when it was stored)");
    }
    harmless(why.trim_start().as_bytes())
}

impl<'a> DecisionLine<'a> {
    fn new(decision: &'a Decision, group: &'a Group) -> Self {
        let snapshot = &decision.snapshot;
        Self {
            id: snapshot.id,
            time: rfc3339(snapshot.time),
            host: &snapshot.host,
            paths: &snapshot.paths,
            streams: snapshot.streams.iter().map(|stream| &*stream.name).collect(),
            tags: &snapshot.tags,
            job: snapshot.job.as_deref(),
            problems: snapshot.problems,
            pinned: snapshot.pinned,
            time_believed: decision.believed,
            group: GroupLine::new(&group.key),
            keep: decision.kept,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> GroupLine<'a> {
    fn new(key: &'a GroupKey) -> Self {
        let words = |set: &'a Option<std::collections::BTreeSet<String>>| {
            set.as_ref().map(|set| set.iter().map(String::as_str).collect())
        };
        Self {
            host: key.host.as_deref(),
            paths: key.paths.as_ref().map(|paths| paths.iter().collect()),
            streams: words(&key.streams),
            job: key.job.as_ref().map(Option::as_deref),
            tags: words(&key.tags),
        }
    }
}
