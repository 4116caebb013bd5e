//! Restoring: a tree of every odd thing comes back identical, and what is there already is treated
//! as was asked for.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gabion::event::{Event, Recorder};
use gabion::format::entry::{EntryKind, Metadata, Owner, Timestamp, Xattr};
use gabion::format::snapshot::Snapshot;
use gabion::ops::OpError;
use gabion::ops::restore::{Overwrite, RestoreOptions, RestoreSummary, restore};
use gabion::repo::Repository;
use gabion::source::metadata::{OwnerNames, read_metadata};
use gabion::source::pattern::Patterns;
use gabion::source::scan::{Scan, ScanOptions, Scanned};
use gabion::storage::{MemoryStorage, ObjectKind};
use gabion::target::{MetadataPolicy, TargetFolder};

use crate::snapshot_op::World;

/// Everything that a restore should bring back, by path below the root.
type Facts = BTreeMap<Vec<u8>, (Metadata, Vec<u8>, usize)>;

fn facts(root: &Path) -> Facts {
    let mut scan = Scan::start(ScanOptions::new(vec![root.to_owned()])).unwrap();
    let (roots, owners) = (scan.roots(), OwnerNames::default());
    let prefix = root.strip_prefix("/").unwrap().as_os_str().as_bytes().to_vec();
    let mut facts = Facts::new();
    let mut names: BTreeMap<u64, usize> = BTreeMap::new();
    while let Some(step) = scan.next() {
        let Scanned::Entry { path, stat } = step else { panic!("{step:?}") };
        let Some(below) = path.strip_prefix(&prefix[..]).and_then(|rest| rest.strip_prefix(b"/"))
        else {
            continue;
        };
        if stat.kind == EntryKind::Socket {
            continue;
        }
        let (mut meta, problems) = read_metadata(&roots, path, stat, &owners).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let content = if stat.kind == EntryKind::File {
            let file = std::fs::File::from(roots.open_file(path).unwrap());
            let mut bytes = vec![0; usize::try_from(stat.size).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            blake3::hash(&bytes).as_bytes().to_vec()
        } else {
            Vec::new()
        };
        // Which names are one file matters, not the inode's number.
        let next = names.len();
        let group = *names.entry(stat.inode).or_insert(next);
        (meta.ctime, meta.inode, meta.filesystem) = (Timestamp::default(), 0, 0);
        if stat.kind == EntryKind::Directory {
            meta.links = 1;
        }
        facts.insert(below.to_vec(), (meta, content, group));
    }
    facts
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[expect(clippy::disallowed_methods, reason = "makes test data")]
fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn metadata(kind: EntryKind, mode: u16) -> Metadata {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let time = Timestamp { seconds: -12_345, nanos: 123_456_789 };
    Metadata {
        kind,
        mode,
        owner: Arc::new(Owner { uid, gid, ..Owner::default() }),
        mtime: time,
        ctime: time,
        inode: 0,
        filesystem: 0,
        links: 1,
        size: 0,
        device: 0,
        xattrs: [].into(),
        target: Box::default(),
        unsettled: false,
    }
}

/// A tree of every odd thing.
fn odd_tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("d/empty")).unwrap();
    for (number, len) in [0, 1, 64, 65, 65_536, 65_537, 3 << 20, 9 << 20].into_iter().enumerate() {
        write(at(&format!("d/f{number}")), &noise(len, u8::try_from(number).unwrap()));
    }
    for name in [&b"new\nline"[..], b"-rf", b"\xff\xfe not utf-8", b" ", b"a\\b", b"*?[", b"$HOME"]
    {
        write(folder.path().join(std::ffi::OsStr::from_bytes(name)), name);
    }
    std::fs::hard_link(at("d/f4"), at("d/empty-not")).unwrap();
    std::fs::hard_link(at("d/f7"), at("zlink")).unwrap();
    symlink("does/not/exist", at("dead")).unwrap();
    symlink("loop-b", at("loop-a")).unwrap();
    symlink("loop-a", at("loop-b")).unwrap();
    symlink("/etc", at("to-etc")).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let target = TargetFolder::open(folder.path()).unwrap();
    let policy = MetadataPolicy::default();
    let fifo = metadata(EntryKind::Fifo, 0o640);
    assert!(target.make_fifo(b"fifo", &fifo, &policy).unwrap().is_complete());
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("none", 0)] {
        write(at(name), name.as_bytes());
        std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(at("sticky-dir")).unwrap();
    std::fs::set_permissions(at("sticky-dir"), PermissionsExt::from_mode(0o3777)).unwrap();
    sparse(&at("sparse"));
    let mut deep = b"deep".to_vec();
    for level in 0..60u32 {
        target.make_folder(&deep).unwrap();
        deep.extend_from_slice(format!("/{level:0100}").as_bytes());
    }
    assert!(deep.len() > 5000);
    let file = metadata(EntryKind::File, 0o600);
    assert!(target.write_small(&deep, &file, b"far", &policy, false).unwrap().is_complete());
    with_attributes(&target, &policy);
    std::thread::sleep(Duration::from_millis(50));
    folder
}

