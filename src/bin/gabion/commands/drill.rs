//! `gabion drill`: restores a job's newest snapshot for real, tests what came out, and remembers
//! the evidence.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::job::config::{Configuration, Job};
use gabion::job::drill::{Account, DrillOptions, drill, remove_scratch, scratch_path};
use gabion::job::notify::{Notice, Occasion};
use gabion::job::state::{DrillRecord, Locked, Past, PastDrill, StateFolder};
use gabion::ops::OpError;
use gabion::repo::Repository;
use serde::Serialize;

use super::status::StateArgs;
use crate::errors::{Exit, Failure};
use crate::gentle::gently;
use crate::limit::Limit;
use crate::output::{Output, one_json};
use crate::render::table::{Side, Table};
use crate::render::values::{count, counted, short, size, time};
use crate::session::Session;
use crate::{configuration, machine, notify};

/// Restore the newest snapshot of a job into a scratch place and test what comes out
///
/// Databases go into servers of their own, started in a temporary folder and reached by nothing
/// but a socket in it; rows are compared with what was counted when the dump was made. A sample of
/// the files is restored and compared. Then the queries of the configuration are asked. Ends with 1
/// when anything is not as it should be, with 13 for damage. The evidence is remembered, and
/// `gabion status` tells how old it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion drill nightly
  gabion --quiet drill --all
  gabion drill nightly --snapshot 1a2b3c4d --folder /srv/scratch --json")]
pub(crate) struct Args {
    /// The jobs
    #[arg(value_name = "JOB", required_unless_present = "all", conflicts_with = "all")]
    jobs: Vec<String>,
    /// Drill all jobs, one after the other
    #[arg(long)]
    all: bool,
    /// Restore this snapshot instead of the newest of the job
    #[arg(long, value_name = "SNAP", conflicts_with = "all")]
    snapshot: Option<String>,
    /// Make the scratch folder here [default: what the job says, $TMPDIR, or /var/tmp]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "drill")]
struct Line<'a> {
    job: &'a str,
    #[serde(flatten)]
    drill: &'a DrillRecord,
}

/// Drills.
pub(crate) fn run(session: &mut Session, args: &Args) -> Result<Exit, Failure> {
    let configuration = configuration::read(session)?;
    let jobs = configuration::jobs(&configuration, &args.jobs)?;
    session.use_configured(&configuration.repository)?;
    let state = args.state.folder()?;
    let interrupted = session.interruption()?;
    let mut exit = Exit::Done;
    for job in jobs {
        let one = One { session, configuration: &configuration, job, args, state: &state };
        let ended = gently(&job.limits, &session.console, || Ok(one.guarded(&interrupted)));
        let ended = ended.unwrap_or_else(|failure| one.end(machine::now().seconds, Err(failure)));
        if interrupted.load(Ordering::Relaxed) {
            return Ok(Exit::Interrupted);
        }
        if exit == Exit::Done {
            exit = ended;
        }
    }
    Ok(exit)
}

/// One drill of one job.
struct One<'a> {
    session: &'a Session,
    configuration: &'a Configuration,
    job: &'a Job,
    args: &'a Args,
    state: &'a StateFolder,
}

