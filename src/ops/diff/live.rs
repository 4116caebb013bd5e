//! Comparing a snapshot with a folder as it is now.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::live_side::{LiveItem, LiveSide, without_slash};
use super::{Aspect, Aspects, Change, DiffItem, DiffSummary, live_content};
use crate::event::{Event, Problem};
use crate::format::entry::{Content, Entry, EntryKind, Metadata};
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::ops::OpError;
use crate::ops::list::{next_within, seek_existing};
use crate::repo::{Repository, RepositoryError};
use crate::source::SourceError;
use crate::source::exclude::Excludes;
use crate::source::metadata::{OwnerNames, read_metadata};
use crate::tree::{Cursor, PageReader};

/// Which part of a snapshot is compared with which folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMapping {
    /// The path in the snapshot; empty for all of it.
    pub subtree: Vec<u8>,
    /// Where it should lie: an absolute, lexically clean path.
    pub live: PathBuf,
}

impl LiveMapping {
    /// What `SNAP[:PATH]` and a live path mean together. A path that was said is compared with
    /// the live one. Without one, the live path means itself where the snapshot holds it
    /// (`holds_live`); else all of the snapshot is compared with what was restored there.
    pub fn choose(path: Option<&[u8]>, live: &Path, holds_live: bool) -> Self {
        let subtree = match path {
            Some(path) => path.to_vec(),
            None if holds_live => without_slash(live).to_vec(),
            None => Vec::new(),
        };
        Self { subtree, live: live.to_owned() }
    }

    /// As [`Self::choose`], with a look into the snapshot.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn resolve(
        repository: &Repository,
        snapshot: &Snapshot,
        path: Option<&[u8]>,
        live: &Path,
    ) -> Result<Self, OpError> {
        let mut cursor = PageReader::new(repository).cursor(snapshot.root);
        let holds_live = match seek_existing(&mut cursor, snapshot.id, without_slash(live)) {
            Ok(_) => true,
            Err(OpError::NoSuchPath { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Self::choose(path, live, holds_live))
    }

    /// Whether the live folder is where the snapshot took it.
    pub(super) fn is_in_place(&self) -> bool {
        self.subtree == without_slash(&self.live)
    }
}

/// How to compare with a live folder.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Read every file of the same size. Else files of the same size and mtime are taken for
    /// unchanged.
    pub content: bool,
    /// What was left out of the snapshot and shall not count as added.
    pub excludes: Excludes,
    /// Do not look into other file systems.
    pub one_file_system: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self { content: true, excludes: Excludes::default(), one_file_system: false }
    }
}