fn sparse(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(path).unwrap();
    file.write_all_at(&noise(100_000, 7), 10 << 20).unwrap();
    file.write_all_at(b"end", 80 << 20).unwrap();
    file.set_len(100 << 20).unwrap();
}

fn with_attributes(target: &TargetFolder, policy: &MetadataPolicy) {
    // user::rw-, user:1234:r--, group::r--, mask::r--, other::---
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let acl = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, none),
        entry(2, 4, 1234),
        entry(4, 4, none),
        entry(16, 4, none),
        entry(32, 0, none),
    ]
    .concat();
    let xattr =
        |name: &str, value: &[u8]| Xattr { name: name.as_bytes().into(), value: value.into() };
    let xattrs =
        Arc::new([xattr("system.posix_acl_access", &acl), xattr("user.note", &noise(900, 1))]);
    let meta = Metadata { xattrs, ..metadata(EntryKind::File, 0o640) };
    assert!(target.write_small(b"acl", &meta, b"x", policy, false).unwrap().is_complete());
    if is_root() {
        let owner = Arc::new(Owner { uid: 12_345, gid: 54_321, ..Owner::default() });
        let meta = Metadata { owner, ..metadata(EntryKind::File, 0o6755) };
        assert!(target.write_small(b"theirs", &meta, b"x", policy, false).unwrap().is_complete());
        let device = Metadata { device: 0x103, ..metadata(EntryKind::CharDevice, 0o666) };
        assert!(target.make_device(b"null", &device, policy).unwrap().is_complete());
        let meta = Metadata { kind: EntryKind::BlockDevice, device: 0x700, ..device };
        assert!(target.make_device(b"loop0", &meta, policy).unwrap().is_complete());
    }
}

/// Restores the only source into `target`.
pub(crate) fn options(snapshot: &Snapshot, target: &Path) -> RestoreOptions {
    RestoreOptions {
        snapshot: snapshot.clone(),
        path: Some(snapshot.paths[0].0.strip_prefix(b"/").unwrap().to_vec()),
        target: target.to_owned(),
        include: Patterns::default(),
        exclude: Patterns::default(),
        overwrite: None,
        delete: false,
        delete_excluded: false,
        protected: Vec::new(),
        dry_run: false,
        verify: true,
        policy: MetadataPolicy::default(),
        sync: false,
        threads: 2,
        interrupted: Arc::new(AtomicBool::new(false)),
    }
}

fn run(
    world: &World,
    snapshot: &Snapshot,
    target: &Path,
    change: impl FnOnce(&mut RestoreOptions),
) -> Result<RestoreSummary, OpError> {
    let mut options = options(snapshot, target);
    change(&mut options);
    restore(&world.repository, options)
}

fn problems(recorder: &Recorder) -> Vec<Event> {
    recorder.events().into_iter().filter(|event| matches!(event, Event::Problem(_))).collect()
}

fn taken(folder: &Path) -> (World, Snapshot) {
    let world = World::new();
    let summary = world.of(folder);
    // Root reads everything; others cannot read the file without permissions.
    assert_eq!(summary.problems, u64::from(!is_root()), "{:?}", problems(&world.recorder));
    let snapshot = summary.snapshot.unwrap();
    (world.again(), snapshot)
}

