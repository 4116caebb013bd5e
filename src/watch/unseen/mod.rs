//! Files that may change without an event. The kernel reports nothing for
//!
//! * writes by `io_submit(2)`, and writes through a mapping, until the file is closed for the last
//!   time: so every file that is open for writing counts, and every file that is mapped for writing
//!   ([`processes`]);
//! * writes by the kernel itself into the files behind loop devices, swap files and files that are
//!   exported as disks, and, before Linux 6.5, into the upper directory of an overlay ([`kernel`]).
//!
//! Closing a file that was open for writing is an event, whoever closes it. A file that is neither
//! found here nor reported was therefore not open for writing since the last look.

mod kernel;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::WatchError;
use super::folders::{self, Handle};

pub(super) use kernel::{overlays, reports_overlays};

/// A file, or all below a directory, that may change unseen.
#[derive(Debug)]
pub(super) struct Unseen {
    /// The device of its file system.
    pub(super) device: u64,
    pub(super) handle: Handle,
    /// How many names it has.
    pub(super) links: u64,
    /// It is a directory, and all below it counts.
    pub(super) is_tree: bool,
    /// A name for messages.
    pub(super) name: PathBuf,
}

/// All of them on the given devices. The kernel's queue must be read afterwards: it has an event
/// for each file that is closed or unmapped during this call.
///
/// # Errors
/// In words, when not everything can be looked at.
pub(super) fn all(devices: &[u64]) -> Result<Vec<Unseen>, String> {
    let mut finder = Finder::new(devices);
    processes::look(&mut finder)?;
    kernel::look(&mut finder)?;
    Ok(finder.found)
}

/// Collects them.
struct Finder<'d> {
    devices: &'d [u64],
    /// Device and inode of all that was found.
    seen: BTreeSet<(u64, u64)>,
    found: Vec<Unseen>,
    /// Devices of other file systems on which a file is open for writing, each with a link to one
    /// of these files.
    others: BTreeMap<u64, PathBuf>,
    /// The mount namespaces of all processes, each with the directory in `/proc` of one process.
    namespaces: BTreeMap<u64, PathBuf>,
}

impl<'d> Finder<'d> {
    fn new(devices: &'d [u64]) -> Self {
        let (seen, found) = (BTreeSet::new(), Vec::new());
        Self { devices, seen, found, others: BTreeMap::new(), namespaces: BTreeMap::new() }
    }

    fn is_known(&self, device: u64, inode: u64) -> bool {
        self.seen.contains(&(device, inode))
    }

    /// Adds the file that a link of the kernel (or a path) leads to, if it is this one. A link that
    /// leads elsewhere by now belongs to a file that was closed, which is an event.
    fn add(&mut self, link: &Path, device: u64, inode: u64) -> Result<(), String> {
        if !self.devices.contains(&device) || self.is_known(device, inode) {
            return Ok(());
        }
        let io = |action| move |error: Errno| words(action, link, error.into());
        let file = match rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(()),
            opened => opened.map_err(io("open"))?,
        };
        let found = rustix::fs::fstat(&file).map_err(io("ask about"))?;
        if (found.st_dev, found.st_ino) != (device, inode) || found.st_nlink == 0 {
            return Ok(());
        }
        let is_tree = FileType::from_raw_mode(found.st_mode).is_dir();
        let handle = folders::handle_of(&file).map_err(io("ask for the handle of"))?;
        self.seen.insert((device, inode));
        let (name, links) = (name_of(&file, link), found.st_nlink);
        self.found.push(Unseen { device, handle, links, is_tree, name });
        Ok(())
    }

    /// Remembers that a file of a file system without sources is open for writing.
    fn add_other(&mut self, device: u64, link: &Path) {
        self.others.entry(device).or_insert_with(|| link.to_owned());
    }
}

/// What a file is called, for messages.
fn name_of(file: &OwnedFd, link: &Path) -> PathBuf {
    let name = rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new());
    name.map_or_else(|_| link.to_owned(), |name| OsString::from_vec(name.into_bytes()).into())
}

fn words(action: &'static str, path: &Path, error: std::io::Error) -> String {
    super::words(WatchError::io(action, path, error))
}

/// The names in a directory of the kernel, with its path; none if it does not exist.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    Ok(unless_gone(entries, "list", directory)?.unwrap_or_default())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    unless_gone(std::fs::read(path), "read", path)
}

/// `None` for a process that ended, or a device of another kind.
fn unless_gone<T>(
    result: std::io::Result<T>,
    action: &'static str,
    path: &Path,
) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH | Errno::NXIO | Errno::NOTDIR) => Ok(None),
            _ => Err(words(action, path, error)),
        },
    }
}
