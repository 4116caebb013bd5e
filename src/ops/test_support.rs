//! Repositories in memory with snapshots of made-up entries, for the tests of operations.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::crypto::ChunkKind;
use crate::crypto::passphrase::KdfCosts;
use crate::event::Recorder;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata, Timestamp};
use crate::format::path;
use crate::format::snapshot::{Moment, Snapshot, SnapshotCounts};
use crate::id::{ChunkId, SnapshotId};
use crate::repo::{InitOptions, PackClass, Repository, Unlock, Writer};
use crate::storage::{MemoryStorage, ObjectKind, ObjectName};
use crate::tree::{ContentWriter, TreeBuilder};

/// Plain bytes of every chunk but a content's last.
pub(crate) const CHUNK: usize = 4096;

/// A repository whose objects a test can get at.
pub(crate) struct TestRepository {
    pub(crate) repository: Arc<Repository>,
    pub(crate) storage: MemoryStorage,
    pub(crate) events: Arc<Recorder>,
}

/// A piece of a made-up content.
#[derive(Debug, Clone)]
pub(crate) enum TestPart {
    Bytes(Vec<u8>),
    Hole(u64),
}

/// An entry to be, without its path.
#[derive(Debug, Clone)]
pub(crate) struct TestEntry {
    pub(crate) meta: Metadata,
    pub(crate) parts: Vec<TestPart>,
    /// Keep the bytes in the entry itself.
    pub(crate) inline: bool,
}

pub(crate) type TestTree = BTreeMap<Vec<u8>, TestEntry>;

impl TestEntry {
    pub(crate) fn new(kind: EntryKind) -> Self {
        let time = Timestamp { seconds: 1_000_000, nanos: 5 };
        let meta = Metadata {
            inode: 1,
            filesystem: 1,
            ..Metadata::bare(kind, if kind == EntryKind::Directory { 0o755 } else { 0o644 }, time)
        };
        Self { meta, parts: Vec::new(), inline: false }
    }

    pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self { parts: vec![TestPart::Bytes(bytes.into())], ..Self::new(EntryKind::File) }
    }

    pub(crate) fn folder() -> Self {
        Self::new(EntryKind::Directory)
    }

    pub(crate) fn link(target: &[u8]) -> Self {
        let mut link = Self::new(EntryKind::Symlink);
        link.meta.target = target.into();
        link
    }
}

/// A tree of the given entries.
pub(crate) fn tree<const N: usize>(entries: [(&str, TestEntry); N]) -> TestTree {
    entries.into_iter().map(|(path, entry)| (path.as_bytes().to_vec(), entry)).collect()
}

/// The record of a complete snapshot of nothing.
pub(crate) fn bare_snapshot() -> Snapshot {
    let time = Moment { seconds: 1_000_000, nanos: 0 };
    Snapshot {
        host: "host".to_owned(),
        user: "user".to_owned(),
        program: "test".to_owned(),
        ..Snapshot::bare(SnapshotId([0; 16]), ChunkId([0; 32]), time)
    }
}

