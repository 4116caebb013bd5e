//! The walk of a restore: decides what happens to each entry and gathers windows of work.

use std::collections::HashSet;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::Restore;
use super::delete::Deleter;
use super::filter::Filter;
use super::folders::Folder;
use super::large::LargeFile;
use super::links::Links;
use super::names::{Alike, NamesSeen};
use super::steps::{SmallContent, Step};
use super::window::Window;
use crate::crypto::ChunkKind;
use crate::event::Event;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata};
use crate::format::path;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::ops::gather::Wanted;
use crate::repo::RepositoryError;
use crate::repo::index::Location;
use crate::target::Put;
use crate::tree::{ContentItems, Cursor, PageReader};

/// Longest file that is written at once.
const SMALL: u64 = 1 << 20;
/// Steps of a range.
const RANGE: usize = 512;

pub(super) struct Walk<'a, 'r> {
    pub(super) restore: &'a Restore<'a>,
    cursor: Cursor<'r>,
    /// Reads content pages while the cursor stands in its own.
    pages: PageReader<'r>,
    filter: Filter,
    pub(super) folders: Vec<Folder>,
    pub(super) window: Window,
    /// Takes full windows.
    windows: SyncSender<Window>,
    /// Counts the ranges of all windows.
    pub(super) range: u64,
    pub(super) links: Links,
    /// What hashes names, for [`NamesSeen`].
    hashing: RandomState,
    names_seen: NamesSeen,
    top_names: HashSet<Box<[u8]>>,
    pub(super) deleter: Option<Deleter<'a>>,
}

