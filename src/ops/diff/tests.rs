//! Tests of comparing snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::format::entry::{EntryKind, Owner, Xattr};
use crate::ops::test_support::{CHUNK, TestEntry, TestRepository, TestTree, noise, tree};

fn items(
    made: &TestRepository,
    old: &Snapshot,
    new: &Snapshot,
    path: Option<&[u8]>,
) -> (Vec<DiffItem>, DiffSummary) {
    let mut found = Vec::new();
    let summary = diff_snapshots(&made.repository, old, new, path, &mut |item| {
        found.push(item.clone());
        Ok(())
    });
    (found, summary.unwrap())
}

/// Path and change in words: `+`, `-`, or the aspects.
fn words(found: &[DiffItem]) -> Vec<String> {
    let word = |item: &DiffItem| {
        let change = match item.change {
            Change::Added => "+".to_owned(),
            Change::Removed => "-".to_owned(),
            Change::Changed(aspects) => {
                aspects.iter().map(Aspect::name).collect::<Vec<_>>().join(",")
            }
        };
        format!("{} {change}", path::printable(&item.path))
    };
    found.iter().map(word).collect()
}

#[test]
fn every_aspect_is_told_and_what_nobody_sees_is_not() {
    let made = TestRepository::new();
    let file = || TestEntry::file(noise(1, 100));
    let mut device = TestEntry::new(EntryKind::BlockDevice);
    device.meta.device = 7;
    let old = tree([
        ("content", file()),
        ("device", device.clone()),
        ("folder", TestEntry::folder()),
        ("invisible", file()),
        ("kind", file()),
        ("link", TestEntry::link(b"a")),
        ("links", file()),
        ("mode", file()),
        ("mtime", file()),
        ("owner", file()),
        ("removed", file()),
        ("size", file()),
        ("xattrs", file()),
    ]);
    let mut new = old.clone();
    let mut change = |path: &str, edit: fn(&mut TestEntry)| {
        edit(new.get_mut(path.as_bytes()).unwrap());
    };
    change("content", |entry| *entry = TestEntry::file(noise(2, 100)));
    change("device", |entry| entry.meta.device = 8);
    change("folder", |entry| entry.meta.links = 9);
    change("invisible", |entry| {
        entry.meta.ctime.seconds += 1;
        (entry.meta.inode, entry.meta.filesystem, entry.meta.unsettled) = (5, 6, true);
        entry.inline = true;
    });
    change("kind", |entry| *entry = TestEntry::folder());
    change("link", |entry| entry.meta.target = b"b"[..].into());
    change("links", |entry| entry.meta.links = 2);
    change("mode", |entry| entry.meta.mode = 0o4755);
    change("mtime", |entry| entry.meta.mtime.nanos += 1);
    change("owner", |entry| {
        entry.meta.owner = Arc::new(Owner { gid: 5, ..Owner::default() });
    });
    change("size", |entry| *entry = TestEntry::file(noise(1, 101)));
    change("xattrs", |entry| {
        let (name, value) = (b"user.x"[..].into(), b"1"[..].into());
        entry.meta.xattrs = [Xattr { name, value }].into();
    });
    new.remove(&b"removed"[..]);
    new.insert(b"zz-added".to_vec(), file());
    let (old, new) = (made.snapshot(&old), made.snapshot(&new));
    let (found, summary) = items(&made, &old, &new, None);
    let wanted = [
        "content content",
        "device device",
        "kind kind",
        "link target",
        "links links",
        "mode mode",
        "mtime mtime",
        "owner owner",
        "removed -",
        "size content,size",
        "xattrs xattrs",
        "zz-added +",
    ];
    assert_eq!(words(&found), wanted);
    assert_eq!((summary.added, summary.removed, summary.changed), (1, 1, 10));
    assert_eq!((summary.added_bytes, summary.removed_bytes), (100 + 101 + 100, 100 * 4));
    assert!(!summary.is_clean());
    assert!(items(&made, &old, &old, None).1.is_clean());
}

