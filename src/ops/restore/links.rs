//! Which entries are names of one file.
//!
//! An inode number alone does not tell: clones of a file system have the same numbers, some file
//! systems have no identity, and a number is given to another file while a snapshot is taken. So
//! entries are linked only when they also agree in everything that names of one file share.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::sync::atomic::Ordering;

use super::Restore;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind};
use crate::target::FileId;

/// Most files whose further names are still to come that are remembered. The further names of
/// other files are restored as files of their own.
const MAX_FILES: usize = 100_000;

/// What names of one file share: content and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest(u64, u64);

/// Makes digests. Their keys are random, so that a hostile snapshot cannot aim at equal ones.
#[derive(Debug, Default)]
pub(super) struct Digester(RandomState, RandomState);

impl Digester {
    pub(super) fn of(&self, entry: &Entry) -> Digest {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            let meta = &entry.meta;
            let numbers = (meta.kind, meta.mode, meta.mtime, meta.size, meta.device);
            (numbers, &meta.owner, &meta.xattrs, &meta.target).hash(&mut hasher);
            hash_content(&entry.content, &mut hasher);
            hasher.finish()
        };
        Digest(half(&self.0), half(&self.1))
    }
}

fn hash_content(content: &Content, hasher: &mut impl Hasher) {
    std::mem::discriminant(content).hash(hasher);
    match content {
        Content::Empty => {}
        Content::Inline(bytes) => bytes.hash(hasher),
        Content::Items(items) => items.iter().for_each(|item| match item {
            ContentItem::Chunk { id, len } => (0, id, len).hash(hasher),
            ContentItem::Hole { len } => (1, len).hash(hasher),
        }),
        Content::Paged { root, height } => (root, height).hash(hasher),
    }
}

/// Whether other entries may be names of the same file.
pub(super) fn may_have_names(entry: &Entry) -> bool {
    entry.meta.links > 1
        && !matches!(entry.meta.kind, EntryKind::Directory | EntryKind::Socket | EntryKind::Stream)
}

/// A file of the snapshot with several names.
#[derive(Debug)]
struct Known {
    digest: Digest,
    /// The name that was restored first.
    path: Box<[u8]>,
    /// What is at the target under that name, if it was left as it was.
    there: Option<FileId>,
    /// How many names are still to come.
    left: u32,
}

/// What is known of the file that an entry is a name of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OtherNames {
    /// No other name of it came.
    None,
    /// An entry with the same inode number came, and is another file.
    OnlyOfAnother,
    /// The first name, and what is there if that was left as it was.
    First(Box<[u8]>, Option<FileId>),
}

/// The files with several names whose names have not all come yet.
#[derive(Debug, Default)]
pub(super) struct Links {
    digester: Digester,
    /// By file system and inode number.
    known: HashMap<(u64, u64), Vec<Known>>,
    count: usize,
    /// What at the target was taken for one of the files, and left as it was.
    claimed: HashSet<FileId>,
}

impl Links {
    /// What is known of other names of the file that `entry` is a name of.
    pub(super) fn other_names(&self, entry: &Entry) -> OtherNames {
        let Some(files) = self.known.get(&(entry.meta.filesystem, entry.meta.inode)) else {
            return OtherNames::None;
        };
        let digest = self.digester.of(entry);
        match files.iter().find(|known| known.digest == digest) {
            Some(known) => OtherNames::First(known.path.clone(), known.there),
            None => OtherNames::OnlyOfAnother,
        }
    }

    /// Notes that one more name of a known file came.
    pub(super) fn came(&mut self, entry: &Entry) {
        let key = (entry.meta.filesystem, entry.meta.inode);
        let digest = self.digester.of(entry);
        let Some(files) = self.known.get_mut(&key) else { return };
        let Some(at) = files.iter().position(|known| known.digest == digest) else { return };
        files[at].left = files[at].left.saturating_sub(1);
        if files[at].left == 0 {
            files.swap_remove(at);
            self.count -= 1;
            if files.is_empty() {
                self.known.remove(&key);
            }
        }
    }

    /// Remembers the first name of a file; says whether there was room for it.
    pub(super) fn remember(&mut self, entry: &Entry, there: Option<FileId>) -> bool {
        if self.count >= MAX_FILES {
            return false;
        }
        let key = (entry.meta.filesystem, entry.meta.inode);
        let (digest, left) = (self.digester.of(entry), entry.meta.links - 1);
        let known = Known { digest, path: entry.path.clone(), there, left };
        self.known.entry(key).or_default().push(known);
        self.count += 1;
        true
    }

