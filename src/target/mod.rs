//! The writing side of a restore: makes, fills, compares and finishes entries below one folder.
//!
//! It knows nothing of repositories and trusts no path: everything is found from the handle of the
//! target folder, no symbolic link is followed on the way or at its end, and nothing that exists
//! is opened for writing. Whatever a hostile snapshot holds, nothing outside the target changes.
//!
//! A restore makes folders first ([`TargetFolder::make_folder`]), then files, then links and
//! special files, and finishes the folders last, deepest first
//! ([`TargetFolder::finish_folder`]): until then they are open to their maker only.

mod acl;
mod apply;
mod compare;
mod error;
mod existing;
mod file;
mod list;
mod node;
mod owner;
mod places;
mod remove;
mod resolve;
mod special;
mod staged;

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, mkdirat, statat};
use rustix::io::{Errno, retry_on_intr};

pub use apply::{Applied, MetadataPolicy};
pub use compare::Difference;
pub use error::{TargetError, TargetErrorKind};
pub use existing::Existing;
pub use file::TargetFile;
pub use owner::OwnerPolicy;
pub use places::{FileId, Mount, identities};
pub use staged::Put;

use crate::format::entry::{EntryKind, Metadata};
use crate::format::path;
use apply::{Before, apply};
use existing::{kind_at_target, kind_of, mode_of};
use node::{Node, pin, with_node};
use owner::OwnerNumbers;
use resolve::{Parent, Resolver};
use staged::Staging;

/// Nobody but the maker sees what is not finished.
const FOLDER_MODE: Mode = Mode::RWXU;

/// A folder that entries are restored into. All paths are relative to it, as in an entry.
#[derive(Debug)]
pub struct TargetFolder {
    /// Where it was when it was opened; for messages.
    place: PathBuf,
    resolver: Resolver,
    owners: Arc<OwnerNumbers>,
    staging: Staging,
}

impl TargetFolder {
    /// Opens an existing folder; links in `folder` itself are followed, because the user named
    /// them.
    ///
    /// # Errors
    /// When it is not there, is no folder, or may not be used.
    pub fn open(folder: &Path) -> Result<Self, TargetError> {
        let failed = |error| TargetError::new(folder.to_owned(), "open the target", error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(folder, flags, Mode::empty()))
            .map_err(|error| failed(error.into()))?;
        let place = folder.canonicalize().map_err(failed)?;
        Ok(Self::at_handle(place, Resolver::new(root)))
    }

