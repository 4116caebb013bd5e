//! What differs between two snapshots, or between a snapshot and a folder as it is now.

mod aspects;
mod live;
mod live_batch;
mod live_content;
mod live_side;

pub use aspects::{Aspect, Aspects};
pub use live::{LiveMapping, LiveOptions, diff_live};

use super::OpError;
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem, Entry};
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::repo::{Repository, RepositoryError};
use crate::tree::{self, Cursor, Diff, PageReader};

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it, but not alike in these aspects, of which there is at least one.
    Changed(Aspects),
}

/// A path that is not alike on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffItem {
    /// The path in the snapshot (where a live item would be in it).
    pub path: Box<[u8]>,
    /// How it differs.
    pub change: Change,
    /// As the old side has it.
    pub old: Option<Entry>,
    /// As the new side has it. The content of a live item is not filled in.
    pub new: Option<Entry>,
}

impl DiffItem {
    /// Something that only the old side has.
    fn removed(old: Entry) -> Self {
        Self { path: old.path.clone(), change: Change::Removed, old: Some(old), new: None }
    }
}

/// What differs, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffSummary {
    /// Entries only the new side has.
    pub added: u64,
    /// Entries only the old side has.
    pub removed: u64,
    /// Entries that both have, but not alike.
    pub changed: u64,
    /// Plain bytes of the added entries and the new forms of those with changed content.
    pub added_bytes: u64,
    /// Plain bytes of the removed entries and the old forms of those with changed content.
    pub removed_bytes: u64,
    /// Live items that could not be read; each was reported as a problem.
    pub problems: u64,
}

impl DiffSummary {
    /// Whether nothing differs and everything could be compared.
    pub fn is_clean(&self) -> bool {
        self.added + self.removed + self.changed + self.problems == 0
    }

    fn count(&mut self, item: &DiffItem) {
        let counter = match item.change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Changed(_) => &mut self.changed,
        };
        *counter += 1;
        let same_bytes = |aspects: Aspects| {
            ![Aspect::Kind, Aspect::Content, Aspect::Size].iter().any(|&a| aspects.contains(a))
        };
        if matches!(item.change, Change::Changed(aspects) if same_bytes(aspects)) {
            return;
        }
        let size = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.meta.size);
        self.added_bytes = self.added_bytes.saturating_add(size(&item.new));
        self.removed_bytes = self.removed_bytes.saturating_add(size(&item.old));
    }
}

/// Gives every path that differs between two snapshots to `each`, in path order; pages that both
/// share are never read. With `path`, only what is at and below it. Differences that nobody could
/// see after a restore (inode, time of the last metadata change) are none.
///
/// # Errors
/// `NoSuchPath` when neither snapshot holds `path`; a page that is missing or damaged; what `each`
/// fails with.
pub fn diff_snapshots(
    repository: &Repository,
    old: &Snapshot,
    new: &Snapshot,
    path: Option<&[u8]>,
    each: &mut dyn FnMut(&DiffItem) -> Result<(), OpError>,
) -> Result<DiffSummary, OpError> {
    let within = path.unwrap_or_default();
    let mut cursors = Vec::with_capacity(2);
    let mut exists = within.is_empty();
    for root in [old.root, new.root] {
        let mut cursor = PageReader::new(repository).cursor(root);
        if !within.is_empty() {
            cursor.seek(within)?;
            exists |= is_at(&mut cursor, within)?;
        }
        cursors.push(cursor);
    }
    if !exists {
        return Err(super::list::no_such_path(new.id, within));
    }
    let (Some(new_cursor), Some(old_cursor)) = (cursors.pop(), cursors.pop()) else {
        return Ok(DiffSummary::default());
    };
    let mut diff = Diff::new(old_cursor, new_cursor);
    let mut summary = DiffSummary::default();
    while let Some(change) = diff.next_change()? {
        let Some(item) = visible(repository, change) else { continue };
        if !path::is_within(&item.path, within) {
            break;
        }
        summary.count(&item);
        each(&item)?;
    }
    Ok(summary)
}

fn is_at(cursor: &mut Cursor<'_>, within: &[u8]) -> Result<bool, RepositoryError> {
    Ok(cursor.peek()?.is_some_and(|(page, at)| path::is_within(page.leaf.path(at), within)))
}

/// The change as users see it; nothing when they would see none.
fn visible(repository: &Repository, change: tree::Change) -> Option<DiffItem> {
    Some(match change {
        tree::Change::Added(entry) => DiffItem {
            path: entry.path.clone(),
            change: Change::Added,
            old: None,
            new: Some(entry),
        },
        tree::Change::Removed(entry) => DiffItem {
            path: entry.path.clone(),
            change: Change::Removed,
            old: Some(entry),
            new: None,
        },
        tree::Change::Changed { old, new } => {
            let mut aspects = Aspects::of_metadata(&old.meta, &new.meta);
            if !aspects.contains(Aspect::Kind) {
                if aspects::counts_links(&old.meta, &new.meta) {
                    aspects.insert(Aspect::Links);
                }
                if !same_content(repository, &old.content, &new.content) {
                    aspects.insert(Aspect::Content);
                }
            }
            if aspects.is_empty() {
                return None;
            }
            DiffItem {
                path: new.path.clone(),
                change: Change::Changed(aspects),
                old: Some(*old),
                new: Some(*new),
            }
        }
    })
}

/// Whether two contents are the same bytes, as far as their lists tell.
fn same_content(repository: &Repository, old: &Content, new: &Content) -> bool {
    match (old, new) {
        (Content::Inline(bytes), Content::Items(items))
        | (Content::Items(items), Content::Inline(bytes)) => {
            let id = |bytes: &[u8]| repository.keys().chunk_id(ChunkKind::Content, bytes);
            matches!(items[..], [ContentItem::Chunk { id: only, .. }] if only == id(bytes))
        }
        _ => old == new,
    }
}

#[cfg(test)]
mod tests;
