//! The commit: session, checkpoints, tentative root, the last look, and the confirmed snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use super::collect::Collected;
use super::previous::Earlier;
use super::{SnapshotOptions, SnapshotSummary, after_commit};
use crate::event::{Event, Problem};
use crate::format::entry::Timestamp;
use crate::format::snapshot::{Continuation, RawBytes, Root, Snapshot, StreamRecord};
use crate::id::{ChunkId, PackId, SessionId, SnapshotId};
use crate::ops::OpError;
use crate::ops::store_again::store_again;
use crate::repo::{PreparedRecord, Presence, Repository, RepositoryError, Writer};
use crate::storage::ObjectName;
use crate::threads::{caught, start_in};
use crate::tree::Reach;

/// Looks at the marks after which a snapshot gives up: somebody prunes all the time.
const MAX_LOOKS: usize = 20;

/// What a failure of gabion itself means before the commit, and within it.
pub(super) const NOTHING_COMMITTED: &str = "; nothing was committed";
const MAYBE_COMMITTED: &str =
    "; it happened during the commit: use `gabion snapshots` to see whether the snapshot exists";

/// What is announced and what is to be cleaned up.
pub(super) struct Commit {
    repository: Arc<Repository>,
    session: Option<SessionId>,
    host: String,
    paths: Vec<RawBytes>,
    pub(super) scan_started: Timestamp,
    pub(super) continuation: Option<Continuation>,
    /// Packs that were there when the index was loaded: all that is taken over lies in them.
    packs: HashSet<PackId>,
    checkpoint: Option<SnapshotId>,
    /// A pruner took this process for dead once: nothing that was known of the packs counts.
    was_revoked: bool,
    /// The snapshot is being confirmed at this moment.
    confirming: bool,
}

impl Commit {
    /// Announces the session; a dry run announces nothing.
    pub(super) fn begin(
        repository: &Arc<Repository>,
        options: &SnapshotOptions,
        paths: Vec<RawBytes>,
    ) -> Result<Self, RepositoryError> {
        let session = if options.dry_run {
            None
        } else {
            repository.verify_place()?;
            repository.complete_copies();
            Some(announce(repository, options)?)
        };
        Ok(Self {
            repository: Arc::clone(repository),
            session,
            host: options.host.clone(),
            paths,
            scan_started: (options.clock)(),
            continuation: None,
            packs: HashSet::new(),
            checkpoint: None,
            was_revoked: false,
            confirming: false,
        })
    }

    pub(super) fn paths(&self) -> &[RawBytes] {
        &self.paths
    }

    /// The writer's packs belong to the session from now on.
    pub(super) fn adopt(&self, writer: &Writer) {
        if let Some(session) = self.session {
            writer.announce(session);
        }
    }

    pub(super) fn remember_packs(&mut self) {
        self.packs = self.repository.index().packs().map(|(id, _)| id).collect();
    }

    /// Publishes how far the run has come and removes its previous checkpoint.
    pub(super) fn checkpoint(&mut self, root: ChunkId) -> Result<(), RepositoryError> {
        let Some(session) = self.session else { return Ok(()) };
        let id = SnapshotId::random();
        let root = Root::Checkpoint {
            session,
            root,
            scan_started: self.scan_started.into(),
            host: self.host.clone(),
            paths: self.paths.clone(),
        };
        self.repository.publish_root(id, &root)?;
        match self.checkpoint.replace(id) {
            Some(old) => self.repository.remove_root(old),
            None => Ok(()),
        }
    }

    /// How it went to list the packs of a run that failed. As long as some are in no index segment
    /// the session stays, which explains them: the next prune ends it and lists them.
    pub(super) fn packs_were_listed(&mut self, listed: &Result<(), RepositoryError>) {
        if listed.is_err() {
            self.session = None;
        }
    }

