//! Which file system an item lies on: an identity that outlives a reboot, unlike `st_dev`, and
//! whether the kernel merely makes the file system up. Asked once per device, never per item.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Stat;
use crate::format::entry::EntryKind;

/// Who keeps inode numbers and times of a file system, and so what they prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// This kernel: an inode number names one file at a time, and every change sets ctime.
    Kernel,
    /// A server, a program or an image: NFS, SMB, FUSE, FAT, squashfs. Two files may have the same
    /// number, and times may stand still.
    Foreign,
    /// The kernel makes contents up when they are read (`/proc`): size and times tell nothing.
    MadeUp,
}

/// What is known about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Stable identity, 0 when unknown.
    pub(crate) id: u64,
    /// Who keeps inode numbers and times.
    pub(crate) upkeep: Upkeep,
    /// A folder has two links and one more for each folder in it.
    pub(crate) counts_folders: bool,
}

impl Identity {
    const UNKNOWN: Self = Self { id: 0, upkeep: Upkeep::Foreign, counts_folders: false };

    /// Enters it into the attributes of an item of the file system.
    pub(crate) fn describe(&self, stat: &mut Stat) {
        (stat.filesystem, stat.upkeep) = (self.id, self.upkeep);
    }
}

/// The identities found so far, by `st_dev`.
#[derive(Debug, Default)]
pub(crate) struct Filesystems {
    known: Mutex<HashMap<u64, Identity>>,
}

impl Filesystems {
    /// What is already known about device `dev`.
    pub(crate) fn known(&self, dev: u64) -> Option<Identity> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&dev).copied()
    }

    /// The identity of the file system of `stat`, from memory or by asking about the item that
    /// `opener(readable)` opens. It is asked for a readable handle only where that is harmless.
    #[cfg(target_os = "linux")]
    pub(crate) fn identify<F>(&self, stat: &Stat, opener: F) -> Identity
    where
        F: Fn(bool) -> std::io::Result<rustix::fd::OwnedFd>,
    {
        let Stat { dev, kind, .. } = *stat;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&identity) = known.get(&dev) {
            return identity;
        }
        // Opening a device or a pipe can have effects; its file system can be asked without.
        let harmless = matches!(kind, EntryKind::Directory | EntryKind::File);
        let readable = if harmless { opener(true).ok() } else { None };
        let Some(fd) = readable.or_else(|| opener(false).ok()) else {
            return Identity::UNKNOWN;
        };
        let identity = linux::ask(&fd, dev, kind);
        known.insert(dev, identity);
        identity
    }

    /// The identity of the file system of `stat`: without a way to ask for more, its number.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn identify<F>(&self, stat: &Stat, _opener: F) -> Identity
    where
        F: Fn(bool) -> std::io::Result<rustix::fd::OwnedFd>,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(stat.dev).or_insert_with(|| Identity {
            id: identity_hash(&[&stat.dev.to_le_bytes()]),
            ..Identity::UNKNOWN
        })
    }
}

