//! Whose presence is announced, and who of them is dead.

use super::Prune;
use crate::format::snapshot::{Root, Session};
use crate::id::SessionId;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::{ObjectKind, ObjectName};

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
                }
                if dead || self.options.drop_unfinished {
                    self.drop_tentative_roots(|session| *session == id)?;
                }
                self.touch();
                self.repository.end_session(id)?;
                ended += 1;
            }
        }
        if self.options.drop_unfinished {
            // Sessions that were given up before left their roots.
            let announced = self.all_sessions()?;
            self.drop_tentative_roots(|session| !announced.contains(session))?;
        }
        self.drop_outdated_checkpoints()?;
        Ok(ended)
    }

    /// Removes the tentative roots of sessions whose processes are certainly dead. That of a process
    /// that only sleeps must stay: it may be about to confirm it, and then all of it must be there.
    fn drop_tentative_roots(&self, is_dead: impl Fn(&SessionId) -> bool) -> Result<(), OpError> {
        let (confirmed, _) = self.repository.snapshots()?;
        for (id, root) in self.repository.roots()?.0 {
            if matches!(&root, Root::Tentative { session, .. } if is_dead(session)) {
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
        let sessions = self.all_sessions()?;
        let (confirmed, _) = self.repository.snapshots()?;
        for (id, root) in self.repository.roots()?.0 {
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
