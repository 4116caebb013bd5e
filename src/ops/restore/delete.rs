//! What `delete` removes: at and below the restored places of the snapshot's own sources, what the
//! snapshot does not have and its exclude rules did not leave out.
//!
//! Some things always stay: what the caller protects (the repository, the cache and so on), what
//! lies on another mount, and what the patterns of the restore leave out.

use std::collections::HashSet;

use super::Restore;
use super::filter::Filter;
use super::rules::{Rules, RulesOf};
use super::walk::plan;
use crate::event::Event;
use crate::format::entry::EntryKind;
use crate::format::path;
use crate::ops::OpError;
use crate::target::{Existing, FileId, Mount, TargetError, TargetErrorKind, identities};

/// Why nothing is deleted in a directory and below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is not.
    No,
    /// Another file system is mounted on it. Sources below it have their own say.
    Mount,
    /// It is protected.
    Protected,
}

/// What is done with what may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It is deleted, or listed in a dry run.
    Delete,
    /// Nothing; it is only found out whether all of it may be deleted.
    Ask,
}

/// Deletes what the snapshot does not have.
pub(super) struct Deleter<'a> {
    restore: &'a Restore<'a>,
    /// The snapshot's sources, as paths of entries.
    sources: Vec<Box<[u8]>>,
    /// Nothing: what the snapshot left out is deleted, too.
    rules: Option<Rules<'a>>,
    protected: HashSet<FileId>,
    /// Whether the target lies in something that is protected.
    all_protected: bool,
    /// Asked for what would be deleted; nothing when the restore has no patterns.
    filter: Option<Filter>,
}

/// A directory that is being emptied.
struct Level {
    /// Below the target.
    path: Box<[u8]>,
    names: std::vec::IntoIter<Box<[u8]>>,
    rules: Option<RulesOf>,
    mount: Mount,
    /// Something of it stays.
    stays: bool,
}

impl<'a> Deleter<'a> {
    /// Nothing when nothing is to be deleted.
    ///
    /// # Errors
    /// [`OpError::CannotDelete`] when it is not known what the snapshot left out.
    pub(super) fn new(restore: &'a Restore<'a>) -> Result<Option<Self>, OpError> {
        let options = restore.options;
        let (true, Some(target)) = (options.delete, &restore.target) else { return Ok(None) };
        let rules = match options.delete_excluded {
            true => None,
            false => Some(Rules::new(restore)?),
        };
        let raw = |path: &Vec<u8>| path.strip_prefix(b"/").unwrap_or(path).into();
        let sources = options.snapshot.paths.iter().map(|path| raw(&path.0)).collect();
        let protected = options.protected.iter().flat_map(|path| identities(path)).collect();
        let has_patterns = !options.include.is_empty() || !options.exclude.is_empty();
        let filter = match has_patterns {
            true => Some(Filter::new(options)?),
            false => None,
        };
        let all_protected = target.lies_in(&protected)?;
        Ok(Some(Self { restore, sources, rules, protected, all_protected, filter }))
    }

    /// Whether anything may be deleted in the target itself.
    pub(super) fn top(&self) -> Kept {
        if self.all_protected { Kept::Protected } else { Kept::No }
    }

    /// Whether anything may be deleted in the directory `below`, which exists, when `above` holds
    /// for the directory that it is in.
    pub(super) fn enters(&self, below: &[u8], above: Kept) -> Result<Kept, OpError> {
        if above == Kept::Protected {
            return Ok(above);
        }
        let target = self.restore.target()?;
        let Some(there) = target.existing(below)? else { return Ok(above) };
        if self.protected.contains(&there.id()) {
            self.note(below, "nothing is deleted in it: gabion uses it");
            return Ok(Kept::Protected);
        }
        if self.sources.iter().any(|source| **source == *self.restore.stored(below)) {
            return Ok(Kept::No);
        }
        if above == Kept::No
            && there.kind == EntryKind::Directory
            && target.mount_of(below)? != target.mount_of(path::parent(below))?
        {
            self.note(below, "nothing is deleted in it: another file system is mounted there");
            return Ok(Kept::Mount);
        }
        Ok(above)
    }

