//! The sources of a snapshot: which of the items that changed lie in them.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};

use super::folders::{self, Handle, Whereabouts};
use super::mounts::{self, FileSystem, Mount};
use super::unseen::{self, Unseen};
use super::wire::{FolderLine, Watched};
use super::{WatchError, words};
use crate::format::snapshot::RawBytes;
use crate::id::RepositoryId;

/// What a snapshot is taken of.
#[derive(Debug)]
pub(super) struct Sources {
    /// Each as the user named it, and where that really is.
    paths: Vec<(PathBuf, PathBuf)>,
    one_file_system: bool,
}

/// What the sources lie on.
pub(super) struct Places {
    pub(super) fingerprint: String,
    /// A handle of each mount, with its file system.
    mounts: Vec<(FileSystem, OwnedFd)>,
    /// The devices.
    devices: Vec<u64>,
}

impl Sources {
    pub(super) fn new(paths: &[PathBuf], one_file_system: bool) -> Result<Self, WatchError> {
        let real = |path: &PathBuf| {
            let io = |error| WatchError::io("find", path, error);
            // A source that is a link is itself what is kept.
            let real = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => parent.canonicalize().map_err(io)?.join(name),
                _ => path.clone(),
            };
            Ok((path.clone(), real))
        };
        let paths = paths.iter().map(real).collect::<Result<_, _>>()?;
        Ok(Self { paths, one_file_system })
    }

    /// Which snapshots are taken one after the other of the same.
    pub(super) fn series(&self, repository: RepositoryId) -> String {
        let mut text = repository.to_string();
        for (path, _) in &self.paths {
            text.push(' ');
            text.extend(path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")));
        }
        text
    }

    /// Looks at what is mounted.
    ///
    /// # Errors
    /// In words, when something in the sources is not watched.
    pub(super) fn look(&self, watched: &[Watched]) -> Result<Places, String> {
        let table = mounts::all().map_err(words)?;
        let mut places =
            Places { fingerprint: String::new(), mounts: Vec::new(), devices: Vec::new() };
        let mut seen = BTreeSet::new();
        for (_, real) in &self.paths {
            let found = mounts::of(&table, real);
            let wanted = if self.one_file_system { 1 } else { found.len() };
            for (number, mount) in found.iter().take(wanted).enumerate() {
                places.fingerprint += &mounts::fingerprint(std::iter::once(*mount));
                if seen.insert(mount.at.clone()) {
                    // The place of a mount itself may be hidden by another one.
                    let inside = if number == 0 { folder_of(real) } else { &mount.at };
                    places.mounts.push(open(mount, inside, watched)?);
                }
                places.devices.push(mount.device());
            }
        }
        if !unseen::reports_overlays() {
            places.fingerprint += &unseen::overlays()?;
        }
        places.devices.sort_unstable();
        places.devices.dedup();
        Ok(places)
    }

    /// Adds the paths of what changed, if they are in the sources.
    pub(super) fn resolve(
        &self,
        line: FolderLine,
        places: &Places,
        changes: &mut Changes,
    ) -> Result<(), String> {
        let (folder, names) = line.into_parts();
        let handle = Handle { kind: folder.kind, bytes: folder.handle };
        let was_overlay =
            |path: Option<&Path>| !unseen::reports_overlays() && is_work_of_overlay(path, &names);
        let (mut is_found, mut is_hidden) = (false, false);
        for (on, mount) in places.mounts.iter().filter(|(on, _)| on.id == folder.filesystem) {
            let path = match folders::find(&handle, mount.as_fd()).map_err(words)? {
                Whereabouts::At(path) => path,
                _ if was_overlay(None) => return Err(OVERLAY_WAS_MOUNTED.to_owned()),
                Whereabouts::Hidden | Whereabouts::Unnamed => {
                    is_hidden = true;
                    continue;
                }
                Whereabouts::Gone => continue,
            };
            if was_overlay(Some(&path)) {
                return Err(OVERLAY_WAS_MOUNTED.to_owned());
            }
            is_found = true;
            for name in &names {
                let path = folders::join(&path, &name.0);
                if !self.add(&path, changes) {
                    changes.add_outside(&path, on.device);
                }
            }
        }
        if is_found || !is_hidden {
            return Ok(());
        }
        // An item may be anywhere; and what is in a directory may have another name.
        if names.iter().any(|name| name.0.is_empty()) {
            return Err("a file changed of which the kernel does not know the name".to_owned());
        }
        for (on, _) in places.mounts.iter().filter(|(on, _)| on.id == folder.filesystem) {
            if let Some(path) = elsewhere(&handle, on.device)? {
                for name in &names {
                    changes.add_outside(&folders::join(&path, &name.0), on.device);
                }
                return Ok(());
            }
        }
        Err("something changed in a directory that no mount shows".to_owned())
    }

    /// Adds a path as the user would write it; says whether it is in the sources.
    fn add(&self, path: &Path, changes: &mut Changes) -> bool {
        let mut is_in_sources = false;
        for (named, real) in &self.paths {
            if let Ok(below) = path.strip_prefix(real) {
                let is_source = below.as_os_str().is_empty();
                changes.told.insert(if is_source { named.clone() } else { named.join(below) });
                is_in_sources = true;
            }
        }
        is_in_sources
    }

    /// Adds what may change without an event.
    pub(super) fn add_unseen(&self, places: &Places, changes: &mut Changes) -> Result<(), String> {
        for item in unseen::all(&places.devices)? {
            self.add_item(&item, places, changes)?;
        }
        Ok(())
    }

    fn add_item(
        &self,
        item: &Unseen,
        places: &Places,
        changes: &mut Changes,
    ) -> Result<(), String> {
        let (mut is_in_sources, mut is_found, mut is_certain) = (false, false, true);
        for (_, mount) in places.mounts.iter().filter(|(on, _)| on.device == item.device) {
            match folders::find(&item.handle, mount.as_fd()).map_err(words)? {
                Whereabouts::At(path) => {
                    is_found = true;
                    is_in_sources |= self.add(&path, changes);
                    if item.is_tree {
                        let inner = self.paths.iter().filter(|(_, real)| real.starts_with(&path));
                        changes.told.extend(inner.map(|(named, _)| named.clone()));
                    }
                }
                // A directory may be hidden although a part of it is not.
                Whereabouts::Hidden => is_certain &= !item.is_tree,
                Whereabouts::Unnamed => is_certain = false,
                Whereabouts::Gone => return Ok(()),
            }
        }
        // What has its only name elsewhere cannot be seen by the other mounts.
        is_certain = is_certain
            || (!item.is_tree && (is_found || elsewhere(&item.handle, item.device)?.is_some()));
        // Other names are looked at when the file turns out to have changed.
        if is_in_sources || (is_certain && (item.is_tree || item.links == 1)) {
            return Ok(());
        }
        Err(format!(
            "{} is open for writing under a name that does not tell whether it is in the sources",
            item.name.display()
        ))
    }
}

