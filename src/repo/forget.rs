//! Removing the records of snapshots, and the trace that it leaves for other clients.

use std::collections::HashSet;

use super::{Presence, Repository, RepositoryError};
use crate::format::snapshot::Session;
use crate::id::SnapshotId;
use crate::storage::{ObjectName, StorageErrorKind};

/// Snapshots that one session forgets: its record must stay far below the longest that is read.
const FORGOTTEN_AT_ONCE: usize = 8192;
/// Forgotten snapshots that there is a trace of: the newest.
const TRACES_KEPT: usize = 4096;

impl Repository {
    /// Removes snapshots: says so, removes both copies of their records in this order, leaves a trace
    /// of it, and ends. Their data stays until it is pruned. On a full disk it is done without being
    /// said. `formerly` are ids that they had before their tags or pins were changed.
    ///
    /// # Errors
    /// When the place is lost or storage fails; what was not removed then is by the next prune.
    pub fn forget_snapshots(
        &self,
        snapshots: &[SnapshotId],
        formerly: &[SnapshotId],
        presence: &Presence,
    ) -> Result<(), RepositoryError> {
        self.remove_snapshots(snapshots, presence, |forgotten| {
            let ids: Vec<SnapshotId> = forgotten.iter().chain(formerly).copied().collect();
            self.leave_trace(&ids, presence);
        })
    }

    /// As [`Self::forget_snapshots`], of records that others replace: these say so themselves.
    ///
    /// # Errors
    /// As [`Self::forget_snapshots`].
    pub fn remove_replaced(
        &self,
        snapshots: &[SnapshotId],
        presence: &Presence,
    ) -> Result<(), RepositoryError> {
        self.remove_snapshots(snapshots, presence, |_| {})
    }

    fn remove_snapshots(
        &self,
        snapshots: &[SnapshotId],
        presence: &Presence,
        leave_trace: impl Fn(&[SnapshotId]),
    ) -> Result<(), RepositoryError> {
        self.verify_place()?;
        self.remember_forgetting(snapshots);
        for some in snapshots.chunks(FORGOTTEN_AT_ONCE) {
            let session = presence.session("forget", some.to_vec());
            match self.begin_session(&session) {
                Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NoSpace => {
                }
                result => drop(result?),
            }
            self.remove_records(some)?;
            leave_trace(some);
            self.end_session(session.id)?;
        }
        self.remember_forgotten(snapshots);
        Ok(())
    }

    /// Publishes which snapshots were forgotten, with what earlier traces say, and removes these.
    /// Nothing depends on it: without a trace, another client that confirmed the snapshots reports
    /// them as missing.
    pub fn leave_trace(&self, forgotten: &[SnapshotId], presence: &Presence) {
        let Ok((mut earlier, _)) = self.session_records() else { return };
        earlier.retain(|session| session.over);
        let mut ids: Vec<SnapshotId> = earlier.iter().flat_map(|one| one.forgets.clone()).collect();
        ids.extend(forgotten);
        let mut seen = HashSet::new();
        // The newest are kept, each once.
        ids.reverse();
        ids.retain(|id| seen.insert(*id));
        ids.truncate(TRACES_KEPT);
        ids.reverse();
        let session = presence.session("forget", ids);
        let trace = Session { over: true, process: 0, identity: None, ..session };
        if self.begin_session(&trace).is_ok() {
            for session in earlier {
                let _ = self.end_session(session.id);
            }
        }
    }

    /// Removes both copies of the records of `snapshots`, in an order that leaves no snapshot half
    /// removed in a way that could be taken for damage, as long as a session says that it forgets
    /// them. Their data stays, until it is pruned.
    ///
    /// # Errors
    /// When storage fails.
    pub fn remove_records(&self, snapshots: &[SnapshotId]) -> Result<(), RepositoryError> {
        for id in snapshots {
            self.storage.delete(ObjectName::snapshot(*id))?;
        }
        for id in snapshots {
            self.storage.delete(ObjectName::snapshot_copy(*id))?;
        }
        Ok(())
    }
}
