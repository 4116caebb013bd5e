//! The one durable publish of a local repository: temporary file, sync, rename, sync of the folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::local_folder::{FILE_MODE, give_to_owner, sync_folder};
use super::temporary::new_name;
use super::{ObjectName, PendingObject, StorageError};

/// The kernel is told to begin writing to the disk whenever this many bytes have gathered, so that
/// the sync at the end finds little left to do.
const WRITE_BACK_STEP: u64 = 8 << 20;

/// An object that is being written under a temporary name in the folder that it will stay in.
pub(super) struct PendingFile {
    folder: Arc<File>,
    name: ObjectName,
    /// The temporary name, as long as it exists.
    temporary: Option<String>,
    /// Open and locked, as long as nothing has failed.
    file: Option<File>,
    /// Bytes appended.
    written: u64,
    /// Bytes whose way to the disk was begun.
    begun: u64,
    /// Bytes of space that were set aside.
    reserved: u64,
    /// How many bytes were appended when they were last made durable, if they were.
    settled: Option<u64>,
    /// Why they could not be.
    unsettled: Option<StorageError>,
}

impl PendingFile {
    /// Begins the object `name` in its folder `folder`.
    pub(super) fn begin(
        folder: Arc<File>,
        name: ObjectName,
        expected_len: Option<u64>,
    ) -> Result<Self, StorageError> {
        let mut pending = Self {
            folder,
            name,
            temporary: None,
            file: None,
            written: 0,
            begun: 0,
            reserved: 0,
            settled: None,
            unsettled: None,
        };
        pending
            .open(expected_len.unwrap_or(0))
            .map_err(|error| StorageError::from_io("create", name, error))?;
        Ok(pending)
    }

