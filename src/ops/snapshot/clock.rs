//! The clock while a walk runs. A snapshot keeps the time at which its walk began, and whatever
//! changes from then on is expected to bear a later time. When the clock is set back in between, as
//! it is where it was wrong at first, that does not hold: then an earlier time is kept.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::format::entry::Timestamp;

/// The clock of files is slower by so many nanoseconds at most than that of time passing, as long
/// as it is not set back.
const DRIFT: i128 = 1_000_000_000;
/// How much earlier, in nanoseconds, than the time by which the clock was set back: what changed
/// between two looks at it.
const MARGIN: i128 = 60_000_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct WalkClock {
    read: fn() -> Timestamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<(Timestamp, Instant)>,
    /// Nanoseconds by which the clock was set back, margins included.
    behind: i128,
}

impl WalkClock {
    pub(super) fn new(read: fn() -> Timestamp) -> Self {
        Self { read, state: Mutex::new(State { last: None, behind: 0 }) }
    }

    /// Looks at the clock. The first look is compared with `started`.
    pub(super) fn look(&self, started: Option<Timestamp>) {
        let (now, seen) = ((self.read)(), Instant::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.last.or(started.map(|started| (started, seen)));
        if let Some((last, looked)) = last {
            let passed = i128::try_from((seen - looked).as_nanos()).unwrap_or(i128::MAX / 2);
            let behind = nanos(last) + passed - nanos(now);
            if behind > DRIFT {
                state.behind += behind + MARGIN;
            }
        }
        state.last = Some((now, seen));
    }

    /// Whether the clock was set back since the walk began.
    pub(super) fn was_set_back(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).behind > 0
    }

    /// A time before everything that has changed since the walk began at `started`.
    pub(super) fn earliest(&self, started: Timestamp) -> Timestamp {
        let behind = self.state.lock().unwrap_or_else(PoisonError::into_inner).behind;
        let earliest = nanos(started) - behind;
        let second = i128::from(SECOND);
        Timestamp {
            seconds: i64::try_from(earliest.div_euclid(second)).unwrap_or(i64::MIN),
            nanos: u32::try_from(earliest.rem_euclid(second)).unwrap_or(0),
        }
    }
}

const SECOND: u32 = 1_000_000_000;

fn nanos(time: Timestamp) -> i128 {
    i128::from(time.seconds) * i128::from(SECOND) + i128::from(time.nanos)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(0) };
    }

    #[test]
    fn a_clock_that_is_set_back_makes_the_walk_begin_earlier() {
        let at = |seconds| Timestamp { seconds, nanos: 5 };
        let clock = WalkClock::new(|| Timestamp { seconds: NOW.get(), nanos: 5 });
        for forward in [1000, 1000, 1001, 5000] {
            NOW.set(forward);
            clock.look(Some(at(1000)));
            assert_eq!((clock.earliest(at(1000)), clock.was_set_back()), (at(1000), false));
        }
        NOW.set(4500);
        clock.look(None);
        assert!(clock.was_set_back());
        assert!(clock.earliest(at(1000)) <= at(500) && clock.earliest(at(1000)) > at(400));
        // At the first look, too.
        let late = WalkClock::new(|| Timestamp { seconds: 10, nanos: 5 });
        late.look(Some(at(1000)));
        assert!(late.earliest(at(1000)) < at(10));
    }
}
