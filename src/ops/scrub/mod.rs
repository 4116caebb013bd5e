//! `scrub`: is every byte of the packs and of their parity what was written, and can what is not be
//! put right? Works on storage alone, without the key.
//!
//! A damaged pack is rebuilt beside its place, compared with the hash of what was written, made
//! durable, and only then exchanged with the damaged one, which stays in quarantine. At no time is
//! the pack missing: cut off anywhere, it is as damaged as before or whole. And one that a pruner
//! deletes meanwhile does not come back, since an exchange needs both.

mod again;
mod mend;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;

use super::OpError;
use super::pool::pool;
use crate::event::{Event, Observer, Problem};
use crate::format::config::Config;
use crate::id::PackId;
use crate::repo::{PackState, ParityHead, RepositoryError, pack_state, parity_head};
use crate::storage::{ObjectKind, ObjectName, Storage, StorageErrorKind};
use crate::threads::caught;

pub use again::make_parity_again;

/// Longest configuration that is read, in bytes.
const MAX_TEXT_LEN: u64 = 64 << 10;

/// How to scrub.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// Put right what can be.
    pub mend: bool,
    /// Look at these packs only.
    pub only: Option<BTreeSet<PackId>>,
    /// Threads that read and compute.
    pub threads: usize,
    /// Set by the caller to ask for an early end.
    pub interrupted: Arc<AtomicBool>,
}

/// What was looked at, found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubSummary {
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that are not what was written.
    pub damaged: u64,
    /// Packs that were rebuilt; among the damaged ones.
    pub rebuilt: u64,
    /// Parity objects that are not what was written, or missing.
    pub parity_damaged: u64,
    /// Parity objects that were made again; among the damaged ones.
    pub parity_rebuilt: u64,
    /// Packs of which nothing can be said, since neither head of their parity is usable. Only with
    /// the key can it be made again.
    pub without_parity: u64,
}

impl ScrubSummary {
    /// Whether all is as it was written, by now.
    pub fn is_sound(&self) -> bool {
        self.damaged == self.rebuilt && self.parity_damaged == self.parity_rebuilt
    }
}

/// Reads all packs and their parity, and tells `observer` what is wrong.
///
/// # Errors
/// When the repository has no parity, the place is lost, packs or parity cannot be listed, what was
/// rebuilt cannot be stored, or the caller interrupts. Damage is no error: it is told and counted.
pub fn scrub(
    storage: &dyn Storage,
    observer: &dyn Observer,
    options: &ScrubOptions,
) -> Result<ScrubSummary, OpError> {
    expect_parity(storage)?;
    let pool = pool(options.threads)?;
    caught(|| {
        pool.install(|| Scrub { storage, observer, options, counts: Counts::default() }.run())
    })
}

