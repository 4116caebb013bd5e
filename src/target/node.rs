//! One item at the target, held by a handle, whose metadata can be read and set. No operation on
//! it follows a symbolic link.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, getxattr, lgetxattr,
    listxattr, llistxattr, lremovexattr, lsetxattr, openat, removexattr, setxattr, statat,
    utimensat,
};
use rustix::io::{Errno, Result, retry_on_intr};

use super::existing::kind_of;
use super::resolve::{HANDLE, Parent};
use crate::format::entry::EntryKind;

/// Longest value or list of names that is read. Linux stops at 64 KiB.
const MAX_XATTR_LEN: usize = 16 << 20;

/// The extended attribute that holds the ACL which a folder gives to what is made in it.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// A way to one item.
pub(super) enum Node<'a> {
    /// Open for reading or writing: a file or a folder.
    Open(BorrowedFd<'a>),
    /// Held without the right to read it; its attributes are reached through the name that the
    /// kernel gives to the handle.
    Pinned(BorrowedFd<'a>),
    /// A symbolic link: no handle of it can be used for everything, so it is named.
    Link {
        /// The folder that it is in.
        folder: BorrowedFd<'a>,
        /// Its name there.
        name: &'a [u8],
    },
}

impl Node<'_> {
    pub(super) fn stat(&self) -> Result<Stat> {
        match self {
            Self::Open(fd) | Self::Pinned(fd) => fstat(fd),
            Self::Link { folder, name } => statat(folder, *name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    pub(super) fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Pinned(fd) => chownat(CWD, handle_name(*fd), uid, gid, AtFlags::empty()),
            Self::Link { folder, name } => {
                chownat(folder, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Sets the twelve permission bits; a link has none that matter.
    pub(super) fn chmod(&self, mode: u16) -> Result<()> {
        let mode = Mode::from_raw_mode(mode.into());
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Pinned(fd) => chmodat(CWD, handle_name(*fd), mode, AtFlags::empty()),
            Self::Link { .. } => Ok(()),
        }
    }

    pub(super) fn set_times(&self, times: &Timestamps) -> Result<()> {
        match self {
            Self::Open(fd) => futimens(fd, times),
            Self::Pinned(fd) => utimensat(CWD, handle_name(*fd), times, AtFlags::empty()),
            Self::Link { folder, name } => {
                utimensat(folder, *name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    pub(super) fn set_xattr(&self, attribute: &[u8], value: &[u8]) -> Result<()> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => fsetxattr(fd, attribute, value, flags),
            Self::Pinned(fd) => setxattr(handle_name(*fd), attribute, value, flags),
            Self::Link { folder, name } => {
                lsetxattr(name_below(*folder, name), attribute, value, flags)
            }
        }
    }

    pub(super) fn remove_xattr(&self, attribute: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => fremovexattr(fd, attribute),
            Self::Pinned(fd) => removexattr(handle_name(*fd), attribute),
            Self::Link { folder, name } => lremovexattr(name_below(*folder, name), attribute),
        }
    }

    /// The names of all extended attributes; none where the file system knows no such thing.
    pub(super) fn xattr_names(&self) -> Result<Vec<Box<[u8]>>> {
        let list = whole_answer(|into| match self {
            Self::Open(fd) => flistxattr(fd, into),
            Self::Pinned(fd) => listxattr(handle_name(*fd), into),
            Self::Link { folder, name } => llistxattr(name_below(*folder, name), into),
        });
        let list = match list {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            list => list?,
        };
        let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(Box::from).collect())
    }

    pub(super) fn xattr(&self, attribute: &[u8]) -> Result<Vec<u8>> {
        whole_answer(|into| match self {
            Self::Open(fd) => fgetxattr(fd, attribute, into),
            Self::Pinned(fd) => getxattr(handle_name(*fd), attribute, into),
            Self::Link { folder, name } => lgetxattr(name_below(*folder, name), attribute, into),
        })
    }
}

/// Asks with a growing buffer until the answer fits.
fn whole_answer(mut ask: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; 512];
    match ask(&mut small) {
        Err(Errno::RANGE) => {}
        answer => return Ok(small[..answer?].to_vec()),
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match ask(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < MAX_XATTR_LEN => buffer.resize(buffer.len() * 4, 0),
            answer => {
                buffer.truncate(answer?);
                return Ok(buffer);
            }
        }
    }
}

/// The name by which the kernel leads to what a handle holds, whatever was renamed since.
fn handle_name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn name_below(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [handle_name(folder).as_bytes(), name].join(&b'/')
}

/// Whether what is made in `folder` gets an ACL from it. Assumed where it cannot be found out.
pub(super) fn has_default_acl(folder: &Node<'_>) -> bool {
    if cfg!(not(target_os = "linux")) {
        return false;
    }
    !matches!(folder.xattr(DEFAULT_ACL), Err(Errno::NODATA | Errno::OPNOTSUPP))
}

/// Gives the item `name` of `parent` to `work`.
///
/// # Errors
/// When it is not there, or is not of this kind (which it was when the caller looked).
pub(super) fn with_node<T>(
    parent: &Parent,
    name: &[u8],
    kind: EntryKind,
    work: impl FnOnce(&Node<'_>, &Stat) -> io::Result<T>,
) -> io::Result<T> {
    let held;
    let node = match kind {
        EntryKind::Symlink => Node::Link { folder: parent.as_fd(), name },
        EntryKind::Directory | EntryKind::File => match open_to_read(parent, name, kind) {
            Ok(fd) => {
                held = fd;
                Node::Open(held.as_fd())
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                held = pin(parent, name)?;
                Node::Pinned(held.as_fd())
            }
            Err(error) => return Err(error.into()),
        },
        _ => {
            held = pin(parent, name)?;
            Node::Pinned(held.as_fd())
        }
    };
    let stat = node.stat()?;
    if kind_of(&stat)? != kind {
        return Err(io::Error::other("it was replaced meanwhile"));
    }
    work(&node, &stat)
}

/// Opens a file or folder that is known not to be a device.
pub(super) fn open_to_read(parent: &Parent, name: &[u8], kind: EntryKind) -> Result<OwnedFd> {
    // O_NONBLOCK: should it be a pipe by now, opening it must not wait for its other end.
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags |= OFlags::CLOEXEC;
    if kind == EntryKind::Directory {
        flags |= OFlags::DIRECTORY;
    }
    retry_on_intr(|| openat(parent, name, flags, Mode::empty()))
}

/// A handle that needs no right to read the item and has no effect on it.
pub(super) fn pin(parent: impl AsFd + Copy, name: &[u8]) -> Result<OwnedFd> {
    let flags = HANDLE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| openat(parent, name, flags, Mode::empty()))
}
