//! What earlier runs know of the sources: the parent snapshot, and how far an unfinished run came.

use std::cmp::Ordering;
use std::sync::Arc;

use super::names::Names;
use super::unchanged::{RACY_NANOS, before, unchanged};
use crate::format::entry::{Content, ContentItem, EntryKind, Timestamp};
use crate::format::page::{ContentPage, EntryStat, Leaf};
use crate::format::path;
use crate::format::snapshot::{RawBytes, Root, Snapshot};
use crate::id::{ChunkId, SnapshotId};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::source::Stat;
use crate::tree::{Bound, Cursor, LeafPage, OldContent, PageReader, Taken};

/// A tree whose entries may be taken over.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub(super) root: ChunkId,
    pub(super) scan_started: Timestamp,
}

/// What a new snapshot of the same sources starts from.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The newest snapshot of the same sources.
    pub(super) parent: Option<Snapshot>,
    /// The newest complete one.
    pub(super) complete: Option<Snapshot>,
    /// The furthest checkpoint of an unfinished run over the same sources.
    pub(super) checkpoint: Option<Basis>,
    /// All checkpoints of the same sources: done with once a snapshot is confirmed.
    pub(super) stale: Vec<SnapshotId>,
}

impl Earlier {
    /// Finds the parent, which may be `named`, and the checkpoint for sources on `host`, named as
    /// in `paths`.
    pub(super) fn find(
        repository: &Repository,
        host: &str,
        paths: &[RawBytes],
        named: Option<SnapshotId>,
    ) -> Result<Self, OpError> {
        let same =
            |its_host: &str, its_paths: &[RawBytes]| its_host == host && same_set(its_paths, paths);
        let (snapshots, _) = repository.snapshots()?;
        let fits = |found: &Snapshot| {
            same(&found.host, &found.paths) && named.is_none_or(|named| found.id == named)
        };
        // A partial one knows little, and is the parent only where there is no other.
        let parent = snapshots.iter().rfind(|found| found.window.is_none() && fits(found));
        let parent = parent.or_else(|| snapshots.iter().rfind(|found| fits(found))).cloned();
        if let (Some(named), None) = (named, &parent) {
            return Err(OpError::Refused(format!(
                "snapshot {named} is none of these sources on the host {host}: its files cannot be \
                 the parent's"
            )));
        }
        let complete = |found: &&Snapshot| found.is_complete() && same(&found.host, &found.paths);
        let complete = snapshots.iter().rfind(complete).cloned();
        let mut earlier = Self { parent, complete, ..Self::default() };
        for (id, root) in repository.roots()?.0 {
            let Root::Checkpoint { root, scan_started, host, paths, .. } = root else { continue };
            if !same(&host, &paths) {
                continue;
            }
            earlier.stale.push(id);
            let scan_started = Timestamp::from(scan_started);
            if earlier.checkpoint.as_ref().is_none_or(|best| best.scan_started < scan_started) {
                earlier.checkpoint = Some(Basis { root, scan_started });
            }
        }
        Ok(earlier)
    }

    /// The trees to look into, the best first.
    pub(super) fn bases(&self) -> Vec<Basis> {
        let parent = self
            .parent
            .as_ref()
            .map(|parent| Basis { root: parent.root, scan_started: parent.scan_started.into() });
        self.checkpoint.clone().into_iter().chain(parent).collect()
    }
}

fn same_set(a: &[RawBytes], b: &[RawBytes]) -> bool {
    let sorted = |list: &[RawBytes]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup();
        list
    };
    sorted(a) == sorted(b)
}

/// What is known of a path.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// It was there, but changed since, or may have.
    Modified,
    /// It is as it was.
    Same(Arc<LeafPage>, usize),
}

/// What comes next within a folder.
pub(super) enum UpToFolder {
    /// Others than folders, which were taken.
    Taken(Taken),
    /// A folder, at this path.
    Folder(Box<[u8]>),
    /// Nothing.
    End,
}

struct Track<'r> {
    cursor: Cursor<'r>,
    racy_from: Timestamp,
}

