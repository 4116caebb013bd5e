//! Files that processes have open or mapped for writing, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::super::folders::share_files;
use super::super::mounts::unescape;
use super::kernel::reports_fixed_files;
use super::{Finder, entries, read, unless_gone, words};

/// The number of the first PID namespace, in which all processes are seen (`PROC_PID_INIT_INO`).
const FIRST_NAMESPACE: &[u8] = b"pid:[4026531836]";
/// How often the processes are listed at most: each time only those are looked at that are new.
const MAX_LISTINGS: usize = 8;
/// How often all is looked at at most while open files are on their way from one process to
/// another, and how long they are given to arrive.
const MAX_ATTEMPTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(3);

/// Adds the files of all processes.
pub(super) fn look(finder: &mut Finder<'_>) -> Result<(), String> {
    let own = Path::new("/proc/self/ns/pid");
    let namespace = rustix::fs::readlink(own, Vec::new());
    if namespace.map_err(|error| words("read", own, error.into()))?.as_bytes() != FIRST_NAMESPACE {
        return Err("processes outside of this container cannot be looked at".to_owned());
    }
    for _ in 0..MAX_ATTEMPTS {
        if !look_once(finder)? {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err("open files are on their way from one process to another".to_owned())
}

/// Says whether open files are on their way through a socket: no table has them.
fn look_once(finder: &mut Finder<'_>) -> Result<bool, String> {
    let (mut known, mut in_flight) = (BTreeSet::new(), false);
    for _ in 0..MAX_LISTINGS {
        let mut has_new = false;
        for process in entries(Path::new("/proc"))? {
            let number = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
            let Some(number) = number.filter(|number| known.insert(*number)) else { continue };
            has_new = true;
            in_flight |= look_at(finder, &process, number)?;
        }
        // A process that ended may have left its files to one that it had started.
        if !has_new {
            break;
        }
    }
    Ok(in_flight)
}

/// Adds the files of a process. Says whether there are files in its sockets.
fn look_at(finder: &mut Finder<'_>, process: &Path, number: u32) -> Result<bool, String> {
    let Some(namespace) = namespace(process)? else { return Ok(false) };
    finder.namespaces.entry(namespace).or_insert_with(|| process.to_owned());
    // Threads share their memory, but each may have a table of files of its own; and the first
    // thread may have ended before the others.
    let (mut has_maps, mut tables, mut in_flight) = (false, Vec::new(), false);
    for thread in entries(&process.join("task"))? {
        if !has_maps {
            has_maps = mapped(finder, &thread, thread.ends_with(number.to_string()))?;
        }
        let name = thread.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        let Some(name) = name else { continue };
        if tables.iter().any(|&other| share_files(other, name)) {
            continue;
        }
        let table = opened(finder, &thread.join("fd"))?;
        in_flight |= table.in_flight;
        if table.has_files {
            tables.push(name);
        }
    }
    Ok(in_flight)
}

/// What a table of open files showed.
#[derive(Debug, Default)]
struct TableFacts {
    has_files: bool,
    /// A socket has files in it that were not received yet.
    in_flight: bool,
}

/// The number of the mount namespace of a process; nothing if the process may be left out.
fn namespace(process: &Path) -> Result<Option<u64>, String> {
    let namespace = process.join("ns/mnt");
    match std::fs::metadata(&namespace) {
        Err(error) if is_hidden(&error) && is_first(process) => Ok(None),
        found => Ok(unless_gone(found, "read", &namespace)?.map(|found| found.ino())),
    }
}

/// The mount namespaces of all processes, each with the directory in `/proc` of one process.
pub(super) fn namespaces() -> Result<BTreeMap<u64, PathBuf>, String> {
    let mut found = BTreeMap::new();
    for process in entries(Path::new("/proc"))? {
        let name = process.file_name().unwrap_or_default().as_bytes();
        if name.iter().all(u8::is_ascii_digit)
            && let Some(namespace) = namespace(&process)?
        {
            found.entry(namespace).or_insert(process);
        }
    }
    Ok(found)
}

/// Whether it is the superuser's first process. If it may not be looked at it has rights that this
/// one lacks; and it has no files of users open for writing.
fn is_first(process: &Path) -> bool {
    process.file_name() == Some(OsStr::new("1"))
        && std::fs::metadata(process).is_ok_and(|found| found.uid() == 0)
}

fn is_hidden(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM))
}

