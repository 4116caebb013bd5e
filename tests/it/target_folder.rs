//! The writing side of a restore: what it makes, and that it never leaves its folder.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "plays the part of whoever else uses the folder")]

mod hostile;
mod metadata;
mod rights;
mod trees;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use gabion::format::entry::{EntryKind, Metadata, Owner, Timestamp, Xattr};
use gabion::target::{
    Difference, MetadataPolicy, OwnerPolicy, TargetError, TargetErrorKind, TargetFolder,
};
use tempfile::TempDir;

const NUMBERS: MetadataPolicy =
    MetadataPolicy { owner: OwnerPolicy::Numbers, xattrs: true, special: true };

/// A target, and beside it a place that nothing may touch.
struct Place {
    folder: TempDir,
    target: TargetFolder,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let target = TargetFolder::create_or_open(&folder.path().join("target")).unwrap();
        Self { folder, target }
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("target").join(name)
    }
}

/// Metadata as the user who runs the test could have made it.
fn meta(kind: EntryKind) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata {
        kind,
        mode: 0o640,
        owner: Arc::new(Owner { uid, gid, user: Box::default(), group: Box::default() }),
        mtime: Timestamp { seconds: 1_234_567_890, nanos: 123_456_789 },
        ctime: Timestamp::default(),
        inode: 0,
        filesystem: 0,
        links: 1,
        size: 0,
        device: 0,
        xattrs: Arc::new([]),
        target: Box::default(),
        unsettled: false,
    }
}

fn file_meta(content: &[u8]) -> Metadata {
    Metadata { size: content.len() as u64, ..meta(EntryKind::File) }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().into(), value: value.into() }
}

fn write(target: &TargetFolder, path: &[u8], content: &[u8]) -> Result<(), TargetError> {
    let applied = target.write_small(path, &file_meta(content), content, &NUMBERS, false)?;
    assert!(applied.is_complete(), "{applied:?}");
    Ok(())
}

fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_target_is_made_with_its_parents_and_found_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a/b/c");
    let missing = TargetFolder::open(&folder).unwrap_err();
    assert_eq!(missing.kind, TargetErrorKind::Vanished);
    let target = TargetFolder::create_or_open(&folder).unwrap();
    assert!(target.is_empty().unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    write(&target, b"f", b"x").unwrap();
    assert!(!TargetFolder::create_or_open(&folder).unwrap().is_empty().unwrap());
    target.sync().unwrap();

    symlink("a/b", place.path().join("link")).unwrap();
    let through_link = TargetFolder::open(&place.path().join("link")).unwrap();
    assert_eq!(through_link.place(), fs::canonicalize(place.path()).unwrap().join("a/b"));

    let no_folder = TargetFolder::create_or_open(&folder.join("f")).unwrap_err();
    assert!(matches!(no_folder.kind, TargetErrorKind::Exists | TargetErrorKind::NotAFolder));
    assert_eq!(
        TargetFolder::open(&folder.join("f")).unwrap_err().kind,
        TargetErrorKind::NotAFolder
    );
}

#[test]
fn small_files_get_content_and_metadata() {
    let place = Place::new();
    for (name, content) in [("empty", &b""[..]), ("one", b"1"), ("more", &[7; 70_000])] {
        let meta = Metadata { mode: 0o4751, ..file_meta(content) };
        let path = name.as_bytes();
        let applied = place.target.write_small(path, &meta, content, &NUMBERS, false).unwrap();
        assert!(applied.is_complete());
        assert_eq!(fs::read(place.path(name)).unwrap(), content);
        assert_eq!(place.target.compare(path, &meta, &NUMBERS).unwrap(), []);
        let existing = place.target.existing(path).unwrap().unwrap();
        assert_eq!((existing.kind, existing.mode), (EntryKind::File, 0o4751));
        assert_eq!((existing.size, existing.mtime), (meta.size, meta.mtime));
        let facts = fs::metadata(place.path(name)).unwrap();
        assert_eq!((existing.inode, existing.filesystem), (facts.ino(), facts.dev()));
        assert_eq!((existing.links, existing.device), (1, 0));
    }
}

