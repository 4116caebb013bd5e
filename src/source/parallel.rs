//! The scan of Linux: threads list folders ahead of the consumer, always the first in path order
//! that nobody has taken, and pause when enough lies ready. The consumer never waits for a
//! folder that nobody is listing: it lists it itself, so a pause can never become a deadlock.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use super::lister::{Listing, Scratch, Step, list};
use super::open::Roots;
use super::partial::PartialScan;
use super::plan::{Folder, Plan, Policy, Top};
use super::scan::{Deferred, Scanned};
use super::{SourceError, Stat, compare_paths};

/// A folder to enter and how far it has got.
#[derive(Debug)]
pub(crate) struct Node {
    folder: Folder,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nobody has taken it.
    Pending,
    /// A thread is listing it; the consumer may be waiting for that.
    Listing(Option<Thread>),
    /// Listed, not yet fetched by the consumer.
    Ready(Box<Listing>),
    /// The thread that listed it panicked with this.
    Panicked(Box<dyn Any + Send>),
    /// The consumer has it.
    Fetched,
}

impl Node {
    pub(crate) fn new(folder: Folder) -> Self {
        Self { folder, state: Mutex::new(State::Pending) }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_pending(&self) -> bool {
        matches!(*self.state(), State::Pending)
    }
}

/// A folder in the heap, the first in path order on top.
struct Queued(Arc<Node>);

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&other.0.folder.path, &self.0.folder.path)
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Queued {}

#[derive(Default)]
struct Queue {
    /// Pending folders, and some that the consumer has taken meanwhile.
    folders: BinaryHeap<Queued>,
    /// What the ready listings hold, in entries.
    ready: usize,
    /// Enough is ready: wait until half of it is gone, to wake up rarely.
    paused: bool,
    idle: usize,
    stopped: bool,
}

