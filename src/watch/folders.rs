//! What folders and other items are called that the kernel named by handles.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::Errno;

use super::WatchError;

/// What the kernel has in the place of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handle {
    /// Its type, which only the file system understands.
    pub(super) kind: i32,
    pub(super) bytes: Box<[u8]>,
}

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
    /// It has a name that cannot be seen by the mount.
    Hidden,
    /// The kernel does not know its name.
    Unnamed,
    /// It was removed.
    Gone,
}

/// Where an item is by the mount that `mount` lies on, as this process sees it.
///
/// # Errors
/// When the kernel cannot say.
pub(super) fn find(item: &Handle, mount: BorrowedFd<'_>) -> Result<Whereabouts, WatchError> {
    let io = |action| move |error: Errno| WatchError::io(action, "what changed", error.into());
    let handle = match open(item, mount) {
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
    // or another item is at it.
    let is_there = path.is_absolute()
        && rustix::fs::lstat(&path)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino));
    // A name that was removed may not be the only one.
    let is_named = path.file_name().is_some_and(|name| !name.as_bytes().ends_with(b" (deleted)"));
    if !is_there && rustix::fs::fstat(&handle).map_err(io("ask about"))?.st_nlink == 0 {
        return Ok(Whereabouts::Gone);
    }
    Ok(match (is_there, is_named) {
        (true, _) => Whereabouts::At(path),
        (false, true) => Whereabouts::Hidden,
        (false, false) => Whereabouts::Unnamed,
    })
}

fn open(item: &Handle, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle { len: 0, kind: item.kind, bytes: [0; MAX_HANDLE] };
    let room = raw.bytes.get_mut(..item.bytes.len()).ok_or(Errno::INVAL)?;
    room.copy_from_slice(&item.bytes);
    raw.len = libc::c_uint::try_from(item.bytes.len()).map_err(|_| Errno::INVAL)?;
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
    opened.ok_or_else(last_error)
}

/// The handle of an open item.
///
/// # Errors
/// On a file system without handles.
pub(super) fn handle_of(file: &OwnedFd) -> Result<Handle, Errno> {
    let room = libc::c_uint::try_from(MAX_HANDLE).map_err(|_| Errno::INVAL)?;
    let mut raw = RawHandle { len: room, kind: 0, bytes: [0; MAX_HANDLE] };
    let mut mount = 0;
    #[expect(unsafe_code, reason = "no safe wrapper of name_to_handle_at exists")]
    // SAFETY: `raw` has the layout of `struct file_handle` followed by `len` bytes, which are
    // written to; the empty path ends with a zero byte; `file` is open. All live until the call
    // returns.
    let failed = unsafe {
        let handle = (&raw mut raw).cast::<libc::file_handle>();
        let (file, path) = (file.as_raw_fd(), c"".as_ptr());
        libc::name_to_handle_at(file, path, handle, &raw mut mount, libc::AT_EMPTY_PATH) != 0
    };
    let bytes = usize::try_from(raw.len).ok().and_then(|len| raw.bytes.get(..len));
    match bytes {
        Some(bytes) if !failed => Ok(Handle { kind: raw.kind, bytes: bytes.into() }),
        _ => Err(last_error()),
    }
}

/// Whether two threads have one table of open files; `false` where the kernel does not say.
pub(super) fn share_files(one: u32, other: u32) -> bool {
    /// `KCMP_FILES`.
    const FILES: libc::c_long = 2;
    #[expect(unsafe_code, reason = "no safe wrapper of kcmp exists")]
    // SAFETY: the call takes numbers alone.
    let order = unsafe {
        let (one, other) = (libc::c_long::from(one), libc::c_long::from(other));
        libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0)
    };
    order == 0
}

/// The file behind a loop device, by the numbers of its device and its inode.
///
/// # Errors
/// When it cannot be asked; `ENXIO` without such a file.
pub(super) fn behind_loop(device: &OwnedFd) -> Result<(u64, u64), Errno> {
    /// `LOOP_GET_STATUS64`.
    const GET_STATUS: libc::c_ulong = 0x4c05;
    // `struct loop_info64`, which begins with the two numbers.
    let mut info = [0_u64; 29];
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: `info` has the 232 bytes of `struct loop_info64`, which are written to, and lives
    // until the call returns; `device` is open.
    let failed = unsafe { libc::ioctl(device.as_raw_fd(), GET_STATUS as _, &raw mut info) != 0 };
    if failed { Err(last_error()) } else { Ok((info[0], info[1])) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A name in a folder; without one, or with `.`, it is that itself.
pub(super) fn join(folder: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() || name == b"." {
        return folder.to_owned();
    }
    folder.join(std::ffi::OsStr::from_bytes(name))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes test data")]
mod tests {
    use super::*;
    use rustix::fd::AsFd as _;

    /// A handle that no file system gave.
    #[test]
    fn what_is_no_folder_is_gone_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mount = std::fs::File::open(folder.path()).unwrap();
        let nothing = Handle { kind: 1, bytes: [0xff; 8].into() };
        assert!(!matches!(find(&nothing, mount.as_fd()), Ok(Whereabouts::At(_))));
        let long = Handle { kind: 1, bytes: [0; 200].into() };
        assert!(find(&long, mount.as_fd()).is_err());
    }

    #[test]
    fn an_open_file_is_found_by_its_handle() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mount = std::fs::File::open(folder.path()).unwrap();
        let path = folder.path().join("file");
        let file = OwnedFd::from(std::fs::File::create(&path).unwrap());
        let handle = handle_of(&file).unwrap();
        assert_eq!(find(&handle, mount.as_fd()).unwrap(), Whereabouts::At(path.clone()));
        // The name by which it is open is gone, and another one is not known.
        std::fs::hard_link(&path, folder.path().join("other")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!matches!(
            find(&handle, mount.as_fd()).unwrap(),
            Whereabouts::Gone | Whereabouts::Hidden
        ));
        std::fs::remove_file(folder.path().join("other")).unwrap();
        assert_eq!(find(&handle, mount.as_fd()).unwrap(), Whereabouts::Gone);
    }
}
