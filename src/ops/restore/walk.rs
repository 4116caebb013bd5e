//! The walk of a restore: decides what happens to each entry and gathers windows of work.

use std::collections::{HashMap, HashSet};

use super::content::{FurtherName, WholeFile, Window, WindowFile};
use super::filter::Filter;
use super::{Overwrite, Restore};
use crate::event::Event;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata};
use crate::format::path;
use crate::ops::OpError;
use crate::target::{Existing, TargetErrorKind};
use crate::tree::{ContentItems, Cursor, PageReader};

/// Entries and pieces of content that a window holds: a few megabytes of memory.
const WINDOW_ENTRIES: usize = 32 << 10;
const WINDOW_PIECES: usize = 128 << 10;
/// Files in several pieces that a window may have open.
const WINDOW_OPEN_FILES: usize = 256;

/// A folder that the walk is in.
struct Folder {
    below: Box<[u8]>,
    meta: Metadata,
    made: bool,
    /// It was there before, so that there may be something to delete in it.
    existed: bool,
    names: HashSet<Box<[u8]>>,
}

/// The first name of a file with several, and how many are still to come.
struct FirstName {
    path: Box<[u8]>,
    left: u32,
}

/// What is to happen to an entry.
#[derive(PartialEq, Eq)]
enum Verdict {
    Make { replace: bool },
    OnlyMetadata,
    Keep,
}

pub(super) struct Walk<'a, 'r> {
    restore: &'a Restore<'a>,
    pool: &'a rayon::ThreadPool,
    cursor: Cursor<'r>,
    /// Reads content pages while the cursor stands in its own.
    pages: PageReader<'r>,
    filter: Filter,
    folders: Vec<Folder>,
    window: Window,
    /// The first name of each file with several, until all came by.
    links: HashMap<(u64, u64), FirstName>,
    top_names: HashSet<Box<[u8]>>,
}

