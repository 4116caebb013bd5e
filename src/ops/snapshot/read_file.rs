//! Reading a file of the source to its end, between two looks at it.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::long::store_long;
use super::pipeline::{Context, ReadJob, Shared};
use super::read::Failure;
use super::settled::Fingerprint;
use crate::crypto::ChunkKind;
use crate::format::entry::{ContentItem, EntryKind, Xattr};
use crate::source::metadata::read_file_xattrs;
use crate::source::probe::Call;
use crate::source::sparse::{Region, data_regions};
use crate::source::{SourceError, Stat};

/// Bytes that are asked for first behind the end that a file was said to have: there are none.
const BEYOND: u64 = 512;
/// Bytes read at once after that.
const READ_LEN: u64 = 64 << 10;

/// A file between two looks at it.
pub(super) struct FileRead {
    pub(super) data: Data,
    pub(super) len: u64,
    pub(super) xattrs: Arc<[Xattr]>,
    pub(super) problems: Vec<SourceError>,
    pub(super) after: Stat,
}

pub(super) enum Data {
    /// In the worker's buffer, without its holes. The regions say where it belongs.
    Buffered(Vec<Region>),
    /// Too long for that: stored already.
    Stored(Vec<ContentItem>),
}

impl Data {
    pub(super) fn fingerprint(&self, shared: &Shared, buffer: &[u8]) -> Fingerprint {
        let hash = |bytes: &[u8]| shared.repository.keys().chunk_id(ChunkKind::Content, bytes);
        match self {
            Self::Buffered(_) => hash(buffer),
            Self::Stored(items) => {
                let ids = items.iter().filter_map(|item| match item {
                    ContentItem::Chunk { id, .. } => Some(id.0),
                    ContentItem::Hole { .. } => None,
                });
                hash(&ids.collect::<Vec<_>>().concat())
            }
        }
    }
}

/// Reads a file to its end, holes left out, whatever length it was said to have.
pub(super) fn open_and_read(
    shared: &Shared,
    context: &mut Context,
    job: &ReadJob,
    stat: &Stat,
) -> Result<FileRead, Failure> {
    let mut file = File::from(shared.roots().open_file(&job.path)?);
    let mut regions = regions_of(&file, stat).map_err(Failure::Read)?;
    let buffered = stat.size <= shared.large()
        && read_regions(shared, &job.path, &mut file, &mut context.buffer, &mut regions, stat)
            .map_err(Failure::Read)?
        && (job.may_grow || total(&regions) < stat.size || {
            let buffer = &mut context.buffer;
            let more = read_beyond(shared, &job.path, &mut file, buffer, &mut regions, stat);
            more.map_err(Failure::Read)?
        });
    let (data, len) = if buffered {
        let len = total(&regions);
        (Data::Buffered(regions), len)
    } else {
        let regions = regions_of(&file, stat).map_err(Failure::Read)?;
        let worker = &mut context.worker;
        let (items, len) = store_long(shared, worker, job, &mut file, &regions)?;
        if shared.is_interrupted() {
            return Err(Failure::Interrupted);
        }
        (Data::Stored(items), len)
    };
    // Before the last look, which tells whether they changed meanwhile.
    shared.roots().probe.before(Call::Xattrs, &job.path).map_err(|e| Failure::Read(e.into()))?;
    let (xattrs, problems) = read_file_xattrs(file.as_fd(), &job.path);
    let after = shared.roots().stat_of(file.as_fd()).map_err(Failure::Read)?;
    Ok(FileRead { data, len, xattrs, problems, after })
}

/// Where the file has data and where holes, as far as it is said to be long.
pub(super) fn regions_of(file: &File, stat: &Stat) -> io::Result<Vec<Region>> {
    if stat.may_have_holes() {
        return data_regions(file.as_fd(), stat.size);
    }
    Ok(vec![Region { offset: 0, len: stat.size, is_hole: false }])
}

/// Reads the regions into `buffer`. They are shorter than before when the file has shrunk.
fn read_regions(
    shared: &Shared,
    path: &[u8],
    file: &mut File,
    buffer: &mut Vec<u8>,
    regions: &mut Vec<Region>,
    stat: &Stat,
) -> io::Result<bool> {
    buffer.clear();
    for at in 0..regions.len() {
        let region = &mut regions[at];
        if region.is_hole {
            continue;
        }
        if region.offset != buffer.len() as u64 || stat.may_have_holes() {
            file.seek(SeekFrom::Start(region.offset))?;
        }
        let got = read_up_to(shared, path, file, buffer, region.len)?;
        if got < region.len {
            region.len = got;
            regions.truncate(at + 1);
            break;
        }
    }
    regions.retain(|region| region.len > 0);
    Ok(true)
}

/// Reads what follows on the length that the file was said to have: nothing, unless it grew or its
/// file system tells no lengths. False when that is too much for `buffer`.
fn read_beyond(
    shared: &Shared,
    path: &[u8],
    file: &mut File,
    buffer: &mut Vec<u8>,
    regions: &mut Vec<Region>,
    stat: &Stat,
) -> io::Result<bool> {
    if regions.last().is_some_and(|last| last.is_hole) {
        file.seek(SeekFrom::Start(stat.size))?;
    }
    let start = buffer.len();
    let mut step = BEYOND;
    while read_up_to(shared, path, file, buffer, step)? == step {
        expect_file(shared, file)?;
        if buffer.len() as u64 > shared.large() {
            return Ok(false);
        }
        step = READ_LEN;
    }
    let more = (buffer.len() - start) as u64;
    match regions.last_mut() {
        _ if more == 0 => {}
        Some(last) if !last.is_hole => last.len += more,
        _ => regions.push(Region { offset: stat.size, len: more, is_hole: false }),
    }
    Ok(true)
}

/// Fails where another kind of item has come in the place of the file: a device may have no end.
pub(super) fn expect_file(shared: &Shared, file: &File) -> io::Result<()> {
    match shared.roots().stat_of(file.as_fd())?.kind {
        EntryKind::File => Ok(()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Appends up to `len` bytes of `file` to `buffer`; fewer only at the end of the file.
fn read_up_to(
    shared: &Shared,
    path: &[u8],
    file: &mut File,
    buffer: &mut Vec<u8>,
    len: u64,
) -> io::Result<u64> {
    let start = buffer.len();
    let end = start + usize::try_from(len).map_err(io::Error::other)?;
    buffer.resize(end, 0);
    let mut at = start;
    while at < end {
        match shared.read(path, file, &mut buffer[at..end]) {
            Ok(0) => break,
            Ok(got) => at += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(at);
    Ok((at - start) as u64)
}

fn total(regions: &[Region]) -> u64 {
    regions.iter().map(|region| region.len).sum()
}
