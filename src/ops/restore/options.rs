//! What is restored, where and how, and what came of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::snapshot::Snapshot;
use crate::source::pattern::Patterns;
use crate::target::MetadataPolicy;

/// What happens to what is at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced unless size and time of the last change are the same, and it is one file with
    /// the same names as in the snapshot.
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

/// What gives an entry more rights than its content, or access to hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// The set-user-id or set-group-id bit.
    SetId,
    /// Capabilities of a program.
    Capability,
    /// A device.
    Device,
}

impl Special {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetId => "set-user-id or set-group-id bit",
            Self::Capability => "capabilities",
            Self::Device => "device",
        }
    }
}

/// Something special that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostSpecial {
    /// The entry, below the target.
    pub path: Box<[u8]>,
    /// What of it.
    pub what: Special,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// Names of files that are not linked with other names of the same file, as in the snapshot.
    pub unlinked: u64,
    /// Entries that got their set-user-id or set-group-id bits.
    pub set_ids: u64,
    /// Entries that got capabilities.
    pub capabilities: u64,
    /// Devices that were made.
    pub devices: u64,
    /// Entries that were given to another user than the one who restores.
    pub foreign_owners: u64,
    /// Devices that were left out because the policy leaves special things out.
    pub specials_left_out: u64,
    /// How many set-user-id and set-group-id bits, capabilities and devices could not be restored.
    pub specials_lost: u64,
    /// The first of those.
    pub lost: Vec<LostSpecial>,
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
    pub(super) unlinked: AtomicU64,
    pub(super) set_ids: AtomicU64,
    pub(super) capabilities: AtomicU64,
    pub(super) devices: AtomicU64,
    pub(super) foreign_owners: AtomicU64,
    pub(super) specials_left_out: AtomicU64,
    pub(super) specials_lost: AtomicU64,
    lost: Mutex<Vec<LostSpecial>>,
    pub(super) problems: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) verified: AtomicU64,
}

/// How many special things that were lost are named.
const NAMED: usize = 20;

impl Counters {
    /// Counts something special that could not be restored, and names the first.
    pub(super) fn lose(&self, below: &[u8], what: Special) {
        self.specials_lost.fetch_add(1, Ordering::Relaxed);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < NAMED {
            lost.push(LostSpecial { path: below.into(), what });
        }
    }

    pub(super) fn summary(&self) -> RestoreSummary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
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
            unlinked: get(&self.unlinked),
            set_ids: get(&self.set_ids),
            capabilities: get(&self.capabilities),
            devices: get(&self.devices),
            foreign_owners: get(&self.foreign_owners),
            specials_left_out: get(&self.specials_left_out),
            specials_lost: get(&self.specials_lost),
            lost: self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            problems: get(&self.problems),
            damaged: get(&self.damaged),
            verified: get(&self.verified),
        }
    }
}
