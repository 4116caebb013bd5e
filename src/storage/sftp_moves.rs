//! Objects on another machine that change their names, and what is left of those that never got one.

use super::name::Folder;
use super::sftp::{AT_ONCE, SftpStorage};
use super::sftp_fault::Fault;
use super::sftp_owner::DeadOwner;
use super::sftp_pending::{cannot_sync, folder_not_synced};
use super::sftp_server::Held;
use super::temporary;
use super::{ObjectName, StorageError};

impl SftpStorage {
    /// Exchanges the names of two objects. At no time is either name without one of them: each
    /// object first gets a second name.
    pub(super) fn exchange(&self, one: ObjectName, other: ObjectName) -> Result<(), Fault> {
        let server = &self.server;
        let owner = self.ownership.begin();
        let aside = |name: ObjectName| server.path(name.folder(), &temporary::new_name_of(&owner));
        let (first, second) = (aside(other), aside(one));
        let folders = self.open_folders(one, other);
        let done = folders.and_then(|(a, b)| {
            // Each gets a second name beside the name that it is to have.
            let linking =
                (server.link(&self.at(one), &first)?, server.link(&self.at(other), &second)?);
            let linked = (server.done(linking.0), server.done(linking.1));
            linked.0.and(linked.1)?;
            // From here on both names always have one of the two.
            server.done(server.replace(&second, &self.at(one))?)?;
            server.done(a.sync()?).or_else(folder_not_synced)?;
            server.done(server.replace(&first, &self.at(other))?)?;
            server.done(b.sync()?).or_else(folder_not_synced)
        });
        let gone = |at: &str| match server.remove(at).and_then(|removing| server.done(removing)) {
            Ok(()) | Err(Fault::NotFound) => true,
            Err(_) => false,
        };
        self.ownership.end(gone(&first) & gone(&second));
        done
    }

    /// The folders of two objects, open to be synced.
    pub(super) fn open_folders(
        &self,
        one: ObjectName,
        other: ObjectName,
    ) -> Result<(Held, Held), Fault> {
        let open = |name: ObjectName| self.server.open(&self.server.folder(name.folder()));
        let (a, b) = (open(one)?, open(other)?);
        let (a, b) = (self.server.held(a), self.server.held(b));
        Ok((a.map_err(cannot_sync)?, b.map_err(cannot_sync)?))
    }

    /// Gives an object a name in the quarantine, and takes its own.
    pub(super) fn move_aside(&self, name: ObjectName, aside: ObjectName) -> Result<(), Fault> {
        let (from, to) = self.open_folders(name, aside)?;
        self.server.done(self.server.link(&self.at(name), &self.at(aside))?)?;
        // First where it is, then where it is not any more: at no moment it is in neither.
        self.server.done(to.sync()?).or_else(folder_not_synced)?;
        self.server.done(self.server.remove(&self.at(name))?)?;
        self.server.done(from.sync()?).or_else(folder_not_synced)
    }

    /// Removes what these writers left; returns how much it was.
    pub(super) fn sweep_behind(&self, dead: &[DeadOwner]) -> Result<u64, StorageError> {
        let mut folders: Vec<_> = [Folder::Top, Folder::Quarantine]
            .into_iter()
            .chain(Folder::all_below_top())
            .chain(Folder::all_of_parity())
            .collect();
        folders.sort_unstable();
        let failed = |fault: Fault| fault.during("sweep", self.place());
        let mut leftovers = Vec::new();
        self.names(&folders, &mut |folder, name| {
            let owner = temporary::owner(name);
            if owner.is_some_and(|owner| dead.iter().any(|dead| dead.id == owner)) {
                leftovers.push(self.server.path(folder, name));
            }
        })?;
        let mut swept = 0;
        for some in leftovers.chunks(AT_ONCE) {
            let removing: Vec<_> = some.iter().map(|at| self.server.remove(at)).collect();
            for removing in removing {
                match removing.and_then(|removing| self.server.done(removing)) {
                    Ok(()) => swept += 1,
                    Err(Fault::NotFound) => {}
                    Err(fault) => return Err(failed(fault)),
                }
            }
        }
        Ok(swept)
    }
}
