//! A file system that knows what of it is durable, and what may be left of it when the power fails.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::record::Step;
use crate::small::Random;

const SECTOR: usize = 512;

type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone, Default)]
struct File {
    bytes: Arc<Vec<u8>>,
    /// What the disk surely holds.
    durable: Option<Arc<Vec<u8>>>,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    names: Names,
    durable: Names,
    /// What changed since the last sync, in order. What is in one change belongs to one call.
    pending: Vec<Vec<(String, Option<usize>)>>,
}

#[derive(Debug, Clone)]
enum Node {
    File(File),
    Folder(Folder),
}

/// What a sync that has begun will have made durable when it ends.
#[derive(Debug, Clone)]
enum Sync {
    File(usize, Arc<Vec<u8>>),
    Folder(usize, usize),
}

/// What of the syncs is taken away, to see that it is missed.
pub(super) type Stripped = fn(&str, bool) -> bool;

/// The recorded folder as the program sees it, and as the disk may hold it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    syncs: HashMap<u32, Sync>,
    stripped: Stripped,
}

/// A folder (`None`) or the bytes of a file, by path.
pub(super) type State = BTreeMap<String, Option<Arc<Vec<u8>>>>;

/// What is left of all that is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// Names and nothing behind them.
    Names,
    /// Names and lengths; the contents are zeros.
    Zeros,
    /// For each name and file something else, decided by a number.
    Mixed(u64),
}

impl Disk {
    pub(super) fn new(stripped: Stripped) -> Self {
        Self { nodes: vec![Node::Folder(Folder::default())], syncs: HashMap::new(), stripped }
    }

