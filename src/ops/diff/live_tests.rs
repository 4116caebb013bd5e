//! Tests of comparing with a live folder.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::format::snapshot::RawBytes;
use crate::ops::test_support::{CHUNK, TestEntry, TestPart, TestRepository, TestTree, noise, tree};

/// Writes `tree` below `folder` and gives its entries the metadata that the files now have.
fn realise(folder: &Path, tree: &mut TestTree) {
    let mut paths: Vec<Vec<u8>> = tree.keys().cloned().collect();
    paths.sort_by(|a, b| path::compare(a, b));
    let place = |path: &[u8]| folder.join(std::ffi::OsStr::from_bytes(path));
    for path in &paths {
        let entry = &tree[path];
        match entry.meta.kind {
            EntryKind::Directory => std::fs::create_dir(place(path)).unwrap(),
            EntryKind::Symlink => {
                let target = std::ffi::OsStr::from_bytes(&entry.meta.target);
                symlink(target, place(path)).unwrap();
            }
            _ => write_parts(&place(path), &entry.parts),
        }
    }
    let roots = crate::source::open::Roots::open(&[folder.to_owned()]).unwrap();
    let owners = OwnerNames::default();
    for path in &paths {
        let whole = place(path);
        let mut scan =
            crate::source::scan::Scan::start(crate::source::scan::ScanOptions::new(vec![
                whole.clone(),
            ]))
            .unwrap();
        let wanted = without_slash(&whole).to_vec();
        let stat = loop {
            if let crate::source::scan::Scanned::Entry { path, stat } = scan.next().unwrap()
                && path == wanted
            {
                break *stat;
            }
        };
        let (meta, problems) = read_metadata(&roots, &wanted, &stat, &owners).unwrap();
        assert!(problems.is_empty());
        tree.get_mut(path).unwrap().meta = meta;
    }
}

#[expect(clippy::disallowed_methods, reason = "makes test data")]
fn write_parts(path: &Path, parts: &[TestPart]) {
    let file = File::create(path).unwrap();
    let mut at = 0;
    for part in parts {
        match part {
            TestPart::Bytes(bytes) => {
                file.write_all_at(bytes, at).unwrap();
                at += bytes.len() as u64;
            }
            TestPart::Hole(len) => at += len,
        }
    }
    file.set_len(at).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "changes test data")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

struct World {
    made: TestRepository,
    dir: tempfile::TempDir,
    snapshot: Snapshot,
}