    fn open(&mut self, expected_len: u64) -> io::Result<()> {
        let temporary = new_name();
        // O_EXCL: the file is new, so whatever it holds at the end is what was written here.
        // Not only for writing: parity is computed from what was written.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = retry_on_intr(|| {
            rustix::fs::openat(&self.folder, temporary.as_str(), flags, FILE_MODE)
        })?;
        let file = self.file.insert(File::from(file));
        self.temporary = Some(temporary);
        give_to_owner(&self.folder, file)?;
        // Held until the object is published: tells a sweeper that the owner lives. The kernel
        // releases it when the process ends in any way.
        match rustix::fs::flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            // Without locks a sweeper cannot get one either, and then leaves the file alone.
            Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {}
            Err(error) => return Err(error.into()),
        }
        if reserve(file, expected_len)? {
            self.reserved = expected_len;
        }
        Ok(())
    }

    /// Brings all that was appended to the disk.
    fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.settled == Some(self.written) {
            return Ok(());
        }
        if self.reserved > self.written {
            // Gives back the space that was set aside beyond the end.
            retry_on_intr(|| rustix::fs::ftruncate(file, self.written))?;
        }
        // Called once: after a failure the kernel takes the lost pages for clean, and a second call
        // would wrongly succeed. Whoever fails here gives the file up.
        sync_file(file)?;
        self.settled = Some(self.written);
        Ok(())
    }

    /// Everything up to the point at which the object is durable under its final name.
    fn finish(&mut self, file: &File) -> io::Result<()> {
        // Content and length must be on the disk before the name is: else a power failure leaves
        // a name with nothing behind it.
        self.sync(file)?;
        // Some network file systems have lost the end of a file without an error.
        let kept = file.metadata()?.len();
        if kept != self.written {
            let text = format!("{} bytes were written, {kept} were kept", self.written);
            return Err(io::Error::other(text));
        }
        // A network file system may report a failed write as late as at close. A duplicate is
        // closed, because the file has to stay locked until it has its final name.
        match nix::unistd::close(file.try_clone()?) {
            // Linux closes the handle before it looks at signals.
            Ok(()) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(temporary) = &self.temporary {
            put_in_place(&self.folder, temporary, &self.folder, &self.name.file_name())?;
        }
        self.temporary = None;
        // Makes the new name durable.
        sync_folder(&self.folder)
    }

    /// Gives the object up, and with it the space that it took.
    fn discard(&mut self) {
        self.file = None;
        if let Some(temporary) = self.temporary.take() {
            // Best effort: what stays is neither listed nor read, and swept later.
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }

    fn dead(&self, operation: &'static str) -> StorageError {
        let source = io::Error::other("an earlier write to this object failed");
        StorageError::from_io(operation, self.name, source)
    }
}

impl PendingObject for PendingFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let Some(mut file) = self.file.as_ref() else { return Err(self.dead("write")) };
        // Goes on after short writes and interruptions.
        if let Err(error) = file.write_all(bytes) {
            self.discard();
            return Err(StorageError::from_io("write", self.name, error));
        }
        self.written += u64::try_from(bytes.len()).expect("memory is smaller than 2^64 bytes");
        if self.written - self.begun >= WRITE_BACK_STEP {
            begin_write_back(file, self.begun, self.written - self.begun);
            self.begun = self.written;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.written
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let Some(file) = self.file.as_ref() else { return Err(self.dead("read")) };
        if let Err(error) = file.read_exact_at(buffer, offset) {
            self.discard();
            return Err(StorageError::from_io("read", self.name, error));
        }
        Ok(())
    }

    fn settle(&mut self) {
        let Some(file) = self.file.take() else { return };
        match self.sync(&file) {
            Ok(()) => self.file = Some(file),
            Err(error) => {
                self.discard();
                self.unsettled = Some(StorageError::from_io("publish", self.name, error));
            }
        }
    }

    fn publish(mut self: Box<Self>) -> Result<(), StorageError> {
        let Some(file) = self.file.take() else {
            return Err(self.unsettled.take().unwrap_or_else(|| self.dead("publish")));
        };
        // On failure the temporary name is removed when `self` is dropped.
        self.finish(&file).map_err(|error| StorageError::from_io("publish", self.name, error))
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Sets `len` bytes of space aside without changing the file's length; false where the file system
/// knows no such thing.
#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;

    if len == 0 {
        return Ok(false);
    }
    // KEEP_SIZE: the length always says how much was written. The file gets connected space.
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(false),
        // The length was a guess: what really comes may have room on a disk that is nearly full.
        // If it has not, a write says so. What was had until then is given back.
        Err(Errno::NOSPC | Errno::DQUOT) => {
            file.set_len(0)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Begins to write the `len` bytes from `offset` on to the disk, and waits for nothing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper of sync_file_range exists")]
fn begin_write_back(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd as _;

    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // Only a hint. It does not wait, hence takes no write error away from the fsync at the end.
    // SAFETY: the descriptor is open while `file` is borrowed, and no memory is passed.
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
}

#[cfg(not(target_os = "linux"))]
fn begin_write_back(_file: &File, _offset: u64, _len: u64) {}

/// One attempt to bring content and length to the disk.
#[cfg(not(target_vendor = "apple"))]
fn sync_file(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

/// One attempt to bring content and length to the disk; a plain fsync stops at the drive's cache
/// here.
#[cfg(target_vendor = "apple")]
fn sync_file(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_fullfsync(file)?)
}

/// Renames `source` of folder `from` to `target` of folder `to`, unless there is a `target` already.
pub(super) fn put_in_place(from: &File, source: &str, to: &File, target: &str) -> io::Result<()> {
    // One step that replaces nothing: of several writers of one name exactly one wins.
    match rustix::fs::renameat_with(from, source, to, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            put_in_place_by_link(from, source, to, target)
        }
        Err(error) => Err(error.into()),
    }
}

/// [`put_in_place`] for file systems that cannot rename without replacing, NFS among them.
fn put_in_place_by_link(from: &File, source: &str, to: &File, target: &str) -> io::Result<()> {
    // A link never replaces anything, and its target appears whole.
    match rustix::fs::linkat(from, source, to, target, AtFlags::empty()) {
        Ok(()) => {}
        // The answer to an earlier, successful try was lost on the network.
        Err(Errno::EXIST) if same_file((from, source), (to, target)) => {}
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            return put_in_place_by_check(from, source, to, target);
        }
        Err(error) => return Err(error.into()),
    }
    // The object has its name; a second one is swept later if it stays.
    let _ = rustix::fs::unlinkat(from, source, AtFlags::empty());
    Ok(())
}

/// [`put_in_place`] for file systems that have no hard links either. Two writers of one name could
/// both pass the check, but names are random, save for that of the config.
fn put_in_place_by_check(from: &File, source: &str, to: &File, target: &str) -> io::Result<()> {
    match rustix::fs::statat(to, target, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST.into()),
        Err(Errno::NOENT) => Ok(rustix::fs::renameat(from, source, to, target)?),
        Err(error) => Err(error.into()),
    }
}