    fn folder(&self, at: usize) -> Option<&Folder> {
        match &self.nodes[at] {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(0, |at, name| self.folder(at)?.names.get(name).copied())
    }

    fn change(&mut self, changes: &[(&str, Option<usize>)]) {
        // All changes of one call are in one folder here.
        let (folder, _) = split(changes[0].0);
        let at = self.find(folder).unwrap();
        let Node::Folder(folder) = &mut self.nodes[at] else { panic!("{changes:?}") };
        let mut pending = Vec::new();
        for (path, node) in changes {
            let name = split(path).1.to_owned();
            match node {
                Some(node) => folder.names.insert(name.clone(), *node),
                None => folder.names.remove(&name),
            };
            pending.push((name, *node));
        }
        folder.pending.push(pending);
    }

    fn add(&mut self, path: &str, node: Node) {
        self.nodes.push(node);
        self.change(&[(path, Some(self.nodes.len() - 1))]);
    }

    fn file(&mut self, path: &str) -> Option<&mut File> {
        let at = self.find(path)?;
        match &mut self.nodes[at] {
            Node::File(file) => Some(file),
            Node::Folder(_) => None,
        }
    }

    /// Does what the program did.
    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::MakeFolder(path) => self.add(path, Node::Folder(Folder::default())),
            Step::Create(path) if self.find(path).is_some() => {}
            Step::Create(path) => self.add(path, Node::File(File::default())),
            Step::Append(path, bytes) => {
                if let Some(file) = self.file(path) {
                    Arc::make_mut(&mut file.bytes).extend_from_slice(bytes);
                }
            }
            Step::Truncate(path, len) => {
                if let Some(file) = self.file(path) {
                    Arc::make_mut(&mut file.bytes).resize(*len, 0);
                }
            }
            Step::Rename(from, to) => {
                assert_eq!(split(from).0, split(to).0, "objects stay in their folder");
                let node = self.find(from);
                self.change(&[(from, None), (to, node)]);
            }
            Step::Link(from, to) => {
                let node = self.find(from);
                self.change(&[(to, node)]);
            }
            Step::Unlink(path) => self.change(&[(path, None)]),
            Step::SyncBegins(number, path) => {
                if let Some(at) = self.find(path) {
                    let (sync, is_file) = match &self.nodes[at] {
                        Node::File(file) => (Sync::File(at, Arc::clone(&file.bytes)), true),
                        Node::Folder(folder) => (Sync::Folder(at, folder.pending.len()), false),
                    };
                    if !(self.stripped)(path, is_file) {
                        self.syncs.insert(*number, sync);
                    }
                }
            }
            Step::SyncEnds(number) => match self.syncs.remove(number) {
                None => {}
                Some(Sync::File(at, bytes)) => {
                    let Node::File(file) = &mut self.nodes[at] else { panic!("not a file") };
                    file.durable = Some(bytes);
                }
                Some(Sync::Folder(at, len)) => self.settle(at, len),
            },
            Step::Said => {}
        }
    }

    /// The first `len` changes of a folder are durable.
    fn settle(&mut self, at: usize, len: usize) {
        let Node::Folder(folder) = &mut self.nodes[at] else { panic!("not a folder") };
        // Another sync of the same folder may have ended meanwhile.
        let len = len.min(folder.pending.len());
        for (name, node) in folder.pending.drain(..len).flatten() {
            put(&mut folder.durable, name, node);
        }
        // A sync that is under way counts the changes that were there when it began.
        for sync in self.syncs.values_mut() {
            if let Sync::Folder(other, count) = sync
                && *other == at
            {
                *count = count.saturating_sub(len);
            }
        }
    }

    /// What is found after the power has failed now.
    pub(super) fn after(&self, fate: Fate) -> State {
        let mut random = match fate {
            Fate::Mixed(seed) => Some(Random::new(seed)),
            _ => None,
        };
        let mut contents = HashMap::new();
        let mut state = State::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((path, at)) = folders.pop() {
            for (name, node) in names_after(self.folder(at).unwrap(), fate, random.as_mut()) {
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                match &self.nodes[node] {
                    Node::Folder(_) => {
                        state.insert(path.clone(), None);
                        folders.push((path, node));
                    }
                    // Of a file that has two names the content is decided once.
                    Node::File(file) => {
                        let bytes = contents
                            .entry(node)
                            .or_insert_with(|| bytes_after(file, fate, random.as_mut()));
                        state.insert(path, Some(Arc::clone(bytes)));
                    }
                }
            }
        }
        state
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn put(names: &mut Names, name: String, node: Option<usize>) {
    match node {
        Some(node) => names.insert(name, node),
        None => names.remove(&name),
    };
}

fn names_after(folder: &Folder, fate: Fate, random: Option<&mut Random>) -> Names {
    let Some(random) = random.filter(|_| !folder.pending.is_empty()) else {
        return if fate == Fate::Lost { folder.durable.clone() } else { folder.names.clone() };
    };
    let mut names = folder.durable.clone();
    match random.below(4) {
        0 => {}
        1 => names = folder.names.clone(),
        // In order, as a journal does it.
        2 => {
            let len = random.index(folder.pending.len() + 1);
            for (name, node) in folder.pending[..len].iter().flatten() {
                put(&mut names, name.clone(), *node);
            }
        }
        // Each by itself: even a rename may have made the new name and not removed the old one, or
        // removed that alone.
        _ => {
            for (name, node) in folder.pending.iter().flatten() {
                if random.below(2) == 0 {
                    put(&mut names, name.clone(), *node);
                }
            }
        }
    }
    names
}

fn bytes_after(file: &File, fate: Fate, random: Option<&mut Random>) -> Arc<Vec<u8>> {
    let durable = file.durable.clone().unwrap_or_default();
    if durable == file.bytes || fate == Fate::Kept {
        return Arc::clone(&file.bytes);
    }
    let Some(random) = random else {
        let len = if fate == Fate::Zeros { file.bytes.len() } else { durable.len() };
        return Arc::new(resized(&durable, len));
    };
    let (all, known) = (&file.bytes, durable.len().min(file.bytes.len()));
    let cut = known + random.index(all.len() - known + 1);
    Arc::new(match random.below(6) {
        0 => durable.to_vec(),
        1 => return Arc::clone(all),
        // Torn, anywhere or between two sectors.
        2 => all[..cut].to_vec(),
        3 => all[..(cut / SECTOR * SECTOR).max(known)].to_vec(),
        // The length was written, and not all of the content.
        4 => resized(&all[..cut], all.len()),
        // A sector holds what was there before it belonged to this file.
        _ => {
            let mut bytes = all.to_vec();
            let end = bytes.len().min((cut / SECTOR + 1) * SECTOR);
            let start = known.max(cut / SECTOR * SECTOR).min(end);
            for byte in &mut bytes[start..end] {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
            bytes
        }
    })
}

fn resized(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    bytes
}

/// A number for each state.
pub(super) fn fingerprint(state: &State) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (path, bytes) in state {
        hasher.update(path.as_bytes());
        if let Some(bytes) = bytes {
            hasher.update(&[0]).update(blake3::hash(bytes).as_bytes());
        }
    }
    hasher.finalize()
}

/// Makes the state's files and folders in an empty folder.
#[expect(clippy::disallowed_methods, reason = "lays out what a power failure left")]
pub(super) fn lay_out(state: &State, folder: &Path) {
    // Sorted by path, so folders come before what lies in them.
    for (path, bytes) in state {
        match bytes {
            None => fs::create_dir(folder.join(path)).unwrap(),
            Some(bytes) => fs::write(folder.join(path), &**bytes).unwrap(),
        }
    }
}

/// What lies in a folder.
pub(super) fn read(folder: &Path) -> State {
    let items = walkdir::WalkDir::new(folder).min_depth(1);
    let items = items.into_iter().map(Result::unwrap).map(|item| {
        let path = item.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        let bytes = item.file_type().is_file();
        (path, bytes.then(|| Arc::new(fs::read(item.path()).unwrap())))
    });
    items.collect()
}
