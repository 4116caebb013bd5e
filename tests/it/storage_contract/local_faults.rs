//! What befalls a folder from outside: writers that die, disks that fill up, go read-only or away.
#![expect(clippy::disallowed_methods, reason = "the tests lay out and damage files by hand")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use gabion::id::PackId;
use gabion::storage::{LocalStorage, ObjectKind, ObjectName, Storage as _, StorageErrorKind};
use tempfile::TempDir;

use super::local_only::{files, new_repository, snapshot};
use crate::support::private_mounts;

fn make_older(path: &Path, by: Duration) {
    let time = fs::metadata(path).unwrap().modified().unwrap() - by;
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The name of the variable that makes [`a_process_that_never_finishes`] do something.
const CHILD_PATH: &str = "GABION_TEST_REPOSITORY";

/// Not a test but a process to be killed, which `cargo test --test it local_faults` does.
#[test]
#[ignore = "started by another test"]
fn a_process_that_never_finishes() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let storage = LocalStorage::open(Path::new(&path)).unwrap();
    let names = [ObjectName::CONFIG_COPY, snapshot(), ObjectName::pack(PackId([0xab; 16]))];
    let _pending = names.map(|name| {
        let mut pending = storage.create(name, Some(100)).unwrap();
        pending.append(b"never finished").unwrap();
        pending
    });
    println!("\nready");
    std::thread::sleep(Duration::from_secs(600));
}

/// Starts [`a_process_that_never_finishes`] on the repository and waits until it has begun.
fn start_writer(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage_contract::local_faults::a_process_that_never_finishes"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD_PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "ready"), "the writer began");
    child
}

#[test]
fn what_a_killed_process_left_is_swept_and_a_living_ones_is_not() {
    let (_folder, path, storage) = new_repository();
    storage.publish(ObjectName::CONFIG, b"").unwrap();
    let mut child = start_writer(&path);
    let unfinished = || {
        let all = files(&path).into_iter();
        all.filter(|path| path.to_string_lossy().contains("/tmp-")).collect::<Vec<_>>()
    };
    let leftovers = unfinished();
    assert_eq!(leftovers.len(), 3);
    for path in &leftovers {
        make_older(path, Duration::from_secs(2 * 3600));
    }
    assert_eq!(storage.sweep_abandoned().unwrap(), 0, "the owner lives");
    assert_eq!(unfinished(), leftovers);

    child.kill().unwrap();
    child.wait().unwrap();
    for kind in ObjectKind::ALL {
        assert_eq!(storage.list(kind).unwrap().foreign, [""; 0]);
    }
    let young = SystemTime::now() - Duration::from_secs(3000);
    File::options().write(true).open(&leftovers[0]).unwrap().set_modified(young).unwrap();
    assert_eq!(storage.sweep_abandoned().unwrap(), 2, "one is too young to tell");
    assert_eq!(unfinished(), leftovers[..1]);
    make_older(&leftovers[0], Duration::from_secs(3600));
    assert_eq!(storage.sweep_abandoned().unwrap(), 1);
    assert_eq!(files(&path), [path.join("config")]);
}

#[test]
fn what_is_left_where_a_listing_saw_nothing_is_swept_by_the_sweep_after_the_next() {
    let (_folder, path, storage) = new_repository();
    let leave = |name: &str| {
        let left = path.join("packs/ab").join(format!("tmp-{name:0>32}"));
        fs::write(&left, b"never finished").unwrap();
        make_older(&left, Duration::from_secs(2 * 3600));
    };
    leave("1");
    storage.list(ObjectKind::Pack).unwrap();
    leave("2");
    assert_eq!(storage.sweep_abandoned().unwrap(), 2, "the listing came by the first");
    storage.list(ObjectKind::Pack).unwrap();
    leave("3");
    assert_eq!(storage.sweep_abandoned().unwrap(), 0, "not looked for: it was clean just now");
    assert_eq!(storage.sweep_abandoned().unwrap(), 1);
}

#[test]
fn objects_of_this_process_are_not_swept_however_old() {
    let (_folder, path, storage) = new_repository();
    let name = snapshot();
    let mut pending = storage.create(name, None).unwrap();
    pending.append(b"slow").unwrap();
    make_older(&files(&path)[0], Duration::from_secs(48 * 3600));
    assert_eq!(storage.sweep_abandoned().unwrap(), 0);
    pending.publish().unwrap();
    assert_eq!(storage.read(name, 10).unwrap(), b"slow");
    // The lock did not outlive the work, and a finished object is nothing to sweep.
    make_older(&path.join(name.to_string()), Duration::from_secs(48 * 3600));
    assert_eq!(storage.sweep_abandoned().unwrap(), 0);
    assert_eq!(storage.read(name, 10).unwrap(), b"slow");
}