fn same_file(a: (&File, &str), b: (&File, &str)) -> bool {
    let stat = |(folder, name)| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match (stat(a), stat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out files by hand")]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::id::SnapshotId;
    use crate::storage::StorageErrorKind;

    fn names(folder: &Path) -> Vec<String> {
        let items = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn no_way_of_renaming_replaces_anything() {
        type Way = fn(&File, &str, &File, &str) -> io::Result<()>;
        let ways: [Way; 3] = [put_in_place, put_in_place_by_link, put_in_place_by_check];
        for way in ways {
            let folder = tempfile::tempdir().unwrap();
            let handle = File::open(folder.path()).unwrap();
            fs::write(folder.path().join("a"), "first").unwrap();
            way(&handle, "a", &handle, "target").unwrap();
            assert_eq!(names(folder.path()), ["target"]);

            fs::write(folder.path().join("b"), "second").unwrap();
            let error = way(&handle, "b", &handle, "target").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(folder.path().join("target")).unwrap(), b"first");

            assert_eq!(
                way(&handle, "missing", &handle, "new").unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            assert_eq!(names(folder.path()), ["b", "target"]);
        }
    }

    #[test]
    fn a_link_whose_answer_was_lost_counts_as_made() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        fs::write(folder.path().join("a"), "bytes").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("target")).unwrap();
        put_in_place_by_link(&handle, "a", &handle, "target").unwrap();
        assert_eq!(names(folder.path()), ["target"]);
    }

    fn begun(folder: &Path) -> PendingFile {
        let handle = Arc::new(File::open(folder).unwrap());
        PendingFile::begin(handle, ObjectName::snapshot(SnapshotId([7; 16])), None).unwrap()
    }

    /// One in a pipe, which takes the bytes but refuses fsync, as a broken disk does. With the other
    /// end of the pipe.
    fn begun_on_a_broken_disk(folder: &Path) -> (PendingFile, std::os::fd::OwnedFd) {
        let mut pending = begun(folder);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        pending.file = Some(File::from(writer));
        pending.append(b"bytes").unwrap();
        (pending, reader)
    }

    #[test]
    fn a_failed_sync_is_the_end_of_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, _reader) = begun_on_a_broken_disk(folder.path());
        assert_eq!(names(folder.path()).len(), 1);

        let error = Box::new(pending).publish().unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Other);
        assert!(names(folder.path()).is_empty());
    }

    /// What a sync lost is not made good by a second one that succeeds.
    #[test]
    fn a_failed_sync_before_the_end_is_told_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pending, _reader) = begun_on_a_broken_disk(folder.path());

        pending.settle();
        assert!(names(folder.path()).is_empty());
        let error = Box::new(pending).publish().unwrap_err();
        assert_eq!((error.kind, error.operation), (StorageErrorKind::Other, "publish"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_that_lost_bytes_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let mut pending = begun(folder.path());
        pending.append(b"bytes").unwrap();
        pending.file.as_ref().unwrap().set_len(3).unwrap();

        Box::new(pending).publish().unwrap_err();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failed_write_is_the_end_of_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let mut pending = begun(folder.path());
        // Not open for writing.
        pending.file = Some(File::open(folder.path()).unwrap());
        pending.append(b"bytes").unwrap_err();
        assert!(names(folder.path()).is_empty());
        pending.append(b"bytes").unwrap_err();
        Box::new(pending).publish().unwrap_err();
        assert!(names(folder.path()).is_empty());
    }
}