    /// Ends the session without a snapshot. Checkpoints stay, for the next run.
    pub(super) fn abandon(&mut self) {
        if let Some(session) = self.session.take() {
            // The error that brought us here is the one to tell; a session that stays is harmless.
            let _ = caught(|| self.repository.end_session(session));
        }
    }

    /// What a failure of gabion itself means for the snapshot.
    pub(super) fn outcome(&self) -> &'static str {
        if self.confirming { MAYBE_COMMITTED } else { NOTHING_COMMITTED }
    }

    /// Publishes the tentative root, looks once more, and confirms.
    pub(super) fn confirm(
        &mut self,
        options: &SnapshotOptions,
        writer: &Writer,
        tree: &Collected,
        streams: Vec<StreamRecord>,
        earlier: &Earlier,
        mut summary: SnapshotSummary,
    ) -> Result<SnapshotSummary, OpError> {
        let Some(session) = self.session else { return Ok(summary) };
        let mut snapshot = Snapshot {
            id: SnapshotId::random(),
            root: tree.root,
            time: options.time.into(),
            scan_started: self.scan_started.into(),
            host: options.host.clone(),
            user: options.user.clone(),
            paths: self.paths.clone(),
            streams,
            tags: options.tags.clone(),
            pinned: false,
            formerly: Vec::new(),
            job: options.job.clone(),
            parent: earlier.parent.as_ref().map(|parent| parent.id),
            problems: summary.problems,
            window: options.excludes.window(),
            mirrored: true,
            continuation: self.continuation.take(),
            excludes: options.excludes.record().if_short(),
            counts: summary.counts,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let tentative = Root::Tentative { session, snapshot: Box::new(snapshot.clone()) };
        let (announced, is_listed) =
            self.repository.announce_root(&snapshot, &tentative, tree.segment.as_ref());
        if is_listed {
            writer.segment_was_published();
        }
        let mut prepared = Some(announced?);
        for _ in 0..MAX_LOOKS {
            self.look_again(options, writer, &mut snapshot)?;
            self.tell_missing_parity()?;
            self.confirming = true;
            let confirmed = self.confirm_beside_cache(&snapshot, prepared.take());
            self.confirming = false;
            let confirmed = confirmed?;
            if let Some(bytes) = confirmed {
                summary.counts.stored_bytes += bytes;
                after_commit(&Arc::clone(&self.repository), || self.clean_up(snapshot.id, earlier));
                summary.snapshot = Some(snapshot);
                return Ok(summary);
            }
            // Taken for dead after the look, and given up.
            self.start_over(options, writer, &mut snapshot)?;
        }
        Err(kept_pruning())
    }

    /// Confirms the snapshot, while the cache is made durable: it has the disk to wait for, too.
    fn confirm_beside_cache(
        &self,
        snapshot: &Snapshot,
        prepared: Option<PreparedRecord>,
    ) -> Result<Option<u64>, RepositoryError> {
        let settle = || self.repository.index().settle();
        std::thread::scope(|scope| {
            let cache = start_in(scope, "cache", settle);
            let confirmed = match prepared {
                Some(prepared) => self.repository.confirm_prepared(snapshot, prepared),
                None => self.repository.confirm(snapshot),
            };
            match cache {
                // A cache that was not made durable is rebuilt; the snapshot needs none.
                Ok(cache) => drop(cache.join()),
                Err(_) => settle(),
            }
            confirmed
        })
    }

    /// The look that makes the commit safe against pruners: they list roots after they revoked
    /// sessions, we look for our session and list marks and packs after we published the root.
    /// Whoever is second sees the first. What lies only in condemned packs is stored again, until a
    /// look finds nothing more to do.
    fn look_again(
        &mut self,
        options: &SnapshotOptions,
        writer: &Writer,
        snapshot: &mut Snapshot,
    ) -> Result<(), OpError> {
        for _ in 0..MAX_LOOKS {
            let Some(session) = self.session else { break };
            if !self.repository.session_exists(session)? {
                self.start_over(options, writer, snapshot)?;
                continue;
            }
            if self.nothing_moved(writer)? {
                return Ok(());
            }
            // Lists marks and then packs once more: what it says is as good as what moved us here.
            self.repository.load_index()?;
            let mut reach = Reach::new(&self.repository);
            reach.walk(&snapshot.root).map_err(pruned_away)?;
            if reach.is_safe() {
                return Ok(());
            }
            store_again(writer, reach.stranded()).map_err(pruned_away)?;
        }
        Err(kept_pruning())
    }

    /// Packs may lack their parity when somebody removed it, or after a writer slept so long that it
    /// was taken for dead. The snapshot is as good as any, but not silent about it.
    fn tell_missing_parity(&self) -> Result<(), RepositoryError> {
        let count = self.repository.packs_without_parity()?.len();
        if count > 0 {
            let message = format!(
                "{count} packs have no parity, so damage of them could not be repaired; \
                 `gabion check` names them"
            );
            let problem = Problem { subject: "parity".into(), message };
            self.repository.observer().event(Event::Problem(problem));
        }
        Ok(())
    }

    /// Whether no pack is condemned and every pack that was there or was added still is.
    fn nothing_moved(&self, writer: &Writer) -> Result<bool, OpError> {
        if !self.repository.marks()?.is_empty() || self.was_revoked {
            return Ok(false);
        }
        let present = self.repository.list_packs()?;
        let mut needed = self.packs.iter().copied().chain(writer.relied_on());
        Ok(needed.all(|pack| present.contains_key(&pack)))
    }

    /// A pruner took this process for dead. Under a new session, and a tentative root of that
    /// session, everything is looked at anew.
    fn start_over(
        &mut self,
        options: &SnapshotOptions,
        writer: &Writer,
        snapshot: &mut Snapshot,
    ) -> Result<(), OpError> {
        let old = snapshot.id;
        let session = announce(&self.repository, options)?;
        self.session = Some(session);
        writer.announce(session);
        self.was_revoked = true;
        snapshot.id = SnapshotId::random();
        let tentative = Root::Tentative { session, snapshot: Box::new(snapshot.clone()) };
        self.repository.publish_root(snapshot.id, &tentative)?;
        Ok(self.repository.remove_root(old)?)
    }

    /// Removes what only led up to the snapshot. Nothing of it is needed any more, so nothing that
    /// goes wrong here is an error.
    fn clean_up(&mut self, id: SnapshotId, earlier: &Earlier) {
        let roots = earlier.stale.iter().copied().chain(self.checkpoint.take()).chain([id]);
        let session = self.session.take().map(ObjectName::session);
        let done_with: Vec<_> = roots.map(ObjectName::root).chain(session).collect();
        let _ = self.repository.storage().delete_all(&done_with);
        let _ = self.repository.storage().sweep_abandoned();
    }
}

fn announce(
    repository: &Repository,
    options: &SnapshotOptions,
) -> Result<SessionId, RepositoryError> {
    let presence = Presence {
        host: options.host.clone(),
        now: (options.clock)(),
        identity: options.identity.clone(),
    };
    let session = presence.session("snapshot", Vec::new());
    repository.begin_session(&session)?;
    Ok(session.id)
}

fn kept_pruning() -> OpError {
    OpError::Refused(
        "other processes kept pruning what this snapshot needs; nothing was confirmed, and the \
         next run goes on from here"
            .to_owned(),
    )
}

/// Something that the snapshot took over is gone: that happens only to a process that slept so
/// long that it was taken for dead.
fn pruned_away(error: RepositoryError) -> OpError {
    match error {
        RepositoryError::MissingChunk(_) => OpError::Refused(
            "what this snapshot took over was pruned while this process was taken for dead; \
             nothing was confirmed, and the next run stores again what it needs"
                .to_owned(),
        ),
        error => error.into(),
    }
}
