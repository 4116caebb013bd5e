//! A bounded amount of work, in the order in which it is safe and fast.
//!
//! What the walk meets becomes steps, in path order, cut into ranges that threads work off beside
//! each other: so each thread stays in one part of the target, makes a folder, fills it, finishes
//! it and leaves it. Folders that several ranges need are made before all of them. Small contents
//! are gathered before that; the pieces of large files come after it, then links, pipes and
//! devices, and last the folders that no single range could finish.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Restore;
use super::large::LargeFiles;
use super::options::Special;
use super::steps::{Range, Step};
use crate::event::Event;
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::ops::gather::{Gatherer, Wanted};
use crate::repo::RepositoryError;
use crate::target::Put;

/// Steps, small contents in bytes, and pieces of large files that a window holds: some ten
/// megabytes of memory.
const STEPS: usize = 16 << 10;
const SMALL_BYTES: usize = 16 << 20;
const PIECES: usize = 128 << 10;
/// Files in several pieces that a window may have open.
const OPEN_FILES: usize = 256;

/// One more name of a file.
pub(super) struct FurtherName {
    pub(super) first: Box<[u8]>,
    pub(super) further: Entry,
    pub(super) put: Put,
}

/// A bounded amount of work.
#[derive(Default)]
pub(super) struct Window {
    ranges: Vec<Range>,
    /// How many steps all ranges but the last have.
    steps_before: usize,
    /// Chunks of small contents, in the order of the steps.
    wanted: Vec<Wanted>,
    /// Plain bytes of all of them.
    small_bytes: usize,
    /// Small files so far: their numbers are the tags of their chunks.
    small_files: usize,
    /// Why small files cannot be had, by their numbers.
    failed: HashMap<usize, RepositoryError>,
    pub(super) large: LargeFiles,
    /// Symbolic links, pipes and devices.
    pub(super) specials: Vec<(Entry, Put)>,
    pub(super) links: Vec<FurtherName>,
    /// Folders that nothing more goes into.
    pub(super) folders: Vec<(Box<[u8]>, Metadata)>,
}

impl Window {
    /// Adds a step to the last range, and gives its place there.
    pub(super) fn step(&mut self, step: Step) -> usize {
        if self.ranges.is_empty() {
            self.ranges.push(Range::default());
        }
        let range = self.ranges.last_mut().expect("there is one now");
        range.steps.push(step);
        range.steps.len() - 1
    }

    /// Steps of the range that grows.
    pub(super) fn steps_in_range(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.steps.len())
    }

    /// Begins another range. The steps `needed` of the one before, which make folders that this
    /// one lies in, are done before all ranges.
    pub(super) fn cut(&mut self, needed: Vec<usize>) {
        if let Some(range) = self.ranges.last_mut() {
            range.done_before = needed;
            self.steps_before += range.steps.len();
        }
        self.ranges.push(Range::default());
    }

    /// The number of a small file and where its content begins.
    pub(super) fn small_file(&mut self) -> (usize, usize) {
        self.small_files += 1;
        (self.small_files - 1, self.small_bytes)
    }

    /// Adds a chunk to the content of a small file.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.small_bytes += wanted.location.len as usize;
        self.wanted.push(wanted);
    }

    /// The small file `number` cannot be had, since `id` is nowhere.
    pub(super) fn miss(&mut self, number: usize, id: ChunkId) {
        self.failed.entry(number).or_insert(RepositoryError::MissingChunk(id));
    }

    pub(super) fn is_full(&self) -> bool {
        let others = self.specials.len() + self.links.len() + self.folders.len();
        self.steps_before + self.steps_in_range() + others >= STEPS
            || self.small_bytes >= SMALL_BYTES
            || self.has_enough_pieces()
            || self.large.open_files() >= OPEN_FILES
    }

    pub(super) fn has_enough_pieces(&self) -> bool {
        self.large.pieces.len() >= PIECES
    }

    /// Does the work. The readers of `gatherer` are used from one window to the next.
    pub(super) fn restore(
        mut self,
        restore: &Restore<'_>,
        pool: &rayon::ThreadPool,
        gatherer: &Gatherer<'_>,
    ) -> Result<(), OpError> {
        let small = self.gather(restore, pool, gatherer)?;
        for range in &self.ranges {
            range.make_needed(restore)?;
        }
        pool.install(|| {
            self.ranges
                .par_iter()
                .try_for_each(|range| range.work_off(restore, &small, &self.failed, &self.large))?;
            drop(small);
            self.large.write(restore)?;
            self.specials.par_iter().try_for_each(|(entry, put)| make_special(restore, entry, *put))
        })?;
        self.links.iter().try_for_each(|name| restore.link(name))?;
        for (path, meta) in &self.folders {
            restore.finish_folder(path, meta)?;
        }
        let steps: usize = self.ranges.iter().map(|range| range.steps.len()).sum();
        let items = (steps + self.specials.len() + self.links.len() + self.folders.len()) as u64;
        restore.repository.observer().event(Event::Progress { items, bytes: 0 });
        Ok(())
    }

    /// The contents of small files, one behind the other.
    fn gather(
        &mut self,
        restore: &Restore<'_>,
        pool: &rayon::ThreadPool,
        gatherer: &Gatherer<'_>,
    ) -> Result<Vec<u8>, OpError> {
        if restore.is_interrupted() {
            return Err(OpError::Interrupted);
        }
        let mut small = vec![0; self.small_bytes];
        let wanted = std::mem::take(&mut self.wanted);
        let failures = pool.install(|| gatherer.fill(&mut small, wanted));
        for (number, error) in failures {
            if !error.is_damage() {
                return Err(error.into());
            }
            self.failed.entry(number).or_insert(error);
        }
        let bytes = small.len() as u64;
        restore.repository.observer().event(Event::Progress { items: 0, bytes });
        Ok(small)
    }
}

pub(super) fn make_special(restore: &Restore<'_>, entry: &Entry, put: Put) -> Result<(), OpError> {
    let (target, policy) = (restore.target()?, &restore.options.policy);
    let meta = &entry.meta;
    let make = |at: &[u8]| match meta.kind {
        EntryKind::Symlink => target.make_symlink(at, &meta.target, meta, policy),
        EntryKind::Fifo => target.make_fifo(at, meta, policy),
        _ => target.make_device(at, meta, policy),
    };
    match target.put(&entry.path, put, make) {
        Ok(applied) => {
            if matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
                Restore::count(&restore.counters.devices);
            }
            restore.made(&entry.path, applied);
        }
        Err(error) => {
            if matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
                restore.lost(&entry.path, Special::Device);
            }
            restore.one_entry_only(&entry.path, error)?;
        }
    }
    Ok(())
}