#[test]
fn what_exists_is_kept_unless_it_is_to_be_replaced() {
    let place = Place::new();
    write(&place.target, b"f", b"old").unwrap();
    fs::hard_link(place.path("f"), place.path("other name")).unwrap();
    let error = write(&place.target, b"f", b"new").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Exists);
    assert_eq!(place.target.begin_file(b"f", 3).unwrap_err().kind, TargetErrorKind::Exists);
    assert_eq!(fs::read(place.path("f")).unwrap(), b"old");

    let applied = place.target.write_small(b"f", &file_meta(b"new"), b"new", &NUMBERS, true);
    assert!(applied.unwrap().is_complete());
    assert_eq!(fs::read(place.path("f")).unwrap(), b"new");
    assert_eq!(fs::read(place.path("other name")).unwrap(), b"old");

    place.target.make_folder(b"d").unwrap();
    for replace in [false, true] {
        let error = place.target.write_small(b"d", &file_meta(b""), b"", &NUMBERS, replace);
        assert_eq!(error.unwrap_err().kind, TargetErrorKind::Exists);
    }
}

#[test]
fn large_files_are_filled_in_any_order_and_stay_sparse() {
    let place = Place::new();
    let size = 1 << 30;
    let file = place.target.begin_file(b"large", size).unwrap();
    assert_eq!(fs::metadata(place.path("large")).unwrap().permissions().mode() & 0o7777, 0o600);
    std::thread::scope(|scope| {
        scope.spawn(|| file.write_at(size - 4, b"last").unwrap());
        scope.spawn(|| file.write_at(500_000_000, b"middle").unwrap());
    });
    for (offset, bytes) in [(size, &b"x"[..]), (size - 1, b"xy"), (u64::MAX, b"x")] {
        assert_eq!(file.write_at(offset, bytes).unwrap_err().kind, TargetErrorKind::Other);
    }
    file.write_at(size, b"").unwrap();
    let meta = Metadata { size, ..meta(EntryKind::File) };
    assert!(file.finish(&meta, &NUMBERS).unwrap().is_complete());

    assert_eq!(place.target.compare(b"large", &meta, &NUMBERS).unwrap(), []);
    assert!(fs::metadata(place.path("large")).unwrap().blocks() * 512 < 1 << 20);
    let file = place.target.read_back(b"large").unwrap();
    let mut bytes = [0; 8];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, size - 8).unwrap();
    assert_eq!(&bytes, b"\0\0\0\0last");
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 500_000_000).unwrap();
    assert_eq!(&bytes, b"middle\0\0");

    assert!(place.target.begin_file(b"impossible", u64::MAX).is_err());
    assert_eq!(place.target.existing(b"impossible").unwrap(), None);
}

#[test]
fn folders_are_private_until_they_are_finished() {
    let place = Place::new();
    assert!(place.target.make_folder(b"d").unwrap());
    assert!(!place.target.make_folder(b"d").unwrap());
    assert_eq!(place.target.existing(b"d").unwrap().unwrap().mode, 0o700);
    write(&place.target, b"d/f", b"x").unwrap();
    let meta = Metadata { mode: 0o2755, ..meta(EntryKind::Directory) };
    assert!(place.target.finish_folder(b"d", &meta, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"d", &meta, &NUMBERS).unwrap(), []);

    let error = place.target.make_folder(b"d/f").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::NotAFolder);
    let error = place.target.make_folder(b"d/f/g").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::NotAFolder);
    let error = place.target.make_folder(b"nowhere/g").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Vanished);
    let error = place.target.finish_folder(b"d/f", &meta, &NUMBERS).unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::NotAFolder);
}

