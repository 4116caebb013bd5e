//! What only a folder can promise, or suffer.
#![expect(clippy::disallowed_methods, reason = "the tests lay out and damage files by hand")]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gabion::id::{PackId, SegmentId, SessionId, SlotId, SnapshotId};
use gabion::storage::{
    Listing, LocalStorage, ObjectKind, ObjectName, Storage as _, StorageErrorKind,
};
use tempfile::TempDir;

pub(super) fn new_repository() -> (TempDir, PathBuf, LocalStorage) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    let storage = LocalStorage::create(&path).unwrap();
    (folder, path, storage)
}

/// All files and links below `path`, folders left out.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(path)
        .sort_by_file_name()
        .into_iter()
        .map(|item| item.unwrap())
        .filter(|item| !item.file_type().is_dir())
        .map(|item| item.into_path())
        .collect()
}

pub(super) fn snapshot() -> ObjectName {
    ObjectName::snapshot(SnapshotId::random())
}

#[test]
fn a_new_repository_is_private() {
    let (_folder, path, storage) = new_repository();
    let names = [snapshot(), ObjectName::CONFIG, ObjectName::pack(PackId::random())];
    for name in names {
        storage.publish(name, b"secret").unwrap();
    }
    let mut folders = 0;
    for item in walkdir::WalkDir::new(&path) {
        let facts = item.unwrap().metadata().unwrap();
        let expected = if facts.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(facts.permissions().mode() & 0o7777, expected);
        folders += usize::from(facts.is_dir());
    }
    assert_eq!(folders, 1 + 10 + 256);
    assert_eq!(files(&path).len(), names.len());
}

#[test]
fn a_repository_is_made_only_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| folder.path().join(name);
    let kind_of = |path: &Path| LocalStorage::create(path).unwrap_err().kind;

    fs::create_dir(at("empty")).unwrap();
    LocalStorage::create(&at("empty")).unwrap();
    // As if the first creation had been interrupted: no object is there yet.
    LocalStorage::create(&at("empty")).unwrap();
    fs::remove_dir_all(at("empty/packs")).unwrap();
    fs::write(at("empty").join(format!("tmp-{}", "0".repeat(32))), "").unwrap();
    let storage = LocalStorage::create(&at("empty")).unwrap();
    storage.publish(ObjectName::pack(PackId::random()), b"").unwrap();
    assert_eq!(kind_of(&at("empty")), StorageErrorKind::AlreadyExists);

    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/file"), "mine").unwrap();
    assert_eq!(kind_of(&at("full")), StorageErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir(at("full")).unwrap().count(), 1, "nothing was added");
    fs::create_dir_all(at("other/packs/mine")).unwrap();
    assert_eq!(kind_of(&at("other")), StorageErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir(at("other")).unwrap().count(), 1, "nothing was added");

    assert_eq!(kind_of(&at("missing/r")), StorageErrorKind::NotFound);
    assert!(LocalStorage::create(&at("full/file")).is_err());
    assert_eq!(fs::read(at("full/file")).unwrap(), b"mine");
}

#[test]
fn a_folder_with_either_config_can_be_opened() {
    let (folder, path, storage) = new_repository();
    let kind_of = |path: &Path| LocalStorage::open(path).unwrap_err().kind;
    assert_eq!(kind_of(&path), StorageErrorKind::NotFound);
    assert_eq!(kind_of(&folder.path().join("missing")), StorageErrorKind::NotFound);
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        storage.publish(name, b"c").unwrap();
        let opened = LocalStorage::open(&path).unwrap();
        assert_eq!(opened.read(name, 1).unwrap(), b"c");
        storage.delete(name).unwrap();
    }
    // A link on the way to the repository is the user's own.
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    symlink(&path, folder.path().join("link")).unwrap();
    LocalStorage::open(&folder.path().join("link")).unwrap().verify_place().unwrap();
}

