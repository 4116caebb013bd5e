//! The contents of a window: every needed block decoded once, in pack order, on all cores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::prelude::*;

use super::Restore;
use crate::crypto::ChunkKind;
use crate::event::Event;
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::index::Location;
use crate::repo::{ChunkReader, PackReader, RepositoryError};
use crate::target::TargetFile;

/// A file of a window.
pub(super) struct WindowFile {
    path: Box<[u8]>,
    meta: Metadata,
    replace: bool,
    /// Open when it comes in several pieces.
    open: RwLock<Option<TargetFile>>,
    in_one_piece: bool,
    /// Bytes that are still to come.
    left: AtomicU64,
    failed: AtomicBool,
}

impl WindowFile {
    /// A file of a single chunk: made and written at once.
    pub(super) fn in_one_piece(path: Box<[u8]>, meta: Metadata, replace: bool) -> Self {
        let left = AtomicU64::new(meta.size);
        let (open, failed) = (RwLock::default(), AtomicBool::new(false));
        Self { path, meta, replace, open, in_one_piece: true, left, failed }
    }

    /// A file that is filled piece by piece.
    pub(super) fn in_pieces(path: Box<[u8]>, meta: Metadata, open: TargetFile) -> Self {
        let left = AtomicU64::new(meta.size);
        let (open, failed) = (RwLock::new(Some(open)), AtomicBool::new(false));
        Self { path, meta, replace: false, open, in_one_piece: false, left, failed }
    }

    fn fail(&self, restore: &Restore<'_>) {
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        // What is there of it is not what the snapshot holds: better nothing.
        self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        if !self.in_one_piece
            && let Ok(target) = restore.target()
        {
            let _ = target.remove(&self.path);
        }
    }

    fn write(&self, restore: &Restore<'_>, offset: u64, bytes: &[u8]) -> Result<(), OpError> {
        let policy = &restore.options.policy;
        if self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = if self.in_one_piece {
            let target = restore.target()?;
            target
                .write_small(&self.path, &self.meta, bytes, policy, self.replace)
                .map(|applied| restore.made(applied))
        } else {
            match &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
                Some(open) => open.write_at(offset, bytes),
                None => Ok(()),
            }
        };
        if let Err(error) = written {
            self.fail(restore);
            return restore.one_entry_only(&self.path, error);
        }
        let len = bytes.len() as u64;
        restore.counters.bytes.fetch_add(len, Ordering::Relaxed);
        self.came(restore, len)
    }

    /// Notes that `len` bytes need not be waited for any more; finishes the file with the last.
    fn came(&self, restore: &Restore<'_>, len: u64) -> Result<(), OpError> {
        let before = self.left.fetch_sub(len, Ordering::AcqRel);
        if before != len || self.in_one_piece {
            return Ok(());
        }
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        match open.map(|open| open.finish(&self.meta, &restore.options.policy)) {
            Some(Ok(applied)) => restore.made(applied),
            Some(Err(error)) => return restore.one_entry_only(&self.path, error),
            None => {}
        }
        Ok(())
    }
}

/// A chunk and where it goes.
struct Piece {
    place: Location,
    id: ChunkId,
    file: usize,
    offset: u64,
}

/// A file whose bytes are at hand.
pub(super) struct WholeFile {
    pub(super) path: Box<[u8]>,
    pub(super) meta: Metadata,
    pub(super) bytes: Box<[u8]>,
    pub(super) replace: bool,
}

/// One more name of a file.
pub(super) struct FurtherName {
    pub(super) first: Box<[u8]>,
    pub(super) further: Box<[u8]>,
}

/// A bounded amount of work.
#[derive(Default)]
pub(super) struct Window {
    files: Vec<Arc<WindowFile>>,
    pieces: Vec<Piece>,
    pub(super) open_files: usize,
    pub(super) whole: Vec<WholeFile>,
    /// Symbolic links, pipes and devices.
    pub(super) specials: Vec<Entry>,
    pub(super) links: Vec<FurtherName>,
    /// Folders that nothing more goes into.
    pub(super) folders: Vec<(Box<[u8]>, Metadata)>,
}

impl Window {
    pub(super) fn add(&mut self, file: WindowFile) -> usize {
        self.open_files += usize::from(!file.in_one_piece);
        self.add_shared(Arc::new(file))
    }

    pub(super) fn add_shared(&mut self, file: Arc<WindowFile>) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub(super) fn share(&self, file: usize) -> Arc<WindowFile> {
        Arc::clone(&self.files[file])
    }

    pub(super) fn size_of(&self, file: usize) -> u64 {
        self.files[file].meta.size
    }

    pub(super) fn path_of(&self, file: usize) -> &[u8] {
        &self.files[file].path
    }

