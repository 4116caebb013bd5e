//! `prune`: gives back the space of what no snapshot needs. Any number of prunes and snapshots may
//! run at once; `FORMAT.md`, "Writers and pruners", says why nothing is lost.
//!
//! In rounds: packs are condemned, that is published as marks, and deleted when no session can be
//! at work that has not seen the marks and nothing that is needed lies in them alone. The first
//! round takes packs of which nothing is needed. Each further one first stores again what is needed
//! of mostly dead packs, as much as fills one new pack: so never more room is taken for a while.

mod choose;
mod memory;
mod parity;
mod rewrite;
mod round;
mod sessions;
mod view;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{OpError, segments};
use crate::event::Event;
use crate::format::entry::Timestamp;
use crate::format::snapshot::{ProcessIdentity, Session};
use crate::id::{PackId, SessionId, SnapshotId};
use crate::repo::{PackClass, Presence, Repository, RepositoryError};
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};
use crate::threads::caught;
use choose::{Chosen, Usage};
pub(in crate::ops) use memory::forgotten;
use round::Round;
use view::View;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Dead bytes that may stay in packs, as a share of the live ones.
    pub max_unused: f64,
    /// Most live bytes that are stored again in this run.
    pub max_repack: Option<u64>,
    /// When to stop storing again, by `clock`.
    pub late_at: Option<Timestamp>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// In a dry run: as if these were forgotten already.
    pub without: HashSet<SnapshotId>,
    /// Believe that snapshots are gone that were there when this client last looked.
    pub accept_fewer: bool,
    /// Drop unfinished snapshots of other machines without a trace, and how far interrupted runs
    /// came: their owner says that none is at work.
    pub drop_unfinished: bool,
    /// The machine's name.
    pub host: String,
    /// What tells this process from others of the machine, where that can be known.
    pub identity: Option<ProcessIdentity>,
    /// Tells the time: how long a session did not move, by this machine's clock. A wrong answer
    /// costs that session a second look, never data.
    pub clock: fn() -> Timestamp,
    /// Whether the process of a session has certainly ended.
    pub has_ended: fn(&Session) -> bool,
    /// zstd level for what is stored again.
    pub compression: i32,
    /// Threads that read and store.
    pub threads: usize,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

impl PruneOptions {
    /// What is done when nothing more is said: dead bytes stay up to a twentieth of the live ones,
    /// and nobody is known to have ended.
    pub fn new(host: String, clock: fn() -> Timestamp, threads: usize) -> Self {
        Self {
            max_unused: 0.05,
            max_repack: None,
            late_at: None,
            dry_run: false,
            without: HashSet::new(),
            accept_fewer: false,
            drop_unfinished: false,
            host,
            identity: None,
            clock,
            has_ended: |_| false,
            compression: 1,
            threads,
            interrupted: Arc::default(),
        }
    }
}

impl PruneOptions {
    fn presence(&self) -> Presence {
        Presence { host: self.host.clone(), now: (self.clock)(), identity: self.identity.clone() }
    }
}

/// What was done. Lengths are stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneSummary {
    /// Snapshots that stay.
    pub snapshots: u64,
    /// Bytes of all packs before.
    pub bytes_before: u64,
    /// Bytes of all packs afterwards.
    pub bytes_after: u64,
    /// Packs deleted, or to be deleted by a dry run.
    pub packs_deleted: u64,
    /// Packs of which something was stored again; among those that were deleted.
    pub packs_rewritten: u64,
    /// Bytes stored again.
    pub bytes_rewritten: u64,
    /// Bytes of dead chunks that stay in packs that are mostly live, about.
    pub bytes_unused: u64,
    /// Packs that are condemned and wait for sessions to end that are at work.
    pub packs_waiting: u64,
    /// Sessions that they wait for.
    pub sessions: u64,
    /// Sessions of dead processes that were ended.
    pub sessions_ended: u64,
}

/// Gives back the space of what no snapshot needs.
///
/// # Errors
/// When it cannot be known what is needed (a record or a page is damaged, a needed chunk is
/// missing): nothing is deleted then. When storage fails; whatever was done by then is whole, and
/// the next run goes on.
pub fn prune(
    repository: &Arc<Repository>,
    options: &PruneOptions,
) -> Result<PruneSummary, OpError> {
    caught(|| prune_in_session(repository, options))
}

fn prune_in_session(
    repository: &Arc<Repository>,
    options: &PruneOptions,
) -> Result<PruneSummary, OpError> {
    if options.dry_run {
        let touched = AtomicBool::new(false);
        let prune = Prune { repository, options, session: SessionId::random(), touched };
        return prune.plan_only();
    }
    repository.verify_place()?;
    repository.complete_copies();
    let prune = Prune::announce(repository, options)?;
    let result = caught(|| prune.run());
    let ended = caught(|| prune.end(result.is_ok()));
    let summary = result?;
    ended?;
    repository.storage().sweep_abandoned().map_err(RepositoryError::from)?;
    Ok(summary)
}

/// One run of the pruner.
struct Prune<'r> {
    repository: &'r Arc<Repository>,
    options: &'r PruneOptions,
    session: SessionId,
    /// Whether anything was deleted, stored, or ended.
    touched: AtomicBool,
}

impl<'r> Prune<'r> {
    /// Announces the pruner.
    fn announce(
        repository: &'r Arc<Repository>,
        options: &'r PruneOptions,
    ) -> Result<Self, RepositoryError> {
        let session = options.presence().session("prune", Vec::new());
        let touched = AtomicBool::new(false);
        let prune = Self { repository, options, session: session.id, touched };
        prune.with_room(|| repository.begin_session(&session))?;
        Ok(prune)
    }