    /// Like [`Self::open`]; makes the folder, and those above it, when they are missing.
    ///
    /// # Errors
    /// When it cannot be made or used.
    pub fn create_or_open(folder: &Path) -> Result<Self, TargetError> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE.as_raw_mode())
            .create(folder)
            .map_err(|error| TargetError::new(folder.to_owned(), "make the target", error))?;
        Self::open(folder)
    }

    fn at_handle(place: PathBuf, resolver: Resolver) -> Self {
        Self { place, resolver, owners: Arc::default(), staging: Staging::default() }
    }

    /// Where it was when it was opened, without links.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn is_empty(&self) -> Result<bool, TargetError> {
        let failed = |error: Errno| TargetError::new(self.place.clone(), "list", error.into());
        let items = retry_on_intr(|| Dir::read_from(self.resolver.root())).map_err(failed)?;
        for item in items {
            if !matches!(item.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes everything that was written to the file system of the target durable.
    ///
    /// # Errors
    /// When some of it could not be written.
    pub fn sync(&self) -> Result<(), TargetError> {
        #[cfg(target_os = "linux")]
        let synced = rustix::fs::syncfs(self.resolver.root());
        #[cfg(not(target_os = "linux"))]
        let synced = rustix::fs::fsync(self.resolver.root());
        synced.map_err(|error| TargetError::new(self.place.clone(), "sync", error.into()))
    }

    /// Makes a folder that only its maker can enter until [`Self::finish_folder`]; says whether it
    /// is new. One that exists is made usable for its owner.
    ///
    /// # Errors
    /// [`TargetErrorKind::NotAFolder`] when something else is there; whatever prevents it.
    pub fn make_folder(&self, path: &[u8]) -> Result<bool, TargetError> {
        self.within(path, "make the folder", |parent, name| {
            match mkdirat(parent, name, FOLDER_MODE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => open_up(parent, name).map(|()| false),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Gives a folder its metadata, once nothing more is put into it.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn finish_folder(
        &self,
        path: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        const ACTION: &str = "finish the folder";
        self.check(path, ACTION)?;
        let finished = self.resolver.in_folder(path, |folder| {
            let (node, stat) = (folder.node(), rustix::fs::fstat(folder)?);
            if stat.st_nlink == 0 {
                // An old handle of a folder that was removed since.
                return Err(Errno::NOENT.into());
            }
            Ok(apply(&node, &stat, meta, policy, &self.owners, Before::Anything))
        });
        finished.map_err(|error| TargetError::new(self.full(path), ACTION, error))
    }

    /// Gives the target itself the metadata of a folder, once nothing more is put into it.
    ///
    /// # Errors
    /// When it cannot be opened any more.
    pub fn finish_top(
        &self,
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        with_node(self.resolver.root(), b".", EntryKind::Directory, |node, stat| {
            Ok(apply(node, stat, meta, policy, &self.owners, Before::Anything))
        })
        .map_err(|error| TargetError::new(self.place.clone(), "finish the folder", error))
    }

    /// Gives what is at `path` already, and has the right content, its metadata.
    ///
    /// # Errors
    /// When nothing, or something of another kind, is there.
    pub fn set_metadata(
        &self,
        path: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        let kind = kind_at_target(meta.kind);
        self.within(path, "set the metadata of", |parent, name| {
            // Asked before opening: to open a device may set something off.
            if kind_of(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)? != kind {
                return Err(io::Error::other("it is of another kind"));
            }
            with_node(parent, name, kind, |node, stat| {
                Ok(apply(node, stat, meta, policy, &self.owners, Before::Anything))
            })
        })
    }

    /// What is at `path`, if anything is.
    ///
    /// # Errors
    /// When it cannot be found out; when something on the way is a link or no folder.
    pub fn existing(&self, path: &[u8]) -> Result<Option<Existing>, TargetError> {
        let found = self.within(path, "look at", |parent, name| {
            Existing::of(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
        });
        match found {
            Ok(existing) => Ok(Some(existing)),
            Err(error) if error.kind == TargetErrorKind::Vanished => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a file, a link or a whole tree; links in it are removed and never followed. Says
    /// whether there was anything. Stops at folders that other file systems are mounted on.
    ///
    /// # Errors
    /// When some of it cannot be removed; the error names it, and the rest may be gone.
    pub fn remove(&self, path: &[u8]) -> Result<bool, TargetError> {
        const ACTION: &str = "remove";
        self.check(path, ACTION)?;
        let removed =
            self.resolver.within(path, |parent, name| remove::remove(&self.resolver, parent, name));
        match removed {
            Ok(Ok(())) => Ok(true),
            Ok(Err((below, error))) => {
                let full = [path::parent(path), &below].join(&b'/');
                let full = full.strip_prefix(b"/").unwrap_or(&full);
                Err(TargetError::new(self.full(full), ACTION, error))
            }
            Err(error) => match TargetError::new(self.full(path), ACTION, error) {
                error if error.kind == TargetErrorKind::Vanished => Ok(false),
                error => Err(error),
            },
        }
    }

    /// `path` with the target in front, for messages only.
    pub fn path_of(&self, path: &[u8]) -> PathBuf {
        self.full(path)
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        // Joined by hand: a path that begins with a slash would replace the target.
        let mut full = self.place.clone().into_os_string();
        full.push("/");
        full.push(OsStr::from_bytes(path));
        full.into()
    }

    fn check(&self, path: &[u8], action: &'static str) -> Result<(), TargetError> {
        match path::problem(path) {
            None => Ok(()),
            Some(problem) => Err(TargetError::unsafe_path(self.full(path), action, problem)),
        }
    }

    /// Does `work` in the folder that holds `path`, with the last component of `path`; it may be
    /// done twice when something is missing.
    fn within<T>(
        &self,
        path: &[u8],
        action: &'static str,
        work: impl Fn(&Parent, &[u8]) -> io::Result<T>,
    ) -> Result<T, TargetError> {
        self.check(path, action)?;
        self.resolver
            .within(path, work)
            .map_err(|error| TargetError::new(self.full(path), action, error))
    }
}

/// Lets the owner of the folder `name`, which an earlier restore may have finished, fill it.
fn open_up(parent: &Parent, name: &[u8]) -> io::Result<()> {
    let folder: OwnedFd = pin(parent, name)?;
    let stat = rustix::fs::fstat(&folder)?;
    if kind_of(&stat)? != EntryKind::Directory {
        return Err(Errno::NOTDIR.into());
    }
    let mode = mode_of(&stat);
    let user = rustix::process::geteuid();
    if mode & 0o700 != 0o700 && !user.is_root() && stat.st_uid == user.as_raw() {
        Node::Pinned(folder.as_fd()).chmod(mode | 0o700)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
