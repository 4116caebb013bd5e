//! What goes wrong in a schedule, and when: all of it by a seed.

use gabion::storage::{ObjectKind, StorageErrorKind};

use super::random::Rng;
use super::scheduler::Verb;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    Fails(StorageErrorKind),
    /// It works, and the caller is told that it did not.
    WorksUnseen(StorageErrorKind),
    /// The client dies directly before.
    Crashes,
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weather {
    pub(super) crashes: bool,
    pub(super) lost_answers: bool,
    pub(super) storms: bool,
    pub(super) short_lists: bool,
    pub(super) revocations: bool,
}

/// A list that is not whole.
#[derive(Debug, Clone, Copy)]
struct ShortList {
    kind: ObjectKind,
    /// Which of all lists of this kind, and for how many in a row.
    from: u64,
    times: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Faults {
    rng: Rng,
    weather: Weather,
    /// For each client, after how many calls it dies.
    crash_in: Vec<Option<u64>>,
    storm_in: u64,
    storm_left: u64,
    /// Whom the storm meets; nothing: all.
    storm_on: Option<usize>,
    short: Option<ShortList>,
    /// How many faults there were.
    pub(super) injected: u64,
}

/// What of a repository a list may lack. Without config and keys there is no repository.
const LISTED: [ObjectKind; 7] = [
    ObjectKind::Pack,
    ObjectKind::Segment,
    ObjectKind::Snapshot,
    ObjectKind::SnapshotCopy,
    ObjectKind::Root,
    ObjectKind::Session,
    ObjectKind::Mark,
];

impl Faults {
    /// A schedule in which nothing goes wrong.
    pub(super) fn none() -> Self {
        Self::new(Rng::new(0), Weather::default(), 0)
    }

    pub(super) fn new(mut rng: Rng, weather: Weather, clients: usize) -> Self {
        let crash_in = (0..clients)
            .map(|_| (weather.crashes && rng.once_in(2)).then(|| rng.below(160)))
            .collect();
        let short = weather.short_lists.then(|| ShortList {
            kind: *rng.pick(&LISTED),
            from: rng.below(12),
            times: 1,
        });
        let storm_in = if weather.storms { rng.below(400) } else { u64::MAX };
        let storm_left = 1 + rng.below(25);
        let storm_on = (!rng.once_in(4)).then(|| usize::try_from(rng.below(4)).unwrap());
        Self { rng, weather, crash_in, storm_in, storm_left, storm_on, short, injected: 0 }
    }

    /// The only client dies after so many calls.
    pub(super) fn die_after(&mut self, calls: Option<u64>) {
        self.crash_in = vec![calls];
    }

    /// What happens at a call of `client`.
    pub(super) fn judge(&mut self, client: usize, verb: Verb, kind: ObjectKind) -> Verdict {
        let verdict = self.verdict(client, verb, kind);
        self.injected += u64::from(verdict != Verdict::Works);
        verdict
    }

    fn verdict(&mut self, client: usize, verb: Verb, kind: ObjectKind) -> Verdict {
        if matches!(kind, ObjectKind::Config | ObjectKind::ConfigCopy) && verb == Verb::Read {
            return Verdict::Works;
        }
        if let Some(Some(left)) = self.crash_in.get_mut(client) {
            if *left == 0 {
                self.crash_in[client] = self.rng.once_in(3).then(|| self.rng.below(120));
                return Verdict::Crashes;
            }
            *left -= 1;
        }
        self.storm_in = self.storm_in.saturating_sub(1);
        if self.storm_in == 0
            && self.storm_left > 0
            && self.storm_on.is_none_or(|victim| victim == client)
        {
            self.storm_left -= 1;
            return Verdict::Fails(StorageErrorKind::Other);
        }
        let changes = matches!(verb, Verb::Publish | Verb::Delete);
        if changes && self.weather.lost_answers && self.rng.once_in(30) {
            // A request that is sent again by the transport finds that the name is taken.
            let again = verb == Verb::Publish && self.rng.once_in(3);
            return Verdict::WorksUnseen(match again {
                true => StorageErrorKind::AlreadyExists,
                false => StorageErrorKind::Other,
            });
        }
        Verdict::Works
    }

    /// Whether somebody else revokes a session now.
    pub(super) fn revokes(&mut self) -> bool {
        self.weather.revocations && self.rng.once_in(60)
    }

    /// Of a list of a kind, which places (by their number) are missing.
    pub(super) fn lacks(&mut self, kind: ObjectKind, len: usize) -> Vec<usize> {
        let Some(short) = self.short.as_mut().filter(|short| short.kind == kind) else {
            return Vec::new();
        };
        if short.from > 0 {
            short.from -= 1;
            return Vec::new();
        }
        if short.times == 0 || len == 0 {
            return Vec::new();
        }
        short.times -= 1;
        self.injected += 1;
        let all = self.rng.once_in(3);
        (0..len).filter(|_| all || self.rng.once_in(2)).collect()
    }

    /// The numbers below `len`, in the order in which things happen that may happen in any.
    pub(super) fn order(&mut self, len: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..len).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let at = self.rng.below(left.len() as u64);
            order.push(left.swap_remove(usize::try_from(at).unwrap()));
        }
        order
    }

    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        self.rng.pick(list)
    }
}
