//! Tests of trees: whatever the way there, the same entries give the same pages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::crypto::passphrase::KdfCosts;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata, Timestamp};
use crate::format::page::{Leaf, PageRef, Upper};
use crate::repo::{InitOptions, PackClass, Unlock, Writer};
use crate::storage::MemoryStorage;

pub(crate) fn repository() -> Arc<Repository> {
    let storage = MemoryStorage::new();
    let options = InitOptions {
        unlock: Unlock::Nothing,
        costs: KdfCosts::default(),
        label: String::new(),
        now: "2026-11-22T00:00:00Z".to_owned(),
        parity_per_mille: None,
        delta: false,
    };
    Repository::init(&storage, "memory", &options).unwrap();
    let none: Option<PathBuf> = None;
    let opened =
        Repository::open(Arc::new(storage), "memory", &Unlock::Nothing, none, Arc::new(()))
            .unwrap();
    opened.load_index().unwrap();
    Arc::new(opened)
}

fn entry(path: &str, version: u64) -> Entry {
    let time = Timestamp { seconds: i64::try_from(version).unwrap(), nanos: 0 };
    let meta = Metadata {
        inode: version,
        filesystem: 1,
        size: 3,
        ..Metadata::bare(EntryKind::File, 0o644, time)
    };
    Entry { path: path.as_bytes().into(), meta, content: Content::Inline(b"abc"[..].into()) }
}

pub(super) type Map = BTreeMap<Vec<u8>, Entry>;

/// Keyed so that the map's order is the tree's.
pub(super) fn map(entries: impl IntoIterator<Item = (String, u64)>) -> Map {
    let key = |path: &str| path.replace('/', "\0").into_bytes();
    entries.into_iter().map(|(path, version)| (key(&path), entry(&path, version))).collect()
}

pub(super) fn build(repository: &Arc<Repository>, map: &Map) -> ChunkId {
    let writer = Writer::new(repository, 1);
    let mut builder = TreeBuilder::new(&writer).unwrap();
    map.values().for_each(|entry| builder.push(entry.clone()).unwrap());
    let (root, totals) = builder.finish().unwrap();
    assert_eq!(totals.entries, map.len() as u64);
    writer.checkpoint().unwrap();
    root
}

/// Builds `map` from the pages of `parent`, as a snapshot does.
fn merge(repository: &Arc<Repository>, parent: ChunkId, map: &Map) -> (ChunkId, u64) {
    let writer = Writer::new(repository, 1);
    let mut builder = TreeBuilder::new(&writer).unwrap();
    let mut cursor = PageReader::new(repository).cursor(parent);
    for entry in map.values() {
        let mut same = None;
        while let Some((page, at)) = cursor.peek().unwrap() {
            match crate::format::path::compare(page.leaf.path(at), &entry.path) {
                std::cmp::Ordering::Less => cursor.skip(),
                std::cmp::Ordering::Equal if page.leaf.entry(at) == *entry => {
                    same = Some((Arc::clone(page), at));
                    break;
                }
                _ => break,
            }
        }
        match same {
            Some((page, at)) => builder.push_same(&page, at).unwrap(),
            None => builder.push(entry.clone()).unwrap(),
        }
    }
    let (root, _) = builder.finish().unwrap();
    writer.checkpoint().unwrap();
    (root, writer.totals().plain_bytes[PackClass::Pages as usize])
}

fn all(repository: &Arc<Repository>, root: ChunkId) -> Vec<Entry> {
    let mut cursor = PageReader::new(repository).cursor(root);
    std::iter::from_fn(|| cursor.next_entry().unwrap()).collect()
}

fn many(count: u64) -> Map {
    map((0..count).map(|n| (format!("d{:03}/sub/f{n:06}", n % 173), 1)))
}

#[test]
fn pages_that_were_read_ahead_are_the_same_in_any_order_of_asking() {
    let (repository, map) = (repository(), many(5000));
    let root = build(&repository, &map);
    let entries: Vec<Entry> = map.values().cloned().collect();
    with_pages_ahead(&repository, |reader| {
        let mut cursor = reader.cursor(root);
        // From the middle, from the beginning, from a place that was passed: the pages that are
        // expected are not those that are asked for.
        for from in [2000, 0, 1000, 4990] {
            cursor.seek(&entries[from].path).unwrap();
            let got = std::iter::from_fn(|| cursor.next_entry().unwrap()).take(3000);
            assert!(got.eq(entries[from..].iter().take(3000).cloned()), "from {from}");
        }
    });
}

