//! How the folders of a repository on another machine are made, and their names made durable.

use super::name::Folder;
use super::sftp::{AT_ONCE, SftpStorage};
use super::sftp_fault::Fault;
use super::sftp_pending::{cannot_sync, folder_not_synced};
use super::sftp_server::Held;
use super::{Storage as _, StorageError, StorageErrorKind};

impl SftpStorage {
    /// Makes the folder of the repository; false when it is there already.
    pub(super) fn make_top(&self) -> Result<bool, Fault> {
        let top = self.server.folder(Folder::Top);
        match self.server.done(self.server.make_folder(&top)?) {
            Ok(()) => Ok(true),
            Err(fault) if fault.is_vague() => match self.server.is_folder(Folder::Top) {
                Ok(true) => Ok(false),
                Ok(false) => Err(Fault::Known(StorageErrorKind::AlreadyExists)),
                Err(Fault::NotFound) => Err(self.server.explain(fault, self.server.above_top())),
                Err(other) => Err(other),
            },
            Err(fault) => Err(fault),
        }
    }

    /// Makes folders, each after the one that it lies in, and makes their names durable.
    pub(super) fn make_folders(&self, folders: Vec<Folder>) -> Result<(), Fault> {
        for some in folders.chunks(AT_ONCE) {
            let paths: Vec<String> =
                some.iter().map(|&folder| self.server.folder(folder)).collect();
            let making: Vec<_> = paths.iter().map(|at| self.server.make_folder(at)).collect();
            for (making, &folder) in making.into_iter().zip(some) {
                match self.server.done(making?) {
                    Err(fault) if fault.is_vague() => match self.server.is_folder(folder) {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(Fault::Strange("what should be a folder is none")),
                        Err(_) => Err(self.server.explain(fault, &self.server.folder(Folder::Top))),
                    },
                    made => made,
                }?;
            }
        }
        // All are made before the first is synced: on a journaling file system one sync then
        // settles nearly all of them.
        for some in folders.chunks(AT_ONCE) {
            let opening: Vec<_> =
                some.iter().map(|&folder| self.server.open(&self.server.folder(folder))).collect();
            let held: Result<Vec<Held>, Fault> =
                opening.into_iter().map(|opening| self.server.held(opening?)).collect();
            let held = held.map_err(cannot_sync)?;
            let syncing: Vec<_> = held.iter().map(Held::sync).collect();
            for syncing in syncing {
                self.server.done(syncing?).or_else(folder_not_synced)?;
            }
        }
        self.sync(&self.server.folder(Folder::Top))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync(&self, at: &str) -> Result<(), Fault> {
        let held = self.server.held(self.server.open(at)?).map_err(cannot_sync)?;
        self.server.done(held.sync()?).or_else(folder_not_synced)
    }

    /// Makes a folder that is missing and may be, and those that it lies in.
    pub(super) fn make_missing(&self, folder: Folder) -> Result<(), StorageError> {
        // Folders are also missing when the whole repository was removed, or its disk.
        self.verify_place()?;
        let mut missing = Vec::new();
        let mut next = Some(folder).filter(|folder| folder.may_be_absent());
        while let Some(folder) = next {
            missing.insert(0, folder);
            next = folder.place().map(|(above, _)| above).filter(|above| above.may_be_absent());
        }
        let above = missing.first().and_then(|first| first.place()).map(|(above, _)| above);
        let made = self.make_folders(missing).and_then(|()| match above {
            Some(above) => self.sync(&self.server.folder(above)),
            None => Err(Fault::NotFound),
        });
        made.map_err(|fault| fault.during("create", folder.path()))
    }
}