/// A small file system that exists for one test.
pub(super) struct SmallDisk {
    pub(super) folder: TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not allowed.
    pub(super) fn mount() -> Option<Self> {
        if !private_mounts() {
            return None;
        }
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        disk.run(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).then_some(disk)
    }

    pub(super) fn run<const N: usize>(&self, arguments: [&str; N]) -> bool {
        let mut mount = Command::new("mount");
        let mount = mount.args(arguments).arg(self.folder.path()).stderr(Stdio::null());
        rustix::process::geteuid().is_root() && mount.status().is_ok_and(|status| status.success())
    }
}

impl SmallDisk {
    fn unmount(&self) -> bool {
        let mut umount = Command::new("umount");
        let umount = umount.arg("-l").arg(self.folder.path()).stderr(Stdio::null());
        umount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

#[test]
fn a_full_disk_is_an_error_and_costs_only_the_new_object() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.folder.path().join("r");
    let storage = LocalStorage::create(&path).unwrap();
    let (early, late) = (snapshot(), snapshot());
    storage.publish(ObjectName::CONFIG, b"old").unwrap();

    // The length is a guess: what really comes has room, and no space is held that was not there.
    let mut guessed = storage.create(early, Some(4 << 20)).unwrap();
    guessed.append(b"little").unwrap();
    storage.publish(late, &[5; 400_000]).unwrap();
    storage.delete(late).unwrap();
    drop(guessed);

    let mut pending = storage.create(late, None).unwrap();
    let piece = [5; 100_000];
    let error = (0..20).find_map(|_| pending.append(&piece).err()).unwrap();
    assert_eq!(error.kind, StorageErrorKind::NoSpace);
    // The space is free again at once, and the object cannot come back to life.
    storage.publish(early, &piece).unwrap();
    pending.append(b"more").unwrap_err();
    pending.publish().unwrap_err();
    assert_eq!(storage.list(ObjectKind::Snapshot).unwrap().objects, [(early, 100_000)]);
    assert_eq!(storage.read(ObjectName::CONFIG, 10).unwrap(), b"old");
    assert_eq!(files(&path).len(), 2);
}

#[test]
fn a_read_only_place_can_be_read_and_says_so() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.folder.path().join("r");
    let name = ObjectName::CONFIG;
    LocalStorage::create(&path).unwrap().publish(name, b"old").unwrap();
    if !disk.run(["-o", "remount,ro"]) {
        return;
    }
    let storage = LocalStorage::open(&path).unwrap();
    assert_eq!(storage.read(name, 10).unwrap(), b"old");
    assert_eq!(storage.list(ObjectKind::Config).unwrap().objects, [(name, 3)]);
    storage.verify_place().unwrap();
    assert_eq!(storage.sweep_abandoned().unwrap(), 0);
    let other = disk.folder.path().join("other");
    for error in [
        storage.publish(snapshot(), b"new").unwrap_err(),
        storage.delete(name).unwrap_err(),
        LocalStorage::create(&other).unwrap_err(),
    ] {
        assert_eq!(error.kind, StorageErrorKind::ReadOnly, "{error}");
    }
    assert_eq!(storage.read(name, 10).unwrap(), b"old");
}

#[test]
fn a_disk_that_went_away_is_noticed() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.folder.path().join("r");
    let storage = LocalStorage::create(&path).unwrap();
    storage.verify_place().unwrap();
    assert!(disk.unmount());
    // The mount point, now an empty folder of another file system, looks like a place to write.
    assert_eq!(storage.verify_place().unwrap_err().kind, StorageErrorKind::PlaceLost);
    storage.publish(snapshot(), b"to the old disk").unwrap();
    assert_eq!(fs::read_dir(disk.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_without_permission_is_an_error() {
    if rustix::process::geteuid().is_root() {
        return; // Nothing is refused to root.
    }
    let (_folder, path, storage) = new_repository();
    fs::set_permissions(path.join("snapshots"), fs::Permissions::from_mode(0o500)).unwrap();
    let error = storage.publish(snapshot(), b"new").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::PermissionDenied);
    fs::set_permissions(path.join("snapshots"), fs::Permissions::from_mode(0o700)).unwrap();
    storage.publish(snapshot(), b"new").unwrap();
}
