//! Many chunks into one buffer: every block that holds some of them is decoded once, on all cores.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::crypto::ChunkKind;
use crate::id::ChunkId;
use crate::repo::index::Location;
use crate::repo::{ChunkReader, PackReader, Repository, RepositoryError};

/// A chunk that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// What the caller knows it by; need not be unique.
    pub(super) tag: usize,
    pub(super) id: ChunkId,
    pub(super) location: Location,
}

/// Why a chunk could not be had, with its tag.
pub(super) type Failure = (usize, RepositoryError);

/// A wanted chunk and its part of the buffer.
struct Slot<'b> {
    wanted: Wanted,
    out: &'b mut [u8],
    failure: Option<RepositoryError>,
}

/// Gathers chunks; what decoding needs is kept from one time to the next.
pub(super) struct Gatherer<'r> {
    repository: &'r Repository,
    /// Whether the caller goes on without the chunks that cannot be had.
    goes_on: bool,
    unpackers: Mutex<Vec<(PackReader<'r>, Vec<u8>)>>,
}

impl<'r> Gatherer<'r> {
    /// One for a caller who wants to know of every chunk that cannot be had.
    pub(super) fn of_all(repository: &'r Repository) -> Self {
        Self { repository, goes_on: true, unpackers: Mutex::default() }
    }

    /// One for a caller who is interested in nothing behind the first tag that cannot be had.
    pub(super) fn up_to_first_failure(repository: &'r Repository) -> Self {
        Self { repository, goes_on: false, unpackers: Mutex::default() }
    }

    /// Fills `bytes`, which is as long as all of `chunks` together, with the chunks in their
    /// order, each compared with its id; on the threads of the pool that it is called in. Gives
    /// those that are damaged or missing, at least as far as the caller is interested, and some
    /// of those that could not be read.
    pub(super) fn fill(&self, bytes: &mut [u8], chunks: Vec<Wanted>) -> Vec<Failure> {
        let mut rest = bytes;
        let mut slots: Vec<Slot<'_>> = Vec::with_capacity(chunks.len());
        for wanted in chunks {
            let (out, tail) = std::mem::take(&mut rest).split_at_mut(wanted.location.len as usize);
            rest = tail;
            slots.push(Slot { wanted, out, failure: None });
        }
        slots.sort_unstable_by_key(|Slot { wanted: Wanted { location, .. }, .. }| {
            (location.pack, location.block, location.offset)
        });
        let block = |slot: &Slot<'_>| (slot.wanted.location.pack, slot.wanted.location.block);
        let groups: Vec<_> = slots.chunk_by_mut(|a, b| block(a) == block(b)).collect();
        groups.into_par_iter().for_each(|group| self.fill_from_block(group));
        slots.into_iter().filter_map(|slot| Some((slot.wanted.tag, slot.failure?))).collect()
    }

    /// Decodes the one block of all `slots`.
    fn fill_from_block(&self, slots: &mut [Slot<'_>]) {
        let unpacker = self.unpackers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut packs, mut plain) =
            unpacker.unwrap_or_else(|| (PackReader::new(self.repository), Vec::new()));
        let read = packs.block(&slots[0].wanted.location, &mut plain);
        let copied = read.is_ok() && self.copy_out(&plain, slots);
        self.unpackers.lock().unwrap_or_else(PoisonError::into_inner).push((packs, plain));
        if copied {
            return;
        }
        slots.sort_unstable_by_key(|slot| slot.wanted.tag);
        match read {
            Err(error) if !error.is_damage() => slots[0].failure = Some(error),
            _ => self.fill_from_elsewhere(slots),
        }
    }

    /// Copies verified chunks out of their block; whether all were as they should be.
    fn copy_out(&self, plain: &[u8], slots: &mut [Slot<'_>]) -> bool {
        let mut verified: Option<(u32, ChunkId)> = None;
        slots.iter_mut().all(|Slot { wanted: Wanted { id, location, .. }, out, .. }| {
            let start = location.offset as usize;
            let Some(bytes) = plain.get(start..start + out.len()) else { return false };
            // A chunk that is wanted several times lies next to itself here.
            if verified != Some((location.offset, *id)) {
                if self.repository.keys().chunk_id(ChunkKind::Content, bytes) != *id {
                    return false;
                }
                verified = Some((location.offset, *id));
            }
            out.copy_from_slice(bytes);
            true
        })
    }

    /// Chunk by chunk, from whichever pack holds a sound one.
    fn fill_from_elsewhere(&self, slots: &mut [Slot<'_>]) {
        let (mut reader, mut bytes) = (ChunkReader::new(self.repository), Vec::new());
        for Slot { wanted: Wanted { id, .. }, out, failure } in slots {
            bytes.clear();
            match reader.read(ChunkKind::Content, id, &mut bytes) {
                Ok(()) if bytes.len() == out.len() => out.copy_from_slice(&bytes),
                Ok(()) => *failure = Some(wrong_chunk(id)),
                Err(error) => *failure = Some(error),
            }
            if failure.as_ref().is_some_and(|error| !self.goes_on || !error.is_damage()) {
                return;
            }
        }
    }
}

/// The chunk is not what the content that lists it says.
pub(super) fn wrong_chunk(id: &ChunkId) -> RepositoryError {
    RepositoryError::Damaged {
        object: format!("chunk {id}"),
        reason: "it is not of the length or kind that its content says".to_owned(),
    }
}