fn assert_same(left: &Facts, right: &Facts) {
    let keys = |facts: &Facts| facts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(left), keys(right));
    for (path, facts) in left {
        assert_eq!(facts, &right[path], "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn a_tree_of_every_odd_thing_comes_back_identical() {
    let source = odd_tree();
    let (world, snapshot) = taken(source.path());
    let target = tempfile::tempdir().unwrap();
    let summary = run(&world, &snapshot, target.path(), |_| {}).unwrap();
    let mut expected = facts(source.path());
    if !is_root() {
        expected.remove(&b"none"[..]);
    }
    assert_same(&expected, &facts(target.path()));
    assert_eq!(summary.problems, 0, "{:?}", problems(&world.recorder));
    assert_eq!((summary.sockets, summary.verified), (1, expected.len() as u64));
    use std::os::unix::fs::MetadataExt as _;
    let blocks = std::fs::metadata(target.path().join("sparse")).unwrap().blocks();
    assert!(blocks < 2000, "holes stay holes: {blocks} blocks");
}

#[test]
fn what_is_there_is_treated_as_was_asked_for() {
    let source = tempfile::tempdir().unwrap();
    let at = |folder: &Path, name: &str| folder.join(name);
    std::fs::create_dir(at(source.path(), "d")).unwrap();
    write(at(source.path(), "d/a"), b"from the snapshot");
    write(at(source.path(), "b"), &noise(200_000, 1));
    std::thread::sleep(Duration::from_millis(50));
    let (world, snapshot) = taken(source.path());
    let target = tempfile::tempdir().unwrap();
    let into = |change: &dyn Fn(&mut RestoreOptions)| {
        run(&world.again(), &snapshot, target.path(), |options| change(options))
    };
    into(&|_| {}).unwrap();
    assert!(matches!(into(&|_| {}), Err(OpError::TargetNotEmpty(_))));
    let text = |name: &str| std::fs::read(at(target.path(), name)).unwrap();
    write(at(target.path(), "d/a"), b"edited");
    write(at(target.path(), "d/extra"), b"extra");
    let kept = into(&|o| (o.overwrite, o.verify) = (Some(Overwrite::Never), false)).unwrap();
    assert_eq!((kept.kept, kept.restored), (2, 1));
    assert_eq!(text("d/a"), b"edited");
    let kept = into(&|o| (o.overwrite, o.verify) = (Some(Overwrite::IfNewer), false)).unwrap();
    assert_eq!((kept.kept, &text("d/a")[..]), (2, &b"edited"[..]));
    let planned = into(&|o| {
        (o.overwrite, o.delete, o.dry_run) = (Some(Overwrite::IfChanged), true, true);
    });
    let planned = planned.unwrap();
    assert_eq!((planned.restored, planned.deleted, planned.unchanged), (1, 1, 1));
    assert_eq!(text("d/a"), b"edited");
    let changed = into(&|o| o.overwrite = Some(Overwrite::IfChanged)).unwrap();
    assert_eq!((changed.unchanged, changed.problems), (1, 0));
    assert_eq!(
        (&text("d/a")[..], &text("d/extra")[..]),
        (&b"from the snapshot"[..], &b"extra"[..])
    );
    let exact = into(&|o| (o.overwrite, o.delete) = (Some(Overwrite::Always), true)).unwrap();
    assert_eq!((exact.deleted, exact.unchanged), (1, 0));
    assert_same(&facts(source.path()), &facts(target.path()));
}

#[test]
fn includes_excludes_single_files_and_absolute_paths() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(source.path().join("x/y")).unwrap();
    write(source.path().join("x/y/keep.txt"), b"keep");
    write(source.path().join("x/skip.log"), b"skip");
    let (world, snapshot) = taken(source.path());
    let names = |change: &dyn Fn(&mut RestoreOptions)| {
        let target = tempfile::tempdir().unwrap();
        run(&world.again(), &snapshot, target.path(), |options| change(options)).unwrap();
        facts(target.path()).into_keys().map(|n| String::from_utf8(n).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&|o| o.include = Patterns::new(["*.txt"]).unwrap()),
        ["x", "x/y", "x/y/keep.txt"]
    );
    assert_eq!(names(&|o| o.exclude = Patterns::new(["/x/y"]).unwrap()), ["x", "x/skip.log"]);
    let top = snapshot.paths[0].0.strip_prefix(b"/").unwrap();
    let file = [top, b"/x/skip.log"].concat();
    assert_eq!(names(&|o| o.path = Some(file.clone())), ["skip.log"]);
    let whole = names(&|o| o.path = None);
    assert!(whole.contains(&format!("{}/x/y/keep.txt", String::from_utf8_lossy(top))));
    let missing = run(&world, &snapshot, source.path(), |options| {
        options.path = Some(b"no/such".to_vec());
        options.overwrite = Some(Overwrite::Never);
    });
    assert!(matches!(missing, Err(OpError::NoSuchPath { .. })));
}