    /// Deletes from the directory `below` what is not among `names`, as far as it may be deleted.
    pub(super) fn extras(
        &mut self,
        below: &[u8],
        names: &HashSet<Box<[u8]>>,
        kept: Kept,
    ) -> Result<(), OpError> {
        let stored = self.restore.stored(below);
        if kept != Kept::No || !self.sources.iter().any(|source| path::is_within(&stored, source)) {
            return Ok(());
        }
        let target = self.restore.target()?;
        let children = match target.children(below) {
            Ok(children) => children,
            Err(error) => return self.restore.one_entry_only(below, error),
        };
        let mut extras: Vec<Box<[u8]>> = children
            .iter()
            .filter(|name| !names.contains(*name) && !target.is_own_staged(name))
            .cloned()
            .collect();
        if extras.is_empty() {
            return Ok(());
        }
        // Where the target does not distinguish upper and lower case, an entry of the snapshot may
        // be there under another spelling.
        let listed: HashSet<&[u8]> = children.iter().map(|name| &**name).collect();
        let mut aliases = HashSet::new();
        for name in names.iter().filter(|name| !listed.contains(&***name)) {
            aliases.extend(target.existing(&joined(below, name))?.map(|there| there.id()));
        }
        if !aliases.is_empty() {
            let mut others = Vec::new();
            for name in extras {
                let there = target.existing(&joined(below, &name))?;
                if there.is_none_or(|there| !aliases.contains(&there.id())) {
                    others.push(name);
                }
            }
            extras = others;
        }
        let rules = match &mut self.rules {
            Some(rules) => Some(rules.of(self.restore, &stored)?),
            None => None,
        };
        self.sweep(below, extras, rules, Mode::Delete).map(drop)
    }

    /// Whether the directory `below` may be deleted with all that is in it, to make room for
    /// something else; reports it when not. Counts and lists what would be deleted.
    pub(super) fn clears(&mut self, below: &[u8], kept: Kept) -> Result<bool, OpError> {
        let parent = path::parent(below);
        let stored = self.restore.stored(parent);
        let rules = match &mut self.rules {
            Some(rules) => Some(rules.of(self.restore, &stored)?),
            None => None,
        };
        let name = vec![path::name(below).into()];
        if kept != Kept::No || !self.sweep(parent, name.clone(), rules.clone(), Mode::Ask)? {
            let why = "a folder is in its place, and something in that folder is not to be deleted";
            self.restore.problem(below, why.to_owned());
            return Ok(false);
        }
        if self.restore.options.dry_run {
            self.sweep(parent, name, rules, Mode::Delete)?;
        }
        Ok(true)
    }

