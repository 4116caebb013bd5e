//! What a walk saw of the folders that are write-once, kept in the client's cache: the next one
//! compares them without a look into the pages of the parent.

use crate::format::DecodeError;
use crate::format::entry::{EntryKind, Timestamp};
use crate::format::page::EntryStat;
use crate::format::wire::{Reader, put_bytes, put_signed, put_varint};
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::source::{Stat, compare_paths, is_at_or_below};

/// Of more folders nothing is kept: looking at them takes longer than reading the pages.
const MAX_FOLDERS: usize = 100_000;
const MAX_PATH_LEN: usize = 1 << 16;

/// Folders in path order, each with all that lie below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ops::snapshot) struct SeenFolders(Vec<SeenFolder>);

/// A folder as its entry in a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenFolder {
    pub(super) path: Box<[u8]>,
    pub(super) stat: EntryStat,
    pub(super) links: u32,
}

impl SeenFolder {
    pub(super) fn new(path: &[u8], stat: &Stat) -> Self {
        let Stat { kind, mtime, ctime, inode, filesystem, size, .. } = *stat;
        let of_entry = EntryStat { kind, unsettled: false, mtime, ctime, inode, filesystem, size };
        Self { path: path.into(), stat: of_entry, links: stat.links }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.path);
        for time in [self.stat.mtime, self.stat.ctime] {
            put_signed(out, time.seconds);
            put_varint(out, u64::from(time.nanos));
        }
        for number in [self.stat.inode, self.stat.filesystem, u64::from(self.links)] {
            put_varint(out, number);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let path = reader.bytes(MAX_PATH_LEN)?.into();
        let mut time = || Ok(Timestamp { seconds: reader.signed()?, nanos: reader.varint_u32()? });
        let (mtime, ctime) = (time()?, time()?);
        let (inode, filesystem) = (reader.varint()?, reader.varint()?);
        let kind = EntryKind::Directory;
        let stat = EntryStat { kind, unsettled: false, mtime, ctime, inode, filesystem, size: 0 };
        Ok(Self { path, stat, links: reader.varint_u32()? })
    }
}

impl SeenFolders {
    /// What was seen when the tree below `root` was made; nothing when that is not known here.
    pub(super) fn of(repository: &Repository, root: &ChunkId) -> Self {
        let kept = repository.index().seen_folders(root).ok().flatten();
        kept.and_then(|bytes| Self::decode(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps what was seen when the tree below `root` was made. What goes wrong costs the next
    /// walk time, and nothing else.
    pub(in crate::ops::snapshot) fn keep(&self, repository: &Repository, root: &ChunkId) {
        if self.0.len() <= MAX_FOLDERS {
            let _ = repository.index().keep_seen_folders(root, &self.encode());
        }
    }

    /// Adds a folder, which comes behind all others.
    pub(super) fn push(&mut self, folder: SeenFolder) {
        if self.0.len() <= MAX_FOLDERS {
            self.0.push(folder);
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<&SeenFolder> {
        self.0.get(at)
    }

    #[cfg(test)]
    pub(super) fn folder_mut(&mut self, at: usize) -> &mut SeenFolder {
        &mut self.0[at]
    }

    /// Where the folder is.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.0.binary_search_by(|folder| compare_paths(&folder.path, path)).ok()
    }

    /// Where the first is behind the one at `at` and all below that.
    pub(super) fn behind(&self, at: usize) -> usize {
        let Some(folder) = self.0.get(at) else { return at };
        at + self.0[at..].partition_point(|inner| is_at_or_below(&inner.path, &folder.path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.iter().for_each(|folder| folder.encode(&mut out));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("list of folders", bytes);
        let mut folders = Vec::new();
        while reader.remaining() > 0 {
            folders.push(SeenFolder::decode(&mut reader)?);
        }
        Ok(Self(folders))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder() -> impl Strategy<Value = SeenFolder> {
        let time = || {
            (any::<i64>(), any::<u32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
        };
        let path = prop::collection::vec(any::<u8>(), 0..20);
        let numbers = (any::<u64>(), any::<u64>(), any::<u32>());
        (path, time(), time(), numbers).prop_map(|(path, mtime, ctime, numbers)| {
            let (inode, filesystem, links) = numbers;
            let kind = EntryKind::Directory;
            let stat =
                EntryStat { kind, unsettled: false, mtime, ctime, inode, filesystem, size: 0 };
            SeenFolder { path: path.into(), stat, links }
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(folders in prop::collection::vec(folder(), 0..5)) {
            let seen = SeenFolders(folders);
            prop_assert_eq!(SeenFolders::decode(&seen.encode()).unwrap(), seen);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let _ = SeenFolders::decode(&bytes);
        }
    }

    #[test]
    fn what_is_below_a_folder_is_behind_it() {
        let folder = |path: &str| {
            let stat = EntryStat {
                kind: EntryKind::Directory,
                unsettled: false,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                inode: 1,
                filesystem: 2,
                size: 0,
            };
            SeenFolder { path: path.as_bytes().into(), stat, links: 2 }
        };
        let seen = SeenFolders(["s", "s/a", "s/a/b", "s/a/b/c", "s/a-b", "t"].map(folder).into());
        let behind = |path: &str| seen.behind(seen.find(path.as_bytes()).unwrap());
        assert_eq!(["s", "s/a", "s/a/b", "s/a-b", "t"].map(behind), [5, 4, 4, 5, 6]);
        assert_eq!((seen.find(b"s/b"), seen.behind(6)), (None, 6));
    }
}