/// Where an item is by some mount of its file system.
fn elsewhere(item: &Handle, device: u64) -> Result<Option<PathBuf>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let table = mounts::all().map_err(words)?;
    for mount in table.iter().filter(|mount| mount.device() == device) {
        // Where a file is mounted, or nothing can be opened, nothing is found.
        let Ok(handle) = rustix::fs::open(&mount.at, flags, Mode::empty()) else { continue };
        let is_there = rustix::fs::fstat(&handle).is_ok_and(|found| found.st_dev == device);
        if is_there && let Ok(Whereabouts::At(path)) = folders::find(item, handle.as_fd()) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the sources, as the user would write it.
    told: BTreeSet<PathBuf>,
    /// Files outside of the sources that have several names, by device and inode, with the number
    /// of their names and those that were reported.
    outside: HashMap<(u64, u64), (u64, BTreeSet<PathBuf>)>,
}

impl Changes {
    /// Notes what changed under a name outside of the sources: it may have another one in them.
    fn add_outside(&mut self, path: &Path, device: u64) {
        let Ok(found) = rustix::fs::lstat(path) else { return };
        let is_linked = found.st_nlink > 1 && !FileType::from_raw_mode(found.st_mode).is_dir();
        if is_linked && found.st_dev == device {
            let key = (found.st_dev, found.st_ino);
            let file = self.outside.entry(key).or_insert((found.st_nlink, BTreeSet::new()));
            file.1.insert(path.to_owned());
        }
    }

