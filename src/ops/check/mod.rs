//! `check`: does the repository keep its promises? Everything is looked at in storage itself; the
//! client's cache is neither read nor believed.
//!
//! First the small objects, then every pack's header and footer (and, if asked for, its blocks),
//! then every page of every snapshot. What was found damaged is carried into the last step, so that
//! each snapshot can say what it lost.
//!
//! An object that cannot be read is a finding, and the check goes on. Somebody may prune beside it:
//! what is gone when it is looked at again does not count, and when pages or contents seem to be
//! missing and the packs are not the ones that were listed, everything but the data is looked at
//! once more, and only what is still wrong then is told.

mod bases;
mod choose;
mod data;
mod index;
mod objects;
mod parity;
mod picture;
mod reader;
mod records;
mod report;
mod trees;
mod verified;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::OpError;
use super::pool::pool;
use crate::event::Event;
use crate::format::snapshot::Snapshot;
use crate::id::{ChunkId, PackId};
use crate::repo::Repository;
use crate::storage::ObjectName;
use crate::threads::caught;
pub(in crate::ops) use picture::Picture;
use report::Report;
pub use verified::Verified;
pub(in crate::ops) use verified::findings;

/// How much of the packs' data is read. The structure is always checked whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None of it.
    Structure,
    /// Every block.
    All,
    /// One part of the packs: checks with every `part` from 1 to `of` together read all.
    Subset {
        /// Which part, from 1.
        part: u32,
        /// Into how many parts the packs are divided.
        of: u32,
    },
    /// Packs with at least so many per cent of all stored bytes.
    Percent(f64),
    /// Packs with at least so many stored bytes.
    Bytes(u64),
    /// The packs that were longest not verified, with at least so many stored bytes.
    LongestUnverified(u64),
}

/// What is checked and how.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// How much data is read.
    pub read: ReadData,
    /// Decides which packs [`ReadData::Percent`] and [`ReadData::Bytes`] read: another salt, other
    /// packs.
    pub salt: u64,
    /// Threads that read and verify.
    pub threads: usize,
    /// Set by the caller to ask for an early end.
    pub interrupted: Arc<AtomicBool>,
}

/// What was looked at and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckSummary {
    /// Confirmed snapshots that could be read.
    pub snapshots: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Chunks in them, duplicates counted.
    pub chunks: u64,
    /// Pages of all kinds that were read, each once.
    pub pages: u64,
    /// Stored bytes of the blocks that were read and verified because of [`CheckOptions::read`].
    pub bytes_read: u64,
    /// Findings that mean damage; each was told to the observer.
    pub problems: u64,
    /// Findings worth knowing that are no damage.
    pub notes: u64,
}

/// Checks `repository`. Its index need not be loaded.
///
/// # Errors
/// When the place is lost, packs or snapshots cannot be listed, the options make no sense, or the
/// caller interrupts. Damage is no error: it is told to the repository's observer and counted.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
) -> Result<CheckSummary, OpError> {
    // Nothing is known and nothing is to be remembered.
    check_and_remember(repository, options, &mut Verified::unknown())
}

/// As [`check`], and keeps in mind which packs were verified when.
///
/// # Errors
/// As [`check`].
pub fn check_and_remember(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    verified: &mut Verified,
) -> Result<CheckSummary, OpError> {
    choose::validate(options.read)?;
    let pool = pool(options.threads)?;
    let work = || {
        let report = Report::new(repository, &options.interrupted);
        let choose =
            |picture: &Picture, verified: &Verified| choose::packs(picture, options, verified);
        Ok(look(&report, &[], choose, verified)?.summary)
    };
    caught(|| pool.install(work))
}

/// What a look at everything brings to light.
pub(in crate::ops) struct Looked {
    pub(in crate::ops) summary: CheckSummary,
    pub(in crate::ops) picture: Picture,
    /// Content that snapshots need and that is in no pack, as far as is known: ids and lengths.
    pub(in crate::ops) lost: Vec<(ChunkId, u32)>,
}

