//! What a scan decides, apart from how it reads folders: where it starts, what it leaves out and
//! which folders it enters. Shared by the parallel and the portable scan.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::exclude::FolderRules;
use super::open::{RootHandle, Roots, all_roots};
use super::scan::ScanOptions;
use super::{SourceError, Stat, Upkeep, absolute, compare_paths, is_at_or_below};
use crate::format::entry::EntryKind;

/// A folder to be listed.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// In the scan's form.
    pub(crate) path: Box<[u8]>,
    pub(crate) handle: Arc<RootHandle>,
    /// Where the path relative to the handle begins.
    pub(crate) rel_at: usize,
    /// Applies to the folder itself; what is in it may be subject to more.
    pub(crate) rules: FolderRules,
    /// `st_dev` of the folder.
    pub(crate) dev: u64,
    /// `st_dev` of the root.
    pub(crate) root_dev: u64,
    /// Identity of the folder's file system.
    pub(crate) filesystem: u64,
    /// Who keeps inode numbers and times there.
    pub(crate) upkeep: Upkeep,
    /// The folder is left out, but a named root lies below it: only the way there is kept.
    pub(crate) only_named: bool,
}

impl Folder {
    pub(crate) fn rel(&self) -> &[u8] {
        &self.path[self.rel_at.min(self.path.len())..]
    }
}

/// What becomes of an item.
#[derive(Debug)]
pub(crate) enum Fate {
    /// An entry, not entered.
    Keep,
    /// Left out and said so.
    Excluded,
    /// Not even mentioned: beside the way to a named root.
    Ignore,
    /// An entry, and a folder to list.
    Enter(Box<Folder>),
}

/// An item to be judged.
pub(crate) struct Item<'a> {
    /// Its whole path.
    pub(crate) path: &'a [u8],
    /// Where its name begins.
    pub(crate) name_at: usize,
    pub(crate) stat: &'a Stat,
}

/// The fixed choices of a scan.
#[derive(Debug)]
pub(crate) struct Policy {
    one_file_system: bool,
    /// The named roots within other roots, with the rules for each.
    nested: Vec<(Box<[u8]>, FolderRules)>,
    /// Folders that are not listed ahead.
    late: Vec<Box<[u8]>>,
    /// Sorted.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    deferred: Vec<Box<[u8]>>,
}

impl Policy {
    /// Whether the folder `path` waits for the caller.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_late(&self, path: &[u8]) -> bool {
        self.late.iter().any(|late| **late == *path)
    }

    /// Whether a nested root is `path` or lies below it.
    pub(crate) fn leads_to_named(&self, path: &[u8]) -> bool {
        let at = self.nested.partition_point(|(named, _)| compare_paths(named, path).is_lt());
        self.nested.get(at).is_some_and(|(named, _)| is_at_or_below(named, path))
    }

    fn named(&self, path: &[u8]) -> Option<&FolderRules> {
        let found = self.nested.binary_search_by(|(named, _)| compare_paths(named, path));
        found.ok().map(|index| &self.nested[index].1)
    }

    /// Whether the caller looks after the folder itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn defers(&self, path: &[u8]) -> bool {
        self.deferred.binary_search_by(|deferred| compare_paths(deferred, path)).is_ok()
    }

    /// Decides about an item of `folder`, whose contents are subject to `rules`.
    pub(crate) fn judge(&self, folder: &Folder, rules: &FolderRules, item: &Item<'_>) -> Fate {
        let leads = self.leads_to_named(item.path);
        let named = if leads { self.named(item.path) } else { None };
        let is_folder = item.stat.kind == EntryKind::Directory;
        if folder.only_named && !leads {
            return Fate::Ignore;
        }
        let excluded = !folder.only_named
            && named.is_none()
            && rules.excludes(item.path, item.name_at, item.stat);
        if excluded && !(leads && is_folder) {
            return Fate::Excluded;
        }
        if !is_folder {
            return Fate::Keep;
        }
        let dev = item.stat.dev;
        let elsewhere = self.one_file_system && dev != folder.root_dev;
        let made_up = item.stat.upkeep == Upkeep::MadeUp && dev != folder.dev;
        let barred = folder.only_named || elsewhere || made_up;
        let mut inner = Folder {
            path: item.path.into(),
            handle: Arc::clone(&folder.handle),
            rel_at: folder.rel_at,
            rules: rules.clone(),
            dev,
            root_dev: folder.root_dev,
            filesystem: item.stat.filesystem,
            upkeep: item.stat.upkeep,
            only_named: false,
        };
        match named {
            // Outside of what the outer root takes in, a named root stands for itself.
            Some(own_rules) if barred => {
                inner.root_dev = dev;
                inner.rules = own_rules.clone();
            }
            None if (barred || excluded) && leads => inner.only_named = true,
            None if barred => return Fate::Keep,
            _ => {}
        }
        Fate::Enter(Box::new(inner))
    }
}

