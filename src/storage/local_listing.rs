//! How a local repository lists its folders, and sweeps them of what was never finished.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::listing::Item;
use super::local::LocalStorage;
use super::local_folder as handle;
use super::name::Folder;
use super::{Listing, ObjectKind, ObjectTimes, Storage as _, StorageError};

/// The folders that were listed since the last sweep, and whether there was anything unfinished in
/// them. What its owner leaves behind after that is swept the next time: a sweep leaves alone what is
/// young in any case.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<BTreeMap<Folder, bool>>);

impl Leftovers {
    /// A folder was listed.
    pub(super) fn note(&self, folder: Folder, has_some: bool) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *listed.entry(folder).or_default() |= has_some;
    }

    /// The folders that were listed and held nothing unfinished. They are forgotten by this.
    pub(super) fn take_clean(&self) -> impl Fn(&Folder) -> bool + use<> {
        let listed = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        move |folder| listed.get(folder) == Some(&false)
    }
}

impl LocalStorage {
    /// See [`super::Storage::list_with_times`]; only snapshots have times.
    pub(super) fn list_all(
        &self,
        kind: ObjectKind,
    ) -> Result<(Listing, ObjectTimes), StorageError> {
        let (mut listing, mut times) = (Listing::default(), ObjectTimes::new());
        let limit = kind.max_names();
        let folder = kind.folder();
        if folder.has_fans() {
            // Opened before it is listed, and once: there are hundreds of folders in it.
            let parent = self.folder_afresh(folder).ok();
            for fan in listing.add_beside_fans(folder, self.items(folder, None, limit)?) {
                let items = self.items(fan, parent.as_deref(), limit)?;
                listing.add(kind, fan, items, &mut times);
            }
        } else {
            listing.add(kind, folder, self.items(folder, None, limit)?, &mut times);
        }
        Ok((listing.sorted(), times))
    }

    /// What `folder` holds; `parent` is a new handle of what it lies in, where there is one.
    fn items(
        &self,
        folder: Folder,
        parent: Option<&File>,
        limit: usize,
    ) -> Result<Vec<Item>, StorageError> {
        // Not through a kept handle: that of a folder which was removed lists as empty, and "there
        // are no snapshots" must never be said by mistake.
        let listed = match (folder.place(), parent) {
            (None, _) => handle::listed_apart(&self.top),
            (Some((_, name)), Some(parent)) => handle::open_listing(parent, &name),
            (Some((above, name)), None) => {
                self.folder_afresh(above).and_then(|parent| handle::open_listing(&parent, &name))
            }
        };
        match listed.and_then(|listed| handle::items(listed, limit)) {
            // The top always holds something, unless it was removed.
            Ok((items, _)) if items.is_empty() && folder == Folder::Top => self.verify_place(),
            Ok((items, has_unfinished)) => {
                self.leftovers.note(folder, has_unfinished);
                return Ok(items);
            }
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && folder.may_be_absent()
                    && folder.place().is_some_and(|(parent, _)| self.has(parent)) =>
            {
                // Folders are also missing when the whole repository was removed.
                self.verify_place()
            }
            Err(error) => Err(StorageError::from_io("list", self.label(folder), error)),
        }?;
        Ok(Vec::new())
    }

    /// The folder is there, or may be absent.
    fn has(&self, folder: Folder) -> bool {
        folder.may_be_absent() || self.folder_afresh(folder).is_ok()
    }

    /// See [`super::Storage::sweep_abandoned`].
    pub(super) fn sweep(&self) -> Result<u64, StorageError> {
        let mut swept = 0;
        let mut folders: Vec<_> =
            std::iter::once(Folder::Top).chain(Folder::all_below_top()).collect();
        folders.push(Folder::Quarantine);
        if self.folder_afresh(Folder::Parity).is_ok() {
            folders.extend(Folder::all_of_parity());
        }
        let is_clean = self.leftovers.take_clean();
        folders.retain(|folder| !is_clean(folder));
        for folder in folders {
            let failed = |error| StorageError::from_io("sweep", self.label(folder), error);
            match self.folder_afresh(folder) {
                Ok(handle) => swept += handle::sweep(&handle).map_err(failed)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(swept)
    }
}
