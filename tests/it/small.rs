//! Small repositories for tests: snapshots made straight through the writer, read back through the
//! tree, and a storage that fails when it is told to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use gabion::crypto::ChunkKind;
use gabion::crypto::header::{ObjectType, Sealing};
use gabion::crypto::key_file::KeyFile;
use gabion::crypto::keys::Keys;
use gabion::crypto::passphrase::{KdfCosts, Passphrase};
use gabion::crypto::seal::seal_object;
use gabion::event::{Event, Observer, Recorder};
use gabion::format::config::{ChunkSizes, Config};
use gabion::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata, Timestamp};
use gabion::format::snapshot::{Mark, Moment, RawBytes, Session, Snapshot, SnapshotCounts};
use gabion::id::{RepositoryId, SessionId, SnapshotId};
use gabion::repo::{InitOptions, PackClass, Repository, RepositoryError, Unlock, Writer};
use gabion::storage::{
    Listing, MemoryStorage, ObjectKind, ObjectName, PendingObject, Storage, StorageError,
    StorageErrorKind,
};
use gabion::tree::{ContentItems, ContentWriter, PageReader, TreeBuilder};

/// Paths and what is in them.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes of a chunk in these tests.
const CHUNK: usize = 24;
/// Content that sits in its entry.
const INLINE: usize = 8;

/// What it costs to try a passphrase: next to nothing, so that tests are fast.
pub(crate) const CHEAP: KdfCosts = KdfCosts { memory_kib: 8, passes: 1, lanes: 1 };

pub(crate) fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Passphrase::new(text).unwrap())
}

/// A key file, always the same.
pub(crate) fn key_file() -> Unlock {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let text = KEY.get_or_init(|| KeyFile::generate().encode().to_string());
    Unlock::KeyFile(KeyFile::parse(text.as_bytes()).unwrap())
}

pub(crate) fn options(unlock: Unlock) -> InitOptions {
    InitOptions {
        unlock,
        costs: CHEAP,
        label: "first".to_owned(),
        now: "2026-11-22T00:00:00Z".to_owned(),
        parity_per_mille: None,
        delta: false,
    }
}

/// An empty plaintext repository whose chunks and pages are so small that little data has many.
/// With `delta`, blocks may be encoded against others.
pub(crate) fn tiny(delta: bool) -> MemoryStorage {
    let (id, created) = (RepositoryId::random(), "2026-11-26T00:00:00Z".to_owned());
    let mut config = Config::new(id, Sealing::None, created);
    let sizes = ChunkSizes { min: 64, avg: 256, max: 1024 };
    (config.chunker.files, config.chunker.streams) = (sizes, sizes);
    (config.pages.fan_out_bits, config.pages.content_fan_out_bits) = (4, 4);
    if delta {
        config.add_delta();
    }
    let keys = Keys::derive(config.plaintext_key.as_ref().unwrap());
    let storage = MemoryStorage::new();
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        storage.put(name, config.encode(&keys));
    }
    storage
}

/// Opens a repository and loads its index.
pub(crate) fn open(
    storage: &(impl Storage + Clone + 'static),
    unlock: &Unlock,
    cache: Option<&Path>,
    observer: Arc<dyn Observer>,
) -> Result<Arc<Repository>, RepositoryError> {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let cache = cache.map(Path::to_path_buf);
    let repository = Repository::open(storage, "here", unlock, cache, observer)?;
    repository.load_index()?;
    Ok(Arc::new(repository))
}

/// Opens a plaintext repository.
pub(crate) fn open_plain(storage: &(impl Storage + Clone + 'static)) -> Arc<Repository> {
    open(storage, &Unlock::Nothing, None, Arc::new(())).unwrap()
}

/// Bytes without a pattern, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise of tests")
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Numbers that look random, the same for the same seed (splitmix64 of Steele, Lea and Flood).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len.max(1) as u64)).unwrap()
    }
}

pub(crate) fn files<const N: usize>(list: [(&str, Vec<u8>); N]) -> Files {
    list.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect()
}

fn entry(path: &str, size: usize, content: Content) -> Entry {
    let meta = Metadata {
        inode: 1,
        filesystem: 1,
        size: size as u64,
        ..Metadata::bare(EntryKind::File, 0o644, Timestamp::default())
    };
    Entry { path: path.as_bytes().into(), meta, content }
}

