//! Looking after a folder of which most is known: at single items of it, or listing it alone, by
//! the rules of the scan that handed it over.

use std::ffi::CString;
use std::io;
use std::sync::Arc;

use rustix::fd::{AsFd as _, OwnedFd};

use super::exclude::{FolderRules, FolderView};
use super::lister::{Job, Listing, Scratch, list, read_start_at};
use super::open::Roots;
use super::plan::{Fate, Folder, Policy};
use super::scan::Deferred;
use super::{SourceError, Stat};
use crate::format::entry::EntryKind;

/// What scans of the same sources share with one that looks at single items.
pub(crate) struct PartialScan {
    policy: Arc<Policy>,
    roots: Arc<Roots>,
    scratch: Scratch,
}

/// A folder of which single items are looked at.
pub(crate) struct OpenFolder {
    folder: Folder,
    dir: OwnedFd,
    /// For what is in it.
    rules: FolderRules,
}

impl OpenFolder {
    /// Its path, in the scan's form.
    pub(crate) fn path(&self) -> &[u8] {
        &self.folder.path
    }
}

impl Deferred {
    /// The folder.
    pub(crate) fn into_folder(self) -> Folder {
        *self.0
    }
}

impl PartialScan {
    pub(super) fn new(policy: Arc<Policy>, roots: Arc<Roots>, threads: usize) -> Self {
        Self { policy, roots, scratch: Scratch::new(threads) }
    }

    /// Opens a folder for looks at single items. Ignore files that cannot be used are added to
    /// `problems`.
    pub(crate) fn open(
        &self,
        folder: Folder,
        problems: &mut Vec<SourceError>,
    ) -> io::Result<OpenFolder> {
        let dir = folder.handle.open_handle(folder.rel())?;
        let job = self.job(&folder, &dir);
        let rules = folder.rules.enter(&folder.path, &View(&job), problems);
        Ok(OpenFolder { folder, dir, rules })
    }

    fn job<'a>(&'a self, folder: &'a Folder, dir: &'a OwnedFd) -> Job<'a> {
        Job { policy: &self.policy, roots: &self.roots, folder, dir: dir.as_fd() }
    }

    /// The attributes of an item of the folder.
    pub(crate) fn look_at(&self, folder: &OpenFolder, name: &[u8]) -> io::Result<Stat> {
        let name = CString::new(name).map_err(io::Error::other)?;
        self.job(&folder.folder, &folder.dir).look_at(&name)
    }

    /// What becomes of an item of the folder, whose whole path is `path`.
    pub(crate) fn judge(&self, folder: &OpenFolder, path: &[u8], stat: &Stat) -> Fate {
        let name_at = path.len() - crate::format::path::name(path).len();
        let job = self.job(&folder.folder, &folder.dir);
        job.judge(&folder.rules, path, name_at, stat)
    }

    /// Lists one folder, with the attributes of all that is in it.
    pub(crate) fn list(&mut self, folder: &Folder) -> Listing {
        list(&self.policy, &self.roots, folder, &mut self.scratch)
    }

    /// How many folders are in the folder, where its links tell.
    pub(crate) fn folders_in(&self, folder: &Folder, stat: &Stat) -> Option<u32> {
        let counts = self.roots.filesystems.known(folder.dev)?.counts_folders;
        if counts { stat.links.checked_sub(2) } else { None }
    }
}

/// The folder as the excludes see it.
struct View<'a>(&'a Job<'a>);

impl FolderView for View<'_> {
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind> {
        let name = CString::new(name).ok()?;
        self.0.look_at(&name).ok().map(|stat| stat.kind)
    }

    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_start_at(self.0.dir, name, limit)
    }
}
