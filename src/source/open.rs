//! Opens items of the source without ever following a symbolic link below a root, by handles of
//! the roots: a folder that is swapped for a link while the snapshot runs leads nowhere.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};

use super::filesystem::Filesystems;
use super::probe::{Call, Probe};
use super::{SourceError, Stat, compare_paths, is_at_or_below};

/// Longest relative path given to the kernel at once; its own limit is 4096 with the end mark.
const PIECE: usize = 4000;

#[cfg(target_os = "linux")]
const HANDLE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const HANDLE: OFlags = OFlags::RDONLY;

#[cfg(target_os = "linux")]
const NOATIME: OFlags = OFlags::NOATIME;
#[cfg(not(target_os = "linux"))]
const NOATIME: OFlags = OFlags::empty();

/// A handle of one root of the source. Relative paths have no leading slash; the empty one is
/// the root itself.
#[derive(Debug)]
pub struct RootHandle {
    dir: OwnedFd,
    /// Name of the root within `dir` when it is not a folder; `dir` is its parent then.
    leaf: Option<Box<[u8]>>,
    /// Whether the kernel resolves whole paths without following links.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "a call of Linux"))]
    whole_paths: bool,
    probe: Probe,
}

impl RootHandle {
    /// A handle of the item at `path`. Links among its ancestors are followed (the user named
    /// them); `path` itself may be a link and is not followed.
    ///
    /// # Errors
    /// What the operating system says about the path.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let is_folder = path.symlink_metadata()?.is_dir();
        let (folder, leaf, follow) = match (is_folder, path.parent(), path.file_name()) {
            (false, Some(parent), Some(name)) => (parent, Some(name), OFlags::empty()),
            _ => (path, None, OFlags::NOFOLLOW),
        };
        let flags = HANDLE | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let dir = retry_on_intr(|| rustix::fs::open(folder, flags, Mode::empty()))?;
        let whole_paths = resolves_whole_paths(&dir);
        let leaf = leaf.map(|name| name.as_bytes().into());
        Ok(Self { dir, leaf, whole_paths, probe: Probe::default() })
    }

    /// A handle of the folder at `path`, links followed.
    fn open_ancestor(path: &Path) -> io::Result<Self> {
        let flags = HANDLE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self { dir, leaf: None, whole_paths: false, probe: Probe::default() })
    }

    /// Opens a folder for listing it.
    ///
    /// # Errors
    /// What the operating system says; a link anywhere on the path is `ELOOP` or `ENOTDIR`.
    pub fn open_dir(&self, rel: &[u8]) -> io::Result<OwnedFd> {
        self.open_untouched(rel, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file for reading it; never waits for a pipe's other end.
    ///
    /// # Errors
    /// What the operating system says; a link anywhere on the path is `ELOOP` or `ENOTDIR`.
    pub fn open_file(&self, rel: &[u8]) -> io::Result<OwnedFd> {
        self.open_untouched(rel, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// A handle of an item of any kind, a link included, that needs no right to read it and has
    /// no effect on it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_handle(&self, rel: &[u8]) -> io::Result<OwnedFd> {
        Ok(self.open(rel, HANDLE)?)
    }

    /// A handle of the folder that holds an item, and the item's name in it. The root itself,
    /// when it is a folder, is `.` in its own handle.
    ///
    /// # Errors
    /// What the operating system says about the folder.
    pub fn parent_of<'a>(&'a self, rel: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        if rel.is_empty() {
            let name = self.leaf.as_deref().unwrap_or(b".");
            return Ok((self.dir.try_clone()?, name));
        }
        let (parent, name) = match rel.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&rel[..slash], &rel[slash + 1..]),
            None => (&b""[..], rel),
        };
        Ok((self.open(parent, HANDLE | OFlags::DIRECTORY)?, name))
    }

    /// Opens without moving the time of last access where the caller has the right to that.
    fn open_untouched(&self, rel: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        match self.open(rel, flags | NOATIME) {
            // Only the owner (or root) may leave the time alone.
            Err(Errno::PERM) if !NOATIME.is_empty() => Ok(self.open(rel, flags)?),
            other => Ok(other?),
        }
    }

    fn open(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.probe.before(Call::Open, rel)?;
        if let Some(leaf) = &self.leaf {
            if !rel.is_empty() {
                return Err(Errno::NOTDIR);
            }
            return retry_on_intr(|| openat(&self.dir, &leaf[..], flags, Mode::empty()));
        }
        let mut reached: Option<OwnedFd> = None;
        let mut rest = if rel.is_empty() { b"." } else { rel };
        while rest.len() > PIECE {
            let slash = rest[..PIECE].iter().rposition(|&byte| byte == b'/');
            let slash = slash.ok_or(Errno::NAMETOOLONG)?;
            let base = reached.as_ref().unwrap_or(&self.dir).as_fd();
            let folder = HANDLE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            reached = Some(self.step(base, &rest[..slash], folder)?);
            rest = &rest[slash + 1..];
        }
        self.step(reached.as_ref().unwrap_or(&self.dir).as_fd(), rest, flags)
    }

    /// Opens `rel`, short enough for one call, below `base`.
    fn step(&self, base: BorrowedFd<'_>, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        #[cfg(target_os = "linux")]
        if self.whole_paths {
            use rustix::fs::{ResolveFlags, openat2};
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            return retry_on_intr(|| openat2(base, rel, flags, Mode::empty(), resolve));
        }
        open_by_component(base, rel, flags)
    }
}

