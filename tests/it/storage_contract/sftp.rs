//! What a folder on another machine can promise, or suffer: OpenSSH's server behind a pipe.
#![expect(clippy::disallowed_methods, reason = "the tests lay out and damage files by hand")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gabion::id::{PackId, SegmentId, SlotId, SnapshotId};
use gabion::storage::{
    Listing, LocalStorage, ObjectKind, ObjectName, SftpStorage, Ssh, Storage as _, StorageError,
    StorageErrorKind,
};
use tempfile::TempDir;

use super::local_faults::SmallDisk;
use super::local_only::{files, snapshot};
use crate::support_sftp::{Meddler, has_server, instead_of_ssh, pipe, place};

/// Asks one question of the contract.
pub(super) fn ask(case: fn(&dyn gabion::storage::Storage)) {
    if has_server() {
        let folder = tempfile::tempdir().unwrap();
        case(&SftpStorage::create(&place(&folder.path().join("r")), &pipe()).unwrap());
    }
}

fn new_repository() -> Option<(TempDir, PathBuf, SftpStorage)> {
    let folder = has_server().then(|| tempfile::tempdir().unwrap())?;
    let path = folder.path().join("r");
    let storage = SftpStorage::create(&place(&path), &pipe()).unwrap();
    Some((folder, path, storage))
}

fn open(path: &Path) -> Result<SftpStorage, StorageError> {
    SftpStorage::open(&place(path), &pipe())
}

/// All that the error says.
fn words(error: &StorageError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    error.to_string() + &source.unwrap_or_default()
}

#[test]
fn a_repository_is_the_same_from_here_and_from_there() {
    let Some((_folder, path, storage)) = new_repository() else { return };
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
    assert_eq!((folders, files(&path).len()), (1 + 10 + 256, names.len()));
    let local = LocalStorage::open(&path).unwrap();
    for kind in ObjectKind::ALL {
        assert_eq!(local.list(kind).unwrap(), storage.list(kind).unwrap());
    }
    assert_eq!(local.read(names[0], 6).unwrap(), b"secret");
    local.publish(snapshot(), b"from here").unwrap();
    assert_eq!(storage.list(ObjectKind::Snapshot).unwrap().objects.len(), 2);
}

#[test]
fn a_repository_is_made_only_where_nothing_is() {
    let Some((folder, _, _)) = new_repository() else { return };
    let at = |name| folder.path().join(name);
    let create = |path: &Path| SftpStorage::create(&place(path), &pipe());
    let has = |path: &Path| SftpStorage::has_repository(&place(path), &pipe());
    fs::create_dir(at("empty")).unwrap();
    assert!(!has(&at("empty")).unwrap());
    create(&at("empty")).unwrap();
    // As if the first creation had been interrupted: no object is there yet.
    fs::remove_dir_all(at("empty/packs")).unwrap();
    let storage = create(&at("empty")).unwrap();
    storage.publish(ObjectName::pack(PackId::random()), b"").unwrap();
    assert_eq!(create(&at("empty")).unwrap_err().kind, StorageErrorKind::AlreadyExists);
    storage.publish(ObjectName::CONFIG_COPY, b"c").unwrap();
    assert!(has(&at("empty")).unwrap());

    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/file"), "mine").unwrap();
    for path in [at("full"), at("full/file")] {
        assert_eq!(create(&path).unwrap_err().kind, StorageErrorKind::AlreadyExists);
        assert_eq!(has(&path).unwrap_err().kind, StorageErrorKind::AlreadyExists);
    }
    assert_eq!(fs::read_dir(at("full")).unwrap().count(), 1, "nothing was added");
    for error in [create(&at("no/r")).unwrap_err(), has(&at("no/r")).unwrap_err()] {
        assert_eq!(error.kind, StorageErrorKind::NotFound, "{}", words(&error));
    }
    assert!(!has(&at("new")).unwrap());
}

