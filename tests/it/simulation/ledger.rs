//! What a repository owes: which chunks the confirmed snapshots need, and in how many packs each of
//! them lies. Kept beside the objects, so that each change of them can be judged at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use gabion::crypto::header::{HEADER_LEN, ObjectType};
use gabion::crypto::seal::{FOOTER_SLOT, ObjectSealer, PartKind, open_object};
use gabion::format::pack::{Footer, TRAILER_LEN, Trailer};
use gabion::format::snapshot::{GivenUp, Session, Snapshot, decode};
use gabion::id::{ChunkId, PackId, SnapshotId};
use gabion::repo::{Repository, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName};
use gabion::tree::Reach;

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

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// An open handle, for its keys.
    repository: Arc<Repository>,
    trees: Arc<Trees>,
    packs: HashMap<PackId, Arc<[ChunkId]>>,
    holders: HashMap<ChunkId, u32>,
    /// Confirmed snapshots that nobody forgets.
    needed: BTreeMap<SnapshotId, Arc<Tree>>,
    /// Names of snapshots that will never be.
    given_up: usize,
}

impl Ledger {
    pub(super) fn new(objects: &Objects, trees: &Arc<Trees>) -> Self {
        let mut ledger = Self {
            repository: Arc::new(open(objects)),
            trees: Arc::clone(trees),
            packs: HashMap::new(),
            holders: HashMap::new(),
            needed: BTreeMap::new(),
            given_up: 0,
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
        self.given_up
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
                let chunks: Arc<[ChunkId]> = self.footer(name, bytes).into();
                for chunk in chunks.iter() {
                    *self.holders.entry(*chunk).or_default() += 1;
                }
                self.packs.insert(PackId(name.id), chunks);
            }
            ObjectKind::Session => {
                let session: Session = self.record(name, ObjectType::Session, bytes);
                session.forgets.iter().for_each(|id| drop(self.needed.remove(id)));
            }
            ObjectKind::Snapshot => {
                if self.opened::<GivenUp>(name, ObjectType::Snapshot, bytes).is_some() {
                    self.given_up += 1;
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
                if let Some(lost) = tree.chunks.iter().find(|id| !self.holders.contains_key(id)) {
                    return Err(format!(
                        "{name} was confirmed, and its chunk {lost} is in no pack"
                    ));
                }
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
                let chunks = self.packs.remove(&PackId(name.id)).unwrap_or_default();
                for chunk in chunks.iter() {
                    let Some(holders) = self.holders.get_mut(chunk) else { continue };
                    *holders -= 1;
                    if *holders == 0 {
                        self.holders.remove(chunk);
                        self.not_needed(name, chunk)?;
                    }
                }
            }
            ObjectKind::Snapshot if self.needed.contains_key(&SnapshotId(name.id)) => {
                return Err(format!("{name} was deleted, and nobody had said so"));
            }
            _ => {}
        }
        Ok(())
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
        let needed = |chunk: &ChunkId| self.needed.values().any(|tree| tree.chunks.contains(chunk));
        let useless = |(_, chunks): &(&PackId, &Arc<[ChunkId]>)| !chunks.iter().any(needed);
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
        let mut reach = Reach::new(&repository);
        reach.walk(&snapshot.root).map_err(incomplete)?;
        let mut chunks = HashSet::new();
        for pack in reach.counted_on() {
            let footer = repository.index().pack_footer(pack).unwrap().unwrap();
            let live = reach.live(pack).unwrap();
            let all = footer.footer.chunks.iter().zip(0u32..);
            chunks.extend(all.filter(|(_, at)| live.contains(*at)).map(|(chunk, _)| chunk.id));
        }
        chunks.extend(reach.stranded().map(|(_, id)| id));
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
        let body = open_object(keys, id, sealing, kind, &name.id, bytes).unwrap();
        decode("record", &body).ok()
    }

    fn footer(&self, name: ObjectName, bytes: &[u8]) -> Vec<ChunkId> {
        let (rest, trailer) = bytes.split_at(bytes.len() - TRAILER_LEN);
        let len = Trailer::decode(trailer).unwrap().footer_len;
        let mut footer = rest[rest.len() - usize::try_from(len).unwrap()..].to_vec();
        let (keys, id) = (self.repository.keys(), self.repository.id());
        let sealing = self.repository.config().sealing;
        let (kind, header) = (ObjectType::Pack, &bytes[..HEADER_LEN]);
        let sealer = ObjectSealer::for_opening(keys, id, sealing, kind, &name.id, header).unwrap();
        sealer.open(PartKind::Footer, FOOTER_SLOT, &mut footer).unwrap();
        Footer::decode(&footer).unwrap().chunks.iter().map(|chunk| chunk.id).collect()
    }
}

/// Opens a repository that nobody else uses.
fn open(objects: &Objects) -> Repository {
    let storage = MemoryStorage::new();
    objects.iter().for_each(|(name, bytes)| storage.put(*name, Arc::clone(bytes)));
    Repository::open(Arc::new(storage), "here", &Unlock::Nothing, None, Arc::new(())).unwrap()
}
