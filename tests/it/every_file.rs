//! In a repository at rest no single file can be lost, cut or exchanged without a check naming it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::config::Config;
use gabion::ops::check::ReadData;
use gabion::repo::{Repository, Unlock};
use gabion::storage::{LocalStorage, MemoryStorage, ObjectKind, ObjectName, Storage};

use crate::small::{copy, files, key_file, noise, open, options, problems, take};
use crate::specimen::checked;
use crate::support::{Sandbox, private_mounts};

/// A repository with two snapshots in which nobody is at work.
fn at_rest() -> MemoryStorage {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(key_file())).unwrap();
    let repository = open(&storage, &key_file(), None, Arc::new(())).unwrap();
    repository.add_slot(&key_file(), &options(key_file())).unwrap();
    let mut content = files([("a", noise(100, 1)), ("b", noise(48, 2))]);
    take(&repository, &content, 1).unwrap();
    content.insert("c".to_owned(), noise(100, 3));
    take(&repository, &content, 2).unwrap();
    storage
}

/// What a check of the structure finds.
fn found(storage: &MemoryStorage) -> Vec<String> {
    let recorder = Arc::new(Recorder::default());
    let place: Arc<dyn Storage> = Arc::new(storage.clone());
    let opened = Repository::open(place, "here", &key_file(), None, recorder.clone());
    checked(&Arc::new(opened.unwrap()), ReadData::Structure);
    problems(&recorder)
}

/// Whether a finding names the object. That a segment is gone shows by the packs that it listed.
fn is_named(name: ObjectName, is_gone: bool, found: &[String]) -> bool {
    let last = name.to_string().rsplit('/').next().unwrap_or_default().to_owned();
    let named = |text: &String| {
        text.contains(&last)
            || is_gone && name.kind == ObjectKind::Segment && text.starts_with("index:")
    };
    found.iter().any(named)
}

#[test]
fn no_object_is_lost_cut_or_exchanged_unseen() {
    let storage = at_rest();
    assert_eq!(found(&storage), [""; 0]);
    let names = storage.names();
    assert_eq!(names.len(), 2 + 4 + 4 + 2 + 4, "{names:?}");
    for &name in &names {
        let good = storage.get(name).unwrap();
        let damaged = copy(&storage);
        damaged.remove(name);
        let said = found(&damaged);
        assert!(is_named(name, true, &said), "{name} is gone: {said:#?}");
        for len in [0, good.len() - 1] {
            damaged.put(name, &good[..len]);
            let said = found(&damaged);
            assert!(is_named(name, false, &said), "{name} is cut to {len} bytes: {said:#?}");
        }
        damaged.put(name, Arc::clone(&good));
        assert_eq!(found(&damaged), [""; 0], "{name} was put back");
        for &other in names.iter().filter(|other| other.kind == name.kind && **other > name) {
            let theirs = storage.get(other).unwrap();
            damaged.put(name, Arc::clone(&theirs));
            damaged.put(other, Arc::clone(&good));
            let said = found(&damaged);
            assert!(is_named(name, false, &said), "{name} was exchanged: {said:#?}");
            assert!(is_named(other, false, &said), "{other} was exchanged: {said:#?}");
            damaged.put(name, Arc::clone(&good));
            damaged.put(other, theirs);
        }
    }
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "what a disk loses")]
fn move_to(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn the_program_says_13_whichever_file_is_gone_and_0_when_it_is_back() {
    let sandbox = Sandbox::with_encrypted_repository();
    for n in 0..2 {
        sandbox.write(format!("data/{n}"), noise(300, n));
        sandbox.gabion(["snapshot", "data"]).run().success();
    }
    sandbox.gabion(["check"]).run().success();
    let (all, aside) = (all_files(&sandbox.path("repository")), sandbox.path("aside"));
    assert_eq!(all.len(), 2 + 2 + 4 + 2 + 4, "{all:?}");
    for file in all {
        move_to(&file, &aside);
        sandbox.gabion(["check"]).run().code(13);
        move_to(&aside, &file);
    }
    sandbox.gabion(["check"]).run().success();
}

/// A run that fails lists what it stored before it takes its leave.
#[test]
fn a_run_that_failed_leaves_nothing_for_a_check_to_find() {
    let sandbox = Sandbox::with_repository();
    let folder = sandbox.path("repository");
    let place: Arc<dyn Storage> = Arc::new(LocalStorage::open(&folder).unwrap());
    let opened = Repository::open(place, "here", &Unlock::Nothing, None, Arc::new(())).unwrap();
    let config = Config { pack_size: 1 << 20, ..opened.config().clone() };
    for name in ["config", "copy/config"] {
        sandbox.write(format!("repository/{name}"), config.encode(opened.keys()));
    }
    sandbox.write("source", noise(3 << 20, 1));
    sandbox.gabion(["snapshot", "--stream", "dump=cat source; exit 1"]).run().code(12);
    assert!(!all_files(&folder.join("packs")).is_empty(), "some pack was full");
    assert!(!all_files(&folder.join("index")).is_empty());
    assert!(all_files(&folder.join("sessions")).is_empty());
    sandbox.gabion(["check"]).run().success();
}

/// Others have filled the disk: then the session stays, which explains what is in no segment.
#[test]
fn a_run_that_failed_and_could_not_list_its_packs_leaves_nothing_for_a_check_to_find() {
    if !private_mounts() {
        eprintln!("not run: only the superuser can mount a small disk");
        return;
    }
    let sandbox = Sandbox::with_repository();
    sandbox.write("source", noise(70 << 20, 1));
    let script = "mount -t tmpfs -o size=4k none repository/index && echo full >repository/index/x
        $GABION snapshot --stream 'dump=cat source; exit 1'; code=$?
        umount repository/index; exit $code";
    sandbox.shell(script).run().code(12);
    let folder = sandbox.path("repository");
    assert!(!all_files(&folder.join("packs")).is_empty(), "some pack was full");
    assert!(all_files(&folder.join("index")).is_empty());
    sandbox.gabion(["check"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    assert!(all_files(&folder.join("sessions")).is_empty());
    sandbox.gabion(["check"]).run().success();
}
