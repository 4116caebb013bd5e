//! Files that are filled piece by piece: every block that holds pieces is decoded once for a
//! window, in pack order, on all cores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::prelude::*;

use super::Restore;
use crate::crypto::ChunkKind;
use crate::event::Event;
use crate::format::entry::Metadata;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::index::Location;
use crate::repo::{ChunkReader, PackReader, RepositoryError};
use crate::target::{Put, TargetError, TargetFile};

/// A file that is filled piece by piece, by several threads and perhaps in several windows.
pub(super) struct LargeFile {
    path: Box<[u8]>,
    meta: Metadata,
    put: Put,
    /// From its beginning until all of it came, with the temporary path that it has until then.
    open: RwLock<Option<(TargetFile, Box<[u8]>)>>,
    /// Bytes that are still to come.
    left: AtomicU64,
    failed: AtomicBool,
}

impl LargeFile {
    pub(super) fn new(path: Box<[u8]>, meta: Metadata, put: Put) -> Self {
        let left = AtomicU64::new(meta.size);
        // Nobody is to see under the file's own name what is not complete.
        let put = if put == Put::Fresh { Put::New } else { put };
        Self { path, meta, put, open: RwLock::default(), left, failed: AtomicBool::new(false) }
    }

    pub(super) fn size(&self) -> u64 {
        self.meta.size
    }

    /// It cannot be had for this reason, which is reported once.
    pub(super) fn damaged(&self, restore: &Restore<'_>, error: &RepositoryError) {
        if !self.failed.load(Ordering::Relaxed) {
            restore.damage(&self.path, error);
            self.fail(restore);
        }
    }

    fn fail(&self, restore: &Restore<'_>) {
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let begun = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some((_, staged)), Ok(target)) = (begun, restore.target()) {
            target.discard(&staged);
        }
    }

    fn begin(&self, restore: &Restore<'_>) -> Result<(), OpError> {
        if self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let target = restore.target()?;
        let staged = target.stage(&self.path);
        match target.begin_file(&staged, self.meta.size) {
            Ok(open) => {
                *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some((open, staged));
                if self.meta.size == 0 { self.came(restore, 0) } else { Ok(()) }
            }
            Err(error) => {
                target.discard(&staged);
                self.fail(restore);
                self.failed_with(restore, error)
            }
        }
    }

    /// Reports an error at the temporary path as one of the file.
    fn failed_with(&self, restore: &Restore<'_>, error: TargetError) -> Result<(), OpError> {
        let path = restore.target()?.path_of(&self.path);
        restore.one_entry_only(&self.path, TargetError { path, ..error })
    }

    fn write(&self, restore: &Restore<'_>, offset: u64, bytes: &[u8]) -> Result<(), OpError> {
        if self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = match &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
            Some((open, _)) => open.write_at(offset, bytes),
            None => Ok(()),
        };
        if let Err(error) = written {
            self.fail(restore);
            return self.failed_with(restore, error);
        }
        let len = bytes.len() as u64;
        restore.counters.bytes.fetch_add(len, Ordering::Relaxed);
        self.came(restore, len)
    }

    /// Notes that `len` bytes need not be waited for any more; finishes the file with the last.
    fn came(&self, restore: &Restore<'_>, len: u64) -> Result<(), OpError> {
        if self.left.fetch_sub(len, Ordering::AcqRel) != len {
            return Ok(());
        }
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some((open, staged)) = open else { return Ok(()) };
        let target = restore.target()?;
        let finished = open.finish(&self.meta, &restore.options.policy);
        if finished.is_err() {
            target.discard(&staged);
        }
        let placed = finished
            .and_then(|applied| target.commit(&staged, &self.path, self.put).map(|()| applied));
        match placed {
            Ok(applied) => {
                restore.made(&self.path, applied);
                Ok(())
            }
            Err(error) => self.failed_with(restore, error),
        }
    }
}

/// A chunk and where it goes.
pub(super) struct Piece {
    place: Location,
    id: ChunkId,
    file: usize,
    offset: u64,
}

/// The large files of a window, and what of their content comes with it.
#[derive(Default)]
pub(super) struct LargeFiles {
    files: Vec<Arc<LargeFile>>,
    pub(super) pieces: Vec<Piece>,
    /// Nothing has to be written for a hole: the number of its file, and its length.
    holes: Vec<(usize, u64)>,
}

impl LargeFiles {
    /// Adds a file, and gives its number.
    pub(super) fn add(&mut self, file: Arc<LargeFile>) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn hole(&mut self, file: usize, len: u64) {
        self.holes.push((file, len));
    }

    /// Adds a chunk of a file; one that is nowhere makes the file fail.
    pub(super) fn piece(
        &mut self,
        restore: &Restore<'_>,
        file: usize,
        place: Option<Location>,
        id: ChunkId,
        offset: u64,
    ) {
        match place {
            Some(place) => self.pieces.push(Piece { place, id, file, offset }),
            None => self.files[file].damaged(restore, &RepositoryError::MissingChunk(id)),
        }
    }

    /// Makes the file with this number, all of it holes.
    pub(super) fn begin(&self, restore: &Restore<'_>, number: usize) -> Result<(), OpError> {
        self.files[number].begin(restore)
    }

    /// Fills the files, which were begun, on the threads of the pool that it is called in.
    pub(super) fn write(&mut self, restore: &Restore<'_>) -> Result<(), OpError> {
        self.pieces.sort_unstable_by_key(|piece| {
            (piece.place.pack, piece.place.block, piece.place.offset)
        });
        let readers = Readers::new(restore);
        let blocks: Vec<&[Piece]> = self
            .pieces
            .chunk_by(|a, b| (a.place.pack, a.place.block) == (b.place.pack, b.place.block))
            .collect();
        blocks.par_iter().try_for_each(|pieces| self.write_block(restore, &readers, pieces))?;
        self.holes.iter().try_for_each(|&(file, len)| self.files[file].came(restore, len))
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
                file.damaged(restore, &error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
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