    /// Deletes `names` of the directory `folder` with all that is in them, as far as they may be
    /// deleted; says whether that was everything.
    fn sweep(
        &mut self,
        folder: &[u8],
        names: Vec<Box<[u8]>>,
        rules: Option<RulesOf>,
        mode: Mode,
    ) -> Result<bool, OpError> {
        let target = self.restore.target()?;
        let mount = match target.mount_of(folder) {
            Ok(mount) => mount,
            Err(error) => return self.restore.one_entry_only(folder, error).map(|()| false),
        };
        let top =
            Level { path: folder.into(), names: names.into_iter(), rules, mount, stays: false };
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            if self.restore.is_interrupted() {
                return Err(OpError::Interrupted);
            }
            if mode == Mode::Ask && level.stays {
                return Ok(false);
            }
            let Some(name) = level.names.next() else {
                let Some(done) = levels.pop() else { break };
                let Some(above) = levels.last_mut() else { return Ok(!done.stays) };
                above.stays |= done.stays || !self.remove(&done.path, true, mode)?;
                continue;
            };
            let item = joined(&level.path, &name);
            let there = match target.existing(&item) {
                Ok(Some(there)) => there,
                Ok(None) => continue,
                Err(error) => {
                    level.stays = true;
                    self.restore.one_entry_only(&item, error)?;
                    continue;
                }
            };
            if self.keeps(&item, &there, level.rules.as_ref())? {
                level.stays = true;
            } else if there.kind != EntryKind::Directory {
                level.stays |= !self.remove(&item, false, mode)?;
            } else {
                match self.enter(&item, level)? {
                    Some(inner) => levels.push(inner),
                    None => level.stays = true,
                }
            }
        }
        Ok(true)
    }

    /// Goes into the directory `item` of `level`, unless it stays as it is.
    fn enter(&mut self, item: &[u8], level: &Level) -> Result<Option<Level>, OpError> {
        let target = self.restore.target()?;
        let (mount, names) = match (target.mount_of(item), self.names(item)) {
            (Ok(mount), Ok(names)) => (mount, names),
            (Err(error), _) | (_, Err(error)) => {
                self.restore.one_entry_only(item, error)?;
                return Ok(None);
            }
        };
        if mount != level.mount {
            self.note(item, "it is kept: another file system is mounted there");
            return Ok(None);
        }
        let rules = match (&self.rules, &level.rules) {
            (Some(rules), Some(of)) => {
                Some(rules.enter(self.restore, of, &self.restore.stored(item))?)
            }
            _ => None,
        };
        // A directory that the patterns of the restore leave out is not deleted itself.
        let stays = !self.wants(item, true);
        Ok(Some(Level { path: item.into(), names: names.into_iter(), rules, mount, stays }))
    }

    /// What is in a directory that is to be deleted, which its owner may have to be able to read.
    fn names(&self, item: &[u8]) -> Result<Vec<Box<[u8]>>, TargetError> {
        let Some(target) = &self.restore.target else { return Ok(Vec::new()) };
        match target.children(item) {
            Err(error)
                if error.kind == TargetErrorKind::NotPermitted && !self.restore.options.dry_run =>
            {
                target.make_folder(item)?;
                target.children(item)
            }
            names => names,
        }
    }

    /// Whether an item stays, with all that is in it.
    fn keeps(
        &mut self,
        item: &[u8],
        there: &Existing,
        rules: Option<&RulesOf>,
    ) -> Result<bool, OpError> {
        if self.protected.contains(&there.id()) {
            self.note(item, "it is kept: gabion uses it");
            return Ok(true);
        }
        if rules.is_some_and(|rules| rules.leaves_out(&self.restore.stored(item), there)) {
            return Ok(true);
        }
        let is_folder = there.kind == EntryKind::Directory;
        Ok(!is_folder && !self.wants(item, false))
    }

    /// Whether the patterns of the restore are about an item.
    fn wants(&mut self, item: &[u8], is_folder: bool) -> bool {
        let Some(filter) = &mut self.filter else { return true };
        // The filter is asked in path order: a path that lies in nothing makes it forget the last.
        filter.wants(b"\0", false);
        let slashes = item.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
        for (at, _) in slashes {
            filter.wants(&item[..at], true);
        }
        filter.wants(item, is_folder)
    }

    /// Deletes one item, or an empty directory; says whether it is gone.
    fn remove(&self, item: &[u8], is_folder: bool, mode: Mode) -> Result<bool, OpError> {
        let restore = self.restore;
        if mode == Mode::Ask {
            return Ok(true);
        }
        if restore.options.dry_run {
            plan(restore, "delete", item);
        } else {
            let target = restore.target()?;
            let removed =
                if is_folder { target.remove_folder(item) } else { target.remove_item(item) };
            if let Err(error) = removed {
                restore.one_entry_only(item, error)?;
                return Ok(false);
            }
        }
        Restore::count(&restore.counters.deleted);
        Ok(true)
    }

    fn note(&self, below: &[u8], what: &str) {
        let said = format!("{}: {what}", path::printable(below));
        self.restore.repository.observer().event(Event::Note(said));
    }
}

pub(super) fn joined(folder: &[u8], name: &[u8]) -> Box<[u8]> {
    if folder.is_empty() { name.into() } else { [folder, name].join(&b'/').into() }
}