/// Walks the earlier trees beside the scan: constant memory, whatever the size of the tree.
pub(super) struct Previous<'r> {
    tracks: Vec<Track<'r>>,
    /// Looks into the parent without regard to the order of the walk.
    finder: Option<Cursor<'r>>,
    stores_deltas: bool,
    force: bool,
    /// Reads lists of contents, where it is in doubt whether the repository still has all that it
    /// had.
    doubtful: Option<PageReader<'r>>,
    /// Files that are as they were and whose content the repository has lost, and pages of earlier
    /// trees that it has lost.
    pub(super) lost: u64,
    pub(super) lost_pages: u64,
    /// The parent's entry of the path that was asked for last, where names are watched.
    last: Option<(Arc<LeafPage>, usize)>,
    /// Hard-linked files, where not all of their names are looked at.
    names: Option<Names>,
    /// Entries of the parent that the scan did not come by.
    pub(super) removed: u64,
}

impl<'r> Previous<'r> {
    pub(super) fn new(repository: &'r Repository, bases: &[Basis], force: bool) -> Self {
        let tracks = bases.iter().map(|basis| Track {
            cursor: PageReader::new(repository).cursor(basis.root),
            racy_from: before(basis.scan_started, RACY_NANOS),
        });
        let finder = bases.last().map(|basis| PageReader::new(repository).cursor(basis.root));
        let stores_deltas = repository.config().has_delta();
        Self {
            tracks: tracks.collect(),
            finder,
            stores_deltas,
            force,
            doubtful: None,
            lost: 0,
            lost_pages: 0,
            last: None,
            names: None,
            removed: 0,
        }
    }

    /// From now on nothing is taken over whose content is not in the index.
    pub(super) fn doubt(mut self, repository: &'r Repository) -> Self {
        self.doubtful = Some(PageReader::new(repository));
        self
    }

    /// From now on hard-linked files are watched: not all of their names are looked at.
    pub(super) fn watch_names(&mut self) {
        self.names = Some(Names::default());
    }

    /// Some name of a hard-linked file that changed, or lost a name, while others of its names
    /// were not looked at.
    pub(super) fn unseen_name(&self) -> Option<&[u8]> {
        self.names.as_ref().and_then(Names::unseen)
    }

    /// The time from which on changes could bear the same time in the parent.
    pub(super) fn racy_from(&self) -> Timestamp {
        self.tracks.last().map_or_else(Timestamp::default, |track| track.racy_from)
    }

    /// What the parent has at the path that was asked for last, with its number of links.
    pub(super) fn last(&self) -> Option<(EntryStat, u32)> {
        self.last.as_ref().map(|(page, at)| (*page.leaf.stat(*at), page.leaf.links(*at)))
    }

    /// The parent's entry at `path`, wherever that is.
    pub(super) fn find(
        &mut self,
        path: &[u8],
    ) -> Result<Option<(Arc<LeafPage>, usize)>, RepositoryError> {
        let Some(finder) = &mut self.finder else { return Ok(None) };
        finder.seek(path)?;
        let found = finder.peek()?.filter(|(page, at)| page.leaf.path(*at) == path);
        Ok(found.map(|(page, at)| (Arc::clone(page), at)))
    }

    /// What the parent has in the place of a large content; nothing where that is not wanted.
    pub(super) fn old_content(
        &mut self,
        path: &[u8],
    ) -> Result<Option<Arc<OldContent>>, RepositoryError> {
        if !self.stores_deltas {
            return Ok(None);
        }
        let found = match self.find(path) {
            // Nothing depends on it.
            Err(error) if error.is_damage() => None,
            found => found?,
        };
        let old = found
            .and_then(|(page, at)| OldContent::new(page.leaf.content(at), page.leaf.stat(at).size));
        Ok(old.map(Arc::new))
    }

    /// Takes the next piece of a range of the parent that begins behind the last path.
    pub(super) fn take(&mut self, bound: Bound<'_>) -> Result<Option<Taken>, RepositoryError> {
        self.tracks.last_mut().map_or(Ok(None), |track| track.cursor.take(bound))
    }

    /// As [`Self::take`] of all in `folder`, but by entries, and only up to the next folder.
    pub(super) fn take_to_folder(&mut self, folder: &[u8]) -> Result<UpToFolder, RepositoryError> {
        let end = Ok(UpToFolder::End);
        let Some(track) = self.tracks.last_mut() else { return end };
        let Some((page, at)) = track.cursor.peek()? else { return end };
        let found = page.leaf.path(at);
        if !path::is_within(found, folder) {
            return end;
        }
        if page.leaf.stat(at).kind == EntryKind::Directory {
            return Ok(UpToFolder::Folder(found.into()));
        }
        let leaf = &page.leaf;
        let is_next = |at: &usize| {
            leaf.stat(*at).kind != EntryKind::Directory && path::is_within(leaf.path(*at), folder)
        };
        let end = (at + 1..leaf.len()).find(|at| !is_next(at)).unwrap_or(leaf.len());
        let taken = Taken::Entries(Arc::clone(page), at..end);
        track.cursor.skip_entries(end - at);
        Ok(UpToFolder::Taken(taken))
    }

