//! `gabion run`: runs configured jobs, as a schedule does.

mod taken;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::job::aiida::expand;
use gabion::job::config::{Configuration, Job, Wait};
use gabion::job::hook::run_hook;
use gabion::job::links::follow;
use gabion::job::notify::{Notice, Occasion};
use gabion::job::run::RunOptions;
use gabion::job::state::{Checked, JobLock, Locked, Outcome, Past, RunRecord, StateFolder, Status};
use gabion::ops::check::{CheckOptions, ReadData, Verified, check_and_remember};
use gabion::ops::forget::{ForgetLimits, ForgetPlan};
use gabion::ops::prune::prune;
use gabion::ops::retention::GroupBy;
use gabion::ops::snapshot::SnapshotSummary;
use gabion::repo::Repository;
use jiff::tz::TimeZone;

use self::taken::Taken;
use super::snapshot::mention_full_scan;
use super::status::StateArgs;
use crate::errors::{Exit, Failure};
use crate::gentle::gently;
use crate::keep::keep_of_job;
use crate::limit::Limit;
use crate::output::one_line;
use crate::render::values::size;
use crate::session::Session;
use crate::{configuration, machine, notify, sources};

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
            false => notify::tell_watchdog(self.job, "/start", ""),
        };
        let limit = Limit::new(self.job.limits.time, &self.stop);
        let result = limit.guard(interrupted, || self.with_hooks(lock, &limit));
        let record = self.record(started.seconds, &result);
        if self.how.dry_run {
            return self.say(&result, record.exit_code);
        }
        let mut status = self.state.read(&self.job.name).ok().flatten().unwrap_or_default();
        status.job.clone_from(&self.job.name);
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

    /// The snapshot and what belongs to it.
    fn take(&self, lock: &JobLock) -> Result<Taken, Failure> {
        let checked = self.configuration.check_places(&self.job.name);
        checked.map_err(|error| Failure::from(error).with_exit(Exit::Failed))?;
        let opened = self.session.open()?;
        let job = expand(self.job)?;
        let (job, left) = follow(&job)?;
        let job = &*job;
        taken::name(&left, &self.session.console);
        sources::mention_links(&job.paths, &self.session.console);
        let options = RunOptions {
            host: machine::host(),
            identity: machine::identity(),
            user: machine::user(),
            time: machine::now(),
            clock: machine::now,
            own_patterns: sources::patterns_against_own(self.session, &job.paths)?,
            work: self.state.work_folder(&self.job.name, lock)?,
            threads: self.session.threads(),
            dry_run: self.how.dry_run,
            full_scan: self.how.full_scan,
            interrupted: Arc::clone(&self.stop),
        };
        let summary = gabion::job::run::run(&opened.repository, job, options)?;
        let (mut trouble, mut checked, mut verified_from) = (Vec::new(), None, None);
        if summary.snapshot.is_some() {
            trouble.extend(self.keep(&opened.repository, &summary).err());
            match self.verify(&opened.repository, &mut verified_from) {
                Ok(read) => checked = read,
                Err(failure) => trouble.push(failure),
            }
            trouble.extend(checked.filter(|found| found.problems > 0).map(taken::damaged));
        }
        self.session.console.finish();
        Ok(Taken { summary, trouble, checked, verified_from, links_out: left.len() })
    }

    /// Forgets what the job's policy does not keep, now that there is a new snapshot, and gives
    /// its space back.
    fn keep(&self, repository: &Arc<Repository>, taken: &SnapshotSummary) -> Result<(), Failure> {
        let (Some(keep), Some(taken)) = (&self.job.keep, &taken.snapshot) else { return Ok(()) };
        let policy = keep_of_job(keep)?;
        let wanted = |found: &Snapshot| found.job == taken.job && found.host == taken.host;
        let (by, zone) = (GroupBy::default(), TimeZone::system());
        let plan = ForgetPlan::by_policy(repository, &wanted, &policy, by, &zone)?;
        let forgotten = plan.execute(repository, ForgetLimits::default(), &machine::presence())?;
        if !forgotten.removed.is_empty() {
            prune(repository, &super::prune::usual(self.session, Arc::clone(&self.stop)))?;
        }
        Ok(())
    }

    /// Reads a part of the repository back, every night what was longest not verified. `oldest`
    /// becomes since when all of it has been.
    fn verify(
        &self,
        repository: &Arc<Repository>,
        oldest: &mut Option<i64>,
    ) -> Result<Option<Checked>, Failure> {
        let Some(bytes) = self.job.check_budget else { return Ok(None) };
        let mut verified = Verified::recall(repository, machine::now);
        let options = CheckOptions {
            read: ReadData::LongestUnverified(bytes),
            salt: machine::now().seconds.unsigned_abs(),
            threads: self.session.threads(),
            interrupted: Arc::clone(&self.stop),
        };
        let summary = check_and_remember(repository, &options, &mut verified);
        *oldest = verified.oldest;
        let summary = summary?;
        let (bytes, problems) = (summary.bytes_read, summary.problems);
        Ok(Some(Checked { ended: machine::now().seconds, bytes, problems }))
    }

    fn record(&self, started: i64, result: &Result<Taken, Failure>) -> RunRecord {
        let mut record = RunRecord {
            started,
            ended: machine::now().seconds,
            outcome: Outcome::Failed,
            exit_code: 0,
            message: String::new(),
            snapshot: None,
            entries: 0,
            bytes: 0,
            added_bytes: 0,
            problems: 0,
            checked: None,
        };
        match result {
            Ok(taken @ Taken { summary, trouble, checked, .. }) => {
                record.checked = *checked;
                let first = trouble.first().map(Failure::exit);
                let exit = match first {
                    Some(Exit::Damage) => Exit::Damage,
                    None if summary.problems == 0 => Exit::Done,
                    _ => Exit::Incomplete,
                };
                record.outcome = if exit == Exit::Done { Outcome::Ok } else { Outcome::Incomplete };
                record.exit_code = exit as i32;
                record.message = taken.in_words();
                for failure in trouble {
                    record.message.push_str(&format!("; {}", failure.message()));
                }
                record.snapshot = summary.snapshot.as_ref().map(|found| found.id.to_string());
                record.entries = summary.counts.entries;
                record.bytes = summary.counts.bytes;
                record.added_bytes = summary.counts.stored_bytes;
                record.problems = summary.problems + trouble.len() as u64;
            }
            Err(failure) => {
                record.exit_code = failure.exit() as i32;
                failure.message().clone_into(&mut record.message);
            }
        }
        record
    }

    fn say(&self, result: &Result<Taken, Failure>, exit_code: i32) -> Result<Exit, Failure> {
        let taken = match result {
            Ok(taken) => taken,
            Err(failure) => return Ok(failure.report()),
        };
        for failure in &taken.trouble {
            failure.report();
        }
        mention_full_scan(self.session, &taken.summary);
        if self.session.json() {
            super::snapshot::print(self.session, &taken.summary, self.how.dry_run)?;
        } else if !self.session.quiet() {
            one_line(format!("{}: {}", self.job.name, taken.in_words()))?;
        }
        Ok(match exit_code {
            0 => Exit::Done,
            code if code == Exit::Damage as i32 => Exit::Damage,
            _ => Exit::Incomplete,
        })
    }

    /// Tells people and the watchdog how the run ended.
    fn tell(&self, status: &Status, record: &RunRecord, before: Option<bool>) -> Vec<String> {
        let ok = record.outcome == Outcome::Ok;
        let ending = if ok { "" } else { "/fail" };
        let mut untold = notify::tell_watchdog(self.job, ending, &record.message);
        let last = status.last_success.as_ref().map(|run| time_of(run.ended));
        let (host, occasion) = (machine::host(), Occasion::of(ok, before));
        let last = last.as_deref().unwrap_or("never");
        let notice = Notice::of_run(&host, &self.job.name, record, occasion, last);
        untold.extend(notify::tell(self.job, &notice));
        untold
    }

    /// Tells once a week what happened in it.
    fn tell_weekly(&self, status: &mut Status) -> Vec<String> {
        // Nightly runs do not begin at the same second.
        const WEEK: i64 = 7 * 86_400 - 3600;
        let now = machine::now().seconds;
        let since = match status.last_summary.filter(|last| *last <= now) {
            Some(since) if now - since < WEEK => return Vec::new(),
            Some(since) => since,
            None => {
                status.last_summary = Some(now);
                return Vec::new();
            }
        };
        status.last_summary = Some(now);
        if !self.job.notify.when.weekly {
            return Vec::new();
        }
        let past = self.state.past(&self.job.name).unwrap_or_default();
        let notice = Notice::of_week(&machine::host(), &self.job.name, &past, since, &size);
        notify::tell(self.job, &notice)
    }
}

fn time_of(seconds: i64) -> String {
    crate::render::values::time(Timestamp { seconds, nanos: 0 })
}
