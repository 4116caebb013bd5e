//! Finds the folder that holds an entry, from the handle of the target folder, without following
//! a single symbolic link.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::{Errno, retry_on_intr};

use super::node::{self, Node};
use crate::format::path;

/// Longest relative path given to the kernel at once; its own limit is 4096 with the end mark.
const PIECE: usize = 4000;

/// A handle that only serves to reach what is in a folder, which needs no right to list it.
#[cfg(target_os = "linux")]
pub(super) const HANDLE: OFlags = OFlags::PATH;
/// Elsewhere there are only ordinary handles.
#[cfg(not(target_os = "linux"))]
pub(super) const HANDLE: OFlags = OFlags::RDONLY;

/// Most folders that a thread holds open: those of a path that it is in, the outermost given up
/// first.
const HELD: usize = 8;

/// A folder that entries are made in.
#[derive(Debug)]
pub(super) struct Parent {
    fd: OwnedFd,
    /// Whether the handle serves for more than reaching what is in the folder.
    is_open: bool,
    gives_acl: OnceLock<bool>,
}

impl Parent {
    fn new(fd: OwnedFd, is_open: bool) -> Self {
        Self { fd, is_open, gives_acl: OnceLock::new() }
    }

    /// What is made in it gets an ACL that nobody asked for, which has to be taken off again.
    pub(super) fn gives_acl(&self) -> bool {
        *self.gives_acl.get_or_init(|| node::has_default_acl(&self.node()))
    }

    /// The folder itself.
    pub(super) fn node(&self) -> Node<'_> {
        if self.is_open { Node::Open(self.fd.as_fd()) } else { Node::Pinned(self.fd.as_fd()) }
    }
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens folders below one handle. Each thread holds the last folders of the path that it is in,
/// because entries come folder by folder: the next one is mostly a single step away.
///
/// A folder that somebody moves away while it is being filled goes on being filled where it now
/// is; whatever is put in its place is never written through.
#[derive(Debug)]
pub(super) struct Resolver {
    root: Arc<Parent>,
    /// Whether the kernel resolves whole paths without following links. It may be too old, or a
    /// sandbox may forbid the call.
    whole_paths: bool,
    ways: Mutex<HashMap<ThreadId, Way>>,
}

/// Folders that a thread holds, each in the one before it (perhaps some levels down).
#[derive(Debug, Default)]
struct Way {
    /// Path of the last.
    path: Vec<u8>,
    /// With the lengths of their paths.
    held: VecDeque<(usize, Arc<Parent>)>,
}

impl Way {
    /// Gives up what does not lead to `folder`, and says how much of `folder` the rest covers.
    fn go_back_towards(&mut self, folder: &[u8]) -> usize {
        while let Some((len, _)) = self.held.back() {
            if path::is_within(folder, &self.path[..*len]) {
                break;
            }
            self.held.pop_back();
        }
        let len = self.held.back().map_or(0, |(len, _)| *len);
        self.path.truncate(len);
        len
    }

    fn go_on(&mut self, to: &[u8], folder: Parent) {
        if self.held.len() == HELD {
            self.held.pop_front();
        }
        self.path.clear();
        self.path.extend_from_slice(to);
        self.held.push_back((to.len(), Arc::new(folder)));
    }
}

impl Resolver {
    pub(super) fn new(root: OwnedFd) -> Self {
        let whole_paths = resolves_whole_paths(root.as_fd());
        Self { root: Arc::new(Parent::new(root, true)), whole_paths, ways: Mutex::default() }
    }

    /// One that behaves as on a system without `openat2`.
    #[cfg(test)]
    pub(super) fn by_component(root: OwnedFd) -> Self {
        Self { whole_paths: false, ..Self::new(root) }
    }

    pub(super) fn root(&self) -> &Parent {
        &self.root
    }