/// Bytes that no compression makes smaller, other for every seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl TestRepository {
    /// An empty repository.
    pub(crate) fn new() -> Self {
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
        let events = Arc::new(Recorder::default());
        Self { repository: open(&storage, &events, false, None), storage, events }
    }

    /// An empty repository with pages of about 16 entries.
    pub(crate) fn with_small_pages() -> Self {
        let made = Self::new();
        let repository = open(&made.storage, &made.events, true, None);
        Self { repository, ..made }
    }

    /// The same, used by a client with a cache folder.
    pub(crate) fn with_small_pages_and_cache(cache: &Path) -> Self {
        let made = Self::new();
        let repository = open(&made.storage, &made.events, true, Some(cache));
        Self { repository, ..made }
    }

    /// The same objects, opened again as they are now.
    pub(crate) fn reopen(&self) -> Self {
        let (storage, events) = (self.storage.clone(), Arc::new(Recorder::default()));
        Self { repository: open(&storage, &events, false, None), storage, events }
    }

    /// A snapshot of `tree`.
    pub(crate) fn snapshot(&self, tree: &TestTree) -> Snapshot {
        let writer = Writer::new(&self.repository, 1);
        let mut worker = writer.worker(PackClass::Content).unwrap();
        let mut builder = TreeBuilder::new(&writer).unwrap();
        let mut paths: Vec<&Vec<u8>> = tree.keys().collect();
        paths.sort_by(|a, b| path::compare(a, b));
        for path in paths {
            let made = &tree[path];
            let mut content = ContentWriter::default();
            for part in &made.parts {
                match part {
                    TestPart::Hole(len) => {
                        let hole = ContentItem::Hole { len: *len };
                        content.push(builder.worker(), hole).unwrap();
                    }
                    TestPart::Bytes(bytes) => bytes.chunks(CHUNK).for_each(|bytes| {
                        let id = worker.store(ChunkKind::Content, bytes).unwrap();
                        let len = u32::try_from(bytes.len()).unwrap();
                        let chunk = ContentItem::Chunk { id, len };
                        content.push(builder.worker(), chunk).unwrap();
                    }),
                }
            }
            let mut meta = made.meta.clone();
            meta.size = content.len();
            let content = match (&made.parts[..], made.inline) {
                ([TestPart::Bytes(bytes)], true) => Content::Inline(bytes.clone().into()),
                _ => content.finish(builder.worker()).unwrap(),
            };
            builder.push(Entry { path: path[..].into(), meta, content }).unwrap();
        }
        worker.flush().unwrap();
        let snapshot = self.finish(builder);
        writer.checkpoint().unwrap();
        snapshot
    }

    /// A snapshot of exactly these entries, their contents as they are.
    pub(crate) fn raw_snapshot(&self, entries: Vec<Entry>) -> Snapshot {
        let writer = Writer::new(&self.repository, 1);
        let mut builder = TreeBuilder::new(&writer).unwrap();
        entries.into_iter().for_each(|entry| builder.push(entry).unwrap());
        let snapshot = self.finish(builder);
        writer.checkpoint().unwrap();
        snapshot
    }

    fn finish(&self, builder: TreeBuilder) -> Snapshot {
        let (root, totals) = builder.finish().unwrap();
        let counts = SnapshotCounts {
            entries: totals.entries,
            bytes: totals.bytes,
            ..SnapshotCounts::default()
        };
        Snapshot { id: SnapshotId::random(), root, counts, ..bare_snapshot() }
    }

    /// The packs with their bytes.
    pub(crate) fn packs(&self) -> Vec<(ObjectName, Vec<u8>)> {
        let names = self.storage.names().into_iter().filter(|name| name.kind == ObjectKind::Pack);
        names.map(|name| (name, self.storage.get(name).unwrap().to_vec())).collect()
    }

    /// Flips a bit of the stored bytes of the block that holds `plain` as one chunk.
    pub(crate) fn damage_chunk(&self, plain: &[u8]) {
        let id = self.repository.keys().chunk_id(ChunkKind::Content, plain);
        let location = self.repository.locate(&id).unwrap().unwrap();
        let name = ObjectName::pack(location.pack);
        let mut bytes = self.storage.get(name).unwrap().to_vec();
        bytes[usize::try_from(location.block_offset).unwrap()] ^= 1;
        self.storage.put(name, bytes);
    }
}

fn open(
    storage: &MemoryStorage,
    events: &Arc<Recorder>,
    small: bool,
    cache: Option<&Path>,
) -> Arc<Repository> {
    let (place, observer) = (Arc::new(storage.clone()), Arc::clone(events));
    let cache = cache.map(Path::to_owned);
    let mut opened = Repository::open(place, "memory", &Unlock::Nothing, cache, observer).unwrap();
    opened.load_index().unwrap();
    if small {
        opened.shrink_pages_for_tests();
    }
    Arc::new(opened)
}
