//! `gabion report`: a page about the past of the jobs.

mod tables;

use std::path::PathBuf;

use gabion::format::entry::Timestamp;
use gabion::job::state::{Outcome, Past, PastDrill, RunRecord, StateFolder, replace};

use super::status::StateArgs;
use crate::errors::{Exit, Failure};
use crate::output::one_line;
use crate::render::html::Page;
use crate::render::plot::{Plot, Point, Style};
use crate::render::values::{counted, size, time};
use crate::session::Session;
use crate::{configuration, machine};

const DAY: i64 = 86_400;

/// Write a page about the past of the jobs: sizes, durations, failures, drills
///
/// One file that needs nothing else: no script, no link, nothing is loaded. Made from what is
/// remembered on this machine; no key is needed and no repository is opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion report --html /srv/www/gabion.html
  gabion report nightly --html report.html")]
pub(crate) struct Args {
    /// The jobs [default: all that ran or are configured]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// The file, which is replaced
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// What is remembered of a job.
struct Known {
    job: String,
    runs: Vec<RunRecord>,
    drills: Vec<PastDrill>,
}

/// Writes it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let state = args.state.folder()?;
    let jobs = match &args.jobs[..] {
        [] => all_jobs(session, &state)?,
        named => named.to_vec(),
    };
    let known: Vec<Known> =
        jobs.into_iter().map(|job| look(&state, job)).collect::<Result<_, _>>()?;
    let text = page(&known);
    replace(&args.html, text.as_bytes())
        .map_err(|error| Failure::io(format!("cannot write {}", args.html.display()), &error))?;
    if !session.quiet() {
        let runs: usize = known.iter().map(|job| job.runs.len()).sum();
        let runs = counted(runs as u64, "run", "runs");
        let jobs = counted(known.len() as u64, "job", "jobs");
        one_line(format!("{}: {runs} of {jobs}", args.html.display()))?;
    }
    Ok(Exit::Done)
}

/// The jobs that ran or are configured.
pub(crate) fn all_jobs(session: &Session, state: &StateFolder) -> Result<Vec<String>, Failure> {
    let mut jobs = state.jobs()?;
    jobs.extend(configuration::find(session)?.into_iter().flat_map(|found| found.jobs.into_keys()));
    jobs.sort();
    jobs.dedup();
    Ok(jobs)
}

fn look(state: &StateFolder, job: String) -> Result<Known, Failure> {
    let (mut runs, mut drills) = (Vec::new(), Vec::new());
    for item in state.past(&job)? {
        match item {
            Past::Run(run) => runs.push(run),
            Past::Drill(drill) => drills.push(drill),
        }
    }
    // What ran before there was a past is known by its last run only.
    if runs.is_empty() {
        runs.extend(state.read(&job)?.and_then(|status| status.last_run));
    }
    Ok(Known { job, runs, drills })
}

fn page(known: &[Known]) -> String {
    let host = machine::host();
    let now = machine::now();
    let mut page = Page::new(&format!("gabion on {host}"));
    page.element("h1", "", &format!("gabion on {host}"));
    page.element("p", "soft", &format!("As remembered on {}.", time(now)));
    if known.is_empty() {
        page.element("p", "", "No job ever ran, and none is configured.");
    }
    for job in known {
        section(&mut page, job, now.seconds);
    }
    page.finish()
}

fn section(page: &mut Page, known: &Known, now: i64) {
    page.element("h2", "", &known.job);
    let Some(last) = known.runs.last() else {
        page.element("p", "warn", "It never ran.");
        return;
    };
    cards(page, known, last, now);
    page.raw("<div class=\"plots\">\n");
    plots(page, known);
    page.raw("</div>\n");
    tables::runs(page, &known.runs);
    if !known.drills.is_empty() {
        tables::drills(page, &known.drills);
    }
    let checks: Vec<&RunRecord> = known.runs.iter().filter(|run| run.checked.is_some()).collect();
    if !checks.is_empty() {
        tables::checks(page, &checks);
    }
}

fn cards(page: &mut Page, known: &Known, last: &RunRecord, now: i64) {
    page.raw("<div class=\"cards\">\n");
    let mut card = |title: &str, class: &str, value: &str, more: &str| {
        page.raw("<div class=\"card\">");
        page.element("h3", "", title);
        page.element("b", class, value);
        page.element("small", "", more);
        page.raw("</div>\n");
    };
    let (class, word) = of_outcome(last.outcome);
    card("Last run", class, word, &ago(now - last.ended));
    let success = known.runs.iter().rev().find(|run| run.outcome == Outcome::Ok);
    match success {
        None => card("Size", "bad", "none", "no run succeeded"),
        Some(run) => {
            let month = known
                .runs
                .iter()
                .find(|other| other.outcome == Outcome::Ok && other.ended > run.ended - 30 * DAY);
            let more = match month.filter(|other| other.ended < run.ended) {
                Some(first) => {
                    format!("{} since {}", change(first.bytes, run.bytes), day(first.ended))
                }
                None => "the first success".to_owned(),
            };
            card("Size", "", &size(run.bytes), &more);
        }
    }
    let recent: Vec<&RunRecord> =
        known.runs.iter().filter(|run| run.ended > now - 30 * DAY).collect();
    let good = recent.iter().filter(|run| run.outcome == Outcome::Ok).count();
    let class = if good == recent.len() { "ok" } else { "warn" };
    card("Last 30 days", class, &format!("{good} of {} ok", recent.len()), "runs");
    let added: u64 = recent.iter().map(|run| run.added_bytes).sum();
    card("Added in 30 days", "", &size(added), "to the repository");
    match known.drills.last() {
        None => card("Last drill", "warn", "never", "is it restorable?"),
        Some(drill) if drill.ok => card("Last drill", "ok", "passed", &ago(now - drill.ended)),
        Some(drill) => card("Last drill", "bad", "FAILED", &ago(now - drill.ended)),
    }
    page.raw("</div>\n");
}