    /// All paths in the sources.
    ///
    /// # Errors
    /// In words, when something changed that may have a name in the sources that was not reported.
    pub(super) fn into_paths(mut self) -> Result<Vec<PathBuf>, String> {
        if self.outside.values().any(|(links, names)| *links > names.len() as u64) {
            for path in &self.told {
                let Ok(found) = rustix::fs::lstat(path) else { continue };
                if let Some(file) = self.outside.get_mut(&(found.st_dev, found.st_ino)) {
                    file.1.insert(path.clone());
                }
            }
        }
        let lost = self.outside.values().find(|(links, names)| *links > names.len() as u64);
        if let Some(name) = lost.and_then(|(_, names)| names.first()) {
            let name = name.display();
            return Err(format!("{name} changed, and has another name that is not known"));
        }
        Ok(self.told.into_iter().collect())
    }
}

const OVERLAY_WAS_MOUNTED: &str =
    "an overlay may have been mounted meanwhile, whose changes this kernel does not report";

/// Whether something in this directory may have become, or been, the working directory that each
/// mount of an overlay makes: it is called `work`, and nobody has rights to it. What does not exist
/// any more may have been one.
fn is_work_of_overlay(directory: Option<&Path>, names: &[RawBytes]) -> bool {
    names.iter().any(|name| name.0 == b"work")
        && directory.is_none_or(|directory| {
            rustix::fs::lstat(directory.join("work")).map_or(true, |found| {
                FileType::from_raw_mode(found.st_mode).is_dir() && found.st_mode & 0o777 == 0
            })
        })
}

/// What can be opened as a folder to reach a source: itself, or what it lies in.
fn folder_of(path: &Path) -> &Path {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if is_folder { path } else { path.parent().unwrap_or(path) }
}

/// A handle of a mount, by something that lies on it.
fn open(
    mount: &Mount,
    inside: &Path,
    watched: &[Watched],
) -> Result<(FileSystem, OwnedFd), String> {
    let failed =
        |error: rustix::io::Errno| format!("{} cannot be opened: {error}", inside.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(inside, flags, Mode::empty()).map_err(failed)?;
    let filesystem = mounts::file_system(&handle).map_err(failed)?;
    let is_watched = watched
        .iter()
        .any(|watched| (watched.id, watched.device) == (filesystem.id, filesystem.device));
    if !is_watched || filesystem.device != mount.device() {
        return Err(format!(
            "`gabion watch` does not watch the file system at {}",
            mount.at.display()
        ));
    }
    Ok((filesystem, handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_of_an_overlay_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let is_work = |names: &[&[u8]]| {
            let names: Vec<_> = names.iter().map(|name| RawBytes(name.to_vec())).collect();
            (is_work_of_overlay(Some(folder.path()), &names), is_work_of_overlay(None, &names))
        };
        assert_eq!(is_work(&[b"other", b"works"]), (false, false));
        assert_eq!(is_work(&[b"other", b"work"]), (true, true), "it is gone");
        let work = folder.path().join("work");
        rustix::fs::mkdir(&work, Mode::RWXU).unwrap();
        assert_eq!(is_work(&[b"work"]), (false, true));
        rustix::fs::chmod(&work, Mode::empty()).unwrap();
        assert_eq!(is_work(&[b"work"]), (true, true));
    }
}
