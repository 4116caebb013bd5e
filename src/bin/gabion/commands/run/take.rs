//! The snapshot of a run, and what is done in the repository behind it.

use std::sync::Arc;

use gabion::format::path::printable;
use gabion::format::snapshot::Snapshot;
use gabion::job::aiida::expand;
use gabion::job::links::{LinkOut, follow};
use gabion::job::run::RunOptions;
use gabion::job::state::{Checked, JobLock};
use gabion::ops::check::{CheckOptions, ReadData, Verified, check_and_remember};
use gabion::ops::forget::{ForgetLimits, ForgetPlan};
use gabion::ops::prune::prune;
use gabion::ops::retention::GroupBy;
use gabion::ops::snapshot::SnapshotSummary;
use gabion::repo::Repository;
use jiff::tz::TimeZone;

use super::Run;
use crate::commands::prune::usual;
use crate::commands::snapshot::in_words;
use crate::console::Console;
use crate::errors::{Exit, Failure};
use crate::keep::keep_of_job;
use crate::render::values::counted;
use crate::{machine, sources};

/// Links that are named one by one.
const LINKS_NAMED: usize = 20;

/// What a run came to.
pub(super) struct Taken {
    pub(super) summary: SnapshotSummary,
    /// What went wrong behind the snapshot.
    pub(super) trouble: Vec<Failure>,
    /// What was read back, if anything.
    pub(super) checked: Option<Checked>,
    /// Since when, at least, each pack has been known to be whole, if any was verified.
    pub(super) verified_from: Option<i64>,
    /// Links to what is not contained.
    pub(super) links_out: usize,
}

impl Taken {
    pub(super) fn in_words(&self) -> String {
        let words = in_words(&self.summary);
        match self.links_out {
            0 => words,
            1 => words + "; 1 link leads to what is not contained",
            links => format!("{words}; {links} links lead to what is not contained"),
        }
    }
}

impl Run<'_> {
    /// The snapshot and what belongs to it.
    pub(super) fn take(&self, lock: &JobLock) -> Result<Taken, Failure> {
        let checked = self.configuration.check_places(&self.job.name);
        checked.map_err(|error| Failure::from(error).with_exit(Exit::Failed))?;
        let opened = self.session.open()?;
        let job = expand(self.job)?;
        let (job, left) = follow(&job)?;
        let job = &*job;
        name_links(&left, &self.session.console);
        sources::mention_links(&job.paths, &self.session.console);
        let options = RunOptions {
            host: machine::host(),
            identity: machine::identity(),
            user: machine::user(),
            time: machine::now(),
            clock: machine::now,
            own_patterns: sources::patterns_against_own(self.session, &job.paths)?,
            work: self.state.work_folder(&self.job.name, lock)?,
            threads: self.session.readers(),
            dry_run: self.how.dry_run,
            watch_socket: machine::watch_socket(),
            full_scan: self.how.full_scan,
            interrupted: Arc::clone(&self.stop),
        };
        let summary = gabion::job::run::run(&opened.repository, job, options)?;
        let (mut trouble, mut checked, mut verified_from) = (Vec::new(), None, None);
        if let Some(taken) = &summary.snapshot {
            trouble.extend(self.compare_sources(&opened.repository, taken).err());
            // Nothing is removed while it is not known what became of snapshots.
            trouble.extend(
                opened.certain().and_then(|()| self.keep(&opened.repository, &summary)).err(),
            );
            match self.verify(&opened.repository, &mut verified_from) {
                Ok(read) => checked = read,
                Err(failure) => trouble.push(failure),
            }
            trouble.extend(checked.filter(|found| found.problems > 0).map(damaged));
        }
        self.session.console.finish();
        Ok(Taken { summary, trouble, checked, verified_from, links_out: left.len() })
    }

    /// Says when the job's last snapshot was of another machine or other paths: a copied
    /// configuration, most often. Said once, since the next run has this one behind it.
    fn compare_sources(&self, repository: &Repository, taken: &Snapshot) -> Result<(), Failure> {
        let (snapshots, _) = repository.snapshots()?;
        let of_job = |found: &&Snapshot| found.job == taken.job && found.id != taken.id;
        let Some(last) = snapshots.iter().rev().find(of_job) else { return Ok(()) };
        if last.host == taken.host && last.paths == taken.paths {
            return Ok(());
        }
        let paths: Vec<String> = last.paths.iter().map(|path| printable(&path.0)).collect();
        let paths = if paths.is_empty() { vec!["streams only".to_owned()] } else { paths };
        let (name, host) = (&self.job.name, printable(last.host.as_bytes()));
        let message = format!("{name}: its last snapshot was of {} on {host}", paths.join(", "));
        let hint = "if two machines share the repository, give their jobs different names";
        let _ = Failure::new(Exit::Failed, message).hint(hint).report();
        Ok(())
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
            prune(repository, &usual(self.session, Arc::clone(&self.stop)))?;
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
}

/// Names links to what is not contained.
fn name_links(links: &[LinkOut], console: &Console) {
    for link in links.iter().take(LINKS_NAMED) {
        console.notice(&format!("not contained: {link}"));
    }
}

/// What a check behind the snapshot found.
fn damaged(checked: Checked) -> Failure {
    let problems = counted(checked.problems, "problem", "problems");
    Failure::new(Exit::Damage, format!("the repository is damaged: {problems}"))
        .hint("`gabion check --read-data` tells what is damaged")
}
