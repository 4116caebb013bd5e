//! Records of the kinds that coordinate writers and pruners.

use super::report::Report;
use crate::format::snapshot::{Root, Session};
use crate::id::{PackId, SessionId, SnapshotId};
use crate::ops::OpError;
use crate::repo::{Damaged, ReadAll, RepositoryError};
use crate::storage::{ObjectKind, StorageErrorKind};

/// The roots that are not confirmed snapshots.
pub(super) fn roots(report: &Report<'_>) -> Result<ReadAll<(SnapshotId, Root)>, OpError> {
    or_none(report.repository.roots())
}

/// The sessions that cannot be read.
pub(super) fn damaged_sessions(report: &Report<'_>) -> Result<Vec<Damaged>, OpError> {
    Ok(or_none(report.repository.sessions())?.1)
}

/// The marks that cannot be read.
pub(super) fn damaged_marks(report: &Report<'_>) -> Result<Vec<Damaged>, OpError> {
    Ok(or_none(report.repository.readable_marks())?.1)
}

/// The sessions that are announced, as far as they explain what is out of the ordinary for a while.
pub(super) struct AtWork {
    sessions: Vec<SessionId>,
    /// Whether somebody may be at work who deletes packs and replaces segments.
    pruning: bool,
}

impl AtWork {
    /// Whether one of them explains that `pack` is in no segment yet, or that packs come and go.
    pub(super) fn explain(&self, pack: Option<&PackId>) -> bool {
        let own = |pack: &PackId| self.sessions.iter().any(|id| pack.is_of_session(*id));
        self.pruning || pack.is_some_and(own)
    }
}

/// Who is at work; nothing when that cannot be listed.
pub(super) fn at_work(report: &Report<'_>) -> Result<Option<AtWork>, OpError> {
    if report.list(ObjectKind::Session)?.is_none() {
        return Ok(None);
    }
    let (sessions, damaged) = or_none(report.repository.sessions())?;
    // One that cannot be read may be anybody's.
    let only_adds = |session: &Session| matches!(&*session.role, "snapshot" | "tag" | "forget");
    let pruning = !damaged.is_empty() || !sessions.iter().all(only_adds);
    Ok(Some(AtWork { sessions: sessions.into_iter().map(|session| session.id).collect(), pruning }))
}

/// None when the kind cannot be listed: that is told where foreign objects are looked for.
fn or_none<T>(read: Result<ReadAll<T>, RepositoryError>) -> Result<ReadAll<T>, OpError> {
    match read {
        Err(RepositoryError::Storage(error)) if error.kind != StorageErrorKind::PlaceLost => {
            Ok((Vec::new(), Vec::new()))
        }
        read => Ok(read?),
    }
}
