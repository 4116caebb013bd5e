//! Removes whole trees without following a link, without recursion, and in bounded memory per
//! level.

use std::io;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::existing::mode_of;
use super::node::{Node, pin};
use super::resolve::{Parent, Resolver};

/// How many folders of one folder are remembered at a time.
const BATCH: usize = 1000;

/// What an owner needs to empty a folder.
const EMPTYING: u16 = 0o700;

/// Removes what is at `name` of `parent`. On failure after the first look, the path of what
/// resisted, relative to `parent`, comes with the error.
///
/// # Errors
/// When there is nothing.
pub(super) fn remove(
    resolver: &Resolver,
    parent: &Parent,
    name: &[u8],
) -> io::Result<Result<(), (Vec<u8>, io::Error)>> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(
            unlinkat(parent, name, AtFlags::empty()).map_err(|error| (name.to_vec(), error.into()))
        );
    }
    let mut removal = Removal { resolver, levels: Vec::new(), resisting: None };
    Ok(removal.run(parent, name).map_err(|error| (removal.path(), error)))
}

struct Removal<'a> {
    resolver: &'a Resolver,
    /// The folders from the top of the tree to the one that is being emptied.
    levels: Vec<Level>,
    /// Name of what could not be removed from the last of them.
    resisting: Option<Vec<u8>>,
}

struct Level {
    name: Vec<u8>,
    identity: (u64, u64),
    /// Folders in it that are known and still there.
    folders: Vec<Vec<u8>>,
}

impl Removal<'_> {
    fn run(&mut self, parent: &Parent, name: &[u8]) -> io::Result<()> {
        let mut current = self.enter(parent.as_fd(), name)?;
        while let Some(level) = self.levels.last_mut() {
            if let Some(folder) = level.folders.pop() {
                current = self.enter(current.as_fd(), &folder)?;
                continue;
            }
            if self.empty(&current)? {
                continue;
            }
            // Nothing is left in it.
            let Some(done) = self.levels.pop() else { break };
            let Some(above) = self.levels.last() else {
                self.resisting = Some(done.name);
                unlinkat(parent, name, AtFlags::REMOVEDIR)?;
                break;
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let up = retry_on_intr(|| openat(&current, "..", flags, Mode::empty()))?;
            // Had somebody moved the folder, its way up would lead out of the tree.
            if identity(&up)? != above.identity {
                return Err(io::Error::other("it was moved meanwhile"));
            }
            let removed = unlinkat(&up, &done.name[..], AtFlags::REMOVEDIR);
            if removed.is_err() {
                self.resisting = Some(done.name);
            }
            removed?;
            current = up;
        }
        Ok(())
    }

    /// Goes down into the folder `name` of `folder`.
    fn enter(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        self.resisting = Some(name.to_vec());
        let entered = match self.resolver.enter(folder, name) {
            Err(Errno::ACCESS) => {
                let pinned = pin(folder, name)?;
                Node::Pinned(pinned.as_fd()).chmod(EMPTYING)?;
                self.resolver.enter(folder, name)?
            }
            entered => entered?,
        };
        let mode = mode_of(&fstat(&entered)?);
        if mode & EMPTYING != EMPTYING && !rustix::process::geteuid().is_root() {
            fchmod(&entered, Mode::from_raw_mode((mode | EMPTYING).into())).ok();
        }
        let level = Level { name: name.to_vec(), identity: identity(&entered)?, folders: vec![] };
        self.levels.push(level);
        self.resisting = None;
        Ok(entered)
    }

    /// Removes what is no folder from the folder `current`, the last level, and notes some of the
    /// folders; says whether it found anything at all. It has to be asked until it finds nothing:
    /// a folder that shrinks while it is read may not show everything.
    fn empty(&mut self, current: &OwnedFd) -> io::Result<bool> {
        let mut found = false;
        let mut folders = Vec::new();
        for item in retry_on_intr(|| Dir::read_from(current))? {
            let item = item?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            found = true;
            let kind = match item.file_type() {
                FileType::Unknown => {
                    let stat = statat(current, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            if kind == FileType::Directory {
                folders.push(name.to_bytes().to_vec());
                if folders.len() == BATCH {
                    break;
                }
                continue;
            }
            match unlinkat(current, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    self.resisting = Some(name.to_bytes().to_vec());
                    return Err(error.into());
                }
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.folders = folders;
        }
        Ok(found)
    }

    /// Where it stands.
    fn path(&self) -> Vec<u8> {
        let names = self.levels.iter().map(|level| &level.name).chain(&self.resisting);
        names.map(Vec::as_slice).collect::<Vec<_>>().join(&b'/')
    }
}

#[allow(clippy::useless_conversion, reason = "the widths of these fields differ by system")]
fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(folder)?;
    Ok((u64::try_from(stat.st_dev).map_err(io::Error::other)?, stat.st_ino.into()))
}