#[test]
fn a_folder_with_either_config_can_be_opened() {
    let Some((folder, path, storage)) = new_repository() else { return };
    assert_eq!(open(&path).unwrap_err().kind, StorageErrorKind::NotFound);
    assert_eq!(open(&folder.path().join("no")).unwrap_err().kind, StorageErrorKind::NotFound);
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        storage.publish(name, b"c").unwrap();
        assert_eq!(open(&path).unwrap().read(name, 1).unwrap(), b"c");
        storage.delete(name).unwrap();
    }
    // A link on the way to the repository is the user's own.
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    symlink(&path, folder.path().join("link")).unwrap();
    let linked = open(&folder.path().join("link")).unwrap();
    linked.verify_place().unwrap();
    linked.publish(ObjectName::CONFIG_COPY, b"c").unwrap();
    assert_eq!(linked.list(ObjectKind::Config).unwrap().objects.len(), 1);
}

#[test]
fn a_place_that_was_replaced_or_removed_is_lost() {
    let Some((folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"this one").unwrap();
    let storage = open(&path).unwrap();
    storage.verify_place().unwrap();
    fs::rename(&path, folder.path().join("moved")).unwrap();
    let lost = |storage: &SftpStorage| storage.verify_place().unwrap_err().kind;
    assert_eq!(lost(&storage), StorageErrorKind::PlaceLost);
    for kind in ObjectKind::ALL {
        assert!(storage.list(kind).is_err(), "{kind:?}");
    }
    // An empty folder, as below a disk that is not mounted, gets no folders either.
    fs::create_dir(&path).unwrap();
    assert_eq!(lost(&storage), StorageErrorKind::PlaceLost);
    for name in [ObjectName::mark([1; 16]), ObjectName::pack(PackId::random()), snapshot()] {
        storage.publish(name, b"").unwrap_err();
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::remove_dir(&path).unwrap();
    let other = SftpStorage::create(&place(&path), &pipe()).unwrap();
    other.publish(ObjectName::CONFIG, b"another").unwrap();
    assert_eq!(lost(&storage), StorageErrorKind::PlaceLost);
}

#[test]
fn folders_that_may_be_empty_may_be_absent_and_others_not() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"").unwrap();
    let optional = [
        ObjectName::CONFIG_COPY,
        ObjectName::key_copy(SlotId::random()),
        ObjectName::snapshot_copy(SnapshotId::random()),
        ObjectName::pack(PackId([0xab; 16])),
        ObjectName::parity(PackId([0xab; 16])),
        ObjectName::root(SnapshotId::random()),
        ObjectName::mark([1; 16]),
    ];
    for folder in ["copy", "packs/ab", "roots", "sessions", "marks"] {
        fs::remove_dir_all(path.join(folder)).unwrap();
    }
    for name in optional {
        assert_eq!(storage.list(name.kind).unwrap(), Listing::default());
        storage.delete(name).unwrap();
        assert_eq!(storage.len(name).unwrap_err().kind, StorageErrorKind::NotFound);
    }
    for name in optional {
        storage.publish(name, b"back").unwrap();
        assert_eq!(storage.list(name.kind).unwrap().objects, [(name, 4)]);
    }
    for (folder, name) in [
        ("snapshots", snapshot()),
        ("index", ObjectName::segment(SegmentId::random())),
        ("keys", ObjectName::key(SlotId::random())),
        ("packs", ObjectName::pack(PackId::random())),
    ] {
        fs::remove_dir_all(path.join(folder)).unwrap();
        assert_eq!(storage.list(name.kind).unwrap_err().kind, StorageErrorKind::NotFound);
        assert_eq!(storage.publish(name, b"").unwrap_err().kind, StorageErrorKind::NotFound);
        assert!(!path.join(folder).exists());
    }
}

