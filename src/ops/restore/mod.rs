//! Restoring: what a snapshot holds, into a folder.
//!
//! The tree is walked in path order and cut into windows of bounded size; one is worked off while
//! the walk gathers the next. For a window, every block that holds some of its small contents is
//! read and decoded once, in pack order, on all cores, and its chunks are verified. Then threads
//! go through parts of the window in path order: they make folders, write files, and finish the
//! folders that are complete. Large files are filled after that, then come links, pipes and
//! devices, and the metadata of the folders that had to wait. When what one folder holds goes into
//! a target that was new or empty, or whose files are replaced, the target gets that folder's
//! metadata in the end. What exists is replaced in one step, by a complete item. Everything
//! at the target goes through a [`TargetFolder`], which never leaves it, whatever the snapshot
//! says.

mod delete;
mod existing;
mod filter;
mod folders;
mod large;
mod links;
mod names;
mod options;
mod own_file;
mod rules;
mod steps;
mod verify;
mod walk;
mod window;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

pub use options::{LostSpecial, Overwrite, RestoreOptions, RestoreSummary, Special};

use crate::event::{Event, Problem};
use crate::format::entry::Metadata;
use crate::ops::OpError;
use crate::ops::gather::Gatherer;
use crate::ops::pool::pool;
use crate::repo::{Repository, RepositoryError};
use crate::target::{Applied, TargetError, TargetErrorKind, TargetFolder};
use crate::threads::{caught, joined, start_in};
use options::Counters;

/// Restores a snapshot, or what is at a path in it.
///
/// # Errors
/// When the target is not empty and nothing was said about that, cannot be written to at all, or
/// is full; when pages of the snapshot are damaged; when the caller asked to stop. Entries that
/// cannot be restored are problems; everything else is restored.
pub fn restore(
    repository: &Arc<Repository>,
    options: RestoreOptions,
) -> Result<RestoreSummary, OpError> {
    caught(|| restore_all(repository, &options))
}

fn restore_all(
    repository: &Arc<Repository>,
    options: &RestoreOptions,
) -> Result<RestoreSummary, OpError> {
    repository.observer().event(Event::Phase("reading the index"));
    repository.load_index()?;
    let pool = pool(options.threads)?;
    let (target, was_empty) = open_target(options)?;
    let top_before = target.as_ref().map(TargetFolder::about).transpose()?;
    let restore = Restore {
        repository,
        options,
        target,
        counters: Counters::default(),
        failed: Failures::default(),
    };
    let counts = &options.snapshot.counts;
    if options.path.as_deref().is_none_or(<[u8]>::is_empty) {
        let (items, bytes) = (counts.entries, counts.bytes);
        repository.observer().event(Event::Total { items, bytes });
    }
    repository.observer().event(Event::Phase("restoring"));
    let top = walk_and_write(&restore, &pool)?.filter(|top| {
        let replaced = match options.overwrite {
            None | Some(Overwrite::Never) => false,
            Some(Overwrite::Always | Overwrite::IfChanged) => true,
            Some(Overwrite::IfNewer) => top_before.is_some_and(|there| top.mtime > there.mtime),
        };
        (was_empty || replaced) && !options.dry_run
    });
    if let Some(top) = &top {
        restore.finish_top(top)?;
    }
    if options.sync && !options.dry_run {
        restore.target()?.sync()?;
    }
    if options.verify && !options.dry_run {
        repository.observer().event(Event::Phase("verifying"));
        verify::verify(&restore, &pool, top.as_ref())?;
    }
    Ok(restore.counters.summary())
}

/// Walks the tree, and does the work of one window while the walk gathers the next.
fn walk_and_write(
    restore: &Restore<'_>,
    pool: &rayon::ThreadPool,
) -> Result<Option<Metadata>, OpError> {
    std::thread::scope(|scope| {
        let (sender, windows) = sync_channel::<window::Window>(0);
        let writer = start_in(scope, "restore", move || {
            let gatherer = Gatherer::of_all(restore.repository);
            windows.iter().try_for_each(|window| window.restore(restore, pool, &gatherer))
        });
        let writer = writer.map_err(RepositoryError::Thread)?;
        let walked = walk::Walk::new(restore, sender).and_then(walk::Walk::run);
        // When writing failed, the walk found nobody to take its windows.
        joined::<_, OpError>(writer.join())?;
        walked
    })
}

/// Opens or makes the target, and says whether there is nothing in it. A dry run makes nothing, so
/// there may be no target then.
fn open_target(options: &RestoreOptions) -> Result<(Option<TargetFolder>, bool), OpError> {
    let target = if options.dry_run {
        match TargetFolder::open(&options.target) {
            Ok(target) => target,
            Err(error) if error.kind == TargetErrorKind::Vanished => return Ok((None, true)),
            Err(error) => return Err(error.into()),
        }
    } else {
        TargetFolder::create_or_open(&options.target)?
    };
    let is_empty = target.is_empty()?;
    if options.overwrite.is_none() && !is_empty {
        return Err(OpError::TargetNotEmpty(options.target.clone()));
    }
    Ok((Some(target), is_empty))
}