#[test]
fn a_subtree_is_compared_alone() {
    let made = TestRepository::new();
    let old = made.snapshot(&tree([
        ("a", TestEntry::folder()),
        ("a/gone", TestEntry::file("1")),
        ("a/same", TestEntry::file("1")),
        ("ab", TestEntry::file("1")),
    ]));
    let new = made.snapshot(&tree([
        ("a", TestEntry::folder()),
        ("a/same", TestEntry::file("1")),
        ("new", TestEntry::folder()),
        ("new/x", TestEntry::file("1")),
    ]));
    let within = |path: &[u8]| words(&items(&made, &old, &new, Some(path)).0);
    assert_eq!(within(b"a"), ["a/gone -"]);
    assert_eq!(within(b"a/same"), [""; 0]);
    assert_eq!(within(b"new"), ["new +", "new/x +"]);
    assert_eq!(within(b"ab"), ["ab -"]);
    assert_eq!(within(b"").len(), 4);
    let none = diff_snapshots(&made.repository, &old, &new, Some(b"none"), &mut |_| Ok(()));
    assert!(matches!(none, Err(OpError::NoSuchPath { .. })));
}

#[test]
fn shared_pages_are_not_read() {
    let made = TestRepository::with_small_pages();
    let mut many: TestTree =
        (0..3000).map(|n| (format!("f{n:05}").into_bytes(), TestEntry::file(""))).collect();
    let old = made.snapshot(&many);
    let untouched = made.packs();
    many.insert(b"f01500".to_vec(), TestEntry::file("x"));
    let new = made.snapshot(&many);
    assert_eq!(items(&made, &old, &new, None).0.len(), 1);
    // Without the pages of the first snapshot the second differs where pages are its own.
    for (name, _) in untouched {
        assert!(made.storage.remove(name));
    }
    let alone = diff_snapshots(&made.repository, &new, &new, None, &mut |_| Ok(()));
    assert!(alone.unwrap().is_clean());
    let damaged = diff_snapshots(&made.repository, &old, &new, None, &mut |_| Ok(()));
    assert!(matches!(damaged, Err(OpError::Repository(error)) if error.is_damage()));
}

#[test]
fn long_contents_are_compared_by_their_lists() {
    let made = TestRepository::new();
    let bytes = noise(3, 200 * CHUNK);
    let mut edited = bytes.clone();
    edited[100 * CHUNK] ^= 1;
    let old = made.snapshot(&tree([("db", TestEntry::file(bytes))]));
    let new = made.snapshot(&tree([("db", TestEntry::file(edited))]));
    assert_eq!(words(&items(&made, &old, &new, None).0), ["db content"]);
}

fn arbitrary_tree() -> impl Strategy<Value = BTreeMap<String, u8>> {
    proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", 0u8..3, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_two_trees_and_subtrees(
        old in arbitrary_tree(), new in arbitrary_tree(), within in "([a-c]{1,2})?(/[a-c])?",
    ) {
        let within = within.trim_start_matches('/').as_bytes().to_vec();
        let made = TestRepository::with_small_pages();
        let take = |tree: &BTreeMap<String, u8>| {
            let entry = |version: &u8| TestEntry::file(vec![*version; 5]);
            let pairs = tree.iter().map(|(path, n)| (path.clone().into_bytes(), entry(n)));
            made.snapshot(&pairs.collect())
        };
        let (first, second) = (take(&old), take(&new));
        let mut wanted: Vec<String> = old
            .keys()
            .chain(new.keys().filter(|path| !old.contains_key(*path)))
            .filter(|path| path::is_within(path.as_bytes(), &within))
            .filter(|path| old.get(*path) != new.get(*path))
            .cloned()
            .collect();
        wanted.sort_by(|a, b| path::compare(a.as_bytes(), b.as_bytes()));
        let mut found = Vec::new();
        let mut keep = |item: &DiffItem| {
            found.push(String::from_utf8(item.path.to_vec()).unwrap());
            Ok(())
        };
        let result = diff_snapshots(&made.repository, &first, &second, Some(&within), &mut keep);
        let exists = within.is_empty()
            || old.keys().chain(new.keys()).any(|path| path::is_within(path.as_bytes(), &within));
        prop_assert_eq!(result.is_ok(), exists);
        prop_assert_eq!(found, wanted);
    }
}
