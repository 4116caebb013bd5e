//! `gabion run`: runs configured jobs, as a schedule does.

mod take;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gabion::job::config::{Configuration, Job, Wait};
use gabion::job::hook::run_hook;
use gabion::job::state::{JobLock, Locked, Outcome, Past, StateFolder};

use self::take::Taken;
use self::told::exit_of;
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
        let ended = gently(&job.limits, &session.console, || Ok(run.guarded(&interrupted)));
        let ended = ended.unwrap_or_else(|failure| {
            run.end(machine::now().seconds, Err(failure), Vec::new(), false)
        });
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
    /// Runs while holding the job's lock. Whatever happens is this job's, so the next one runs.
    fn guarded(&self, interrupted: &AtomicBool) -> Exit {
        let (name, started) = (&self.job.name, machine::now().seconds);
        let patience = match self.job.limits.wait {
            Wait::Leave => None,
            Wait::For(time) => Some(time),
        };
        let failure = match self.state.lock(name, patience, interrupted) {
            Ok(Locked::Ours(lock)) => return self.locked(started, &lock, interrupted),
            Ok(Locked::Busy) if patience.is_none() => {
                self.session.console.notice(&format!("{name}: another run is under way"));
                return Exit::Done;
            }
            Ok(Locked::Busy) => {
                let message = format!("{name}: another run is still under way");
                Failure::new(Exit::Failed, message).hint("raise limits.wait, or run it less often")
            }
            Ok(Locked::Interrupted) => Failure::new(
                Exit::Interrupted,
                format!("{name}: interrupted while waiting for another run"),
            ),
            Err(error) => error.into(),
        };
        self.end(started, Err(failure), Vec::new(), false)
    }

    fn locked(&self, started: i64, lock: &JobLock, interrupted: &AtomicBool) -> Exit {
        let untold = match self.how.dry_run {
            true => Vec::new(),
            false => self.begin(started),
        };
        let limit = Limit::new(self.job.limits.time, &self.stop);
        let result = limit.guard(interrupted, || self.with_hooks(lock, &limit));
        self.end(started, result, untold, true)
    }

    /// Remembers, says and tells how the run ended: the one place for every ending. `began` is
    /// whether it is remembered as running.
    fn end(
        &self,
        started: i64,
        mut result: Result<Taken, Failure>,
        mut untold: Vec<String>,
        began: bool,
    ) -> Exit {
        let mut record = self.record(started, &result);
        if self.how.dry_run {
            return self.said(&result, record.exit_code);
        }
        let mut status = self.state.read(&self.job.name).ok().flatten().unwrap_or_default();
        status.job.clone_from(&self.job.name);
        if began {
            status.under_way = None;
        }
        let before = status.last_run.as_ref().map(|run| run.outcome == Outcome::Ok);
        if let Ok(Taken { verified_from: Some(from), .. }) = &result {
            status.verified_from = Some(*from);
        }
        let mut remembered = status.clone();
        remembered.add(record.clone());
        let past = self.state.add_to_past(&self.job.name, &Past::Run(record.clone()));
        if let Err(error) = self.state.write(&remembered).and(past) {
            // All who are told of this run are told that too, and none hears "ok".
            let failure = Failure::from(error);
            match &mut result {
                Ok(taken) => taken.trouble.push(failure),
                Err(_) => drop(failure.report()),
            }
            record = self.record(started, &result);
            remembered = status;
            remembered.add(record.clone());
            // The disk may take the shorter of the two.
            let _ = self.state.write(&remembered);
        }
        let exit = self.said(&result, record.exit_code);
        untold.extend(self.tell(&remembered, &record, before));
        untold.extend(self.tell_weekly(&mut remembered));
        remembered.untold = untold;
        match self.state.write(&remembered) {
            Err(error) if exit == Exit::Done => Failure::from(error).report(),
            _ => exit,
        }
    }

    /// Says how it ended. A reader of standard output that has enough changes nothing.
    fn said(&self, result: &Result<Taken, Failure>, code: i32) -> Exit {
        self.say(result, code).unwrap_or_else(|failure| match failure.is_closed_output() {
            true => exit_of(code),
            false => failure.report(),
        })
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
