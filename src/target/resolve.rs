//! Finds the folder that holds an entry, from the handle of the target folder, without following
//! a single symbolic link.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::{Errno, retry_on_intr};

use super::node;
use crate::format::path;

/// Longest relative path given to the kernel at once; its own limit is 4096 with the end mark.
const PIECE: usize = 4000;

/// A handle that only serves to reach what is in a folder, which needs no right to list it.
#[cfg(target_os = "linux")]
pub(super) const HANDLE: OFlags = OFlags::PATH;
/// Elsewhere there are only ordinary handles.
#[cfg(not(target_os = "linux"))]
pub(super) const HANDLE: OFlags = OFlags::RDONLY;

/// A folder that entries are made in.
#[derive(Debug)]
pub(super) struct Parent {
    fd: OwnedFd,
    /// What is made in it gets an ACL that nobody asked for, which has to be taken off again.
    pub(super) gives_acl: bool,
}

impl Parent {
    fn new(fd: OwnedFd) -> Self {
        let gives_acl = node::has_default_acl(fd.as_fd());
        Self { fd, gives_acl }
    }
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens folders below one handle. Each thread's last folder stays open, because entries come
/// folder by folder.
///
/// A folder that somebody moves away while it is being filled goes on being filled where it now
/// is; whatever is put in its place is never written through.
#[derive(Debug)]
pub(super) struct Resolver {
    root: Arc<Parent>,
    /// Whether the kernel resolves whole paths without following links. It may be too old, or a
    /// sandbox may forbid the call.
    whole_paths: bool,
    last: Mutex<HashMap<ThreadId, LastFolder>>,
}

#[derive(Debug)]
struct LastFolder {
    path: Box<[u8]>,
    parent: Arc<Parent>,
}

impl Resolver {
    pub(super) fn new(root: OwnedFd) -> Self {
        let whole_paths = resolves_whole_paths(root.as_fd());
        Self { root: Arc::new(Parent::new(root)), whole_paths, last: Mutex::default() }
    }

    /// One that behaves as on a system without `openat2`.
    #[cfg(test)]
    pub(super) fn by_component(root: OwnedFd) -> Self {
        Self { whole_paths: false, ..Self::new(root) }
    }

    pub(super) fn root(&self) -> &Parent {
        &self.root
    }

    /// Does `work` in the folder that holds `path`, with the last component of `path`. It is done
    /// again when something is missing and the folder's handle was an old one: the folder may have
    /// been removed and made anew since.
    ///
    /// `path` must have passed [`path::problem`].
    pub(super) fn within<T>(
        &self,
        path: &[u8],
        work: impl Fn(&Parent, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let (folder, name) = (path::parent(path), path::name(path));
        if folder.is_empty() {
            return work(&self.root, name);
        }
        if let Some(parent) = self.remembered(folder) {
            match work(&parent, name) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
                done => return done,
            }
        }
        work(&*self.open_parent(folder)?, name)
    }

    fn remembered(&self, folder: &[u8]) -> Option<Arc<Parent>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.get(&thread::current().id())?;
        (*last.path == *folder).then(|| Arc::clone(&last.parent))
    }

    fn open_parent(&self, folder: &[u8]) -> io::Result<Arc<Parent>> {
        let parent = Arc::new(Parent::new(self.open_folder(folder)?));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = LastFolder { path: folder.into(), parent: Arc::clone(&parent) };
        last.insert(thread::current().id(), kept);
        Ok(parent)
    }

    fn open_folder(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        let mut reached: Option<OwnedFd> = None;
        let mut rest = folder;
        while rest.len() > PIECE {
            let slash = rest[..PIECE].iter().rposition(|&byte| byte == b'/');
            let slash = slash.ok_or(Errno::NAMETOOLONG)?;
            let base = reached.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            reached = Some(self.descend(base, &rest[..slash])?);
            rest = &rest[slash + 1..];
        }
        self.descend(reached.as_ref().map_or(self.root.as_fd(), AsFd::as_fd), rest)
    }

    /// Opens the folder `piece`, short enough for one call, below `base`.
    fn descend(&self, base: BorrowedFd<'_>, piece: &[u8]) -> Result<OwnedFd, Errno> {
        #[cfg(target_os = "linux")]
        if self.whole_paths {
            return open_whole(base, piece);
        }
        debug_assert!(!self.whole_paths, "only Linux has the call");
        open_by_component(base, piece)
    }

    /// Opens the folder `name` of `folder` for listing and emptying it. Refuses one that another
    /// file system is mounted on.
    pub(super) fn enter(&self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(target_os = "linux")]
        if self.whole_paths {
            use rustix::fs::{ResolveFlags, openat2};
            let resolve = resolution() | ResolveFlags::NO_XDEV;
            return retry_on_intr(|| openat2(folder, name, flags, Mode::empty(), resolve));
        }
        let entered = retry_on_intr(|| openat(folder, name, flags, Mode::empty()))?;
        if rustix::fs::fstat(&entered)?.st_dev != rustix::fs::fstat(folder)?.st_dev {
            return Err(Errno::XDEV);
        }
        Ok(entered)
    }
}

#[cfg(target_os = "linux")]
fn resolution() -> rustix::fs::ResolveFlags {
    use rustix::fs::ResolveFlags;
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

#[cfg(target_os = "linux")]
fn open_whole(base: BorrowedFd<'_>, piece: &[u8]) -> Result<OwnedFd, Errno> {
    // No O_NOFOLLOW: with it a link at the end would be told of as "no folder".
    let flags = HANDLE | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat2(base, piece, flags, Mode::empty(), resolution()))
}

#[cfg(target_os = "linux")]
fn resolves_whole_paths(root: BorrowedFd<'_>) -> bool {
    open_whole(root, b".").is_ok()
}

#[cfg(not(target_os = "linux"))]
fn resolves_whole_paths(_root: BorrowedFd<'_>) -> bool {
    false
}

fn open_by_component(base: BorrowedFd<'_>, piece: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = HANDLE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut reached: Option<OwnedFd> = None;
    for name in piece.split(|&byte| byte == b'/') {
        let folder = reached.as_ref().map_or(base, AsFd::as_fd);
        match retry_on_intr(|| openat(folder, name, flags, Mode::empty())) {
            Ok(next) => reached = Some(next),
            // The kernel says the same of a link and of a file; a caller must tell them apart.
            Err(Errno::NOTDIR) if is_link(folder, name) => return Err(Errno::LOOP),
            Err(error) => return Err(error),
        }
    }
    // A piece has at least one component.
    reached.ok_or(Errno::INVAL)
}

fn is_link(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
