//! Lists of what lies on a server over SFTP, many folders at once.

use std::os::unix::ffi::OsStrExt as _;

use openssh_sftp_client_lowlevel::NameEntry;

use super::listing::{Item, too_many};
use super::name::{Folder, MAX_NAMES};
use super::sftp::SftpStorage;
use super::sftp_fault::Fault;
use super::sftp_server::{Facts, Held};
use super::temporary::is_temporary;
use super::{Listing, ObjectKind, ObjectTimes, Storage as _, StorageError};

/// Longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// Folders that are open at once.
const OPEN_AT_ONCE: usize = 128;

/// Requests for names that are under way at once for a folder. The last of them finds the end: of a
/// folder that was opened alone, which may hold some hundred names, and of one of many.
const AHEAD: [usize; 2] = [4, 2];

impl SftpStorage {
    /// All objects of a kind, and when snapshots were stored.
    pub(super) fn list_kind(
        &self,
        kind: ObjectKind,
    ) -> Result<(Listing, ObjectTimes), StorageError> {
        let (mut listing, mut times) = (Listing::default(), ObjectTimes::new());
        let limit = kind.max_names();
        let folder = kind.folder();
        let mut items = Vec::new();
        self.items(&[folder], limit, &mut |_, item| items.push(item))?;
        if folder.has_fans() {
            let mut fans = listing.add_beside_fans(folder, items);
            fans.sort_unstable();
            self.items(&fans, limit, &mut |fan, item| {
                listing.add(kind, fan, vec![item], &mut times);
            })?;
        } else {
            if folder == Folder::Top && items.is_empty() {
                // The top always holds something, unless it was replaced.
                self.verify_place()?;
            }
            listing.add(kind, folder, items, &mut times);
        }
        Ok((listing.sorted(), times))
    }

    /// Everything in `folders` but unfinished objects.
    fn items(
        &self,
        folders: &[Folder],
        limit: usize,
        take: &mut dyn FnMut(Folder, Item),
    ) -> Result<(), StorageError> {
        self.entries(folders, limit, &mut |folder, name, entry| {
            if is_temporary(name) {
                return Ok(());
            }
            let facts = Facts::of(&entry.attrs);
            let facts = facts.ok_or(Fault::Strange("the server does not say what this is"))?;
            let Facts { file_type, len, modified } = facts;
            take(folder, Item { name: name.to_owned(), file_type, len, modified });
            Ok(())
        })
    }

    /// All names in `folders`.
    pub(super) fn names(
        &self,
        folders: &[Folder],
        take: &mut dyn FnMut(Folder, &str),
    ) -> Result<(), StorageError> {
        self.entries(folders, MAX_NAMES, &mut |folder, name, _| {
            take(folder, name);
            Ok(())
        })
    }

    fn entries(
        &self,
        folders: &[Folder],
        limit: usize,
        take: &mut dyn FnMut(Folder, &str, &NameEntry) -> Result<(), Fault>,
    ) -> Result<(), StorageError> {
        let mut absent = false;
        let mut left = limit;
        for some in folders.chunks(OPEN_AT_ONCE) {
            let mut open = self.open_for_names(some, &mut absent)?;
            while !open.is_empty() {
                open = self.more_names(open, (&mut left, limit), take)?;
            }
        }
        // Folders are also missing when the whole repository was removed.
        if absent { self.verify_place() } else { Ok(()) }
    }

    /// Opens folders, and notes whether one is absent that may be.
    fn open_for_names(
        &self,
        folders: &[Folder],
        absent: &mut bool,
    ) -> Result<Vec<(Folder, Held)>, StorageError> {
        let mut under_way = Vec::new();
        for &folder in folders {
            let at = self.server.folder(folder);
            let sent = || Ok((self.server.ask_folder(folder)?, self.server.open_names(&at)?));
            under_way.push((folder, sent().map_err(|fault| self.not_listed(folder, fault))?));
        }
        let mut open = Vec::new();
        for (folder, (asking, opening)) in under_way {
            let facts = self.server.facts(asking);
            let held = self.server.held(opening);
            match facts.and_then(|facts| Ok((facts, held?))) {
                // Not by way of a link that somebody planted.
                Ok((facts, held)) if facts.file_type == rustix::fs::FileType::Directory => {
                    open.push((folder, held));
                }
                Ok(_) => return Err(self.not_listed(folder, Fault::Strange("not a folder"))),
                Err(Fault::NotFound) if folder.may_be_absent() => *absent = true,
                Err(fault) => return Err(self.not_listed(folder, fault)),
            }
        }
        Ok(open)
    }

    /// Takes some names of each folder, and returns the folders that have more.
    fn more_names(
        &self,
        open: Vec<(Folder, Held)>,
        (left, limit): (&mut usize, usize),
        take: &mut dyn FnMut(Folder, &str, &NameEntry) -> Result<(), Fault>,
    ) -> Result<Vec<(Folder, Held)>, StorageError> {
        let mut under_way = Vec::new();
        let ahead = AHEAD[usize::from(open.len() > 1)];
        for (folder, held) in open {
            let asked: Result<Vec<_>, Fault> = (0..ahead).map(|_| held.names()).collect();
            let asked = asked.map_err(|fault| self.not_listed(folder, fault))?;
            under_way.push((folder, held, asked));
        }
        let mut unfinished = Vec::new();
        for (folder, held, asked) in under_way {
            let mut ended = false;
            for naming in asked {
                let names = self.server.connection().wait(naming);
                let names = names.map_err(|fault| self.not_listed(folder, fault))?;
                ended |= names.is_empty();
                *left = left
                    .checked_sub(names.len())
                    .ok_or_else(|| StorageError::from_io("list", folder.path(), too_many(limit)))?;
                for entry in &names {
                    let taken = take_entry(folder, entry, take);
                    taken.map_err(|fault| self.not_listed(folder, fault))?;
                }
            }
            if !ended {
                unfinished.push((folder, held));
            }
        }
        Ok(unfinished)
    }

    fn not_listed(&self, folder: Folder, fault: Fault) -> StorageError {
        match folder {
            Folder::Top => fault.during("list", self.place()),
            _ => fault.during("list", folder.path()),
        }
    }
}

fn take_entry(
    folder: Folder,
    entry: &NameEntry,
    take: &mut dyn FnMut(Folder, &str, &NameEntry) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let name = entry.filename.as_os_str();
    if matches!(name.as_bytes(), b"." | b"..") {
        return Ok(());
    }
    if name.is_empty() || name.len() > MAX_NAME || name.as_bytes().contains(&b'/') {
        return Err(Fault::Strange("the server names what no file is called"));
    }
    take(folder, &name.to_string_lossy(), entry)
}
