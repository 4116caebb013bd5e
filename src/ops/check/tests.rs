//! Tests of the check on small repositories with many pages.

use super::*;
use crate::crypto::ChunkKind;
use crate::event::Recorder;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata, Timestamp};
use crate::format::page::{ContentChild, ContentPage, Leaf, PageRef, Upper};
use crate::format::snapshot::{Moment, Snapshot};
use crate::id::{ChunkId, SnapshotId};
use crate::repo::{InitOptions, PackClass, Unlock, Writer};
use crate::storage::{MemoryStorage, ObjectKind, ObjectName};
use crate::tree::TreeBuilder;

/// Stores a chunk.
type Store<'a> = &'a mut dyn FnMut(ChunkKind, &[u8]) -> ChunkId;

struct Lab {
    storage: MemoryStorage,
    recorder: Arc<Recorder>,
    repository: Arc<Repository>,
}

fn open(storage: &MemoryStorage) -> Lab {
    let recorder = Arc::new(Recorder::default());
    let place = Arc::new(storage.clone());
    let opened =
        Repository::open(place, "here", &Unlock::Nothing, None, Arc::clone(&recorder) as _);
    let repository = Arc::new(opened.unwrap());
    Lab { storage: storage.clone(), recorder, repository }
}

/// A repository whose pages hold about 16 entries.
fn lab() -> Lab {
    let storage = MemoryStorage::new();
    let options = InitOptions {
        unlock: Unlock::Nothing,
        costs: crate::crypto::passphrase::KdfCosts::default(),
        label: String::new(),
        now: "2026-11-22T00:00:00Z".to_owned(),
        parity_per_mille: None,
        delta: false,
    };
    Repository::init(&storage, "here", &options).unwrap();
    let made = open(&storage).repository;
    let mut config = made.config().clone();
    config.pages.fan_out_bits = 4;
    config.pages.content_fan_out_bits = 4;
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        storage.put(name, config.encode(made.keys()));
    }
    let lab = open(&storage);
    lab.repository.load_index().unwrap();
    lab
}

impl Lab {
    fn check_with(&self, read: ReadData, interrupted: bool) -> Result<CheckSummary, OpError> {
        let interrupted = Arc::new(AtomicBool::new(interrupted));
        check(&self.repository, &CheckOptions { read, salt: 1, threads: 2, interrupted })
    }

    fn check(&self, read: ReadData) -> CheckSummary {
        self.check_with(read, false).unwrap()
    }

    /// What a check of the structure by a fresh process finds.
    fn problems(&self) -> Vec<String> {
        let lab = open(&self.storage);
        let summary = lab.check(ReadData::Structure);
        let text = |event| match event {
            Event::Problem(problem) => {
                Some(format!("{}: {}", problem.subject.display(), problem.message))
            }
            _ => None,
        };
        let problems: Vec<String> = lab.recorder.events().into_iter().filter_map(text).collect();
        assert_eq!(problems.len() as u64, summary.problems);
        problems
    }

    fn confirm(&self, root: ChunkId) -> SnapshotId {
        let moment = Moment { seconds: 0, nanos: 0 };
        let snapshot = Snapshot::bare(SnapshotId::random(), root, moment);
        self.repository.confirm(&snapshot).unwrap();
        snapshot.id
    }

    /// A snapshot of `entries`, each with a chunk of its own.
    fn take(&self, entries: std::ops::Range<u32>) -> SnapshotId {
        let writer = Writer::new(&self.repository, 1);
        let mut contents = writer.worker(PackClass::Content).unwrap();
        let mut tree = TreeBuilder::new(&writer).unwrap();
        for n in entries {
            let bytes = n.to_le_bytes();
            let id = contents.store(ChunkKind::Content, &bytes).unwrap();
            let content = Content::Items(vec![ContentItem::Chunk { id, len: 4 }]);
            tree.push(entry(&format!("d/{n:06}"), 4, content)).unwrap();
        }
        contents.flush().unwrap();
        let (root, _) = tree.finish().unwrap();
        writer.checkpoint().unwrap();
        self.confirm(root)
    }

