//! Files that the kernel itself writes to, without a process that has them open.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::folders::behind_loop;
use super::super::mounts::{self, Mount, unescape};
use super::{Finder, entries, read, unless_gone, words};

/// The file system type of overlays (`OVERLAYFS_SUPER_MAGIC`).
const OVERLAY: u64 = 0x794c_7630;
/// Where files are configured that are exported as disks, and what tells that one is.
const EXPORTED: [(&str, &str); 2] =
    [("/sys/kernel/config/target/core", "fileio_"), ("/sys/kernel/config/nvmet/subsystems", "")];

/// Since this version, the kernel reports changes of the upper directory of an overlay as of any
/// other directory.
pub(crate) fn reports_overlays() -> bool {
    is_at_least((6, 5))
}

/// Since this version, the kernel reports all that io_uring writes.
pub(super) fn reports_fixed_files() -> bool {
    is_at_least((6, 0))
}

fn is_at_least(wanted: (u32, u32)) -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(a)), Some(Ok(b))) if (a, b) >= wanted)
}

/// Adds all of them. The mount namespaces of the processes must be known.
pub(super) fn look(finder: &mut Finder<'_>) -> Result<(), String> {
    loops(finder)?;
    swap_files(finder)?;
    exported()?;
    upper_directories(finder)
}

/// Files behind loop devices.
fn loops(finder: &mut Finder<'_>) -> Result<(), String> {
    for device in entries(Path::new("/sys/block"))? {
        let Some(name) = read(&device.join("loop/backing_file"))? else { continue };
        let path = PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"\n").unwrap_or(&name)));
        let node = Path::new("/dev").join(device.file_name().unwrap_or_default());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let node_words = |error: Errno| words("ask what lies behind", &node, error.into());
        let handle = rustix::fs::open(&node, flags, Mode::empty()).map_err(node_words)?;
        let (on, inode) = match behind_loop(&handle) {
            Err(Errno::NXIO) => continue,
            found => found.map_err(node_words)?,
        };
        finder.add(&path, on, inode)?;
        if finder.devices.contains(&on) && !finder.is_known(on, inode) {
            let path = path.display();
            return Err(format!("{path} lies behind a loop device and is not found by that name"));
        }
    }
    Ok(())
}

/// Files that memory is swapped out to.
fn swap_files(finder: &mut Finder<'_>) -> Result<(), String> {
    let table = read(Path::new("/proc/swaps"))?.unwrap_or_default();
    for line in table.split(|&byte| byte == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(path), Some(b"file")) = (words.next(), words.next()) else { continue };
        let path = unescape(path);
        let found = rustix::fs::stat(&path)
            .map_err(|error| super::words("find the swap file", &path, error.into()))?;
        finder.add(&path, found.st_dev, found.st_ino)?;
    }
    Ok(())
}

/// Refuses to go on when files are exported as disks.
fn exported() -> Result<(), String> {
    for (directory, begin) in EXPORTED {
        for entry in entries(Path::new(directory))? {
            let name = entry.file_name().unwrap_or_default();
            if name.as_bytes().starts_with(begin.as_bytes()) {
                let entry = entry.display();
                return Err(format!("a file is exported as a disk ({entry})"));
            }
        }
    }
    Ok(())
}

/// An overlay, by its device.
struct Overlay {
    upper: PathBuf,
    is_found: bool,
}

/// Upper directories of overlays, in all mount namespaces.
fn upper_directories(finder: &mut Finder<'_>) -> Result<(), String> {
    let (mut overlays, mut devices) = (BTreeMap::new(), BTreeSet::new());
    for process in finder.namespaces.clone().into_values() {
        for mount in mounts_of(&process)? {
            devices.insert(mount.device());
            let upper = mount.upper.as_deref();
            match (mount.namespace(), upper) {
                (Some(other), _) if !finder.namespaces.contains_key(&other) => {
                    return Err("there is a mount namespace without processes".to_owned());
                }
                (_, Some(upper)) => add_upper(finder, &mut overlays, &process, &mount, upper)?,
                _ => {}
            }
        }
    }
    if let Some(lost) = overlays.values().find(|overlay| !overlay.is_found) {
        let upper = lost.upper.display();
        return Err(format!("an overlay is mounted whose upper directory {upper} is not found"));
    }
    detached(finder, &devices)
}

/// What is mounted where a process sees it.
fn mounts_of(process: &Path) -> Result<Vec<Mount>, String> {
    let table = process.join("mountinfo");
    let text = read(&table)?.unwrap_or_default();
    mounts::parse_all(&text).ok_or_else(|| format!("{} is in an unknown form", table.display()))
}

/// The overlays that are mounted, in words that change when one comes or goes.
///
/// # Errors
/// In words, when that is not known.
pub(crate) fn overlays() -> Result<String, String> {
    let mut found = BTreeSet::new();
    for process in super::processes::namespaces()?.into_values() {
        for mount in mounts_of(&process)? {
            let device = mount.device();
            found.extend(mount.upper.map(|upper| format!("overlay {device} {upper:?};")));
        }
    }
    Ok(found.into_iter().collect())
}

fn add_upper(
    finder: &mut Finder<'_>,
    overlays: &mut BTreeMap<u64, Overlay>,
    process: &Path,
    mount: &Mount,
    upper: &Path,
) -> Result<(), String> {
    let new = || Overlay { upper: upper.to_owned(), is_found: false };
    let overlay = overlays.entry(mount.device()).or_insert_with(new);
    if overlay.is_found || !upper.is_absolute() {
        return Ok(());
    }
    // As the processes of that namespace see it.
    let seen = process.join("root").join(upper.strip_prefix("/").unwrap_or(upper));
    let found = rustix::fs::stat(&seen).map_err(std::io::Error::from);
    if let Some(found) = unless_gone(found, "ask about", &seen)? {
        overlay.is_found = true;
        finder.add(&seen, found.st_dev, found.st_ino)?;
    }
    Ok(())
}

/// Refuses to go on when a file of an overlay is open for writing that is mounted nowhere any more.
fn detached(finder: &Finder<'_>, mounted: &BTreeSet<u64>) -> Result<(), String> {
    for (device, link) in &finder.others {
        if mounted.contains(device) {
            continue;
        }
        let Ok(found) = rustix::fs::statfs(link) else { continue };
        #[expect(clippy::cast_sign_loss, reason = "a bit pattern")]
        if found.f_type as u64 == OVERLAY {
            let link = link.display();
            return Err(format!("a file of an unmounted overlay is open for writing ({link})"));
        }
    }
    Ok(())
}
