//! Forgetting snapshots, by name or by a policy. Only their records are removed; no chunk is.
//!
//! First a [`ForgetPlan`] is made, which is a value that can be shown; executing it consumes it.

use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::resolve::{begins_with, current, find_among, replaced};
use super::retention::{Candidate, Group, GroupBy, Policy, decide, group};
use super::{OpError, retention};
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::repo::{Presence, Repository, SnapshotRecords};
use crate::storage::ObjectName;

/// So many snapshots a policy may always remove at once, whatever share of all they are.
const ALWAYS_ALLOWED: usize = 3;

/// How much may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetLimits {
    /// As much as the plan says.
    pub force: bool,
    /// The largest share of the snapshots that a policy judges, in percent, that it may remove
    /// when they are more than a few.
    pub max_share_percent: u8,
}

impl Default for ForgetLimits {
    fn default() -> Self {
        Self { force: false, max_share_percent: 50 }
    }
}

/// Which snapshots stay and which go.
#[derive(Debug, Clone, PartialEq)]
pub struct ForgetPlan {
    groups: Vec<Group>,
    damaged: Vec<SnapshotId>,
    by_policy: bool,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForgetSummary {
    /// The ids of the records that are gone.
    pub removed: Vec<SnapshotId>,
    /// Snapshots that were looked at and stay.
    pub kept: u64,
}

impl ForgetPlan {
    /// Judges the snapshots that `wanted` says yes to by a policy, in groups. Periods of the
    /// calendar begin and end in `zone`.
    ///
    /// # Errors
    /// `Refused` when the policy is empty, or a snapshot's record is damaged: what cannot be seen
    /// cannot be judged, and the others of its group might be judged wrongly. When storage fails.
    pub fn by_policy(
        repository: &Repository,
        wanted: &dyn Fn(&Snapshot) -> bool,
        policy: &Policy,
        by: GroupBy,
        zone: &TimeZone,
    ) -> Result<Self, OpError> {
        let records = repository.snapshot_records(false)?;
        if let Some(damaged) = records.damaged.first() {
            let id = SnapshotId(damaged.object.id);
            return Err(OpError::Refused(format!(
                "{} is damaged, and a policy cannot judge what it cannot read: bring the object \
                 back from a copy of the repository, or give it up with `gabion forget {id} --force`",
                damaged.object
            )));
        }
        let groups = decide(candidates(records, wanted), policy, by, zone)
            .map_err(|error @ retention::EmptyPolicy| OpError::Refused(error.to_string()))?;
        Ok(Self { groups, damaged: Vec::new(), by_policy: true })
    }

    /// Removes the snapshots that `names` name, as [`super::find_snapshot`] understands them, with
    /// the records that they replace. A damaged record can be named by its id, too.
    ///
    /// # Errors
    /// When a name fits no snapshot or several, or one that is pinned. When storage fails.
    pub fn named(repository: &Repository, names: &[String], by: GroupBy) -> Result<Self, OpError> {
        let records = repository.snapshot_records(false)?;
        let (snapshots, unreadable) = (&records.snapshots, &records.damaged);
        let now = current(snapshots.clone());
        let (mut victims, mut damaged) = (HashSet::new(), Vec::new());
        for name in names {
            match find_among(&now, name) {
                Ok(found) => drop(victims.insert(found.id)),
                Err(error @ OpError::UnknownSnapshot(_)) => {
                    let ids = unreadable.iter().map(|one| SnapshotId(one.object.id));
                    let fits: Vec<SnapshotId> = ids.filter(|id| begins_with(id, name)).collect();
                    let [only] = fits[..] else { return Err(error) };
                    damaged.push(only);
                }
                Err(error) => return Err(error),
            }
        }
        let successors = replaced(snapshots);
        let goes = |id: &SnapshotId| victims.contains(successors.get(id).unwrap_or(id));
        if let Some(pinned) = snapshots.iter().find(|one| one.pinned && goes(&one.id)) {
            let id = pinned.id;
            return Err(OpError::Refused(format!(
                "snapshot {id} is pinned: `gabion unpin {id}` first"
            )));
        }
        let mut groups = group(candidates(records, &|_| true), by);
        for decision in groups.iter_mut().flat_map(|group| &mut group.decisions) {
            decision.kept = !goes(&decision.snapshot.id);
        }
        damaged.sort_unstable();
        damaged.dedup();
        Ok(Self { groups, damaged, by_policy: false })
    }

