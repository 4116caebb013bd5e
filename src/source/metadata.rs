//! The metadata of an entry that a scan does not read: extended attributes, the target of a
//! link, the names of the owners.

use std::collections::HashMap;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{fgetxattr, flistxattr};
#[cfg(target_os = "linux")]
use rustix::fs::{getxattr, listxattr};
use rustix::io::Errno;

use super::open::Roots;
use super::{SourceError, Stat};
use crate::format::entry::{EntryKind, Metadata, Owner, Xattr};

const FIND: &str = "find";
const READ_TARGET: &str = "read the target of the link";
const LIST_XATTRS: &str = "list the extended attributes of";
const READ_XATTR: &str = "read an extended attribute of";
/// How often the room for an answer is made four times as large: up to 32 MiB, far beyond the
/// 64 KiB that Linux allows.
const ATTEMPTS: usize = 9;

static NO_XATTRS: LazyLock<Arc<[Xattr]>> = LazyLock::new(|| Arc::new([]));

/// The owners met so far with their names: a machine is asked once for each pair of ids.
#[derive(Debug, Default)]
pub struct OwnerNames(RwLock<HashMap<(u32, u32), Arc<Owner>>>);

impl OwnerNames {
    /// The owner with these ids. A name that the machine does not know, or fails to look up,
    /// is empty.
    pub fn owner(&self, uid: u32, gid: u32) -> Arc<Owner> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = known.get(&(uid, gid)) {
            return Arc::clone(owner);
        }
        drop(known);
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        let owner = Arc::new(Owner {
            uid,
            gid,
            user: user.map(|user| user.name.into_bytes().into()).unwrap_or_default(),
            group: group.map(|group| group.name.into_bytes().into()).unwrap_or_default(),
        });
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((uid, gid)).or_insert(owner))
    }
}

/// The whole metadata of an item that a scan found, and what of it could not be read.
///
/// # Errors
/// When the item is gone, or a link's target cannot be read: there is no entry then.
pub fn read_metadata(
    roots: &Roots,
    path: &[u8],
    stat: &Stat,
    owners: &OwnerNames,
) -> Result<(Metadata, Vec<SourceError>), SourceError> {
    let (_, metadata, problems) = read_current(roots, path, stat, owners)?;
    Ok((metadata, problems))
}

/// How often an item that changes under the reader is looked at again.
const LOOKS: usize = 3;

/// The same, with the attributes that the item has when all else is read: those of the scan may be
/// of an item that had the name before. Of a directory whose contents were listed meanwhile, the
/// times and links stay those of the scan: what came later must show as a change.
///
/// # Errors
/// When the item is gone or of another kind, or a link's target cannot be read.
pub(crate) fn read_current(
    roots: &Roots,
    path: &[u8],
    scanned: &Stat,
    owners: &OwnerNames,
) -> Result<(Stat, Metadata, Vec<SourceError>), SourceError> {
    let mut looks = 1;
    loop {
        let (before, target, (xattrs, problems), after) = target_and_xattrs(roots, path, scanned)?;
        if before.kind != scanned.kind {
            let replaced = io::Error::from(io::ErrorKind::NotFound);
            return Err(SourceError::at(path, FIND, replaced));
        }
        if !after.is_same_state(&before) && looks < LOOKS {
            looks += 1;
            continue;
        }
        let mut shown = after;
        if after.kind == EntryKind::Directory {
            let Stat { inode, filesystem, mtime, ctime, links, .. } = *scanned;
            shown = Stat { inode, filesystem, mtime, ctime, links, ..after };
        }
        return Ok((after, assemble(&shown, owners, xattrs, target), problems));
    }
}

type Xattrs = (Arc<[Xattr]>, Vec<SourceError>);

/// An item between two looks at it: target and extended attributes.
type Looked = (Stat, Box<[u8]>, Xattrs, Stat);

