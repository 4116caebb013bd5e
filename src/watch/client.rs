//! Asking, from a snapshot.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};

use super::folders::{self, Handle, Whereabouts};
use super::mounts::{self, FileSystem, Mount};
use super::unseen::{self, Unseen};
use super::wire::{Answer, FolderLine, Request, Status, Watched, connect, read_line, write_line};
use super::{WatchError, words};
use crate::format::snapshot::RawBytes;
use crate::id::{RepositoryId, SessionId, SnapshotId};

/// The part of a snapshot in which changes are told, from before its walk until it is confirmed.
#[derive(Debug)]
pub struct Begun {
    socket: PathBuf,
    instance: SessionId,
    epoch: u64,
    watched: Vec<Watched>,
    series: String,
    sources: Sources,
    /// What was mounted when it began, or why that cannot be used.
    mounts: Result<String, String>,
}

/// Begins, before a walk of `sources` (absolute and lexically clean) for a snapshot into a
/// repository: what changes from now on is told to the next one.
///
/// # Errors
/// When nothing listens at `socket`, or something else does.
pub fn begin(
    socket: &Path,
    repository: RepositoryId,
    sources: &[PathBuf],
    one_file_system: bool,
) -> Result<Begun, WatchError> {
    let (answer, _) = ask(socket, &Request::Begin)?;
    let Answer::Begun { instance, epoch, watched } = answer else {
        return Err(WatchError::NotUnderstood(socket.to_owned()));
    };
    let sources = Sources::new(sources, one_file_system)?;
    let mounts = sources.look(&watched).map(|places| places.fingerprint);
    let series = sources.series(repository);
    let socket = socket.to_owned();
    Ok(Begun { socket, instance, epoch, watched, series, sources, mounts })
}

impl Begun {
    /// All paths at or below which something changed since the walk of `parent` began.
    ///
    /// # Errors
    /// In words, when that is not known.
    pub fn changes(&self, parent: SnapshotId) -> Result<Vec<PathBuf>, String> {
        let before = self.mounts.clone()?;
        let mut changes = BTreeSet::new();
        let places = self.sources.look(&self.watched)?;
        // Before the kernel's queue is looked at: it has what ceases to be mapped meanwhile.
        self.sources.add_unseen(&places, &mut changes)?;
        let request = Request::Since { series: self.series.clone(), snapshot: parent };
        let (answer, mut rest) = ask(&self.socket, &request).map_err(words)?;
        let (mounts, lines) = match answer {
            Answer::Changes { mounts, lines } => (mounts, lines),
            Answer::Unknown { why } => return Err(why),
            _ => return Err(words(WatchError::NotUnderstood(self.socket.clone()))),
        };
        if mounts != places.fingerprint || mounts != before {
            return Err("other file systems are mounted than at the parent's time".to_owned());
        }
        for _ in 0..lines {
            let line: Option<FolderLine> =
                read_line(&mut rest).map_err(|error| error.to_string())?;
            let line = line.ok_or("the answer of `gabion watch` is cut")?;
            self.sources.resolve(line, &places, &mut changes)?;
        }
        Ok(changes.into_iter().collect())
    }

    /// Says that the snapshot is confirmed: the next one may ask for the changes since then.
    ///
    /// # Errors
    /// In words, why the next one will look at everything.
    pub fn confirm(&self, snapshot: SnapshotId) -> Result<(), String> {
        let mounts = self.mounts.clone()?;
        if self.sources.look(&self.watched)?.fingerprint != mounts {
            return Err("something was mounted or unmounted meanwhile".to_owned());
        }
        let (instance, epoch, series) = (self.instance, self.epoch, self.series.clone());
        let request = Request::Confirm { instance, epoch, series, snapshot, mounts };
        match ask(&self.socket, &request).map_err(words)?.0 {
            Answer::Confirmed => Ok(()),
            Answer::Unknown { why } => Err(why),
            _ => Err(words(WatchError::NotUnderstood(self.socket.clone()))),
        }
    }
}

/// How what listens at `socket` is.
///
/// # Errors
/// When nothing listens there, or something else does.
pub fn status(socket: &Path) -> Result<Status, WatchError> {
    match ask(socket, &Request::Status)?.0 {
        Answer::Status(status) => Ok(status),
        _ => Err(WatchError::NotUnderstood(socket.to_owned())),
    }
}

fn ask(socket: &Path, request: &Request) -> Result<(Answer, BufReader<UnixStream>), WatchError> {
    let io = |error| WatchError::io("talk to `gabion watch` at", socket, error);
    let mut stream = connect(socket)?;
    write_line(&mut stream, request).map_err(io)?;
    let mut from = BufReader::new(stream);
    let answer = read_line(&mut from).map_err(io)?;
    answer.map(|answer| (answer, from)).ok_or_else(|| WatchError::NotUnderstood(socket.to_owned()))
}