/// A path below the target for an event, byte for byte.
fn raw_path(below: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(below)).to_owned()
}

/// What all parts of a restore share.
struct Restore<'a> {
    repository: &'a Arc<Repository>,
    options: &'a RestoreOptions,
    target: Option<TargetFolder>,
    counters: Counters,
    failed: Failures,
}

/// Most entries with problems that are remembered.
const MAX_FAILURES: usize = 100_000;

/// Which entries had problems: what is at their places may be what was there before.
#[derive(Debug, Default)]
struct Failures(Mutex<HashSet<Box<[u8]>>>);

impl Failures {
    fn add(&self, below: &[u8]) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() < MAX_FAILURES {
            failed.insert(below.into());
        }
    }

    /// Whether an entry had problems, as far as that is known.
    fn may_hold(&self, below: &[u8]) -> bool {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.len() >= MAX_FAILURES || failed.contains(below)
    }
}

impl Restore<'_> {
    fn target(&self) -> Result<&TargetFolder, OpError> {
        self.target.as_ref().ok_or_else(|| OpError::Refused("there is no target".to_owned()))
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn is_interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    /// Reports an entry that could not be restored.
    fn problem(&self, below: &[u8], message: String) {
        Self::count(&self.counters.problems);
        self.failed.add(below);
        let subject = raw_path(below);
        self.repository.observer().event(Event::Problem(Problem { subject, message }));
    }

    /// Reports damage in the repository that an entry cannot be restored for.
    fn damage(&self, below: &[u8], error: &RepositoryError) {
        Self::count(&self.counters.damaged);
        self.problem(below, error.to_string());
    }

    /// Whether a failure at the target concerns one entry only; a full or read-only disk does not.
    fn one_entry_only(&self, below: &[u8], error: TargetError) -> Result<(), OpError> {
        match error.kind {
            TargetErrorKind::NoSpace | TargetErrorKind::ReadOnly => Err(error.into()),
            _ => {
                let cause = error.source.as_ref().map(|cause| format!(" ({cause})"));
                self.problem(below, format!("{error}{}", cause.unwrap_or_default()));
                Ok(())
            }
        }
    }

    /// Counts an entry that was made, and what of its metadata could not be set.
    fn made(&self, below: &[u8], applied: Applied) {
        Self::count(&self.counters.restored);
        self.applied(below, applied);
    }

    /// Gives the target the metadata of the folder whose content it got.
    fn finish_top(&self, meta: &Metadata) -> Result<(), OpError> {
        match self.target()?.finish_top(meta, &self.options.policy) {
            Ok(applied) => self.applied(b".", applied),
            Err(error) => self.one_entry_only(b".", error)?,
        }
        Ok(())
    }

    /// Counts what of an entry's metadata is special, and what could not be set.
    fn applied(&self, below: &[u8], applied: Applied) {
        let counters = &self.counters;
        for (special, lost, set, counter) in [
            (
                Special::SetId,
                applied.special_bits_dropped,
                applied.special_bits_set,
                &counters.set_ids,
            ),
            (
                Special::Capability,
                applied.capability_failed,
                applied.capability_set,
                &counters.capabilities,
            ),
        ] {
            if lost {
                self.lost(below, special);
            } else if set {
                Self::count(counter);
            }
        }
        if applied.foreign_owner {
            Self::count(&counters.foreign_owners);
        }
        for (failed, counter) in [
            (applied.owner_failed, &counters.owners_failed),
            (applied.xattrs_failed > 0, &counters.xattrs_failed),
            (
                applied.mode_failed || applied.times_failed || applied.special_bits_dropped,
                &counters.modes_or_times_failed,
            ),
        ] {
            if failed {
                Self::count(counter);
            }
        }
    }

    /// Names and counts something special that could not be set.
    fn lost(&self, below: &[u8], special: Special) {
        self.counters.lose(below, special);
    }

    /// The path in the snapshot of what is at `below` in the target.
    fn stored(&self, below: &[u8]) -> Vec<u8> {
        let top = self.options.path.as_deref().unwrap_or_default();
        match (top.is_empty(), below.is_empty()) {
            (true, _) => below.to_vec(),
            (_, true) => top.to_vec(),
            _ => [top, below].join(&b'/'),
        }
    }

    /// The path below the target of the entry at `path`; nothing for the top itself.
    fn below<'p>(&self, entry: &'p [u8]) -> Option<&'p [u8]> {
        let top = self.options.path.as_deref().unwrap_or_default();
        if top.is_empty() {
            return Some(entry);
        }
        match entry.strip_prefix(top)? {
            [] => None,
            rest => rest.strip_prefix(b"/"),
        }
    }
}
