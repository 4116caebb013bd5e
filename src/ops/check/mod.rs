//! `check`: does the repository keep its promises? Everything is looked at in storage itself; the
//! client's cache is neither read nor believed.
//!
//! First the small objects, then every pack's header and footer (and, if asked for, its blocks),
//! then every page of every snapshot. What was found damaged is carried into the last step, so that
//! each snapshot can say what it lost.

mod choose;
mod data;
mod index;
mod objects;
mod picture;
mod reader;
mod report;
mod trees;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::OpError;
use crate::event::Event;
use crate::repo::{Repository, RepositoryError};
use picture::Picture;
use report::Report;

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
/// When the repository cannot be listed, the options make no sense, or the caller interrupts.
/// Damage is no error: it is told to the repository's observer and counted.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
) -> Result<CheckSummary, OpError> {
    choose::validate(options.read)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build();
    let pool = pool.map_err(|error| {
        OpError::Repository(RepositoryError::Writer(format!("no threads to check with: {error}")))
    })?;
    pool.install(|| run(repository, options))
}

fn run(repository: &Repository, options: &CheckOptions) -> Result<CheckSummary, OpError> {
    let report = Report::new(repository, &options.interrupted);
    report.phase("checking the configuration, key slots and records");
    objects::check_config(&report)?;
    objects::check_slots(&report)?;
    objects::check_foreign(&report)?;
    // Snapshots are listed before packs: a writer publishes the packs first.
    let snapshots = objects::check_records(&report)?;
    let segments = index::list(&report)?;
    report.phase("reading the footers of all packs");
    let mut picture = Picture::read(&report)?;
    index::check(&report, &segments, &mut picture)?;
    picture.finish(&report);
    let chosen = choose::packs(&picture, options);
    if !chosen.is_empty() {
        report.phase("reading and verifying data");
    }
    let bytes_read = data::check(&report, &picture, &chosen)?;
    report.phase("checking the pages of all snapshots");
    let pages = trees::check(&report, &picture, &snapshots)?;
    Ok(CheckSummary {
        snapshots: snapshots.len() as u64,
        packs: picture.packs.len() as u64,
        chunks: picture.chunk_count(),
        pages,
        bytes_read,
        problems: report.problems(),
        notes: report.notes(),
    })
}

impl Report<'_> {
    fn phase(&self, name: &'static str) {
        self.repository.observer().event(Event::Phase(name));
    }
}

#[cfg(test)]
mod tests;
