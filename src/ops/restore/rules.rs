//! The exclude rules of a snapshot, applied to what is at the target.

use std::cell::RefCell;
use std::io;

use super::Restore;
use super::delete::joined;
use crate::format::entry::{EntryKind, Timestamp};
use crate::format::path;
use crate::ops::OpError;
use crate::ops::read_content::{Part, read_content};
use crate::source::exclude::{Excludes, FolderRules, FolderView};
use crate::source::{Stat, Upkeep};
use crate::target::Existing;
use crate::tree::{Cursor, PageReader};

/// The rules that a snapshot was taken with.
pub(super) struct Rules<'r> {
    excludes: Excludes,
    sources: Vec<Box<[u8]>>,
    /// Finds files of the snapshot that hold further rules.
    snapshot: RefCell<Cursor<'r>>,
    /// The rules for the directories on the way to the last one that was asked for, and which
    /// source they are those of.
    way: Vec<RulesOf>,
}

/// The rules for what is in one directory.
#[derive(Clone)]
pub(super) struct RulesOf {
    /// Path of an entry.
    folder: Box<[u8]>,
    rules: FolderRules,
}

impl RulesOf {
    /// Whether the snapshot would have left this item out; `stored` is its path as an entry.
    pub(super) fn leaves_out(&self, stored: &[u8], there: &Existing) -> bool {
        let stat = Stat {
            kind: there.kind,
            mode: there.mode,
            uid: there.uid,
            gid: there.gid,
            mtime: there.mtime,
            ctime: Timestamp::default(),
            inode: there.inode,
            filesystem: 0,
            links: 1,
            size: there.size,
            device: there.device,
            blocks_512: 0,
            dev: 0,
            born: Timestamp::default(),
            upkeep: Upkeep::Foreign,
        };
        self.rules.excludes(stored, stored.len() - path::name(stored).len(), &stat)
    }
}

impl<'r> Rules<'r> {
    /// # Errors
    /// [`OpError::CannotDelete`] when the snapshot does not say what it left out.
    pub(super) fn new(restore: &Restore<'r>) -> Result<Self, OpError> {
        let snapshot = &restore.options.snapshot;
        let cannot = |why: String| Err(OpError::CannotDelete(format!("snapshot {why}")));
        let id = snapshot.id;
        if snapshot.window.is_some() {
            return cannot(format!("{id} holds only what changed in a certain time"));
        }
        if snapshot.problems > 0 {
            return cannot(format!("{id} is incomplete: not everything could be read"));
        }
        let Some(record) = &snapshot.excludes else {
            return cannot(format!("{id} does not record which files it left out"));
        };
        let excludes = match Excludes::of_record(record) {
            Ok(excludes) => excludes,
            Err(error) => return cannot(format!("{id} has rules that cannot be used: {error}")),
        };
        let raw = |path: &Vec<u8>| path.strip_prefix(b"/").unwrap_or(path).into();
        Ok(Self {
            excludes,
            sources: snapshot.paths.iter().map(|path| raw(&path.0)).collect(),
            snapshot: RefCell::new(PageReader::new(restore.repository).cursor(snapshot.root)),
            way: Vec::new(),
        })
    }

    /// The rules for what is in `folder`, the path of a directory at or below a source.
    pub(super) fn of(&mut self, restore: &Restore<'_>, folder: &[u8]) -> Result<RulesOf, OpError> {
        let holding = self.sources.iter().filter(|source| path::is_within(folder, source));
        let Some(source) = holding.max_by_key(|source| source.len()) else {
            return Err(OpError::Refused(format!("{} is in no source", path::display(folder))));
        };
        let source = source.clone();
        self.way.retain(|rules| {
            path::is_within(folder, &rules.folder) && path::is_within(&rules.folder, &source)
        });
        let mut current = match self.way.last() {
            Some(rules) => rules.clone(),
            None => {
                let top =
                    RulesOf { folder: source.clone(), rules: self.excludes.for_root(&source)? };
                self.enter(restore, &top, &source)?
            }
        };
        if self.way.is_empty() {
            self.way.push(current.clone());
        }
        while *current.folder != *folder {
            let from = prefix_len(&current.folder);
            let rest = &folder[from..];
            let step = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            current = self.enter(restore, &current, &folder[..from + step])?;
            self.way.push(current.clone());
        }
        Ok(current)
    }

    /// The rules for what is in the directory `folder`, which is subject to `outer`.
    pub(super) fn enter(
        &self,
        restore: &Restore<'_>,
        outer: &RulesOf,
        folder: &[u8],
    ) -> Result<RulesOf, OpError> {
        let below = match restore.options.path.as_deref().unwrap_or_default() {
            top if top == folder => Some(Box::default()),
            _ => restore.below(folder).map(Box::from),
        };
        let view =
            View { restore, cursor: &self.snapshot, folder, below, failed: RefCell::default() };
        let rules = outer.rules.enter(folder, &view, &mut Vec::new());
        match view.failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(RulesOf { folder: folder.into(), rules }),
        }
    }
}

/// Length of what stands before a name in the directory `path`.
fn prefix_len(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.len() + 1 }
}

/// A directory as the snapshot has it and as it is at the target: what decides about the rest may
/// be in either.
struct View<'v, 'r> {
    restore: &'v Restore<'v>,
    cursor: &'v RefCell<Cursor<'r>>,
    folder: &'v [u8],
    /// The directory at the target, if it lies there.
    below: Option<Box<[u8]>>,
    failed: RefCell<Option<OpError>>,
}

impl View<'_, '_> {
    fn entry(&self, name: &[u8]) -> Option<crate::format::entry::Entry> {
        match self.cursor.borrow_mut().find(&joined(self.folder, name)) {
            Ok(entry) => entry,
            Err(error) => {
                self.failed.replace(Some(error.into()));
                None
            }
        }
    }
}

impl FolderView for View<'_, '_> {
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind> {
        if let Some(entry) = self.entry(name) {
            return Some(entry.meta.kind);
        }
        let (target, below) = (self.restore.target.as_ref()?, self.below.as_ref()?);
        target.existing(&joined(below, name)).ok()?.map(|there| there.kind)
    }

    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        if let Some(entry) = self.entry(name.as_bytes()) {
            let read = read_content(self.restore.repository, &entry, &mut |part| {
                if let Part::Bytes(bytes) = part {
                    start.extend_from_slice(&bytes[..bytes.len().min(limit - start.len())]);
                }
                Ok(())
            });
            return match read {
                Ok(_) => Ok(start),
                Err(error) => {
                    let said = error.to_string();
                    self.failed.replace(Some(error));
                    Err(io::Error::other(said))
                }
            };
        }
        let (Some(target), Some(below)) = (&self.restore.target, &self.below) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        use std::io::Read as _;
        let file = target.read_back(&joined(below, name.as_bytes())).map_err(io::Error::other)?;
        file.take(limit as u64).read_to_end(&mut start)?;
        Ok(start)
    }
}
