//! What the superuser, and what an ordinary user, can restore. Only the superuser can play both;
//! run by anyone else these tests have nothing to show.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gabion::format::entry::{EntryKind, Metadata, Owner};
use gabion::target::{
    Applied, Difference, MetadataPolicy, OwnerPolicy, TargetErrorKind, TargetFolder,
};
use rustix::fs::{Gid, Uid};

use super::{NUMBERS, Place, file_meta, is_superuser, meta, xattr};
use crate::support::private_mounts;

const NOBODY: u32 = 65_534;

fn owned_by(uid: u32, gid: u32, meta: Metadata) -> Metadata {
    let owner = Owner { uid, gid, user: Box::default(), group: Box::default() };
    Metadata { owner: Arc::new(owner), ..meta }
}

/// Does `work` as an ordinary user who owns the place, in a thread that has no other rights.
fn as_nobody(place: &Place, work: impl FnOnce(&TargetFolder) + Send) {
    for path in [place.folder.path().to_owned(), place.path(""), place.outside()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_groups(&[gid]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            work(&place.target);
        });
    });
}

#[test]
fn the_superuser_restores_owners_special_bits_and_capabilities() {
    if !is_superuser() {
        return;
    }
    let place = Place::new();
    // cap_net_raw=ep, as the kernel keeps it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = [xattr("security.capability", &capability), xattr("trusted.a", b"1")];
    let program = Metadata { mode: 0o6755, xattrs: Arc::new(xattrs), ..file_meta(b"x") };
    let program = owned_by(4711, 4712, program);
    let applied = place.target.write_small(b"f", &program, b"x", &NUMBERS, false).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
    assert_eq!(place.target.compare(b"f", &program, &NUMBERS).unwrap(), []);

    let link = owned_by(4711, 4712, meta(EntryKind::Symlink));
    let link = Metadata { target: b"f".as_slice().into(), ..link };
    let link = Metadata { xattrs: Arc::new([xattr("trusted.link", b"2")]), ..link };
    assert!(place.target.make_symlink(b"l", b"f", &link, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"l", &link, &NUMBERS).unwrap(), []);
    // The link got it, not what it points to.
    assert_eq!(place.target.compare(b"f", &program, &NUMBERS).unwrap(), []);

    for kind in [EntryKind::CharDevice, EntryKind::BlockDevice] {
        // 1:3 is harmless as a character device, and no block device has it.
        let device = owned_by(4711, 4712, Metadata { device: 0x103, ..meta(kind) });
        match place.target.make_device(b"dev", &device, &NUMBERS) {
            Ok(applied) => {
                assert!(applied.is_complete());
                assert_eq!(place.target.compare(b"dev", &device, &NUMBERS).unwrap(), []);
                let other = Metadata { device: 0x105, ..device };
                let found = place.target.compare(b"dev", &other, &NUMBERS).unwrap();
                assert_eq!(found, [Difference::Device]);
                assert!(place.target.remove(b"dev").unwrap());
            }
            // A container may forbid it even to its superuser.
            Err(error) => assert_eq!(error.kind, TargetErrorKind::NotPermitted),
        }
    }
}

#[test]
fn a_program_never_gets_the_rights_of_another_owner() {
    if !is_superuser() {
        return;
    }
    let place = Place::new();
    let leave = MetadataPolicy { owner: OwnerPolicy::Leave, xattrs: true, special: true };
    let foreign = owned_by(4711, 0, Metadata { mode: 0o6755, ..file_meta(b"") });
    let applied = place.target.write_small(b"f", &foreign, b"", &leave, false).unwrap();
    assert_eq!(applied, Applied { special_bits_dropped: true, ..Applied::default() });
    assert_eq!(place.target.existing(b"f").unwrap().unwrap().mode, 0o755);

    // The kernel takes this number as "leave it".
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        let nobody = owned_by(uid, gid, Metadata { mode: 0o6755, ..file_meta(b"") });
        let applied = place.target.write_small(b"f", &nobody, b"", &NUMBERS, true).unwrap();
        assert!(applied.owner_failed && applied.special_bits_dropped);
        assert_eq!(place.target.existing(b"f").unwrap().unwrap().mode, 0o755);
    }
}

