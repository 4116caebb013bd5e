//! What a snapshot's walk comes to.

use super::increment::SeenFolders;
use crate::format::snapshot::StreamRecord;

/// What the feeder counted.
#[derive(Debug, Clone, Default)]
pub(super) struct FeedTotals {
    pub(super) streams: Vec<StreamRecord>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) new: u64,
    pub(super) modified: u64,
    pub(super) unchanged: u64,
    pub(super) unseen: u64,
    /// Folders that were looked at, and are among what was taken over unseen.
    pub(super) passed_folders: u64,
    pub(super) removed: u64,
    pub(super) excluded: u64,
    pub(super) to_read: u64,
    pub(super) lost: u64,
    pub(super) lost_pages: u64,
    /// What the next walk need not look up.
    pub(super) seen: Option<SeenFolders>,
    /// Why everything was looked at although less was asked for.
    pub(super) full_scan_because: Option<String>,
}
