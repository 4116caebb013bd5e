//! Reading large files on the feeder's thread, handing slabs of chunks to the workers.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::pipeline::{Message, ReadJob, Shared};
use super::read::{ATTEMPTS, Outcome, entry, is_settled, settle, source_error};
use super::slabs::{Gone, Slabs, send};
use crate::format::entry::Content;
use crate::source::metadata::read_open_metadata;
use crate::source::sparse::{Region, data_regions};
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

/// Reads the file of `job`, whose content was `basis` before, and sends its content and entry.
pub(super) fn read_large(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    job: &ReadJob,
    basis: Option<&Arc<OldContent>>,
) -> Result<(), Gone> {
    let (path, mut stat) = (&*job.path, job.stat);
    for attempt in 1..=ATTEMPTS {
        send(out, Message::Begin(basis.cloned()))?;
        let (file, len, after) = match read_once(shared, out, path, &stat, basis) {
            Ok(read) => read,
            Err(Stop::Gone) => return Err(Gone),
            Err(Stop::Source(error)) => {
                shared.source_problem(path, &error);
                return send(out, Message::Drop);
            }
        };
        if shared.is_interrupted() {
            return send(out, Message::Drop);
        }
        let settled = is_settled(&stat, &after, job.may_grow) && len == stat.size;
        if !settled && attempt < ATTEMPTS {
            stat = after;
            continue;
        }
        let outcome = if settled { Outcome::Settled } else { Outcome::Unsettled };
        let (mut meta, problems) = read_open_metadata(file.as_fd(), path, &after, &shared.owners);
        problems.iter().for_each(|problem| shared.source_problem(path, problem));
        settle(shared, path, &mut meta, len, outcome);
        let entry = entry(shared, path.into(), meta, Content::Empty);
        return send(out, Message::End(Box::new(entry)));
    }
    Ok(())
}

fn read_once(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    path: &[u8],
    stat: &Stat,
    basis: Option<&Arc<OldContent>>,
) -> Result<(File, u64, Stat), Stop> {
    let failed = |error: io::Error| Stop::Source(source_error(path, "read", error));
    let mut file = File::from(shared.roots().open_file(path).map_err(Stop::Source)?);
    let regions = if stat.may_have_holes() {
        data_regions(file.as_fd(), stat.size).map_err(failed)?
    } else {
        vec![Region { offset: 0, len: stat.size, is_hole: false }]
    };
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
        let mut left = region.len;
        while left > 0 && !shared.is_interrupted() {
            let room = usize::try_from(left).unwrap_or(READ_LEN).min(READ_LEN);
            let got = match file.read(&mut buffer[..room]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            if got == 0 {
                break;
            }
            slabs.push(&buffer[..got])?;
            left -= got as u64;
            shared.count_read(got as u64);
        }
        len += region.len - left;
        if left > 0 {
            break;
        }
    }
    slabs.finish()?;
    let after = shared.roots().stat_of(file.as_fd()).map_err(failed)?;
    Ok((file, len, after))
}
