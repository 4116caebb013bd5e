//! One schedule: what follows from its seed, what happens, and what must be true afterwards.

use std::path::PathBuf;
use std::sync::Arc;

use gabion::storage::ObjectKind;

use super::bases::{Base, TWINS, bases};
use super::client::{Client, Clock, Outcome, Task, YEAR};
use super::faults::{Faults, Weather};
use super::random::{self, Rng};
use super::scheduler::Scheduler;
use super::sources::VERSION_COUNT;
use super::weak::Weakness;
use super::world::{End, World};

/// Who works at the same time.
const CLIENTS: usize = 4;
/// Slots of random numbers that one lane of schedules takes.
pub(super) const SLOTS_OF_A_LANE: usize = 8;

/// Where a schedule runs.
#[derive(Debug)]
pub(super) struct Lane {
    number: usize,
    /// For the caches of clients that have some.
    folder: tempfile::TempDir,
}

/// What clients do where the protocol is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Scene {
    /// Writers and pruners do as always.
    #[default]
    Any,
    /// Two prunes where everything was stored twice.
    Twins,
}

/// How the protocol is broken on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weakening {
    pub(super) scene: Scene,
    pub(super) writers: Weakness,
    pub(super) pruners: Weakness,
    /// Sessions of the living are taken for dead.
    pub(super) revocations: bool,
}

/// What came of a schedule.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) violation: Option<String>,
    /// Calls of the storage, and a hash of them all.
    pub(super) steps: u64,
    pub(super) hash: u64,
    /// Faults.
    pub(super) injected: u64,
    /// Tasks that were done, and that ended with an error.
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) trace: Vec<String>,
}

/// What follows from a seed.
struct Plan {
    base: &'static Base,
    clients: Vec<(Vec<Task>, Clock, bool, Weakness)>,
    weather: Weather,
    caches: bool,
    last_version: usize,
}

impl Plan {
    fn of(seed: u64, weakening: Option<Weakening>) -> Self {
        let mut rng = Rng::of(seed, 3);
        let broken = weakening.is_some();
        let weakening = weakening.unwrap_or_default();
        let mut weather = weather(&mut rng);
        if broken {
            weather = Weather { revocations: weakening.revocations, ..Weather::default() };
        }
        let clients = (0..CLIENTS).map(|number| {
            let role = match number {
                0 => 0,
                1 => 1,
                _ if broken => 1 - number as u64 % 2,
                _ => rng.below(5),
            };
            let (tasks, weakness) = match role {
                0 | 3 => (writer(&mut rng, weakening.scene), weakening.writers),
                1 | 4 => (pruner(&mut rng, weakening.scene), weakening.pruners),
                _ => (vec![*rng.pick(&[Task::Check, Task::Restore, Task::Tag])], Weakness::None),
            };
            let wrong_by = *rng.pick(&[0, 0, 10 * YEAR, -10 * YEAR]);
            let jump = *rng.pick(&[0, 0, 0, 50_000, -50_000]);
            let clock =
                if broken { Clock { wrong_by: 0, jump: 0 } } else { Clock { wrong_by, jump } };
            (tasks, clock, !rng.once_in(3), weakness)
        });
        let clients = clients.collect();
        Self {
            clients,
            base: match weakening.scene {
                Scene::Any => rng.pick(bases()),
                Scene::Twins => &bases()[TWINS],
            },
            weather,
            caches: !broken && rng.once_in(8),
            last_version: index(&mut rng, VERSION_COUNT),
        }
    }
}

fn index(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap()
}

fn writer(rng: &mut Rng, scene: Scene) -> Vec<Task> {
    match scene {
        Scene::Any => {}
        Scene::Twins => return Vec::new(),
    }
    let count = 1 + rng.below(2);
    (0..count).map(|_| Task::Snapshot(index(rng, VERSION_COUNT))).collect()
}

fn pruner(rng: &mut Rng, scene: Scene) -> Vec<Task> {
    if scene != Scene::Any {
        return vec![Task::Prune];
    }
    let mut tasks = Vec::new();
    for _ in 0..1 + rng.below(2) {
        if rng.once_in(2) {
            tasks.push(Task::Forget);
        }
        tasks.push(Task::Prune);
    }
    tasks
}

/// A quarter of all schedules has no faults: then nothing may end with an error.
fn weather(rng: &mut Rng) -> Weather {
    if rng.once_in(4) {
        return Weather::default();
    }
    // A list that is not whole is met alone: nothing can be promised of one beside a process that
    // is taken for dead.
    if rng.once_in(6) {
        return Weather { short_lists: true, ..Weather::default() };
    }
    Weather {
        crashes: rng.once_in(2),
        lost_answers: rng.once_in(3),
        storms: rng.once_in(4),
        revocations: rng.once_in(2),
        short_lists: false,
    }
}