#[test]
fn what_is_not_gabions_is_listed_as_foreign() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    let good = ObjectName::pack(PackId([0xab; 16]));
    storage.publish(good, b"good").unwrap();
    let hex = "0".repeat(32);
    fs::remove_dir(path.join("packs/ac")).unwrap();
    symlink(path.join("packs/ab"), path.join("packs/ac")).unwrap();
    for name in [format!("ab/{hex}"), "AB".into(), "file".into()] {
        fs::write(path.join("packs").join(name), "foreign").unwrap();
    }
    for temporary in [format!("tmp-{hex}"), format!("tmp-{hex}-{hex}")] {
        fs::write(path.join("packs/ab").join(temporary), "unfinished").unwrap();
    }
    // More than one answer of the server holds.
    for number in 0..250 {
        fs::write(path.join(format!("packs/cd/{number}")), "").unwrap();
    }
    let listing = storage.list(ObjectKind::Pack).unwrap();
    assert_eq!(listing.objects, [(good, 4)]);
    assert_eq!(listing.foreign.len(), 4 + 250);
    assert_eq!(
        listing,
        LocalStorage::open(&path)
            .map_or(listing.clone(), |local| { local.list(ObjectKind::Pack).unwrap() })
    );
}

#[test]
fn only_regular_files_are_read_and_no_link_is_written_through() {
    let Some((folder, path, storage)) = new_repository() else { return };
    let secret = folder.path().join("secret");
    fs::write(&secret, "outside").unwrap();
    let (link, dir, fifo) = (snapshot(), snapshot(), snapshot());
    symlink(&secret, path.join(link.to_string())).unwrap();
    fs::create_dir(path.join(dir.to_string())).unwrap();
    for name in [link, dir] {
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
    storage.delete(link).unwrap();
    storage.delete(dir).unwrap_err();
    assert_eq!(fs::read(&secret).unwrap(), b"outside");
    fs::remove_dir(path.join("marks")).unwrap();
    symlink(folder.path(), path.join("marks")).unwrap();
    storage.list(ObjectKind::Mark).unwrap_err();
    storage.publish(ObjectName::mark([1; 16]), b"mark").unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

    // The server would wait for ever for somebody who writes into it; nobody waits with it.
    let made = Command::new("mkfifo").arg(path.join(fifo.to_string())).status().unwrap();
    assert!(made.success());
    storage.read(fifo, 100).unwrap_err();
    let error = storage.list(ObjectKind::Snapshot).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::PlaceLost);
    assert!(!storage.is_connected());
}

#[test]
fn a_server_without_what_safety_needs_is_refused() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    let meddler = Meddler::new();
    for extension in ["fsync@openssh.com", "hardlink@openssh.com", "posix-rename@openssh.com"] {
        let refused = SftpStorage::open(&place(&path), &meddler.ssh("lacks", extension));
        let said = words(&refused.unwrap_err());
        assert!(said.contains(extension) && !said.contains('\n'), "{said}");
    }
    // Without these it works; only reasons are less clear.
    for extension in ["statvfs@openssh.com", "limits@openssh.com"] {
        let storage = SftpStorage::open(&place(&path), &meddler.ssh("lacks", extension)).unwrap();
        storage.publish(snapshot(), b"new").unwrap();
    }
}

#[test]
fn a_server_that_cannot_make_a_name_durable_gets_no_byte() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    let meddler = Meddler::new();
    for (mode, why) in [("no-folders", "cannot make names durable"), ("no-links", "hard link")] {
        let storage = SftpStorage::open(&place(&path), &meddler.ssh(mode, 0)).unwrap();
        let said = words(&storage.publish(snapshot(), b"new").unwrap_err());
        assert!(said.contains(why), "{said}");
        assert_eq!(files(&path).len(), 1, "nothing was left behind");
    }
    let new = path.with_file_name("new");
    let said = SftpStorage::create(&place(&new), &meddler.ssh("no-folders", 0)).unwrap_err();
    assert!(words(&said).contains("cannot make names durable"), "{}", words(&said));
}

