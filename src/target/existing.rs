//! What is already at the target: the facts that tell whether it has to be written again.

use std::io;

use rustix::fs::{FileType, Stat};

use crate::format::entry::{EntryKind, Timestamp};

/// What is known of an item at the target without opening it. A link is itself, never what it
/// points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes of a file or of a link's target; of no meaning for anything else.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// The twelve permission bits.
    pub mode: u16,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Inode number.
    pub inode: u64,
    /// Number of the file system it lies on, as the running system counts them.
    pub filesystem: u64,
    /// Number of hard links.
    pub links: u64,
    /// Device number of a device, else 0.
    pub device: u64,
}

impl Existing {
    #[allow(clippy::useless_conversion, reason = "the widths of these fields differ by system")]
    pub(super) fn of(stat: &Stat) -> io::Result<Self> {
        let kind = kind_of(stat)?;
        Ok(Self {
            kind,
            size: u64::try_from(stat.st_size).map_err(io::Error::other)?,
            mtime: mtime_of(stat)?,
            mode: mode_of(stat),
            uid: stat.st_uid,
            gid: stat.st_gid,
            inode: stat.st_ino.into(),
            filesystem: u64::try_from(stat.st_dev).map_err(io::Error::other)?,
            links: stat.st_nlink.into(),
            device: device_of(stat, kind)?,
        })
    }
}

/// Device number of a device, else 0.
#[allow(clippy::useless_conversion, reason = "the width of this field differs by system")]
pub(super) fn device_of(stat: &Stat, kind: EntryKind) -> io::Result<u64> {
    match kind {
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            u64::try_from(stat.st_rdev).map_err(io::Error::other)
        }
        _ => Ok(0),
    }
}

/// The twelve permission bits.
pub(super) fn mode_of(stat: &Stat) -> u16 {
    // Twelve bits fit.
    u16::try_from(stat.st_mode & 0o7777).unwrap_or(0)
}

pub(super) fn mtime_of(stat: &Stat) -> io::Result<Timestamp> {
    let nanos = u32::try_from(stat.st_mtime_nsec).map_err(io::Error::other)?;
    Ok(Timestamp { seconds: stat.st_mtime, nanos })
}

/// What an item is.
pub(super) fn kind_of(stat: &Stat) -> io::Result<EntryKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(EntryKind::File),
        FileType::Directory => Ok(EntryKind::Directory),
        FileType::Symlink => Ok(EntryKind::Symlink),
        FileType::Fifo => Ok(EntryKind::Fifo),
        FileType::Socket => Ok(EntryKind::Socket),
        FileType::CharacterDevice => Ok(EntryKind::CharDevice),
        FileType::BlockDevice => Ok(EntryKind::BlockDevice),
        FileType::Unknown => Err(io::Error::other("it is of an unknown kind")),
    }
}

/// What an entry of this kind is once it is restored: a stream becomes a file.
pub(super) fn kind_at_target(kind: EntryKind) -> EntryKind {
    if kind == EntryKind::Stream { EntryKind::File } else { kind }
}
