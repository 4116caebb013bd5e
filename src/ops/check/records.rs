//! Records of the kinds that coordinate writers and pruners.

use super::report::Report;
use crate::format::snapshot::Root;
use crate::id::SnapshotId;
use crate::ops::OpError;
use crate::repo::{Damaged, ReadAll, RepositoryError};
use crate::storage::StorageErrorKind;

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

/// None when the kind cannot be listed: that is told where foreign objects are looked for.
fn or_none<T>(read: Result<ReadAll<T>, RepositoryError>) -> Result<ReadAll<T>, OpError> {
    match read {
        Err(RepositoryError::Storage(error)) if error.kind != StorageErrorKind::PlaceLost => {
            Ok((Vec::new(), Vec::new()))
        }
        read => Ok(read?),
    }
}