fn plots(page: &mut Page, known: &Known) {
    let taken = || known.runs.iter().filter(|run| run.snapshot.is_some());
    let sizes: Vec<Point> =
        taken().map(|run| point(run, run.bytes, &size(run.bytes), "dot")).collect();
    let added: Vec<Point> =
        taken().map(|run| point(run, run.added_bytes, &size(run.added_bytes), "bar")).collect();
    let times = durations(&known.runs);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "values of a plot are not negative and far from the limit"
    )]
    let (bytes, duration) =
        (|value: f64| size(value as u64), |value: f64| seconds(value.round() as u64));
    for plot in [
        Plot {
            title: "Size",
            points: &sizes,
            style: Style::Curve,
            unit: &bytes,
            scale: &binary,
            date: &day,
        },
        Plot {
            title: "Added by each run",
            points: &added,
            style: Style::Bars,
            unit: &bytes,
            scale: &binary,
            date: &day,
        },
        Plot {
            title: "Duration and success",
            points: &times,
            style: Style::Bars,
            unit: &duration,
            scale: &of_time,
            date: &day,
        },
        Plot {
            title: "Runs that were ok, by week",
            points: &by_week(&known.runs),
            style: Style::Bars,
            unit: &|value| format!("{value:.0} %"),
            scale: &|_| 1.0,
            date: &day,
        },
    ] {
        if !plot.points.is_empty() {
            page.raw("<div class=\"plot\">");
            page.element("h3", "", plot.title);
            page.raw(&plot.svg());
            page.raw("</div>\n");
        }
    }
}

/// A value of a run.
fn point(run: &RunRecord, value: u64, what: &str, class: &'static str) -> Point {
    Point {
        time: run.ended,
        #[expect(clippy::cast_precision_loss, reason = "a height on a screen")]
        value: value as f64,
        said: format!("{}: {what}", minute(run.ended)),
        class,
    }
}

/// How long each run took, in the colour of how it ended.
fn durations(runs: &[RunRecord]) -> Vec<Point> {
    let took = |run: &RunRecord| u64::try_from(run.ended - run.started).unwrap_or(0);
    runs.iter()
        .map(|run| {
            let class = match run.outcome {
                Outcome::Ok => "is-ok",
                Outcome::Incomplete => "is-warn",
                Outcome::Failed => "is-bad",
            };
            let (_, word) = of_outcome(run.outcome);
            point(run, took(run), &format!("{}, {word}", seconds(took(run))), class)
        })
        .collect()
}

/// Of the runs of each week, how many of a hundred succeeded.
fn by_week(runs: &[RunRecord]) -> Vec<Point> {
    let mut weeks: Vec<(i64, u32, u32)> = Vec::new();
    for run in runs {
        let week = run.ended.div_euclid(7 * DAY);
        if weeks.last().is_none_or(|last| last.0 != week) {
            weeks.push((week, 0, 0));
        }
        if let Some((_, good, all)) = weeks.last_mut() {
            *good += u32::from(run.outcome == Outcome::Ok);
            *all += 1;
        }
    }
    let point = |(week, good, all): (i64, u32, u32)| Point {
        time: week * 7 * DAY,
        value: 100.0 * f64::from(good) / f64::from(all.max(1)),
        said: format!("week of {}: {good} of {all}", day(week * 7 * DAY)),
        class: match good {
            good if good == all => "is-ok",
            0 => "is-bad",
            _ => "is-warn",
        },
    };
    weeks.into_iter().map(point).collect()
}

fn of_outcome(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Ok => ("ok", "ok"),
        Outcome::Incomplete => ("warn", "incomplete"),
        Outcome::Failed => ("bad", "FAILED"),
    }
}

/// The binary unit that `bytes` are told in.
fn binary(bytes: f64) -> f64 {
    let mut unit = 1.0;
    while bytes >= unit * 1024.0 {
        unit *= 1024.0;
    }
    unit
}

/// The unit of time that `seconds` are told in.
fn of_time(seconds: f64) -> f64 {
    match seconds {
        ..120.0 => 1.0,
        ..7200.0 => 60.0,
        _ => 3600.0,
    }
}

/// The day, as `2026-11-26`.
fn day(seconds: i64) -> String {
    minute(seconds).chars().take(10).collect()
}

/// The time without seconds.
fn minute(seconds: i64) -> String {
    time(Timestamp { seconds, nanos: 0 }).chars().take(16).collect()
}

/// A duration with its two largest units.
fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn ago(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    match seconds / 3600 {
        0 => format!("{} min ago", seconds / 60),
        hours @ 1..48 => format!("{hours} h ago"),
        hours => format!("{} days ago", hours / 24),
    }
}

fn change(from: u64, to: u64) -> String {
    let sign = if to < from { "\u{2212}" } else { "+" };
    format!("{sign}{}", size(to.abs_diff(from)))
}
