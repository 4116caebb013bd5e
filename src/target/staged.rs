//! Replaces items in one step: the new item is made under a temporary name in the same directory
//! and renamed when it is complete. A full disk, a kill or a failure in between costs nothing that
//! was there.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
#[cfg(target_os = "linux")]
use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::existing::kind_of;
use super::remove;
use super::resolve::{Parent, Resolver};
use super::{FOLDER_MODE, TargetError, TargetFolder};
use crate::format::entry::EntryKind;
use crate::format::path;
use crate::id::fill_random;

/// How the temporary names begin. A later restore removes what bears such a name.
const PREFIX: &[u8] = b".gabion-restore-";
/// Hexadecimal digits after that.
const DIGITS: usize = 24;

/// How an item gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is made under its own name. Nothing is in its place, and nothing is lost when it is
    /// incomplete.
    Fresh,
    /// It gets its name when it is complete, unless something has that name.
    New,
    /// It gets its name when it is complete. What had that name is gone then, unless it is a
    /// directory.
    Replace,
    /// As [`Self::Replace`]; a directory in its place is removed with all that is in it.
    ReplaceTree,
}

/// Makes temporary names and remembers those that are in use.
#[derive(Debug)]
pub(super) struct Staging {
    /// Differs from one restore to the next.
    nonce: u64,
    next: AtomicU64,
    in_use: Mutex<BTreeSet<Box<[u8]>>>,
}

impl Default for Staging {
    fn default() -> Self {
        let mut nonce = [0; 8];
        fill_random(&mut nonce);
        Self { nonce: u64::from_le_bytes(nonce), next: AtomicU64::new(0), in_use: Mutex::default() }
    }
}

impl Staging {
    fn name(&self) -> Vec<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let digits = format!("{:016x}{:08x}", self.nonce, number & 0xffff_ffff);
        [PREFIX, digits.as_bytes()].concat()
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeSet<Box<[u8]>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetFolder {
    /// Whether this name is a temporary one of this restore.
    pub fn is_own_staged(&self, name: &[u8]) -> bool {
        let own = format!("{:016x}", self.staging.nonce);
        is_staged(name) && name[PREFIX.len()..].starts_with(own.as_bytes())
    }
}

/// Whether a restore gave this name to an item that it had not completed.
pub(super) fn is_staged(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        rest.len() == DIGITS && rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

impl TargetFolder {
    /// Has `make` make an item, and gives it the name `path`. `make` gets the path to make it at.
    /// What was at `path` stays as it was until the item is complete.
    ///
    /// # Errors
    /// What `make` fails with; [`Exists`](super::TargetErrorKind::Exists) when something is in its place that
    /// `put` does not replace. Nothing is left of the item then.
    pub fn put<T>(
        &self,
        path: &[u8],
        put: Put,
        make: impl FnOnce(&[u8]) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        if put == Put::Fresh {
            return make(path);
        }
        self.check(path, "make")?;
        let staged = self.stage(path);
        let made = make(&staged).map_err(|error| TargetError { path: self.full(path), ..error });
        match made {
            Ok(made) => self.commit(&staged, path, put).map(|()| made),
            Err(error) => {
                self.discard(&staged);
                Err(error)
            }
        }
    }

    /// A temporary path beside `path`, for [`Self::commit`] or [`Self::discard`]. What is there
    /// when the target is dropped is removed.
    pub fn stage(&self, path: &[u8]) -> Box<[u8]> {
        let (folder, name) = (path::parent(path), self.staging.name());
        let staged: Box<[u8]> = match folder.is_empty() {
            true => name.into(),
            false => [folder, &name].join(&b'/').into(),
        };
        self.staging.in_use().insert(staged.clone());
        staged
    }

    /// Renames the complete item at `staged` to `path`, which lies in the same directory.
    ///
    /// # Errors
    /// As [`Self::put`]. The item at `staged` is removed then.
    pub fn commit(&self, staged: &[u8], path: &[u8], put: Put) -> Result<(), TargetError> {
        let from = path::name(staged);
        let renamed = self.within(path, "replace", |parent, name| match put {
            Put::Fresh | Put::New => rename_new(parent, from, name),
            Put::Replace => rename_over(parent, from, name),
            Put::ReplaceTree => match rename_over(parent, from, name) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {
                    replace_tree(&self.resolver, parent, from, name)
                }
                renamed => renamed,
            },
        });
        match renamed {
            Ok(()) => {
                self.staging.in_use().remove(staged);
                Ok(())
            }
            Err(error) => {
                self.discard(staged);
                Err(error)
            }
        }
    }

    /// Removes the incomplete item at `staged`.
    pub fn discard(&self, staged: &[u8]) {
        // Gone already, or a later restore removes it.
        let _ = self
            .within(staged, "remove", |parent, name| Ok(unlinkat(parent, name, AtFlags::empty())?));
        self.staging.in_use().remove(staged);
    }

    /// Makes a directory in the place of something else, which is gone then.
    ///
    /// # Errors
    /// When a directory is there already; whatever prevents it.
    pub fn replace_by_folder(&self, path: &[u8]) -> Result<(), TargetError> {
        let staged = self.staging.name();
        self.within(path, "make the folder", |parent, name| {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if kind_of(&stat)? == EntryKind::Directory {
                return Err(Errno::EXIST.into());
            }
            mkdirat(parent, &staged, FOLDER_MODE)?;
            let made = match exchange(parent, &staged, name) {
                Ok(true) => return Ok(unlinkat(parent, &staged, AtFlags::empty())?),
                Ok(false) => unlinkat(parent, name, AtFlags::empty())
                    .and_then(|()| renameat(parent, &staged, parent, name)),
                Err(error) => Err(error),
            };
            if made.is_err() {
                unlinkat(parent, &staged, AtFlags::REMOVEDIR).ok();
            }
            Ok(made?)
        })
    }

    /// Removes what an interrupted restore left in the directory at `folder` (empty: the target
    /// itself): items under temporary names that this restore does not use.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn clean(&self, folder: &[u8]) -> Result<(), TargetError> {
        for name in self.children(folder)? {
            if !is_staged(&name) || self.is_own_staged(&name) {
                continue;
            }
            let left = if folder.is_empty() { name } else { [folder, &name].join(&b'/').into() };
            // A directory is never unlinked.
            let _ = self.within(&left, "remove", |parent, name| {
                Ok(unlinkat(parent, name, AtFlags::empty())?)
            });
        }
        Ok(())
    }
}