impl<'a> Walk<'a, 'a> {
    pub(super) fn new(
        restore: &'a Restore<'a>,
        windows: SyncSender<Window>,
    ) -> Result<Self, OpError> {
        let options = restore.options;
        let cursor = PageReader::new(restore.repository).cursor(options.snapshot.root);
        Ok(Self {
            restore,
            cursor,
            pages: PageReader::new(restore.repository),
            filter: Filter::new(options)?,
            folders: Vec::new(),
            window: Window::default(),
            windows,
            range: 0,
            links: Links::default(),
            hashing: RandomState::new(),
            names_seen: NamesSeen::default(),
            top_names: HashSet::new(),
            deleter: Deleter::new(restore)?,
        })
    }

    /// Restores everything. Gives the metadata of the folder whose content went into the target,
    /// if it was a single one.
    pub(super) fn run(mut self) -> Result<Option<Metadata>, OpError> {
        let top_meta = self.walk()?;
        for pattern in self.filter.unmatched() {
            let why = "it matches nothing of what is restored".to_owned();
            self.restore.problem(format!("--include {pattern}").as_bytes(), why);
        }
        Ok(top_meta)
    }

    fn walk(&mut self) -> Result<Option<Metadata>, OpError> {
        let top = self.restore.options.path.clone().unwrap_or_default();
        let mut top_meta = None;
        if self.restore.options.overwrite.is_some() && !self.restore.options.dry_run {
            self.restore.clean(b"");
        }
        if !top.is_empty() {
            let found = self.cursor.find(&top)?;
            let Some(entry) = found else {
                return Err(OpError::NoSuchPath {
                    snapshot: self.restore.options.snapshot.id.to_string(),
                    path: path::display(&top),
                });
            };
            if entry.meta.kind != EntryKind::Directory {
                self.take(entry, None)?;
                return self.close_window().map(|()| None);
            }
            top_meta = Some(entry.meta);
            self.cursor.skip();
        }
        while let Some(entry) = self.cursor.next_entry()? {
            if !path::is_within(&entry.path, &top) {
                break;
            }
            if self.restore.is_interrupted() {
                return Err(OpError::Interrupted);
            }
            let below = self.restore.below(&entry.path).map(Box::from);
            self.take(entry, below)?;
        }
        self.leave_folders(b"", true)?;
        self.close_window()?;
        if let Some(deleter) = &mut self.deleter {
            let kept = deleter.top();
            deleter.extras(b"", &self.top_names, kept)?;
        }
        Ok(top_meta)
    }

    /// Takes one entry; without `below` it is a single file that goes into the target by its name.
    fn take(&mut self, mut entry: Entry, below: Option<Box<[u8]>>) -> Result<(), OpError> {
        let below = below.unwrap_or_else(|| path::name(&entry.path).into());
        self.leave_folders(&below, false)?;
        let is_folder = entry.meta.kind == EntryKind::Directory;
        if self.restore.options.delete {
            let names = self.folders.last_mut().map_or(&mut self.top_names, |f| &mut f.names);
            names.insert(path::name(&below).into());
        }
        if !path::parent(&below).is_empty()
            && self.folders.last().is_none_or(|folder| *folder.below != *path::parent(&below))
        {
            self.restore.problem(&below, "it lies in something that is no folder".to_owned());
            return Ok(());
        }
        let wanted = self.filter.wants(&below, is_folder);
        let clashes = self.folders.last().is_some_and(|folder| folder.clashes)
            || (wanted && self.clashes(&below)?);
        if is_folder {
            self.folders.push(Folder::new(below, entry.meta, clashes));
            if !wanted || clashes {
                return self.left_out();
            }
            self.make_folders()?;
            return self.cut_if_due();
        }
        if !wanted || clashes {
            return self.left_out();
        }
        entry.path = below;
        self.make_folders()?;
        if self.folders.last().is_some_and(|folder| folder.clashes) {
            return self.left_out();
        }
        self.restore_item(entry)?;
        self.cut_if_due()
    }

    /// Whether the target would take the name for that of an entry that came before it, which is
    /// reported.
    fn clashes(&mut self, below: &[u8]) -> Result<bool, OpError> {
        let seen = self.folders.last_mut().map_or(&mut self.names_seen, |f| &mut f.names_seen);
        let Some(alike) = seen.add(path::name(below), &self.hashing) else { return Ok(false) };
        let Some(target) = self.restore.target.as_ref().filter(|_| !self.restore.options.dry_run)
        else {
            return Ok(false);
        };
        // The folder may not be made yet; it will be like the one that it is in.
        let mut folder = path::parent(below);
        while !folder.is_empty() && target.existing(folder)?.is_none() {
            folder = path::parent(folder);
        }
        let (case, form) = match target.folds(folder) {
            Ok(folds) => folds,
            Err(error) => return self.restore.one_entry_only(below, error).map(|()| true),
        };
        let (clashes, what) = match alike {
            Alike::Case => (case, "upper and lower case"),
            Alike::Form => (form, "Unicode form"),
        };
        if clashes {
            let why = format!(
                "the target takes it for another entry of the same directory: their names differ \
                 in {what} only"
            );
            self.restore.problem(below, why);
        }
        Ok(clashes)
    }

    fn left_out(&self) -> Result<(), OpError> {
        Restore::count(&self.restore.counters.left_out);
        Ok(())
    }

    /// Adds a file to the window; a large one may fill several windows.
    pub(super) fn add_file(&mut self, entry: Entry, put: Put) -> Result<(), OpError> {
        let Entry { path, meta, content } = entry;
        let content = match content {
            Content::Empty => SmallContent::Inline(Box::default()),
            Content::Inline(bytes) => SmallContent::Inline(bytes),
            Content::Items(items) if meta.size <= SMALL && !items.iter().any(is_hole) => {
                self.gather(&items)?
            }
            content => {
                self.finish_folder_late();
                let file = Arc::new(LargeFile::new(path, meta, put));
                let number = self.window.large.add(Arc::clone(&file));
                self.window.step(Step::BeginLargeFile(number));
                return self.add_pieces(&content, file, number);
            }
        };
        self.window.step(Step::SmallFile { path, meta, content, put });
        Ok(())
    }

    fn gather(&mut self, items: &[ContentItem]) -> Result<SmallContent, OpError> {
        let (number, start) = self.window.small_file();
        for item in items {
            let ContentItem::Chunk { id, len } = *item else { continue };
            match self.locate(&id, len)? {
                Some(location) => self.window.want(Wanted { tag: number, id, location }),
                None => self.window.miss(number, id),
            }
        }
        Ok(SmallContent::Gathered { number, start })
    }

    fn locate(&self, id: &ChunkId, len: u32) -> Result<Option<Location>, RepositoryError> {
        Ok(self
            .restore
            .repository
            .locate(id)?
            .filter(|place| place.len == len && place.kind == ChunkKind::Content))
    }

    fn add_pieces(
        &mut self,
        content: &Content,
        file: Arc<LargeFile>,
        mut number: usize,
    ) -> Result<(), OpError> {
        let mut items = ContentItems::new(content, file.size());
        let mut offset = 0;
        loop {
            let item = match items.next(&mut self.pages) {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(error) if error.is_damage() => {
                    file.damaged(self.restore, &error);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            match item {
                ContentItem::Hole { len } => self.window.large.hole(number, len),
                ContentItem::Chunk { id, len } => {
                    let place = self.locate(&id, len)?;
                    self.window.large.piece(self.restore, number, place, id, offset);
                }
            }
            offset += item.len();
            if self.window.has_enough_pieces() {
                // What is still to come of this file goes on in the next window.
                self.close_window()?;
                number = self.window.large.add(Arc::clone(&file));
            }
        }
    }

    fn cut_if_due(&mut self) -> Result<(), OpError> {
        if self.window.is_full() {
            return self.close_window();
        }
        if self.window.steps_in_range() >= RANGE {
            self.cut();
        }
        Ok(())
    }

    fn close_window(&mut self) -> Result<(), OpError> {
        self.range += 1;
        let window = std::mem::take(&mut self.window);
        if self.restore.options.dry_run {
            return Ok(());
        }
        // Nobody takes it any more when writing failed; the writer knows why.
        self.windows.send(window).map_err(|_| OpError::Interrupted)
    }
}

fn is_hole(item: &ContentItem) -> bool {
    matches!(item, ContentItem::Hole { .. })
}

pub(super) fn plan(restore: &Restore<'_>, action: &'static str, below: &[u8]) {
    let path = super::raw_path(below);
    restore.repository.observer().event(Event::Planned { action, path });
}