/// Adds the open files of a thread.
fn opened(finder: &mut Finder<'_>, table: &Path) -> Result<TableFacts, String> {
    let mut facts = TableFacts::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(table, flags, Mode::empty()).map_err(std::io::Error::from);
    let Some(handle) = unless_gone(opened, "open", table)? else { return Ok(facts) };
    let io = |error: Errno| words("list", table, error.into());
    for entry in rustix::fs::Dir::read_from(&handle).map_err(io)? {
        let entry = match entry {
            // The thread has ended.
            Err(Errno::NOENT | Errno::SRCH) => return Ok(facts),
            entry => entry.map_err(io)?,
        };
        if entry.file_name().to_bytes().first() == Some(&b'.') {
            continue;
        }
        facts.has_files = true;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        facts.in_flight |= open_file(finder, &handle, table, name)?;
    }
    Ok(facts)
}

/// Adds one open file, if it is open for writing. Says whether it is a socket with files in it.
fn open_file(
    finder: &mut Finder<'_>,
    table: &OwnedFd,
    path: &Path,
    name: &OsStr,
) -> Result<bool, String> {
    // A server of another file system is not asked, and cannot make this wait.
    let ask = |flags| {
        let mask = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::INO | StatxFlags::NLINK;
        match rustix::fs::statx(table, name, flags | AtFlags::STATX_DONT_SYNC, mask) {
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            found => found.map(Some).map_err(|e| words("ask about", &path.join(name), e.into())),
        }
    };
    let Some(file) = ask(AtFlags::empty())? else { return Ok(false) };
    let device = rustix::fs::makedev(file.stx_dev_major, file.stx_dev_minor);
    match FileType::from_raw_mode(file.stx_mode.into()) {
        FileType::RegularFile => {}
        FileType::Socket => return in_flight(&path.join(name)),
        // An instance of io_uring has no type.
        FileType::Unknown if !reports_fixed_files() => fixed_files(&path.join(name))?,
        _ => return Ok(false),
    }
    let is_interesting = !finder.is_known(device, file.stx_ino) && file.stx_nlink > 0;
    if !is_interesting {
        return Ok(false);
    }
    // The rights of the link are those of the open file.
    let link = ask(AtFlags::SYMLINK_NOFOLLOW)?;
    if link.is_some_and(|link| link.stx_mode & 0o200 != 0) {
        let link = path.join(name);
        finder.add(&link, device, file.stx_ino)?;
        finder.add_other(device, &link);
    }
    Ok(false)
}

/// Whether there are files in a socket that were not received yet.
fn in_flight(link: &Path) -> Result<bool, String> {
    let mut protocol = [0; 64];
    let asked = rustix::fs::getxattr(link, "system.sockprotoname", &mut protocol[..]);
    if asked.is_ok() && !protocol.starts_with(b"UNIX") {
        return Ok(false);
    }
    Ok(number_in(&info_of(link), b"scm_fds:")?.is_some_and(|count| count > 0))
}

/// Refuses to go on when an instance of io_uring holds files by itself, on a kernel that does not
/// report what it writes.
fn fixed_files(link: &Path) -> Result<(), String> {
    match number_in(&info_of(link), b"UserFiles:")? {
        Some(1..) => Err("files are registered with io_uring, and this kernel does not report \
                          what is written to them"
            .to_owned()),
        _ => Ok(()),
    }
}

/// The file that describes an open file.
fn info_of(link: &Path) -> PathBuf {
    let table = link.parent().unwrap_or(link);
    table.with_file_name("fdinfo").join(link.file_name().unwrap_or_default())
}