    /// The snapshots that were looked at, in their groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Records that go although what they hold cannot be known.
    pub fn damaged(&self) -> &[SnapshotId] {
        &self.damaged
    }

    /// The snapshots that were looked at and go.
    fn going(&self) -> impl Iterator<Item = &Snapshot> {
        let decisions = self.groups.iter().flat_map(|group| &group.decisions);
        decisions.filter(|one| !one.kept).map(|one| &one.snapshot)
    }

    /// What would be removed and kept.
    pub fn summary(&self) -> ForgetSummary {
        let all: usize = self.groups.iter().map(|group| group.decisions.len()).sum();
        let goes: Vec<&Snapshot> = self.going().collect();
        let kept = u64::try_from(all - goes.len()).unwrap_or(u64::MAX);
        // What was replaced goes before what replaces it: else it would be back after an
        // interruption in between.
        let successors = replaced(goes.iter().copied());
        let mut removed: Vec<SnapshotId> = goes.iter().map(|snapshot| snapshot.id).collect();
        removed.sort_by_key(|id| !successors.contains_key(id));
        removed.extend(&self.damaged);
        ForgetSummary { removed, kept }
    }

    /// Whether so much may be removed.
    ///
    /// # Errors
    /// `Refused`, with the way out.
    pub fn check(&self, limits: ForgetLimits) -> Result<(), OpError> {
        if limits.force {
            return Ok(());
        }
        if let Some(id) = self.damaged.first() {
            return Err(OpError::Refused(format!(
                "{} is damaged: what it holds cannot be known; --force removes it",
                ObjectName::snapshot(*id)
            )));
        }
        for group in &self.groups {
            if let Some(last) = last_complete(group) {
                return Err(OpError::Refused(format!(
                    "this would remove snapshot {last}, the last complete one of {}; --force \
                     removes it all the same",
                    group.key
                )));
            }
        }
        let total: usize = self.groups.iter().map(|group| group.decisions.len()).sum();
        let removed = self.summary().removed.len();
        let share = limits.max_share_percent;
        if self.by_policy && removed > ALWAYS_ALLOWED && removed * 100 > total * usize::from(share)
        {
            return Err(OpError::Refused(format!(
                "this would remove {removed} of {total} snapshots, more than {share}%: look at \
                 them with --dry-run, then say --force (the first run of a new policy over old \
                 snapshots needs it once) or a larger --max-share"
            )));
        }
        Ok(())
    }

    /// Removes the records.
    ///
    /// # Errors
    /// As [`Self::check`], nothing is changed then; when storage fails, some may be removed.
    pub fn execute(
        self,
        repository: &Repository,
        limits: ForgetLimits,
        presence: &Presence,
    ) -> Result<ForgetSummary, OpError> {
        self.check(limits)?;
        let summary = self.summary();
        if !summary.removed.is_empty() {
            // Before it is done: a prune after an interruption would wonder where they are. It may
            // have seen them under ids that they had before their tags were changed.
            let formerly = self.going().flat_map(|snapshot| snapshot.formerly.clone());
            let formerly: Vec<SnapshotId> = formerly.collect();
            let ids: Vec<SnapshotId> = summary.removed.iter().chain(&formerly).copied().collect();
            super::prune::forgotten(repository, &ids);
            repository.forget_snapshots(&summary.removed, &formerly, presence)?;
        }
        Ok(summary)
    }
}

/// The newest of the complete snapshots of a group, if all of them would go. Where there are
/// complete ones whose times are believed, only these count: the others may be made up.
fn last_complete(group: &Group) -> Option<SnapshotId> {
    let complete = || group.decisions.iter().filter(|one| one.snapshot.is_complete());
    let some_believed = complete().any(|one| one.believed);
    let mut counting = complete().filter(|one| one.believed || !some_believed);
    let newest = counting.clone().next_back()?;
    counting.all(|one| !one.kept).then_some(newest.snapshot.id)
}

/// The wanted snapshots, with when each was stored.
fn candidates(records: SnapshotRecords, wanted: &dyn Fn(&Snapshot) -> bool) -> Vec<Candidate> {
    let SnapshotRecords { mut snapshots, stored, .. } = records;
    snapshots.retain(wanted);
    let with_time = |snapshot: Snapshot| {
        // One without a time was deleted since it was listed.
        let stored = *stored.get(&snapshot.id)?;
        Some(Candidate { snapshot, stored })
    };
    snapshots.into_iter().filter_map(with_time).collect()
}