    pub(super) fn fail(&self, file: usize) {
        self.files[file].failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn piece_count(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn entry_count(&self) -> usize {
        self.files.len()
            + self.whole.len()
            + self.specials.len()
            + self.links.len()
            + self.folders.len()
    }

    /// Nothing has to be written for a hole.
    pub(super) fn hole(&self, restore: &Restore<'_>, file: usize, len: u64) -> Result<(), OpError> {
        self.files[file].came(restore, len)
    }

    /// Adds a chunk of a file; one that is nowhere makes the file fail.
    pub(super) fn piece(
        &mut self,
        restore: &Restore<'_>,
        file: usize,
        place: Option<Location>,
        id: ChunkId,
        offset: u64,
        len: u32,
    ) -> Result<(), OpError> {
        let found = place.filter(|place| place.len == len && place.kind == ChunkKind::Content);
        let Some(place) = found else {
            if !self.files[file].failed.load(Ordering::Relaxed) {
                restore.damage(&self.files[file].path, &RepositoryError::MissingChunk(id));
                self.files[file].fail(restore);
            }
            return Ok(());
        };
        self.pieces.push(Piece { place, id, file, offset });
        Ok(())
    }

    /// Does the work.
    pub(super) fn restore(
        mut self,
        restore: &Restore<'_>,
        pool: &rayon::ThreadPool,
    ) -> Result<(), OpError> {
        let entries = self.entry_count() as u64;
        self.pieces.sort_unstable_by_key(|piece| {
            (piece.place.pack, piece.place.block, piece.place.offset)
        });
        let readers = Readers::new(restore);
        pool.install(|| {
            self.whole.par_iter().try_for_each(|WholeFile { path, meta, bytes, replace }| {
                let policy = &restore.options.policy;
                match restore.target()?.write_small(path, meta, bytes, policy, *replace) {
                    Ok(applied) => restore.made(applied),
                    Err(error) => restore.one_entry_only(path, error)?,
                }
                restore.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok::<(), OpError>(())
            })?;
            let blocks: Vec<&[Piece]> = self
                .pieces
                .chunk_by(|a, b| (a.place.pack, a.place.block) == (b.place.pack, b.place.block))
                .collect();
            blocks.par_iter().try_for_each(|pieces| self.write_block(restore, &readers, pieces))
        })?;
        for entry in &self.specials {
            make_special(restore, entry)?;
        }
        for FurtherName { first, further } in &self.links {
            let target = restore.target()?;
            let linked = target.remove(further).and_then(|_| target.make_hard_link(first, further));
            match linked {
                Ok(()) => Restore::count(&restore.counters.restored),
                Err(error) => restore.one_entry_only(further, error)?,
            }
        }
        for (path, meta) in &self.folders {
            match restore.target()?.finish_folder(path, meta, &restore.options.policy) {
                Ok(applied) => restore.made(applied),
                Err(error) => restore.one_entry_only(path, error)?,
            }
        }
        restore.repository.observer().event(Event::Progress { items: entries, bytes: 0 });
        Ok(())
    }

    fn write_block(
        &self,
        restore: &Restore<'_>,
        readers: &Readers<'_>,
        pieces: &[Piece],
    ) -> Result<(), OpError> {
        if restore.is_interrupted() {
            return Err(OpError::Interrupted);
        }
        let mut reader = readers.take();
        let mut plain = std::mem::take(&mut reader.plain);
        let decoded = reader.packs.block(&pieces[0].place, &mut plain);
        let result = match decoded {
            Ok(()) => pieces.iter().try_for_each(|piece| {
                let start = piece.place.offset as usize;
                let bytes = &plain[start..start + piece.place.len as usize];
                if restore.repository.keys().chunk_id(ChunkKind::Content, bytes) != piece.id {
                    return self.write_from_elsewhere(restore, piece);
                }
                self.files[piece.file].write(restore, piece.offset, bytes)
            }),
            Err(error) if error.is_damage() => {
                pieces.iter().try_for_each(|piece| self.write_from_elsewhere(restore, piece))
            }
            Err(error) => Err(error.into()),
        };
        let bytes = pieces.iter().map(|piece| u64::from(piece.place.len)).sum();
        restore.repository.observer().event(Event::Progress { items: 0, bytes });
        reader.plain = plain;
        readers.put(reader);
        result
    }

    /// The block is damaged: perhaps another pack holds the chunk too.
    fn write_from_elsewhere(&self, restore: &Restore<'_>, piece: &Piece) -> Result<(), OpError> {
        let file = &self.files[piece.file];
        let mut bytes = Vec::new();
        let read =
            ChunkReader::new(restore.repository).read(ChunkKind::Content, &piece.id, &mut bytes);
        match read {
            Ok(()) => file.write(restore, piece.offset, &bytes),
            Err(error) if error.is_damage() => {
                if !file.failed.load(Ordering::Relaxed) {
                    restore.damage(&file.path, &error);
                    file.fail(restore);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn make_special(restore: &Restore<'_>, entry: &Entry) -> Result<(), OpError> {
    let (target, policy) = (restore.target()?, &restore.options.policy);
    let made = match entry.meta.kind {
        EntryKind::Symlink => {
            target.make_symlink(&entry.path, &entry.meta.target, &entry.meta, policy)
        }
        EntryKind::Fifo => target.make_fifo(&entry.path, &entry.meta, policy),
        _ => target.make_device(&entry.path, &entry.meta, policy),
    };
    match made {
        Ok(applied) => restore.made(applied),
        Err(error) => restore.one_entry_only(&entry.path, error)?,
    }
    Ok(())
}

/// Readers that threads take and give back: making one is not free.
struct Readers<'r> {
    restore: &'r Restore<'r>,
    idle: Mutex<Vec<BlockReader<'r>>>,
}

struct BlockReader<'r> {
    packs: PackReader<'r>,
    plain: Vec<u8>,
}

impl<'r> Readers<'r> {
    fn new(restore: &'r Restore<'r>) -> Self {
        Self { restore, idle: Mutex::default() }
    }

    fn take(&self) -> BlockReader<'r> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| BlockReader {
            packs: PackReader::new(self.restore.repository),
            plain: Vec::new(),
        })
    }

    fn put(&self, reader: BlockReader<'r>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}
