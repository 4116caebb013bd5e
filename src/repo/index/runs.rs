//! The set of sorted id runs of an index: when to write one, when to merge them.

use std::collections::BinaryHeap;
use std::path::Path;

use zeroize::Zeroizing;

use super::UnusableIndex;
use super::catalogue::Catalogue;
use super::run::{Place, Run, RunEntry, Slot};
use crate::id::{ChunkId, SessionId};

/// Chunks that may be in memory before they are moved to a run.
pub(super) const SPILL_CHUNKS: usize = 1 << 16;
/// Runs that a lookup may have to look at.
const MAX_RUNS: usize = 8;

/// Runs that an index of so many chunks may have. Each costs every lookup a wait for memory or two,
/// and merging them more often costs the writing of each chunk's place a few times more, which an
/// index of ordinary size does not feel.
fn most_runs(chunks: u64) -> usize {
    match chunks {
        0..=2_000_000 => 2,
        2_000_001..=16_000_000 => 4,
        _ => MAX_RUNS,
    }
}

/// The runs of an index, oldest first.
#[derive(Debug, Default)]
pub(super) struct Runs {
    open: Vec<OpenRun>,
    key: Zeroizing<[u8; 32]>,
}

#[derive(Debug)]
struct OpenRun {
    name: String,
    last_pack: u32,
    run: Run,
}

impl Runs {
    /// Opens the runs that belong to the catalogue; `key` makes their checksums.
    pub(super) fn open(
        folder: &Path,
        catalogue: &Catalogue,
        key: &[u8; 32],
    ) -> Result<Self, UnusableIndex> {
        let mut open = Vec::new();
        for (name, last_pack) in catalogue.runs()? {
            let run = Run::open(&folder.join(&name), key)?;
            open.push(OpenRun { name, last_pack, run });
        }
        Ok(Self { open, key: Zeroizing::new(*key) })
    }

    /// The number of the last pack whose chunks are in a run.
    pub(super) fn last_pack(&self) -> Option<u32> {
        self.open.last().map(|run| run.last_pack)
    }

    /// All places of `id`, those of the newest run first; nobody has checked whether they are true.
    pub(super) fn places<'a>(&'a self, id: &ChunkId) -> impl Iterator<Item = Place> + use<'a> {
        self.found(id).map(|(_, _, place)| place)
    }

    /// The places of `id` that are as they were written.
    pub(super) fn sound_places<'a>(
        &'a self,
        id: &ChunkId,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let sound = self.found(id).filter(|(run, at, _)| run.is_sound(*at));
        sound.map(|(_, _, place)| place)
    }

    fn found<'a>(&'a self, id: &ChunkId) -> impl Iterator<Item = (&'a Run, u64, Place)> + use<'a> {
        let id = *id;
        // All runs are asked where it may be before any is looked at there: the processor waits for
        // the memory of all of them at once.
        let mut slots = [Slot::default(); MAX_RUNS + 1];
        for (slot, open) in slots.iter_mut().zip(&self.open) {
            *slot = open.run.slot(&id);
        }
        self.open.iter().enumerate().rev().flat_map(move |(number, open)| {
            let slot = slots.get(number).copied().unwrap_or_else(|| open.run.slot(&id));
            open.run.places(&id, slot).map(|(at, place)| (&open.run, at, place))
        })
    }

    /// Writes `entries`, all that packs up to `last_pack` hold beyond the other runs, as a new run.
    /// False when another process changed the runs meanwhile, or added packs that are not `known`.
    pub(super) fn spill(
        &mut self,
        folder: &Path,
        catalogue: &mut Catalogue,
        mut entries: Vec<RunEntry>,
        last_pack: u32,
        known: &dyn Fn(u32) -> bool,
    ) -> Result<bool, UnusableIndex> {
        entries.sort_unstable();
        let name = new_name();
        Run::write(&folder.join(&name), &self.key, entries.len() as u64, entries)?;
        if !catalogue.add_run(&name, last_pack, known)? {
            remove(folder, &name);
            return Ok(false);
        }
        let run = Run::open(&folder.join(&name), &self.key)?;
        self.open.push(OpenRun { name, last_pack, run });
        let chunks = self.open.iter().map(|open| open.run.len()).sum();
        if self.open.len() > most_runs(chunks) {
            self.merge(folder, catalogue)?;
        }
        Ok(true)
    }

    /// Merges the newest runs that are together no smaller than the one before them, so that each
    /// entry is rewritten only a logarithmic number of times.
    fn merge(&mut self, folder: &Path, catalogue: &mut Catalogue) -> Result<(), UnusableIndex> {
        let mut first = self.open.len() - 2;
        let mut sum = self.open[first].run.len() + self.open[first + 1].run.len();
        while first > 0 && self.open[first - 1].run.len() <= 2 * sum {
            first -= 1;
            sum += self.open[first].run.len();
        }
        let merged = &self.open[first..];
        let name = new_name();
        Run::write(&folder.join(&name), &self.key, sum, Merge::new(merged))?;
        let old: Vec<String> = merged.iter().map(|run| run.name.clone()).collect();
        let Some(last_pack) = self.last_pack() else { return Ok(()) };
        if !catalogue.replace_runs(&old, &name, last_pack)? {
            remove(folder, &name);
            return Ok(());
        }
        self.open.truncate(first);
        let run = Run::open(&folder.join(&name), &self.key)?;
        self.open.push(OpenRun { name, last_pack, run });
        old.iter().for_each(|name| remove(folder, name));
        Ok(())
    }
}

/// A name that no run ever had.
fn new_name() -> String {
    format!("{}.ids", SessionId::random())
}

/// Removes a cached file; one that stays only takes space.
#[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
fn remove(folder: &Path, name: &str) {
    let _ = std::fs::remove_file(folder.join(name));
}

/// The entries of several runs in one order.
struct Merge<'a> {
    runs: &'a [OpenRun],
    /// The next entry of each run, smallest on top.
    heads: BinaryHeap<std::cmp::Reverse<(RunEntry, usize, u64)>>,
}

impl<'a> Merge<'a> {
    fn new(runs: &'a [OpenRun]) -> Self {
        let mut merge = Self { runs, heads: BinaryHeap::new() };
        (0..runs.len()).for_each(|run| merge.push(run, 0));
        merge
    }

    fn push(&mut self, run: usize, at: u64) {
        if at < self.runs[run].run.len() {
            self.heads.push(std::cmp::Reverse((self.runs[run].run.entry(at), run, at)));
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = RunEntry;

    fn next(&mut self) -> Option<RunEntry> {
        let std::cmp::Reverse((entry, run, at)) = self.heads.pop()?;
        self.push(run, at + 1);
        Some(entry)
    }
}
