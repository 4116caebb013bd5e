//! Who goes on: at each call of the storage one client of those that can is chosen, by a seed.

use gabion::storage::ObjectKind;

use super::random::Rng;

/// What a client is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Read,
    Measure,
    Publish,
    Delete,
}

/// How the next client is chosen.
#[derive(Debug)]
enum Strategy {
    /// Any, with this probability (one in so many) at each call; else the same goes on.
    Random(u64),
    /// The one of the highest priority; at a few calls the one that runs gets the lowest.
    Priorities { of: Vec<u64>, changes: Vec<u64>, lowest: u64 },
    /// One after the other, but each may fall asleep directly before or after a call that matters.
    Sleepers,
}

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Awake,
    /// Until so many calls were made, or all others sleep or are done.
    Asleep(u64),
    Done,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scheduler {
    rng: Rng,
    strategy: Strategy,
    clients: Vec<State>,
    /// A call that matters puts its client to sleep once in so many; never for 0.
    sleepiness: u64,
}

/// Calls before or after which a sleep is most likely to do harm.
fn matters(verb: Verb, kind: ObjectKind) -> bool {
    match verb {
        Verb::Publish => kind != ObjectKind::Pack,
        Verb::Delete => kind != ObjectKind::Segment,
        Verb::List | Verb::Measure => true,
        Verb::Read => false,
    }
}

impl Scheduler {
    pub(super) fn new(mut rng: Rng, clients: usize) -> Self {
        let strategy = match rng.below(5) {
            0 => Strategy::Random(2),
            1 => Strategy::Random(12),
            2 => {
                let changes = (0..1 + rng.below(5)).map(|_| rng.below(400)).collect();
                let of = (0..clients).map(|_| 1000 + rng.below(1000)).collect();
                Strategy::Priorities { of, changes, lowest: 999 }
            }
            _ => Strategy::Sleepers,
        };
        let sleepiness = match (&strategy, rng.below(3)) {
            (Strategy::Sleepers, _) => *rng.pick(&[6, 12, 25]),
            (_, 0) => 0,
            _ => *rng.pick(&[20, 60]),
        };
        Self { rng, strategy, clients: vec![State::Awake; clients], sleepiness }
    }

    pub(super) fn finish(&mut self, client: usize) {
        self.clients[client] = State::Done;
    }

    pub(super) fn is_done(&self, client: usize) -> bool {
        self.clients[client] == State::Done
    }

    /// Puts a client to sleep for long.
    fn doze(&mut self, client: usize, step: u64) {
        let until = match self.rng.below(3) {
            0 => step + 5 + self.rng.below(40),
            1 => step + 50 + self.rng.below(500),
            _ => u64::MAX,
        };
        self.clients[client] = State::Asleep(until);
    }

    /// Who makes the next call, where `current` is about to make one (or is done); nothing when
    /// nobody can.
    pub(super) fn choose(
        &mut self,
        current: usize,
        call: Option<(Verb, ObjectKind)>,
        step: u64,
    ) -> Option<usize> {
        if let Some((verb, kind)) = call
            && self.sleepiness > 0
            && matters(verb, kind)
            && self.rng.once_in(self.sleepiness)
        {
            self.doze(current, step);
        }
        for state in &mut self.clients {
            if matches!(state, State::Asleep(until) if *until <= step) {
                *state = State::Awake;
            }
        }
        let awake = |(at, state): (usize, &State)| (*state == State::Awake).then_some(at);
        let mut able: Vec<usize> = self.clients.iter().enumerate().filter_map(awake).collect();
        if able.is_empty() {
            // Whoever was to wake up first, or any.
            let asleep = self.clients.iter().enumerate().filter_map(|(at, state)| match state {
                State::Asleep(until) => Some((*until, at)),
                _ => None,
            });
            let asleep: Vec<(u64, usize)> = asleep.collect();
            let first = asleep.iter().map(|(until, _)| *until).min()?;
            let firsts: Vec<usize> =
                asleep.iter().filter(|(until, _)| *until == first).map(|(_, at)| *at).collect();
            let woken = *self.rng.pick(&firsts);
            self.clients[woken] = State::Awake;
            able.push(woken);
        }
        Some(self.pick(current, &able, step))
    }

    fn pick(&mut self, current: usize, able: &[usize], step: u64) -> usize {
        let goes_on = able.contains(&current);
        match &mut self.strategy {
            Strategy::Random(times) => {
                if goes_on && !self.rng.once_in(*times) {
                    return current;
                }
                *self.rng.pick(able)
            }
            Strategy::Priorities { of, changes, lowest } => {
                if changes.contains(&step) {
                    of[current] = *lowest;
                    *lowest = lowest.saturating_sub(1);
                }
                able.iter().copied().max_by_key(|at| of[*at]).unwrap_or(current)
            }
            Strategy::Sleepers if goes_on => current,
            Strategy::Sleepers => *self.rng.pick(able),
        }
    }
}
