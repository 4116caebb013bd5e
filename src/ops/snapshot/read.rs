//! Reading items on a worker thread: small and medium files whole, everything else its metadata.

use std::io;

use super::links::Role;
use super::pipeline::{Context, Read, ReadJob, ReadResult, Shared};
use super::read_file::{Data, FileRead, open_and_read};
use super::settled::{Agreement, Outcome, settle};
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata};
use crate::repo::{RepositoryError, Worker};
use crate::source::metadata::{file_metadata, read_current};
use crate::source::sparse::Region;
use crate::source::{SourceError, Stat};

/// How often a file that changes under the reader is read before it is stored as it is.
pub(super) const ATTEMPTS: u32 = 3;
/// Estimated bytes of metadata beyond which an entry does not fit a page.
const MAX_ENTRY_WEIGHT: usize = 16 << 20;
/// Reads all items of a batch. Only repository errors stop it.
pub(super) fn read_batch(
    shared: &Shared,
    context: &mut Context,
    jobs: Vec<ReadJob>,
) -> Result<Vec<ReadResult>, RepositoryError> {
    jobs.into_iter().map(|job| read_item(shared, context, job)).collect()
}

/// Reads an item. One that is replaced by an item of another kind in the meantime is read as what
/// it is then.
pub(super) fn read_item(
    shared: &Shared,
    context: &mut Context,
    mut job: ReadJob,
) -> Result<ReadResult, RepositoryError> {
    for attempt in 1.. {
        let read = match (job.stat.kind, job.role) {
            (EntryKind::File, Role::Alone | Role::First(_)) => read_file(shared, context, &job),
            _ => read_other(shared, &job).map_err(Failure::Source),
        };
        let error = match read {
            Ok(Some(read)) => return Ok(Some(read)),
            // A further name that is not the file any more that it was when it was found.
            Ok(None) => {
                job.role = Role::Alone;
                continue;
            }
            Err(Failure::Repository(error)) => return Err(error),
            Err(Failure::Interrupted) => break,
            Err(Failure::Read(error)) => source_error(&job.path, "read", error),
            Err(Failure::Source(error)) => error,
        };
        match shared.replacement(&job.path, &job.stat, error) {
            Ok(stat) if attempt < ATTEMPTS => (job.stat, job.role) = (stat, Role::Alone),
            Ok(_) => {
                let what = "it was replaced by another kind of item again and again".to_owned();
                shared.problem(&job.path, what);
                break;
            }
            Err(error) => {
                shared.source_problem(&job.path, &error);
                break;
            }
        }
    }
    Ok(None)
}

/// Reads what has no content, or takes that of another name: nothing when that is not certain.
fn read_other(shared: &Shared, job: &ReadJob) -> Result<Option<Read>, SourceError> {
    let (stat, meta, problems) =
        read_current(shared.roots(), &job.path, &job.stat, &shared.owners)?;
    if matches!(job.role, Role::Further(_)) && !stat.is_same_state(&job.stat) {
        return Ok(None);
    }
    problems.iter().for_each(|problem| shared.source_problem(&job.path, problem));
    let entry = entry(shared, job.path.clone(), meta, Content::Empty);
    Ok(Some(Read { entry, role: job.role, stat }))
}

/// An entry that is certain to fit a page.
pub(super) fn entry(shared: &Shared, path: Box<[u8]>, meta: Metadata, content: Content) -> Entry {
    let mut entry = Entry { path, meta, content };
    if entry.weight() > MAX_ENTRY_WEIGHT {
        let what = "its extended attributes are too large and were left out".to_owned();
        shared.problem(&entry.path, what);
        entry.meta.xattrs = [].into();
    }
    entry
}

pub(super) fn source_error(path: &[u8], action: &'static str, source: io::Error) -> SourceError {
    SourceError { path: crate::source::absolute(path), action, source }
}

