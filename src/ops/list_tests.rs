//! Tests of listing.

use super::*;
use crate::ops::test_support::{TestEntry, TestRepository, TestTree, tree};

fn listed(made: &TestRepository, snapshot: &Snapshot, path: &str, recursive: bool) -> Vec<String> {
    let mut found = Vec::new();
    let summary = list(&made.repository, snapshot, path.as_bytes(), recursive, &mut |entry| {
        found.push(String::from_utf8_lossy(entry.path()).into_owned());
        Ok(())
    });
    assert_eq!(summary.unwrap().entries, found.len() as u64);
    found
}

#[test]
fn children_subtrees_and_single_entries() {
    let made = TestRepository::new();
    let snapshot = made.snapshot(&tree([
        ("a", TestEntry::folder()),
        ("a/x", TestEntry::file("12345")),
        ("a/sub", TestEntry::folder()),
        ("a/sub/deep", TestEntry::file("1")),
        ("a/sub\u{1}", TestEntry::file("sibling right behind the subtree")),
        ("a b", TestEntry::file("")),
        ("db.sql", TestEntry::new(EntryKind::Stream)),
        ("link", TestEntry::link(b"a")),
        ("gap/only/below", TestEntry::file("no entries for the folders above")),
    ]));
    assert_eq!(listed(&made, &snapshot, "a", false), ["a/sub", "a/sub\u{1}", "a/x"]);
    assert_eq!(listed(&made, &snapshot, "a", true).len(), 4);
    let top = ["a", "a b", "db.sql", "gap/only/below", "link"];
    assert_eq!(listed(&made, &snapshot, "", false), top);
    assert_eq!(listed(&made, &snapshot, "", true).len(), 9);
    for one in ["a/x", "db.sql", "link", "a/sub/deep"] {
        assert_eq!(listed(&made, &snapshot, one, false), [one]);
    }
    assert_eq!(listed(&made, &snapshot, "gap/only", false), ["gap/only/below"]);
    for none in ["b", "a/y", "a/x/y", "a/su", "zzz", "A"] {
        let result = list(&made.repository, &snapshot, none.as_bytes(), false, &mut |_| Ok(()));
        assert!(matches!(result, Err(OpError::NoSuchPath { .. })), "{none}");
    }
    let mut bytes = 0;
    let summary = list(&made.repository, &snapshot, b"a", true, &mut |entry| {
        bytes += entry.size();
        Ok(())
    });
    assert_eq!(summary.unwrap(), ListSummary { entries: 4, bytes });
    assert_eq!(bytes, 5 + 1 + 32);
}

#[test]
fn an_empty_snapshot_has_an_empty_top_and_nothing_else() {
    let made = TestRepository::new();
    let snapshot = made.snapshot(&TestTree::new());
    assert_eq!(listed(&made, &snapshot, "", false), [""; 0]);
    let result = list(&made.repository, &snapshot, b"a", false, &mut |_| Ok(()));
    assert!(matches!(result, Err(OpError::NoSuchPath { .. })));
}

#[test]
fn the_caller_can_stop() {
    let made = TestRepository::new();
    let snapshot = made.snapshot(&tree([("a", TestEntry::file("")), ("b", TestEntry::file(""))]));
    let mut calls = 0;
    let result = list(&made.repository, &snapshot, b"", true, &mut |_| {
        calls += 1;
        Err(OpError::Interrupted)
    });
    assert!(matches!(result, Err(OpError::Interrupted)) && calls == 1);
}

/// Folders of every size among files, in a tree of many small pages.
fn wide_tree() -> TestTree {
    let mut tree = TestTree::new();
    for folder in 0..60usize {
        let path = format!("d{folder:02}");
        tree.insert(path.clone().into_bytes(), TestEntry::folder());
        for file in 0..folder * folder {
            tree.insert(format!("{path}/f{file:04}").into_bytes(), TestEntry::file(""));
        }
        tree.insert(format!("{path}.txt").into_bytes(), TestEntry::file("abc"));
    }
    tree
}

#[test]
fn what_is_skipped_is_exactly_what_is_below_child_folders() {
    let made = TestRepository::with_small_pages();
    let tree = wide_tree();
    let snapshot = made.snapshot(&tree);
    let found = listed(&made, &snapshot, "", false);
    let mut wanted: Vec<&[u8]> =
        tree.keys().map(|path| &path[..]).filter(|path| !path.contains(&b'/')).collect();
    wanted.sort_by(|a, b| path::compare(a, b));
    assert_eq!(found.iter().map(String::as_bytes).collect::<Vec<_>>(), wanted);
    assert_eq!(listed(&made, &snapshot, "d59", false).len(), 59 * 59);
    assert_eq!(listed(&made, &snapshot, "", true).len(), tree.len());
}

#[test]
fn names_may_be_any_bytes() {
    let made = TestRepository::new();
    let names: [&[u8]; 4] = [b"\x01", b"\xff\xfe", b"\n", b"..."];
    let tree = names.into_iter().map(|name| (name.to_vec(), TestEntry::file(""))).collect();
    let snapshot = made.snapshot(&tree);
    for name in names {
        assert_eq!(&*find_entry(&made.repository, &snapshot, name).unwrap().path, name);
    }
}
