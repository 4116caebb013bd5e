//! Tests of finding.

use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::ops::test_support::{TestEntry, TestRepository, TestTree, tree};
use crate::source::pattern::Patterns;

fn named(pattern: &str) -> FindOptions {
    let names = NamePatterns::new(&Patterns::new([pattern]).unwrap(), false).unwrap();
    FindOptions { names, ..FindOptions::default() }
}

/// Paths with the positions of the snapshots that hold them.
fn found(
    made: &TestRepository,
    snapshots: &[Snapshot],
    options: &FindOptions,
) -> (Vec<(String, Vec<usize>)>, FindSummary) {
    let mut found = Vec::new();
    let position = |id: &SnapshotId| snapshots.iter().position(|one| one.id == *id).unwrap();
    let summary = find(&made.repository, snapshots, options, &mut |item| {
        let path = String::from_utf8_lossy(&item.entry.path).into_owned();
        found.push((path, item.snapshots.iter().map(position).collect()));
        Ok(())
    })
    .unwrap();
    assert_eq!(summary.items, found.len() as u64);
    (found, summary)
}

#[test]
fn every_condition_counts() {
    let made = TestRepository::new();
    let mut late = TestEntry::file("12345");
    late.meta.mtime.seconds = 2_000_000;
    let snapshots = [made.snapshot(&tree([
        ("a", TestEntry::folder()),
        ("a/late.txt", late),
        ("a/x.txt", TestEntry::file("123")),
        ("link.txt", TestEntry::link(b"a")),
        ("x.txt", TestEntry::file("")),
    ]))];
    let paths = |options: FindOptions| -> Vec<String> {
        found(&made, &snapshots, &options).0.into_iter().map(|(path, _)| path).collect()
    };
    let all = || FindOptions::default();
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    assert_eq!(paths(all()).len(), 5);
    assert_eq!(paths(named("x.txt")), ["a/x.txt", "x.txt"]);
    assert_eq!(paths(named("/*.txt")), ["link.txt", "x.txt"]);
    let kinds = vec![EntryKind::Directory, EntryKind::Symlink];
    assert_eq!(paths(FindOptions { kinds, ..all() }), ["a", "link.txt"]);
    assert_eq!(paths(FindOptions { newer: time(1_500_000), ..all() }), ["a/late.txt"]);
    assert_eq!(paths(FindOptions { newer: time(2_000_001), ..all() }), [""; 0]);
    assert_eq!(paths(FindOptions { older: time(1_500_000), ..all() }).len(), 4);
    assert_eq!(paths(FindOptions { min_size: Some(3), ..all() }), ["a/late.txt", "a/x.txt"]);
    assert_eq!(paths(FindOptions { max_size: Some(3), ..all() }), ["a/x.txt", "x.txt"]);
    let within = || b"a".to_vec();
    assert_eq!(paths(FindOptions { within: within(), ..all() }).len(), 3);
    assert_eq!(paths(FindOptions { within: within(), ..named("x*") }), ["a/x.txt"]);
    assert_eq!(paths(FindOptions { within: b"zz".to_vec(), ..all() }), [""; 0]);
}