/// Why a file was not read.
pub(super) enum Failure {
    /// It cannot be opened.
    Source(SourceError),
    /// It cannot be read.
    Read(io::Error),
    /// The run is to stop.
    Interrupted,
    /// What was read cannot be stored.
    Repository(RepositoryError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

fn read_file(
    shared: &Shared,
    context: &mut Context,
    job: &ReadJob,
) -> Result<Option<Read>, Failure> {
    let mut stat = job.stat;
    let mut agreement = Agreement::default();
    for attempt in 1..=ATTEMPTS {
        let FileRead { data, len, xattrs, problems, after } =
            open_and_read(shared, context, job, &stat)?;
        if after.kind != EntryKind::File {
            let replaced = io::ErrorKind::NotFound.into();
            return Err(source_error(&job.path, "find", replaced).into());
        }
        let settled = agreement.is_settled(&stat, &after, (job.may_grow, len), || {
            data.fingerprint(shared, &context.buffer)
        });
        if !settled && attempt < ATTEMPTS {
            stat = after;
            continue;
        }
        let content = match data {
            Data::Stored(items) => Content::Items(items),
            Data::Buffered(regions) => {
                shared.count_read(context.buffer.len() as u64);
                store(shared, &mut context.worker, &context.buffer, &regions)?
            }
        };
        let outcome = if settled { Outcome::Settled } else { Outcome::Unsettled };
        problems.iter().for_each(|problem| shared.source_problem(&job.path, problem));
        let mut meta = file_metadata(&after, xattrs, &shared.owners);
        settle(shared, &job.path, &mut meta, len, outcome);
        let entry = entry(shared, job.path.clone(), meta, content);
        return Ok(Some(Read { entry, role: role_of(job, settled, &after), stat: after }));
    }
    Ok(None)
}

/// A file that was read in another state than the scan saw is not known to be the one whose other
/// names the scan found.
pub(super) fn role_of(job: &ReadJob, settled: bool, after: &Stat) -> Role {
    if settled && after.is_same_state(&job.stat) { job.role } else { Role::Alone }
}

/// Stores what was read and returns the content that describes it.
fn store(
    shared: &Shared,
    worker: &mut Worker,
    mut data: &[u8],
    regions: &[Region],
) -> Result<Content, RepositoryError> {
    let config = shared.repository.config();
    let holes = regions.iter().any(|region| region.is_hole);
    if !holes && data.is_empty() {
        return Ok(Content::Empty);
    }
    if !holes && data.len() <= config.inline_size as usize {
        return Ok(Content::Inline(data.into()));
    }
    let mut items = Vec::new();
    for region in regions {
        if region.is_hole {
            items.push(ContentItem::Hole { len: region.len });
            continue;
        }
        let (bytes, rest) = data.split_at(usize::try_from(region.len).unwrap_or(data.len()));
        data = rest;
        store_region(shared, worker, bytes, &mut items)?;
    }
    Ok(Content::Items(items))
}

/// A run of data up to the average chunk's size is one chunk; a longer one is cut.
fn store_region(
    shared: &Shared,
    worker: &mut Worker,
    mut bytes: &[u8],
    items: &mut Vec<ContentItem>,
) -> Result<(), RepositoryError> {
    let whole = bytes.len() <= shared.repository.config().chunker.files.avg as usize;
    while !bytes.is_empty() {
        let len = if whole { bytes.len() } else { shared.files.cut(bytes) };
        let (chunk, rest) = bytes.split_at(len);
        bytes = rest;
        items.push(store_chunk(worker, chunk)?);
    }
    Ok(())
}

/// Stores one chunk of content.
pub(super) fn store_chunk(
    worker: &mut Worker,
    chunk: &[u8],
) -> Result<ContentItem, RepositoryError> {
    let id = worker.store(ChunkKind::Content, chunk)?;
    let len = u32::try_from(chunk.len()).expect("chunks are short");
    Ok(ContentItem::Chunk { id, len })
}
