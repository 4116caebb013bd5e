//! How work gets from the feeder (which walks and merges) to the workers (which read, chunk, hash
//! and store) and on to the collector (which builds the tree in path order).
//!
//! The feeder hands out batches of about a megabyte and sends the collector, in path order, either
//! results or the promise of results; the collector waits for each promise in turn. The channel
//! between them is short, so that little is in memory at any time.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::unsure::Unsure;
use crate::chunk::Chunker;
use crate::event::{Event, Observer, Problem};
use crate::format::entry::{ContentItem, Entry, EntryKind, Metadata, Timestamp};
use crate::format::page::PageRef;
use crate::format::path;
use crate::ops::OpError;
use crate::ops::pool::pool;
use crate::repo::{PackClass, Repository, RepositoryError, Worker, Writer};
use crate::source::metadata::OwnerNames;
use crate::source::open::Roots;
use crate::source::probe::Call;
use crate::source::{SourceError, Stat};
use crate::threads::caught;
use crate::tree::{LeafPage, OldContent};

use super::SnapshotOptions;
use super::clock::WalkClock;
use super::large::LARGE;
use super::links::Role;
use super::rate::Rate;
use super::unchanged::is_before;

/// An item that is to be read.
#[derive(Debug)]
pub(super) struct ReadJob {
    pub(super) path: Box<[u8]>,
    pub(super) stat: Stat,
    /// A further name of a file that another job reads: only its metadata is read.
    pub(super) role: Role,
    /// It may become longer while it is read: what is there already stays as it is.
    pub(super) may_grow: bool,
}

/// An item that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Its entry, without content if it is a further name of a file.
    pub(super) entry: Entry,
    pub(super) role: Role,
    /// The state in which it was read.
    pub(super) stat: Stat,
}

/// What a job gave: an entry, or nothing when the item could not be read.
pub(super) type ReadResult = Option<Read>;

/// One place in a batch.
pub(super) enum Slot {
    /// Neighbours that are taken over from an earlier tree, by their positions.
    Same(Arc<LeafPage>, Range<usize>),
    /// A whole page of the parent, of this height, taken over unseen.
    Page(Box<PageRef>, u8),
    /// The next result of the batch's jobs.
    Read,
}

/// What a worker promises: it is sent exactly once.
pub(super) type Promise<T> = Receiver<Result<T, RepositoryError>>;

/// What the feeder sends to the collector, in path order.
pub(super) enum Message {
    /// Some neighbours, with the results of those that are read.
    Batch { slots: Vec<Slot>, results: Option<Promise<Vec<ReadResult>>>, bytes: u64 },
    /// The content of one large file or stream begins (again, if it has begun before), with what
    /// it was before.
    Begin(Option<Arc<OldContent>>),
    /// The next items of its content, and how many plain bytes they are.
    Slab { items: Promise<Vec<ContentItem>>, bytes: u64 },
    /// A hole in its content.
    Hole(u64),
    /// The content of a file is complete; the entry lacks nothing but it.
    End(Box<Read>),
    /// That of something else is, which has no other names. Streams are put where they belong.
    EndAlone(Box<Entry>),
    /// It could not be read.
    Drop,
    /// Whoever sent this waits until everything before it was read.
    Reached(SyncSender<()>),
    /// What was sent from the walk does not count: it begins anew. Streams stay.
    StartOver,
    /// Everything was sent.
    Finished,
    /// The feeder stopped.
    Failed(OpError),
}

/// State of one worker thread.
pub(super) struct Context {
    pub(super) worker: Worker,
    pub(super) buffer: Vec<u8>,
}

/// What the workers share.
pub(super) struct Shared {
    pub(super) repository: Arc<Repository>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) roots: OnceLock<Arc<Roots>>,
    /// What changed at this time or later may change again without another time.
    pub(super) racy_from: OnceLock<Timestamp>,
    pub(super) unsure: Unsure,
    pub(super) owners: OwnerNames,
    pub(super) files: Chunker,
    pub(super) streams: Chunker,
    pub(super) problems: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    rate: Option<Rate>,
    pub(super) clock: WalkClock,
    pub(super) interrupted: Arc<AtomicBool>,
    /// The collector has failed: whatever still runs for it need not go on.
    given_up: AtomicBool,
    contexts: Vec<Mutex<Context>>,
    /// Nothing where each task runs on the thread that wants it done.
    pool: Option<rayon::ThreadPool>,
}

impl Shared {
    pub(super) fn new(writer: &Writer, options: &SnapshotOptions) -> Result<Self, RepositoryError> {
        let threads = options.threads;
        let repository = Arc::clone(writer.repository());
        // Without threads each task runs on the thread that wants it done.
        let pool = (threads > 0).then(|| pool(threads)).transpose()?;
        let threads = pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let contexts = (0..threads).map(|_| {
            Ok(Mutex::new(Context {
                worker: writer.worker(PackClass::Content)?,
                buffer: Vec::new(),
            }))
        });
        let gear = repository.keys().chunker_gear();
        let sizes = repository.config().chunker;
        Ok(Self {
            observer: Arc::clone(repository.observer()),
            roots: OnceLock::new(),
            racy_from: OnceLock::new(),
            unsure: Unsure::default(),
            owners: OwnerNames::default(),
            files: Chunker::new(sizes.files, &gear),
            streams: Chunker::new(sizes.streams, &gear),
            problems: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            rate: options.rate.map(Rate::new),
            interrupted: Arc::clone(&options.interrupted),
            given_up: AtomicBool::new(false),
            clock: WalkClock::new(options.clock),
            contexts: contexts.collect::<Result<_, RepositoryError>>()?,
            pool,
            repository,
        })
    }

