//! Listing what a snapshot holds: a folder's children, or everything below it.

use std::sync::Arc;

use super::OpError;
use crate::format::entry::{Entry, EntryKind};
use crate::format::page::EntryRef;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::repo::{Repository, RepositoryError};
use crate::tree::{Cursor, Node, PageReader, with_pages_ahead};

/// What was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListSummary {
    /// Entries.
    pub entries: u64,
    /// Plain bytes of their contents together.
    pub bytes: u64,
}

/// Gives the entries of the folder at `path` to `each`, in path order: its children, or with
/// `recursive` everything below it; never the folder itself. The empty path is the top. Anything
/// but a folder gives its one entry.
///
/// Of a child folder no page is read that holds only what is below it.
///
/// # Errors
/// `NoSuchPath`; a page that is missing or damaged; what `each` fails with.
pub fn list(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    recursive: bool,
    each: Each<'_>,
) -> Result<ListSummary, OpError> {
    let mut list = |reader: PageReader<'_>| {
        let mut listing = Listing { cursor: reader.cursor(snapshot.root), snapshot: snapshot.id };
        listing.run(path, recursive, each)
    };
    match recursive {
        true => with_pages_ahead(repository, list),
        false => list(PageReader::new(repository)),
    }
}

/// Takes the entries.
type Each<'e> = &'e mut dyn FnMut(&EntryRef<'_>) -> Result<(), OpError>;

struct Listing<'r> {
    cursor: Cursor<'r>,
    snapshot: SnapshotId,
}

impl Listing<'_> {
    fn run(
        &mut self,
        path: &[u8],
        recursive: bool,
        each: Each<'_>,
    ) -> Result<ListSummary, OpError> {
        let mut summary = ListSummary::default();
        let mut give = |entry: &EntryRef<'_>| {
            summary.entries += 1;
            summary.bytes = summary.bytes.saturating_add(entry.size());
            each(entry)
        };
        if let Some(top) = seek_existing(&mut self.cursor, self.snapshot, path)? {
            if top.meta.kind != EntryKind::Directory {
                give(&(&top).into())?;
                return Ok(summary);
            }
            self.cursor.skip();
        }
        let mut last: Box<[u8]> = path.into();
        while let Some((page, begin)) = self.cursor.peek()? {
            let page = Arc::clone(page);
            let leaf = &page.leaf;
            // Within a page the order has been looked at.
            if path::compare(leaf.path(begin), &last).is_le() {
                return Err(out_of_order(self.snapshot).into());
            }
            let (mut at, mut entered) = (begin, false);
            while at < leaf.len() && path::is_within(leaf.path(at), path) && !entered {
                let entry = leaf.entry_ref(at);
                give(&entry)?;
                entered = !recursive && entry.kind() == EntryKind::Directory;
                at += 1;
            }
            if at == begin {
                break;
            }
            last = leaf.path(at - 1).into();
            self.cursor.skip_entries(at - begin);
            if entered {
                skip_subtree(&mut self.cursor, &last)?;
            }
        }
        Ok(summary)
    }
}

/// The one entry at `path`.
///
/// # Errors
/// `NoSuchPath`; a page that is missing or damaged.
pub fn find_entry(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<Entry, OpError> {
    let mut cursor = PageReader::new(repository).cursor(snapshot.root);
    cursor.find(path)?.ok_or_else(|| no_such_path(snapshot.id, path))
}

/// Goes to `path`: the entry there, or nothing when it is only the beginning of other paths (the
/// top always is).
pub(super) fn seek_existing(
    cursor: &mut Cursor<'_>,
    snapshot: SnapshotId,
    path: &[u8],
) -> Result<Option<Entry>, OpError> {
    cursor.seek(path)?;
    match cursor.peek()? {
        Some((page, at)) if page.leaf.path(at) == path => Ok(Some(page.leaf.entry(at))),
        Some((page, at)) if path::is_within(page.leaf.path(at), path) => Ok(None),
        None if path.is_empty() => Ok(None),
        _ => Err(no_such_path(snapshot, path)),
    }
}

/// Takes the entry at the position if it lies within `folder`.
pub(super) fn next_within(
    cursor: &mut Cursor<'_>,
    folder: &[u8],
) -> Result<Option<Entry>, RepositoryError> {
    let found = cursor.peek()?.filter(|(page, at)| path::is_within(page.leaf.path(*at), folder));
    let entry = found.map(|(page, at)| page.leaf.entry(at));
    if entry.is_some() {
        cursor.skip();
    }
    Ok(entry)
}

/// Goes past everything below `folder`, from a position directly behind the folder's own entry.
fn skip_subtree(cursor: &mut Cursor<'_>, folder: &[u8]) -> Result<(), RepositoryError> {
    // The least path behind the subtree: a slash ranks as 0, and no name holds a byte less than 1.
    let target = [folder, &[1]].concat();
    loop {
        let (steps, is_there) = match cursor.node() {
            None => return Ok(()),
            Some(Node::Page { page, .. }) => {
                if path::compare(&page.first_path, &target).is_lt() {
                    return cursor.seek(&target);
                }
                return Ok(());
            }
            Some(Node::Entry { page, at }) => {
                let bound = page.leaf.lower_bound(&target);
                (bound.saturating_sub(at), bound < page.leaf.len())
            }
        };
        (0..steps).for_each(|_| cursor.skip());
        if is_there || steps == 0 {
            return Ok(());
        }
    }
}

pub(super) fn no_such_path(snapshot: SnapshotId, path: &[u8]) -> OpError {
    OpError::NoSuchPath { snapshot: snapshot.to_string(), path: path::display(path) }
}

/// Only a forged tree gets there; reading on could go round in circles.
fn out_of_order(snapshot: SnapshotId) -> RepositoryError {
    RepositoryError::Damaged {
        object: format!("the tree of snapshot {snapshot}"),
        reason: "its entries are out of order".to_owned(),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
