//! What a snapshot's walk comes to.

use std::sync::atomic::Ordering;

use super::SnapshotSummary;
use super::increment::SeenFolders;
use super::pipeline::Shared;
use super::previous::Earlier;
use crate::format::snapshot::{RawBytes, Snapshot, SnapshotCounts, StreamRecord};
use crate::repo::{PackClass, Writer};
use crate::tree::TreeTotals;

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

/// What came of a snapshot, or would come of it.
pub(super) fn summarise(
    shared: &Shared,
    writer: &Writer,
    tree: Option<TreeTotals>,
    fed: &FeedTotals,
    earlier: &Earlier,
) -> SnapshotSummary {
    let totals = writer.totals();
    let counts = SnapshotCounts {
        entries: tree.map_or(fed.entries, |tree| tree.entries),
        bytes: tree.map_or(fed.bytes, |tree| tree.bytes),
        changed_entries: fed.new + fed.modified,
        read_bytes: match tree {
            Some(_) => shared.read_bytes.load(Ordering::Relaxed),
            None => fed.to_read,
        },
        new_bytes: totals.plain_bytes[PackClass::Content as usize],
        stored_bytes: totals.repository_bytes,
    };
    SnapshotSummary {
        snapshot: None,
        counts,
        new_entries: fed.new,
        modified_entries: fed.modified,
        unchanged_entries: fed.unchanged,
        removed_entries: fed.removed,
        unseen_entries: fed.unseen,
        full_scan_because: fed.full_scan_because.clone(),
        lost_entries: fed.lost,
        lost_pages: fed.lost_pages,
        excluded: fed.excluded,
        problems: shared.problems.load(Ordering::Relaxed),
        resumed: earlier.checkpoint.is_some(),
    }
}