#[test]
fn a_page_that_is_lost_is_an_error_where_it_is_asked_for_and_only_there() {
    let (repository, map) = (repository(), many(20_000));
    let mut ids = vec![build(&repository, &map)];
    // Keys decide how high the tree is.
    let mut reader = PageReader::new(&repository);
    while let Page::Upper(_) = reader.page(&ids[0]).unwrap() {
        let pages = ids.iter().map(|id| reader.page(id).unwrap());
        ids = pages
            .flat_map(|page| match page {
                Page::Upper(upper) => upper.children.iter().map(|child| child.id).collect(),
                Page::Leaf(_) => Vec::new(),
            })
            .collect();
    }
    assert!(ids.len() > 5);
    with_pages_ahead(&repository, |mut reader| {
        let lost = ChunkId([7; 32]);
        let asked = [&ids[..3], &[lost], &ids[3..]].concat();
        reader.expect(asked.iter().copied());
        for id in &asked {
            assert_eq!(reader.page(id).is_err(), *id == lost, "{id}");
        }
    });
}

#[test]
fn a_large_tree_reads_back_and_seeks() {
    let repository = repository();
    let map = many(70_000);
    let root = build(&repository, &map);
    assert_eq!(all(&repository, root), map.values().cloned().collect::<Vec<_>>());
    let mut cursor = PageReader::new(&repository).cursor(root);
    for path in ["d000/sub/f000000", "d172/sub/f000172", "d050/sub/f000050"] {
        assert_eq!(cursor.find(path.as_bytes()).unwrap().unwrap(), entry(path, 1));
    }
    assert_eq!(cursor.find(b"d050/sub/f000051").unwrap(), None);
    cursor.seek(b"d050/sub/f000051").unwrap();
    assert_eq!(&*cursor.next_entry().unwrap().unwrap().path, b"d050/sub/f000223");
    cursor.seek(b"zzz").unwrap();
    assert!(cursor.next_entry().unwrap().is_none());
    cursor.seek(b"").unwrap();
    assert_eq!(&*cursor.next_entry().unwrap().unwrap().path, b"d000/sub/f000000");
}

/// Whoever has the key can make any tree; each page by itself is as it should be.
#[test]
fn a_page_that_reaches_into_the_next_is_an_error_and_no_panic() {
    let repository = repository();
    let writer = Writer::new(&repository, 1);
    let mut worker = writer.worker(PackClass::Pages).unwrap();
    let mut page_of = |paths: &[&str]| {
        let entries: Vec<Entry> = paths.iter().map(|path| entry(path, 1)).collect();
        let id = worker.store(ChunkKind::Page, &Leaf::encode(&entries)).unwrap();
        let first_path = entries[0].path.clone();
        PageRef { first_path, id, entries: paths.len() as u64, bytes: 3 * paths.len() as u64 }
    };
    let children = vec![page_of(&["a", "m"]), page_of(&["c", "z"])];
    let upper = Upper { height: 1, children };
    let root = worker.store(ChunkKind::Page, &upper.encode()).unwrap();
    worker.flush().unwrap();
    writer.checkpoint().unwrap();

    let mut cursor = PageReader::new(&repository).cursor(root);
    let error = cursor.next_entry().unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("reaches into the next"), "{error}");
    let mut builder = TreeBuilder::new(&writer).unwrap();
    builder.push(entry("m", 1)).unwrap();
    let error = builder.push(entry("c", 1)).unwrap_err();
    assert!(error.is_damage(), "{error}");
}

#[test]
fn an_unchanged_tree_stores_nothing_and_one_change_little() {
    let repository = repository();
    let mut map = many(30_000);
    let root = build(&repository, &map);
    assert_eq!(merge(&repository, root, &map), (root, 0));
    let changed = entry("d100/sub/f000100", 2);
    map.insert(b"d100\0sub\0f000100".to_vec(), changed);
    let (edited, bytes) = merge(&repository, root, &map);
    assert!(edited != root && bytes < 100_000, "{bytes}");
    assert_eq!(build(&repository, &map), edited);
}