#[test]
fn a_list_that_fails_half_way_is_no_list() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    for _ in 0..40 {
        storage.publish(ObjectName::pack(PackId::random()), b"pack").unwrap();
    }
    let meddler = Meddler::new();
    let whole = storage.list(ObjectKind::Pack).unwrap();
    assert_eq!(whole.objects.len(), 40);
    for good in [0, 1, 2, 5, 100, 300, 510] {
        let ssh = meddler.ssh("list-fails", good);
        let storage = SftpStorage::open(&place(&path), &ssh).unwrap();
        let error = storage.list(ObjectKind::Pack).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Other, "{error:?}");
        assert!(words(&error).contains("meddled"), "{}", words(&error));
    }
    let storage = SftpStorage::open(&place(&path), &meddler.ssh("list-fails", 10_000)).unwrap();
    assert_eq!(storage.list(ObjectKind::Pack).unwrap(), whole);
}

#[test]
fn a_server_that_lies_costs_no_memory() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    let meddler = Meddler::new();
    for claimed in [u32::MAX, 1 << 20] {
        let storage = SftpStorage::open(&place(&path), &meddler.ssh("claims", claimed)).unwrap();
        let error = storage.list(ObjectKind::Snapshot).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::PlaceLost);
        assert!(words(&error).contains("says more than it holds"), "{}", words(&error));
    }
    let error = SftpStorage::open(&place(&path), &meddler.ssh("nameless", 0)).unwrap_err();
    assert!(words(&error).contains("does not say what this is"), "{}", words(&error));
}

#[test]
fn a_line_that_breaks_while_a_pack_is_written_leaves_nothing_visible() {
    let Some((_folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    let meddler = Meddler::new();
    let name = ObjectName::pack(PackId::random());
    for (mode, count) in [("cut-at-write", 0), ("cut-at-write", 100), ("cut-at-link", 0)] {
        let storage = SftpStorage::open(&place(&path), &meddler.ssh(mode, count)).unwrap();
        let mut pending = storage.create(name, None).unwrap();
        let piece = [7; 1 << 20];
        let wrote = (0..8).try_for_each(|_| pending.append(&piece));
        let error = wrote.and_then(|()| pending.publish()).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::PlaceLost, "{}", words(&error));
        if mode == "cut-at-write" {
            assert!(words(&error).contains("the line is cut"), "{}", words(&error));
        }
        // One error is enough: nobody waits for what will not come.
        for error in [
            storage.verify_place().unwrap_err(),
            storage.list(ObjectKind::Pack).unwrap_err(),
            storage.publish(snapshot(), b"").unwrap_err(),
        ] {
            assert_eq!(error.kind, StorageErrorKind::PlaceLost);
        }
        assert!(!storage.is_connected());
        assert!(open(&path).unwrap().list(ObjectKind::Pack).unwrap().objects.is_empty());
    }
}

#[test]
fn what_a_broken_line_left_is_swept_by_the_next_process_of_the_same_machine() {
    let Some((folder, path, storage)) = new_repository() else { return };
    storage.publish(ObjectName::CONFIG, b"c").unwrap();
    let meddler = Meddler::new();
    let with_notes = |ssh: Ssh| Ssh { notes: Some(folder.path().join("notes")), ..ssh };
    let here = with_notes(pipe());
    let cut = with_notes(meddler.ssh("cut-at-write", 0));
    let broken = SftpStorage::open(&place(&path), &cut).unwrap();
    let mut pending = broken.create(ObjectName::pack(PackId::random()), None).unwrap();
    let _ = pending.append(b"bytes");
    drop(pending);
    // Another that lives, and one of another machine.
    let alive = SftpStorage::open(&place(&path), &here).unwrap();
    let pending = alive.create(snapshot(), None).unwrap();
    let elsewhere = SftpStorage::open(&place(&path), &pipe()).unwrap();
    let foreign = elsewhere.create(snapshot(), None).unwrap();
    assert_eq!(files(&path).len(), 4);

    let sweeper = SftpStorage::open(&place(&path), &here).unwrap();
    assert_eq!(sweeper.sweep_abandoned().unwrap(), 0, "its process lives");
    drop(broken);
    assert_eq!(elsewhere.sweep_abandoned().unwrap(), 0, "it knows of nobody");
    assert_eq!(LocalStorage::open(&path).unwrap().sweep_abandoned().unwrap(), 0);
    assert_eq!(sweeper.sweep_abandoned().unwrap(), 1);
    assert_eq!(sweeper.sweep_abandoned().unwrap(), 0);
    pending.publish().unwrap();
    foreign.publish().unwrap();
    assert_eq!(files(&path).len(), 3);
}

#[test]
fn a_machine_that_cannot_be_reached_is_an_error_in_its_own_words() {
    let place = place(Path::new("/srv/r"));
    let ssh =
        |script: &str| Ssh { command: Some(instead_of_ssh(script)), batch: true, notes: None };
    for (script, said) in [
        ("echo first >&2; echo ssh: no such host >&2; exit 255", "no such host"),
        ("exit 0", "hung up"),
        ("echo Welcome to this machine", "Welc"),
        ("exec /no/such/program", "not found"),
        ("printf \"\\0\\0\\0\\5\\2\\0\\0\\0\\4\"", "v3"),
    ] {
        for error in
            [SftpStorage::open(&place, &ssh(script)), SftpStorage::create(&place, &ssh(script))]
        {
            let error = error.unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::PlaceLost);
            assert!(words(&error).contains(said), "{}", words(&error));
            assert!(words(&error).contains("host:/srv/r"), "{}", words(&error));
        }
    }
}