/// Refuses a repository whose packs have no parity.
fn expect_parity(storage: &dyn Storage) -> Result<(), OpError> {
    for name in [ObjectName::CONFIG, ObjectName::CONFIG_COPY] {
        let Ok(bytes) = storage.read(name, MAX_TEXT_LEN) else { continue };
        match Config::decode(&bytes) {
            Ok(config) if config.parity_per_mille().is_none() => {
                return Err(OpError::Refused(
                    "this repository has no parity: it is chosen when a repository is made \
                     (`gabion init --parity`)"
                        .to_owned(),
                ));
            }
            Ok(_) => return Ok(()),
            // The packs can be looked at all the same.
            Err(_) => {}
        }
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    damaged: AtomicU64,
    rebuilt: AtomicU64,
    parity_damaged: AtomicU64,
    parity_rebuilt: AtomicU64,
    without_parity: AtomicU64,
}

struct Scrub<'s> {
    storage: &'s dyn Storage,
    observer: &'s dyn Observer,
    options: &'s ScrubOptions,
    counts: Counts,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Scrub<'_> {
    fn run(&self) -> Result<ScrubSummary, OpError> {
        let mut packs = self.list(ObjectKind::Pack)?;
        if let Some(only) = &self.options.only {
            packs.retain(|(id, _)| only.contains(id));
        }
        let bytes = packs.iter().map(|(_, len)| len).sum();
        self.observer.event(Event::Phase("reading packs and their parity"));
        self.observer.event(Event::Total { items: packs.len() as u64, bytes });
        packs.par_iter().try_for_each(|&(id, len)| {
            if self.options.interrupted.load(Ordering::Relaxed) {
                return Err(OpError::Interrupted);
            }
            self.look_at(id)?;
            self.counts.bytes.fetch_add(len, Ordering::Relaxed);
            self.observer.event(Event::Progress { items: 1, bytes: len });
            Ok(())
        })?;
        if self.options.only.is_none() {
            self.tell_orphans(packs.iter().map(|(id, _)| *id).collect())?;
        }
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(ScrubSummary {
            packs: packs.len() as u64,
            bytes: value(&self.counts.bytes),
            damaged: value(&self.counts.damaged),
            rebuilt: value(&self.counts.rebuilt),
            parity_damaged: value(&self.counts.parity_damaged),
            parity_rebuilt: value(&self.counts.parity_rebuilt),
            without_parity: value(&self.counts.without_parity),
        })
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<(PackId, u64)>, OpError> {
        let objects = self.storage.list(kind).map_err(RepositoryError::from)?.objects;
        Ok(objects.into_iter().map(|(name, len)| (PackId(name.id), len)).collect())
    }

    fn look_at(&self, id: PackId) -> Result<(), OpError> {
        let (name, parity) = (ObjectName::pack(id), ObjectName::parity(id));
        let (head, flaw) = match parity_head(self.storage, id)? {
            ParityHead::Usable { head, flaw } => (head, flaw),
            ParityHead::Missing if self.is_gone(name) => return Ok(()),
            lost => {
                let reason = match lost {
                    ParityHead::Lost(reason) => reason,
                    _ => "it is missing".to_owned(),
                };
                count(&self.counts.parity_damaged);
                count(&self.counts.without_parity);
                let text = format!("{reason}: whether its pack is sound cannot be told without it");
                self.problem(parity, text);
                return Ok(());
            }
        };
        let state = pack_state(self.storage, head, &[])?;
        // A pruner may have deleted it while it was read.
        if (!state.is_sound || !state.lost.is_empty()) && self.is_gone(name) {
            return Ok(());
        }
        let is_whole = state.is_sound || self.pack_is_damaged(&state)?;
        let lost = state.lost.parity(&state.head).len();
        if lost == 0 && flaw.is_none() {
            return Ok(());
        }
        count(&self.counts.parity_damaged);
        let shards = state.head.layout.parity_shards();
        let flaw = flaw.unwrap_or_else(|| format!("{lost} of its {shards} shards are damaged"));
        let done = is_whole && self.options.mend && self.mend_parity(&state.head)?;
        if done {
            count(&self.counts.parity_rebuilt);
        }
        let outcome = if done { "; it was made again from its pack" } else { "" };
        self.problem(parity, format!("{flaw}{outcome}"));
        Ok(())
    }

    /// Tells what is wrong with a pack, and puts it right if it can be and is wanted. Whether the
    /// pack is whole now.
    fn pack_is_damaged(&self, state: &PackState) -> Result<bool, OpError> {
        count(&self.counts.damaged);
        let layout = state.head.layout;
        let what = match state.lost.data(&state.head).len() {
            0 => "it is not what was written".to_owned(),
            lost => format!("{lost} of its {} shards are damaged", layout.data_shards()),
        };
        let mut is_whole = false;
        let outcome = if !state.can_be_rebuilt() {
            let (lost, most) = (state.lost.len(), layout.parity_shards());
            format!("{lost} lost shards are more than the parity for {most} can replace")
        } else if !self.options.mend {
            "it can be rebuilt".to_owned()
        } else {
            match self.mend_pack(state)? {
                Ok(kept) => {
                    is_whole = true;
                    count(&self.counts.rebuilt);
                    format!("it was rebuilt; the damaged one is kept as {kept}")
                }
                Err(reason) => format!("it was not rebuilt: {reason}"),
            }
        };
        self.problem(ObjectName::pack(state.head.pack), format!("{what}; {outcome}"));
        Ok(is_whole)
    }

    /// Parity without a pack: of a run that was cut off, of one at work, or all that is left.
    fn tell_orphans(&self, packs: BTreeSet<PackId>) -> Result<(), OpError> {
        let parity = self.list(ObjectKind::Parity)?;
        let orphans = parity
            .into_iter()
            .filter(|(id, _)| !packs.contains(id) && self.is_gone(ObjectName::pack(*id)))
            .count();
        if orphans > 0 {
            self.observer.event(Event::Note(format!(
                "{orphans} parity objects have no pack: somebody is just writing them, or prune \
                 will remove them"
            )));
        }
        Ok(())
    }

    fn is_gone(&self, name: ObjectName) -> bool {
        let len = self.storage.len(name);
        matches!(len, Err(error) if error.kind == StorageErrorKind::NotFound)
    }

    fn problem(&self, subject: ObjectName, message: String) {
        let problem = Problem { subject: subject.to_string().into(), message };
        self.observer.event(Event::Problem(problem));
    }
}