    /// Publishes something. On a full disk the room for it comes from index segments: they are
    /// copies of what the packs say themselves, and are made again at the end.
    fn with_room<T>(
        &self,
        publish: impl Fn() -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        match publish() {
            Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NoSpace => {
                for (name, _) in self.repository.storage().list(ObjectKind::Segment)?.objects {
                    self.delete(name)?;
                }
                publish()
            }
            result => result,
        }
    }
}

impl Prune<'_> {
    /// Ends the session. Of what this run ended or moved everything is listed before, while
    /// somebody answers for it: if that fails, the session stays, and the next prune does it.
    fn end(&self, done: bool) -> Result<(), OpError> {
        if done || self.touched.load(Ordering::Relaxed) {
            self.phase("replacing index segments");
            segments::replace(self.repository, self.session)?;
        }
        Ok(self.repository.end_session(self.session)?)
    }

    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    fn phase(&self, name: &'static str) {
        self.repository.observer().event(Event::Phase(name));
    }

    fn go_on(&self) -> Result<(), OpError> {
        match self.options.interrupted.load(Ordering::Relaxed) {
            true => Err(OpError::Interrupted),
            false => Ok(()),
        }
    }

    fn run(&self) -> Result<PruneSummary, OpError> {
        let mut summary = PruneSummary::default();
        self.phase("looking at sessions");
        summary.sessions_ended = self.end_dead_sessions()?;
        self.phase("finding what is needed");
        let mut view = View::take(self)?;
        self.compare_with_last_time(&view)?;
        summary.snapshots = view.snapshot_count();
        summary.bytes_before = view.pack_bytes();
        let chosen = self.choose(&view)?;
        summary.bytes_unused = chosen.unused_left;

        self.phase("deleting what is not needed");
        let mut round = Round::new(self, &mut view, &mut summary);
        round.condemn_and_delete(&chosen.dead)?;
        self.phase("storing again what is needed of mostly dead packs");
        round.rewrite_all(&chosen.rewrite)?;
        self.repository.remove_finished_marks()?;
        self.delete_parity_of_nothing()?;
        summary.bytes_after = view.pack_bytes();
        self.remember_snapshots(&view);
        Ok(summary)
    }

    fn plan_only(&self) -> Result<PruneSummary, OpError> {
        self.phase("finding what is needed");
        let view = View::take(self)?;
        self.compare_with_last_time(&view)?;
        let chosen = self.choose(&view)?;
        let rewritten: u64 = chosen.rewrite.iter().map(|usage| usage.live).sum();
        let deleted: u64 = chosen
            .dead
            .iter()
            .filter_map(|id| view.packs.get(id))
            .chain(chosen.rewrite.iter().map(|usage| &usage.len))
            .sum();
        let bytes_before = view.pack_bytes();
        Ok(PruneSummary {
            snapshots: view.snapshot_count(),
            bytes_before,
            bytes_after: (bytes_before + rewritten).saturating_sub(deleted),
            packs_deleted: (chosen.dead.len() + chosen.rewrite.len()) as u64,
            packs_rewritten: chosen.rewrite.len() as u64,
            bytes_rewritten: rewritten,
            bytes_unused: chosen.unused_left,
            ..PruneSummary::default()
        })
    }

    /// Which packs go, and of which something is stored again before.
    fn choose(&self, view: &View<'_>) -> Result<Chosen, OpError> {
        let mut dead = BTreeSet::new();
        let mut used = Vec::new();
        let condemned: HashSet<PackId> = self.repository.index().condemned().collect();
        for id in view.packs.keys() {
            if condemned.contains(id) {
                // By an earlier prune that had to wait, or was cut off.
                dead.insert(*id);
            } else if view.belongs_to_somebody(id) {
            } else if let Some(usage) = self.usage(view, *id)? {
                used.push(usage);
            } else {
                dead.insert(*id);
            }
        }
        let config = self.repository.config();
        Ok(choose::choose(dead, used, self.options, u64::from(config.pack_size)))
    }

    /// How much of a pack is needed; nothing when none of it is.
    fn usage(&self, view: &View<'_>, id: PackId) -> Result<Option<Usage>, OpError> {
        let Some(live) = view.live(&id) else { return Ok(None) };
        let Some(pack) = self.repository.pack_footer(&id)? else {
            // A rebuilt index may lack it, because its footer cannot be read: it stays as it is.
            let len = view.packs.get(&id).copied().unwrap_or_default();
            return Ok(Some(Usage { id, class: PackClass::Content, len, live: len }));
        };
        let mut dead = 0;
        for block in &pack.footer.blocks {
            let chunks = pack.footer.chunks_of(block).iter().zip(block.first_chunk..);
            let unneeded = chunks.filter(|(_, at)| !live.contains(*at));
            let unneeded: u64 = unneeded.map(|(chunk, _)| u64::from(chunk.len)).sum();
            let all = u64::from(block.plain_len).max(1);
            dead += u64::from(block.stored_len) * unneeded / all;
        }
        let class = rewrite::class_of(&pack.footer);
        Ok(Some(Usage { id, class, len: pack.len, live: pack.len.saturating_sub(dead) }))
    }

    fn delete(&self, name: ObjectName) -> Result<(), RepositoryError> {
        self.touch();
        Ok(self.repository.storage().delete(name)?)
    }
}

#[cfg(test)]
mod tests;