/// Looks at everything. `bad` are copies of chunks that are known to be damaged; `choose` says
/// which packs are read whole.
fn look(
    report: &Report<'_>,
    bad: &[(PackId, u32)],
    choose: impl Fn(&Picture, &Verified) -> Vec<u32>,
    verified: &mut Verified,
) -> Result<Looked, OpError> {
    report.phase("checking the configuration, key slots and records");
    objects::check_config(report)?;
    objects::check_slots(report)?;
    objects::check_foreign(report)?;
    let mut survey = Survey::take(report)?;
    parity::check(report, &survey.picture)?;
    survey.picture.mark_bad_copies(bad);
    survey.picture.check_bases();
    let chosen = choose(&survey.picture, verified);
    if !chosen.is_empty() {
        report.phase("reading and verifying data");
    }
    let bytes_read = data::check(report, &survey.picture, &chosen, verified);
    verified.remember(report.repository, &survey.picture);
    let bytes_read = bytes_read?;
    let trees::Walked { pages, lost } = check_trees(report, &mut survey)?;
    let Survey { snapshots, picture, .. } = survey;
    let summary = CheckSummary {
        snapshots: snapshots.len() as u64,
        packs: picture.packs.len() as u64,
        chunks: picture.chunk_count(),
        pages,
        bytes_read,
        problems: report.problems(),
        notes: report.notes(),
    };
    verified.remember_findings(summary.problems);
    Ok(Looked { summary, picture, lost })
}

/// A look at everything that tells nobody what it finds.
pub(in crate::ops) fn look_in_silence(
    repository: &Repository,
    interrupted: &AtomicBool,
    read_data: bool,
) -> Result<Looked, OpError> {
    let report = Report::silent(repository, interrupted);
    let choose = |picture: &Picture, _: &Verified| match read_data {
        true => (0u32..).take(picture.packs.len()).collect(),
        false => Vec::new(),
    };
    look(&report, &[], choose, &mut Verified::unknown())
}

/// Looks at everything but the data once more, and tells what is found. `bad` are copies of chunks
/// that are known to be damaged.
pub(in crate::ops) fn look_again(
    repository: &Repository,
    interrupted: &AtomicBool,
    bad: &[(PackId, u32)],
) -> Result<CheckSummary, OpError> {
    let report = Report::new(repository, interrupted);
    Ok(look(&report, bad, |_, _| Vec::new(), &mut Verified::unknown())?.summary)
}

/// What refers to chunks, and where these lie.
struct Survey {
    snapshots: Vec<Snapshot>,
    roots: objects::Roots,
    picture: Picture,
}

impl Survey {
    /// Snapshots and roots are listed before packs: a writer publishes the packs first.
    fn take(report: &Report<'_>) -> Result<Self, OpError> {
        let (snapshots, roots) = objects::check_records(report)?;
        let segments = index::list(report)?;
        report.phase("reading the footers of all packs");
        let mut picture = Picture::read(report)?;
        index::check(report, segments, &mut picture)?;
        picture.finish(report);
        Ok(Self { snapshots, roots, picture })
    }

    /// Whether packs or snapshots are there that were not, or the other way round.
    fn is_stale(&self, report: &Report<'_>) -> Result<bool, OpError> {
        let gone = |snapshot: &Snapshot| report.is_gone(ObjectName::snapshot(snapshot.id));
        Ok(self.snapshots.iter().any(gone) || self.picture.is_stale(report)?)
    }

    fn check_trees(&self, report: &Report<'_>) -> Result<trees::Walked, OpError> {
        report.phase("checking the pages of all snapshots");
        // Once more: reading may have shown that some are damaged.
        self.picture.check_bases();
        trees::check(report, &self.picture, &self.snapshots, &self.roots)
    }
}

/// Checks all trees; twice when something is wrong and what was surveyed is not what is there.
fn check_trees(report: &Report<'_>, survey: &mut Survey) -> Result<trees::Walked, OpError> {
    let bad_copies = survey.picture.bad_copies();
    report.hold();
    let checked = survey.check_trees(report);
    if checked.is_ok() && report.holds_any() && survey.is_stale(report)? {
        report.drop_held();
        *survey = Survey::take(report)?;
        survey.picture.mark_bad_copies(&bad_copies);
        return survey.check_trees(report);
    }
    report.tell_held();
    checked
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report<'_> {
    fn phase(&self, name: &'static str) {
        self.repository.observer().event(Event::Phase(name));
    }
}

#[cfg(test)]
mod tests;
