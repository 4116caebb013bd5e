//! `gabion status`: whether all jobs are well, from what is remembered of them; no key is needed.

mod changed;
mod figures;

use std::path::PathBuf;
use std::time::Duration;

use gabion::format::entry::Timestamp;
use gabion::job::config::{Configuration, duration_text, parse_duration};
use gabion::job::state::{
    CUT_OFF, Checked, DrillRecord, Outcome, RunRecord, StateFolder, Status, is_in_the_future,
    replace,
};
use serde::Serialize;

use self::figures::figures;
use crate::errors::{Exit, Failure};
use crate::next_run::next_run;
use crate::output::{Output, one_json, one_line};
use crate::render::values::{age, counted, short, size, time};
use crate::session::Session;
use crate::{configuration, machine};

/// How far, in seconds, a run may have ended in the future for its time to be believed.
const CLOCK_SLACK: i64 = 24 * 60 * 60;

/// Say on one line whether the jobs are well
///
/// Ends with 1 when a job failed last, was incomplete, never ran, or succeeded too long ago. Reads
/// what is remembered on this machine, and no key is needed. A repository on this machine is looked
/// at, too: with 13 it ends when snapshots are gone that this machine took and nobody forgot.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion status
  gabion status --long
  gabion status nightly --max-age 26h
  gabion status --prometheus /var/lib/node-exporter/gabion.prom")]
pub(crate) struct Args {
    /// Look at these jobs [default: all that ran or are configured]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// The last success must not be older, as 26h or 8d
    #[arg(long, value_name = "DURATION", value_parser = parse_age)]
    max_age: Option<Duration>,
    /// Say everything that is known, in several lines for each job
    #[arg(short, long)]
    long: bool,
    /// Also write figures for Prometheus' node exporter to this file
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

/// Where the state is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StateArgs {
    /// Where runs are remembered [default: $XDG_STATE_HOME/gabion or ~/.local/state/gabion]
    #[arg(long, env = "GABION_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The folder.
    pub(crate) fn folder(&self) -> Result<StateFolder, Failure> {
        let named = self.state_dir.clone().filter(|path| !path.as_os_str().is_empty());
        let folder = named.or_else(machine::state_folder).ok_or_else(|| {
            Failure::usage("no place to remember runs in").hint("name one with --state-dir")
        })?;
        let failed = |error| Failure::io(format!("cannot find {}", folder.display()), &error);
        std::path::absolute(&folder).map(StateFolder::new).map_err(failed)
    }
}

/// What is said of a time that lies in the future.
const FUTURE: &str = "which is in the future: a clock was wrong";

fn parse_age(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number and a unit: 90m, 26h or 8d".to_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "status")]
struct Line<'a> {
    job: &'a str,
    ok: bool,
    verdict: &'a str,
    last_run: Option<&'a RunRecord>,
    last_success: Option<&'a RunRecord>,
    last_failure: Option<&'a RunRecord>,
    last_check: Option<Checked>,
    last_drill: Option<&'a DrillRecord>,
    last_good_drill: Option<i64>,
    growth_bytes: Option<i64>,
    next_run: Option<i64>,
    untold: &'a [String],
    verified_from: Option<i64>,
}

/// What is known of a job, and what comes of it.
struct Judged {
    status: Status,
    drill: Option<DrillRecord>,
    /// When the last drill without a problem ended.
    good_drill: Option<i64>,
    /// When the schedule comes next, if the job is configured.
    next_run: Option<i64>,
    ok: bool,
    verdict: String,
}

impl Judged {
    /// By how much the last success is larger than the one before.
    fn growth(&self) -> Option<i64> {
        let of = |run: &Option<RunRecord>| i64::try_from(run.as_ref()?.bytes).ok();
        Some(of(&self.status.last_success)? - of(&self.status.previous_success)?)
    }
}