/// Whether `openat2` is there: old kernels say `ENOSYS`, some sandboxes `EPERM`.
#[cfg(target_os = "linux")]
fn resolves_whole_paths(dir: &OwnedFd) -> bool {
    use rustix::fs::{ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(dir, ".", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn resolves_whole_paths(_dir: &OwnedFd) -> bool {
    false
}

/// Goes down one component at a time, refusing links: for kernels that cannot do it at once.
fn open_by_component(base: BorrowedFd<'_>, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut reached: Option<OwnedFd> = None;
    let mut rest = rel;
    while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
        let at = reached.as_ref().map_or(base, AsFd::as_fd);
        let folder = HANDLE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        reached = Some(retry_on_intr(|| openat(at, &rest[..slash], folder, Mode::empty()))?);
        rest = &rest[slash + 1..];
    }
    let at = reached.as_ref().map_or(base, AsFd::as_fd);
    retry_on_intr(|| openat(at, rest, flags, Mode::empty()))
}

/// The handles of all roots, found by path. Paths are absolute without their leading slash, as
/// a scan gives them.
#[derive(Debug)]
pub struct Roots {
    /// In scan order. The roots are disjoint; an ancestor answers for itself only.
    places: Vec<Place>,
    pub(crate) filesystems: Filesystems,
    pub(crate) probe: Probe,
}

#[derive(Debug)]
struct Place {
    path: Box<[u8]>,
    handle: Arc<RootHandle>,
    is_ancestor: bool,
}

impl Roots {
    /// Opens handles of `roots` (absolute, lexically clean; those within another are covered by
    /// it) and of the folders above them.
    ///
    /// # Errors
    /// Names the root that is not absolute and clean or that cannot be opened.
    pub fn open(roots: &[PathBuf]) -> Result<Self, SourceError> {
        let mut places: Vec<Place> = Vec::new();
        let mut probe = Probe::default();
        for path in outer_roots(roots)? {
            let name = super::absolute(&path);
            for (end, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'/') {
                let ancestor = &path[..end];
                if places.iter().any(|place| *place.path == *ancestor) {
                    continue;
                }
                let handle = RootHandle::open_ancestor(&super::absolute(ancestor));
                let handle = handle.map_err(|e| SourceError::at(ancestor, "open", e))?;
                let handle = Arc::new(handle);
                places.push(Place { path: ancestor.into(), handle, is_ancestor: true });
            }
            let handle = RootHandle::open_root(&name);
            let mut handle = handle.map_err(|e| SourceError::at(&path, "open", e))?;
            (handle.probe, probe) = (Probe::of(&name), Probe::of(&name));
            let handle = Arc::new(handle);
            places.push(Place { path, handle, is_ancestor: false });
        }
        places.sort_by(|a, b| compare_paths(&a.path, &b.path));
        Ok(Self { places, filesystems: Filesystems::default(), probe })
    }

    /// The handle and the relative path that lead to `path`.
    ///
    /// # Errors
    /// When no root holds it.
    pub fn locate<'a>(&self, path: &'a [u8]) -> Result<(&Arc<RootHandle>, &'a [u8]), SourceError> {
        let after = self.places.partition_point(|p| compare_paths(&p.path, path).is_le());
        let found = after.checked_sub(1).map(|index| &self.places[index]).filter(|place| {
            if place.is_ancestor { *place.path == *path } else { is_at_or_below(path, &place.path) }
        });
        let Some(place) = found else {
            return Err(SourceError::at(path, "find the root of", Errno::NOENT));
        };
        let rest = &path[place.path.len()..];
        Ok((&place.handle, rest.strip_prefix(b"/").unwrap_or(rest)))
    }

    /// All places, roots and ancestors, in scan order: (path, is an ancestor only).
    pub(crate) fn places(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.places.iter().map(|place| (&*place.path, place.is_ancestor))
    }

    /// Opens a folder for listing it.
    ///
    /// # Errors
    /// Names the folder.
    pub fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, SourceError> {
        let (handle, rel) = self.locate(path)?;
        handle.open_dir(rel).map_err(|e| SourceError::at(path, "open the folder", e))
    }

    /// Opens a regular file for reading it.
    ///
    /// # Errors
    /// Names the file.
    pub fn open_file(&self, path: &[u8]) -> Result<OwnedFd, SourceError> {
        let (handle, rel) = self.locate(path)?;
        handle.open_file(rel).map_err(|e| SourceError::at(path, "open the file", e))
    }

    /// A handle of an item of any kind that has no effect on it.
    ///
    /// # Errors
    /// Names the item.
    pub fn open_handle(&self, path: &[u8]) -> Result<OwnedFd, SourceError> {
        let (handle, rel) = self.locate(path)?;
        handle.open_handle(rel).map_err(|e| SourceError::at(path, "open", e))
    }

    /// The facts about an open item, in the same form as the scan's, so that they can be
    /// compared with those before and after reading it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn stat_of(&self, fd: BorrowedFd<'_>) -> io::Result<Stat> {
        #[cfg(target_os = "linux")]
        {
            self.probe.before(Call::Look, b"")?;
            let mut stat = super::lister::stat_at(fd, c"")?;
            self.filesystems.identify(&stat, |_| fd.try_clone_to_owned()).describe(&mut stat);
            self.probe.told(&mut stat);
            Ok(stat)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let file = std::fs::File::from(fd.try_clone_to_owned()?);
            self.stat_from(&file.metadata()?, |_| fd.try_clone_to_owned())
        }
    }

    /// The facts of the standard library's form; `open(readable)` gives a handle of the item.
    pub(crate) fn stat_from(
        &self,
        metadata: &std::fs::Metadata,
        open: impl Fn(bool) -> io::Result<OwnedFd>,
    ) -> io::Result<Stat> {
        let unknown = || io::Error::from(io::ErrorKind::Unsupported);
        let mut stat = Stat::from_metadata(metadata).ok_or_else(unknown)?;
        self.filesystems.identify(&stat, open).describe(&mut stat);
        Ok(stat)
    }
}

