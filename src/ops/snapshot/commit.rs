//! The commit: session, checkpoints, tentative root, the last look, and the confirmed snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use super::previous::Earlier;
use super::{SnapshotOptions, SnapshotSummary};
use crate::format::entry::Timestamp;
use crate::format::snapshot::{Mark, RawBytes, Root, Session, Snapshot, StreamRecord};
use crate::id::{ChunkId, PackId, SessionId, SnapshotId};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError, Writer};
use crate::storage::ObjectKind;

/// What is announced and what is to be cleaned up.
pub(super) struct Commit {
    repository: Arc<Repository>,
    session: Option<SessionId>,
    host: String,
    paths: Vec<RawBytes>,
    pub(super) scan_started: Timestamp,
    /// Packs that were there when the index was loaded: all that is taken over lies in them.
    packs: HashSet<PackId>,
    /// Packs that were condemned by then: nothing new was made to rely on them, and a pruner that
    /// has not removed them yet sees our root before it does.
    condemned: HashSet<PackId>,
    checkpoint: Option<SnapshotId>,
}

impl Commit {
    /// Announces the session; a dry run announces nothing.
    pub(super) fn begin(
        repository: &Arc<Repository>,
        options: &SnapshotOptions,
        paths: Vec<RawBytes>,
    ) -> Result<Self, RepositoryError> {
        let now = (options.clock)();
        let session = if options.dry_run {
            None
        } else {
            repository.verify_place()?;
            let id = SessionId::random();
            repository.begin_session(&Session {
                id,
                role: "snapshot".to_owned(),
                host: options.host.clone(),
                process: std::process::id(),
                started: now.into(),
            })?;
            Some(id)
        };
        Ok(Self {
            repository: Arc::clone(repository),
            session,
            host: options.host.clone(),
            paths,
            scan_started: now,
            packs: HashSet::new(),
            condemned: HashSet::new(),
            checkpoint: None,
        })
    }

    pub(super) fn paths(&self) -> &[RawBytes] {
        &self.paths
    }

    pub(super) fn remember_packs(&mut self) {
        let index = self.repository.index();
        self.packs = index.packs().map(|(id, _)| id).collect();
        self.condemned = index.condemned().collect();
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

    /// Ends the session without a snapshot. Checkpoints stay, for the next run.
    pub(super) fn abandon(&mut self) {
        if let Some(session) = self.session.take() {
            // The error that brought us here is the one to tell; a session that stays is harmless.
            let _ = self.repository.end_session(session);
        }
    }

    /// Publishes the tentative root, looks once more, and confirms.
    pub(super) fn confirm(
        &mut self,
        options: &SnapshotOptions,
        writer: &Writer,
        root: ChunkId,
        streams: Vec<StreamRecord>,
        earlier: &Earlier,
        mut summary: SnapshotSummary,
    ) -> Result<SnapshotSummary, OpError> {
        let Some(session) = self.session else { return Ok(summary) };
        let snapshot = Snapshot {
            id: SnapshotId::random(),
            root,
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
            counts: summary.counts,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let tentative = Root::Tentative { session, snapshot: Box::new(snapshot.clone()) };
        self.repository.publish_root(snapshot.id, &tentative)?;
        self.look_again(session, writer)?;
        let bytes = self.repository.confirm(&snapshot)?;
        summary.counts.stored_bytes += bytes;
        self.clean_up(session, snapshot.id, earlier);
        summary.snapshot = Some(snapshot);
        Ok(summary)
    }

    /// The look that makes the commit safe against pruners: they list roots after they revoked
    /// sessions, we list marks and packs after we published the root. Whoever is second sees the
    /// first. Anything unexpected fails the run; the next one finds all that was stored.
    fn look_again(&self, session: SessionId, writer: &Writer) -> Result<(), OpError> {
        if !self.repository.session_exists(session)? {
            return Err(RepositoryError::Revoked.into());
        }
        let condemned: HashSet<PackId> =
            self.repository.marks()?.into_iter().flat_map(|mark: Mark| mark.packs).collect();
        let listed =
            self.repository.storage().list(ObjectKind::Pack).map_err(RepositoryError::from)?;
        let present: HashSet<PackId> =
            listed.objects.into_iter().map(|(name, _)| PackId(name.id)).collect();
        let needed = self.packs.iter().copied().chain(writer.relied_on());
        let lost = needed
            .filter(|pack| {
                (condemned.contains(pack) && !self.condemned.contains(pack))
                    || !present.contains(pack)
            })
            .count();
        if lost == 0 {
            return Ok(());
        }
        Err(OpError::Refused(format!(
            "{lost} packs were removed or condemned by a prune while this snapshot was taken; \
             nothing was confirmed, and the next run stores again what it needs"
        )))
    }

    /// Removes what only led up to the snapshot. Nothing of it is needed any more, so nothing that
    /// goes wrong here is an error.
    fn clean_up(&mut self, session: SessionId, id: SnapshotId, earlier: &Earlier) {
        self.session = None;
        let roots = earlier.stale.iter().copied().chain(self.checkpoint.take()).chain([id]);
        for root in roots {
            let _ = self.repository.remove_root(root);
        }
        let _ = self.repository.end_session(session);
        let _ = self.repository.storage().sweep_abandoned();
    }
}