impl Lane {
    pub(super) fn new(number: usize) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { number, folder }
    }

    /// Runs the schedule of `seed`.
    pub(super) fn run(&self, seed: u64, weakening: Option<Weakening>, traced: bool) -> Report {
        let plan = Plan::of(seed, weakening);
        let faults = Faults::new(Rng::of(seed, 4), plan.weather, CLIENTS);
        let scheduler = Scheduler::new(Rng::of(seed, 5), CLIENTS);
        let base = plan.base;
        let (objects, ledger) = (base.objects.clone(), base.ledger.clone());
        let world = World::new(objects, ledger, faults, scheduler, CLIENTS, traced);
        let clients: Vec<Client> =
            (0..CLIENTS).map(|n| self.client(&world, &plan, seed, n)).collect();
        world.start();
        let mut report = Report::default();
        let outcomes = live(&clients, &mut report);
        let end = world.end();
        report.take(&end);
        report.judge(&plan, &outcomes);
        if report.violation.is_none() && weakening.is_none() {
            self.settle(&plan, seed, end, traced, &mut report);
        }
        self.sweep();
        report
    }

    fn client(&self, world: &Arc<World>, plan: &Plan, seed: u64, number: usize) -> Client {
        let (tasks, clock, knows_the_dead, weakness) = plan.clients[number].clone();
        Client {
            world: Arc::clone(world),
            number,
            slot: self.number * SLOTS_OF_A_LANE + number,
            seed: Rng::of(seed, 10 + number as u64).next(),
            tasks,
            host: format!("h{}", number % 2),
            clock,
            knows_the_dead,
            is_alone: false,
            weakness,
            cache: plan.caches.then(|| self.cache(number)),
        }
    }

    fn cache(&self, number: usize) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    fn sweep(&self) {
        for number in 0..CLIENTS {
            let _ = std::fs::remove_dir_all(self.cache(number));
        }
    }

    /// Everybody is gone: the next run of each kind works with nothing done by hand, and leaves
    /// nothing behind.
    fn settle(&self, plan: &Plan, seed: u64, end: End, traced: bool, report: &mut Report) {
        let scheduler = Scheduler::new(Rng::of(seed, 6), 1);
        let world = World::new(end.objects, end.ledger, Faults::none(), scheduler, 1, traced);
        let client = Client {
            number: 0,
            slot: self.number * SLOTS_OF_A_LANE + SLOTS_OF_A_LANE - 1,
            seed: Rng::of(seed, 20).next(),
            tasks: vec![Task::Snapshot(plan.last_version), Task::Prune, Task::Check],
            clock: Clock { wrong_by: 20 * YEAR, jump: 0 },
            is_alone: true,
            weakness: Weakness::None,
            cache: None,
            ..self.client(&world, plan, seed, 0)
        };
        world.start();
        let outcomes = live(&[client], report);
        let end = world.end();
        report.take(&end);
        for outcome in outcomes.iter().flatten() {
            if outcome.error.is_some() || !outcome.problems.is_empty() {
                report.violate(format!("afterwards, with nobody else, {outcome}"));
            }
        }
        let count = |kind| end.objects.keys().filter(|name| name.kind == kind).count();
        for kind in [ObjectKind::Session, ObjectKind::Mark, ObjectKind::Root] {
            // Sessions that are over may name what was forgotten: one, or a few where several forget at once.
            if count(kind) > if kind == ObjectKind::Session { 4 } else { 0 } {
                report.violate(format!("{} of {kind:?} stay behind", count(kind)));
            }
        }
        let needed = end.ledger.needed().count();
        // A name that was given up stays taken.
        let given_up = end.ledger.given_up();
        for (kind, due) in
            [(ObjectKind::Snapshot, needed + given_up), (ObjectKind::SnapshotCopy, needed)]
        {
            if count(kind) != due {
                report.violate(format!("{} of {kind:?}, not {due}", count(kind)));
            }
        }
        if let Some(pack) = end.ledger.garbage() {
            report.violate(format!("packs/{pack} is garbage, and was not pruned"));
        }
    }
}

/// Lets clients live, each in a thread of its own.
fn live(clients: &[Client], report: &mut Report) -> Vec<Vec<Outcome>> {
    let joined: Vec<_> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for client in clients {
            let thread = std::thread::Builder::new().name(random::thread_name(client.slot));
            running.push(thread.spawn_scoped(scope, || client.live()).unwrap());
        }
        running.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut outcomes = Vec::new();
    for result in joined {
        match result {
            Ok(outcome) => outcomes.push(outcome),
            Err(_) => report.violate("a client panicked".to_owned()),
        }
    }
    outcomes
}

/// What may be said to a client although nothing is wrong: somebody else was faster.
const SOMEBODY_WAS_FASTER: [&str; 4] =
    ["by somebody else meanwhile", "no snapshot ", "other processes kept", "did not forget them"];

impl Report {
    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn take(&mut self, end: &End) {
        if let Some(violation) = &end.violation {
            self.violate(violation.clone());
        }
        self.steps += end.steps;
        self.hash ^= end.hash.rotate_left(u32::from(self.hash != 0));
        self.injected += end.injected;
        self.trace.extend_from_slice(&end.trace);
    }

    fn judge(&mut self, plan: &Plan, outcomes: &[Vec<Outcome>]) {
        let calm = plan.weather == Weather::default();
        let steady = plan.clients.iter().all(|(_, clock, ..)| clock.jump == 0);
        for outcome in outcomes.iter().flatten() {
            self.done += 1;
            self.failed += u64::from(outcome.error.is_some());
            let excused = outcome
                .error
                .as_ref()
                .is_none_or(|error| SOMEBODY_WAS_FASTER.iter().any(|text| error.contains(text)));
            if calm && steady && (!excused || !outcome.problems.is_empty()) {
                self.violate(format!("nothing was wrong, and yet {outcome}"));
            }
        }
    }
}
