//! What a repository owes: which chunks the confirmed snapshots need, and in how many packs each of
//! them lies. Kept beside the objects, so that each change of them can be judged at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use gabion::crypto::header::{HEADER_LEN, ObjectType};
use gabion::crypto::seal::{FOOTER_SLOT, ObjectSealer, PartKind, open_object};
use gabion::format::entry::{Content, ContentItem};
use gabion::format::pack::{Footer, TRAILER_LEN, Trailer};
use gabion::format::page::{ContentPage, Page};
use gabion::format::snapshot::{GivenUp, Session, Snapshot, decode};
use gabion::id::{ChunkId, PackId, SnapshotId};
use gabion::repo::{Repository, RepositoryError, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName};
use gabion::tree::PageReader;

use super::sources::{self, Version};

/// The objects of a repository.
pub(super) type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// Trees that are remembered.
const TREES_KEPT: usize = 4096;

/// Everything that one tree needs.
#[derive(Debug)]
pub(super) struct Tree {
    version: Version,
    chunks: HashSet<ChunkId>,
}

/// Trees by their roots: the same versions come again and again.
pub(super) type Trees = Mutex<HashMap<ChunkId, Arc<Tree>>>;

/// A copy of a chunk in a block with bases: its pack, and these.
type Copy = (PackId, Arc<[ChunkId]>);

/// A chunk in a pack, and what its block is encoded against.
type Held = (ChunkId, Arc<[ChunkId]>);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// An open handle, for its keys.
    repository: Arc<Repository>,
    trees: Arc<Trees>,
    packs: HashMap<PackId, Arc<[Held]>>,
    /// In how many packs a chunk lies by itself.
    holders: HashMap<ChunkId, u32>,
    /// Copies in blocks with bases, with these.
    with_bases: HashMap<ChunkId, Vec<Copy>>,
    /// Confirmed snapshots that nobody forgets.
    needed: BTreeMap<SnapshotId, Arc<Tree>>,
    /// Snapshots that were confirmed once.
    confirmed: HashSet<SnapshotId>,
    /// Names of snapshots that will never be.
    given_up: HashSet<SnapshotId>,
}

impl Ledger {
    pub(super) fn new(objects: &Objects, trees: &Arc<Trees>) -> Self {
        let mut ledger = Self {
            repository: Arc::new(open(objects)),
            trees: Arc::clone(trees),
            packs: HashMap::new(),
            holders: HashMap::new(),
            with_bases: HashMap::new(),
            needed: BTreeMap::new(),
            confirmed: HashSet::new(),
            given_up: HashSet::new(),
        };
        for (name, bytes) in objects {
            ledger.came(*name, bytes, objects).unwrap();
        }
        ledger
    }

    /// The snapshots that must be there.
    pub(super) fn needed(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.needed.keys().copied()
    }

    /// How many names of snapshots that will never be are there.
    pub(super) fn given_up(&self) -> usize {
        self.given_up.len()
    }

    /// An object is visible now.
    pub(super) fn came(
        &mut self,
        name: ObjectName,
        bytes: &[u8],
        objects: &Objects,
    ) -> Result<(), String> {
        match name.kind {
            ObjectKind::Pack => {
                let (pack, chunks) = (PackId(name.id), self.footer(name, bytes));
                for (chunk, bases) in &chunks {
                    if bases.is_empty() {
                        *self.holders.entry(*chunk).or_default() += 1;
                    } else {
                        let copies = self.with_bases.entry(*chunk).or_default();
                        copies.push((pack, Arc::clone(bases)));
                    }
                }
                self.packs.insert(pack, chunks.into());
            }
            ObjectKind::Session => {
                let session: Session = self.record(name, ObjectType::Session, bytes);
                session.forgets.iter().for_each(|id| drop(self.needed.remove(id)));
            }
            ObjectKind::Snapshot => {
                if self.opened::<GivenUp>(name, ObjectType::Snapshot, bytes).is_some() {
                    self.given_up.insert(SnapshotId(name.id));
                    return Ok(());
                }
                let snapshot: Snapshot = self.record(name, ObjectType::Snapshot, bytes);
                let known = self.trees().get(&snapshot.root).map(Arc::clone);
                let tree = match known {
                    Some(tree) => tree,
                    None => self.read_tree(&snapshot, objects)?,
                };
                let expected = sources::version_of(&snapshot.tags);
                if expected.is_some_and(|version| version != tree.version) {
                    return Err(format!("{name} holds another version than was taken"));
                }
                if let Some(lost) = tree.chunks.iter().find(|id| !self.is_held(id)) {
                    return Err(format!(
                        "{name} was confirmed, and its chunk {lost} is in no pack"
                    ));
                }
                self.confirmed.insert(snapshot.id);
                self.needed.insert(snapshot.id, tree);
            }
            _ => {}
        }
        Ok(())
    }

