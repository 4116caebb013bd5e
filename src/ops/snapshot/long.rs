//! Reading a file whole in little memory on a worker thread: one that proved longer than the scan
//! was told, or another name of a large file whose first name could not be used.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};

use super::pipeline::{ReadJob, Shared};
use super::read::{Failure, store_chunk};
use super::read_file::expect_file;
use crate::format::entry::ContentItem;
use crate::repo::{RepositoryError, Worker};
use crate::source::sparse::Region;

/// Bytes read at once.
const READ_LEN: usize = 1 << 20;

/// Stores the content of `file`: its regions, and, unless it only grows, all that follows them.
/// Returns the items and their length in bytes, which is less than that of the regions when it has shrunk.
pub(super) fn store_long(
    shared: &Shared,
    worker: &mut Worker,
    job: &ReadJob,
    file: &mut File,
    regions: &[Region],
) -> Result<(Vec<ContentItem>, u64), Failure> {
    let (path, buffer, items) = (&job.path, Vec::new(), Vec::new());
    let mut cutter = Cutter { shared, worker, path, buffer, items, len: 0 };
    for region in regions {
        if region.is_hole {
            cutter.hole(region.len)?;
            continue;
        }
        file.seek(SeekFrom::Start(region.offset)).map_err(Failure::Read)?;
        if cutter.copy(file, region.len)? < region.len {
            cutter.cut(true)?;
            return Ok((cutter.items, cutter.len));
        }
    }
    if !job.may_grow {
        expect_file(shared, file).map_err(Failure::Read)?;
        file.seek(SeekFrom::Start(cutter.len)).map_err(Failure::Read)?;
        cutter.copy(file, u64::MAX)?;
    }
    cutter.cut(true)?;
    Ok((cutter.items, cutter.len))
}

struct Cutter<'a> {
    shared: &'a Shared,
    worker: &'a mut Worker,
    path: &'a [u8],
    buffer: Vec<u8>,
    items: Vec<ContentItem>,
    len: u64,
}

impl Cutter<'_> {
    /// Reads up to `len` bytes; fewer at the end of the file or when the run is to stop.
    fn copy(&mut self, file: &mut File, len: u64) -> Result<u64, Failure> {
        let mut left = len;
        while left > 0 && !self.shared.is_interrupted() {
            let start = self.buffer.len();
            let room = usize::try_from(left).unwrap_or(READ_LEN).min(READ_LEN);
            self.buffer.resize(start + room, 0);
            let got = match self.shared.read(self.path, file, &mut self.buffer[start..]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(start);
                    continue;
                }
                Err(error) => return Err(Failure::Read(error)),
            };
            self.buffer.truncate(start + got);
            if got == 0 {
                break;
            }
            left -= got as u64;
            self.len += got as u64;
            self.shared.count_read(got as u64);
            self.cut(false)?;
        }
        Ok(len - left)
    }

    fn hole(&mut self, len: u64) -> Result<(), RepositoryError> {
        self.cut(true)?;
        self.items.push(ContentItem::Hole { len });
        self.len += len;
        Ok(())
    }

    /// Stores all chunks whose ends are certain; at the end of a run all there are.
    fn cut(&mut self, at_end: bool) -> Result<(), RepositoryError> {
        let chunker = &self.shared.files;
        let mut done = 0;
        while done < self.buffer.len() && (at_end || self.buffer.len() - done >= chunker.max()) {
            let rest = &self.buffer[done..];
            let len = chunker.cut(rest);
            self.items.push(store_chunk(self.worker, &rest[..len])?);
            done += len;
        }
        self.buffer.drain(..done);
        Ok(())
    }
}