impl One<'_> {
    /// Drills. Whatever happens is this job's, so the next one is drilled.
    fn guarded(&self, interrupted: &AtomicBool) -> Exit {
        let name = &self.job.name;
        let started = machine::now().seconds;
        let _lock = match self.state.lock_drill(name, interrupted) {
            Ok(Locked::Ours(lock)) => lock,
            Ok(_) => {
                self.session.console.notice(&format!("{name}: another drill is under way"));
                return Exit::Done;
            }
            Err(error) => return self.end(started, Err(error.into())),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let limit = Limit::new(Some(self.job.drill.time), &stop);
        let result = limit.guard(interrupted, || self.restored(&stop));
        self.session.console.finish();
        match (result, limit.passed()) {
            (Err(failure), _) if interrupted.load(Ordering::Relaxed) => failure.report(),
            (Err(_), Some(time)) => {
                let message = format!("it took longer than {time} and was ended");
                let failure = Failure::new(Exit::Failed, message).hint("drill.time says how long");
                self.end(started, Err(failure))
            }
            (result, _) => self.end(started, result),
        }
    }

    /// Says, remembers and tells how the drill ended.
    fn end(&self, started: i64, result: Result<DrillRecord, Failure>) -> Exit {
        let name = &self.job.name;
        let (mut record, mut exit) = match result {
            Ok(record) => {
                let exit = match (record.ok, record.damaged) {
                    (true, _) => Exit::Done,
                    (_, true) => Exit::Damage,
                    _ => Exit::Failed,
                };
                let said = self.say(&record).err().filter(|failure| !failure.is_closed_output());
                (record, said.map_or(exit, |failure| failure.report()))
            }
            Err(failure) => {
                let mut problems = vec![failure.message().to_owned()];
                problems.extend_from_slice(failure.details());
                let ended = machine::now().seconds;
                failure.report();
                (DrillRecord { started, ended, problems, ..DrillRecord::default() }, failure.exit())
            }
        };
        let before = self.state.last_drill(name).ok().flatten().map(|drill| drill.ok);
        let remembered = self.state.write_drill(name, &record);
        let past = self.state.add_to_past(name, &Past::Drill(PastDrill::from(&record)));
        if let Err(error) = remembered.and(past) {
            let failure = Failure::from(error);
            failure.report();
            record.ok = false;
            record.problems.push(failure.message().to_owned());
            if exit == Exit::Done {
                exit = failure.exit();
            }
        }
        let occasion = Occasion::of(record.ok, before);
        notify::tell(self.job, &Notice::of_drill(&machine::host(), name, &record, occasion));
        exit
    }

    fn restored(&self, stop: &Arc<AtomicBool>) -> Result<DrillRecord, Failure> {
        let opened = self.session.open_with_index()?;
        let snapshot = self.snapshot(&opened.repository)?;
        let name = &self.job.name;
        if let Some(left) = self.state.remembered_scratch(name) {
            remove_scratch(&left).map_err(|error| {
                let what = format!("cannot remove what a drill left in {}", left.display());
                Failure::io(what, &error).hint("look at it and remove it by hand")
            })?;
        }
        let scratch = scratch_path(&self.folder()?);
        self.state.remember_scratch(name, &scratch)?;
        let options = DrillOptions {
            scratch: scratch.clone(),
            account: self.account()?,
            clock: machine::now,
            threads: self.session.threads(),
            interrupted: Arc::clone(stop),
        };
        let drilled = drill(&opened.repository, &snapshot, self.job, &options);
        if !scratch.exists() {
            self.state.forget_scratch(name)?;
        }
        drilled.map_err(|error| match error {
            // Nothing goes on from what a drill restored.
            OpError::Interrupted => Failure::new(Exit::Interrupted, "interrupted"),
            error => error.into(),
        })
    }

    /// The snapshot that was named, or the newest of the job on this host.
    fn snapshot(&self, repository: &Arc<Repository>) -> Result<Snapshot, Failure> {
        let name = &self.job.name;
        if let Some(named) = &self.args.snapshot {
            return Ok(gabion::ops::find_snapshot(repository, named)?);
        }
        let host = self.job.host.clone().unwrap_or_else(machine::host);
        let (listed, _) = repository.snapshots()?;
        let mut of_job = gabion::ops::current(listed)
            .into_iter()
            .filter(|found| found.job.as_deref() == Some(name));
        let newest = of_job.rfind(|found| found.host == host);
        newest.ok_or_else(|| {
            let place = &self.configuration.repository.url;
            Failure::new(Exit::Failed, format!("{place} holds no snapshot of the job {name}"))
                .hint(format!("`gabion run {name}` takes one"))
        })
    }

    fn folder(&self) -> Result<PathBuf, Failure> {
        let named = self.args.folder.as_ref().or(self.job.drill.folder.as_ref()).cloned();
        let chosen = named.or_else(|| machine::variable("TMPDIR").map(PathBuf::from));
        let usual = || PathBuf::from("/var/tmp");
        let folder = chosen.unwrap_or_else(usual);
        let failed = |error| Failure::io(format!("cannot use {}", folder.display()), &error);
        let folder = folder.canonicalize().map_err(failed)?;
        // The socket's path must fit into 107 bytes.
        if folder.as_os_str().len() > 50 {
            let message = format!("the path {} is too long for sockets", folder.display());
            return Err(Failure::new(Exit::Failed, message)
                .hint("name a shorter one with `drill.folder` or --folder"));
        }
        Ok(folder)
    }

    /// Who runs the servers: nobody else than the user, unless that is root.
    fn account(&self) -> Result<Option<Account>, Failure> {
        if !nix::unistd::Uid::effective().is_root() {
            return Ok(None);
        }
        let name = self.job.drill.user.as_deref().unwrap_or("nobody");
        let user = nix::unistd::User::from_name(name).ok().flatten().ok_or_else(|| {
            Failure::new(Exit::Failed, format!("this machine has no user {name:?}"))
                .hint("servers cannot be run by root: `drill.user` names who runs them")
        })?;
        Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }

    fn say(&self, record: &DrillRecord) -> Result<(), Failure> {
        if self.session.json() {
            return one_json(&Line { job: &self.job.name, drill: record });
        }
        if !self.session.quiet() {
            self.print(record)?;
        }
        let name = &self.job.name;
        for problem in &record.problems {
            let problem = gabion::format::path::harmless(problem.as_bytes());
            eprintln!("problem: {name}: {problem}");
        }
        Ok(())
    }

    fn print(&self, record: &DrillRecord) -> Result<(), Failure> {
        let mut output = Output::new();
        let name = &self.job.name;
        let snapshot = record.snapshot.as_deref().map(short).unwrap_or_default();
        let taken = Timestamp { seconds: record.snapshot_time.unwrap_or(0), nanos: 0 };
        output.line(format!("{name}: drill of snapshot {snapshot} of {}", time(taken)))?;
        let right = [("", Side::Left), ("", Side::Right), ("", Side::Left)];
        let mut table = Table::new(&right);
        for stream in &record.streams {
            let mut said = vec![stream.server.clone().unwrap_or_default()];
            if stream.tables > 0 {
                let tables = counted(stream.tables, "table", "tables");
                said.push(format!("{tables}, {}", counted(stream.rows, "row", "rows")));
                said.push(match stream.compared {
                    compared if compared == stream.tables => "compared".to_owned(),
                    0 => "not counted when dumped".to_owned(),
                    compared => format!("{} compared", count(compared)),
                });
            }
            said.extend(stream.notes.iter().cloned());
            said.push(format!("{:.1} s", stream.seconds));
            said.retain(|part| !part.is_empty());
            table.row([format!("  {}", stream.stream), size(stream.bytes), said.join("; ")]);
        }
        let files = &record.files;
        let mut said = format!("{} restored and compared", count(files.restored));
        for (number, what) in [(files.required, "required"), (files.too_large, "too large")] {
            if number > 0 {
                said.push_str(&format!("; {} {what}", count(number)));
            }
        }
        table.row(["  files".to_owned(), size(files.bytes), said]);
        for line in table.lines().skip(1) {
            output.line(line)?;
        }
        for query in &record.queries {
            let answer = query.answer.as_deref().unwrap_or("nothing");
            let mark = if query.ok { "ok" } else { "WRONG" };
            let line = format!("  {}: {} gives {answer}: {mark}", query.database, query.query);
            output.line(gabion::format::path::harmless(line.as_bytes()))?;
        }
        let took = record.ended - record.started;
        output.line(match record.ok {
            true => format!("drill passed in {took} s"),
            false => {
                let count = counted(record.problems.len() as u64, "problem", "problems");
                format!("drill FAILED in {took} s: {count}")
            }
        })?;
        Ok(output.finish()?)
    }
}