#[test]
fn links_and_pipes_are_made_and_finished() {
    let place = Place::new();
    let link = Metadata { target: b"no/such \xff".as_slice().into(), ..meta(EntryKind::Symlink) };
    let applied = place.target.make_symlink(b"link", &link.target, &link, &NUMBERS).unwrap();
    assert!(applied.is_complete());
    assert_eq!(place.target.compare(b"link", &link, &NUMBERS).unwrap(), []);
    let pipe = meta(EntryKind::Fifo);
    assert!(place.target.make_fifo(b"pipe", &pipe, &NUMBERS).unwrap().is_complete());
    assert_eq!(place.target.compare(b"pipe", &pipe, &NUMBERS).unwrap(), []);
    assert!(fs::metadata(place.path("pipe")).unwrap().file_type().is_fifo());

    for (path, target) in [(&b"link"[..], &b"x"[..]), (b"pipe", b"x")] {
        let error = place.target.make_symlink(path, target, &link, &NUMBERS).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::Exists);
    }
    for impossible in [&b""[..], b"a\0b", &[b'x'; 5000]] {
        let error = place.target.make_symlink(b"new", impossible, &link, &NUMBERS).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::Other);
        assert_eq!(place.target.existing(b"new").unwrap(), None);
    }
    let no_device = place.target.make_device(b"new", &pipe, &NUMBERS);
    assert!(no_device.is_ok() || is_superuser());

    write(&place.target, b"f", b"x").unwrap();
    place.target.make_folder(b"d").unwrap();
    place.target.make_hard_link(b"f", b"d/g").unwrap();
    assert_eq!(place.target.existing(b"d/g").unwrap().unwrap().links, 2);
    let error = place.target.make_hard_link(b"nothing", b"d/h").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Vanished);
    let error = place.target.make_hard_link(b"f", b"d/g").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Exists);
}

#[test]
fn every_difference_is_found() {
    let place = Place::new();
    let same = Metadata { size: 3, ..meta(EntryKind::File) };
    let applied = place.target.write_small(b"f", &same, b"abc", &NUMBERS, false).unwrap();
    assert!(applied.is_complete());
    let differences = |meta: &Metadata| place.target.compare(b"f", meta, &NUMBERS).unwrap();
    assert_eq!(differences(&same), []);
    assert_eq!(differences(&Metadata { kind: EntryKind::Stream, ..same.clone() }), []);
    assert_eq!(
        differences(&Metadata { kind: EntryKind::Fifo, ..same.clone() }),
        [Difference::Kind]
    );
    assert_eq!(differences(&Metadata { size: 4, ..same.clone() }), [Difference::Size]);
    assert_eq!(differences(&Metadata { mode: 0o641, ..same.clone() }), [Difference::Mode]);
    let mtime = Timestamp { nanos: 123_456_788, ..same.mtime };
    assert_eq!(differences(&Metadata { mtime, ..same.clone() }), [Difference::Mtime]);
    let xattrs: Arc<[Xattr]> = Arc::new([xattr("user.a", b"1")]);
    let more = Metadata { xattrs, ..same.clone() };
    assert_eq!(differences(&more), [Difference::Xattrs]);
    let without = MetadataPolicy { xattrs: false, ..NUMBERS };
    assert_eq!(place.target.compare(b"f", &more, &without).unwrap(), []);
    let owner = Arc::new(Owner { uid: same.owner.uid + 1, ..(*same.owner).clone() });
    let other = Metadata { owner, ..same.clone() };
    assert_eq!(differences(&other), [Difference::Owner]);
    let anyone = MetadataPolicy { owner: OwnerPolicy::Leave, ..NUMBERS };
    assert_eq!(place.target.compare(b"f", &other, &anyone).unwrap(), []);
    assert_eq!(place.target.compare(b"g", &same, &NUMBERS).unwrap(), [Difference::Missing]);
    assert_eq!(place.target.compare(b"g/h", &same, &NUMBERS).unwrap(), [Difference::Missing]);

    let link = Metadata { target: b"a".as_slice().into(), ..meta(EntryKind::Symlink) };
    assert!(place.target.make_symlink(b"l", b"b", &link, &NUMBERS).unwrap().is_complete());
    let found = place.target.compare(b"l", &link, &NUMBERS).unwrap();
    assert_eq!(found, [Difference::LinkTarget]);
}
