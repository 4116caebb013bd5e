//! A repository in a folder of this machine. The folder is opened once; everything after that goes
//! through the handle, so that nothing is ever written to a path that means something else by now
//! (a mount point whose disk went away).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::listing::is_unused;
use super::local_folder as handle;
use super::local_group as group;
use super::local_listing::Leftovers;
use super::local_pending::{PendingFile, put_in_place};
use super::name::Folder;
use super::{
    Listing, ObjectKind, ObjectName, ObjectTimes, PendingObject, Storage, StorageError,
    StorageErrorKind,
};

/// A repository in a folder.
#[derive(Debug)]
pub struct LocalStorage {
    /// Where the folder was found; only ever asked whether it is still there.
    pub(super) path: PathBuf,
    pub(super) top: Arc<File>,
    /// Handles of the folders that were needed so far.
    folders: Mutex<BTreeMap<Folder, Arc<File>>>,
    pub(super) leftovers: Leftovers,
}

impl LocalStorage {
    /// Makes the folder of a new repository with all its sub-folders, durably. The folder that it
    /// lies in must exist (a missing one is more often a disk that is not mounted than a wish);
    /// it itself must not, or must be empty. What an interrupted creation left counts as empty.
    ///
    /// # Errors
    /// `AlreadyExists` when there is something at `path`; whatever else stands in the way.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let failed = |error: io::Error| StorageError::from_io("create", path.display(), error);
        let path = std::path::absolute(path).map_err(failed)?;
        let made = match rustix::fs::mkdir(&path, handle::FOLDER_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error.into())),
        };
        let storage = Self::hold(&path).map_err(failed)?;
        if !made && !is_unused(&storage)? {
            let kind = StorageErrorKind::AlreadyExists;
            return Err(StorageError::new("create", path.display(), kind));
        }
        storage.make_folders().map_err(failed)?;
        if let Some(parent) = path.parent().filter(|_| made) {
            // The name of the repository itself has to survive a power failure, too.
            File::open(parent).and_then(|parent| handle::sync_folder(&parent)).map_err(failed)?;
        }
        Ok(storage)
    }

    /// Opens the folder of a repository: one that holds a config, or at least the copy of one.
    ///
    /// # Errors
    /// `NotFound` when there is no repository at `path`; whatever else stands in the way.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error: io::Error| StorageError::from_io("open", path.display(), error);
        let path = std::path::absolute(path).map_err(failed)?;
        let storage = Self::hold(&path).map_err(failed)?;
        for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
            match storage.len(name) {
                Ok(_) => return Ok(storage),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::new("open", path.display(), StorageErrorKind::NotFound))
    }

    fn hold(path: &Path) -> io::Result<Self> {
        // The one time that a path is followed: links on the way to the repository are the user's.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        let top = Arc::new(File::from(top));
        let (folders, leftovers) = (Mutex::default(), Leftovers::default());
        Ok(Self { path: path.to_owned(), top, folders, leftovers })
    }

    fn make_folders(&self) -> io::Result<()> {
        for folder in Folder::all_below_top() {
            if let Some((parent, name)) = folder.place() {
                handle::make_folder(&*self.folder_afresh(parent)?, &name)?;
            }
        }
        // All are made before the first is synced: on a journaling file system one sync then
        // settles nearly all of them.
        for folder in Folder::all_below_top() {
            handle::sync_folder(&*self.folder_afresh(folder)?)?;
        }
        handle::sync_folder(&self.top)
    }

    /// A new handle of a folder, found from the top.
    pub(super) fn folder_afresh(&self, folder: Folder) -> io::Result<Arc<File>> {
        let Some((parent, name)) = folder.place() else { return Ok(Arc::clone(&self.top)) };
        Ok(Arc::new(handle::open_folder(&*self.folder_afresh(parent)?, &name)?))
    }

    /// The handle of a folder, kept for the next time.
    pub(super) fn folder(&self, folder: Folder) -> io::Result<Arc<File>> {
        let Some((parent, name)) = folder.place() else { return Ok(Arc::clone(&self.top)) };
        let cached = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cached().get(&folder) {
            return Ok(Arc::clone(found));
        }
        let opened = Arc::new(handle::open_folder(&*self.folder(parent)?, &name)?);
        cached().insert(folder, Arc::clone(&opened));
        Ok(opened)
    }

    /// The handle of a folder that is made if it is missing and may be.
    fn folder_to_fill(&self, folder: Folder) -> io::Result<Arc<File>> {
        match (self.folder(folder), folder.place()) {
            (Err(error), Some((parent, name)))
                if error.kind() == io::ErrorKind::NotFound && folder.may_be_absent() =>
            {
                let parent = self.folder_to_fill(parent)?;
                handle::make_folder(&parent, &name)?;
                handle::sync_folder(&parent)?;
                self.folder(folder)
            }
            (other, _) => other,
        }
    }

    fn open_object(
        &self,
        operation: &'static str,
        name: ObjectName,
    ) -> Result<(File, u64), StorageError> {
        self.folder(name.folder())
            .and_then(|folder| handle::open_object(&folder, &name.file_name()))
            .map_err(|error| StorageError::from_io(operation, name, error))
    }

    pub(super) fn label(&self, folder: Folder) -> String {
        match folder {
            Folder::Top => self.path.display().to_string(),
            _ => folder.path(),
        }
    }
}