/// One of the first steps of a scan.
#[derive(Debug)]
pub(crate) enum Top {
    /// A folder above a root: only an entry.
    Ancestor(Box<[u8]>, Stat),
    /// A root, with the folder to list if it is one.
    Root(Box<[u8]>, Stat, Option<Box<Folder>>),
}

/// Everything a scan needs to begin.
pub(crate) struct Plan {
    pub(crate) policy: Arc<Policy>,
    pub(crate) roots: Arc<Roots>,
    /// Ancestors and roots in scan order.
    pub(crate) tops: Vec<Top>,
}

impl Plan {
    /// Opens the roots and compiles the excludes.
    pub(crate) fn new(options: &ScanOptions) -> Result<Self, SourceError> {
        let named = all_roots(&options.roots)?;
        for path in &named {
            // A nested root has no handle of its own, but must be there like the others.
            look_at(path, false)?;
        }
        let roots = Arc::new(Roots::open(&options.roots)?);
        let mut tops = Vec::new();
        for (path, is_ancestor) in roots.places() {
            let metadata = look_at(path, is_ancestor)?;
            let (handle, _) = roots.locate(path)?;
            let stat = roots
                .stat_from(&metadata, |readable| {
                    if readable && metadata.is_dir() {
                        handle.open_dir(b"")
                    } else {
                        handle.open_handle(b"")
                    }
                })
                .map_err(|e| SourceError::at(path, READ_ATTRIBUTES, e))?;
            if is_ancestor {
                tops.push(Top::Ancestor(path.into(), stat));
                continue;
            }
            let folder = match stat.kind {
                EntryKind::Directory => Some(Box::new(Folder {
                    path: path.into(),
                    handle: Arc::clone(handle),
                    rel_at: if path.is_empty() { 0 } else { path.len() + 1 },
                    rules: options.excludes.for_root(path)?,
                    dev: stat.dev,
                    root_dev: stat.dev,
                    filesystem: stat.filesystem,
                    upkeep: stat.upkeep,
                    only_named: false,
                })),
                _ => None,
            };
            tops.push(Top::Root(path.into(), stat, folder));
        }
        let mut nested = Vec::new();
        for path in named {
            if !roots.places().any(|(place, is_ancestor)| !is_ancestor && *place == *path) {
                // Behind a link within the outer root it would not be covered by that root.
                drop(roots.open_handle(&path)?);
                let rules = options.excludes.for_root(&path)?;
                nested.push((path, rules));
            }
        }
        let form = |path: &std::path::PathBuf| {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes.strip_prefix(b"/").unwrap_or(bytes).into()
        };
        let late = options.late.iter().map(form).collect();
        let mut deferred = options.deferred.clone();
        deferred.sort_by(|a, b| compare_paths(a, b));
        let policy = Policy { one_file_system: options.one_file_system, nested, late, deferred };
        Ok(Self { policy: Arc::new(policy), roots, tops })
    }
}

/// What is said to be tried when an item's attributes cannot be had.
pub(crate) const READ_ATTRIBUTES: &str = "read the attributes of";
/// What is said to be tried when a folder cannot be listed.
pub(crate) const READ_FOLDER: &str = "read the folder";

fn look_at(path: &[u8], follow: bool) -> Result<std::fs::Metadata, SourceError> {
    let path_buf = absolute(path);
    let look = |path: &Path| -> io::Result<_> {
        if follow { path.metadata() } else { path.symlink_metadata() }
    };
    look(&path_buf).map_err(|e| SourceError::at(path, READ_ATTRIBUTES, e))
}