/// The roots that no other root contains, in scan order, in the scan's form.
///
/// # Errors
/// Names a root that is not absolute or not lexically clean.
pub(crate) fn outer_roots(roots: &[PathBuf]) -> Result<Vec<Box<[u8]>>, SourceError> {
    let mut outer = all_roots(roots)?;
    outer.dedup_by(|later, earlier| is_at_or_below(later, earlier));
    Ok(outer)
}

/// All roots in scan order, each once, in the scan's form.
pub(crate) fn all_roots(roots: &[PathBuf]) -> Result<Vec<Box<[u8]>>, SourceError> {
    let mut paths: Vec<Box<[u8]>> = Vec::with_capacity(roots.len());
    for root in roots {
        let clean: PathBuf = root.components().collect();
        let bad = clean.as_os_str() != root.as_os_str()
            || root.components().any(|part| part.as_os_str() == OsStr::new(".."));
        let Some(path) = root.as_os_str().as_bytes().strip_prefix(b"/").filter(|_| !bad) else {
            return Err(SourceError {
                path: root.clone(),
                action: "take as a root, which must be absolute and clean,",
                source: io::Error::from(io::ErrorKind::InvalidInput),
            });
        };
        paths.push(path.into());
    }
    paths.sort_by(|a, b| compare_paths(a, b));
    paths.dedup();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_roots_fold_into_the_outer_one() {
        let roots: Vec<PathBuf> = ["/b", "/a/b", "/a", "/a-b", "/a/b/c"].map(PathBuf::from).into();
        let outer = outer_roots(&roots).unwrap();
        assert_eq!(outer.iter().map(|p| &**p).collect::<Vec<_>>(), [&b"a"[..], b"a-b", b"b"]);
        for bad in ["a", "/a/../b", "/a/", "/a//b", "/a/./b"] {
            assert!(outer_roots(&[PathBuf::from(bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_below_a_root_are_not_followed_either_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/sub")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let mut handle = RootHandle::open_root(dir.path()).unwrap();
        for whole_paths in [handle.whole_paths, false] {
            handle.whole_paths = whole_paths;
            assert!(handle.open_dir(b"real/sub").is_ok());
            assert!(handle.open_dir(b"link/sub").is_err());
            assert!(handle.open_dir(b"link").is_err());
            assert!(handle.open_file(b"link").is_err());
            assert!(handle.open_dir(b"").is_ok());
            let (parent, name) = handle.parent_of(b"real/sub").unwrap();
            assert_eq!(name, b"sub");
            assert!(openat(parent, name, OFlags::RDONLY, Mode::empty()).is_ok());
        }
    }
}