/// Network file systems do not know how to exchange two files.
fn not_exchanged(error: Errno) -> io::Error {
    match error {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => io::Error::new(
            io::ErrorKind::Unsupported,
            "this file system cannot exchange two files; repair on the machine that has the disk",
        ),
        error => error.into(),
    }
}

impl Storage for LocalStorage {
    fn create(
        &self,
        name: ObjectName,
        expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        let folder = self
            .folder_to_fill(name.folder())
            .map_err(|error| StorageError::from_io("create", name, error))?;
        Ok(Box::new(PendingFile::begin(folder, name, expected_len)?))
    }

    fn publish_all(
        &self,
        objects: Vec<Box<dyn PendingObject>>,
        beside: &mut [Box<dyn PendingObject>],
    ) -> Vec<Result<(), StorageError>> {
        group::publish_all(objects, beside)
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        let (file, len) = self.open_object("read", name)?;
        if len > limit {
            return Err(StorageError::new("read", name, StorageErrorKind::TooLong));
        }
        let failed = |error: io::Error| StorageError::from_io("read", name, error);
        let len = usize::try_from(len).map_err(|error| failed(io::Error::other(error)))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|error| failed(io::Error::other(error)))?;
        bytes.resize(len, 0);
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(bytes)
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let (file, len) = self.open_object("read", name)?;
        let end = u64::try_from(buffer.len()).ok().and_then(|wanted| offset.checked_add(wanted));
        if end.is_none_or(|end| end > len) {
            return Err(StorageError::new("read", name, StorageErrorKind::Truncated));
        }
        file.read_exact_at(buffer, offset)
            .map_err(|error| StorageError::from_io("read", name, error))
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.folder(name.folder())
            .and_then(|folder| handle::object_len(&folder, &name.file_name()))
            .map_err(|error| StorageError::from_io("measure", name, error))
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.folder(name.folder())
            .and_then(|folder| handle::object_modified(&folder, &name.file_name()))
            .map_err(|error| StorageError::from_io("measure", name, error))
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        Ok(self.list_all(kind)?.0)
    }

    fn list_with_times(&self, kind: ObjectKind) -> Result<(Listing, ObjectTimes), StorageError> {
        self.list_all(kind)
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.delete_together(&[name])
    }

    fn delete_all(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        self.delete_together(names)
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        let swapped = || {
            let (a, b) = (self.folder(one.folder())?, self.folder(other.folder())?);
            let (from, to) = (one.file_name(), other.file_name());
            // Both must be there, so an object that somebody deletes meanwhile does not come back.
            rustix::fs::renameat_with(&*a, from, &*b, to, RenameFlags::EXCHANGE)
                .map_err(not_exchanged)?;
            handle::sync_folder(&a)?;
            handle::sync_folder(&b)
        };
        swapped().map_err(|error: io::Error| StorageError::from_io("exchange", one, error))
    }

    fn set_aside(&self, name: ObjectName) -> Result<ObjectName, StorageError> {
        let aside = ObjectName::quarantine(crate::id::SessionId::random().0);
        let moved = || {
            let (from, to) = (self.folder(name.folder())?, self.folder_to_fill(aside.folder())?);
            put_in_place(&from, &name.file_name(), &to, &aside.file_name())?;
            // First where it is, then where it is not any more: at no moment it is in neither.
            handle::sync_folder(&to)?;
            handle::sync_folder(&from)
        };
        moved().map_err(|error: io::Error| StorageError::from_io("set aside", name, error))?;
        Ok(aside)
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        let lost = |source| StorageError {
            operation: "find",
            object: self.path.display().to_string(),
            kind: StorageErrorKind::PlaceLost,
            source,
        };
        let held = self.top.metadata().map_err(|error| lost(Some(error)))?;
        let found = std::fs::metadata(&self.path).map_err(|error| lost(Some(error)))?;
        // The held handle keeps its inode from being given to another folder, so equal numbers
        // also say that the folder is not one that was removed.
        if (held.dev(), held.ino()) == (found.dev(), found.ino()) {
            Ok(())
        } else {
            Err(lost(None))
        }
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        self.sweep()
    }
}