/// The number in the line that begins so.
fn number_in(info: &Path, begin: &[u8]) -> Result<Option<u64>, String> {
    let text = read(info)?.unwrap_or_default();
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(begin));
    Ok(line.and_then(|line| std::str::from_utf8(line.trim_ascii()).ok()?.parse().ok()))
}

/// Adds the files that a process has mapped so that it may write to them. Says whether it has any
/// mapping.
fn mapped(finder: &mut Finder<'_>, thread: &Path, is_leader: bool) -> Result<bool, String> {
    let Some(table) = read(&thread.join("maps"))? else { return Ok(false) };
    // Only the process has these links.
    let links = thread.parent().and_then(Path::parent).unwrap_or(thread).join("map_files");
    for line in table.split(|&byte| byte == b'\n') {
        let Some(mapping) = parse(line) else { continue };
        let is_elsewhere = !finder.devices.contains(&mapping.device);
        if finder.is_known(mapping.device, mapping.inode) || (is_elsewhere && !mapping.is_writable)
        {
            continue;
        }
        let link = links.join(OsStr::from_bytes(mapping.range));
        // What may be read only now may have been written to before. The rights of the link are
        // those of the open file, or of one that was mapped there before: they are asked only of a
        // file with several names, which could cost a look at everything.
        let open = rustix::fs::lstat(&link).map_err(std::io::Error::from);
        match unless_gone(open, "ask about", &link)? {
            Some(open) if !mapping.is_writable && open.st_mode & 0o200 == 0 && is_linked(&link) => {
            }
            Some(_) => {
                finder.add(&link, mapping.device, mapping.inode)?;
                finder.add_other(mapping.device, &link);
            }
            // A mapping that has ended is an event.
            None if is_leader => {}
            None => lone(finder, &mapping)?,
        }
    }
    Ok(!table.is_empty())
}

fn is_linked(link: &Path) -> bool {
    rustix::fs::stat(link).is_ok_and(|file| file.st_nlink > 1)
}

/// Adds a file of which only the path is known: the first thread has ended, and its links with it.
fn lone(finder: &mut Finder<'_>, mapping: &Mapping<'_>) -> Result<(), String> {
    let path = unescape(mapping.path);
    finder.add(&path, mapping.device, mapping.inode)?;
    let is_found = finder.is_known(mapping.device, mapping.inode);
    if finder.devices.contains(&mapping.device) && !is_found {
        return Err(format!("{} is mapped into memory and cannot be found", path.display()));
    }
    Ok(())
}

/// A part of a file that is mapped and shared with all who use the file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'l> {
    range: &'l [u8],
    is_writable: bool,
    device: u64,
    inode: u64,
    path: &'l [u8],
}

/// Parses `7f00-7f01 rw-s 00000000 fe:01 4711      /path`, if it is one.
fn parse(line: &[u8]) -> Option<Mapping<'_>> {
    let mut words = line.splitn(6, |&byte| byte == b' ');
    let range = words.next()?;
    let rights = words.next()?;
    if rights.get(3) != Some(&b's') {
        return None;
    }
    let is_writable = rights.get(1) == Some(&b'w');
    let device = std::str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let device = rustix::fs::makedev(number(device.0)?, number(device.1)?);
    let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let path = words.next()?.trim_ascii_start();
    let mapping = Mapping { range, is_writable, device, inode, path };
    path.starts_with(b"/").then_some(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table() {
        let line = b"7f0-7f1 rw-s 00000000 fe:01 4711                /srv/a b\\012c";
        let device = rustix::fs::makedev(0xfe, 1);
        let path = &b"/srv/a b\\012c"[..];
        let (range, inode) = (&b"7f0-7f1"[..], 4711);
        let mapping = Mapping { range, is_writable: true, device, inode, path };
        assert_eq!(parse(line), Some(mapping));
        assert!(!parse(b"7f0-7f1 r--s 00000000 fe:01 4711 /read").unwrap().is_writable);
        for other in [
            &b"7f0-7f1 rw-p 00000000 fe:01 4711 /private"[..],
            b"7f0-7f1 rw-s 00000000 00:01 0 [anon]",
            b"7f0-7f1 rw-s 00000000 00:00 0",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
