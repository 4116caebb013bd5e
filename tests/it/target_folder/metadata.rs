//! Times, extended attributes and ACLs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;

use gabion::format::entry::{EntryKind, Metadata, Timestamp, Xattr};
use gabion::target::{Applied, Difference, MetadataPolicy, OwnerPolicy};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::{NUMBERS, Place, file_meta, meta, xattr};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An ACL as the kernel keeps it: owner, one user, owning group, mask, others.
fn acl(owner: u16, user: (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1, owner, none),
        (2, user.1, user.0),
        (4, group, none),
        (16, mask, none),
        (32, others, none),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn attributes(xattrs: &[Xattr]) -> Arc<[Xattr]> {
    xattrs.into()
}

/// Whether the file system of the tests can hold ACLs at all.
fn acls_work(place: &Place) -> bool {
    let probe = place.folder.path().join("probe");
    fs::File::create_new(&probe).unwrap();
    let value = acl(6, (1234, 4), 4, 4, 0);
    setxattr(&probe, ACCESS, &value, XattrFlags::empty()) != Err(Errno::OPNOTSUPP)
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    let place = Place::new();
    for (number, (seconds, nanos)) in
        [(0, 0), (1, 999_999_999), (-1, 1), (-2_000_000_000, 500_000_000), (4_000_000_000, 7)]
            .into_iter()
            .enumerate()
    {
        let mtime = Timestamp { seconds, nanos };
        let path = number.to_string();
        let check = |kind: EntryKind, applied: Applied| {
            assert!(applied.is_complete(), "{kind:?} {mtime:?}");
            let found = place.target.existing(path.as_bytes()).unwrap().unwrap();
            assert_eq!((found.kind, found.mtime), (kind, mtime));
            assert!(place.target.remove(path.as_bytes()).unwrap());
        };
        let of = |kind| Metadata { mtime, ..meta(kind) };
        let path = path.as_bytes();
        let file = of(EntryKind::File);
        check(file.kind, place.target.write_small(path, &file, b"", &NUMBERS, false).unwrap());
        let large = place.target.begin_file(path, 5).unwrap();
        large.write_at(0, b"12345").unwrap();
        check(EntryKind::File, large.finish(&file, &NUMBERS).unwrap());
        place.target.make_folder(path).unwrap();
        let folder = of(EntryKind::Directory);
        check(folder.kind, place.target.finish_folder(path, &folder, &NUMBERS).unwrap());
        let link = of(EntryKind::Symlink);
        check(link.kind, place.target.make_symlink(path, b"/", &link, &NUMBERS).unwrap());
        let pipe = of(EntryKind::Fifo);
        check(pipe.kind, place.target.make_fifo(path, &pipe, &NUMBERS).unwrap());
    }
}

#[test]
fn impossible_nanoseconds_do_not_mean_now() {
    let place = Place::new();
    // The numbers by which the kernel understands "now" and "leave it".
    for nanos in [(1 << 30) - 1, (1 << 30) - 2, 1_000_000_000, u32::MAX] {
        let bad = Metadata { mtime: Timestamp { seconds: 1, nanos }, ..file_meta(b"") };
        let applied = place.target.write_small(b"f", &bad, b"", &NUMBERS, true).unwrap();
        assert_eq!(applied, Applied { times_failed: true, ..Applied::default() });
    }
}

#[test]
fn attributes_are_set_replaced_and_removed() {
    let place = Place::new();
    let long = [0x5a; 3000];
    let many = attributes(&[xattr("user.a", b"1"), xattr("user.b", &long), xattr("user.c", b"")]);
    let first = Metadata { xattrs: many, mode: 0o444, ..file_meta(b"x") };
    let applied = place.target.write_small(b"f", &first, b"x", &NUMBERS, false).unwrap();
    assert!(applied.is_complete());
    assert_eq!(place.target.compare(b"f", &first, &NUMBERS).unwrap(), []);

    let fewer = attributes(&[xattr("user.b", b"2")]);
    let second = Metadata { xattrs: fewer, ..first.clone() };
    assert_eq!(place.target.compare(b"f", &second, &NUMBERS).unwrap(), [Difference::Xattrs]);
    assert!(place.target.set_metadata(b"f", &second, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"f", &second, &NUMBERS).unwrap(), []);
    assert_eq!(getxattr(place.path("f"), "user.a", &mut [0; 9]), Err(Errno::NODATA));

    place.target.make_folder(b"d").unwrap();
    let folder = Metadata { kind: EntryKind::Directory, mode: 0o555, ..first };
    assert!(place.target.finish_folder(b"d", &folder, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"d", &folder, &NUMBERS).unwrap(), []);
}

#[test]
fn attributes_that_cannot_be_set_are_counted() {
    let place = Place::new();
    let bad = attributes(&[
        xattr("", b"1"),
        xattr("nonsense.name", b"1"),
        xattr("us\0er.a", b"1"),
        xattr("user.fine", b"1"),
        xattr("user.huge", &vec![0; 1 << 20]),
        xattr(ACCESS, b"rubbish"),
    ]);
    let meta = Metadata { xattrs: bad, ..file_meta(b"") };
    let applied = place.target.write_small(b"f", &meta, b"", &NUMBERS, false).unwrap();
    assert_eq!(applied, Applied { xattrs_failed: 5, ..Applied::default() });
    assert_eq!(getxattr(place.path("f"), "user.fine", &mut [0; 9]), Ok(1));
    let no_xattrs = MetadataPolicy { xattrs: false, ..NUMBERS };
    let applied = place.target.write_small(b"g", &meta, b"", &no_xattrs, false).unwrap();
    assert!(applied.is_complete());
    assert_eq!(getxattr(place.path("g"), "user.fine", &mut [0; 9]), Err(Errno::NODATA));
}

#[test]
fn acls_survive_with_the_mode() {
    let place = Place::new();
    if !acls_work(&place) {
        return;
    }
    let value = acl(7, (1234, 6), 1, 4, 1);
    let xattrs = attributes(&[xattr(ACCESS, &value)]);
    // As the source has it: the middle bits are the mask, and special bits are on top.
    let meta = Metadata { mode: 0o4741, xattrs, ..file_meta(b"x") };
    let applied = place.target.write_small(b"f", &meta, b"x", &NUMBERS, false).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
    assert_eq!(place.target.compare(b"f", &meta, &NUMBERS).unwrap(), []);
    let mut found = [0; 100];
    let len = getxattr(place.path("f"), ACCESS, &mut found).unwrap();
    assert_eq!(&found[..len], value);

    place.target.make_folder(b"d").unwrap();
    let both = attributes(&[xattr(ACCESS, &value), xattr(DEFAULT, &acl(7, (99, 7), 5, 7, 0))]);
    let folder = Metadata { kind: EntryKind::Directory, xattrs: both, ..meta };
    assert!(place.target.finish_folder(b"d", &folder, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"d", &folder, &NUMBERS).unwrap(), []);
}

#[test]
fn without_its_acl_a_file_grants_its_group_no_more_than_before() {
    let place = Place::new();
    // A named user could write; the owning group could only read.
    let value = acl(6, (1234, 6), 4, 6, 0);
    let xattrs = attributes(&[xattr(ACCESS, &value)]);
    let meta = Metadata { mode: 0o660, xattrs, ..file_meta(b"") };
    let no_xattrs = MetadataPolicy { xattrs: false, ..NUMBERS };
    let applied = place.target.write_small(b"f", &meta, b"", &no_xattrs, false).unwrap();
    assert!(applied.is_complete());
    assert_eq!(place.target.existing(b"f").unwrap().unwrap().mode, 0o640);
}

#[test]
fn nothing_is_inherited_from_the_place() {
    let place = Place::new();
    if !acls_work(&place) {
        return;
    }
    let given = acl(7, (1234, 7), 7, 7, 7);
    setxattr(place.path(""), DEFAULT, &given, XattrFlags::empty()).unwrap();
    // Opened after the ACL was given to it.
    let target = gabion::target::TargetFolder::open(&place.path("")).unwrap();
    let (file, folder) = (file_meta(b"x"), Metadata { mode: 0o750, ..meta(EntryKind::Directory) });
    for prefix in ["", "d/"] {
        if !prefix.is_empty() {
            target.make_folder(b"d").unwrap();
        }
        let path = |name: &str| format!("{prefix}{name}").into_bytes();
        let applied = target.write_small(&path("f"), &file, b"x", &NUMBERS, false).unwrap();
        assert!(applied.is_complete());
        let large = target.begin_file(&path("l"), 1).unwrap();
        assert!(large.finish(&file, &NUMBERS).unwrap().is_complete());
        let fifo = meta(EntryKind::Fifo);
        assert!(target.make_fifo(&path("p"), &fifo, &NUMBERS).unwrap().is_complete());
        for name in ["f", "l"] {
            assert_eq!(target.compare(&path(name), &file, &NUMBERS).unwrap(), [], "{name}");
        }
        assert_eq!(target.compare(&path("p"), &fifo, &NUMBERS).unwrap(), []);
    }
    assert!(target.finish_folder(b"d", &folder, &NUMBERS).unwrap().is_complete());
    assert_eq!(target.compare(b"d", &folder, &NUMBERS).unwrap(), []);
}

#[test]
fn the_metadata_of_what_exists_is_put_right() {
    let place = Place::new();
    let wrong = Metadata { mode: 0o777, mtime: Timestamp::default(), ..file_meta(b"x") };
    let applied = place.target.write_small(b"f", &wrong, b"x", &NUMBERS, false).unwrap();
    assert!(applied.is_complete());
    fs::set_permissions(place.path("f"), fs::Permissions::from_mode(0o000)).unwrap();
    let right = file_meta(b"x");
    assert!(place.target.set_metadata(b"f", &right, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"f", &right, &NUMBERS).unwrap(), []);
    let stream = Metadata { kind: EntryKind::Stream, ..right };
    assert!(place.target.set_metadata(b"f", &stream, &NUMBERS).unwrap().is_complete());
    assert!(place.target.set_metadata(b"none", &stream, &NUMBERS).is_err());

    let link = meta(EntryKind::Symlink);
    std::os::unix::fs::symlink("f", place.path("l")).unwrap();
    assert!(place.target.set_metadata(b"l", &link, &NUMBERS).unwrap().is_complete());
    assert_eq!(fs::symlink_metadata(place.path("l")).unwrap().mtime(), link.mtime.seconds);
}

#[test]
fn owners_are_found_by_name() {
    let place = Place::new();
    let mut recorded = file_meta(b"");
    let owner = gabion::format::entry::Owner {
        uid: 4711,
        gid: 4711,
        user: b"root".as_slice().into(),
        group: b"root".as_slice().into(),
    };
    recorded.owner = Arc::new(owner);
    let names = MetadataPolicy { owner: OwnerPolicy::Names, xattrs: true, special: true };
    let applied = place.target.write_small(b"f", &recorded, b"", &names, false).unwrap();
    let found = place.target.existing(b"f").unwrap().unwrap();
    assert_eq!(applied.owner_failed, (found.uid, found.gid) != (0, 0));
    if super::is_superuser() {
        assert!(applied.is_complete());
        assert_eq!(place.target.compare(b"f", &recorded, &names).unwrap(), []);
        assert_eq!(place.target.compare(b"f", &recorded, &NUMBERS).unwrap(), [Difference::Owner]);
    }
}