    /// Stores chunks as they are, and confirms a snapshot of the last one.
    fn craft(&self, make: impl FnOnce(Store<'_>) -> ChunkId) {
        let writer = Writer::new(&self.repository, 1);
        let mut worker = writer.worker(PackClass::Pages).unwrap();
        let root = make(&mut |kind, bytes| worker.store(kind, bytes).unwrap());
        worker.flush().unwrap();
        writer.checkpoint().unwrap();
        self.confirm(root);
    }

    fn packs(&self) -> Vec<ObjectName> {
        self.storage.names().into_iter().filter(|name| name.kind == ObjectKind::Pack).collect()
    }
}

fn entry(path: &str, size: u64, content: Content) -> Entry {
    let meta = Metadata {
        inode: 1,
        filesystem: 1,
        size,
        ..Metadata::bare(EntryKind::File, 0o644, Timestamp::default())
    };
    Entry { path: path.as_bytes().into(), meta, content }
}

fn inline(path: &str) -> Entry {
    entry(path, 3, Content::Inline(b"abc"[..].into()))
}

#[test]
fn a_whole_repository_passes_and_shared_pages_are_read_once() {
    let lab = lab();
    lab.take(0..3000);
    let one = lab.check(ReadData::Structure);
    assert_eq!((one.snapshots, one.packs, one.problems, one.notes), (1, 2, 0, 0));
    assert!(one.pages > 150 && one.chunks == 3000 + one.pages, "{one:?}");
    assert_eq!(one.bytes_read, 0);
    lab.take(0..3001);
    lab.take(0..3001);
    let three = lab.check(ReadData::All);
    assert_eq!((three.snapshots, three.problems), (3, 0));
    assert!(three.pages < one.pages + 6, "{three:?}");
    assert!(three.bytes_read > 0);
}

#[test]
fn an_interrupted_check_says_so() {
    let lab = lab();
    lab.take(0..100);
    for read in [ReadData::Structure, ReadData::All] {
        assert!(matches!(lab.check_with(read, true), Err(OpError::Interrupted)));
    }
}

#[test]
fn the_parts_read_everything_once_and_find_damage_once() {
    let lab = lab();
    for n in 0..8 {
        lab.take(n * 100..(n + 1) * 100);
    }
    let all = lab.check(ReadData::All).bytes_read;
    let parts = |lab: &Lab| -> Vec<CheckSummary> {
        (1..=5).map(|part| lab.check(ReadData::Subset { part, of: 5 })).collect()
    };
    assert_eq!(parts(&lab).iter().map(|part| part.bytes_read).sum::<u64>(), all);
    let content = lab.packs().into_iter().find(|pack| {
        let mut bytes = lab.storage.get(*pack).unwrap().to_vec();
        bytes[70] ^= 1;
        let good = lab.storage.get(*pack).unwrap();
        lab.storage.put(*pack, bytes);
        let found = lab.check(ReadData::Structure).problems > 0;
        if found {
            lab.storage.put(*pack, good);
        }
        !found
    });
    assert!(content.is_some(), "some pack holds content alone");
    let found: Vec<u64> = parts(&lab).iter().map(|part| part.problems).collect();
    assert_eq!(found.iter().filter(|problems| **problems == 2).count(), 1, "{found:?}");
    assert_eq!(found.iter().sum::<u64>(), 2, "the block, and what the snapshot lost: {found:?}");
    assert_eq!(lab.check(ReadData::Percent(100.0)).problems, 2);
    assert_eq!(lab.check(ReadData::Bytes(u64::MAX)).problems, 2);
}

#[test]
fn every_lost_entry_is_counted() {
    let lab = lab();
    let older = lab.take(0..1000);
    let packs = lab.packs();
    let newer = lab.take(0..1500);
    let mine: Vec<ObjectName> =
        lab.packs().into_iter().filter(|pack| !packs.contains(pack)).collect();
    assert_eq!(mine.len(), 2);
    let mut seen = Vec::new();
    for pack in mine {
        let good = lab.storage.get(pack).unwrap();
        lab.storage.remove(pack);
        let problems = lab.problems();
        assert!(problems.iter().all(|problem| !problem.contains(&older.to_string())));
        seen.extend(problems.into_iter().filter(|text| text.contains(&newer.to_string())));
        lab.storage.put(pack, good);
    }
    seen.sort();
    let name = ObjectName::snapshot(newer);
    let content = "500 entries cannot be restored: /d/001000, /d/001001, /d/001002 (and 497 more)";
    let pages = "nothing of it can be restored: its top page is lost";
    assert_eq!(seen, [format!("{name}: {content}"), format!("{name}: {pages}")]);
    assert_eq!(lab.problems(), [""; 0]);
}

#[test]
fn duplicates_are_noted_and_keep_what_one_copy_lost() {
    let lab = lab();
    lab.take(0..50);
    let other = open(&lab.storage);
    let packs = lab.packs();
    other.take(0..50);
    let summary = lab.check(ReadData::All);
    assert_eq!((summary.problems, summary.notes), (0, 1));
    for pack in packs {
        let mut bytes = lab.storage.get(pack).unwrap().to_vec();
        bytes[70] ^= 1;
        lab.storage.put(pack, bytes);
    }
    let summary = open(&lab.storage).check(ReadData::All);
    assert_eq!(summary.problems, 2, "two blocks, but no snapshot lost anything");
}

#[test]
fn pages_that_contradict_each_other_are_found() {
    type Change = fn(&mut Upper);
    let changes: [(Change, &str); 6] = [
        (|upper| upper.children[0].entries += 1, "another number of entries"),
        (|upper| upper.children[1].bytes += 1, "another number of bytes"),
        (|upper| upper.children[1].first_path = b"b/0"[..].into(), "begins with another path"),
        (|upper| upper.height = 2, "another height"),
        (|upper| upper.children[1].id = upper.children[0].id, "begins with another path"),
        (|upper| upper.children[1].first_path = b"a/1"[..].into(), "ends behind"),
    ];
    for (change, expected) in changes {
        let lab = lab();
        lab.craft(|store| {
            let leaves = [["a", "a/x"], ["b", "c"]].map(|paths| paths.map(inline));
            let children = leaves.map(|leaf| PageRef {
                first_path: leaf[0].path.clone(),
                id: store(ChunkKind::Page, &Leaf::encode(&leaf)),
                entries: 2,
                bytes: 6,
            });
            let mut upper = Upper { height: 1, children: children.to_vec() };
            change(&mut upper);
            store(ChunkKind::Page, &upper.encode())
        });
        let problems = lab.problems();
        assert!(problems.iter().any(|text| text.contains(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn chunks_that_are_no_pages_and_lists_that_lie_are_found() {
    let chunk = |id, len| ContentItem::Chunk { id, len };
    type Planted<'a> = &'a dyn Fn(Store<'_>) -> ChunkId;
    let cases: [(&str, Planted<'_>); 6] = [
        ("page", &|store| store(ChunkKind::Page, b"no page")),
        ("its top page is lost", &|_| ChunkId([7; 32])),
        // A list of another length than the entry has, of another height, with a missing page, and
        // with a chunk that has another length than is said.
        ("not as long as its entry says", &|store| {
            let id = store(ChunkKind::Content, b"1234");
            let list = ContentPage::Items(vec![chunk(id, 4)]).encode();
            let root = store(ChunkKind::ContentPage, &list);
            let content = Content::Paged { root, height: 0 };
            store(ChunkKind::Page, &Leaf::encode(&[entry("a", 5, content)]))
        }),
        ("not of the height", &|store| {
            let id = store(ChunkKind::Content, b"1234");
            let list = ContentPage::Items(vec![chunk(id, 4)]).encode();
            let root = store(ChunkKind::ContentPage, &list);
            let content = Content::Paged { root, height: 1 };
            store(ChunkKind::Page, &Leaf::encode(&[entry("a", 4, content)]))
        }),
        ("in no pack", &|store| {
            let child = ContentChild { id: ChunkId([9; 32]), len: 4 };
            let list = ContentPage::Children { height: 1, children: vec![child] }.encode();
            let root = store(ChunkKind::ContentPage, &list);
            let content = Content::Paged { root, height: 1 };
            store(ChunkKind::Page, &Leaf::encode(&[entry("a", 4, content)]))
        }),
        ("1 entry cannot be restored: /a", &|store| {
            let id = store(ChunkKind::Content, b"1234");
            let content = Content::Items(vec![chunk(id, 5)]);
            store(ChunkKind::Page, &Leaf::encode(&[entry("a", 5, content)]))
        }),
    ];
    for (expected, make) in cases {
        let lab = lab();
        lab.craft(make);
        let problems = lab.problems();
        assert!(problems.iter().any(|text| text.contains(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn an_empty_tree_is_whole() {
    let lab = lab();
    lab.take(0..0);
    assert_eq!(lab.problems(), [""; 0]);
}