    /// Counts bytes that were read from a source, and waits if that was faster than it may be.
    pub(super) fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(rate) = &self.rate {
            rate.take(bytes, &self.interrupted);
        }
    }

    /// Messages that may be under way: enough to keep all workers busy, little memory.
    pub(super) fn channel_len(&self) -> usize {
        4 * self.contexts.len() + 2
    }

    /// Whether one thing is done after the other.
    pub(super) fn is_sequential(&self) -> bool {
        self.pool.is_none()
    }

    /// The length in bytes above which a file is read in slabs.
    pub(super) fn large(&self) -> u64 {
        self.roots().probe.sizes(LARGE, 0).0
    }

    /// Reads bytes of a file of the source.
    pub(super) fn read(&self, path: &[u8], file: &mut File, into: &mut [u8]) -> io::Result<usize> {
        let probe = &self.roots().probe;
        probe.before(Call::Read, path)?;
        let room = probe.room(into.len());
        file.read(&mut into[..room])
    }

    /// Runs `task` on a worker thread with that thread's context.
    pub(super) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(&Self, &mut Context) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Promise<T> {
        let (sender, promise): (SyncSender<_>, _) = sync_channel(1);
        let shared = Arc::clone(self);
        let run = move || {
            let last = shared.contexts.len() - 1;
            let number = rayon::current_thread_index().unwrap_or(0).min(last);
            let mut context =
                shared.contexts[number].lock().unwrap_or_else(PoisonError::into_inner);
            // A panic beyond this would end the process at once.
            let result = caught(|| task(&shared, &mut context));
            if let Err(error @ RepositoryError::Internal(_)) = &result {
                context.worker.fail(error);
            }
            // Nobody may be waiting any more: the collector failed and is gone.
            let _ = sender.send(result);
        };
        match &self.pool {
            Some(pool) => pool.spawn(run),
            None => run(),
        }
        promise
    }

    /// Stores what the workers have gathered in unfinished blocks.
    pub(super) fn flush(&self) -> Result<(), RepositoryError> {
        self.contexts.iter().try_for_each(|context| {
            context.lock().unwrap_or_else(PoisonError::into_inner).worker.flush()
        })
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.given_up.load(Ordering::Relaxed)
    }

    /// Asks the producer to end, also where it waits for a stream.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn note(&self, text: String) {
        self.observer.event(Event::Note(text));
    }

    /// Reports and counts something that could not be read, or not whole.
    pub(super) fn problem(&self, path: &[u8], message: String) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.doubt(path);
        let subject = crate::source::absolute(path);
        self.observer.event(Event::Problem(Problem { subject, message }));
    }

    /// The next snapshot must look at this again, and at what it holds if it is a folder.
    fn doubt(&self, path: &[u8]) {
        self.unsure.about(path);
        self.unsure.folder(path);
    }

    /// An entry that was read: one that is not settled is looked at again the next time.
    pub(super) fn doubt_unsettled(&self, path: &[u8], meta: &Metadata) {
        if meta.unsettled || self.racy_from.get().is_none_or(|from| !is_before(meta.ctime, *from)) {
            self.unsure.about(path);
        }
    }

    /// The attributes of an item as it is now, if it can be looked at.
    pub(super) fn look_again(&self, path: &[u8]) -> Option<Stat> {
        let handle = self.roots().open_handle(path).ok()?;
        self.roots().stat_of(handle.as_fd()).ok()
    }

    /// What has come in the place of an item that could not be read, so that it can be read as what
    /// it is then.
    ///
    /// # Errors
    /// When it is the same item, with `error`. When it is a directory, which was not listed, the
    /// item is gone.
    pub(super) fn replacement(
        &self,
        path: &[u8],
        before: &Stat,
        error: SourceError,
    ) -> Result<Stat, SourceError> {
        let is_stale = error.source.kind() == io::ErrorKind::StaleNetworkFileHandle;
        match self.look_again(path) {
            Some(now) if now.kind == EntryKind::Directory && now.kind != before.kind => {
                Err(SourceError::at(path, "find", io::Error::from(io::ErrorKind::NotFound)))
            }
            Some(now) if is_stale || now.kind != before.kind => Ok(now),
            _ => Err(error),
        }
    }

    /// Reports a source error; what has vanished is only noted.
    pub(super) fn source_problem(&self, path: &[u8], error: &SourceError) {
        if error.source.kind() == std::io::ErrorKind::NotFound {
            self.doubt(path);
            self.note(format!("{} vanished before it could be read", path::display(path)));
        } else {
            self.problem(path, format!("cannot {}: {}", error.action, error.source));
        }
    }

    pub(super) fn roots(&self) -> &Arc<Roots> {
        self.roots.get().expect("the scan began before anything is read")
    }
}

/// Waits for a promise.
pub(super) fn wait<T>(promise: &Promise<T>) -> Result<T, RepositoryError> {
    promise.recv().unwrap_or_else(|_| Err(RepositoryError::Writer("a worker stopped".to_owned())))
}
