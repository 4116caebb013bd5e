//! Who left an unfinished object on another machine: no lock of this one reaches there. So each
//! writer holds a lock on a small file here, whose name it puts into the names of its unfinished
//! objects. The file is gone when nothing is unfinished; one that is there and not locked tells of a
//! writer that died.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock, unlink};

use super::name::hex;
use super::temporary::Owner;
use crate::id::{self, PackId};

/// Longest name of a place that is compared, in bytes.
const MAX_PLACE: u64 = 64 << 10;

/// One writer, and where it says that it lives.
#[derive(Debug)]
pub(super) struct Ownership {
    id: Owner,
    /// The folder of the files; none: nothing can be said, and what a crash leaves stays.
    folder: Option<PathBuf>,
    place: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Objects that are unfinished.
    unfinished: usize,
    /// Something could not be removed.
    left_behind: bool,
    /// The locked file.
    file: Option<File>,
}

/// A writer that died, held so that nobody else sweeps behind it at the same time.
pub(super) struct DeadOwner {
    pub(super) id: Owner,
    path: PathBuf,
    _locked: File,
}

impl Ownership {
    /// A writer to `place` that says in `folder` that it lives.
    pub(super) fn new(folder: Option<PathBuf>, place: String) -> Self {
        let mut id = [0; 16];
        id::fill_random(&mut id);
        Self { id, folder, place, state: Mutex::default() }
    }

    /// An object is begun; returns whose it is.
    pub(super) fn begin(&self) -> Owner {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unfinished += 1;
        if state.file.is_none()
            && let Some(folder) = &self.folder
        {
            // Without it all goes on; only what a crash leaves stays.
            state.file = announce(folder, &self.id, &self.place).ok();
        }
        self.id
    }

    /// An object is finished, or was given up; `gone` says that nothing of it is left.
    pub(super) fn end(&self, gone: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unfinished = state.unfinished.saturating_sub(1);
        state.left_behind |= !gone;
        if state.unfinished == 0
            && !state.left_behind
            && state.file.take().is_some()
            && let Some(folder) = &self.folder
        {
            let _ = unlink(folder.join(hex(&self.id)));
        }
    }

    /// The writers to the same place that died on this machine with something unfinished.
    pub(super) fn dead(&self) -> Vec<DeadOwner> {
        let folder = self.folder.as_deref().and_then(|folder| std::fs::read_dir(folder).ok());
        let items = folder.into_iter().flatten().flatten();
        items.filter_map(|item| self.dead_at(&item.path())).collect()
    }

    fn dead_at(&self, path: &Path) -> Option<DeadOwner> {
        let id = path.file_name()?.to_str()?.parse::<PackId>().ok()?.0;
        let mut file = File::open(path).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let mut place = String::new();
        (&mut file).take(MAX_PLACE).read_to_string(&mut place).ok()?;
        (place == self.place).then(|| DeadOwner { id, path: path.to_owned(), _locked: file })
    }
}

impl DeadOwner {
    /// Nothing of this writer is left.
    pub(super) fn forget(self) {
        let _ = unlink(&self.path);
    }
}

fn announce(folder: &Path, id: &Owner, place: &str) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(hex(id));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    // Before it says what it is for: until then it means nothing to others.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(place.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_died_with_something_unfinished_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sftp");
        let new = |place: &str| Ownership::new(Some(path.clone()), place.to_owned());
        let files = || std::fs::read_dir(&path).map_or(0, Iterator::count);
        let (writer, other, sweeper) = (new("a"), new("b"), new("a"));
        assert!(sweeper.dead().is_empty());
        writer.begin();
        assert_eq!((writer.begin(), files()), (writer.id, 1));
        other.begin();
        writer.end(true);
        assert!(sweeper.dead().is_empty() && writer.dead().is_empty(), "it lives");
        writer.end(true);
        assert_eq!(files(), 1, "only the other has anything unfinished");

        writer.begin();
        drop((writer, other));
        let dead = sweeper.dead();
        assert_eq!(dead.len(), 1, "of the same place");
        assert!(sweeper.dead().is_empty(), "somebody is at it");
        dead.into_iter().for_each(DeadOwner::forget);
        assert!(sweeper.dead().is_empty());
    }

    #[test]
    fn what_could_not_be_removed_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let new = || Ownership::new(Some(folder.path().to_owned()), "a".to_owned());
        let writer = new();
        writer.begin();
        writer.end(false);
        assert!(new().dead().is_empty());
        let id = writer.id;
        drop(writer);
        assert_eq!(new().dead()[0].id, id);
    }
}
