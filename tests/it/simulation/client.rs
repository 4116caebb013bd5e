//! A client: it does one thing after the other with the library's own operations, as a user's
//! schedule would.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;

use gabion::event::{Event, Recorder};
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::{ProcessIdentity, Session, Snapshot};
use gabion::ops::OpError;
use gabion::ops::amend::{Amendment, amend};
use gabion::ops::check::{CheckOptions, ReadData, check};
use gabion::ops::forget::{ForgetLimits, ForgetPlan};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::retention::GroupBy;
use gabion::ops::snapshot::{SnapshotOptions, snapshot};
use gabion::repo::{Presence, Repository, Unlock};

use super::place::Place;
use super::random::{self, Rng};
use super::sources::{self, VERSION_COUNT, Version};
use super::weak::Weakness;
use super::world::World;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Snapshot(Version),
    Forget,
    Prune,
    Check,
    Restore,
    Tag,
}

/// How a client's clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) wrong_by: i64,
    /// Seconds that it jumps each time when it is looked at.
    pub(super) jump: i64,
}

/// 2027-11-26, by the right clock.
const NOW: i64 = 1_827_187_200;
pub(super) const YEAR: i64 = 365 * 24 * 60 * 60;

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock { wrong_by: 0, jump: 0 }) };
    static KNOWLEDGE: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

fn clock() -> Timestamp {
    let mut clock = CLOCK.get();
    clock.wrong_by += clock.jump;
    CLOCK.set(clock);
    Timestamp { seconds: NOW + clock.wrong_by, nanos: 0 }
}

fn has_ended(session: &Session) -> bool {
    KNOWLEDGE.with_borrow(|world| world.as_ref().is_some_and(|world| world.is_dead(session)))
}

/// How a task ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) task: Task,
    /// What went wrong, in words.
    pub(super) error: Option<String>,
    /// Findings of a check or restore.
    pub(super) problems: Vec<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ended with {:?} and found {:?}", self.task, self.error, self.problems)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) number: usize,
    pub(super) slot: usize,
    pub(super) seed: u64,
    pub(super) tasks: Vec<Task>,
    pub(super) host: String,
    pub(super) clock: Clock,
    /// Whether it can tell which processes are dead.
    pub(super) knows_the_dead: bool,
    /// Everybody else is dead, and it knows.
    pub(super) is_alone: bool,
    pub(super) weakness: Weakness,
    pub(super) cache: Option<PathBuf>,
}

/// Lives in which a task is tried before the client goes on with the next one.
const LIVES_OF_A_TASK: u64 = 2;

struct Leaves<'w>(&'w World, usize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl Client {
    /// Does everything; in a thread of its own, with the name of the client's slot.
    pub(super) fn live(&self) -> Vec<Outcome> {
        let _leaves = Leaves(&self.world, self.number);
        CLOCK.set(self.clock);
        KNOWLEDGE.set(self.knows_the_dead.then(|| Arc::clone(&self.world)));
        self.world.enter(self.number);
        let mut outcomes = Vec::new();
        for (number, task) in (0u64..).zip(&self.tasks) {
            for life in 0..LIVES_OF_A_TASK {
                let life = (number * LIVES_OF_A_TASK + life) * 16 + self.number as u64;
                random::begin(self.slot, self.seed ^ (life << 32));
                let outcome = self.attempt(*task, life);
                let done = outcome.error.is_none() || !self.world.is_over(life);
                self.world.bury(life);
                outcomes.push(outcome);
                if done {
                    break;
                }
            }
        }
        outcomes
    }

    fn attempt(&self, task: Task, life: u64) -> Outcome {
        let recorder = Arc::new(Recorder::default());
        let result = self.run(task, life, &recorder);
        let error = result.err().map(|error| crate::aftermath::chain(&error));
        self.world.lock().say(|| {
            let ended = error.as_deref().unwrap_or("done");
            format!("      client {} {task:?}: {ended}", self.number)
        });
        let problems = recorder.events().into_iter().filter_map(|event| match event {
            Event::Problem(problem) => {
                Some(format!("{}: {}", problem.subject.display(), problem.message))
            }
            _ => None,
        });
        Outcome { task, error, problems: problems.collect() }
    }

