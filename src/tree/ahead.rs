//! Pages that other threads read and decode while those before them are looked at.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::PageReader;
use crate::format::page::Page;
use crate::id::ChunkId;
use crate::repo::{Repository, RepositoryError};

type PageResult = Result<Page, RepositoryError>;

/// Pages that are decoded and wait to be asked for, at most.
const MAX_WAITING: usize = 32;
/// Threads beside the one that asks: it cannot take what more of them give.
const MAX_HELPERS: usize = 3;

/// Calls `work` with a reader for which other threads work ahead: worth it where nearly all pages
/// are looked into, in their order. `work` must not return the reader.
pub fn with_pages_ahead<'r, T>(
    repository: &'r Repository,
    work: impl FnOnce(PageReader<'r>) -> T,
) -> T {
    let mut reader = PageReader::new(repository);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let ahead = Ahead::default();
        for _ in 0..(cores - 1).min(MAX_HELPERS) {
            let shared = Arc::clone(&ahead.0);
            // Without another thread it takes longer, and that is all.
            let thread = std::thread::Builder::new().name("pages".into());
            let _ = thread.spawn_scoped(scope, move || shared.help(PageReader::new(repository)));
        }
        reader.ahead = Some(ahead);
        work(reader)
    })
}

/// What a reader shares with the threads that work ahead of it; when it is dropped, they end.
#[derive(Debug, Default)]
pub(super) struct Ahead(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// What will be asked for next, in this order.
    slots: VecDeque<Slot>,
    /// Slots that were removed at the front, ever: the place of a slot among all.
    gone: usize,
    is_over: bool,
}

#[derive(Debug)]
struct Slot {
    id: ChunkId,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Taken,
    /// Nothing where the thread that had taken it panicked.
    Done(Option<Box<PageResult>>),
}

/// A slot that a thread has taken: it is done when this is dropped, whatever happened.
struct Turn<'s> {
    shared: &'s Shared,
    place: usize,
    page: Option<Box<PageResult>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'q>(&self, queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self, mut reader: PageReader<'_>) {
        let mut queue = self.lock();
        while !queue.is_over {
            let is_open = |slot: &Slot| matches!(slot.state, State::Open);
            let Some(at) = queue.slots.iter().take(MAX_WAITING).position(is_open) else {
                queue = self.wait(queue);
                continue;
            };
            queue.slots[at].state = State::Taken;
            let (id, place) = (queue.slots[at].id, queue.gone + at);
            drop(queue);
            let mut turn = Turn { shared: self, place, page: None };
            turn.page = Some(Box::new(reader.page(&id)));
            drop(turn);
            queue = self.lock();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        let at = self.place.checked_sub(queue.gone);
        if let Some(slot) = at.and_then(|at| queue.slots.get_mut(at)) {
            slot.state = State::Done(self.page.take());
        }
        self.shared.changed.notify_all();
    }
}

impl Ahead {
    /// Says which pages will be asked for, unless others are still to come.
    pub(super) fn expect(&mut self, ids: impl Iterator<Item = ChunkId>) {
        let mut queue = self.0.lock();
        if queue.slots.is_empty() {
            queue.slots.extend(ids.map(|id| Slot { id, state: State::Open }));
            self.0.changed.notify_all();
        }
    }

    /// The page, if it is the one that comes next and another thread reads it.
    pub(super) fn page(&mut self, id: &ChunkId) -> Option<PageResult> {
        let mut queue = self.0.lock();
        if queue.slots.front().is_some_and(|next| next.id != *id) {
            // Somebody jumps about: then nothing is known of what comes next.
            queue.gone += queue.slots.len();
            queue.slots.clear();
        }
        while matches!(queue.slots.front()?.state, State::Taken) {
            queue = self.0.wait(queue);
        }
        queue.gone += 1;
        self.0.changed.notify_all();
        match queue.slots.pop_front()?.state {
            State::Done(page) => page.map(|page| *page),
            State::Open | State::Taken => None,
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}