struct Shared {
    policy: Arc<Policy>,
    roots: Arc<Roots>,
    lookahead: usize,
    has_threads: bool,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What a listing counts for in the look-ahead; an empty one takes up space too.
fn weight(listing: &Listing) -> usize {
    listing.len() + 2
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers the folders of a listing to the threads, of which `own` need not be woken up for,
    /// and adds to what is ready.
    fn offer<'a>(&self, folders: impl Iterator<Item = &'a Arc<Node>>, ready: usize, own: usize) {
        if !self.has_threads {
            return;
        }
        let mut queue = self.queue();
        let before = queue.folders.len();
        let early = folders.filter(|node| !self.policy.is_late(&node.folder.path));
        queue.folders.extend(early.map(|node| Queued(Arc::clone(node))));
        queue.ready += ready;
        queue.paused |= queue.ready >= self.lookahead;
        let new = (queue.folders.len() - before).saturating_sub(own);
        let wake = if queue.paused { 0 } else { queue.idle.min(new) };
        drop(queue);
        match wake {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// The consumer has fetched a ready listing.
    fn release(&self, weight: usize) {
        let mut queue = self.queue();
        queue.ready = queue.ready.saturating_sub(weight);
        if queue.paused && queue.ready <= self.lookahead / 2 {
            queue.paused = false;
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// The first pending folder, once there is one and room for it; `None` at the end.
    fn take(&self) -> Option<Arc<Node>> {
        let mut queue = self.queue();
        loop {
            if queue.stopped {
                return None;
            }
            while !queue.paused {
                let Some(Queued(node)) = queue.folders.pop() else { break };
                let mut state = node.state();
                if matches!(*state, State::Pending) {
                    *state = State::Listing(None);
                    drop(state);
                    return Some(node);
                }
            }
            queue.idle += 1;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Removes from the top of the heap what the consumer has taken itself.
    fn drop_fetched(&self) {
        let mut queue = self.queue();
        while queue.folders.peek().is_some_and(|first| !first.0.is_pending()) {
            queue.folders.pop();
        }
    }

    /// What each listing thread does.
    fn work(&self) {
        let mut scratch = Scratch::new(1);
        while let Some(node) = self.take() {
            let listed = catch_unwind(AssertUnwindSafe(|| {
                list(&self.policy, &self.roots, &node.folder, &mut scratch)
            }));
            // The consumer must not wait for ever, nor take a half-read folder for a whole one.
            let state = listed.map_or_else(State::Panicked, |listing| {
                // One of the folders this thread takes itself, next.
                self.offer(listing.folders(), weight(&listing), 1);
                State::Ready(Box::new(listing))
            });
            let before = std::mem::replace(&mut *node.state(), state);
            if let State::Listing(Some(consumer)) = before {
                consumer.unpark();
            }
        }
    }
}

/// A folder that the consumer is going through.
struct Frame {
    listing: Box<Listing>,
    position: usize,
    path_len: usize,
}

enum Start {
    Ancestor(Box<[u8]>, Stat),
    Root(Box<[u8]>, Stat, Option<Arc<Node>>),
    Deferred(Box<[u8]>, Stat, Box<Folder>),
}

/// What the consumer has come to; the details of an entry lie in the scan.
enum Reached {
    Entry(Stat),
    Excluded,
    Deferred(Box<Folder>),
    Problem(SourceError),
}

/// The consumer's side of the scan.
pub(crate) struct ParallelScan {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    starts: VecDeque<Start>,
    stack: Vec<Frame>,
    path: Vec<u8>,
    stat: Option<Stat>,
    entering: Option<Arc<Node>>,
    deferring: Option<Box<Folder>>,
    scratch: Scratch,
}

impl ParallelScan {
    pub(crate) fn new(plan: Plan, threads: usize, lookahead: usize) -> Self {
        let starts: VecDeque<_> = plan
            .tops
            .into_iter()
            .map(|top| match top {
                Top::Ancestor(path, stat) => Start::Ancestor(path, stat),
                Top::Root(path, stat, Some(folder)) if plan.policy.defers(&path) => {
                    Start::Deferred(path, stat, folder)
                }
                Top::Root(path, stat, folder) => {
                    Start::Root(path, stat, folder.map(|folder| Arc::new(Node::new(*folder))))
                }
            })
            .collect();
        let shared = Arc::new(Shared {
            policy: plan.policy,
            roots: plan.roots,
            lookahead: lookahead.max(1),
            has_threads: threads > 0,
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let roots = starts.iter().filter_map(|start| match start {
            Start::Root(_, _, node) => node.as_ref(),
            Start::Ancestor(..) | Start::Deferred(..) => None,
        });
        shared.offer(roots, 0, 0);
        // A thread that cannot be had is no error: the consumer lists what nobody else does.
        let threads = (0..threads)
            .filter_map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name("scan".into()).spawn(move || shared.work()).ok()
            })
            .collect();
        Self {
            shared,
            threads,
            starts,
            stack: Vec::new(),
            path: Vec::new(),
            stat: None,
            entering: None,
            deferring: None,
            scratch: Scratch::new(1),
        }
    }

    pub(crate) fn roots(&self) -> &Arc<Roots> {
        &self.shared.roots
    }

    /// What looks after deferred folders.
    pub(crate) fn partial(&self) -> PartialScan {
        let (policy, roots) = (Arc::clone(&self.shared.policy), Arc::clone(&self.shared.roots));
        PartialScan::new(policy, roots, self.threads.len())
    }

    pub(crate) fn next(&mut self) -> Option<Scanned<'_>> {
        Some(match self.advance()? {
            Reached::Entry(stat) => {
                Scanned::Entry { path: &self.path, stat: self.stat.insert(stat) }
            }
            Reached::Excluded => Scanned::Excluded { path: &self.path },
            Reached::Deferred(folder) => Scanned::Deferred(Deferred(folder)),
            Reached::Problem(problem) => Scanned::Problem(problem),
        })
    }

    fn advance(&mut self) -> Option<Reached> {
        loop {
            if let Some(folder) = self.deferring.take() {
                return Some(Reached::Deferred(folder));
            }
            if let Some(node) = self.entering.take() {
                let listing = self.fetch(&node);
                self.stack.push(Frame { listing, position: 0, path_len: self.path.len() });
            }
            let Some(frame) = self.stack.last_mut() else {
                match self.starts.pop_front()? {
                    Start::Ancestor(path, stat) => {
                        self.path = path.into_vec();
                        return Some(Reached::Entry(stat));
                    }
                    Start::Deferred(path, stat, folder) => {
                        (self.path, self.deferring) = (path.into_vec(), Some(folder));
                        return Some(Reached::Entry(stat));
                    }
                    Start::Root(path, stat, node) => {
                        (self.path, self.entering) = (path.into_vec(), node);
                        if !self.path.is_empty() {
                            return Some(Reached::Entry(stat));
                        }
                    }
                }
                continue;
            };
            if let Some(problem) = frame.listing.problems.pop() {
                return Some(Reached::Problem(problem));
            }
            self.path.truncate(frame.path_len);
            let Some((name, stat, step)) = frame.listing.get(frame.position) else {
                self.stack.pop();
                continue;
            };
            frame.position += 1;
            if frame.path_len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            match step {
                Step::Ignore => {}
                Step::Excluded => return Some(Reached::Excluded),
                Step::Keep => return Some(Reached::Entry(*stat)),
                Step::Enter(node) => {
                    self.entering = Some(Arc::clone(node));
                    return Some(Reached::Entry(*stat));
                }
                Step::Defer(folder) => {
                    self.deferring = Some(folder.clone());
                    return Some(Reached::Entry(*stat));
                }
            }
        }
    }

    /// The listing of a folder: ready, about to be, or made here.
    fn fetch(&mut self, node: &Arc<Node>) -> Box<Listing> {
        loop {
            let mut state = node.state();
            match std::mem::replace(&mut *state, State::Fetched) {
                State::Pending => break,
                State::Ready(listing) => {
                    drop(state);
                    self.shared.release(weight(&listing));
                    return listing;
                }
                State::Listing(_) => {
                    *state = State::Listing(Some(std::thread::current()));
                    drop(state);
                    std::thread::park();
                }
                State::Panicked(panic) => {
                    drop(state);
                    resume_unwind(panic);
                }
                State::Fetched => unreachable!("every folder is entered once"),
            }
        }
        let shared = &self.shared;
        let listing = list(&shared.policy, &shared.roots, &node.folder, &mut self.scratch);
        shared.offer(listing.folders(), 0, 0);
        shared.drop_fetched();
        Box::new(listing)
    }
}

impl Drop for ParallelScan {
    fn drop(&mut self) {
        self.shared.queue().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // It cannot have panicked where it matters: listing is caught, the rest is counting.
            drop(thread.join());
        }
    }
}