impl World {
    /// A snapshot of `tree`, and the same tree on disk.
    fn new(mut tree: TestTree) -> Self {
        let (made, dir) = (TestRepository::new(), tempfile::tempdir().unwrap());
        realise(dir.path(), &mut tree);
        let snapshot = made.snapshot(&tree);
        Self { made, dir, snapshot }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn mapping(&self, subtree: &str, live: &str) -> LiveMapping {
        let live = if live.is_empty() { self.dir.path().to_owned() } else { self.place(live) };
        LiveMapping { subtree: subtree.as_bytes().to_vec(), live }
    }

    fn diff(&self, options: &LiveOptions) -> Vec<String> {
        self.diff_mapped(&self.mapping("", ""), options)
    }

    /// The same on one thread and on four.
    fn diff_mapped(&self, mapping: &LiveMapping, options: &LiveOptions) -> Vec<String> {
        let [one, four] = [1, 4].map(|threads| {
            let options = LiveOptions { threads, ..options.clone() };
            self.diff_once(mapping, &options)
        });
        assert_eq!(one, four);
        one
    }

    fn diff_once(&self, mapping: &LiveMapping, options: &LiveOptions) -> Vec<String> {
        let mut found = Vec::new();
        let repository = &self.made.repository;
        let summary = diff_live(repository, &self.snapshot, mapping, options, &mut |item| {
            let change = match item.change {
                Change::Added => "+".to_owned(),
                Change::Removed => "-".to_owned(),
                Change::Changed(aspects) => {
                    aspects.iter().map(Aspect::name).collect::<Vec<_>>().join(",")
                }
            };
            found.push(format!("{} {change}", path::printable(&item.path)));
            Ok(())
        })
        .unwrap();
        assert_eq!(summary.added + summary.removed + summary.changed, found.len() as u64);
        found
    }

    fn keep_mtime(&self, path: &str, change: impl FnOnce(&Path)) {
        let place = self.place(path);
        let before = std::fs::metadata(&place).unwrap().modified().unwrap();
        change(&place);
        File::options().write(true).open(&place).unwrap().set_modified(before).unwrap();
    }
}

fn example() -> TestTree {
    let mut sparse = TestEntry::file(noise(2, 5000));
    sparse.parts.extend([TestPart::Hole(64 << 20), TestPart::Bytes(noise(3, 10))]);
    let mut inline = TestEntry::file("inline");
    inline.inline = true;
    tree([
        ("empty", TestEntry::new(EntryKind::File)),
        ("folder", TestEntry::folder()),
        ("folder/long", TestEntry::file(noise(1, 100 * CHUNK + 7))),
        ("folder/sparse", sparse),
        ("folder/\u{fc} odd\nname", TestEntry::file("x")),
        ("inline", inline),
        ("link", TestEntry::link(b"folder/long")),
    ])
}

#[test]
fn an_untouched_tree_is_alike() {
    let world = World::new(example());
    assert_eq!(world.diff(&LiveOptions::default()), [""; 0]);
    let folder = world.mapping("folder", "folder");
    assert_eq!(world.diff_mapped(&folder, &LiveOptions::default()), [""; 0]);
    let file = world.mapping("folder/long", "folder/long");
    assert_eq!(world.diff_mapped(&file, &LiveOptions::default()), [""; 0]);
}

#[test]
fn a_changed_byte_is_found_even_when_the_time_says_nothing() {
    let at_end = 5000 + (64 << 20) + 9;
    for (path, at) in [
        ("folder/long", 0),
        ("folder/long", 100 * CHUNK as u64 + 6),
        ("folder/sparse", 4999),
        ("folder/sparse", 6_000_000),
        ("folder/sparse", at_end),
        ("inline", 3),
    ] {
        let world = World::new(example());
        world.keep_mtime(path, |place| {
            let file = File::options().read(true).write(true).open(place).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x80], at).unwrap();
        });
        assert_eq!(world.diff(&LiveOptions::default()), [format!("{path} content")], "{at}");
        let trusting = LiveOptions { content: false, ..LiveOptions::default() };
        assert_eq!(world.diff(&trusting), [""; 0]);
    }
}

#[test]
fn many_files_are_told_in_the_order_of_their_paths() {
    let many = (0..200).map(|n| (format!("f{n:03}").into_bytes(), TestEntry::file(noise(n, 40))));
    let world = World::new(many.collect());
    for n in (0..200).step_by(3) {
        world.keep_mtime(&format!("f{n:03}"), |place| {
            File::options().write(true).open(place).unwrap().write_all_at(b"!?!?!", 7).unwrap();
        });
    }
    let wanted: Vec<String> = (0..200).step_by(3).map(|n| format!("f{n:03} content")).collect();
    assert_eq!(world.diff(&LiveOptions::default()), wanted);
}

#[test]
fn holes_that_are_stored_zeros_are_the_same_bytes() {
    let world = World::new(example());
    world.keep_mtime("folder/sparse", |place| {
        let file = File::options().write(true).open(place).unwrap();
        file.write_all_at(&[0; 1 << 20], 1 << 20).unwrap();
    });
    assert_eq!(world.diff(&LiveOptions::default()), [""; 0]);
}