#[test]
fn empty_trees_and_checkpoints() {
    let repository = repository();
    let root = build(&repository, &Map::new());
    assert_eq!(all(&repository, root), []);
    let mut cursor = PageReader::new(&repository).cursor(root);
    assert_eq!(cursor.find(b"a").unwrap(), None);
    let map = many(20_000);
    let writer = Writer::new(&repository, 1);
    let mut builder = TreeBuilder::new(&writer).unwrap();
    assert_eq!(builder.checkpoint().unwrap(), None);
    for entry in map.values().take(15_000) {
        builder.push(entry.clone()).unwrap();
    }
    let partial = builder.checkpoint().unwrap().unwrap();
    map.values().skip(15_000).for_each(|entry| builder.push(entry.clone()).unwrap());
    let (root, _) = builder.finish().unwrap();
    writer.checkpoint().unwrap();
    let found = all(&repository, partial);
    assert!(found.len() > 10_000 && found.len() < 15_000);
    assert!(found.iter().eq(map.values().take(found.len())));
    assert_eq!(root, build(&repository, &map));
}

#[test]
fn long_contents_are_paged_and_share_pages() {
    let repository = repository();
    let writer = Writer::new(&repository, 1);
    let mut worker = writer.worker(PackClass::Pages).unwrap();
    let chunk = |n: u64| ContentItem::Chunk {
        id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()),
        len: 4096,
    };
    let mut lists = Vec::new();
    for edit in [None, Some(5000u64)] {
        for count in [0u64, 1, 16, 17, 1000, 40_000] {
            let mut list: Vec<ContentItem> = (0..count).map(chunk).collect();
            if let Some(at) = edit
                && at < count
            {
                list[usize::try_from(at).unwrap()] = chunk(1 << 40);
            }
            if count > 20 {
                list.insert(10, ContentItem::Hole { len: 1 << 33 });
            }
            let mut content = ContentWriter::default();
            list.iter().for_each(|item| content.push(&mut worker, *item).unwrap());
            let size = content.len();
            lists.push((list, content.finish(&mut worker).unwrap(), size));
        }
    }
    worker.flush().unwrap();
    writer.checkpoint().unwrap();
    let mut reader = PageReader::new(&repository);
    for (list, content, size) in &lists {
        let mut items = ContentItems::new(content, *size);
        let found: Vec<_> = std::iter::from_fn(|| items.next(&mut reader).unwrap()).collect();
        assert_eq!(found, *list);
        assert_eq!(matches!(content, Content::Paged { .. }), list.len() > 16);
    }
    assert_eq!(lists[4].1, lists[10].1, "equal lists give equal pages");
    assert_ne!(lists[5].1, lists[11].1);
    let totals = writer.totals().plain_bytes[PackClass::Pages as usize];
    assert!(totals < 40_000 * 38 + 1000 * 40 + 60_000, "an edit stores few pages: {totals}");
}

pub(super) fn arbitrary_map() -> impl Strategy<Value = Map> {
    let path = "[a-d]{1,2}(/[a-d]{1,2}){0,2}";
    proptest::collection::btree_map(path, 0u64..3, 0..400).prop_map(map)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn merging_equals_building_anew_and_the_diff_is_exact(
        old in arbitrary_map(), new in arbitrary_map(), keep in 0.0f64..1.0,
    ) {
        // Mostly the old map, so that pages are shared.
        let take = |at: usize| (at as f64) / 400.0 < keep;
        let new: Map = old.iter().enumerate().filter(|(at, _)| take(*at)).map(|(_, pair)| pair)
            .chain(new.iter().enumerate().filter(|(at, _)| !take(*at)).map(|(_, pair)| pair))
            .map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let repository = repository_with_small_pages();
        let (old_root, new_root) = (build(&repository, &old), build(&repository, &new));
        prop_assert_eq!(merge(&repository, old_root, &new).0, new_root);
        let cursor = |root| PageReader::new(&repository).cursor(root);
        let mut diff = Diff::new(cursor(old_root), cursor(new_root));
        let mut patched = old.clone();
        let key = |entry: &Entry| {
            entry.path.iter().map(|&b| if b == b'/' { 0 } else { b }).collect::<Vec<u8>>()
        };
        while let Some(change) = diff.next_change().unwrap() {
            let consistent = match change {
                Change::Added(entry) => patched.insert(key(&entry), entry).is_none(),
                Change::Removed(entry) => patched.remove(&key(&entry)) == Some(entry),
                Change::Changed { old, new } => {
                    old != new && patched.insert(key(&new), *new) == Some(*old)
                }
            };
            prop_assert!(consistent);
        }
        prop_assert_eq!(patched, new);
    }
}

pub(super) fn repository_with_small_pages() -> Arc<Repository> {
    let mut repository = Arc::into_inner(repository()).unwrap();
    repository.shrink_pages_for_tests();
    Arc::new(repository)
}
