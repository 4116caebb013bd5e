//! The repositories that schedules begin with.

use std::sync::{Arc, OnceLock};

use super::client::{Client, Clock, Task};
use super::faults::Faults;
use super::ledger::{Ledger, Objects, Trees};
use super::random::{self, Rng, SLOTS};
use super::scheduler::Scheduler;
use super::weak::Weakness;
use super::world::World;
use crate::small;

/// A repository.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) objects: Objects,
    pub(super) ledger: Ledger,
}

/// Where all is stored twice.
pub(super) const TWINS: usize = 7;

/// All of them, made once.
pub(super) fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        // In a thread of its own, whose random numbers are always the same.
        let thread = std::thread::Builder::new().name(random::thread_name(SLOTS - 1));
        thread.spawn(make).unwrap().join().unwrap()
    })
}

/// First those of an ordinary repository, then the same where blocks may have bases.
fn make() -> Vec<Base> {
    random::begin(SLOTS - 1, 1);
    let trees: Arc<Trees> = Arc::default();
    let all = [false, true].map(|delta| states(&empty(delta), &trees));
    let base = |objects: Objects| Base { ledger: Ledger::new(&objects, &trees), objects };
    all.into_iter().flatten().map(base).collect()
}

/// What may have become of an `empty` repository.
fn states(empty: &Objects, trees: &Arc<Trees>) -> Vec<Objects> {
    let after = |from: &Objects, seed: u64, dies_after: Option<u64>, tasks: &[Task]| {
        work(from, trees, seed, dies_after, tasks)
    };
    let [a, b, c] = [0, 2, 4].map(Task::Snapshot);
    let three = after(empty, 10, None, &[a, b, c]);
    let forgotten = after(&three, 20, None, &[Task::Forget]);
    // Two that did not see each other stored everything twice.
    let twice = joined(&after(empty, 30, None, &[a, b]), &after(empty, 31, None, &[a, b]));
    let some_twice = joined(&three, &after(empty, 32, None, &[c]));
    vec![
        empty.clone(),
        forgotten.clone(),
        after(&twice, 40, None, &[Task::Forget]),
        after(&some_twice, 41, None, &[Task::Forget]),
        // A prune and snapshots that were cut off.
        after(&forgotten, 50, Some(45), &[Task::Prune]),
        after(&forgotten, 51, Some(25), &[Task::Snapshot(3)]),
        after(&forgotten, 52, Some(70), &[Task::Prune]),
        twice,
        three,
    ]
}

/// A repository without snapshots.
fn empty(delta: bool) -> Objects {
    let storage = small::tiny(delta);
    storage.names().into_iter().map(|name| (name, storage.get(name).unwrap())).collect()
}

/// What one client makes of a repository, which may die after so many calls.
fn work(
    from: &Objects,
    trees: &Arc<Trees>,
    seed: u64,
    dies_after: Option<u64>,
    tasks: &[Task],
) -> Objects {
    let mut faults = Faults::none();
    faults.die_after(dies_after);
    let scheduler = Scheduler::new(Rng::new(seed), 1);
    let ledger = Ledger::new(from, trees);
    let world = World::new(from.clone(), ledger, faults, scheduler, 1, false);
    let client = Client {
        world: Arc::clone(&world),
        number: 0,
        slot: SLOTS - 1,
        seed,
        tasks: tasks.to_vec(),
        host: "h0".to_owned(),
        clock: Clock { wrong_by: 0, jump: 0 },
        knows_the_dead: true,
        is_alone: false,
        weakness: Weakness::None,
        cache: None,
    };
    world.start();
    client.live();
    world.end().objects
}

fn joined(one: &Objects, other: &Objects) -> Objects {
    one.iter().chain(other).map(|(name, bytes)| (*name, Arc::clone(bytes))).collect()
}