#[test]
fn every_kind_of_change_is_told() {
    let world = World::new(example());
    let fixed = UNIX_EPOCH + Duration::from_secs(5);
    std::fs::set_permissions(world.place("empty"), PermissionsExt::from_mode(0o4711)).unwrap();
    write_parts(&world.place("folder/long"), &[TestPart::Bytes(noise(1, 100))]);
    std::fs::remove_dir_all(world.place("folder/sparse")).unwrap_err();
    rename(&world.place("folder/sparse"), &world.place("moved"));
    File::options().write(true).open(world.place("inline")).unwrap().set_modified(fixed).unwrap();
    std::fs::create_dir_all(world.place("new/sub")).unwrap();
    symlink("elsewhere", world.place("link.new")).unwrap();
    rename(&world.place("link.new"), &world.place("link"));
    let mut found = world.diff(&LiveOptions::default());
    let kept = found.iter_mut().find(|line| line.starts_with("link ")).unwrap();
    assert!(kept.ends_with("mtime,target") || kept.ends_with(" target"), "{kept}");
    kept.truncate(4);
    let wanted = [
        "empty mode",
        "folder mtime",
        "folder/long content,size,mtime",
        "folder/sparse -",
        "inline mtime",
        "link",
        "moved +",
        "new +",
        "new/sub +",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_file_in_place_of_a_folder_is_another_kind() {
    let world = World::new(example());
    rename(&world.place("folder"), &world.place("old"));
    write_parts(&world.place("folder"), &[]);
    let found = world.diff(&LiveOptions::default());
    assert_eq!(found[..2], ["folder kind", "folder/long -"]);
    assert_eq!(found.iter().filter(|line| line.starts_with("old")).count(), 4);
    let file = world.mapping("folder", "folder");
    let repository = &world.made.repository;
    let refused =
        diff_live(repository, &world.snapshot, &file, &LiveOptions::default(), &mut |_| Ok(()));
    assert!(matches!(refused, Err(OpError::Refused(_))));
    let none = world.mapping("none", "");
    let refused =
        diff_live(repository, &world.snapshot, &none, &LiveOptions::default(), &mut |_| Ok(()));
    assert!(matches!(refused, Err(OpError::NoSuchPath { .. })));
}

#[test]
fn hard_links_must_tie_the_same_names() {
    let dir = tempfile::tempdir().unwrap();
    let made = TestRepository::new();
    write_parts(&dir.path().join("a"), &[TestPart::Bytes(b"linked".to_vec())]);
    for name in ["b", "c"] {
        std::fs::hard_link(dir.path().join("a"), dir.path().join(name)).unwrap();
    }
    let mut entry = TestEntry::file("linked");
    let mut whole = tree([("a", entry.clone())]);
    let taken = tempfile::tempdir().unwrap();
    realise(taken.path(), &mut whole);
    entry.meta = whole[&b"a"[..]].meta.clone();
    entry.meta.mtime = mtime_of(&dir.path().join("a"));
    (entry.meta.links, entry.meta.inode) = (3, 77);
    let names = ["a", "b", "c"];
    let linked = names.map(|name| (name, entry.clone()));
    let snapshot = made.snapshot(&tree(linked));
    let world = World { made, dir, snapshot };
    assert_eq!(world.diff(&LiveOptions::default()), [""; 0]);
    // A copy of its own in place of the last link.
    let bytes = [TestPart::Bytes(b"linked".to_vec())];
    rename(&world.place("c"), &world.place("c.old"));
    write_parts(&world.place("c"), &bytes);
    rename(&world.place("c.old"), &world.place("d"));
    let found = world.diff(&LiveOptions::default());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("c ") && found[0].ends_with("links"), "{found:?}");
    assert_eq!(found[1], "d +");
}

fn mtime_of(path: &Path) -> crate::format::entry::Timestamp {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).unwrap();
    let nanos = u32::try_from(meta.mtime_nsec()).unwrap();
    crate::format::entry::Timestamp { seconds: meta.mtime(), nanos }
}

