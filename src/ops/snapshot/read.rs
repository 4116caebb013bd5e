//! Reading items on a worker thread: small and medium files whole, everything else its metadata.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;

use super::pipeline::{Context, ReadJob, ReadResult, Shared};
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata};
use crate::repo::{RepositoryError, Worker};
use crate::source::metadata::{read_metadata, read_open_metadata};
use crate::source::sparse::{Region, data_regions};
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

fn read_item(
    shared: &Shared,
    context: &mut Context,
    job: ReadJob,
) -> Result<ReadResult, RepositoryError> {
    if job.stat.kind == EntryKind::File && !job.another_name {
        return read_file(shared, context, job);
    }
    match read_metadata(shared.roots(), &job.path, &job.stat, &shared.owners) {
        Ok((meta, problems)) => {
            problems.iter().for_each(|problem| shared.source_problem(&job.path, problem));
            Ok(Some(entry(shared, job.path, meta, Content::Empty)))
        }
        Err(error) => {
            shared.source_problem(&job.path, &error);
            Ok(None)
        }
    }
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

/// What a source did while it was read.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) enum Outcome {
    /// The same before and after.
    Settled,
    /// Changed again and again.
    Unsettled,
}

/// Whether a file was left alone between two looks at it.
fn same_state(before: &Stat, after: &Stat) -> bool {
    before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime
        && before.inode == after.inode
        && before.filesystem == after.filesystem
}

/// Whether what was read is of one moment: nothing changed, or a file that only grows grew.
pub(super) fn is_settled(before: &Stat, after: &Stat, may_grow: bool) -> bool {
    let grew = after.size > before.size
        && before.inode == after.inode
        && before.filesystem == after.filesystem;
    same_state(before, after) || (may_grow && grew)
}

pub(super) fn source_error(path: &[u8], action: &'static str, source: io::Error) -> SourceError {
    SourceError { path: crate::source::absolute(path), action, source }
}

fn read_file(
    shared: &Shared,
    context: &mut Context,
    job: ReadJob,
) -> Result<ReadResult, RepositoryError> {
    let mut stat = job.stat;
    for attempt in 1..=ATTEMPTS {
        let read = open_and_read(shared, &mut context.buffer, &job.path, &stat);
        let (file, regions, after) = match read {
            Ok(read) => read,
            Err(error) => {
                shared.source_problem(&job.path, &error);
                return Ok(None);
            }
        };
        let settled = is_settled(&stat, &after, job.may_grow) && total(&regions) == stat.size;
        if !settled && attempt < ATTEMPTS {
            stat = after;
            continue;
        }
        let len = total(&regions);
        shared.count_read(context.buffer.len() as u64);
        let content = store(shared, &mut context.worker, &context.buffer, &regions)?;
        let outcome = if settled { Outcome::Settled } else { Outcome::Unsettled };
        let (mut meta, problems) =
            read_open_metadata(file.as_fd(), &job.path, &after, &shared.owners);
        problems.iter().for_each(|problem| shared.source_problem(&job.path, problem));
        settle(shared, &job.path, &mut meta, len, outcome);
        return Ok(Some(entry(shared, job.path, meta, content)));
    }
    Ok(None)
}

/// Enters what was really read, and reports a file that would not hold still.
pub(super) fn settle(
    shared: &Shared,
    path: &[u8],
    meta: &mut Metadata,
    len: u64,
    outcome: Outcome,
) {
    meta.size = len;
    meta.unsettled = outcome == Outcome::Unsettled;
    if meta.unsettled {
        let what = format!("it changed while it was read, {ATTEMPTS} times; stored as last read");
        shared.problem(path, what);
    }
}

fn total(regions: &[Region]) -> u64 {
    regions.iter().map(|region| region.len).sum()
}

/// Reads a file's data into `buffer`, holes left out. The regions say where they belong; they are
/// shorter than the file was said to be when it has shrunk.
fn open_and_read(
    shared: &Shared,
    buffer: &mut Vec<u8>,
    path: &[u8],
    stat: &Stat,
) -> Result<(File, Vec<Region>, Stat), SourceError> {
    let mut file = File::from(shared.roots().open_file(path)?);
    let failed = |error| source_error(path, "read", error);
    let mut regions = if stat.may_have_holes() {
        data_regions(file.as_fd(), stat.size).map_err(failed)?
    } else {
        vec![Region { offset: 0, len: stat.size, is_hole: false }]
    };
    buffer.clear();
    for at in 0..regions.len() {
        let region = &mut regions[at];
        if region.is_hole {
            continue;
        }
        if region.offset != buffer.len() as u64 || stat.may_have_holes() {
            file.seek(SeekFrom::Start(region.offset)).map_err(failed)?;
        }
        let got = read_up_to(&mut file, buffer, region.len).map_err(failed)?;
        if got < region.len {
            region.len = got;
            regions.truncate(at + 1);
            break;
        }
    }
    regions.retain(|region| region.len > 0);
    let after = shared.roots().stat_of(file.as_fd()).map_err(failed)?;
    Ok((file, regions, after))
}

/// Appends up to `len` bytes of `file` to `buffer`; fewer only at the end of the file.
fn read_up_to(file: &mut File, buffer: &mut Vec<u8>, len: u64) -> io::Result<u64> {
    let start = buffer.len();
    let end = start + usize::try_from(len).map_err(io::Error::other)?;
    buffer.resize(end, 0);
    let mut at = start;
    while at < end {
        match file.read(&mut buffer[at..end]) {
            Ok(0) => break,
            Ok(got) => at += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(at);
    Ok((at - start) as u64)
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
