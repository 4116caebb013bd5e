//! Which parts of a file hold data and which are holes that the file system does not store.

use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes, never 0.
    pub len: u64,
    /// Reads as zeros and takes up no space.
    pub is_hole: bool,
}

/// The regions of an open file of `size` bytes: they cover it completely, in order, data and
/// holes by turns. A file system that knows no holes gives one region of data. Moves the file's
/// position. Worth its calls only when [`super::Stat::may_have_holes`] says so.
///
/// # Errors
/// When the file system fails to answer; the file may still be readable.
pub fn data_regions(fd: BorrowedFd<'_>, size: u64) -> io::Result<Vec<Region>> {
    let mut regions = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match seek(fd, SeekFrom::Data(at)) {
            Ok(data) => data.clamp(at, size),
            // No data from here to the end.
            Err(Errno::NXIO) => size,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) if at == 0 => 0,
            Err(error) => return Err(error.into()),
        };
        if data > at {
            regions.push(Region { offset: at, len: data - at, is_hole: true });
        }
        if data == size {
            break;
        }
        at = match seek(fd, SeekFrom::Hole(data)) {
            // A hole at the very place of data: the file is changing. What is left is read.
            Ok(hole) if hole <= data => size,
            Ok(hole) => hole.min(size),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => size,
            Err(error) => return Err(error.into()),
        };
        regions.push(Region { offset: data, len: at - data, is_hole: false });
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;

    const MIB: u64 = 1 << 20;

    fn regions_of(file: &File, size: u64) -> Vec<(u64, u64, bool)> {
        let regions = data_regions(file.as_fd(), size).unwrap();
        regions.iter().map(|r| (r.offset, r.len, r.is_hole)).collect()
    }

    #[test]
    fn holes_and_data_alternate_and_cover_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * MIB).unwrap();
        assert_eq!(regions_of(&file, 8 * MIB), [(0, 8 * MIB, true)]);
        file.write_all_at(&vec![1; 1 << 20], 2 * MIB).unwrap();
        file.write_all_at(&[1], 8 * MIB - 1).unwrap();
        let found = regions_of(&file, 8 * MIB);
        assert_eq!(found[..2], [(0, 2 * MIB, true), (2 * MIB, MIB, false)]);
        assert_eq!((found.len(), found[2].2, found[3].2), (4, true, false));
        assert_eq!(found[3].0 + found[3].1, 8 * MIB);
        // A size from before the file grew or shrank bounds the answer.
        assert_eq!(regions_of(&file, 3 * MIB), [(0, 2 * MIB, true), (2 * MIB, MIB, false)]);
        assert_eq!(regions_of(&file, 0), []);
        file.set_len(MIB).unwrap();
        assert_eq!(regions_of(&file, 2 * MIB), [(0, 2 * MIB, true)]);
    }

    #[test]
    fn without_holes_there_is_one_region() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"data", 0).unwrap();
        assert_eq!(regions_of(&file, 4), [(0, 4, false)]);
    }
}
