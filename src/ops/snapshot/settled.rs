//! Whether a file was left alone while it was read.

use super::pipeline::Shared;
use super::read::ATTEMPTS;
use crate::format::entry::Metadata;
use crate::id::ChunkId;
use crate::source::{Stat, Upkeep};

/// What a source did while it was read.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) enum Outcome {
    /// The same before and after.
    Settled,
    /// Changed again and again.
    Unsettled,
}

/// What readings of one file agree on, where it is of another length than the file system says.
#[derive(Debug, Default)]
pub(super) struct Agreement(Option<(u64, Fingerprint)>);

/// A hash of what was read.
pub(super) type Fingerprint = ChunkId;

impl Agreement {
    /// Whether a reading of `len` bytes to the end of the file, between two looks at it, is of one
    /// moment: nothing changed, or a file that only grows grew.
    pub(super) fn is_settled(
        &mut self,
        before: &Stat,
        after: &Stat,
        (may_grow, len): (bool, u64),
        fingerprint: impl FnOnce() -> Fingerprint,
    ) -> bool {
        if may_grow && after.is_same_inode(before) && after.size > before.size {
            return len == before.size;
        }
        if !after.is_same_state(before) {
            self.0 = None;
            return false;
        }
        // What the kernel makes up (`/proc`) is of one moment each time it is read.
        if len == before.size || before.upkeep == Upkeep::MadeUp {
            return true;
        }
        let this = Some((len, fingerprint()));
        std::mem::replace(&mut self.0, this) == this
    }
}

/// Enters what was really read, and reports a file that would not hold still.
pub(super) fn settle(
    shared: &Shared,
    path: &[u8],
    meta: &mut Metadata,
    len: u64,
    outcome: Outcome,
) {
    meta.size = len;
    meta.unsettled = outcome == Outcome::Unsettled;
    if meta.unsettled {
        let what = format!("it changed while it was read, {ATTEMPTS} times; stored as last read");
        shared.problem(path, what);
    }
}