/// Target and extended attributes, both from one handle that needs no right to read, has no
/// effect on devices and pipes, and stays with the item whatever is renamed meanwhile.
#[cfg(target_os = "linux")]
fn target_and_xattrs(roots: &Roots, path: &[u8], scanned: &Stat) -> Result<Looked, SourceError> {
    let handle = roots.open_handle(path)?;
    let look = || {
        let stat = roots.stat_of(handle.as_fd());
        stat.map_err(|error| SourceError::at(path, super::plan::READ_ATTRIBUTES, error))
    };
    let before = look()?;
    let kind = before.kind;
    if kind != scanned.kind {
        return Ok((before, Box::default(), (Arc::clone(&NO_XATTRS), Vec::new()), before));
    }
    let target = match kind {
        // Grows its buffer until the target fits.
        EntryKind::Symlink => rustix::fs::readlinkat(&handle, "", Vec::new())
            .map_err(|e| SourceError::at(path, READ_TARGET, e))?
            .into_bytes()
            .into(),
        _ => Box::default(),
    };
    let by_name = HandleXattrs(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    // Without /proc there is still the ordinary way, for what may be opened.
    let xattrs = match kind {
        EntryKind::Directory if by_name.is_unreachable() => {
            xattrs_by(path, &OpenXattrs(roots.open_dir(path)?.as_fd()))
        }
        EntryKind::File if by_name.is_unreachable() => {
            xattrs_by(path, &OpenXattrs(roots.open_file(path)?.as_fd()))
        }
        _ => xattrs_by(path, &by_name),
    };
    Ok((before, target, xattrs, look()?))
}

/// Target and extended attributes; elsewhere than on Linux only files and folders have such, and
/// the attributes stay those of the scan.
#[cfg(not(target_os = "linux"))]
fn target_and_xattrs(roots: &Roots, path: &[u8], scanned: &Stat) -> Result<Looked, SourceError> {
    use std::os::unix::ffi::OsStringExt as _;
    let none = (Arc::clone(&NO_XATTRS), Vec::new());
    let (target, xattrs) = match scanned.kind {
        EntryKind::Symlink => {
            let target = std::fs::read_link(super::absolute(path))
                .map_err(|e| SourceError::at(path, READ_TARGET, e))?;
            (target.into_os_string().into_vec().into(), none)
        }
        EntryKind::Directory => {
            (Box::default(), xattrs_by(path, &OpenXattrs(roots.open_dir(path)?.as_fd())))
        }
        EntryKind::File => {
            (Box::default(), xattrs_by(path, &OpenXattrs(roots.open_file(path)?.as_fd())))
        }
        _ => (Box::default(), none),
    };
    Ok((*scanned, target, xattrs, *scanned))
}

/// The whole metadata of a file whose extended attributes were read while it was in the state of
/// `stat`.
pub(crate) fn file_metadata(stat: &Stat, xattrs: Arc<[Xattr]>, owners: &OwnerNames) -> Metadata {
    assemble(stat, owners, xattrs, Box::default())
}

/// The extended attributes of a file or folder that is open for reading, sorted by name, and
/// which of them could not be read. `path` is for the problems.
pub fn read_file_xattrs(fd: BorrowedFd<'_>, path: &[u8]) -> (Arc<[Xattr]>, Vec<SourceError>) {
    xattrs_by(path, &OpenXattrs(fd))
}

fn assemble(stat: &Stat, owners: &OwnerNames, xattrs: Arc<[Xattr]>, target: Box<[u8]>) -> Metadata {
    Metadata {
        kind: stat.kind,
        mode: stat.mode,
        owner: owners.owner(stat.uid, stat.gid),
        mtime: stat.mtime,
        ctime: stat.ctime,
        inode: stat.inode,
        filesystem: stat.filesystem,
        links: stat.links,
        size: stat.size,
        device: stat.device,
        xattrs,
        target,
        unsettled: false,
    }
}

/// How the extended attributes of one item are reached.
trait XattrSource {
    /// Fills `into` with the names, each ended by a zero byte; says how many bytes they take.
    fn list(&self, into: &mut [u8]) -> Result<usize, Errno>;
    /// Fills `into` with a value; says how many bytes it takes.
    fn get(&self, name: &[u8], into: &mut [u8]) -> Result<usize, Errno>;
}

struct OpenXattrs<'a>(BorrowedFd<'a>);

impl XattrSource for OpenXattrs<'_> {
    fn list(&self, into: &mut [u8]) -> Result<usize, Errno> {
        flistxattr(self.0, into)
    }

    fn get(&self, name: &[u8], into: &mut [u8]) -> Result<usize, Errno> {
        fgetxattr(self.0, name, into)
    }
}

/// Through the name that the kernel gives to a handle, which may be one of a link or a device.
#[cfg(target_os = "linux")]
struct HandleXattrs(String);

#[cfg(target_os = "linux")]
impl HandleXattrs {
    fn is_unreachable(&self) -> bool {
        listxattr(&*self.0, &mut [0_u8; 0][..]) == Err(Errno::NOENT)
    }
}

#[cfg(target_os = "linux")]
impl XattrSource for HandleXattrs {
    fn list(&self, into: &mut [u8]) -> Result<usize, Errno> {
        listxattr(&*self.0, into)
    }

    fn get(&self, name: &[u8], into: &mut [u8]) -> Result<usize, Errno> {
        getxattr(&*self.0, name, into)
    }
}

/// Asks with ever more room until the answer fits. Asking for its length first would not save
/// that: it may grow between two calls.
fn whole_answer(
    buffer: &mut Vec<u8>,
    ask: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    for _ in 0..ATTEMPTS {
        match ask(buffer) {
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            answer => return answer,
        }
    }
    Err(Errno::RANGE)
}

fn xattrs_by(path: &[u8], source: &impl XattrSource) -> Xattrs {
    let mut problems = Vec::new();
    // Nearly always there are none or few.
    let mut names = vec![0; 512];
    let len = match whole_answer(&mut names, |into| source.list(into)) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => {
            problems.push(SourceError::at(path, LIST_XATTRS, error));
            0
        }
    };
    if len == 0 {
        return (Arc::clone(&NO_XATTRS), problems);
    }
    let mut xattrs = Vec::new();
    let mut value = vec![0; 1024];
    for name in names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match whole_answer(&mut value, |into| source.get(name, into)) {
            Ok(len) => xattrs.push(Xattr { name: name.into(), value: value[..len].into() }),
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => problems.push(SourceError::at(path, READ_XATTR, error)),
        }
    }
    xattrs.sort_unstable();
    (xattrs.into(), problems)
}