    /// An object is gone now.
    pub(super) fn went(&mut self, name: ObjectName) -> Result<(), String> {
        match name.kind {
            ObjectKind::Pack => {
                let pack = PackId(name.id);
                let chunks = self.packs.remove(&pack).unwrap_or_default();
                let mut gone = HashSet::new();
                for (chunk, bases) in chunks.iter() {
                    if !bases.is_empty() {
                        let copies = self.with_bases.get_mut(chunk).unwrap();
                        copies.retain(|(other, _)| *other != pack);
                    } else if let Some(holders) = self.holders.get_mut(chunk) {
                        *holders -= 1;
                        if *holders == 0 {
                            self.holders.remove(chunk);
                        }
                    }
                    gone.insert(*chunk);
                }
                let lacks = |(_, bases): &Copy| bases.iter().any(|base| gone.contains(base));
                let lacking = self.with_bases.iter().filter(|(_, copies)| copies.iter().any(lacks));
                for chunk in gone.iter().chain(lacking.map(|(chunk, _)| chunk)) {
                    if !self.is_held(chunk) {
                        self.not_needed(name, chunk)?;
                    }
                }
            }
            ObjectKind::Snapshot if self.needed.contains_key(&SnapshotId(name.id)) => {
                return Err(format!("{name} was deleted, and nobody had said so"));
            }
            // Whoever was forgetting it has not seen that its name was given up meanwhile; but of
            // one that was never confirmed nobody could.
            ObjectKind::Snapshot
                if self.given_up.remove(&SnapshotId(name.id))
                    && !self.confirmed.contains(&SnapshotId(name.id)) =>
            {
                return Err(format!("{name} is free again, and may yet be confirmed"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a chunk can be read.
    fn is_held(&self, chunk: &ChunkId) -> bool {
        let whole = |(_, bases): &Copy| bases.iter().all(|base| self.holders.contains_key(base));
        let with_bases = self.with_bases.get(chunk);
        self.holders.contains_key(chunk)
            || with_bases.is_some_and(|copies| copies.iter().any(whole))
    }

    fn not_needed(&self, pack: ObjectName, chunk: &ChunkId) -> Result<(), String> {
        match self.needed.iter().find(|(_, tree)| tree.chunks.contains(chunk)) {
            None => Ok(()),
            Some((id, _)) => {
                Err(format!("{pack} was deleted, and {id} needs its chunk {chunk}, the last one"))
            }
        }
    }

    /// A pack of which nothing is needed.
    pub(super) fn garbage(&self) -> Option<PackId> {
        let mut needed = HashSet::new();
        for chunk in self.needed.values().flat_map(|tree| &tree.chunks) {
            needed.insert(*chunk);
            let copies = self.with_bases.get(chunk).into_iter().flatten();
            needed.extend(copies.flat_map(|(_, bases)| bases.iter().copied()));
        }
        let needed = |(chunk, _): &Held| needed.contains(chunk);
        let useless = |(_, chunks): &(&PackId, &Arc<[Held]>)| !chunks.iter().any(needed);
        self.packs.iter().find(useless).map(|(pack, _)| *pack)
    }

    /// Whether another pruner may take the owner of a session for dead without more ado: one that
    /// forgets must be finished for it.
    pub(super) fn may_be_revoked(&self, name: ObjectName, bytes: &[u8]) -> bool {
        let session: Session = self.record(name, ObjectType::Session, bytes);
        session.forgets.is_empty()
    }

    fn trees(&self) -> std::sync::MutexGuard<'_, HashMap<ChunkId, Arc<Tree>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a tree for the first time, byte for byte.
    fn read_tree(&self, snapshot: &Snapshot, objects: &Objects) -> Result<Arc<Tree>, String> {
        let repository = open(objects);
        repository.load_index().unwrap();
        let incomplete = |error| format!("snapshots/{} is not whole: {error}", snapshot.id);
        let version = sources::read_back(&repository, snapshot).map_err(incomplete)?;
        let chunks = chunks_of(&repository, snapshot.root).map_err(incomplete)?;
        let tree = Arc::new(Tree { version, chunks });
        let mut trees = self.trees();
        if trees.len() >= TREES_KEPT {
            trees.clear();
        }
        trees.insert(snapshot.root, Arc::clone(&tree));
        drop(trees);
        Ok(tree)
    }

    fn record<T: serde::de::DeserializeOwned>(
        &self,
        name: ObjectName,
        kind: ObjectType,
        bytes: &[u8],
    ) -> T {
        self.opened(name, kind, bytes).unwrap()
    }

    /// A record, if it is of this form.
    fn opened<T: serde::de::DeserializeOwned>(
        &self,
        name: ObjectName,
        kind: ObjectType,
        bytes: &[u8],
    ) -> Option<T> {
        let (keys, id) = (self.repository.keys(), self.repository.id());
        let sealing = self.repository.config().sealing;
        let body = open_object(keys, id, sealing, kind, &name.id, bytes.to_vec()).unwrap();
        decode("record", &body).ok()
    }

    fn footer(&self, name: ObjectName, bytes: &[u8]) -> Vec<Held> {
        let (rest, trailer) = bytes.split_at(bytes.len() - TRAILER_LEN);
        let len = Trailer::decode(trailer).unwrap().footer_len;
        let mut footer = rest[rest.len() - usize::try_from(len).unwrap()..].to_vec();
        let (keys, id) = (self.repository.keys(), self.repository.id());
        let sealing = self.repository.config().sealing;
        let (kind, header) = (ObjectType::Pack, &bytes[..HEADER_LEN]);
        let sealer = ObjectSealer::for_opening(keys, id, sealing, kind, &name.id, header).unwrap();
        sealer.open(PartKind::Footer, FOOTER_SLOT, &mut footer).unwrap();
        let footer = Footer::decode(&footer).unwrap();
        let chunks = footer.blocks.iter().flat_map(|block| {
            let bases: Arc<[ChunkId]> = footer.bases_of(block).into();
            footer.chunks_of(block).iter().map(move |chunk| (chunk.id, Arc::clone(&bases)))
        });
        chunks.collect()
    }
}

/// All chunks of a tree, pages too.
fn chunks_of(repository: &Repository, root: ChunkId) -> Result<HashSet<ChunkId>, RepositoryError> {
    let mut reader = PageReader::new(repository);
    let mut chunks = HashSet::new();
    let (mut pages, mut lists) = (vec![root], Vec::new());
    let content = |content: &Content, lists: &mut Vec<ChunkId>| match content {
        Content::Empty | Content::Inline(_) => Vec::new(),
        Content::Items(items) => items.clone(),
        Content::Paged { root, .. } => {
            lists.push(*root);
            Vec::new()
        }
    };
    let mut items = Vec::new();
    while let Some(id) = pages.pop() {
        chunks.insert(id);
        match reader.page(&id)? {
            Page::Upper(upper) => pages.extend(upper.children.iter().map(|child| child.id)),
            Page::Leaf(leaf) => {
                for at in 0..leaf.len() {
                    items.extend(content(leaf.content(at), &mut lists));
                }
            }
        }
    }
    while let Some(id) = lists.pop() {
        chunks.insert(id);
        match reader.content_page(&id)? {
            ContentPage::Items(more) => items.extend(more),
            ContentPage::Children { children, .. } => {
                lists.extend(children.iter().map(|child| child.id));
            }
        }
    }
    chunks.extend(items.iter().filter_map(|item| match item {
        ContentItem::Chunk { id, .. } => Some(*id),
        ContentItem::Hole { .. } => None,
    }));
    Ok(chunks)
}

/// Opens a repository that nobody else uses.
fn open(objects: &Objects) -> Repository {
    let storage = MemoryStorage::new();
    objects.iter().for_each(|(name, bytes)| storage.put(*name, Arc::clone(bytes)));
    Repository::open(Arc::new(storage), "here", &Unlock::Nothing, None, Arc::new(())).unwrap()
}