/// What a snapshot is taken of.
#[derive(Debug)]
struct Sources {
    /// Each as the user named it, and where that really is.
    paths: Vec<(PathBuf, PathBuf)>,
    one_file_system: bool,
}

/// What the sources lie on.
struct Places {
    fingerprint: String,
    /// A handle of each mount, with its file system.
    mounts: Vec<(FileSystem, OwnedFd)>,
    /// The devices.
    devices: Vec<u64>,
}

impl Sources {
    fn new(paths: &[PathBuf], one_file_system: bool) -> Result<Self, WatchError> {
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
    fn series(&self, repository: RepositoryId) -> String {
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
    fn look(&self, watched: &[Watched]) -> Result<Places, String> {
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
    fn resolve(
        &self,
        line: FolderLine,
        places: &Places,
        changes: &mut BTreeSet<PathBuf>,
    ) -> Result<(), String> {
        let (folder, names) = line.into_parts();
        let handle = Handle { kind: folder.kind, bytes: folder.handle };
        let was_overlay =
            |path: Option<&Path>| !unseen::reports_overlays() && is_work_of_overlay(path, &names);
        for (_, mount) in places.mounts.iter().filter(|(on, _)| on.id == folder.filesystem) {
            let path = match folders::find(&handle, mount.as_fd()).map_err(words)? {
                Whereabouts::At(path) => path,
                // A folder that is moved just now is told of as a change of its own. Another item
                // may be anywhere.
                Whereabouts::Hidden | Whereabouts::Unnamed
                    if names.iter().any(|name| name.0.is_empty()) =>
                {
                    return Err(
                        "a file changed of which the kernel does not know the name".to_owned()
                    );
                }
                _ if was_overlay(None) => return Err(OVERLAY_WAS_MOUNTED.to_owned()),
                _ => continue,
            };
            if was_overlay(Some(&path)) {
                return Err(OVERLAY_WAS_MOUNTED.to_owned());
            }
            for name in &names {
                self.add(&folders::join(&path, &name.0), changes);
            }
        }
        Ok(())
    }

    /// Adds a path as the user would write it; says whether it is in the sources.
    fn add(&self, path: &Path, changes: &mut BTreeSet<PathBuf>) -> bool {
        let mut is_in_sources = false;
        for (named, real) in &self.paths {
            if let Ok(below) = path.strip_prefix(real) {
                let is_source = below.as_os_str().is_empty();
                changes.insert(if is_source { named.clone() } else { named.join(below) });
                is_in_sources = true;
            }
        }
        is_in_sources
    }

    /// Adds what may change without an event.
    fn add_unseen(&self, places: &Places, changes: &mut BTreeSet<PathBuf>) -> Result<(), String> {
        for item in unseen::all(&places.devices)? {
            self.add_item(&item, places, changes)?;
        }
        Ok(())
    }

    fn add_item(
        &self,
        item: &Unseen,
        places: &Places,
        changes: &mut BTreeSet<PathBuf>,
    ) -> Result<(), String> {
        let (mut is_in_sources, mut is_found, mut is_certain) = (false, false, true);
        for (_, mount) in places.mounts.iter().filter(|(on, _)| on.device == item.device) {
            match folders::find(&item.handle, mount.as_fd()).map_err(words)? {
                Whereabouts::At(path) => {
                    is_found = true;
                    is_in_sources |= self.add(&path, changes);
                    if item.is_tree {
                        let inner = self.paths.iter().filter(|(_, real)| real.starts_with(&path));
                        changes.extend(inner.map(|(named, _)| named.clone()));
                    }
                }
                // A directory may be hidden although a part of it is not.
                Whereabouts::Hidden => is_certain &= !item.is_tree,
                Whereabouts::Unnamed => is_certain = false,
                Whereabouts::Gone => return Ok(()),
            }
        }
        // What has its only name elsewhere cannot be seen by the other mounts.
        is_certain = is_certain || (!item.is_tree && (is_found || is_found_elsewhere(item)?));
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

/// Whether a file has a name that is seen by some mount of its file system.
fn is_found_elsewhere(item: &Unseen) -> Result<bool, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let table = mounts::all().map_err(words)?;
    for mount in table.iter().filter(|mount| mount.device() == item.device) {
        // Where a file is mounted, or nothing can be opened, nothing is found.
        let Ok(handle) = rustix::fs::open(&mount.at, flags, Mode::empty()) else { continue };
        let is_there = rustix::fs::fstat(&handle).is_ok_and(|found| found.st_dev == item.device);
        if is_there && let Ok(Whereabouts::At(_)) = folders::find(&item.handle, handle.as_fd()) {
            return Ok(true);
        }
    }
    Ok(false)
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
