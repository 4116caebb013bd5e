//! Which file systems the sources of a snapshot lie on, and by which mounts they are reached.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::{FileSystemId, WatchError};

/// Where the kernel tells what is mounted.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// File systems of which nobody changes anything but through this kernel, and of which the kernel
/// tells every change: their type numbers and names. btrfs is not among them: its subvolumes are
/// devices of their own.
const LOCAL: [(u64, &str); 4] =
    [(0xef53, "ext4"), (0x5846_5342, "xfs"), (0x0102_1994, "tmpfs"), (0xf2f5_2010, "f2fs")];

/// What is known of the file system that a handle lies on.
pub(super) struct FileSystem {
    /// The id that events give.
    pub(super) id: FileSystemId,
    /// Its device.
    pub(super) device: u64,
    /// Its name where it tells every change; else the number of its type.
    pub(super) kind: Result<&'static str, String>,
}

/// The file system that a handle lies on.
pub(super) fn file_system(handle: impl AsFd) -> Result<FileSystem, Errno> {
    // The field's type differs between machines; the numbers have 32 bits.
    #[expect(clippy::cast_sign_loss, reason = "a bit pattern")]
    let number = rustix::fs::fstatfs(&handle)?.f_type as u64 & 0xffff_ffff;
    let known = LOCAL.iter().find(|(local, _)| *local == number);
    // The kernel's two halves, in its own order; here the first is the lower one.
    let id = rustix::fs::fstatvfs(&handle)?.f_fsid;
    let halves = [id & 0xffff_ffff, id >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let mut bytes = [0; 8];
    #[expect(clippy::host_endian_bytes, reason = "as the kernel of this machine writes it")]
    bytes[..4].copy_from_slice(&halves[0].to_ne_bytes());
    #[expect(clippy::host_endian_bytes, reason = "as the kernel of this machine writes it")]
    bytes[4..].copy_from_slice(&halves[1].to_ne_bytes());
    Ok(FileSystem {
        id: bytes,
        device: rustix::fs::fstat(&handle)?.st_dev,
        kind: known.map(|(_, name)| *name).ok_or_else(|| format!("type {number:#x}")),
    })
}

/// A line of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The mount's own number.
    number: u64,
    /// Major and minor number.
    device: (u32, u32),
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where.
    pub(super) at: PathBuf,
    /// The directory that is written to, of an overlay, as it was named when it was mounted.
    pub(super) upper: Option<PathBuf>,
}

/// All that is mounted, in the kernel's order: what hides something comes later.
pub(super) fn all() -> Result<Vec<Mount>, WatchError> {
    let table = std::fs::read(MOUNTS).map_err(|error| WatchError::io("read", MOUNTS, error))?;
    parse_all(&table).ok_or_else(|| {
        let reason = std::io::Error::other("it is in a form that is not known");
        WatchError::io("read", MOUNTS, reason)
    })
}

/// Parses a whole table.
pub(super) fn parse_all(table: &[u8]) -> Option<Vec<Mount>> {
    table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

/// Parses `36 35 98:0 /root /at options … - type source options`, as proc(5) describes it.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let mut text = || std::str::from_utf8(words.next()?).ok();
    let number = text()?.parse().ok()?;
    text()?;
    let (major, minor) = text()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let (root, at) = (unescape(words.next()?), unescape(words.next()?));
    words.find(|word| *word == b"-")?;
    let kind = words.next()?;
    let options = words.nth(1).unwrap_or_default().split(|&byte| byte == b',');
    let upper = options.filter_map(|option| option.strip_prefix(b"upperdir=")).next();
    let upper = upper.filter(|_| kind == b"overlay").map(unescape);
    Some(Mount { number, device, root, at, upper })
}

/// Undoes the octal escapes of blanks.
pub(super) fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

impl Mount {
    /// Its device as `stat` has it.
    pub(super) fn device(&self) -> u64 {
        rustix::fs::makedev(self.device.0, self.device.1)
    }

    /// The number of the mount namespace that it keeps alive.
    pub(super) fn namespace(&self) -> Option<u64> {
        let number = self.root.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?;
        number.parse().ok()
    }
}

/// The mounts that `path`, without links among its ancestors, is reached by or holds: the one that
/// it lies on first, then those below it.
pub(super) fn of<'m>(mounts: &'m [Mount], path: &Path) -> Vec<&'m Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    // Of equal places the last one hides the others.
    let own = holds.max_by_key(|mount| mount.at.as_os_str().len());
    let below = mounts.iter().filter(|mount| mount.at != path && mount.at.starts_with(path));
    own.into_iter().chain(below).collect()
}

/// What must be the same at the next snapshot, in words.
pub(super) fn fingerprint<'m>(mounts: impl Iterator<Item = &'m Mount>) -> String {
    let mut text = String::new();
    for mount in mounts {
        let (major, minor) = mount.device;
        let hex = |path: &Path| -> String {
            path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        text +=
            &format!("{} {major}:{minor} {} {};", mount.number, hex(&mount.root), hex(&mount.at));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table() {
        let line = br"36 35 98:12 /mnt\0401 /at\134x rw,noatime master:1 - ext3 /dev/root rw";
        let mount = parse(line).unwrap();
        assert_eq!((mount.number, mount.device), (36, (98, 12)));
        assert_eq!((mount.root.clone(), mount.at.clone()), ("/mnt 1".into(), r"/at\x".into()));
        assert_eq!((mount.namespace(), mount.upper), (None, None));
        let line = br"7 1 0:40 / /m rw - overlay o rw,lowerdir=/l,upperdir=/u\054\040x,workdir=/w";
        assert_eq!(parse(line).unwrap().upper, Some("/u, x".into()));
        let line = b"8 1 0:4 mnt:[4026532177] /run/ns rw - nsfs nsfs rw";
        assert_eq!(parse(line).unwrap().namespace(), Some(4_026_532_177));
        assert_eq!(parse(b"36 35 98 / / rw"), None);
        assert!(!all().unwrap().is_empty());
    }

    #[test]
    fn the_mounts_of_a_path() {
        let mount = |number, at: &str| {
            let device = (1, 2);
            Mount { number, device, root: "/".into(), at: at.into(), upper: None }
        };
        let mounts =
            [mount(1, "/"), mount(2, "/a"), mount(3, "/a/b"), mount(4, "/ab"), mount(5, "/a")];
        let numbers = |path: &str| -> Vec<u64> {
            of(&mounts, Path::new(path)).iter().map(|mount| mount.number).collect()
        };
        assert_eq!(numbers("/a/x"), [5]);
        assert_eq!(numbers("/a"), [5, 3]);
        assert_eq!(numbers("/c"), [1]);
        assert_eq!(numbers("/"), [1, 2, 3, 4, 5]);
        assert_ne!(fingerprint(mounts[..1].iter()), fingerprint(mounts[..2].iter()));
    }
}
