//! Where things lie: identities of files, mounts, and the removal of single items.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, statat, unlinkat};
use rustix::io::retry_on_intr;

use super::existing::Existing;
use super::resolve::HANDLE;
use super::{TargetError, TargetFolder};
use crate::format::path;

/// Most symbolic links that are followed on the way to one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// Most directories above a target that are looked at.
const MAX_DEPTH: usize = 4096;

/// Device and inode number: what a file is on a running system, whatever path leads to it.
pub type FileId = (u64, u64);

/// A mounted file system, or one of several mounts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    device: u64,
    /// Tells bind mounts of one file system apart; 0 where the kernel does not know.
    number: u64,
}

/// The identities of what is at `path` and of every symbolic link on the way to it. Nothing for a
/// path that leads nowhere.
pub fn identities(path: &Path) -> Vec<FileId> {
    let Ok(absolute) = std::path::absolute(path) else { return Vec::new() };
    let mut found = Vec::new();
    let (mut reached, mut links) = (PathBuf::from("/"), 0);
    let mut rest: Vec<PathBuf> = components(&absolute);
    while let Some(next) = rest.pop() {
        if next.as_os_str() == ".." {
            reached.pop();
            continue;
        }
        let here = reached.join(&next);
        let Ok(about) = here.symlink_metadata() else { return found };
        let id = (about.dev(), about.ino());
        if about.is_symlink() {
            found.push(id);
            links += 1;
            let Ok(to) = here.read_link() else { return found };
            if links > MAX_LINKS {
                return found;
            }
            if to.is_absolute() {
                reached = PathBuf::from("/");
            }
            rest.extend(components(&to));
            continue;
        }
        reached = here;
        if rest.is_empty() {
            found.push(id);
        }
    }
    found
}

/// The components of a path, the last one first.
fn components(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    });
    let mut names: Vec<PathBuf> = names.collect();
    names.reverse();
    names
}

impl Existing {
    /// Device and inode number.
    pub fn id(&self) -> FileId {
        (self.filesystem, self.inode)
    }
}

impl TargetFolder {
    /// Whether the target is one of `ids` or lies below one of them, by whatever path.
    ///
    /// # Errors
    /// When a directory above the target cannot be opened.
    pub fn lies_in(&self, ids: &HashSet<FileId>) -> Result<bool, TargetError> {
        let failed = |error| TargetError::new(self.place.clone(), "find the parents of", error);
        lies_in(self.resolver.root().as_fd(), ids).map_err(failed)
    }

    /// The target itself.
    ///
    /// # Errors
    /// When it cannot be looked at any more.
    pub fn about(&self) -> Result<Existing, TargetError> {
        let about = fstat(self.resolver.root()).map_err(io::Error::from);
        about
            .and_then(|stat| Existing::of(&stat))
            .map_err(|error| TargetError::new(self.place.clone(), "look at", error))
    }

    /// Whether the directory at `folder` (empty: the target itself) takes names for one that
    /// differ only in upper and lower case, and such that differ only in Unicode normal form. A
    /// file is made there for a moment to find out.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn folds(&self, folder: &[u8]) -> Result<(bool, bool), TargetError> {
        let staged = self.stage(&[folder, b"/x"].concat()[usize::from(folder.is_empty())..]);
        let (name, digits) = (path::name(&staged).to_vec(), path::name(&staged).len());
        let composed = [&name[..], "\u{e9}".as_bytes()].concat();
        let decomposed = [&name[..], "e\u{301}".as_bytes()].concat();
        let mut upper = composed.clone();
        upper[..digits].make_ascii_uppercase();
        let folds = self.resolver.in_folder(folder, |parent| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(openat(parent, &composed, flags, Mode::RUSR | Mode::WUSR)?);
            let there = |name: &[u8]| statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            let folds = (there(&upper), there(&decomposed));
            unlinkat(parent, &composed, AtFlags::empty())?;
            Ok(folds)
        });
        self.discard(&staged);
        folds.map_err(|error| TargetError::new(self.full(folder), "write to", error))
    }

    /// Which mount the directory at `folder` (empty: the target itself) belongs to.
    ///
    /// # Errors
    /// When it is not a directory, or cannot be reached.
    pub fn mount_of(&self, folder: &[u8]) -> Result<Mount, TargetError> {
        if !folder.is_empty() {
            self.check(folder, "look at")?;
        }
        self.resolver
            .in_folder(folder, |parent| mount_of(parent.as_fd()))
            .map_err(|error| TargetError::new(self.full(folder), "look at", error))
    }

    /// Removes what is at `path` and is not a directory.
    ///
    /// # Errors
    /// When nothing, or a directory, is there; whatever prevents it.
    pub fn remove_item(&self, path: &[u8]) -> Result<(), TargetError> {
        self.within(path, "remove", |parent, name| Ok(unlinkat(parent, name, AtFlags::empty())?))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it is not empty, or not a directory; whatever prevents it.
    pub fn remove_folder(&self, path: &[u8]) -> Result<(), TargetError> {
        self.within(path, "remove", |parent, name| Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?))
    }
}

fn lies_in(top: BorrowedFd<'_>, ids: &HashSet<FileId>) -> io::Result<bool> {
    let flags = HANDLE | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let id = |stat| Existing::of(&stat).map(|existing| existing.id());
    let mut current = retry_on_intr(|| openat(top, ".", flags, Mode::empty()))?;
    let mut own = id(fstat(&current)?)?;
    for _ in 0..MAX_DEPTH {
        if ids.contains(&own) {
            return Ok(true);
        }
        current = retry_on_intr(|| openat(&current, "..", flags, Mode::empty()))?;
        let above = id(fstat(&current)?)?;
        if above == own {
            return Ok(false);
        }
        own = above;
    }
    Err(io::Error::other("too many directories above it"))
}

#[cfg(target_os = "linux")]
fn mount_of(folder: BorrowedFd<'_>) -> io::Result<Mount> {
    use rustix::fs::{StatxFlags, statx};
    use rustix::io::Errno;
    let device = Existing::of(&fstat(folder)?)?.filesystem;
    let number = match statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
        Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => found.stx_mnt_id,
        Ok(_) | Err(Errno::NOSYS | Errno::PERM) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(Mount { device, number })
}

#[cfg(not(target_os = "linux"))]
fn mount_of(folder: BorrowedFd<'_>) -> io::Result<Mount> {
    Ok(Mount { device: Existing::of(&fstat(folder)?)?.filesystem, number: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_to_a_path_belong_to_it() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        std::fs::create_dir_all(at("real/repo")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::os::unix::fs::symlink(at("link/../link"), at("far")).unwrap();
        let id = |name: &str| {
            let about = at(name).symlink_metadata().unwrap();
            (about.dev(), about.ino())
        };
        let own: Vec<FileId> = identities(&at("far/repo"))
            .into_iter()
            .filter(|found| [id("far"), id("link"), id("real/repo")].contains(found))
            .collect();
        assert_eq!(own, [id("far"), id("link"), id("link"), id("real/repo")]);
        assert!(!identities(&at("far/repo")).contains(&id("real")));
        assert!(!identities(&at("real/nothing")).contains(&id("real")));
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        assert!(identities(&at("loop/x")).contains(&id("loop")));
    }
}