impl Drop for TargetFolder {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.staging.in_use());
        left.iter().for_each(|staged| self.discard(staged));
    }
}

/// Gives a name that is not taken.
fn rename_new(parent: &Parent, from: &[u8], name: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match renameat_with(parent, from, parent, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return Ok(renamed?),
    }
    // This file system cannot do it in one step: the name is taken first.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    let renamed = renameat(parent, from, parent, name);
    if renamed.is_err() {
        unlinkat(parent, name, AtFlags::empty()).ok();
    }
    Ok(renamed?)
}

fn rename_over(parent: &Parent, from: &[u8], name: &[u8]) -> io::Result<()> {
    match renameat(parent, from, parent, name) {
        // Two names of one file: nothing was renamed.
        Ok(()) => match unlinkat(parent, from, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        // A directory has this name.
        Err(Errno::ISDIR) => Err(Errno::EXIST.into()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the tree at `name` after the new item took its place.
fn replace_tree(resolver: &Resolver, parent: &Parent, from: &[u8], name: &[u8]) -> io::Result<()> {
    let gone = if exchange(parent, from, name)? { from } else { name };
    let removed = remove::remove(resolver, parent, gone)?.map_err(|(_, error)| error);
    if let Err(error) = removed {
        // What is left of the tree goes back to its place.
        if gone == from {
            exchange(parent, from, name)?;
        }
        return Err(error);
    }
    if gone == name { rename_new(parent, from, name) } else { Ok(()) }
}

/// Exchanges two items in one step; says whether the file system can do that.
#[cfg(target_os = "linux")]
fn exchange(parent: &Parent, one: &[u8], other: &[u8]) -> Result<bool, Errno> {
    match renameat_with(parent, one, parent, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Parent, _: &[u8], _: &[u8]) -> Result<bool, Errno> {
    Ok(false)
}