/// Looks at them.
pub(crate) fn run(session: &mut Session, args: &Args) -> Result<Exit, Failure> {
    let state = args.state.folder()?;
    // Without a configuration it cannot be told which jobs should have run.
    let configuration = configuration::find(session)?;
    let mut jobs = args.jobs.clone();
    if jobs.is_empty() {
        jobs = state.jobs()?;
        jobs.extend(configuration.iter().flat_map(|found| found.jobs.keys().cloned()));
        jobs.sort();
        jobs.dedup();
    }
    if jobs.is_empty() {
        one_line("gabion CRITICAL: no job ever ran, and none is configured")?;
        return Ok(Exit::Failed);
    }
    let judged: Vec<Judged> = jobs
        .into_iter()
        .map(|job| look(&state, configuration.as_ref(), job, args.max_age))
        .collect::<Result<_, _>>()?;
    if let Some(file) = &args.prometheus {
        replace(file, figures(&judged).as_bytes())
            .map_err(|error| Failure::io(format!("cannot write {}", file.display()), &error))?;
    }
    let changed = configuration.and_then(|found| changed::of_snapshots(session, &found.repository));
    say(session, &judged, args.long, changed.as_deref())?;
    if changed.is_some() {
        return Ok(Exit::Damage);
    }
    Ok(if judged.iter().all(|job| job.ok) { Exit::Done } else { Exit::Failed })
}

fn look(
    state: &StateFolder,
    configuration: Option<&Configuration>,
    job: String,
    max_age: Option<Duration>,
) -> Result<Judged, Failure> {
    let now = machine::now().seconds;
    let status = state.read(&job)?;
    let drill = state.last_drill(&job)?;
    let good_drill = state.last_good_drill(&job)?.map(|drill| drill.ended);
    let configured = configuration.and_then(|found| found.jobs.get(&job));
    let drill_age = configured.and_then(|job| job.drill.max_age);
    let status = status.unwrap_or_else(|| Status { job, ..Status::default() });
    let (mut ok, mut verdict) = judge(&status, max_age, now);
    let (drilled, said) = judge_drill(drill.as_ref(), good_drill, drill_age, now);
    ok &= drilled;
    verdict.extend(said.map(|said| format!(", {said}")));
    if let Some(begun) = &status.under_way {
        let gone = machine::own_process_has_ended(begun.process, begun.identity.as_ref());
        ok &= !gone;
        let (job, began) = (&status.job, age(now - begun.started));
        verdict = match gone {
            true => format!("{job} began {began} ago: {CUT_OFF}; before that {verdict}"),
            false => format!("{verdict}, running for {began}"),
        };
    }
    if !status.untold.is_empty() {
        verdict.push_str(&format!(", untold: {}", status.untold.join(", ")));
    }
    let next_run = configured.and_then(|job| next_run(&job.schedule, &jiff::Zoned::now()));
    Ok(Judged { status, drill, good_drill, next_run, ok, verdict })
}

fn say(
    session: &Session,
    judged: &[Judged],
    long: bool,
    changed: Option<&str>,
) -> Result<(), Failure> {
    if session.json() {
        changed.into_iter().for_each(|changed| session.console.warning(changed));
        for job in judged {
            one_json(&Line {
                job: &job.status.job,
                ok: job.ok,
                verdict: &job.verdict,
                last_run: job.status.last_run.as_ref(),
                last_success: job.status.last_success.as_ref(),
                last_failure: job.status.last_failure.as_ref(),
                last_check: job.status.last_check,
                verified_from: job.status.verified_from,
                last_drill: job.drill.as_ref(),
                last_good_drill: job.good_drill,
                growth_bytes: job.growth(),
                next_run: job.next_run,
                untold: &job.status.untold,
            })?;
        }
        return Ok(());
    }
    if long {
        let mut output = Output::new();
        if let Some(line) = changed {
            output.line(gabion::format::path::printable(line.as_bytes()))?;
        }
        for job in judged {
            for line in long_lines(job) {
                output.line(gabion::format::path::harmless(line.as_bytes()))?;
            }
        }
        return Ok(output.finish()?);
    }
    let all_well = judged.iter().all(|job| job.ok) && changed.is_none();
    if all_well && session.quiet() {
        return Ok(());
    }
    // What is wrong comes first: pagers cut lines.
    let (well, ill): (Vec<_>, Vec<_>) = judged.iter().partition(|job| job.ok);
    let verdicts = ill.iter().chain(&well).map(|job| job.verdict.as_str());
    let words: Vec<&str> = changed.into_iter().chain(verdicts).collect();
    let word = if all_well { "OK" } else { "CRITICAL" };
    let line = format!("gabion {word}: {}", words.join("; "));
    one_line(gabion::format::path::harmless(line.as_bytes()))
}