#[test]
fn equal_entries_are_one_result_and_shared_pages_are_read_once() {
    let made = TestRepository::with_small_pages();
    let mut many: TestTree = (0..3000)
        .map(|n| (format!("d{:02}/f{n:05}", n % 20).into_bytes(), TestEntry::file("")))
        .collect();
    let first = made.snapshot(&many);
    let pages = found(&made, std::slice::from_ref(&first), &named("none")).1.pages;
    assert!(pages > 100);
    many.insert(b"d10/f01510".to_vec(), TestEntry::file("new"));
    let second = made.snapshot(&many);
    let empty = made.snapshot(&TestTree::new());
    let snapshots = [first.clone(), second, empty, first];
    let (items, summary) = found(&made, &snapshots, &named("f015?0"));
    assert!(summary.pages < pages + 10, "{} against {pages}", summary.pages);
    let both = |path: &str| (path.to_owned(), vec![0, 1, 0]);
    assert_eq!(items.len(), 11);
    assert_eq!(items[0], both("d00/f01500"));
    assert_eq!(items[1], both("d00/f01520"));
    let edited: Vec<_> = items.iter().filter(|(path, _)| path == "d10/f01510").collect();
    let in_order = [("d10/f01510".to_owned(), vec![0, 0]), ("d10/f01510".to_owned(), vec![1])];
    assert!(edited.into_iter().eq(in_order.iter()));
    let narrow = FindOptions { within: b"d10".to_vec(), ..named("f015?0") };
    let (items, summary) = found(&made, &snapshots, &narrow);
    assert!(items.iter().all(|(path, _)| path.starts_with("d10/")) && items.len() == 6);
    assert!(summary.pages < pages / 4, "{}", summary.pages);
}

#[test]
fn what_cannot_be_read_is_told_once_and_the_rest_is_searched() {
    let made = TestRepository::with_small_pages();
    let many = |range: std::ops::Range<u32>| -> TestTree {
        range.map(|n| (format!("f{n:05}").into_bytes(), TestEntry::file(""))).collect()
    };
    let first = made.snapshot(&many(0..1000));
    let kept = made.packs();
    let second = made.snapshot(&many(0..1100));
    let both = [first.clone(), second.clone(), second];
    let (items, summary) = found(&made, &both, &named("f*"));
    assert_eq!((items.len(), summary.problems), (1100, 0));
    for (name, _) in made.packs().into_iter().filter(|pack| !kept.contains(pack)) {
        assert!(made.storage.remove(name));
    }
    // The two newer ones lost their top page, which is one; the first has everything.
    let broken = made.reopen();
    let (items, summary) = found(&broken, &both, &named("f*"));
    assert_eq!((items.len(), summary.problems), (1000, 1));
    let told = broken.events.events();
    let told: Vec<_> = told.iter().filter(|event| matches!(event, Event::Problem(_))).collect();
    assert!(matches!(&told[..], [Event::Problem(told)] if told.message.contains("2 snapshots")));
    for (name, _) in made.packs() {
        assert!(made.storage.remove(name));
    }
    let (items, summary) = found(&made.reopen(), &[first], &named("f*"));
    assert_eq!((items.len(), summary.problems), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_same_as_looking_into_each_snapshot_alone(
        trees in proptest::collection::vec(
            proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", 0u8..2, 0..100), 0..4,
        ),
        within in "([a-c]{1,2})?",
    ) {
        let made = TestRepository::with_small_pages();
        let mut wanted = std::collections::BTreeMap::<(Vec<u8>, u8), Vec<usize>>::new();
        let mut snapshots = Vec::new();
        for (position, tree) in trees.iter().enumerate() {
            let mut entries = TestTree::new();
            for (path, version) in tree {
                entries.insert(path.clone().into_bytes(), TestEntry::file(vec![*version; 3]));
                if path::name(path.as_bytes()).starts_with(b"a")
                    && path::is_within(path.as_bytes(), within.as_bytes())
                {
                    let key = (path.replace('/', "\0").into_bytes(), *version);
                    wanted.entry(key).or_default().push(position);
                }
            }
            snapshots.push(made.snapshot(&entries));
        }
        let options = FindOptions { within: within.clone().into_bytes(), ..named("a*") };
        let (items, _) = found(&made, &snapshots, &options);
        let mut items: Vec<(Vec<u8>, Vec<usize>)> = items
            .into_iter()
            .map(|(path, holders)| (path.replace('/', "\0").into_bytes(), holders))
            .collect();
        prop_assert!(items.is_sorted_by(|a, b| a.0 <= b.0));
        let mut wanted: Vec<_> =
            wanted.into_iter().map(|((path, _), holders)| (path, holders)).collect();
        items.sort();
        wanted.sort();
        prop_assert_eq!(items, wanted);
    }
}
