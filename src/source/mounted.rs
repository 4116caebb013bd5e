//! Which data a file system shows whose own numbers do not say it: by what is mounted, and where
//! that is only the name of a program or of a device, by which mount it is.
//!
//! A share of a server is the same share after it was mounted again. What a FUSE program calls
//! `mine`, or what lies on `/dev/loop0`, may be something else then, with the same inode numbers,
//! sizes and times.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, StatxFlags, statx};

/// Where the kernel lists what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";
/// A number that is the same until the machine starts again.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// One directory for each FUSE mount, named by its device, created with it.
const FUSE_CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Type numbers of file systems whose source names a server and a share.
const NETWORK: [u64; 9] = [
    0x6969,      // nfs
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb3
    0x00c3_6400, // ceph
    0x0102_1997, // 9p
    0x5346_414f, // afs
    0x7375_7245, // coda
    0x0bd0_0bd0, // lustre
    0x4750_4653, // gpfs
];

/// A number of a mount that is never given out again until the machine starts again.
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What identifies the data that is mounted as device `dev`, of which `fd` is an item, in parts;
/// nothing when the kernel does not tell enough.
pub(super) fn origin(fd: &OwnedFd, dev: u64, kind_of_fs: u64) -> Option<Vec<Vec<u8>>> {
    let table = std::fs::read(MOUNTS).ok()?;
    let device = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let (kind, source) = find(&table, device)?;
    let mut parts = vec![kind.to_vec(), source.to_vec()];
    let is_network = NETWORK.contains(&kind_of_fs) || kind == b"virtiofs";
    if !is_network {
        match location(source) {
            Some(location) => parts.push(location),
            None => {
                parts.push(std::fs::read(BOOT_ID).ok()?);
                parts.push(instance(fd, device)?);
            }
        }
    }
    Some(parts)
}

/// Type and source of what is mounted from `device`, from the kernel's list, whose lines are
/// `36 35 98:0 /root /at options … - type source options`, as proc(5) describes it.
fn find(table: &[u8], (major, minor): (u32, u32)) -> Option<(&[u8], &[u8])> {
    let wanted = format!("{major}:{minor}");
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut words = line.split(|&byte| byte == b' ');
        if words.nth(2)? != wanted.as_bytes() {
            return None;
        }
        words.by_ref().find(|word| *word == b"-")?;
        Some((words.next()?, words.next()?))
    })
}

/// What a source adds to its own name where that is the place of the data: nothing of
/// `user@host:directory`, and of an image file which one it is.
fn location(source: &[u8]) -> Option<Vec<u8>> {
    if !source.starts_with(b"/") {
        return source.contains(&b':').then(Vec::new);
    }
    let metadata = Path::new(std::ffi::OsStr::from_bytes(source)).metadata().ok()?;
    if metadata.is_dir() {
        return Some(Vec::new());
    }
    let (inode, changed) = (metadata.ino(), (metadata.mtime(), metadata.mtime_nsec()));
    let which = format!("{inode} {} {changed:?}", metadata.len());
    metadata.is_file().then(|| which.into_bytes())
}

/// Which mount of its device it is, since the machine started.
fn instance(fd: &OwnedFd, (major, minor): (u32, u32)) -> Option<Vec<u8>> {
    if major != 0 {
        // Counts the media that were put into all drives, loop devices among them.
        let of_disk = format!("/sys/dev/block/{major}:{minor}/diskseq");
        let of_partition = format!("/sys/dev/block/{major}:{minor}/../diskseq");
        return std::fs::read(of_disk).or_else(|_| std::fs::read(of_partition)).ok();
    }
    if let Ok(made) = Path::new(FUSE_CONNECTIONS).join(minor.to_string()).metadata() {
        return Some(format!("{} {}", made.ctime(), made.ctime_nsec()).into_bytes());
    }
    let found = statx(fd, c"", AtFlags::EMPTY_PATH, UNIQUE_MOUNT).ok()?;
    let is_told = found.stx_mask & UNIQUE_MOUNT.bits() != 0;
    is_told.then(|| found.stx_mnt_id.to_le_bytes().to_vec())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes test data")]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_type_and_source() {
        let table = b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            40 24 0:51 / /mnt/a\\040b rw shared:3 - fuse.sshfs me@host:/x rw,user_id=0\n\
            41 24 0:52 / /n rw - nfs4 server:/export rw\n";
        assert_eq!(find(table, (0, 51)), Some((&b"fuse.sshfs"[..], &b"me@host:/x"[..])));
        assert_eq!(find(table, (0, 52)), Some((&b"nfs4"[..], &b"server:/export"[..])));
        assert_eq!(find(table, (0, 5)), None);
    }

    #[test]
    fn only_a_source_that_names_a_place_identifies_what_is_mounted() {
        assert_eq!(location(b"me@host:/x"), Some(Vec::new()));
        assert_eq!(
            (location(b"squashfuse"), location(b"/dev/null"), location(b"/no/such")),
            (None, None, None)
        );
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(location(dir.path().as_os_str().as_bytes()), Some(Vec::new()));
        let image = dir.path().join("image");
        let of_image = || location(image.as_os_str().as_bytes()).unwrap();
        std::fs::write(&image, b"one").unwrap();
        let one = of_image();
        assert_eq!(of_image(), one);
        std::fs::write(&image, b"other").unwrap();
        assert_ne!(of_image(), one);
    }
}
