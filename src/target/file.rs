//! Regular files at the target: small ones in one go, large ones piece by piece.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, ftruncate, openat, statat, unlinkat};
use rustix::io::retry_on_intr;

use super::apply::{Applied, Before, MetadataPolicy, apply};
use super::existing::kind_of;
use super::node::{Node, open_to_read};
use super::owner::OwnerNumbers;
use super::resolve::Parent;
use super::{Put, TargetError, TargetFolder};
use crate::format::entry::{EntryKind, Metadata};

const WRITE: &str = "write";
const READ: &str = "read";

/// Nobody but the maker sees what is not finished.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

impl TargetFolder {
    /// Writes a whole file with its metadata. With `replace`, the file takes the place of what is
    /// at `path` when it is complete, unless that is a directory. Other hard links to what was
    /// there keep their content.
    ///
    /// # Errors
    /// [`Exists`](super::TargetErrorKind::Exists) when something is there that is not to be, or
    /// cannot be, replaced; whatever prevents it. What was written of it is removed then.
    pub fn write_small(
        &self,
        path: &[u8],
        meta: &Metadata,
        bytes: &[u8],
        policy: &MetadataPolicy,
        replace: bool,
    ) -> Result<Applied, TargetError> {
        if replace {
            let write = |at: &[u8]| self.write_small(at, meta, bytes, policy, false);
            return self.put(path, Put::Replace, write);
        }
        self.within(path, WRITE, |parent, name| {
            let mut file = create(parent, name)?;
            let filled = file.write_all(bytes).and_then(|()| {
                let applied = apply_to(&file, before(parent), meta, policy, &self.owners)?;
                close(file)?;
                Ok(applied)
            });
            if filled.is_err() {
                unlinkat(parent, name, AtFlags::empty()).ok();
            }
            filled
        })
    }

    /// Makes a file of `size` bytes, all of them holes, to be filled by
    /// [`TargetFile::write_at`].
    ///
    /// # Errors
    /// As [`Self::write_small`]; also when the file system cannot hold files of that size.
    pub fn begin_file(&self, path: &[u8], size: u64) -> Result<TargetFile, TargetError> {
        let (file, before) = self.within(path, WRITE, |parent, name| {
            let file = create(parent, name)?;
            if let Err(error) = ftruncate(&file, size) {
                unlinkat(parent, name, AtFlags::empty()).ok();
                return Err(error.into());
            }
            Ok((file, before(parent)))
        })?;
        let owners = Arc::clone(&self.owners);
        Ok(TargetFile { file, size, before, owners, path: self.full(path) })
    }

    /// Opens a file to read what it holds.
    ///
    /// # Errors
    /// When nothing, or anything but a regular file, is there; when it may not be read.
    pub fn read_back(&self, path: &[u8]) -> Result<File, TargetError> {
        self.within(path, READ, |parent, name| {
            let kind = kind_of(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
            if kind != EntryKind::File {
                return Err(io::Error::other("it is no regular file"));
            }
            let file = open_to_read(parent, name, EntryKind::File)?;
            if kind_of(&fstat(&file)?)? != EntryKind::File {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            Ok(file.into())
        })
    }
}

/// A large file that is being filled. Several threads may write to it at once. Dropped unfinished,
/// it stays as it is, readable by its maker only.
#[derive(Debug)]
pub struct TargetFile {
    file: File,
    size: u64,
    before: Before,
    owners: Arc<OwnerNumbers>,
    path: PathBuf,
}

impl TargetFile {
    /// Writes all of `bytes` at `offset`. What is never written stays a hole and reads as zeros.
    ///
    /// # Errors
    /// When they would not lie within the size given at the beginning, or cannot be written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let written = match offset.checked_add(len) {
            Some(end) if end <= self.size => self.file.write_all_at(bytes, offset),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the file")),
        };
        written.map_err(|error| TargetError::new(self.path.clone(), WRITE, error))
    }

    /// Sets the metadata and closes the file.
    ///
    /// # Errors
    /// When what was written did not reach the file system after all.
    pub fn finish(self, meta: &Metadata, policy: &MetadataPolicy) -> Result<Applied, TargetError> {
        let Self { file, before, owners, path, .. } = self;
        apply_to(&file, before, meta, policy, &owners)
            .and_then(|applied| close(file).map(|()| applied))
            .map_err(|error| TargetError::new(path, WRITE, error))
    }
}

fn before(parent: &Parent) -> Before {
    if parent.gives_acl() { Before::Anything } else { Before::Nothing }
}

/// A new file. O_EXCL makes sure of that: what exists is never opened, let alone truncated, and a
/// link at this name is not followed.
fn create(parent: &Parent, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| openat(parent, name, flags, FILE_MODE)).map(File::from)?)
}

fn apply_to(
    file: &File,
    before: Before,
    meta: &Metadata,
    policy: &MetadataPolicy,
    owners: &OwnerNumbers,
) -> io::Result<Applied> {
    let stat = fstat(file)?;
    Ok(apply(&Node::Open(file.as_fd()), &stat, meta, policy, owners, before))
}

/// Closes a file that was written to. Network file systems and quotas may only now say that there
/// is no room.
fn close(file: File) -> io::Result<()> {
    match nix::unistd::close(file) {
        // The handle is gone whatever the answer is.
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