/// Stores everything that a snapshot of `files` needs, durably; nothing is confirmed.
pub(crate) fn store(
    repository: &Arc<Repository>,
    files: &Files,
    seconds: i64,
) -> Result<Snapshot, RepositoryError> {
    let writer = Writer::new(repository, 1);
    let mut contents = writer.worker(PackClass::Content)?;
    let mut tree = TreeBuilder::new(&writer)?;
    for (path, bytes) in files {
        let content = if bytes.len() <= INLINE && !bytes.is_empty() {
            Content::Inline(bytes[..].into())
        } else {
            let mut list = ContentWriter::default();
            for piece in bytes.chunks(CHUNK) {
                let len = u32::try_from(piece.len()).unwrap();
                let item = if piece.iter().all(|byte| *byte == 0) {
                    ContentItem::Hole { len: len.into() }
                } else {
                    let id = contents.store(ChunkKind::Content, piece)?;
                    ContentItem::Chunk { id, len }
                };
                list.push(tree.worker(), item)?;
            }
            list.finish(tree.worker())?
        };
        tree.push(entry(path, bytes.len(), content))?;
    }
    contents.flush()?;
    let (root, totals) = tree.finish()?;
    writer.checkpoint()?;
    let moment = Moment { seconds, nanos: 0 };
    Ok(Snapshot {
        host: "box".to_owned(),
        user: "me".to_owned(),
        paths: vec![RawBytes(b"/".to_vec())],
        mirrored: true,
        counts: SnapshotCounts {
            entries: totals.entries,
            bytes: totals.bytes,
            ..SnapshotCounts::default()
        },
        program: "0".to_owned(),
        ..Snapshot::bare(SnapshotId::random(), root, moment)
    })
}

/// Takes a snapshot of `files`.
pub(crate) fn take(
    repository: &Arc<Repository>,
    files: &Files,
    seconds: i64,
) -> Result<Snapshot, RepositoryError> {
    let snapshot = store(repository, files, seconds)?;
    repository.confirm(&snapshot)?;
    Ok(snapshot)
}

/// The session of somebody who takes a snapshot.
pub(crate) fn writing() -> Session {
    Session {
        id: SessionId::random(),
        role: "snapshot".to_owned(),
        host: "box".to_owned(),
        process: 1,
        started: Moment { seconds: 3, nanos: 0 },
        identity: None,
        forgets: Vec::new(),
        over: false,
    }
}

/// Everything that a snapshot holds.
pub(crate) fn read_back(
    repository: &Repository,
    snapshot: &Snapshot,
) -> Result<Files, RepositoryError> {
    let mut cursor = PageReader::new(repository).cursor(snapshot.root);
    let mut files = Files::new();
    while let Some(entry) = cursor.next_entry()? {
        let mut bytes = Vec::new();
        if let Content::Inline(inline) = &entry.content {
            bytes.extend_from_slice(inline);
        }
        let mut items = ContentItems::new(&entry.content, entry.meta.size);
        while let Some(item) = items.next(cursor.reader())? {
            match item {
                ContentItem::Hole { len } => {
                    bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0);
                }
                ContentItem::Chunk { id, .. } => {
                    cursor.reader().chunks().read(ChunkKind::Content, &id, &mut bytes)?;
                }
            }
        }
        files.insert(String::from_utf8(entry.path.to_vec()).unwrap(), bytes);
    }
    Ok(files)
}

/// The problems among the events, as "subject: message".
pub(crate) fn problems(recorder: &Recorder) -> Vec<String> {
    let text = |event| match event {
        Event::Problem(problem) => {
            Some(format!("{}: {}", problem.subject.display(), problem.message))
        }
        _ => None,
    };
    recorder.events().into_iter().filter_map(text).collect()
}

/// The notes among the events.
pub(crate) fn notes(recorder: &Recorder) -> Vec<String> {
    let text = |event| match event {
        Event::Note(note) => Some(note),
        _ => None,
    };
    recorder.events().into_iter().filter_map(text).collect()
}

/// What happens at the chosen call.
#[derive(Debug, Clone)]
enum Then<S> {
    Fail(StorageErrorKind),
    /// This call and all later ones fail: the process died there.
    Die,
    /// Somebody else does something to the storage, and the call goes on.
    Meddle(fn(&S)),
    /// It works, and its answer is lost.
    Unanswered,
    /// It panics before it does anything, or after it has done everything.
    Panic {
        done: bool,
    },
}

/// A storage whose n-th call, of whatever method, fails, or finds that somebody else was faster.
#[derive(Debug, Clone)]
pub(crate) struct FailAt<S> {
    inner: S,
    calls: Arc<AtomicU64>,
    at: u64,
    /// Other operations do not count.
    only: Option<&'static str>,
    then: Then<S>,
}

