//! The scan of other systems than Linux: one thread, paths as the standard library takes them,
//! and so without what the parallel scan promises about very long paths and swapped folders. On
//! Linux it serves to show that the parallel scan finds the same.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use rustix::fs::OFlags;
use walkdir::{DirEntry, IntoIter, WalkDir};

use super::exclude::{FolderRules, FolderView};
use super::open::Roots;
use super::plan::{Fate, Folder, Item, Plan, Policy, READ_ATTRIBUTES, READ_FOLDER, Top};
use super::scan::{ScanOptions, Scanned};
use super::{SourceError, Stat, absolute, kind_of_mode};
use crate::format::entry::EntryKind;

/// A scan under way, with the same results as [`super::scan::Scan`].
pub struct PortableScan {
    policy: Arc<Policy>,
    roots: Arc<Roots>,
    tops: VecDeque<Top>,
    walk: Option<IntoIter>,
    /// The folders from the root down to where the walk is, with the rules for what is in them.
    folders: Vec<(Folder, FolderRules)>,
    problems: VecDeque<SourceError>,
    path: Vec<u8>,
    stat: Option<Stat>,
}

enum Reached {
    Entry(Stat),
    Excluded,
    Problem(SourceError),
}

impl PortableScan {
    /// Opens the roots.
    ///
    /// # Errors
    /// Names the root that does not exist, cannot be opened, or is not absolute and clean.
    pub fn start(options: &ScanOptions) -> Result<Self, SourceError> {
        Ok(Self::new(Plan::new(options)?, 0, 0))
    }

    pub(crate) fn new(plan: Plan, _threads: usize, _lookahead: usize) -> Self {
        Self {
            policy: plan.policy,
            roots: plan.roots,
            tops: plan.tops.into(),
            walk: None,
            folders: Vec::new(),
            problems: VecDeque::new(),
            path: Vec::new(),
            stat: None,
        }
    }

    /// The handles of the roots.
    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// The next step, or `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from the scan")]
    pub fn next(&mut self) -> Option<Scanned<'_>> {
        Some(match self.advance()? {
            Reached::Entry(stat) => {
                Scanned::Entry { path: &self.path, stat: self.stat.insert(stat) }
            }
            Reached::Excluded => Scanned::Excluded { path: &self.path },
            Reached::Problem(problem) => Scanned::Problem(problem),
        })
    }

    fn advance(&mut self) -> Option<Reached> {
        loop {
            if let Some(problem) = self.problems.pop_front() {
                return Some(Reached::Problem(problem));
            }
            let step = match self.walk.as_mut().map(Iterator::next) {
                Some(Some(Ok(entry))) => self.judge(&entry),
                Some(Some(Err(error))) => Some(Reached::Problem(failed(error))),
                Some(None) => {
                    self.walk = None;
                    None
                }
                None => match self.tops.pop_front()? {
                    Top::Ancestor(path, stat) => {
                        self.path = path.into_vec();
                        Some(Reached::Entry(stat))
                    }
                    Top::Root(path, stat, folder) => {
                        self.path = path.into_vec();
                        if let Some(folder) = folder {
                            let walk = WalkDir::new(absolute(&self.path)).min_depth(1);
                            self.walk = Some(walk.sort_by_file_name().into_iter());
                            self.folders.clear();
                            self.enter(*folder);
                        }
                        (!self.path.is_empty()).then_some(Reached::Entry(stat))
                    }
                },
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Decides about what the walk has come to; `None` when it is not worth a word.
    fn judge(&mut self, entry: &DirEntry) -> Option<Reached> {
        self.folders.truncate(entry.depth());
        let path = entry.path().as_os_str().as_bytes();
        self.path = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let seen = entry.metadata().map_err(io::Error::from).and_then(|metadata| {
            let open = |readable: bool| self.open(metadata.is_dir() && readable);
            self.roots.stat_from(&metadata, open)
        });
        let stat = match seen {
            Ok(seen) => seen,
            Err(error) => {
                skip_if(entry.file_type().is_dir(), &mut self.walk);
                let gone = error.kind() == io::ErrorKind::NotFound;
                let problem = || SourceError::at(&self.path, READ_ATTRIBUTES, error);
                return (!gone).then(|| Reached::Problem(problem()));
            }
        };
        let (folder, rules) = self.folders.last()?;
        let name_at = self.path.len() - entry.file_name().len();
        let item = Item { path: &self.path, name_at, stat: &stat };
        let fate = self.policy.judge(folder, rules, &item);
        skip_if(entry.file_type().is_dir() && !matches!(fate, Fate::Enter(_)), &mut self.walk);
        match fate {
            Fate::Ignore => None,
            Fate::Excluded => Some(Reached::Excluded),
            Fate::Keep => Some(Reached::Entry(stat)),
            Fate::Enter(folder) => {
                self.enter(*folder);
                Some(Reached::Entry(stat))
            }
        }
    }

    /// A handle of the item that the walk is at.
    fn open(&self, as_folder: bool) -> io::Result<rustix::fd::OwnedFd> {
        let (handle, rel) = self.roots.locate(&self.path).map_err(io::Error::other)?;
        if as_folder { handle.open_dir(rel) } else { handle.open_handle(rel) }
    }

    fn enter(&mut self, folder: Folder) {
        let mut problems = Vec::new();
        let rules = folder.rules.enter(&folder.path, &View(&folder.path), &mut problems);
        self.problems.extend(problems);
        self.folders.push((folder, rules));
    }
}

fn skip_if(skip: bool, walk: &mut Option<IntoIter>) {
    if let Some(walk) = walk.as_mut().filter(|_| skip) {
        walk.skip_current_dir();
    }
}

fn failed(error: walkdir::Error) -> SourceError {
    let path = error.path().map(std::path::Path::to_owned).unwrap_or_default();
    let source = error.into_io_error().unwrap_or_else(|| io::Error::from(io::ErrorKind::Other));
    SourceError { path, action: READ_FOLDER, source }
}

/// The folder as the excludes see it.
struct View<'a>(&'a [u8]);

impl FolderView for View<'_> {
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind> {
        let path = absolute(self.0).join(std::ffi::OsStr::from_bytes(name));
        path.symlink_metadata().ok().and_then(|metadata| kind_of_mode(metadata.mode()))
    }

    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let path = absolute(self.0).join(name);
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        super::read_start(file, limit)
    }
}