#[test]
fn nothing_is_written_to_a_place_that_was_replaced() {
    let (folder, path, storage) = new_repository();
    let moved = folder.path().join("moved");
    let mut pending = storage.create(snapshot(), None).unwrap();
    fs::rename(&path, &moved).unwrap();
    assert_eq!(storage.verify_place().unwrap_err().kind, StorageErrorKind::PlaceLost);

    fs::create_dir(&path).unwrap();
    assert_eq!(storage.verify_place().unwrap_err().kind, StorageErrorKind::PlaceLost);
    pending.append(b"held").unwrap();
    pending.publish().unwrap();
    for name in [ObjectName::CONFIG, ObjectName::pack(PackId::random())] {
        storage.publish(name, b"held").unwrap();
    }
    storage.sweep_abandoned().unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(files(&moved).len(), 3);

    fs::remove_dir(&path).unwrap();
    fs::rename(&moved, &path).unwrap();
    storage.verify_place().unwrap();
}

#[test]
fn a_removed_repository_is_not_an_empty_one() {
    let (_folder, path, storage) = new_repository();
    fs::remove_dir_all(&path).unwrap();
    for kind in ObjectKind::ALL {
        assert!(storage.list(kind).is_err(), "{kind:?}");
    }
    storage.publish(ObjectName::CONFIG, b"").unwrap_err();
    storage.publish(ObjectName::mark([1; 16]), b"").unwrap_err();
    assert_eq!(storage.verify_place().unwrap_err().kind, StorageErrorKind::PlaceLost);
    assert!(!path.exists());
}

/// Tools that copy trees by way of a bucket leave empty folders out.
#[test]
fn folders_that_may_be_empty_may_be_absent() {
    let (_folder, path, storage) = new_repository();
    storage.publish(ObjectName::CONFIG, b"").unwrap();
    let optional = [
        ObjectName::CONFIG_COPY,
        ObjectName::key_copy(SlotId::random()),
        ObjectName::snapshot_copy(SnapshotId::random()),
        ObjectName::pack(PackId([0xab; 16])),
        ObjectName::root(SnapshotId::random()),
        ObjectName::session(SessionId::random()),
        ObjectName::mark([1; 16]),
    ];
    for folder in ["copy/keys", "copy/snapshots", "copy", "packs/ab", "roots", "sessions", "marks"]
    {
        fs::remove_dir(path.join(folder)).unwrap();
    }
    // The folders that the first handle knows are gone for it; a new one starts afresh.
    let storage = LocalStorage::open(&path).unwrap();
    for name in optional {
        assert_eq!(storage.list(name.kind).unwrap(), Listing::default());
        storage.delete(name).unwrap();
        assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
    }
    for name in optional {
        storage.publish(name, b"back").unwrap();
        assert_eq!(storage.list(name.kind).unwrap().objects, [(name, 4)]);
    }
}

/// An empty list of snapshots would make every pack garbage.
#[test]
fn the_loss_of_a_folder_with_data_is_an_error() {
    let (_folder, path, storage) = new_repository();
    storage.publish(ObjectName::CONFIG, b"").unwrap();
    for (folder, name) in [
        ("snapshots", snapshot()),
        ("index", ObjectName::segment(SegmentId::random())),
        ("keys", ObjectName::key(SlotId::random())),
        ("packs", ObjectName::pack(PackId::random())),
    ] {
        fs::remove_dir_all(path.join(folder)).unwrap();
        let storage = LocalStorage::open(&path).unwrap();
        assert_eq!(storage.list(name.kind).unwrap_err().kind, StorageErrorKind::NotFound);
        let error = storage.publish(name, b"").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::NotFound, "{error}");
        assert!(!path.join(folder).exists());
    }
}

