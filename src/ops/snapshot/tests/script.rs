//! What a simulation does at each call, and ways to keep from a snapshot what it decides by.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::world::{World, time};
use crate::format::entry::{EntryKind, Timestamp};
use crate::source::Stat;
use crate::source::probe::{Call, Script};

/// What a snapshot is not told, so that it decides as if it did not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weakness {
    None,
    /// Of files with several names only the number, so that it counts on two file systems at once.
    NumberAlone,
    /// Of files with several names only the file system and the number, which is given out again.
    NumberOnDisk,
    /// That a file has more bytes than its length says.
    LengthBelieved,
    /// What became of a file since the first look at it.
    NoLastLook,
    /// That a file was changed within the grain of the clock before the walk.
    GrainIgnored,
    /// When a file was changed.
    NoTimeOfChange,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) world: World,
    pub(super) weakness: Weakness,
    running: bool,
    pub(super) calls: u64,
    /// Changes come once in so many calls, and so many may still come.
    every: u64,
    left: u64,
    /// What is read is written to.
    chases: bool,
    /// A path at which this call fails during this run.
    pub(super) denied: Option<(String, Call, Errno)>,
    /// What was told of each object first in this run.
    first_told: HashMap<usize, Stat>,
    /// Bytes that the file that is read has left, by its length.
    left_to_read: usize,
    room: usize,
    sizes: (u64, usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scripted(Mutex<Inner>);

thread_local! {
    static NOW: Cell<Option<Timestamp>> = const { Cell::new(None) };
}

/// The time of the simulation that the thread belongs to.
pub(super) fn now() -> Option<Timestamp> {
    NOW.get()
}

const MILLISECOND: i64 = 1_000_000;
/// How long before a run the last changes come, in nanoseconds.
const BEFORE: [i64; 6] =
    [0, MILLISECOND, 15 * MILLISECOND, 30 * MILLISECOND, 3000 * MILLISECOND, 500_000 * MILLISECOND];

impl Scripted {
    pub(super) fn new(world: World, weakness: Weakness) -> Self {
        Self(Mutex::new(Inner {
            world,
            weakness,
            running: false,
            calls: 0,
            every: 1,
            left: 0,
            chases: false,
            denied: None,
            first_told: HashMap::new(),
            left_to_read: 0,
            room: usize::MAX,
            sizes: (u64::MAX, 1),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins. Returns its first step.
    pub(super) fn begin(&self, run: i64) -> u64 {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let world = &mut inner.world;
        world.trace.push(format!("before run {run}"));
        world.set_clock(run, *world.rng.clone().pick(&BEFORE));
        for _ in 0..world.rng.below(5) {
            world.change();
        }
        world.set_clock(run, 0);
        world.step += 1;
        world.trace.push(format!("run {run} begins"));
        (inner.every, inner.left) = (2 + world.rng.below(20), world.rng.below(9));
        inner.chases = world.rng.once_in(6);
        inner.sizes = (*world.rng.pick(&[50, u64::MAX]), *world.rng.pick(&[1, 2, 256]));
        inner.room = *world.rng.pick(&[32, usize::MAX]);
        let path = world.rng.once_in(3).then(|| world.pick_name()).flatten();
        inner.denied = path.map(|path| {
            let call = *world.rng.pick(&[Call::Open, Call::Read]);
            (path, call, *world.rng.pick(&[Errno::ACCESS, Errno::IO]))
        });
        inner.first_told.clear();
        NOW.set(Some(time(world.clock)));
        inner.running = true;
        world.step
    }

    pub(super) fn end(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.running = false;
        inner.world.step += 1;
        inner
    }
}

impl Script for Scripted {
    fn before(&self, call: Call, path: &[u8]) -> Result<(), Errno> {
        let mut inner = self.lock();
        if !inner.running {
            return Ok(());
        }
        inner.calls += 1;
        inner.world.step += 1;
        let every = inner.every;
        if inner.left > 0 && inner.world.rng.once_in(every) {
            inner.left -= 1;
            for _ in 0..=inner.world.rng.below(3) {
                inner.world.change();
            }
        }
        if inner.chases && call == Call::Read {
            inner.world.write_to(path);
        }
        NOW.set(Some(time(inner.world.clock)));
        if let Some((denied, at, error)) = &inner.denied
            && call == *at
            && path.ends_with(format!("/{denied}").as_bytes()) | (path == denied.as_bytes())
        {
            return Err(*error);
        }
        Ok(())
    }

    fn told(&self, stat: &mut Stat) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(object) = inner.world.told(stat) else { return };
        let is_linked = stat.kind == EntryKind::File && stat.links > 1;
        let long_ago = Timestamp { seconds: 3, nanos: 3 };
        match inner.weakness {
            Weakness::NumberAlone if is_linked => {
                (stat.dev, stat.size) = (1, stat.size);
                (stat.mtime, stat.ctime, stat.born) = (long_ago, long_ago, long_ago);
            }
            Weakness::NumberOnDisk if is_linked => {
                (stat.mtime, stat.ctime, stat.born) = (long_ago, long_ago, long_ago);
            }
            Weakness::NoLastLook => *stat = *inner.first_told.entry(object).or_insert(*stat),
            Weakness::GrainIgnored => {
                stat.ctime = Timestamp { seconds: stat.ctime.seconds - 10, nanos: 1 };
            }
            Weakness::NoTimeOfChange => stat.ctime = long_ago,
            _ => {}
        }
        inner.left_to_read = usize::try_from(stat.size).unwrap_or(usize::MAX);
    }

    fn room(&self, wanted: usize) -> usize {
        let mut inner = self.lock();
        let room = wanted.min(inner.room);
        if inner.weakness != Weakness::LengthBelieved {
            return room;
        }
        let room = room.min(inner.left_to_read);
        inner.left_to_read -= room;
        room
    }

    fn sizes(&self) -> (u64, usize) {
        self.lock().sizes
    }
}