    fn run(&self, task: Task, life: u64, recorder: &Arc<Recorder>) -> Result<(), OpError> {
        let place = Place::new(&self.world, self.number, life, self.weakness);
        let observer = Arc::<Recorder>::clone(recorder);
        let cache = self.cache.clone();
        let repository =
            Repository::open(Arc::new(place), "here", &Unlock::Nothing, cache, observer)?;
        let repository = Arc::new(repository);
        let mut rng = Rng::of(self.seed, 100 + life);
        match task {
            Task::Snapshot(version) => {
                snapshot(&repository, self.snapshot_options(version, life)).map(drop)
            }
            Task::Forget => self.forget(&repository, life, &mut rng),
            Task::Prune => prune(&repository, &self.prune_options(life)).map(drop),
            Task::Check => {
                let read = ReadData::All;
                let interrupted = Arc::default();
                let options = CheckOptions { read, salt: 0, threads: 1, interrupted };
                check(&repository, &options).map(drop)
            }
            Task::Restore => {
                let Some(chosen) = Self::any_snapshot(&repository, &mut rng)? else {
                    return Ok(());
                };
                repository.load_index()?;
                match sources::read_back(&repository, &chosen) {
                    // Whoever forgets what is being read wins.
                    Err(_) if !repository.snapshot_exists(chosen.id)? => Ok(()),
                    result => Ok(result.map(drop)?),
                }
            }
            Task::Tag => {
                let Some(chosen) = Self::any_snapshot(&repository, &mut rng)? else {
                    return Ok(());
                };
                let amendment =
                    Amendment { add: vec![format!("t{}", rng.below(5))], ..Amendment::default() };
                let names = [chosen.id.to_string()];
                amend(&repository, &names, &amendment, &self.presence(life)).map(drop)
            }
        }
    }

    fn any_snapshot(repository: &Repository, rng: &mut Rng) -> Result<Option<Snapshot>, OpError> {
        let (snapshots, _) = repository.snapshots()?;
        Ok(if snapshots.is_empty() { None } else { Some(rng.pick(&snapshots).clone()) })
    }

    fn forget(&self, repository: &Repository, life: u64, rng: &mut Rng) -> Result<(), OpError> {
        let (snapshots, _) = repository.snapshots()?;
        let some = snapshots.iter().filter(|_| rng.once_in(2));
        let mut names: Vec<String> = some.map(|snapshot| snapshot.id.to_string()).collect();
        if names.len() == snapshots.len() {
            names.pop();
        }
        if names.is_empty() {
            return Ok(());
        }
        let plan = ForgetPlan::named(repository, &names, GroupBy::default())?;
        let limits = ForgetLimits { force: true, ..ForgetLimits::default() };
        plan.execute(repository, limits, &self.presence(life)).map(drop)
    }

    fn identity(&self, life: u64) -> Option<ProcessIdentity> {
        Some(ProcessIdentity { boot: "simulated".to_owned(), namespace: 1, started: life })
    }

    fn presence(&self, life: u64) -> Presence {
        Presence { host: self.host.clone(), now: clock(), identity: self.identity(life) }
    }

    fn snapshot_options(&self, version: Version, life: u64) -> SnapshotOptions {
        assert!(version < VERSION_COUNT);
        SnapshotOptions {
            paths: vec![sources::folder().to_owned()],
            streams: vec![sources::stream_source(version)],
            excludes: sources::excludes(version),
            tags: vec![sources::tag(version)],
            host: self.host.clone(),
            identity: self.identity(life),
            time: clock(),
            clock,
            threads: 1,
            ..crate::snapshot_op::options()
        }
    }

    fn prune_options(&self, life: u64) -> PruneOptions {
        PruneOptions {
            identity: self.identity(life),
            has_ended: if self.is_alone { |_| true } else { has_ended },
            ..PruneOptions::new(self.host.clone(), clock, 1)
        }
    }
}
