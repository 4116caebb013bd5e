//! `gabion run`: runs configured jobs, as a schedule does.

mod take;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gabion::job::config::{Configuration, Job, Wait};
use gabion::job::hook::run_hook;
use gabion::job::state::{JobLock, Locked, Outcome, Past, StateFolder};

use self::take::Taken;
use super::status::StateArgs;
use crate::errors::{Exit, Failure};
use crate::gentle::gently;
use crate::limit::Limit;
use crate::session::Session;
use crate::{configuration, machine};

/// Run configured jobs
///
/// First the dumps of a job, then its files, into one snapshot. Each run is remembered; `gabion
/// status` tells. Of two runs of a job at once, the second leaves or waits, as `limits.wait` says.
/// With several jobs the exit code is that of the first that failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion run nightly
  gabion --quiet run --all")]
pub(crate) struct Args {
    /// The jobs
    #[arg(value_name = "JOB", required_unless_present = "all", conflicts_with = "all")]
    jobs: Vec<String>,
    /// Run all jobs, one after the other
    #[arg(long)]
    all: bool,
    /// Walk and compare, but run no stream or hook and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Look at everything, whatever a job says of folders that are write-once
    #[arg(long)]
    full_scan: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Runs them.
pub(crate) fn run(session: &mut Session, args: &Args) -> Result<Exit, Failure> {
    let configuration = configuration::read(session)?;
    session.use_configured(&configuration.repository)?;
    let jobs = configuration::jobs(&configuration, &args.jobs)?;
    let state = args.state.folder()?;
    let how = How { dry_run: args.dry_run, full_scan: args.full_scan };
    run_jobs(session, &configuration, &jobs, &state, how)
}

/// How jobs are run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    dry_run: bool,
    full_scan: bool,
}

/// Runs jobs one after the other; the exit code is that of the first that failed.
pub(crate) fn run_jobs(
    session: &Session,
    configuration: &Configuration,
    jobs: &[&Job],
    state: &StateFolder,
    how: How,
) -> Result<Exit, Failure> {
    let interrupted = session.interruption()?;
    let mut exit = Exit::Done;
    for job in jobs {
        let stop = Arc::new(AtomicBool::new(false));
        let run = Run { session, configuration, job, state, stop, how };
        let ended = gently(&job.limits, &session.console, || run.guarded(&interrupted))?;
        if exit == Exit::Done {
            exit = ended;
        }
        if interrupted.load(Ordering::Relaxed) {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

/// One run of one job.
struct Run<'a> {
    session: &'a Session,
    configuration: &'a Configuration,
    job: &'a Job,
    state: &'a StateFolder,
    /// Set when the user or the time limit ends the run.
    stop: Arc<AtomicBool>,
    how: How,
}

impl Run<'_> {
    /// Runs while holding the job's lock.
    fn guarded(&self, interrupted: &AtomicBool) -> Result<Exit, Failure> {
        let name = &self.job.name;
        let patience = match self.job.limits.wait {
            Wait::Leave => None,
            Wait::For(time) => Some(time),
        };
        match self.state.lock(name, patience, interrupted)? {
            Locked::Ours(lock) => self.remembered(&lock, interrupted),
            Locked::Interrupted => Ok(Exit::Interrupted),
            Locked::Busy if patience.is_none() => {
                self.session.console.notice(&format!("{name}: another run is under way"));
                Ok(Exit::Done)
            }
            Locked::Busy => {
                let message = format!("{name}: another run is still under way");
                Ok(Failure::new(Exit::Failed, message).report())
            }
        }
    }

    /// Runs, says and remembers how it ended.
    fn remembered(&self, lock: &JobLock, interrupted: &AtomicBool) -> Result<Exit, Failure> {
        let started = machine::now();
        let mut untold = match self.how.dry_run {
            true => Vec::new(),
            false => self.begin(started.seconds),
        };
        let limit = Limit::new(self.job.limits.time, &self.stop);
        let result = limit.guard(interrupted, || self.with_hooks(lock, &limit));
        let record = self.record(started.seconds, &result);
        if self.how.dry_run {
            return self.say(&result, record.exit_code);
        }
        let mut status = self.state.read(&self.job.name).ok().flatten().unwrap_or_default();
        status.job.clone_from(&self.job.name);
        status.under_way = None;
        let before = status.last_run.as_ref().map(|run| run.outcome == Outcome::Ok);
        status.add(record.clone());
        if let Ok(Taken { verified_from: Some(from), .. }) = &result {
            status.verified_from = Some(*from);
        }
        // That it was not remembered must not hide how it went.
        let past = self.state.add_to_past(&self.job.name, &Past::Run(record.clone()));
        let remembered = self.state.write(&status).and(past);
        let exit = self.say(&result, record.exit_code)?;
        untold.extend(self.tell(&status, &record, before));
        let summary = self.tell_weekly(&mut status);
        untold.extend(summary);
        status.untold = untold;
        remembered.and_then(|()| self.state.write(&status))?;
        Ok(exit)
    }

    fn with_hooks(&self, lock: &JobLock, limit: &Limit) -> Result<Taken, Failure> {
        let hooks = &self.job.hooks;
        let before = self.hook("before", hooks.before.as_ref(), &[], &self.stop);
        let mut result = before.and_then(|()| self.take(lock));
        if let Some(time) = limit.passed().filter(|_| result.is_err()) {
            let message = format!("{}: it took longer than {time} and was ended", self.job.name);
            result = Err(Failure::new(Exit::Failed, message).hint("limits.time says how long"));
        }
        let mut variables = vec![("GABION_STATUS", "ok".to_owned())];
        match &result {
            Ok(taken) => {
                let id = taken.summary.snapshot.as_ref().map(|snapshot| snapshot.id.to_string());
                variables.push(("GABION_SNAPSHOT", id.unwrap_or_default()));
                if taken.summary.problems > 0 || !taken.trouble.is_empty() {
                    variables[0].1 = "incomplete".to_owned();
                }
            }
            Err(failure) => {
                variables[0].1 = "failed".to_owned();
                variables.push(("GABION_MESSAGE", failure.message().to_owned()));
            }
        }
        // These run however the job ended, so the wish to stop does not count.
        let always = AtomicBool::new(false);
        let after = match &result {
            Ok(_) => self.hook("after", hooks.after.as_ref(), &variables, &always),
            Err(_) => self.hook("failed", hooks.failed.as_ref(), &variables, &always),
        };
        let finally = self.hook("finally", hooks.finally.as_ref(), &variables, &always);
        for trouble in [after, finally].into_iter().filter_map(Result::err) {
            match &mut result {
                Ok(taken) => taken.trouble.push(trouble),
                Err(_) => drop(trouble.report()),
            }
        }
        result
    }

    fn hook(
        &self,
        name: &'static str,
        line: Option<&String>,
        variables: &[(&str, String)],
        stop: &AtomicBool,
    ) -> Result<(), Failure> {
        let Some(line) = line.filter(|_| !self.how.dry_run) else { return Ok(()) };
        let mut variables = variables.to_vec();
        variables.push(("GABION_JOB", self.job.name.clone()));
        run_hook(name, line, &variables, self.job.hooks.timeout, stop).map_err(|failure| {
            let said = Failure::of(Exit::Failed, &failure);
            said.with_details(failure.stderr_tail)
        })
    }
}