/// 64 bits over the parts, never 0.
fn identity_hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{EntryKind, Identity, Upkeep, identity_hash};
    use crate::source::mounted;
    use rustix::fd::OwnedFd;
    use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

    const OVERLAY: u64 = 0x794c_7630;
    const BTRFS: u64 = 0x9123_683e;

    /// Type numbers of file systems that count a folder's folders in its links: those of ext, xfs
    /// and tmpfs. (Where ext has too many to count, it says 1.)
    const COUNTS_FOLDERS: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

    /// Type numbers of file systems of which this kernel keeps inode numbers and times itself.
    const KERNEL: [u64; 16] = [
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0xf2f5_2010, // f2fs
        0x2fc1_2fc1, // zfs
        0xca45_1a4e, // bcachefs
        0x794c_7630, // overlay
        0x8584_58f6, // ramfs
        0x3153_464a, // jfs
        0x5265_4973, // reiserfs
        0x3434,      // nilfs2
        0x2405_1905, // ubifs
        0x7366_746e, // ntfs3
        0x7461_636f, // ocfs2
        0x0116_1970, // gfs2
    ];

    /// Type numbers of file systems that are made as a whole, often with the same times in all of
    /// them: which image it is shows in nothing that is in it.
    const IMAGES: [u64; 6] = [
        0x7371_7368, // squashfs
        0x9660,      // iso9660
        0xe0f5_e1e2, // erofs
        0x28cd_3d45, // cramfs
        0x7275,      // romfs
        0x1501_3346, // udf
    ];

    /// Type numbers of file systems that only show the kernel's own state.
    const PSEUDO: [u64; 22] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x1cd1,      // devpts
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0xf97c_ff8c, // selinuxfs
        0x4341_5d53, // smackfs
        0x5a3c_69f0, // apparmor
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x1980_0202, // mqueue
        0x6573_5543, // fusectl
        0x4249_4e4d, // binfmt_misc
        0x6e73_6673, // nsfs
        0x0765_5821, // resctrl
        0x6c6f_6f70, // binder
        0x6759_6969, // rpc_pipefs
    ];

    /// The kernel's answer to "which UUID has this file system": a length and up to 16 bytes.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Uuid {
        len: u8,
        bytes: [u8; 16],
    }

    const GET_UUID: Opcode = opcode::read::<Uuid>(0x15, 0);

    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    fn uuid(fd: &OwnedFd) -> Option<Uuid> {
        // SAFETY: the opcode names exactly this request, whose answer has the layout of `Uuid`
        // (the size is part of the opcode), and every byte pattern is a valid `Uuid`.
        let answer = unsafe { ioctl(fd, Getter::<GET_UUID, Uuid>::new()) };
        answer.ok().filter(|uuid| uuid.len > 0)
    }

    pub(super) fn ask(fd: &OwnedFd, dev: u64, kind: EntryKind) -> Identity {
        let (kind_of_fs, fsid) = statfs(fd);
        let number = kind_of_fs.to_le_bytes();
        let device = dev.to_le_bytes();
        // A file of an overlay can show a lower layer's device, whose inode numbers must not be
        // mistaken for the overlay's; folders always show the overlay's own.
        let layer: &[u8] =
            if kind_of_fs == OVERLAY && kind != EntryKind::Directory { &device } else { &[] };
        let upkeep = if PSEUDO.contains(&kind_of_fs) {
            Upkeep::MadeUp
        } else if KERNEL.contains(&kind_of_fs) {
            Upkeep::Kernel
        } else {
            Upkeep::Foreign
        };
        let id = match uuid(fd).filter(|_| !IMAGES.contains(&kind_of_fs)) {
            // The subvolumes of a btrfs share the UUID but number their inodes independently.
            Some(uuid) if kind_of_fs == BTRFS => {
                identity_hash(&[&number, &uuid.bytes, &fsid, layer])
            }
            Some(uuid) => identity_hash(&[&number, &uuid.bytes, layer]),
            None if upkeep == Upkeep::Foreign => {
                mounted::origin(fd, dev, kind_of_fs).map_or(0, |origin| {
                    let parts: Vec<&[u8]> = origin.iter().map(|part| &part[..]).collect();
                    identity_hash(&[&[&number[..], &fsid[..]], &parts[..]].concat())
                })
            }
            None if fsid == [0; 8] && layer.is_empty() => 0,
            None => identity_hash(&[&number, &fsid, layer]),
        };
        Identity { id, upkeep, counts_folders: COUNTS_FOLDERS.contains(&kind_of_fs) }
    }

    /// Type number and id of the file system; zeros when the kernel does not say.
    fn statfs(fd: &OwnedFd) -> (u64, [u8; 8]) {
        // Some of these numbers do not fit a signed 32-bit word and come sign-extended there.
        let number = rustix::fs::fstatfs(fd).map_or(0, |answer| {
            u64::try_from(i128::from(answer.f_type) & 0xffff_ffff).unwrap_or(0)
        });
        let fsid = rustix::fs::fstatvfs(fd).map_or(0, |answer| answer.f_fsid);
        (number, fsid.to_le_bytes())
    }
}