    /// Goes past all that the parent has at or below `path` from here on: it is gone.
    pub(super) fn drop_within(&mut self, path: &[u8]) -> Result<(), RepositoryError> {
        let Some(track) = self.tracks.last_mut() else { return Ok(()) };
        while let Some((page, at)) = track.cursor.peek()?
            && path::is_within(page.leaf.path(at), path)
        {
            if let Some(names) = &mut self.names {
                names.gone(page, at);
            }
            self.removed += 1;
            track.cursor.skip();
        }
        Ok(())
    }

    /// What is known of `wanted`; to be asked in path order.
    pub(super) fn lookup(&mut self, wanted: &[u8], stat: &Stat) -> Result<Known, RepositoryError> {
        let mut known = Known::New;
        self.last = None;
        let last = self.tracks.len().saturating_sub(1);
        let mut lost = false;
        for (number, track) in self.tracks.iter_mut().enumerate() {
            let mut skipped = 0;
            loop {
                let (page, at) = match track.cursor.peek() {
                    Ok(Some(found)) => found,
                    Ok(None) => break,
                    // What the page told is not known any more; the new tree will have it again.
                    Err(RepositoryError::MissingChunk(_)) => {
                        self.lost_pages += 1;
                        track.cursor.skip();
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                match path::compare(page.leaf.path(at), wanted) {
                    Ordering::Less => {
                        if let Some(names) = &mut self.names {
                            names.gone(page, at);
                        }
                        skipped += 1;
                        track.cursor.skip();
                        continue;
                    }
                    Ordering::Greater => {}
                    Ordering::Equal => {
                        let mut same =
                            !self.force && unchanged(page.leaf.stat(at), stat, track.racy_from);
                        if let (true, Some(reader)) = (same, &mut self.doubtful) {
                            same = is_there(reader, &page.leaf, at)?;
                            lost |= !same;
                        }
                        if number == last && self.names.is_some() {
                            self.last = Some((Arc::clone(page), at));
                        }
                        match (&known, same) {
                            (Known::Same(..), _) => {}
                            (_, true) => known = Known::Same(Arc::clone(page), at),
                            (_, false) => known = Known::Modified,
                        }
                        track.cursor.skip();
                    }
                }
                break;
            }
            // The parent is the last track.
            if number == last {
                self.removed += skipped;
            }
        }
        self.lost += u64::from(lost && !matches!(known, Known::Same(..)));
        if let Some(names) = &mut self.names {
            names.seen(wanted, stat, matches!(known, Known::Same(..)));
        }
        Ok(known)
    }

    /// Counts what the parent has behind the last path asked for.
    pub(super) fn finish(&mut self) -> Result<(), RepositoryError> {
        if let Some(track) = self.tracks.last_mut() {
            while let Some((page, at)) = track.cursor.peek()? {
                if let Some(names) = &mut self.names {
                    names.gone(page, at);
                }
                self.removed += 1;
                track.cursor.skip();
            }
        }
        Ok(())
    }
}

/// Whether the repository still has all of an entry's content, as far as the index says.
fn is_there(reader: &mut PageReader<'_>, leaf: &Leaf, at: usize) -> Result<bool, RepositoryError> {
    let repository = reader.repository();
    let are_there = |items: &[ContentItem]| -> Result<bool, RepositoryError> {
        for item in items {
            if let ContentItem::Chunk { id, .. } = item
                && !repository.is_anywhere(id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut lists = match leaf.content(at) {
        Content::Empty | Content::Inline(_) => return Ok(true),
        Content::Items(items) => return are_there(items),
        Content::Paged { root, .. } => vec![*root],
    };
    while let Some(id) = lists.pop() {
        match reader.content_page(&id) {
            Ok(ContentPage::Items(items)) if are_there(&items)? => {}
            Ok(ContentPage::Items(_)) | Err(RepositoryError::MissingChunk(_)) => return Ok(false),
            Ok(ContentPage::Children { children, .. }) => {
                lists.extend(children.iter().map(|child| child.id));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