impl<'a> Walk<'a, 'a> {
    pub(super) fn new(
        restore: &'a Restore<'a>,
        pool: &'a rayon::ThreadPool,
    ) -> Result<Self, OpError> {
        let options = restore.options;
        let cursor = PageReader::new(restore.repository).cursor(options.snapshot.root);
        Ok(Self {
            restore,
            pool,
            cursor,
            pages: PageReader::new(restore.repository),
            filter: Filter::new(&options.include, &options.exclude)?,
            folders: Vec::new(),
            window: Window::default(),
            links: HashMap::new(),
            top_names: HashSet::new(),
        })
    }

    /// Restores everything. Gives the metadata of the folder whose content went into the target,
    /// if it was a single one.
    pub(super) fn run(mut self) -> Result<Option<Metadata>, OpError> {
        let top = self.restore.options.path.clone().unwrap_or_default();
        let mut top_meta = None;
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
        if self.restore.options.delete && self.restore.target.is_some() {
            let names = std::mem::take(&mut self.top_names);
            self.delete_extras(b"", &names)?;
        }
        Ok(top_meta)
    }

    /// Takes one entry; without `below` it is a single file that goes into the target by its name.
    fn take(&mut self, mut entry: Entry, below: Option<Box<[u8]>>) -> Result<(), OpError> {
        let below = below.unwrap_or_else(|| path::name(&entry.path).into());
        self.leave_folders(&below, false)?;
        let is_folder = entry.meta.kind == EntryKind::Directory;
        match self.folders.last_mut() {
            Some(folder) => folder.names.insert(path::name(&below).into()),
            None if path::parent(&below).is_empty() => {
                self.top_names.insert(path::name(&below).into())
            }
            None => false,
        };
        if !path::parent(&below).is_empty()
            && self.folders.last().is_none_or(|folder| *folder.below != *path::parent(&below))
        {
            self.restore.problem(&below, "it lies in something that is no folder".to_owned());
            return Ok(());
        }
        let wanted = self.filter.wants(&below, is_folder);
        if is_folder {
            let names = HashSet::new();
            let meta = entry.meta;
            self.folders.push(Folder { below, meta, made: false, existed: false, names });
            return if wanted { self.make_folders() } else { self.left_out() };
        }
        if !wanted {
            return self.left_out();
        }
        entry.path = below;
        self.make_folders()?;
        self.restore_item(entry)?;
        self.close_window_if_full()
    }

    fn left_out(&self) -> Result<(), OpError> {
        Restore::count(&self.restore.counters.left_out);
        Ok(())
    }

    /// Makes the folders that the walk is in, outermost first, where they are not made yet.
    fn make_folders(&mut self) -> Result<(), OpError> {
        let restore = self.restore;
        for folder in self.folders.iter_mut().filter(|folder| !folder.made) {
            folder.made = true;
            if restore.options.dry_run {
                let there = match &restore.target {
                    Some(target) => target.existing(&folder.below)?,
                    None => None,
                };
                folder.existed = there.is_some();
                if there.is_none() {
                    plan(restore, "make", &folder.below);
                }
                continue;
            }
            let target = restore.target()?;
            let made = match target.make_folder(&folder.below) {
                Err(error)
                    if error.kind == TargetErrorKind::NotAFolder
                        && restore.options.overwrite != Some(Overwrite::Never) =>
                {
                    target.remove(&folder.below)?;
                    target.make_folder(&folder.below)
                }
                made => made,
            };
            match made {
                Ok(new) => folder.existed = !new,
                Err(error) => restore.one_entry_only(&folder.below, error)?,
            }
        }
        Ok(())
    }

    /// Leaves the folders that `next` does not lie in.
    fn leave_folders(&mut self, next: &[u8], all: bool) -> Result<(), OpError> {
        while let Some(folder) = self.folders.last() {
            if !all && path::is_within(next, &folder.below) && *folder.below != *next {
                return Ok(());
            }
            let Some(folder) = self.folders.pop() else { return Ok(()) };
            if !folder.made {
                continue;
            }
            if self.restore.options.delete && folder.existed {
                self.delete_extras(&folder.below, &folder.names)?;
            }
            self.window.folders.push((folder.below, folder.meta));
        }
        Ok(())
    }

    fn delete_extras(&self, below: &[u8], names: &HashSet<Box<[u8]>>) -> Result<(), OpError> {
        let restore = self.restore;
        let target = restore.target()?;
        for name in target.children(below)? {
            if names.contains(&*name) {
                continue;
            }
            let extra = if below.is_empty() { name.to_vec() } else { [below, &name].join(&b'/') };
            Restore::count(&restore.counters.deleted);
            if restore.options.dry_run {
                plan(restore, "delete", &extra);
            } else if let Err(error) = target.remove(&extra) {
                restore.one_entry_only(&extra, error)?;
            }
        }
        Ok(())
    }

    fn verdict(&self, entry: &Entry) -> Result<Verdict, OpError> {
        let restore = self.restore;
        let (Some(target), Some(overwrite)) = (&restore.target, restore.options.overwrite) else {
            return Ok(Verdict::Make { replace: false });
        };
        let Some(there) = target.existing(&entry.path)? else {
            return Ok(Verdict::Make { replace: false });
        };
        let same = is_same(&there, &entry.meta);
        Ok(match overwrite {
            Overwrite::Always => Verdict::Make { replace: true },
            Overwrite::Never => Verdict::Keep,
            Overwrite::IfChanged if same => Verdict::OnlyMetadata,
            Overwrite::IfChanged => Verdict::Make { replace: true },
            Overwrite::IfNewer if entry.meta.mtime > there.mtime => Verdict::Make { replace: true },
            Overwrite::IfNewer => Verdict::Keep,
        })
    }

    fn restore_item(&mut self, entry: Entry) -> Result<(), OpError> {
        let restore = self.restore;
        if entry.meta.kind == EntryKind::Socket {
            Restore::count(&restore.counters.sockets);
            return Ok(());
        }
        let replace = match self.verdict(&entry)? {
            Verdict::Keep => {
                Restore::count(&restore.counters.kept);
                return Ok(());
            }
            Verdict::OnlyMetadata => {
                Restore::count(&restore.counters.unchanged);
                self.remember_link(&entry);
                if !restore.options.dry_run {
                    let set = restore.target()?.set_metadata(
                        &entry.path,
                        &entry.meta,
                        &restore.options.policy,
                    );
                    match set {
                        Ok(applied) => restore.applied(applied),
                        Err(error) => restore.one_entry_only(&entry.path, error)?,
                    }
                }
                return Ok(());
            }
            Verdict::Make { replace } => replace,
        };
        if restore.options.dry_run {
            Restore::count(&restore.counters.restored);
            plan(restore, if replace { "replace" } else { "make" }, &entry.path);
            return Ok(());
        }
        if replace && !self.clear_the_way(&entry)? {
            return Ok(());
        }
        if entry.meta.kind == EntryKind::File && entry.meta.links > 1 {
            if let Some(first) = self.first_name(&entry) {
                let further = entry.path;
                self.window.links.push(FurtherName { first, further });
                return Ok(());
            }
            self.remember_link(&entry);
        }
        match entry.meta.kind {
            EntryKind::File | EntryKind::Stream => self.add_file(entry, replace),
            _ => {
                self.window.specials.push(entry);
                Ok(())
            }
        }
    }

    /// Removes what stands where an entry goes. A whole folder goes only when deleting was asked
    /// for.
    fn clear_the_way(&self, entry: &Entry) -> Result<bool, OpError> {
        let restore = self.restore;
        let target = restore.target()?;
        let there = target.existing(&entry.path)?.map(|there| there.kind);
        let is_file = matches!(entry.meta.kind, EntryKind::File | EntryKind::Stream);
        match there {
            None => {}
            Some(EntryKind::Directory) if !restore.options.delete => {
                let why = "a folder is in its place (say --delete to have it removed)".to_owned();
                restore.problem(&entry.path, why);
                return Ok(false);
            }
            Some(EntryKind::File) if is_file => {}
            Some(_) => {
                target.remove(&entry.path)?;
            }
        }
        Ok(true)
    }

    /// The name under which a file with several names was restored already.
    fn first_name(&mut self, entry: &Entry) -> Option<Box<[u8]>> {
        let key = (entry.meta.filesystem, entry.meta.inode);
        let known = self.links.get_mut(&key)?;
        let first = known.path.clone();
        known.left = known.left.saturating_sub(1);
        if known.left == 0 {
            self.links.remove(&key);
        }
        Some(first)
    }

    fn remember_link(&mut self, entry: &Entry) {
        if entry.meta.kind == EntryKind::File && entry.meta.links > 1 {
            let key = (entry.meta.filesystem, entry.meta.inode);
            let first = FirstName { path: entry.path.clone(), left: entry.meta.links - 1 };
            self.links.entry(key).or_insert(first);
        }
    }

    /// Adds a file to the window; one with many pieces may fill several windows.
    fn add_file(&mut self, entry: Entry, replace: bool) -> Result<(), OpError> {
        let Entry { path, meta, content } = entry;
        let whole = match &content {
            Content::Empty => Some(Box::default()),
            Content::Inline(bytes) => Some(bytes.clone()),
            Content::Items(items) if single_chunk(items) => {
                let file = self.window.add(WindowFile::in_one_piece(path, meta, replace));
                return self.add_items(&content, file);
            }
            _ => None,
        };
        if let Some(bytes) = whole {
            self.window.whole.push(WholeFile { path, meta, bytes, replace });
            return Ok(());
        }
        let begun = self.restore.target()?.begin_file(&path, meta.size, replace);
        match begun {
            Ok(open) => {
                let file = self.window.add(WindowFile::in_pieces(path, meta, open));
                self.add_items(&content, file)
            }
            Err(error) => self.restore.one_entry_only(&path, error),
        }
    }

    fn add_items(&mut self, content: &Content, mut file: usize) -> Result<(), OpError> {
        let size = self.window.size_of(file);
        let mut items = ContentItems::new(content, size);
        let mut offset = 0;
        loop {
            let item = match items.next(&mut self.pages) {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(error) if error.is_damage() => {
                    self.restore.damage(self.window.path_of(file), &error);
                    self.window.fail(file);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            match item {
                ContentItem::Hole { len } => self.window.hole(self.restore, file, len)?,
                ContentItem::Chunk { id, len } => {
                    let index = self.restore.repository.index();
                    let place = index.locate(&id).map_err(crate::repo::RepositoryError::from)?;
                    drop(index);
                    self.window.piece(self.restore, file, place, id, offset, len)?;
                }
            }
            offset += item.len();
            if self.window.piece_count() >= WINDOW_PIECES {
                // What is still to come of this file goes on in the next window.
                let unfinished = self.window.share(file);
                self.close_window()?;
                file = self.window.add_shared(unfinished);
            }
        }
    }

    fn close_window_if_full(&mut self) -> Result<(), OpError> {
        if self.window.entry_count() >= WINDOW_ENTRIES
            || self.window.piece_count() >= WINDOW_PIECES
            || self.window.open_files >= WINDOW_OPEN_FILES
        {
            return self.close_window();
        }
        Ok(())
    }

    fn close_window(&mut self) -> Result<(), OpError> {
        let window = std::mem::take(&mut self.window);
        if self.restore.options.dry_run {
            return Ok(());
        }
        window.restore(self.restore, self.pool)
    }
}

fn single_chunk(items: &[ContentItem]) -> bool {
    matches!(items, [ContentItem::Chunk { .. }])
}

/// Same enough to be left alone unless everything is to be written.
fn is_same(there: &Existing, meta: &Metadata) -> bool {
    let kind = if meta.kind == EntryKind::Stream { EntryKind::File } else { meta.kind };
    // A link's length is that of its target and says nothing about where it points.
    there.kind == kind
        && kind == EntryKind::File
        && there.size == meta.size
        && there.mtime == meta.mtime
}

fn plan(restore: &Restore<'_>, action: &'static str, below: &[u8]) {
    let path = path::printable(below).into();
    restore.repository.observer().event(Event::Planned { action, path });
}