/// Gives every path that differs between a part of a snapshot (old) and a live folder (new) to
/// `each`, in path order. Contents are compared by chunk ids: the live file is read, the stored
/// content is not. The top folders themselves are compared only where the live one is the source.
///
/// Sockets that are gone are no difference, as nothing can bring them back; nor are streams where
/// the sources themselves are compared. Live items that cannot be read are problems, reported and
/// counted, and not differences.
///
/// # Errors
/// `NoSuchPath`; a live path that is not there or not absolute and clean; a page that is missing
/// or damaged; what `each` fails with.
pub fn diff_live(
    repository: &Repository,
    snapshot: &Snapshot,
    mapping: &LiveMapping,
    options: &LiveOptions,
    each: &mut dyn FnMut(&DiffItem) -> Result<(), OpError>,
) -> Result<DiffSummary, OpError> {
    let mut cursor = PageReader::new(repository).cursor(snapshot.root);
    let top = seek_existing(&mut cursor, snapshot.id, &mapping.subtree)?;
    let mut live = LiveSide::start(snapshot, mapping, options)?;
    let top_is_folder = top.is_none_or(|top| top.meta.kind == EntryKind::Directory);
    if top_is_folder && !mapping.is_in_place() {
        pass_tops(&mut cursor, &mut live, mapping)?;
    }
    let mut comparison = Comparison {
        repository,
        mapping,
        check_content: options.content,
        pages: PageReader::new(repository),
        owners: OwnerNames::default(),
        links: LinkGroups::default(),
        buffer: Vec::new(),
        summary: DiffSummary::default(),
    };
    let mut stored = next_within(&mut cursor, &mapping.subtree)?;
    loop {
        comparison.report(live.take_problems());
        let order = match (&stored, live.peek()) {
            (None, None) => return Ok(comparison.summary),
            (Some(stored), Some(live)) => path::compare(&stored.path, &live.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let old = if order.is_le() { stored.take() } else { None };
        let new = if order.is_ge() { live.take() } else { None };
        if old.is_some() {
            stored = next_within(&mut cursor, &mapping.subtree)?;
        }
        if let Some(item) = comparison.compare(old, new, &mut live)? {
            comparison.summary.count(&item);
            each(&item)?;
        }
    }
}

/// Goes past two top folders of different places: they are not each other's copies.
fn pass_tops(
    cursor: &mut Cursor<'_>,
    live: &mut LiveSide,
    mapping: &LiveMapping,
) -> Result<(), OpError> {
    if let Some(top) = live.peek().filter(|item| item.path == mapping.subtree) {
        if top.stat.kind != EntryKind::Directory {
            let place = path::display(&top.place);
            return Err(OpError::Refused(format!("{place} is not a folder")));
        }
        live.take();
    }
    let at_top = cursor.peek()?.is_some_and(|(page, at)| page.leaf.path(at) == mapping.subtree);
    if at_top {
        cursor.skip();
    }
    Ok(())
}

/// Why a live item could not be compared.
enum Unread {
    Source(SourceError),
    Repository(RepositoryError),
}

struct Comparison<'r> {
    repository: &'r Repository,
    mapping: &'r LiveMapping,
    check_content: bool,
    pages: PageReader<'r>,
    owners: OwnerNames,
    links: LinkGroups,
    buffer: Vec<u8>,
    summary: DiffSummary,
}

impl Comparison<'_> {
    fn report(&mut self, problems: Vec<SourceError>) {
        for problem in problems {
            self.summary.problems += 1;
            let message = format!("cannot {}: {}", problem.action, problem.source);
            let problem = Problem { subject: problem.path, message };
            self.repository.observer().event(Event::Problem(problem));
        }
    }

    fn compare(
        &mut self,
        old: Option<Entry>,
        new: Option<LiveItem>,
        live: &mut LiveSide,
    ) -> Result<Option<DiffItem>, RepositoryError> {
        let Some(item) = new else {
            return Ok(old.filter(|old| !self.may_be_absent(old, live)).map(removed));
        };
        match self.look_at(old.as_ref(), &item, live) {
            Ok((meta, change)) => Ok(change.map(|change| {
                let new = Entry { path: item.path[..].into(), meta, content: Content::Empty };
                DiffItem { path: new.path.clone(), change, old, new: Some(new) }
            })),
            // It went away meanwhile.
            Err(Unread::Source(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                Ok(old.map(removed))
            }
            Err(Unread::Source(error)) => {
                self.report(vec![error]);
                live.hide(item.path);
                Ok(None)
            }
            Err(Unread::Repository(error)) => Err(error),
        }
    }

    fn may_be_absent(&self, old: &Entry, live: &mut LiveSide) -> bool {
        match old.meta.kind {
            EntryKind::Socket => true,
            EntryKind::Stream if self.mapping.is_in_place() => true,
            _ => live.is_hidden(&old.path),
        }
    }

    /// The metadata of a live item, and how it differs from its entry if it does.
    fn look_at(
        &mut self,
        old: Option<&Entry>,
        item: &LiveItem,
        live: &LiveSide,
    ) -> Result<(Metadata, Option<Change>), Unread> {
        let gone = || SourceError {
            path: crate::source::absolute(&item.place),
            action: "find",
            source: std::io::ErrorKind::NotFound.into(),
        };
        let roots = live.roots().ok_or_else(|| Unread::Source(gone()))?;
        let read = read_metadata(roots, &item.place, &item.stat, &self.owners);
        let (meta, problems) = read.map_err(Unread::Source)?;
        let Some(old) = old else {
            self.report(problems);
            return Ok((meta, Some(Change::Added)));
        };
        let mut stored = old.meta.clone();
        if stored.kind == EntryKind::Stream {
            // That is how it is restored.
            stored.kind = EntryKind::File;
        }
        let mut aspects = Aspects::of_metadata(&stored, &meta);
        if !problems.is_empty() {
            // The attributes that could be read are not all there are.
            aspects.remove(Aspect::Xattrs);
            self.report(problems);
        }
        let doubtful = self.check_content || aspects.contains(Aspect::Mtime);
        if stored.kind == EntryKind::File && meta.kind == EntryKind::File {
            if aspects.contains(Aspect::Size) {
                aspects.insert(Aspect::Content);
            } else if doubtful && meta.size > 0 {
                let file = roots.open_file(&item.place).map_err(Unread::Source)?;
                if !self.has_content(old, &item.place, &File::from(file))? {
                    aspects.insert(Aspect::Content);
                }
            }
        }
        if !aspects.contains(Aspect::Kind) && !self.links.fit(&stored, &meta) {
            aspects.insert(Aspect::Links);
        }
        Ok((meta, (!aspects.is_empty()).then_some(Change::Changed(aspects))))
    }

    fn has_content(&mut self, old: &Entry, place: &[u8], file: &File) -> Result<bool, Unread> {
        let (size, buffer) = (old.meta.size, &mut self.buffer);
        live_content::has_content(&mut self.pages, &old.content, size, file, buffer)
            .map_err(Unread::Repository)?
            .map_err(|error| Unread::Source(SourceError::at(place, "read", error)))
    }
}

fn removed(old: Entry) -> DiffItem {
    DiffItem { path: old.path.clone(), change: Change::Removed, old: Some(old), new: None }
}

/// File system and inode.
type FileKey = (u64, u64);

/// Which stored file is which live one, for files with several hard links. A file is kept only
/// until all of its links were seen.
#[derive(Debug, Default)]
struct LinkGroups {
    live_of: HashMap<FileKey, (FileKey, u32)>,
    stored_of: HashMap<FileKey, (FileKey, u32)>,
}

impl LinkGroups {
    /// Whether a pair at one path goes with the pairs seen before.
    fn fit(&mut self, stored: &Metadata, live: &Metadata) -> bool {
        if stored.kind == EntryKind::Directory || stored.links.max(live.links) < 2 {
            return true;
        }
        let key = |meta: &Metadata| (meta.filesystem, meta.inode);
        let forward = pair(&mut self.live_of, key(stored), key(live), stored.links);
        let back = pair(&mut self.stored_of, key(live), key(stored), live.links);
        forward && back
    }
}

fn pair(
    map: &mut HashMap<FileKey, (FileKey, u32)>,
    from: FileKey,
    to: FileKey,
    links: u32,
) -> bool {
    let (known, left) = map.entry(from).or_insert((to, links));
    *left = left.saturating_sub(1);
    let (fits, seen_all) = (*known == to, *left == 0);
    if seen_all {
        map.remove(&from);
    }
    fits
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
