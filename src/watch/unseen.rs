//! Files that may change without an event: those that a process has mapped into its memory for
//! writing (the kernel tells of them when the mapping ends), and those behind loop devices.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::WatchError;
use super::mounts::unescape;

/// A file that may change unseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unseen {
    /// By what name it is used.
    pub(super) path: PathBuf,
    /// The file system's device.
    pub(super) device: u64,
    /// Whether that name is its only one, as this process sees it.
    pub(super) is_only_name: bool,
}

/// All of them on the given devices. The kernel's queue must be looked at afterwards: it has what
/// ceases to be mapped meanwhile.
///
/// # Errors
/// When not everything can be looked at.
pub(super) fn all(devices: &[u64]) -> Result<Vec<Unseen>, WatchError> {
    let mut found = Vec::new();
    for process in entries(Path::new("/proc"))? {
        let is_process =
            process.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
        if is_process {
            mapped(&process, devices, &mut found)?;
        }
    }
    let blocks = Path::new("/sys/block");
    for device in if blocks.exists() { entries(blocks)? } else { Vec::new() } {
        let backing = device.join("loop/backing_file");
        if let Some(name) = gone_is_nothing(std::fs::read(&backing), &backing)? {
            let name = name.strip_suffix(b"\n").unwrap_or(&name);
            // What has no name any more is in no source.
            if name.ends_with(b" (deleted)") {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(name));
            // What is not there by that name may be anywhere.
            let Ok(there) = rustix::fs::stat(&path) else {
                let devices = devices.iter();
                found.extend(devices.map(|&device| Unseen {
                    path: path.clone(),
                    device,
                    is_only_name: false,
                }));
                continue;
            };
            if devices.contains(&there.st_dev) {
                let is_only_name = there.st_nlink == 1;
                found.push(Unseen { path, device: there.st_dev, is_only_name });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, WatchError> {
    let io = |error| WatchError::io("list", folder, error);
    let entries = std::fs::read_dir(folder).map_err(io)?;
    entries.map(|entry| Ok(entry.map_err(io)?.path())).collect()
}

/// The files of a process.
fn mapped(process: &Path, devices: &[u64], found: &mut Vec<Unseen>) -> Result<(), WatchError> {
    let maps = process.join("maps");
    let table = match std::fs::read(&maps) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && is_init(process) => {
            return Ok(());
        }
        result => gone_is_nothing(result, &maps)?,
    };
    let Some(table) = table else { return Ok(()) };
    for line in table.split(|&byte| byte == b'\n') {
        let Some(mapping) = parse(line) else { continue };
        if !devices.contains(&mapping.device) {
            continue;
        }
        let path = unescape(mapping.path);
        let is_there = rustix::fs::lstat(&path)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (mapping.device, mapping.inode));
        // The mapping itself leads to the file, whatever it is called by now; it may have been
        // removed since it was looked for.
        let link = process.join("map_files").join(OsStr::from_bytes(mapping.range));
        let file = match rustix::fs::stat(&link) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::SRCH) => continue,
            Err(error) => return Err(WatchError::io("ask about", link, error.into())),
        };
        // A mapping that has just ended is told of by the kernel.
        let is_mapped = (file.st_dev, file.st_ino) == (mapping.device, mapping.inode);
        if is_mapped && file.st_nlink > 0 {
            let is_only_name = file.st_nlink == 1 && is_there;
            found.push(Unseen { path, device: mapping.device, is_only_name });
        }
    }
    Ok(())
}

/// Whether it is the superuser's first process. Where it may not be looked at it has rights that
/// this one lacks, so that it is not the only program of a container; and it maps no files of users
/// for writing.
fn is_init(process: &Path) -> bool {
    process.file_name() == Some(OsStr::new("1"))
        && std::fs::metadata(process).is_ok_and(|found| found.uid() == 0)
}

/// What a process that ended meanwhile, or a device of another kind, leaves is nothing.
fn gone_is_nothing<T>(result: std::io::Result<T>, path: &Path) -> Result<Option<T>, WatchError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH | Errno::NXIO | Errno::NOTDIR) => Ok(None),
            _ => Err(WatchError::io("read", path, error)),
        },
    }
}

/// A part of a file that is mapped for writing into the file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'l> {
    range: &'l [u8],
    device: u64,
    inode: u64,
    path: &'l [u8],
}

/// Parses `7f00-7f01 rw-s 00000000 fe:01 4711      /path`, if it is one.
fn parse(line: &[u8]) -> Option<Mapping<'_>> {
    let mut words = line.splitn(6, |&byte| byte == b' ');
    let range = words.next()?;
    let rights = words.next()?;
    if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b's') {
        return None;
    }
    let device = std::str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let device = rustix::fs::makedev(number(device.0)?, number(device.1)?);
    let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let path = words.next()?.trim_ascii_start();
    path.starts_with(b"/").then_some(Mapping { range, device, inode, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table() {
        let line = b"7f0-7f1 rw-s 00000000 fe:01 4711                /srv/a b\\012c";
        let device = rustix::fs::makedev(0xfe, 1);
        let path = &b"/srv/a b\\012c"[..];
        assert_eq!(parse(line), Some(Mapping { range: b"7f0-7f1", device, inode: 4711, path }));
        for other in [
            &b"7f0-7f1 rw-p 00000000 fe:01 4711 /private"[..],
            b"7f0-7f1 r--s 00000000 fe:01 4711 /read",
            b"7f0-7f1 rw-s 00000000 00:01 0 [anon]",
            b"7f0-7f1 rw-s 00000000 00:00 0",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
