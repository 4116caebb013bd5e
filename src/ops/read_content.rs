//! Reading the content of a file or stream in order and fast: chunks are looked up in batches,
//! every block of a batch is decoded once and on all processors, and the next batch is read while
//! the caller works on the one before.

use std::sync::mpsc::{Receiver, channel, sync_channel};

use super::OpError;
use super::gather::{Gatherer, Wanted, wrong_chunk};
use super::pool::shared_pool;
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem, Entry};
use crate::format::path;
use crate::id::ChunkId;
use crate::repo::index::Location;
use crate::repo::{Repository, RepositoryError};
use crate::threads::{joined, start_in};
use crate::tree::{ContentItems, PageReader};

/// Plain bytes of the first batch: little, so that the first byte comes soon.
const FIRST_BATCH: usize = 1 << 20;
/// Plain bytes of later batches. At most three exist at once: one with the caller, one waiting,
/// one in the making.
const LARGEST_BATCH: usize = 16 << 20;
/// Most items of a batch, for contents of tiny chunks and holes.
const MAX_ITEMS: usize = 1 << 16;

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeros, which the source did not store.
    Zeros(u64),
}

/// Gives the content of `entry` to `each`, part by part in order, and returns its plain length.
/// Every chunk is compared with its id before its bytes are given.
///
/// # Errors
/// When a chunk or content page is missing or damaged, after all parts before it were given, and
/// when the content is not as long as the entry says: the message names the entry's path. What
/// `each` fails with.
pub fn read_content(
    repository: &Repository,
    entry: &Entry,
    each: &mut dyn FnMut(Part<'_>) -> Result<(), OpError>,
) -> Result<u64, OpError> {
    let damaged = |reason: String| {
        let object = path::display(&entry.path);
        OpError::Repository(RepositoryError::Damaged { object, reason })
    };
    let size = entry.meta.size;
    if listed_len(&entry.content).is_some_and(|listed| listed != Some(size)) {
        return Err(damaged(format!("its content is not of {size} bytes, as it should be")));
    }
    let mut given = 0;
    let mut give = |part: Part<'_>| {
        given += match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Zeros(len) => len,
        };
        each(part)
    };
    if let Content::Inline(bytes) = &entry.content {
        give(Part::Bytes(bytes))?;
    } else {
        let batches = Batches::new(repository, entry)?;
        batches.give_all(&mut give, &|error| match error.is_damage() {
            true => damaged(error.to_string()),
            false => error.into(),
        })?;
    }
    if given == size {
        return Ok(size);
    }
    Err(damaged(format!("its content is {given} bytes long instead of {size}")))
}

/// The length that the entry itself lists, if it lists any; the inner nothing is a length beyond
/// all counting.
fn listed_len(content: &Content) -> Option<Option<u64>> {
    match content {
        Content::Empty => Some(Some(0)),
        Content::Inline(bytes) => Some(u64::try_from(bytes.len()).ok()),
        Content::Items(items) => {
            Some(items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.len())))
        }
        // The top page's length is compared when it is read.
        Content::Paged { .. } => None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Data(usize),
    Hole(u64),
}

/// Consecutive steps of a content with their bytes.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// Why nothing comes behind the steps.
    failure: Option<RepositoryError>,
}

type Give<'a> = &'a mut dyn FnMut(Part<'_>) -> Result<(), OpError>;

impl Batch {
    fn give(self, give: Give<'_>, name: &NameFailure<'_>) -> Result<Vec<u8>, OpError> {
        let mut rest = &self.bytes[..];
        for step in &self.steps {
            match *step {
                Step::Data(len) => {
                    let (bytes, tail) = rest.split_at(len);
                    rest = tail;
                    give(Part::Bytes(bytes))?;
                }
                Step::Hole(len) => give(Part::Zeros(len))?,
            }
        }
        match self.failure {
            Some(failure) => Err(name(failure)),
            None => Ok(self.bytes),
        }
    }
}

type NameFailure<'a> = dyn Fn(RepositoryError) -> OpError + 'a;

/// Makes batches.
struct Batches<'r> {
    pages: PageReader<'r>,
    items: ContentItems,
    gatherer: Gatherer<'r>,
    pool: &'static rayon::ThreadPool,
    limit: usize,
    ended: bool,
}

impl<'r> Batches<'r> {
    fn new(repository: &'r Repository, entry: &Entry) -> Result<Self, RepositoryError> {
        Ok(Self {
            pages: PageReader::new(repository),
            items: ContentItems::new(&entry.content, entry.meta.size),
            gatherer: Gatherer::up_to_first_failure(repository),
            limit: FIRST_BATCH,
            ended: false,
            pool: shared_pool()?,
        })
    }

    fn give_all(mut self, give: Give<'_>, name: &NameFailure<'_>) -> Result<(), OpError> {
        let first = self.next(Vec::new());
        if self.ended {
            return first.give(give, name).map(drop);
        }
        std::thread::scope(|scope| {
            let (sender, batches) = sync_channel(1);
            let (give_back, spare) = channel();
            let ahead = start_in(scope, "content", move || {
                while !self.ended {
                    let batch = self.next(next_spare(&spare));
                    if sender.send(batch).is_err() {
                        // The caller failed and is gone.
                        break;
                    }
                }
                Ok(())
            });
            let ahead = ahead.map_err(RepositoryError::Thread)?;
            first.give(give, name)?;
            for batch in batches {
                // Nobody takes it once the last batch was made.
                let _ = give_back.send(batch.give(give, name)?);
            }
            joined(ahead.join())
        })
    }

    /// The next batch, its bytes in `buffer`; sets `ended` with the last one.
    fn next(&mut self, buffer: Vec<u8>) -> Batch {
        let mut batch = Batch { bytes: buffer, ..Batch::default() };
        let mut chunks = Vec::new();
        let mut len = 0;
        while len < self.limit && batch.steps.len() < MAX_ITEMS {
            let item = match self.next_item() {
                Ok(Some(item)) => item,
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(failure) => {
                    self.ended = true;
                    batch.failure = Some(failure);
                    break;
                }
            };
            batch.steps.push(match item {
                Item::Hole(hole) => Step::Hole(hole),
                Item::Chunk(id, location) => {
                    chunks.push(Wanted { tag: batch.steps.len(), id, location });
                    len += location.len as usize;
                    Step::Data(location.len as usize)
                }
            });
        }
        self.limit = (self.limit * 2).min(LARGEST_BATCH);
        batch.bytes.resize(len, 0);
        let failures = self.pool.install(|| self.gatherer.fill(&mut batch.bytes, chunks));
        if let Some((step, failure)) = failures.into_iter().min_by_key(|(step, _)| *step) {
            batch.steps.truncate(step);
            batch.failure = Some(failure);
            self.ended = true;
        }
        batch
    }

    fn next_item(&mut self) -> Result<Option<Item>, RepositoryError> {
        Ok(match self.items.next(&mut self.pages)? {
            None => None,
            Some(ContentItem::Hole { len }) => Some(Item::Hole(len)),
            Some(ContentItem::Chunk { id, len }) => {
                let location = self.pages.chunks().locate(&id)?;
                // Also keeps a forged list from asking for more memory than a block can fill.
                if location.len != len || location.kind != ChunkKind::Content {
                    return Err(wrong_chunk(&id));
                }
                Some(Item::Chunk(id, location))
            }
        })
    }
}

enum Item {
    Hole(u64),
    Chunk(ChunkId, Location),
}

/// A buffer that the caller is done with, or a new one.
fn next_spare(spare: &Receiver<Vec<u8>>) -> Vec<u8> {
    spare.try_recv().unwrap_or_default()
}