#[test]
fn what_is_excluded_is_neither_added_nor_removed() {
    let world = World::new(example());
    std::fs::create_dir(world.place("cache")).unwrap();
    let mut options = LiveOptions::default();
    assert_eq!(world.diff(&options), ["cache +"]);
    let patterns = ["cache", "folder"].map(Into::into).to_vec();
    let excludes = crate::source::exclude::ExcludesBuilder { patterns, ..Default::default() };
    options.excludes = excludes.build().unwrap();
    assert_eq!(world.diff(&options), [""; 0]);
}

#[test]
fn sockets_that_are_gone_are_no_difference() {
    let mut tree = example();
    let world = World::new(tree.clone());
    tree.insert(b"socket".to_vec(), TestEntry::new(EntryKind::Socket));
    tree.insert(b"db.sql".to_vec(), TestEntry::new(EntryKind::Stream));
    let snapshot = world.made.snapshot(&tree);
    let world = World { snapshot, ..world };
    let found = world.diff(&LiveOptions::default());
    assert!(found.contains(&"db.sql -".to_owned()));
    assert!(!found.iter().any(|line| line.starts_with("socket")));
}

#[test]
fn sources_are_compared_in_place_and_nothing_beside_them() {
    let world = World::new(tree([("src", TestEntry::folder()), ("other", TestEntry::folder())]));
    let absolute = without_slash(&world.place("src")).to_vec();
    // Only `src` was taken, with the folders above it.
    let mut whole = TestTree::new();
    let mut folders: Vec<&[u8]> = vec![&absolute];
    while let Some(up) = folders.last().map(|last| path::parent(last)).filter(|up| !up.is_empty()) {
        folders.push(up);
    }
    for folder in &folders {
        whole.insert(folder.to_vec(), TestEntry::folder());
    }
    whole.insert([&absolute[..], b"/gone"].concat(), TestEntry::file("x"));
    whole.insert(b"db.sql".to_vec(), TestEntry::new(EntryKind::Stream));
    let mut snapshot = world.made.snapshot(&whole);
    snapshot.paths = vec![RawBytes([b"/", &absolute[..]].concat())];
    let world = World { snapshot, ..world };
    let gone = |found: Vec<String>| {
        assert!(!found.iter().any(|line| line.ends_with('+')), "{found:?}");
        let gone: Vec<_> = found.into_iter().filter(|line| line.ends_with('-')).collect();
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].ends_with("src/gone -"));
    };
    for live in [world.dir.path(), Path::new("/"), &world.place("src")] {
        let resolve = LiveMapping::resolve(&world.made.repository, &world.snapshot, None, live);
        let mapping = resolve.unwrap();
        assert_eq!(mapping, LiveMapping::choose(None, live, true));
        gone(world.diff_mapped(&mapping, &LiveOptions::default()));
    }
    // A source that is gone altogether is all removed.
    std::fs::remove_dir(world.place("src")).unwrap();
    let mapping = LiveMapping::choose(None, world.dir.path(), true);
    let found = world.diff_mapped(&mapping, &LiveOptions::default());
    assert!(found.len() >= 2 && found[found.len() - 1].ends_with("src/gone -"), "{found:?}");
}

#[test]
fn what_is_compared_with_what() {
    let live = Path::new("/srv/data");
    let choose = |path: Option<&[u8]>, holds| {
        let mapping = LiveMapping::choose(path, live, holds);
        assert_eq!(mapping.live, live);
        (mapping.subtree.clone(), mapping.is_in_place())
    };
    assert_eq!(choose(None, true), (b"srv/data".to_vec(), true));
    assert_eq!(choose(None, false), (Vec::new(), false));
    assert_eq!(choose(Some(b"home"), true), (b"home".to_vec(), false));
    assert_eq!(choose(Some(b""), true), (Vec::new(), false));
    assert_eq!(choose(Some(b"srv/data"), false), (b"srv/data".to_vec(), true));
    let root = LiveMapping::choose(None, Path::new("/"), true);
    assert!(root.subtree.is_empty() && root.is_in_place());
}