impl<S> FailAt<S> {
    pub(crate) fn new(inner: S, at: u64, kind: StorageErrorKind) -> Self {
        Self { inner, calls: Arc::default(), at, only: None, then: Then::Fail(kind) }
    }

    /// One of a process that dies at its n-th call.
    pub(crate) fn dying(inner: S, at: u64) -> Self {
        Self { inner, calls: Arc::default(), at, only: None, then: Then::Die }
    }

    /// One that panics in its n-th call.
    pub(crate) fn panicking(inner: S, at: u64, done: bool) -> Self {
        Self { inner, calls: Arc::default(), at, only: None, then: Then::Panic { done } }
    }

    /// One that panics in the n-th call of one operation.
    pub(crate) fn panicking_in(operation: &'static str, inner: S, at: u64) -> Self {
        Self { only: Some(operation), ..Self::panicking(inner, at, false) }
    }

    /// How many calls were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// One whose n-th call works, of which nobody hears.
    pub(crate) fn unanswered(inner: S, at: u64) -> Self {
        Self { inner, calls: Arc::default(), at, only: None, then: Then::Unanswered }
    }

    /// One whose n-th call finds what `meddle` did directly before.
    pub(crate) fn meddling(inner: S, at: u64, meddle: fn(&S)) -> Self {
        Self { inner, calls: Arc::default(), at, only: None, then: Then::Meddle(meddle) }
    }

    /// Whether the call that was to fail was made.
    pub(crate) fn has_failed(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.at
    }

    fn call<T>(
        &self,
        operation: &'static str,
        object: impl ToString,
        effect: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.only.is_some_and(|only| only != operation) {
            return effect();
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let failed = |kind| Err(StorageError::new(operation, object.to_string(), kind));
        match self.then {
            Then::Fail(kind) if call == self.at => return failed(kind),
            Then::Die if call >= self.at => return failed(StorageErrorKind::Other),
            Then::Meddle(meddle) if call == self.at => meddle(&self.inner),
            Then::Unanswered if call == self.at => {
                effect()?;
                return failed(StorageErrorKind::Other);
            }
            Then::Panic { done } if call == self.at => {
                let result = done.then(effect);
                panic!("planted at call {call}, which had done its work: {}", result.is_some());
            }
            _ => {}
        }
        effect()
    }
}

struct FailingObject<S> {
    inner: Box<dyn PendingObject>,
    storage: FailAt<S>,
}

impl<S: Storage + Clone> PendingObject for FailingObject<S> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let Self { inner, storage } = self;
        storage.call("append to", "an object", || inner.append(bytes))
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let Self { inner, storage } = self;
        storage.call("read", "an object", || inner.read_back(offset, buffer))
    }

    fn publish(self: Box<Self>) -> Result<(), StorageError> {
        let Self { inner, storage } = *self;
        storage.call("publish", "an object", || inner.publish())
    }
}

impl<S: Storage + Clone + 'static> Storage for FailAt<S> {
    fn create(
        &self,
        name: ObjectName,
        expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        let inner = self.call("create", name, || self.inner.create(name, expected_len))?;
        Ok(Box::new(FailingObject { inner, storage: self.clone() }))
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.call("read", name, || self.inner.read(name, limit))
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.call("read", name, || self.inner.read_range(name, offset, buffer))
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.call("measure", name, || self.inner.len(name))
    }

    fn modified(&self, name: ObjectName) -> Result<SystemTime, StorageError> {
        self.call("measure", name, || self.inner.modified(name))
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        self.call("list", format!("{kind:?}"), || self.inner.list(kind))
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.call("delete", name, || self.inner.delete(name))
    }

    fn set_aside(&self, name: ObjectName) -> Result<ObjectName, StorageError> {
        self.call("set aside", name, || self.inner.set_aside(name))
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        self.call("exchange", one, || self.inner.swap(one, other))
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        self.call("find", "the place", || self.inner.verify_place())
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        self.call("sweep", "the place", || self.inner.sweep_abandoned())
    }
}

/// A storage with the same objects.
pub(crate) fn copy(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.names() {
        copy.put(name, storage.get(name).unwrap());
    }
    copy
}

/// Publishes a mark.
pub(crate) fn publish_mark(
    repository: &Repository,
    storage: &dyn Storage,
    mark: &Mark,
) -> ObjectName {
    let name = ObjectName::mark(SnapshotId::random().0);
    let bytes = seal_object(
        repository.keys(),
        repository.id(),
        repository.config().sealing,
        ObjectType::Mark,
        name.id,
        &gabion::format::snapshot::encode(mark),
    );
    storage.publish(name, &bytes).unwrap();
    name
}
