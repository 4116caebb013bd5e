//! The world of one schedule: the objects, whose turn it is, and what has gone wrong.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gabion::format::snapshot::Session;
use gabion::storage::{ObjectKind, ObjectName, StorageError, StorageErrorKind};

use super::faults::{Faults, Verdict};
use super::ledger::{Ledger, Objects};
use super::scheduler::{Scheduler, Verb};

/// Calls after which a schedule is taken for one that never ends.
const MAX_STEPS: u64 = 60_000;

/// What all clients of a schedule share.
pub(super) struct World {
    shared: Mutex<Shared>,
    turns: Vec<Condvar>,
}

/// What only the client whose turn it is may touch.
pub(super) struct Shared {
    pub(super) objects: Objects,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    scheduler: Scheduler,
    turn: Option<usize>,
    step: u64,
    /// Processes, that is lives of clients, that have ended.
    dead: Vec<u64>,
    /// The first thing that must not happen.
    pub(super) violation: Option<String>,
    /// A hash of all calls and their results, to compare runs by.
    hash: u64,
    trace: Option<Vec<String>>,
}

/// How a world ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) objects: Objects,
    pub(super) ledger: Ledger,
    pub(super) violation: Option<String>,
    pub(super) steps: u64,
    pub(super) hash: u64,
    pub(super) trace: Vec<String>,
    pub(super) injected: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(super) fn new(
        objects: Objects,
        ledger: Ledger,
        faults: Faults,
        scheduler: Scheduler,
        clients: usize,
        traced: bool,
    ) -> Arc<Self> {
        let shared = Shared {
            objects,
            ledger,
            faults,
            scheduler,
            turn: None,
            step: 0,
            dead: Vec::new(),
            violation: None,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
        };
        let turns = (0..clients).map(|_| Condvar::new()).collect();
        Arc::new(Self { shared: Mutex::new(shared), turns })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives somebody the first turn.
    pub(super) fn start(&self) {
        let mut shared = self.lock();
        let first = shared.scheduler.choose(0, None, 0);
        self.give(&mut shared, first);
    }

    fn give(&self, shared: &mut Shared, next: Option<usize>) {
        shared.turn = next;
        if let Some(next) = next {
            self.turns[next].notify_all();
        }
    }

    fn await_turn<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared>,
        client: usize,
    ) -> MutexGuard<'a, Shared> {
        while shared.turn != Some(client) && !shared.scheduler.is_done(client) {
            shared = self.turns[client].wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        shared
    }

    /// A client begins: it waits for its first turn.
    pub(super) fn enter(&self, client: usize) {
        drop(self.await_turn(self.lock(), client));
    }

    /// A client has done everything.
    pub(super) fn leave(&self, client: usize) {
        let mut shared = self.lock();
        let step = shared.step;
        shared.scheduler.finish(client);
        let next = shared.scheduler.choose(client, None, step);
        self.give(&mut shared, next);
    }

    /// A process ended, in whatever way.
    pub(super) fn bury(&self, life: u64) {
        self.lock().dead.push(life);
    }

    /// Whether a process has ended.
    pub(super) fn is_over(&self, life: u64) -> bool {
        self.lock().dead.contains(&life)
    }

    /// Whether the owner of a session is certainly dead.
    pub(super) fn is_dead(&self, session: &Session) -> bool {
        let life = session.identity.as_ref().map(|identity| identity.started);
        life.is_some_and(|life| self.lock().dead.contains(&life))
    }

    /// A call of the storage: others may come before it. Then the effect, unless there is a fault.
    pub(super) fn call<T>(
        &self,
        client: usize,
        life: u64,
        verb: Verb,
        name: ObjectName,
        effect: impl FnOnce(&mut Shared) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut shared = self.await_turn(self.lock(), client);
        let failed = |kind| StorageError::new(verb_text(verb), name, kind);
        if shared.scheduler.is_done(client) {
            return Err(failed(StorageErrorKind::Other));
        }
        if !shared.dead.contains(&life) {
            let step = shared.step;
            let next = shared.scheduler.choose(client, Some((verb, name.kind)), step);
            if next != Some(client) {
                self.give(&mut shared, next);
                shared = self.await_turn(shared, client);
            }
        }
        shared.step += 1;
        if shared.step == MAX_STEPS {
            shared.violate("the schedule does not end".to_owned());
        }
        if shared.step > MAX_STEPS || shared.dead.contains(&life) {
            return Err(failed(StorageErrorKind::Other));
        }
        shared.revoke_by_chance();
        let verdict = shared.faults.judge(client, verb, name.kind);
        shared.note(client, verb, name, verdict);
        match verdict {
            Verdict::Works => effect(&mut shared),
            Verdict::Fails(kind) => Err(failed(kind)),
            Verdict::WorksUnseen(kind) => {
                drop(effect(&mut shared));
                Err(failed(kind))
            }
            Verdict::Crashes => {
                shared.dead.push(life);
                Err(failed(StorageErrorKind::Other))
            }
        }
    }

    /// How everything ended.
    pub(super) fn end(&self) -> End {
        let mut shared = self.lock();
        End {
            objects: std::mem::take(&mut shared.objects),
            ledger: shared.ledger.clone(),
            violation: shared.violation.take(),
            steps: shared.step,
            hash: shared.hash,
            trace: shared.trace.take().unwrap_or_default(),
            injected: shared.faults.injected,
        }
    }
}

fn verb_text(verb: Verb) -> &'static str {
    match verb {
        Verb::List => "list",
        Verb::Read => "read",
        Verb::Measure => "measure",
        Verb::Publish => "publish",
        Verb::Delete => "delete",
    }
}

impl Shared {
    /// Something happened that must not.
    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    fn note(&mut self, client: usize, verb: Verb, name: ObjectName, verdict: Verdict) {
        let words = [client as u64, verb as u64, name.kind as u64, u64::from(name.id[0])];
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        let step = self.step;
        self.say(|| {
            let fault = match verdict {
                Verdict::Works => String::new(),
                verdict => format!("   <- {verdict:?}"),
            };
            let what = match verb {
                Verb::List => format!("{:?}", name.kind),
                _ => name.to_string(),
            };
            format!("{step:5} client {client} {} {what}{fault}", verb_text(verb))
        });
    }

    /// Makes an object visible.
    pub(super) fn put(&mut self, name: ObjectName, bytes: Arc<[u8]>) -> Result<(), StorageError> {
        if self.objects.contains_key(&name) {
            return Err(StorageError::new("publish", name, StorageErrorKind::AlreadyExists));
        }
        self.objects.insert(name, Arc::clone(&bytes));
        if let Err(what) = self.ledger.came(name, &bytes, &self.objects) {
            self.violate(what);
        }
        Ok(())
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, name: ObjectName) {
        if self.objects.remove(&name).is_some()
            && let Err(what) = self.ledger.went(name)
        {
            self.violate(what);
        }
    }

    /// Somebody who prunes elsewhere may take a session for dead that is not.
    fn revoke_by_chance(&mut self) {
        if !self.faults.revokes() {
            return;
        }
        let first = ObjectName { kind: ObjectKind::Session, id: [0; 16] };
        let sessions = self.objects.range(first..).take_while(|(name, _)| name.kind == first.kind);
        let sessions: Vec<ObjectName> = sessions
            .filter(|(name, bytes)| self.ledger.may_be_revoked(**name, bytes))
            .map(|(name, _)| *name)
            .collect();
        if sessions.is_empty() {
            return;
        }
        let name = *self.faults.pick(&sessions);
        self.remove(name);
        self.say(|| format!("      {name} is revoked by somebody else"));
    }
}
