//! What a snapshot is taken of: trees of files, read without changing them.

pub mod exclude;
mod filesystem;
#[cfg(target_os = "linux")]
pub(crate) mod lister;
pub mod live;
pub mod metadata;
#[cfg(target_os = "linux")]
mod mounted;
pub mod open;
#[cfg(target_os = "linux")]
mod parallel;
#[cfg(target_os = "linux")]
pub(crate) mod partial;
pub mod pattern;
pub(crate) mod plan;
pub mod portable;
pub(crate) mod probe;
mod rules_kept;
mod rules_seen;
pub mod scan;
pub mod sparse;
pub mod why;

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::format::entry::{EntryKind, Timestamp};
pub use filesystem::Upkeep;

/// What one system call tells about an item of the source: enough to see whether it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is; never a stream.
    pub kind: EntryKind,
    /// The twelve permission bits.
    pub mode: u16,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Stable identity of the file system; 0 when unknown.
    pub filesystem: u64,
    /// Number of hard links.
    pub links: u32,
    /// Length in bytes of a regular file, else 0.
    pub size: u64,
    /// Device number of a device, else 0.
    pub device: u64,
    /// Space that the item takes up, in units of 512 bytes.
    pub blocks_512: u64,
    /// `st_dev`: which of the mounted file systems it lies on. Two of them may have the same
    /// identity (`filesystem`), never the same number here. Not stored.
    pub dev: u64,
    /// When the inode was created, if the file system keeps that; else the epoch. Not stored.
    pub born: Timestamp,
    /// Who keeps inode numbers and times. Not stored.
    pub upkeep: Upkeep,
}

impl Stat {
    /// Whether it takes up less space than its length: only then can it have holes (or be
    /// compressed by its file system) and is asking for its data regions worth the calls.
    pub fn may_have_holes(&self) -> bool {
        self.kind == EntryKind::File && self.blocks_512.saturating_mul(512) < self.size
    }

    /// Whether `other` is the same file system object, as far as one look at each can tell.
    pub(crate) fn is_same_inode(&self, other: &Self) -> bool {
        self.dev == other.dev && self.inode == other.inode && self.born == other.born
    }

    /// Whether `other` is the same file in the same state: not changed in between, and not
    /// replaced by a file that got the same inode number.
    pub(crate) fn is_same_state(&self, other: &Self) -> bool {
        self.is_same_inode(other)
            && self.kind == other.kind
            && self.size == other.size
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }

    /// The same facts from the standard library's form; `None` for a kind no system here has.
    fn from_metadata(metadata: &std::fs::Metadata) -> Option<Self> {
        let kind = kind_of_mode(metadata.mode())?;
        let device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        Some(Self {
            kind,
            mode: permission_bits(metadata.mode()),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: timestamp(metadata.mtime(), metadata.mtime_nsec()),
            ctime: timestamp(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            filesystem: 0,
            links: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
            size: if kind == EntryKind::File { metadata.size() } else { 0 },
            device: if device { metadata.rdev() } else { 0 },
            blocks_512: metadata.blocks(),
            dev: metadata.dev(),
            born: metadata.created().map_or_else(|_| Timestamp::default(), system_time),
            upkeep: Upkeep::Foreign,
        })
    }
}

/// A file on a disk of this machine.
#[cfg(test)]
pub(crate) fn test_stat() -> Stat {
    let at = |seconds| Timestamp { seconds, nanos: 0 };
    Stat {
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: at(100),
        ctime: at(200),
        inode: 7,
        filesystem: 9,
        links: 1,
        size: 5,
        device: 0,
        blocks_512: 8,
        dev: 3,
        born: at(50),
        upkeep: Upkeep::Kernel,
    }
}

/// At most the first `limit` bytes of a file.
fn read_start(file: std::fs::File, limit: usize) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut start = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut start)?;
    Ok(start)
}

/// A time after the epoch from the standard library's form; files are not created before it.
pub(crate) fn system_time(time: std::time::SystemTime) -> Timestamp {
    let Ok(since) = time.duration_since(std::time::UNIX_EPOCH) else { return Timestamp::default() };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: since.subsec_nanos() }
}

fn timestamp(seconds: i64, nanos: i64) -> Timestamp {
    Timestamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// The permission bits of a mode word.
fn permission_bits(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

/// The kind that a mode word names.
fn kind_of_mode(mode: u32) -> Option<EntryKind> {
    Some(match mode & 0o170_000 {
        0o100_000 => EntryKind::File,
        0o040_000 => EntryKind::Directory,
        0o120_000 => EntryKind::Symlink,
        0o010_000 => EntryKind::Fifo,
        0o140_000 => EntryKind::Socket,
        0o020_000 => EntryKind::CharDevice,
        0o060_000 => EntryKind::BlockDevice,
        _ => return None,
    })
}

/// Something of the source that could not be read. Says nothing about the repository: the two
/// kinds of trouble never share a type, so that the second cannot be skipped like the first.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct SourceError {
    /// What it happened to.
    pub path: PathBuf,
    /// What was tried ("read the folder").
    pub action: &'static str,
    /// Why it did not work.
    #[source]
    pub source: io::Error,
}

impl SourceError {
    /// About a path in the scan's form, without its leading slash.
    pub(crate) fn at(path: &[u8], action: &'static str, source: impl Into<io::Error>) -> Self {
        Self { path: absolute(path), action, source: source.into() }
    }
}

/// The path as the operating system wants it, from the scan's form without leading slash.
pub fn absolute(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// The order of a scan: component by component, so that a folder comes directly before all that
/// is below it. The same as byte order with `/` taken for the smallest byte.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let place = |&byte: &u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(x, y)| x != y) {
        Some((x, y)) => place(x).cmp(&place(y)),
        None => a.len().cmp(&b.len()),
    }
}

/// Whether `path` is `folder` or lies below it. The empty folder is `/`.
pub(crate) fn is_at_or_below(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_puts_a_folder_directly_before_its_subtree() {
        let mut paths: Vec<&[u8]> =
            vec![b"a.b", b"a/b", b"a-b", b"a", b"a/b/c", b"a/b-c", b"b", b"a!", b"", b"a/\x01"];
        paths.sort_by(|a, b| compare_paths(a, b));
        let want: Vec<&[u8]> =
            vec![b"", b"a", b"a/\x01", b"a/b", b"a/b/c", b"a/b-c", b"a!", b"a-b", b"a.b", b"b"];
        assert_eq!(paths, want);
    }

    #[test]
    fn below_means_whole_components() {
        assert!(is_at_or_below(b"a/b", b"a") && is_at_or_below(b"a", b"a"));
        assert!(is_at_or_below(b"a", b"") && !is_at_or_below(b"ab", b"a"));
        assert!(!is_at_or_below(b"a", b"a/b"));
    }

    #[test]
    fn an_error_names_path_and_action_but_not_its_cause() {
        let error = SourceError::at(b"x/y", "read the folder", rustix::io::Errno::ACCESS);
        assert_eq!(error.to_string(), "cannot read the folder /x/y");
    }
}
