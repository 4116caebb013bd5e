//! The kernel's queue of changes on whole file systems.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::event::{Change, decode};
use super::mounts::{FileSystem, file_system};
use super::{FileSystemId, WatchError};

/// Bytes of events that are read at once: some thousands.
const BUFFER: usize = 256 << 10;

/// Where the kernel tells which marks a queue has.
const FDINFO: &str = "/proc/self/fdinfo";

/// A queue, and what it is told about.
pub(super) struct Group {
    queue: Fanotify,
    /// A handle of each file system, so that it stays; and its device.
    held: BTreeMap<FileSystemId, (OwnedFd, u64, PathBuf)>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Group {
    /// Asks to be told of changes on the file systems of `paths`.
    ///
    /// # Errors
    /// Without the rights of the superuser, on a file system that does not tell everything, or on
    /// a kernel that is too old.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Self, WatchError> {
        let first = || paths.first().cloned().unwrap_or_default();
        // The queue grows with what happens while this process sleeps: a full one would cost a look
        // at everything.
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::from_bits_retain(libc::FAN_REPORT_DFID_NAME | libc::FAN_REPORT_FID);
        let queue = Fanotify::init(flags, EventFFlags::O_RDONLY)
            .map_err(|error| WatchError::io("watch", first(), error.into()))?;
        let mut group = Self { queue, held: BTreeMap::new(), buffer: vec![0; BUFFER] };
        for path in paths {
            group.add(path)?;
        }
        Ok(group)
    }

    fn add(&mut self, path: &Path) -> Result<(), WatchError> {
        let io = |action| move |error: Errno| WatchError::io(action, path, error.into());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let handle =
            retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(io("open"))?;
        let FileSystem { id, device, kind } = file_system(&handle).map_err(io("ask about"))?;
        if let Err(kind) = kind {
            return Err(WatchError::NotLocal { path: path.to_owned(), kind });
        }
        if self.held.contains_key(&id) {
            return Ok(());
        }
        let mask = MaskFlags::FAN_MODIFY
            | MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_CLOSE_WRITE
            | MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_MOVED_FROM
            | MaskFlags::FAN_MOVED_TO
            | MaskFlags::FAN_ONDIR;
        let mark = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        // By the handle, so that it is the file system that was looked at.
        self.queue
            .mark(mark, mask, &handle, None::<&CStr>)
            .map_err(|error| WatchError::io("watch", path, error.into()))?;
        self.held.insert(id, (handle, device, path.to_owned()));
        Ok(())
    }

    /// Passes on all changes that were made before this call.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub(super) fn drain(&mut self, mut tell: impl FnMut(Change<'_>)) -> Result<(), WatchError> {
        loop {
            match retry_on_intr(|| rustix::io::read(self.queue.as_fd(), &mut self.buffer[..])) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(len) => decode(&self.buffer[..len], &mut tell),
                Err(error) => {
                    return Err(WatchError::io("read", "the kernel's queue", error.into()));
                }
            }
        }
    }

    /// The devices of which the kernel tells changes, by the ids of their file systems: those that
    /// are asked for and that it still has a mark on, by its own word.
    ///
    /// # Errors
    /// When the kernel's word cannot be read.
    pub(super) fn watched(&self) -> Result<Vec<(FileSystemId, u64)>, WatchError> {
        use rustix::fd::AsRawFd as _;
        let path = format!("{FDINFO}/{}", self.queue.as_fd().as_raw_fd());
        let text =
            std::fs::read_to_string(&path).map_err(|error| WatchError::io("read", &path, error))?;
        let marks: Vec<u64> = text.lines().filter_map(marked_device).collect();
        let held = self.held.iter().map(|(id, (_, device, _))| (*id, *device));
        Ok(held.filter(|(_, device)| marks.contains(device)).collect())
    }

    /// Where a watched file system was named.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.held.values().map(|(_, _, path)| &**path)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// The device of a line like `fanotify sdev:fe00001 mflags:0 mask:3ce ignored_mask:0`, where the
/// kernel has twelve bits of a major number above twenty of a minor one.
fn marked_device(line: &str) -> Option<u64> {
    let mut words = line.strip_prefix("fanotify ")?.split(' ');
    let number = words.find_map(|word| word.strip_prefix("sdev:"))?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some(rustix::fs::makedev(number >> 20, number & 0xf_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_mark() {
        let line = "fanotify sdev:800015 mflags:0 mask:3ce ignored_mask:0";
        assert_eq!(marked_device(line), Some(rustix::fs::makedev(8, 0x15)));
        assert_eq!(marked_device("fanotify flags:8 event-flags:0"), None);
        assert_eq!(marked_device("pos:\t0"), None);
    }
}
