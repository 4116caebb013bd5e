//! What a snapshot's walk comes to.

use super::increment::SeenFolders;
use crate::format::snapshot::{RawBytes, Snapshot, StreamRecord};

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
    /// Not everything was looked at.
    pub(super) is_partial: bool,
    /// Where the next snapshot goes on verifying what it reuses.
    pub(super) verified_to: Option<RawBytes>,
    /// Why everything was looked at although less was asked for.
    pub(super) full_scan_because: Option<String>,
}

/// A stream that the parent has, too, is neither new nor gone, though no walk comes by it.
pub(super) fn count_streams(totals: &mut FeedTotals, parent: Option<&Snapshot>, dry_run: bool) {
    let names = parent.into_iter().flat_map(|parent| &parent.streams).map(|stream| &stream.name);
    let ran = |name: &&String| totals.streams.iter().any(|stream| stream.name == **name);
    let again = names.filter(|name| dry_run || ran(name)).count() as u64;
    totals.removed = totals.removed.saturating_sub(again);
    if !dry_run {
        totals.new = totals.new.saturating_sub(again);
        totals.modified += again;
    }
}
