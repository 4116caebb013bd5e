//! What is found in a folder, sorted into objects and what is foreign; the same for a folder of
//! this machine and for one of another.

use std::io;
use std::time::SystemTime;

use rustix::fs::FileType;

use super::name::Folder;
use super::{
    Listing, ObjectKind, ObjectName, ObjectTimes, Storage, StorageError, StorageErrorKind,
};

/// Something that a folder holds.
pub(super) struct Item {
    /// Its name; bytes that are not UTF-8 are replaced, and no name of gabion's has any.
    pub(super) name: String,
    /// What it is; a link is a link, whatever it points to.
    pub(super) file_type: FileType,
    /// Length in bytes.
    pub(super) len: u64,
    /// When its content was last written.
    pub(super) modified: SystemTime,
}

impl Listing {
    /// Adds what the folder `folder` holds, which is one that objects of `kind` lie in.
    pub(super) fn add(
        &mut self,
        kind: ObjectKind,
        folder: Folder,
        items: Vec<Item>,
        times: &mut ObjectTimes,
    ) {
        for item in items {
            if item.file_type == FileType::Directory && folder.child(&item.name).is_some() {
                continue;
            }
            match ObjectName::from_file_name(kind, &item.name) {
                Some(name)
                    if name.folder() == folder && item.file_type == FileType::RegularFile =>
                {
                    self.objects.push((name, item.len));
                    if kind.is_snapshot() {
                        times.insert(name, item.modified);
                    }
                }
                _ => self.foreign.push(folder.path_of(&item.name)),
            }
        }
    }

    /// Adds what `folder`, which has fan-out folders, holds beside them; returns these.
    pub(super) fn add_beside_fans(&mut self, folder: Folder, items: Vec<Item>) -> Vec<Folder> {
        let mut fans = Vec::new();
        for item in items {
            match folder.child(&item.name) {
                Some(fan) if item.file_type == FileType::Directory => fans.push(fan),
                _ => self.foreign.push(folder.path_of(&item.name)),
            }
        }
        fans
    }

    /// The same listing in order.
    pub(super) fn sorted(mut self) -> Self {
        self.objects.sort_unstable();
        self.foreign.sort_unstable();
        self
    }
}

/// The error of a directory with more names than any gabion makes. Whoever holds the storage decides
/// how many there are, and each takes memory.
pub(super) fn too_many(limit: usize) -> io::Error {
    io::Error::other(format!("it holds more than {limit} names, which is not gabion's work"))
}

/// There is nothing here but folders of gabion's with nothing in them, or with the key slots of an
/// `init` that was interrupted before there was a config: nothing was ever stored then.
pub(super) fn is_unused(storage: &dyn Storage) -> Result<bool, StorageError> {
    let slots = [ObjectKind::Key, ObjectKind::KeyCopy];
    for kind in ObjectKind::ALL.into_iter().filter(|kind| !slots.contains(kind)) {
        let listing = match storage.list(kind) {
            Ok(listing) => listing,
            Err(error) if error.kind == StorageErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !listing.objects.is_empty() || !listing.foreign.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