#[test]
fn what_the_users_command_says_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let text = format!("me@host:{}", folder.path().display());
    for (batch, port) in [(true, None), (false, Some(2222))] {
        let text = match port {
            Some(port) => format!("sftp://me@host:{port}{}", folder.path().display()),
            None => text.clone(),
        };
        let Ok(gabion::storage::Place::Remote(place)) =
            gabion::storage::Place::parse(text.as_ref())
        else {
            panic!("{text}");
        };
        let script = format!("printf \"%s\\n\" \"$@\" >{}; exit 1", seen.display());
        let command = format!("sh -c '{script}' -- -i \"a key\"");
        SftpStorage::open(&place, &Ssh { command: Some(command), batch, notes: None }).unwrap_err();
        let words = fs::read_to_string(&seen).unwrap();
        assert!(words.starts_with("-i\na key\n-o\n"), "{words}");
        assert!(words.ends_with("-s\nme@host\nsftp\n"), "{words}");
        assert_eq!(words.contains("BatchMode=yes"), batch, "{words}");
        assert_eq!(words.contains("-p\n2222\n"), port.is_some(), "{words}");
        assert!(words.contains("ServerAliveInterval=") && words.contains("ConnectTimeout="));
    }
}

#[test]
fn a_full_disk_there_is_said_to_be_full() {
    let Some(disk) = has_server().then(SmallDisk::mount).flatten() else { return };
    let path = disk.folder.path().join("r");
    let storage = SftpStorage::create(&place(&path), &pipe()).unwrap();
    let (early, late) = (snapshot(), snapshot());
    storage.publish(ObjectName::CONFIG, b"old").unwrap();
    let mut pending = storage.create(late, None).unwrap();
    let piece = [5; 100_000];
    let wrote = (0..20).try_for_each(|_| pending.append(&piece));
    let error = wrote.and_then(|()| pending.publish()).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NoSpace, "{}", words(&error));
    // The space is free again at once.
    storage.publish(early, &piece).unwrap();
    assert_eq!(storage.list(ObjectKind::Snapshot).unwrap().objects, [(early, 100_000)]);
    assert_eq!(files(&path).len(), 2);

    assert!(disk.run(["-o", "remount,ro"]));
    let storage = open(&path).unwrap();
    assert_eq!(storage.read(early, 100_000).unwrap(), piece);
    assert_eq!(storage.sweep_abandoned().unwrap(), 0);
    for error in [
        storage.publish(late, b"new").unwrap_err(),
        storage.delete(early).unwrap_err(),
        SftpStorage::create(&place(&disk.folder.path().join("o")), &pipe()).unwrap_err(),
    ] {
        assert_eq!(error.kind, StorageErrorKind::ReadOnly, "{}", words(&error));
    }
}
