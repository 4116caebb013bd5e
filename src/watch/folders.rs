//! What folders and other items are called that the kernel named by handles.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::Errno;

use super::WatchError;
use super::ledger::Folder;

/// Longest handle (`MAX_HANDLE_SZ`).
const MAX_HANDLE: usize = 128;

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct RawHandle {
    len: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MAX_HANDLE],
}

/// Where an item is by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// At this path.
    At(PathBuf),
    /// It is there and cannot be seen by the mount, or the kernel does not know its name.
    Nowhere,
    /// It was removed.
    Gone,
}

/// Where a folder or other item is by the mount that `mount` lies on, as this process sees it.
///
/// # Errors
/// When the kernel cannot say.
pub(super) fn find(folder: &Folder, mount: BorrowedFd<'_>) -> Result<Whereabouts, WatchError> {
    let io = |action| move |error: Errno| WatchError::io(action, "what changed", error.into());
    let handle = match open(folder, mount) {
        Err(Errno::STALE) => return Ok(Whereabouts::Gone),
        opened => opened.map_err(io("open"))?,
    };
    let found = rustix::fs::fstat(&handle).map_err(io("ask about"))?;
    if found.st_nlink == 0 {
        return Ok(Whereabouts::Gone);
    }
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).map_err(io("ask for the path of"))?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
    // What lies outside of the mount, is hidden by another one or was moved just now has no path,
    // or is not what is there.
    let is_there = path.is_absolute()
        && rustix::fs::lstat(&path)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino));
    Ok(if is_there { Whereabouts::At(path) } else { Whereabouts::Nowhere })
}

fn open(folder: &Folder, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle { len: 0, kind: folder.kind, bytes: [0; MAX_HANDLE] };
    let room = raw.bytes.get_mut(..folder.handle.len()).ok_or(Errno::INVAL)?;
    room.copy_from_slice(&folder.handle);
    raw.len = libc::c_uint::try_from(folder.handle.len()).map_err(|_| Errno::INVAL)?;
    #[expect(unsafe_code, reason = "no safe wrapper of open_by_handle_at exists")]
    // SAFETY: `raw` has the layout of `struct file_handle` followed by at least `len` bytes, lives
    // until the call returns, and is only read; `mount` is open. What is returned is a descriptor
    // that nobody else owns.
    let opened = unsafe {
        let handle = (&raw mut raw).cast::<libc::file_handle>();
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        let fd = libc::open_by_handle_at(mount.as_raw_fd(), handle, flags);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    };
    opened.ok_or_else(|| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

/// A name in a folder; without one, or with `.`, it is that itself.
pub(super) fn join(folder: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() || name == b"." {
        return folder.to_owned();
    }
    folder.join(std::ffi::OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd as _;

    /// A handle that no file system gave.
    #[test]
    fn what_is_no_folder_is_gone_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mount = std::fs::File::open(folder.path()).unwrap();
        let nothing = Folder { filesystem: [0; 8], kind: 1, handle: [0xff; 8].into() };
        assert!(!matches!(find(&nothing, mount.as_fd()), Ok(Whereabouts::At(_))));
        let long = Folder { filesystem: [0; 8], kind: 1, handle: [0; 200].into() };
        assert!(find(&long, mount.as_fd()).is_err());
    }
}
