//! What is restored, where and how, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::format::snapshot::Snapshot;
use crate::source::pattern::Patterns;
use crate::target::MetadataPolicy;

/// What happens to what is at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced unless size and time of the last change are the same.
    IfChanged,
    /// It is replaced when the snapshot's is newer.
    IfNewer,
    /// It stays.
    Never,
}

/// What is restored, where and how.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What of it, as stored; what it holds goes into the target, and a target that was new or
    /// empty gets its mode, owner, times and attributes. Nothing: all of it, absolute paths
    /// recreated below the target.
    pub path: Option<Vec<u8>>,
    /// The folder to restore into; made when it is missing.
    pub target: PathBuf,
    /// Relative to the target: only what matches is restored. A pattern that matches nothing is a
    /// problem.
    pub include: Patterns,
    /// Relative to the target: what matches is not restored.
    pub exclude: Patterns,
    /// What happens to what is there; without it the target must be empty.
    pub overwrite: Option<Overwrite>,
    /// Remove what the snapshot does not have, at and below the places of its own sources. What
    /// its exclude rules left out stays, and so does what lies on another mount.
    pub delete: bool,
    /// With `delete`: remove also what the exclude rules of the snapshot left out.
    pub delete_excluded: bool,
    /// What is never removed, with all that is in it: where the repository, the cache and the like
    /// are. The paths are absolute; symbolic links on the way to them stay, too.
    pub protected: Vec<PathBuf>,
    /// Say what would be done and do nothing.
    pub dry_run: bool,
    /// Read everything back afterwards and compare.
    pub verify: bool,
    /// Which metadata is restored.
    pub policy: MetadataPolicy,
    /// Make everything durable before reporting success.
    pub sync: bool,
    /// Threads that decode and write.
    pub threads: usize,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreSummary {
    /// Entries that were made or replaced (or would be).
    pub restored: u64,
    /// Entries that were there as they should be, content-wise.
    pub unchanged: u64,
    /// Entries that were left as they were because of `overwrite`.
    pub kept: u64,
    /// Entries left out by patterns.
    pub left_out: u64,
    /// Sockets, which only their owners can make.
    pub sockets: u64,
    /// Entries removed because the snapshot does not have them.
    pub deleted: u64,
    /// Plain bytes written.
    pub bytes: u64,
    /// Entries whose owner could not be set.
    pub owners_failed: u64,
    /// Entries with extended attributes that could not be set.
    pub xattrs_failed: u64,
    /// Entries whose mode (special bits included) or times could not be set.
    pub modes_or_times_failed: u64,
    /// Entries that could not be restored, and entries that differ when verified.
    pub problems: u64,
    /// How many of the problems are damage in the repository.
    pub damaged: u64,
    /// Entries that were read back and compared.
    pub verified: u64,
}

/// The same counts while many threads add to them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) restored: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) sockets: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) owners_failed: AtomicU64,
    pub(super) xattrs_failed: AtomicU64,
    pub(super) modes_or_times_failed: AtomicU64,
    pub(super) problems: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) verified: AtomicU64,
}

impl Counters {
    pub(super) fn summary(&self) -> RestoreSummary {
        let get = |counter: &AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        RestoreSummary {
            restored: get(&self.restored),
            unchanged: get(&self.unchanged),
            kept: get(&self.kept),
            left_out: get(&self.left_out),
            sockets: get(&self.sockets),
            deleted: get(&self.deleted),
            bytes: get(&self.bytes),
            owners_failed: get(&self.owners_failed),
            xattrs_failed: get(&self.xattrs_failed),
            modes_or_times_failed: get(&self.modes_or_times_failed),
            problems: get(&self.problems),
            damaged: get(&self.damaged),
            verified: get(&self.verified),
        }
    }
}