    /// Takes what is at the target for one of the files, unless it is taken for another one.
    pub(super) fn claim(&mut self, there: FileId) -> bool {
        self.claimed.len() < MAX_FILES && self.claimed.insert(there)
    }
}

/// Compares which names of the snapshot are one file with which are one at the target.
#[derive(Debug, Default)]
pub(super) struct NamesChecked {
    digester: Digester,
    /// What is at the target, by file system, inode number and digest of the entries.
    files: HashMap<(u64, u64, Digest), FileId>,
    /// Which of those, or which single entry, what is at the target belongs to.
    owners: HashMap<FileId, Option<(u64, u64, Digest)>>,
}

impl NamesChecked {
    /// Reports an entry that is not one file with the other names of its file, or is one with an
    /// entry that is another file.
    pub(super) fn check(&mut self, restore: &Restore<'_>, entry: &Entry) {
        let Some(target) = &restore.target else { return };
        let Ok(Some(there)) = target.existing(&entry.path) else { return };
        let id = there.id();
        let has_names = may_have_names(entry);
        if entry.meta.kind == EntryKind::Directory || (!has_names && there.links == 1) {
            return;
        }
        let key =
            has_names.then(|| (entry.meta.filesystem, entry.meta.inode, self.digester.of(entry)));
        let room = self.files.len() + self.owners.len() < MAX_FILES;
        let apart = key.is_some_and(|key| match self.files.get(&key) {
            Some(first) => *first != id,
            None => {
                if room {
                    self.files.insert(key, id);
                }
                false
            }
        });
        // Those that cannot be linked were told of when they were restored.
        if apart && restore.counters.unlinked.load(Ordering::Relaxed) == 0 {
            restore.problem(&entry.path, "differs after the restore: hard links".to_owned());
        }
        if there.links > 1 {
            match self.owners.get(&id) {
                Some(owner) if *owner != key || key.is_none() => {
                    let why = "differs after the restore: it is one file with another entry";
                    restore.problem(&entry.path, why.to_owned());
                }
                None if room => {
                    self.owners.insert(id, key);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Metadata, Owner, Timestamp};

    fn entry(path: &str, content: &[u8]) -> Entry {
        let time = Timestamp { seconds: 1, nanos: 2 };
        let meta = Metadata {
            inode: 7,
            links: 3,
            size: content.len() as u64,
            ..Metadata::bare(EntryKind::File, 0o644, time)
        };
        Entry { path: path.as_bytes().into(), meta, content: Content::Inline(content.into()) }
    }

    #[test]
    fn an_inode_number_alone_makes_no_link() {
        let mut links = Links::default();
        let first = entry("a", b"one");
        assert_eq!(links.other_names(&first), OtherNames::None);
        assert!(links.remember(&first, None));
        assert_eq!(
            links.other_names(&entry("b", b"one")),
            OtherNames::First(first.path.clone(), None)
        );
        let mut others = vec![entry("c", b"two")];
        for change in [
            (|meta| meta.mode = 0o600) as fn(&mut Metadata),
            |meta| meta.mtime.nanos = 3,
            |meta| meta.owner = Owner { uid: 9, ..Owner::default() }.into(),
            |meta| meta.size = 4,
            |meta| meta.kind = EntryKind::Fifo,
        ] {
            let mut other = entry("c", b"one");
            change(&mut other.meta);
            others.push(other);
        }
        for other in &others {
            assert_eq!(links.other_names(other), OtherNames::OnlyOfAnother, "{other:?}");
        }
        // Another file with the same number has names of its own.
        assert!(links.remember(&others[0], Some((1, 2))));
        let second = OtherNames::First(others[0].path.clone(), Some((1, 2)));
        assert_eq!(links.other_names(&entry("d", b"two")), second);
        links.came(&entry("b", b"one"));
        links.came(&entry("e", b"one"));
        assert_eq!(links.other_names(&entry("f", b"one")), OtherNames::OnlyOfAnother);
        assert_eq!(links.other_names(&entry("d", b"two")), second);
        assert!(links.claim((1, 2)) && !links.claim((1, 2)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut links = Links::default();
        for inode in 0..MAX_FILES as u64 {
            let mut one = entry("a", b"x");
            one.meta.inode = inode;
            assert!(links.remember(&one, None));
        }
        assert!(!links.remember(&entry("b", b"x"), None));
    }
}