    /// Does `work` in the folder that holds `path`, with the last component of `path`; as
    /// [`Self::in_folder`] does.
    ///
    /// `path` must have passed [`path::problem`].
    pub(super) fn within<T>(
        &self,
        path: &[u8],
        work: impl Fn(&Parent, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let name = path::name(path);
        self.in_folder(path::parent(path), |parent| work(parent, name))
    }

    /// Does `work` in `folder` (empty: the target itself). It is done again when something is
    /// missing and a handle on the way was an old one: the folder may have been removed and made
    /// anew since.
    ///
    /// `folder` must be empty or have passed [`path::problem`].
    pub(super) fn in_folder<T>(
        &self,
        folder: &[u8],
        work: impl Fn(&Parent) -> io::Result<T>,
    ) -> io::Result<T> {
        if folder.is_empty() {
            return work(&self.root);
        }
        let thread = thread::current().id();
        let mut way = self.ways().remove(&thread).unwrap_or_default();
        let is_old = way.go_back_towards(folder) > 0;
        let mut done = self.go(&mut way, folder).and_then(|parent| work(&parent));
        let is_missing = |error| Errno::from_io_error(error) == Some(Errno::NOENT);
        if is_old && done.as_ref().is_err_and(is_missing) {
            way = Way::default();
            done = self.go(&mut way, folder).and_then(|parent| work(&parent));
        }
        self.ways().insert(thread, way);
        done
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to `folder`, with the way leading towards it already.
    fn go(&self, way: &mut Way, folder: &[u8]) -> io::Result<Arc<Parent>> {
        loop {
            let (covered, from) = match way.held.back() {
                Some((len, held)) => (*len, Arc::clone(held)),
                None => (0, Arc::clone(&self.root)),
            };
            if covered == folder.len() {
                return Ok(from);
            }
            let rest = &folder[covered + usize::from(covered > 0)..];
            // The last levels one by one, so that they are at hand for what comes next.
            let slashes = || rest.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
            let at_once = slashes().rev().nth(HELD - 1).or_else(|| slashes().next());
            let step = at_once.map_or(rest.len(), |(at, _)| at);
            let next = self.open_folder(from.as_fd(), &rest[..step])?;
            way.go_on(&folder[..folder.len() - rest.len() + step], next);
        }
    }

    /// Opens the folder that is `rest` below `base`.
    fn open_folder(&self, base: BorrowedFd<'_>, mut rest: &[u8]) -> Result<Parent, Errno> {
        let mut reached: Option<OwnedFd> = None;
        while rest.len() > PIECE {
            let slash = rest[..PIECE].iter().rposition(|&byte| byte == b'/');
            let slash = slash.ok_or(Errno::NAMETOOLONG)?;
            let base = reached.as_ref().map_or(base, AsFd::as_fd);
            reached = Some(self.descend(base, &rest[..slash], HANDLE)?);
            rest = &rest[slash + 1..];
        }
        let base = reached.as_ref().map_or(base, AsFd::as_fd);
        match self.descend(base, rest, OFlags::RDONLY) {
            // To reach what is in it takes no right to list it.
            Err(Errno::ACCESS) => Ok(Parent::new(self.descend(base, rest, HANDLE)?, false)),
            opened => Ok(Parent::new(opened?, true)),
        }
    }

    /// Opens the folder `piece`, short enough for one call, below `base`.
    fn descend(
        &self,
        base: BorrowedFd<'_>,
        piece: &[u8],
        access: OFlags,
    ) -> Result<OwnedFd, Errno> {
        #[cfg(target_os = "linux")]
        if self.whole_paths {
            return open_whole(base, piece, access);
        }
        debug_assert!(!self.whole_paths, "only Linux has the call");
        open_by_component(base, piece, access)
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
fn open_whole(base: BorrowedFd<'_>, piece: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    // No O_NOFOLLOW: with it a link at the end would be told of as "no folder".
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat2(base, piece, flags, Mode::empty(), resolution()))
}

#[cfg(target_os = "linux")]
fn resolves_whole_paths(root: BorrowedFd<'_>) -> bool {
    open_whole(root, b".", HANDLE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn resolves_whole_paths(_root: BorrowedFd<'_>) -> bool {
    false
}

/// Holds the last folder with `access`, and those on the way to it only to get there.
fn open_by_component(base: BorrowedFd<'_>, piece: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    let mut reached: Option<OwnedFd> = None;
    let mut names = piece.split(|&byte| byte == b'/').peekable();
    while let Some(name) = names.next() {
        let access = if names.peek().is_some() { HANDLE } else { access };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
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
