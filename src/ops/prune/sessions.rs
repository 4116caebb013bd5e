//! Whose presence is announced, and who of them is dead.

use super::Prune;
use crate::format::snapshot::{Root, Session};
use crate::id::SessionId;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

impl Prune<'_> {
    /// All sessions that are announced, the ones that cannot be read too.
    pub(super) fn all_sessions(&self) -> Result<Vec<SessionId>, OpError> {
        let listing = self.repository.storage().list(ObjectKind::Session);
        let objects = listing.map_err(RepositoryError::from)?.objects;
        Ok(objects.into_iter().map(|(name, _)| SessionId(name.id)).collect())
    }

    /// The sessions that may confirm a snapshot. One that cannot be read may be such.
    pub(super) fn writers(&self) -> Result<Vec<SessionId>, OpError> {
        let (sessions, damaged) = self.repository.sessions()?;
        let writers = sessions.into_iter().filter(Session::writes).map(|session| session.id);
        let unknown = damaged.into_iter().map(|damaged| SessionId(damaged.object.id));
        Ok(writers.chain(unknown).filter(|id| *id != self.session).collect())
    }

    /// Ends the sessions whose processes are certainly dead, or did not move for very long, and
    /// what they left unfinished. Returns how many there were.
    pub(super) fn end_dead_sessions(&self) -> Result<u64, OpError> {
        let (sessions, damaged) = self.repository.sessions()?;
        let mut others: Vec<(SessionId, Option<Session>)> = sessions
            .into_iter()
            .map(|session| (session.id, Some(session)))
            .chain(damaged.into_iter().map(|damaged| (SessionId(damaged.object.id), None)))
            .collect();
        others.retain(|(id, _)| *id != self.session);
        let still = self.watch(others.iter().map(|(id, _)| *id))?;
        let mut ended = 0;
        for (id, session) in others {
            let dead = session.as_ref().is_some_and(self.options.has_ended);
            if dead || still.contains(&id) {
                if let Some(session) = &session {
                    // Whoever forgets has said so; that is finished for him.
                    self.repository.remove_records(&session.forgets)?;
                    if !session.forgets.is_empty() {
                        self.repository.leave_trace(&session.forgets, &self.options.presence());
                    }
                }
                if dead || self.options.drop_unfinished {
                    self.drop_tentative_roots(id)?;
                }
                self.touch();
                self.repository.end_session(id)?;
                ended += 1;
            }
        }
        self.give_up_orphans()?;
        self.sweep_given_up()?;
        self.drop_outdated_checkpoints()?;
        Ok(ended)
    }

    /// Gives up what sessions that are over have announced and not confirmed. Their owners may only
    /// sleep, directly before they confirm it: so its name is taken first, and who wakes up finds
    /// that and looks again. Only then need nothing of it be there any more.
    fn give_up_orphans(&self) -> Result<(), OpError> {
        let (roots, _) = self.repository.roots()?;
        // After the roots, which their owners publish while they are announced.
        let announced = self.all_sessions()?;
        for (id, root) in roots {
            let Root::Tentative { session, .. } = root else { continue };
            if announced.contains(&session) {
                continue;
            }
            match self.repository.give_up(id) {
                // A full disk is no reason not to prune; the next run does it.
                Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NoSpace => {
                    continue;
                }
                result => result?,
            }
            self.touch();
            self.repository.remove_root(id)?;
        }
        Ok(())
    }

    /// Removes what lies beside names that were given up; and these, too, when nobody sleeps.
    fn sweep_given_up(&self) -> Result<(), OpError> {
        for id in self.repository.snapshot_records(false)?.given_up {
            self.repository.withdraw(id)?;
            if self.options.drop_unfinished {
                self.delete(ObjectName::snapshot(id))?;
            }
        }
        Ok(())
    }

    /// Removes the tentative roots of a session whose process is certainly dead.
    fn drop_tentative_roots(&self, dead: SessionId) -> Result<(), OpError> {
        let (confirmed, _) = self.repository.snapshots()?;
        for (id, root) in self.repository.roots()?.0 {
            if matches!(&root, Root::Tentative { session, .. } if *session == dead) {
                if !confirmed.iter().any(|snapshot| snapshot.id == id) {
                    // The record itself was never published.
                    self.delete(ObjectName::snapshot_copy(id))?;
                }
                self.repository.remove_root(id)?;
            }
        }
        Ok(())
    }

    /// A checkpoint is of use until the same sources have a later snapshot.
    fn drop_outdated_checkpoints(&self) -> Result<(), OpError> {
        let (roots, _) = self.repository.roots()?;
        let sessions = self.all_sessions()?;
        let (confirmed, _) = self.repository.snapshots()?;
        for (id, root) in roots {
            let Root::Checkpoint { session, scan_started, host, paths, .. } = root else {
                continue;
            };
            let later = confirmed.iter().any(|snapshot| {
                snapshot.host == host
                    && snapshot.paths == paths
                    && snapshot.scan_started >= scan_started
            });
            if !sessions.contains(&session) && (later || self.options.drop_unfinished) {
                self.repository.remove_root(id)?;
            }
        }
        Ok(())
    }
}
