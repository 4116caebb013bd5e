//! Trees of all shapes, and the metadata of what is in them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use gabion::format::entry::EntryKind;
use gabion::source::metadata::{OwnerNames, read_file_xattrs, read_metadata};
use gabion::source::scan::{Scan, ScanOptions, Scanned};
use proptest::prelude::*;
use rustix::fs::{FileType, Mode, OFlags, XattrFlags, mkdirat, mknodat, openat, setxattr};

use super::{Seen, Tree, of, parallel, paths_below, scan};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One of every kind of item, with names that try the order and the handling of bytes.
fn odd_tree() -> Tree {
    let tree = Tree::new();
    for name in ["a", "a-b", "a.b", "a!", "a\x01", "a b", "-rf", "\n", "ab", "\\", "A", "~"] {
        tree.file(format!("order/{name}x"), name).folder(format!("order/{name}/b"));
        tree.file(format!("order/{name}/b/c"), name).file(format!("order/{name}/b.c"), "");
    }
    tree.file(b"raw/\xff\xfe", "x").file(b"raw/\xc3", "y").folder(b"raw/\x80/\x7f").folder("empty");
    tree.link("dead", "nowhere").link("loop", "loop").link("up", ".").link("to-folder", "order");
    tree.file("linked", "two names");
    std::fs::hard_link(tree.at("linked"), tree.at("order/linked")).unwrap();
    let special = |name: &str, kind, dev| {
        mknodat(rustix::fs::CWD, tree.at(name), kind, Mode::from_raw_mode(0o640), dev).unwrap();
    };
    special("fifo", FileType::Fifo, 0);
    special("socket", FileType::Socket, 0);
    if is_root() {
        special("char", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        special("block", FileType::BlockDevice, rustix::fs::makedev(7, 300));
    }
    for number in 0..700 {
        tree.file(format!("many/{number}"), "");
    }
    tree
}

#[test]
fn every_scan_finds_every_kind_of_item() {
    let tree = odd_tree();
    let all = scan(&of(&tree.path));
    let (owners, roots) = (OwnerNames::default(), Scan::start(of(&tree.path)).unwrap().roots());
    let mut kinds = std::collections::HashSet::new();
    for step in &all {
        let Seen::Entry(_, stat) = step else { panic!("{step:?} in a readable tree") };
        kinds.insert(stat.kind);
        assert!(stat.size == 0 || stat.kind == EntryKind::File);
    }
    assert_eq!(kinds.len(), if is_root() { 7 } else { 5 });
    let mut found = Scan::start(of(&tree.path)).unwrap();
    while let Some(step) = found.next() {
        let Scanned::Entry { path, stat } = step else { panic!("{step:?}") };
        let real = gabion::source::absolute(path);
        if !real.starts_with(&tree.path) {
            continue; // Others work above.
        }
        let real = real.symlink_metadata().unwrap();
        let facts = (stat.inode, u64::from(stat.links), stat.uid, stat.mtime.seconds);
        assert_eq!(facts, (real.ino(), real.nlink(), real.uid(), real.mtime()));
        let nanos = (i64::from(stat.mtime.nanos), i64::from(stat.ctime.nanos), stat.blocks_512);
        assert_eq!(nanos, (real.mtime_nsec(), real.ctime_nsec(), real.blocks()));
        assert_eq!(u32::from(stat.mode), real.mode() & 0o7777);
        let device = matches!(stat.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        assert_eq!(stat.device, if device { real.rdev() } else { 0 });
        let (metadata, problems) = read_metadata(&roots, path, stat, &owners).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((metadata.inode, metadata.size), (stat.inode, stat.size));
        assert_eq!(metadata.target.is_empty(), stat.kind != EntryKind::Symlink);
        if stat.kind == EntryKind::File {
            let file = roots.open_file(path).unwrap();
            assert_eq!(roots.stat_of(file.as_fd()).unwrap(), *stat);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_scan_agrees_on_random_trees(
        paths in prop::collection::vec(("[ab.!/-]{1,12}", 0..4_u8), 0..60),
    ) {
        let tree = Tree::new();
        for (path, kind) in paths {
            let path = path.replace("..", "x").trim_matches('/').to_owned();
            let parts: Vec<_> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
            let at = tree.at(parts.join("/"));
            // A file may be in the way of a folder; then there is one item fewer.
            let _ = std::fs::create_dir_all(at.parent().unwrap());
            let _ = match kind {
                0 => std::fs::create_dir(at),
                // Not to "..": what comes later would go through it, out of the tree.
                1 => std::os::unix::fs::symlink(".", at),
                _ => File::options().write(true).create_new(true).open(at).map(drop),
            };
        }
        scan(&of(&tree.path));
    }
}

#[test]
fn paths_longer_than_the_system_takes_are_scanned_and_opened() {
    let tree = Tree::new();
    let name = "n".repeat(40);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(&tree.path, flags, Mode::empty()).unwrap();
    for _ in 0..300 {
        mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    let create = OFlags::CREATE | OFlags::WRONLY;
    rustix::io::write(openat(&dir, "leaf", create, Mode::RUSR).unwrap(), b"deep").unwrap();
    for threads in [0, 2] {
        let all = parallel(&ScanOptions { threads, ..of(&tree.path) });
        let above = tree.path.components().count() - 1;
        assert_eq!(all.len(), above + 301);
        let Some(Seen::Entry(path, stat)) = all.last() else { panic!("{:?}", all.last()) };
        assert_eq!((path.len(), stat.size), (tree.path.as_os_str().len() - 1 + 300 * 41 + 5, 4));
        let roots = Scan::start(of(&tree.path)).unwrap().roots();
        let mut content = String::new();
        let file = roots.open_file(path.as_bytes()).unwrap();
        std::io::Read::read_to_string(&mut File::from(file), &mut content).unwrap();
        assert_eq!(content, "deep");
        let (handle, rel) = roots.locate(path.as_bytes()).unwrap();
        assert_eq!(handle.parent_of(rel).unwrap().1, b"leaf");
        read_metadata(&roots, path.as_bytes(), stat, &OwnerNames::default()).unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_a_problem_after_its_entry() {
    let tree = Tree::new();
    tree.file("a/1", "").file("b/1", "").file("c/1", "").folder("elsewhere");
    let mut scan = Scan::start(ScanOptions { threads: 0, ..of(&tree.path) }).unwrap();
    let mut all = Vec::new();
    while let Some(step) = scan.next() {
        let step = super::seen(step);
        if let Seen::Entry(path, _) = &step {
            // The folder changes between its entry and its listing.
            if path.ends_with("/a") {
                std::fs::remove_dir_all(tree.at("a")).unwrap();
            } else if path.ends_with("/b") {
                std::fs::remove_dir_all(tree.at("b")).unwrap();
                tree.link("b", "elsewhere");
            }
        }
        all.push(step);
    }
    let below: Vec<_> = all.iter().skip(tree.path.components().count() - 1).collect();
    for (position, name) in [(0, "a"), (2, "b")] {
        assert!(matches!(below[position], Seen::Entry(path, _) if path.ends_with(name)));
        assert_eq!(*below[position + 1], Seen::Problem(tree.at(name), "read the folder"));
    }
    assert!(matches!(below[5], Seen::Entry(path, _) if path.ends_with("c/1")), "it goes on");
}

#[test]
fn a_folder_without_permission_is_a_problem() {
    if is_root() {
        return;
    }
    let tree = Tree::new();
    tree.file("shut/1", "");
    let shut = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(tree.at("shut"), PermissionsExt::from_mode(mode)).unwrap();
    };
    shut(0o000);
    let found = paths_below(&tree.path, &of(&tree.path));
    shut(0o700);
    assert_eq!(found, ["shut", "!shut"]);
}

#[test]
fn extended_attributes_of_all_kinds_are_read_and_sorted() {
    let tree = Tree::new();
    tree.file("file", "").folder("folder").link("link", "dead".repeat(200));
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(tree.at(name), key, value, XattrFlags::empty())
    };
    if set("file", "user.z", b"last").is_err() {
        return; // This file system keeps none.
    }
    set("file", "user.a", &[0xff; 3000]).unwrap();
    set("file", "user.empty", b"").unwrap();
    setxattr(tree.at("folder"), "user.f", b"1", XattrFlags::empty()).unwrap();
    let on_link = is_root() && set("link", "trusted.l", b"2").is_ok();
    let mut scan = Scan::start(of(&tree.path)).unwrap();
    let (roots, owners) = (scan.roots(), OwnerNames::default());
    let mut found = Vec::new();
    while let Some(step) = scan.next() {
        let Scanned::Entry { path, stat } = step else { panic!("{step:?}") };
        let (metadata, problems) = read_metadata(&roots, path, stat, &owners).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        if path.ends_with(b"/file") {
            let (again, problems) = read_file_xattrs(roots.open_file(path).unwrap().as_fd(), path);
            assert_eq!((again, problems.len()), (metadata.xattrs.clone(), 0));
        }
        found.push(metadata);
    }
    let count = found.len();
    let [file, folder, link] = &found[count - 3..] else { panic!("{found:?}") };
    let names: Vec<_> = file.xattrs.iter().map(|x| x.name.escape_ascii().to_string()).collect();
    assert_eq!(names, ["user.a", "user.empty", "user.z"]);
    assert_eq!((file.xattrs[0].value.len(), &*file.xattrs[2].value), (3000, &b"last"[..]));
    assert_eq!(&*folder.xattrs[0].value, b"1");
    assert_eq!((&*link.target, link.xattrs.len()), (&b"dead".repeat(200)[..], on_link.into()));
    assert!(std::sync::Arc::ptr_eq(
        &found[0].owner,
        &owners.owner(found[0].owner.uid, found[0].owner.gid)
    ));
    if let Some(entry) = found.iter().find(|metadata| metadata.owner.uid == 0) {
        assert_eq!(&*entry.owner.user, b"root");
    }
}
