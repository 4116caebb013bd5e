//! Reading large files on the feeder's thread, handing slabs of chunks to the workers.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::pipeline::{Message, Read, ReadJob, Shared};
use super::read::{ATTEMPTS, entry, role_of, source_error};
use super::read_file::{expect_file, regions_of};
use super::settled::{Agreement, Outcome, settle};
use super::slabs::{Gone, Slabs, send};
use crate::format::entry::{Content, EntryKind, Xattr};
use crate::id::ChunkId;
use crate::source::metadata::{file_metadata, read_file_xattrs};
use crate::source::probe::Call;
use crate::source::{SourceError, Stat};
use crate::tree::OldContent;

/// Files longer than this are read in slabs rather than whole.
pub(super) const LARGE: u64 = 4 << 20;
/// Bytes read at once.
const READ_LEN: usize = 1 << 20;

/// Why reading a file stopped.
enum Stop {
    Source(SourceError),
    Gone,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Why a part of a file was not handed out.
enum CopyStop {
    Read(io::Error),
    Gone,
}

impl From<Gone> for CopyStop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl CopyStop {
    fn about(self, path: &[u8]) -> Stop {
        match self {
            Self::Read(error) => Stop::Source(source_error(path, "read", error)),
            Self::Gone => Stop::Gone,
        }
    }
}

/// Reads the file of `job`, whose content was `basis` before, and sends its content and entry.
/// Returns the attributes of an item of another kind that has come in its place.
pub(super) fn read_large(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    job: &ReadJob,
    basis: Option<&Arc<OldContent>>,
) -> Result<Option<Stat>, Gone> {
    let (path, mut stat) = (&*job.path, job.stat);
    let mut agreement = Agreement::default();
    for attempt in 1..=ATTEMPTS {
        send(out, Message::Begin(basis.cloned()))?;
        let read = match read_once(shared, out, job, &stat, basis) {
            Ok(read) if read.after.kind == EntryKind::File => Ok(read),
            Ok(_) => Err(source_error(path, "find", io::ErrorKind::NotFound.into())),
            Err(Stop::Gone) => return Err(Gone),
            Err(Stop::Source(error)) => Err(error),
        };
        let ReadOnce { len, xattrs, problems, after } = match read {
            Ok(read) => read,
            Err(error) => {
                send(out, Message::Drop)?;
                let replacement = shared.replacement(path, &stat, error);
                return Ok(replacement.map_err(|error| shared.source_problem(path, &error)).ok());
            }
        };
        if shared.is_interrupted() {
            send(out, Message::Drop)?;
            return Ok(None);
        }
        // So long a content is compared by its length alone.
        let settled = agreement.is_settled(&stat, &after, (job.may_grow, len), || ChunkId([0; 32]));
        if !settled && attempt < ATTEMPTS {
            stat = after;
            continue;
        }
        let outcome = if settled { Outcome::Settled } else { Outcome::Unsettled };
        problems.iter().for_each(|problem| shared.source_problem(path, problem));
        let mut meta = file_metadata(&after, xattrs, &shared.owners);
        settle(shared, path, &mut meta, len, outcome);
        let entry = entry(shared, path.into(), meta, Content::Empty);
        let read = Read { entry, role: role_of(job, settled, &after), stat: after };
        send(out, Message::End(Box::new(read)))?;
        break;
    }
    Ok(None)
}

/// A file between two looks at it, its content sent.
struct ReadOnce {
    len: u64,
    xattrs: Arc<[Xattr]>,
    problems: Vec<SourceError>,
    after: Stat,
}

fn read_once(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    job: &ReadJob,
    stat: &Stat,
    basis: Option<&Arc<OldContent>>,
) -> Result<ReadOnce, Stop> {
    let path = &*job.path;
    let failed = |error: io::Error| Stop::Source(source_error(path, "read", error));
    let mut file = File::from(shared.roots().open_file(path).map_err(Stop::Source)?);
    let regions = regions_of(&file, stat).map_err(failed)?;
    let mut slabs = Slabs::new(shared, out, shared.files.clone(), basis.cloned());
    let mut buffer = vec![0; READ_LEN];
    let mut len = 0;
    for region in &regions {
        if region.is_hole {
            slabs.finish()?;
            slabs.hole(region.len)?;
            len += region.len;
            continue;
        }
        file.seek(SeekFrom::Start(region.offset)).map_err(failed)?;
        let got = copy(shared, path, &mut file, region.len, &mut buffer, &mut slabs)
            .map_err(|stop| stop.about(path))?;
        len += got;
        if got < region.len {
            break;
        }
    }
    if len == stat.size && !job.may_grow {
        expect_file(shared, &file).map_err(failed)?;
        // It may have grown, or its file system tells no lengths.
        file.seek(SeekFrom::Start(len)).map_err(failed)?;
        len += copy(shared, path, &mut file, u64::MAX, &mut buffer, &mut slabs)
            .map_err(|stop| stop.about(path))?;
    }
    slabs.finish()?;
    // Before the last look, which tells whether they changed meanwhile.
    shared.roots().probe.before(Call::Xattrs, path).map_err(|error| failed(error.into()))?;
    let (xattrs, problems) = read_file_xattrs(file.as_fd(), path);
    let after = shared.roots().stat_of(file.as_fd()).map_err(failed)?;
    Ok(ReadOnce { len, xattrs, problems, after })
}

/// Hands out up to `len` bytes of `file`; fewer at its end, or when the run is to stop.
fn copy(
    shared: &Shared,
    path: &[u8],
    file: &mut File,
    len: u64,
    buffer: &mut [u8],
    slabs: &mut Slabs<'_>,
) -> Result<u64, CopyStop> {
    let mut left = len;
    while left > 0 && !shared.is_interrupted() {
        let room = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        let got = match shared.read(path, file, &mut buffer[..room]) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyStop::Read(error)),
        };
        if got == 0 {
            break;
        }
        slabs.push(&buffer[..got])?;
        left -= got as u64;
        shared.count_read(got as u64);
    }
    Ok(len - left)
}
