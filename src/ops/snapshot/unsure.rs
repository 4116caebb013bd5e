//! Folders of whose contents a snapshot cannot be sure. The next one looks at them whatever it is
//! told about changes: then nothing is taken over unseen that was doubtful when it was seen.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::format::path;
use crate::format::snapshot::RawBytes;

/// What fits well into the record of a snapshot. Beyond it, everything is doubtful.
const MAX_FOLDERS: usize = 4096;
const MAX_BYTES: usize = 256 << 10;

/// The folders so far.
#[derive(Debug, Default)]
pub(super) struct Unsure(Mutex<Folders>);

#[derive(Debug, Default)]
struct Folders {
    paths: BTreeSet<Box<[u8]>>,
    bytes: usize,
    too_many: bool,
}

impl Unsure {
    /// What holds `path` is doubtful.
    pub(super) fn about(&self, path: &[u8]) {
        self.folder(path::parent(path));
    }

    /// What is in this folder is doubtful.
    pub(super) fn folder(&self, folder: &[u8]) {
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if folders.too_many || folders.paths.contains(folder) {
            return;
        }
        folders.bytes += folder.len();
        folders.paths.insert(folder.into());
        if folders.paths.len() > MAX_FOLDERS || folders.bytes > MAX_BYTES {
            *folders = Folders { too_many: true, ..Folders::default() };
        }
    }

    /// All of them; nothing when there are too many to be kept.
    pub(super) fn take(&self) -> Option<Vec<RawBytes>> {
        let folders = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let paths = folders.paths.into_iter().map(|path| RawBytes(path.into_vec()));
        (!folders.too_many).then(|| paths.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_kept_once_and_too_many_are_none() {
        let unsure = Unsure::default();
        unsure.about(b"a/b");
        unsure.about(b"a/c");
        unsure.folder(b"d");
        assert_eq!(unsure.take(), Some(vec![RawBytes(b"a".to_vec()), RawBytes(b"d".to_vec())]));
        assert_eq!(unsure.take(), Some(Vec::new()));
        for number in 0..=MAX_FOLDERS {
            unsure.folder(number.to_string().as_bytes());
        }
        assert_eq!(unsure.take(), None);
        unsure.folder(&vec![b'x'; MAX_BYTES + 1]);
        assert_eq!(unsure.take(), None);
    }
}