#[test]
fn a_new_or_empty_target_gets_the_metadata_of_the_folder_that_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    write(source.join("f"), b"x");
    let top = TargetFolder::open(folder.path()).unwrap();
    let xattrs = [Xattr { name: b"user.note"[..].into(), value: b"1"[..].into() }].into();
    let meta = Metadata { xattrs, ..metadata(EntryKind::Directory, 0o3751) };
    let policy = MetadataPolicy::default();
    assert!(top.finish_folder(b"source", &meta, &policy).unwrap().is_complete());
    std::thread::sleep(Duration::from_millis(50));
    let (world, snapshot) = taken(&source);
    let restored = |name: &str, change: &dyn Fn(&mut RestoreOptions)| {
        run(&world.again(), &snapshot, &folder.path().join(name), change).unwrap();
        top.compare(name.as_bytes(), &meta, &policy).unwrap()
    };
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for name in ["new", "empty"] {
        assert_eq!(restored(name, &|_| {}), [], "{name}");
    }
    assert_eq!(restored("forced", &|options| options.overwrite = Some(Overwrite::Always)), []);
    std::fs::create_dir(folder.path().join("used")).unwrap();
    write(folder.path().join("used/mine"), b"");
    let used = |overwrite| restored("used", &|options| options.overwrite = Some(overwrite));
    for overwrite in [Overwrite::Never, Overwrite::IfNewer] {
        let found = used(overwrite);
        assert!(found.contains(&gabion::target::Difference::Mode), "{found:?}");
    }
    assert_eq!(used(Overwrite::IfChanged), []);
    std::fs::create_dir(folder.path().join("whole")).unwrap();
    let whole = restored("whole", &|options| (options.path, options.verify) = (None, false));
    assert!(whole.contains(&gabion::target::Difference::Mode), "{whole:?}");
    std::fs::create_dir(folder.path().join("dry")).unwrap();
    let dry = restored("dry", &|options| (options.dry_run, options.verify) = (true, false));
    assert!(dry.contains(&gabion::target::Difference::Mode), "{dry:?}");
}

#[test]
fn damage_costs_the_files_it_hits_and_no_others() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..6u8 {
        write(source.path().join(format!("f{number}")), &noise(900_000, number));
    }
    std::thread::sleep(Duration::from_millis(50));
    let (world, snapshot) = taken(source.path());
    let largest = world
        .storage
        .names()
        .into_iter()
        .filter(|name| name.kind == ObjectKind::Pack)
        .max_by_key(|name| world.storage.get(*name).unwrap().len())
        .unwrap();
    let mut bytes = world.storage.get(largest).unwrap().to_vec();
    bytes[100] ^= 1;
    world.storage.put(largest, bytes);
    let target = tempfile::tempdir().unwrap();
    let summary = run(&world, &snapshot, target.path(), |o| o.verify = false).unwrap();
    assert!(summary.damaged > 0 && summary.damaged < 6, "{summary:?}");
    let restored = facts(target.path());
    let expected = facts(source.path());
    assert_eq!(restored.len() as u64 + summary.damaged, 6);
    for (path, (meta, content, _)) in &restored {
        assert_eq!((meta, content), (&expected[path].0, &expected[path].1));
    }
}

#[test]
fn a_repository_without_its_packs_restores_nothing_and_says_so() {
    let source = tempfile::tempdir().unwrap();
    write(source.path().join("f"), &noise(1000, 1));
    let (world, snapshot) = taken(source.path());
    let storage: &MemoryStorage = &world.storage;
    storage.names().into_iter().filter(|n| n.kind == ObjectKind::Pack).for_each(|name| {
        storage.remove(name);
    });
    let target = tempfile::tempdir().unwrap();
    let result = run(&world, &snapshot, target.path(), |_| {});
    assert!(matches!(result, Err(OpError::Repository(error)) if error.is_damage()));
    let repository: &Repository = &world.repository;
    assert_eq!(repository.index().packs().count(), 0);
    assert_eq!(facts(target.path()).len(), 0);
}