#[test]
fn an_ordinary_user_loses_owners_and_special_bits_only() {
    if !is_superuser() {
        return;
    }
    let place = Place::new();
    as_nobody(&place, |target| {
        let program = owned_by(0, 0, Metadata { mode: 0o6755, ..file_meta(b"x") });
        let applied = target.write_small(b"f", &program, b"x", &NUMBERS, false).unwrap();
        let expected =
            Applied { owner_failed: true, special_bits_dropped: true, ..Applied::default() };
        assert_eq!(applied, expected);
        let found = target.existing(b"f").unwrap().unwrap();
        assert_eq!((found.uid, found.mode, found.mtime), (NOBODY, 0o755, program.mtime));
        let own = owned_by(NOBODY, NOBODY, program);
        assert!(target.set_metadata(b"f", &own, &NUMBERS).unwrap().is_complete());
        assert_eq!(target.existing(b"f").unwrap().unwrap().mode, 0o6755);

        let trusted = Metadata { xattrs: Arc::new([xattr("trusted.a", b"1")]), ..own };
        let applied = target.write_small(b"t", &trusted, b"x", &NUMBERS, false).unwrap();
        let expected = Applied { xattrs_failed: 1, special_bits_set: true, ..Applied::default() };
        assert_eq!(applied, expected);
        let device = Metadata { device: 0x103, ..meta(EntryKind::CharDevice) };
        let error = target.make_device(b"dev", &device, &NUMBERS).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::NotPermitted);
    });
}

#[test]
fn an_ordinary_user_restores_over_what_nobody_may_write() {
    if !is_superuser() {
        return;
    }
    let place = Place::new();
    as_nobody(&place, |target| {
        let closed = Metadata { mode: 0o000, ..meta(EntryKind::Directory) };
        for path in [&b"d"[..], b"d/e", b"d/e/f"] {
            target.make_folder(path).unwrap();
        }
        let secret = Metadata { mode: 0, ..file_meta(b"x") };
        assert!(target.write_small(b"d/s", &secret, b"x", &NUMBERS, false).unwrap().is_complete());
        for path in [&b"d/e/f"[..], b"d/e", b"d"] {
            assert!(target.finish_folder(path, &closed, &NUMBERS).unwrap().is_complete());
        }
        let error = target.existing(b"d/s").unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::NotPermitted);

        assert!(!target.make_folder(b"d").unwrap());
        let xattrs = Arc::new([xattr("user.a", b"1")]);
        let more = Metadata { xattrs, mode: 0o400, ..file_meta(b"x") };
        assert!(target.set_metadata(b"d/s", &more, &NUMBERS).unwrap().is_complete());
        assert_eq!(target.compare(b"d/s", &more, &NUMBERS).unwrap(), []);
        let closed = Metadata { mode: 0o300, ..closed };
        assert!(target.finish_folder(b"d", &closed, &NUMBERS).unwrap().is_complete());
        assert!(target.finish_folder(b"d", &closed, &NUMBERS).unwrap().is_complete());
        assert!(target.remove(b"d").unwrap());
        assert!(target.is_empty().unwrap());
    });
}

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    /// `None` where this process may not mount anything. The target must be opened after
    /// [`private_mounts`]: an earlier handle does not see what is mounted later.
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(at);
        mount.status().ok()?.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    private_mounts();
    let place = Place::new();
    let Some(small) = is_superuser().then(|| Small::mount(&place.outside())).flatten() else {
        return;
    };
    let target = TargetFolder::open(&small.0).unwrap();
    let content = vec![1; 100_000];
    let error = target.write_small(b"f", &file_meta(&content), &content, &NUMBERS, false);
    assert_eq!(error.unwrap_err().kind, TargetErrorKind::NoSpace);
    assert!(target.is_empty().unwrap());
    let file = target.begin_file(b"g", 100_000).unwrap();
    assert_eq!(file.write_at(0, &content).unwrap_err().kind, TargetErrorKind::NoSpace);
    drop((file, target));
}

#[test]
fn removal_stops_where_another_file_system_begins() {
    private_mounts();
    let place = Place::new();
    place.target.make_folder(b"d").unwrap();
    place.target.make_folder(b"d/mounted").unwrap();
    let at = place.path("d/mounted");
    let Some(small) = is_superuser().then(|| Small::mount(&at)).flatten() else {
        return;
    };
    fs::write(at.join("victim"), "precious").unwrap();
    for path in [&b"d"[..], b"d/mounted"] {
        let error = place.target.remove(path).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::UnsafePath);
        assert_eq!(error.path, fs::canonicalize(&at).unwrap());
    }
    // Restored into, it may be.
    super::write(&place.target, b"d/mounted/f", b"x").unwrap();
    assert_eq!(fs::metadata(at.join("victim")).unwrap().size(), 8);
    assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o777);
    drop(small);
}