#[test]
fn what_is_not_gabions_is_listed_as_foreign() {
    let (_folder, path, storage) = new_repository();
    let good = ObjectName::pack(PackId([0xab; 16]));
    storage.publish(good, b"good").unwrap();
    let (hex, temporary) = ("0".repeat(32), format!("tmp-{}", "0".repeat(32)));
    let foreign_packs = [
        format!("packs/ab/{hex}"),
        "packs/00/tmp-short".to_owned(),
        "packs/AB".to_owned(),
        "packs/ac".to_owned(),
        "packs/file".to_owned(),
    ];
    fs::remove_dir(path.join("packs/ac")).unwrap();
    symlink(path.join("packs/ab"), path.join("packs/ac")).unwrap();
    for name in foreign_packs.iter().filter(|name| !name.ends_with("ac")) {
        fs::write(path.join(name), "foreign").unwrap();
    }
    fs::write(path.join("packs/ab").join(&temporary), "unfinished").unwrap();
    let mut listing = storage.list(ObjectKind::Pack).unwrap();
    assert_eq!(listing.objects, [(good, 4)]);
    let mut expected = foreign_packs.to_vec();
    expected.sort();
    assert_eq!(listing.foreign, expected);

    fs::create_dir(path.join("snapshots").join(&hex)).unwrap();
    symlink("nowhere", path.join("snapshots").join("1".repeat(32))).unwrap();
    fs::write(path.join("snapshots/.DS_Store"), "").unwrap();
    listing = storage.list(ObjectKind::Snapshot).unwrap();
    let expected = ["snapshots/.DS_Store".to_owned(), format!("snapshots/{hex}")]
        .into_iter()
        .chain([format!("snapshots/{}", "1".repeat(32))])
        .collect();
    assert_eq!(listing, Listing { objects: vec![], foreign: expected });

    fs::write(path.join("README"), "").unwrap();
    fs::write(path.join(&temporary), "unfinished").unwrap();
    fs::create_dir(path.join("copy/config")).unwrap();
    assert_eq!(storage.list(ObjectKind::Config).unwrap().foreign, ["README"]);
    assert_eq!(storage.list(ObjectKind::ConfigCopy).unwrap().foreign, ["copy/config"]);
}

#[test]
fn only_regular_files_are_read() {
    let (folder, path, storage) = new_repository();
    let secret = folder.path().join("secret");
    fs::write(&secret, "outside").unwrap();
    let (link, dir, pipe) = (snapshot(), snapshot(), snapshot());
    symlink(&secret, path.join(link.to_string())).unwrap();
    fs::create_dir(path.join(dir.to_string())).unwrap();
    let made = Command::new("mkfifo").arg(path.join(pipe.to_string())).status().unwrap();
    assert!(made.success());
    for name in [link, dir, pipe] {
        for error in [
            storage.read(name, 100).unwrap_err(),
            storage.read_range(name, 0, &mut [0]).unwrap_err(),
            storage.len(name).unwrap_err(),
        ] {
            assert_eq!(error.kind, StorageErrorKind::Other, "{error:?}");
        }
        let error = storage.publish(name, b"new").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyExists);
    }
    // Deleting the link does not reach what it points to.
    storage.delete(link).unwrap();
    storage.delete(dir).unwrap_err();
    assert_eq!(fs::read(&secret).unwrap(), b"outside");

    // Nor does a folder that became a link lead outside.
    fs::remove_dir(path.join("marks")).unwrap();
    symlink(folder.path(), path.join("marks")).unwrap();
    storage.publish(ObjectName::CONFIG, b"").unwrap();
    let storage = LocalStorage::open(&path).unwrap();
    storage.list(ObjectKind::Mark).unwrap_err();
    storage.publish(ObjectName::mark([1; 16]), b"mark").unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn an_object_cut_short_is_truncated() {
    let (_folder, path, storage) = new_repository();
    let name = snapshot();
    storage.publish(name, &[7; 1000]).unwrap();
    File::options().write(true).open(path.join(name.to_string())).unwrap().set_len(10).unwrap();
    let error = storage.read_range(name, 0, &mut [0; 1000]).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Truncated);
    assert_eq!(storage.len(name).unwrap(), 10);
}

#[test]
fn space_set_aside_is_given_back() {
    use std::os::unix::fs::MetadataExt as _;

    let (_folder, path, storage) = new_repository();
    let name = snapshot();
    let mut pending = storage.create(name, Some(8 << 20)).unwrap();
    pending.append(b"little").unwrap();
    pending.publish().unwrap();
    assert!(fs::metadata(path.join(name.to_string())).unwrap().blocks() * 512 <= 64 << 10);
}
