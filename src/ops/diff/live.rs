//! Comparing a snapshot with a folder as it is now.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::live_batch::{Batch, Doubt, Found};
use super::live_side::{LiveItem, LiveSide, without_slash};
use super::{Aspect, Aspects, Change, DiffItem, DiffSummary};
use crate::event::{Event, Problem};
use crate::format::entry::{Content, Entry, EntryKind, Metadata, Timestamp};
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::ops::OpError;
use crate::ops::list::{next_within, seek_existing};
use crate::repo::Repository;
use crate::source::exclude::Excludes;
use crate::source::metadata::{OwnerNames, read_metadata};
use crate::source::{SourceError, Stat};
use crate::tree::PageReader;

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
    /// Threads that read files.
    pub threads: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self { content: true, excludes: Excludes::default(), one_file_system: false, threads: 1 }
    }
}

/// Gives every path that differs between a part of a snapshot (old) and a live folder (new) to
/// `each`, in path order. Contents are compared by chunk ids: the live file is read, the stored
/// content is not; so many files are read at a time as there are threads. The top folders are
/// compared like all others, but for one that was restored a whole snapshot into.
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
    if !mapping.is_in_place() {
        meet_top(top.as_ref(), &mut live, mapping)?;
    }
    let mut comparison = Comparison {
        repository,
        mapping,
        check_content: options.content,
        owners: OwnerNames::default(),
        links: LinkGroups::default(),
        summary: DiffSummary::default(),
    };
    let mut batch = Batch::new(repository, options.threads)?;
    let mut stored = next_within(&mut cursor, &mapping.subtree)?;
    loop {
        comparison.report(live.take_problems());
        let at_end = stored.is_none() && live.peek().is_none();
        if at_end || batch.is_full() {
            comparison.give(&mut batch, &live, each)?;
        }
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
        if let Some(found) = comparison.compare(old, new, &mut live) {
            batch.push(found);
        }
    }
}

/// Refuses what is no folder in the place of one, and goes past a live folder that stands for
/// nothing in the snapshot.
fn meet_top(
    stored: Option<&Entry>,
    live: &mut LiveSide,
    mapping: &LiveMapping,
) -> Result<(), OpError> {
    let Some(top) = live.peek().filter(|item| item.path == mapping.subtree) else { return Ok(()) };
    let wants_folder = stored.is_none_or(|stored| stored.meta.kind == EntryKind::Directory);
    if wants_folder && top.stat.kind != EntryKind::Directory {
        let place = path::display(&top.place);
        return Err(OpError::Refused(format!("{place} is not a folder")));
    }
    if stored.is_none() {
        live.take();
    }
    Ok(())
}

/// How two items differ, as far as that can be told without reading them.
enum Verdict {
    Same,
    Differs(Change),
    /// In these aspects, and perhaps in their contents.
    Doubtful(Aspects),
}

struct Comparison<'r> {
    repository: &'r Repository,
    mapping: &'r LiveMapping,
    check_content: bool,
    owners: OwnerNames,
    links: LinkGroups,
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

    /// Counts what was gathered and gives it to `each`.
    fn give(
        &mut self,
        batch: &mut Batch<'_>,
        live: &LiveSide,
        each: &mut dyn FnMut(&DiffItem) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        for told in batch.finish(live.roots().map(|roots| &**roots))? {
            match told {
                Ok(item) => {
                    self.summary.count(&item);
                    each(&item)?;
                }
                Err(error) => self.report(vec![error]),
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        old: Option<Entry>,
        new: Option<LiveItem>,
        live: &mut LiveSide,
    ) -> Option<Found> {
        let Some(item) = new else {
            let old = old.filter(|old| !self.may_be_absent(old, live));
            return old.map(|old| Found::Item(DiffItem::removed(old)));
        };
        match self.look_at(old.as_ref(), &item, live) {
            Ok((meta, verdict)) => {
                let new = Entry { path: item.path[..].into(), meta, content: Content::Empty };
                match (verdict, old) {
                    (Verdict::Same, _) | (Verdict::Doubtful(_), None) => None,
                    (Verdict::Doubtful(aspects), Some(old)) => {
                        Some(Found::Doubt(Doubt { old, new, place: item.place, aspects }))
                    }
                    (Verdict::Differs(change), old) => {
                        let path = new.path.clone();
                        Some(Found::Item(DiffItem { path, change, old, new: Some(new) }))
                    }
                }
            }
            // It went away meanwhile.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                old.map(|old| Found::Item(DiffItem::removed(old)))
            }
            Err(error) => {
                self.report(vec![error]);
                live.hide(item.path);
                None
            }
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
    ) -> Result<(Metadata, Verdict), SourceError> {
        let gone = || SourceError {
            path: crate::source::absolute(&item.place),
            action: "find",
            source: std::io::ErrorKind::NotFound.into(),
        };
        let roots = live.roots().ok_or_else(gone)?;
        let (meta, problems) = read_metadata(roots, &item.place, &item.stat, &self.owners)?;
        let Some(old) = old else {
            self.report(problems);
            return Ok((meta, Verdict::Differs(Change::Added)));
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
        let are_files = stored.kind == EntryKind::File && meta.kind == EntryKind::File;
        let other_size = aspects.contains(Aspect::Size);
        if are_files && other_size {
            aspects.insert(Aspect::Content);
        }
        if !aspects.contains(Aspect::Kind) && !self.links.fit(&stored, &meta, &item.stat) {
            aspects.insert(Aspect::Links);
        }
        let verdict = if are_files && doubtful && !other_size && meta.size > 0 {
            Verdict::Doubtful(aspects)
        } else if aspects.is_empty() {
            Verdict::Same
        } else {
            Verdict::Differs(Change::Changed(aspects))
        };
        Ok((meta, verdict))
    }
}

/// Which file it is: file system and inode number, and what tells two files with the same apart. Of
/// a live one the file system is the mounted one; of a stored one, its identity, which another file
/// system of the same snapshot may share.
type FileKey = (u64, u64, u64, [Timestamp; 2]);

/// Which stored file is which live one, for files with several hard links. A file is kept only
/// until all of its links were seen.
#[derive(Debug, Default)]
struct LinkGroups {
    live_of: HashMap<FileKey, (FileKey, u32)>,
    stored_of: HashMap<FileKey, (FileKey, u32)>,
}

impl LinkGroups {
    /// Whether a pair at one path goes with the pairs seen before.
    fn fit(&mut self, stored: &Metadata, live: &Metadata, found: &Stat) -> bool {
        if stored.kind == EntryKind::Directory || stored.links.max(live.links) < 2 {
            return true;
        }
        let key = |filesystem: u64, meta: &Metadata| {
            (filesystem, meta.inode, meta.size, [meta.mtime, meta.ctime])
        };
        let (old, new) = (key(stored.filesystem, stored), key(found.dev, live));
        let forward = pair(&mut self.live_of, old, new, stored.links);
        let back = pair(&mut self.stored_of, new, old, live.links);
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