/// Whether the drills of a job are well, and what there is to say about them.
fn judge_drill(
    last: Option<&DrillRecord>,
    good: Option<i64>,
    max_age: Option<Duration>,
    now: i64,
) -> (bool, Option<String>) {
    let Some(last) = last else {
        return (max_age.is_none(), max_age.map(|_| "never drilled".to_owned()));
    };
    let ago = |ended: i64| age(now - ended);
    if !last.ok {
        let said = format!("its drill failed {} ago: {}", ago(last.ended), last.verdict());
        return (false, Some(said));
    }
    let limit = max_age.and_then(|limit| i64::try_from(limit.as_secs()).ok());
    match (good, limit) {
        (Some(good), _) if is_in_the_future(good, now) => {
            (false, Some(format!("drilled at {}, {FUTURE}", at(good))))
        }
        (Some(good), Some(limit)) if now - good > limit => {
            let limit = max_age.map(duration_text).unwrap_or_default();
            (false, Some(format!("drilled {} ago, more than {limit}", ago(good))))
        }
        _ => (true, Some(format!("drilled {} ago", ago(last.ended)))),
    }
}

fn judge(status: &Status, max_age: Option<Duration>, now: i64) -> (bool, String) {
    let job = &status.job;
    let Some(last) = &status.last_run else { return (false, format!("{job} never ran")) };
    let ago = |run: &RunRecord| age(now - run.ended);
    match last.outcome {
        Outcome::Failed => {
            let said = last.in_one_line();
            return (false, format!("{job} failed {} ago: {said}", ago(last)));
        }
        Outcome::Incomplete => {
            let said = last.in_one_line();
            return (false, format!("{job} was incomplete {} ago: {said}", ago(last)));
        }
        Outcome::Ok => {}
    }
    if last.ended - now > CLOCK_SLACK {
        // Else it would count as recent until that time comes.
        return (false, format!("{job} succeeded in the future: a clock was wrong"));
    }
    if is_in_the_future(last.ended, now) {
        return (false, format!("{job} succeeded at {}, {FUTURE}", at(last.ended)));
    }
    let seconds = u64::try_from(now - last.ended).unwrap_or(0);
    if let Some(limit) = max_age.filter(|limit| seconds > limit.as_secs()) {
        let limit = duration_text(limit);
        return (false, format!("{job} succeeded {} ago, more than {limit}", ago(last)));
    }
    let (bytes, added) = (size(last.bytes), size(last.added_bytes));
    let took = age(last.ended - last.started);
    let verified = match status.verified_from {
        Some(from) => format!(", all data verified within {}", age(now - from)),
        None => String::new(),
    };
    (true, format!("{job} {} ago ({bytes}, {added} added, took {took}{verified})", ago(last)))
}

/// Everything that is known of a job.
fn long_lines(job: &Judged) -> Vec<String> {
    let now = machine::now().seconds;
    let ago = |seconds: i64| format!("{} ({} ago)", at(seconds), age(now - seconds));
    let word = if job.ok { "ok" } else { "NOT OK" };
    let mut lines = vec![format!("{}: {word}", job.status.job)];
    let mut say = |what: &str, text: String| lines.push(format!("  {what:<14}{text}"));
    if !job.ok {
        say("trouble", job.verdict.clone());
    }
    match &job.status.last_success {
        None => say("last success", "never".to_owned()),
        Some(run) => {
            let took = age(run.ended - run.started);
            let snapshot = run.snapshot.as_deref().map(short).unwrap_or_default();
            say("last success", format!("{}, took {took}, snapshot {snapshot}", ago(run.ended)));
            let growth = job.growth().map(|growth| {
                let sign = if growth < 0 { '-' } else { '+' };
                format!(", {sign}{} since the one before", size(growth.unsigned_abs()))
            });
            let (bytes, added) = (size(run.bytes), size(run.added_bytes));
            say("size", format!("{bytes}{}, {added} added", growth.unwrap_or_default()));
        }
    }
    if let Some(run) = &job.status.last_failure {
        say("last failure", format!("{}: {}", ago(run.ended), run.message));
        run.details.iter().for_each(|line| say("", format!("| {line}")));
    }
    say(
        "last check",
        job.status.last_check.map_or("never".to_owned(), |check| {
            let problems = counted(check.problems, "problem", "problems");
            format!("{}, {} verified, {problems}", ago(check.ended), size(check.bytes))
        }),
    );
    say(
        "last drill",
        job.drill.as_ref().map_or("never".to_owned(), |drill| {
            format!("{}: {}", ago(drill.ended), drill.verdict())
        }),
    );
    say("next run", job.next_run.map_or("not configured".to_owned(), at));
    for untold in &job.status.untold {
        say("untold", untold.clone());
    }
    lines
}

fn at(seconds: i64) -> String {
    time(Timestamp { seconds, nanos: 0 })
}
