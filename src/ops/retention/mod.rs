//! Which snapshots a policy keeps: a pure function from snapshots to one decision for each, with
//! all reasons for it.
//!
//! Snapshots are judged in **groups** ([`GroupBy`]), and within a group in **series**. Each series
//! is judged as if the others were not there.
//!
//! # Times that are not believed
//!
//! A snapshot says of itself which time it is of, and whoever can add snapshots can let it say
//! anything: made-up ones with well-chosen times would fill every slot of a policy, and the real
//! ones would go. So the claimed time is compared with the time at which the object was stored,
//! which its writer does not choose where writers may only add. When both are within
//! [`BELIEVED_WITHIN_SECONDS`] of each other, the claimed time is believed. The others of the group
//! are a second series, judged by their claimed times among themselves. They can never push out a
//! snapshot that is believed; and an import of old data with `--time`, a repository that was copied
//! without the times of its files, a snapshot that took longer than a day, or one that was tagged
//! long after it was taken (its record is new) is not harmed either: at worst more is kept.
//!
//! # Incomplete snapshots
//!
//! A snapshot with problems never displaces a complete one. The complete ones of a series are
//! judged as if there were no others. Then all are judged together, and of that judgement only what
//! it says of the incomplete ones counts: an incomplete one is kept where it stands among the
//! newest, within a duration, or in a period that is kept and holds no complete one. And the
//! newest of a series, when it is incomplete, is kept beside the complete ones until there is a
//! newer complete one.
//!
//! # Pinned and replaced snapshots
//!
//! Pinned snapshots are kept, take part in no counting and so displace nobody. A record and the one
//! that it [replaces](Snapshot::replaces), which are both there only after an interruption, are one
//! snapshot when they are of one series: pinned when one of them is, with the tags of both.

mod group;
mod period;
mod policy;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;

pub use group::{GroupBy, GroupKey};
pub use period::Period;
pub use policy::{KeepSpan, Policy};

pub use crate::repo::times::BELIEVED_WITHIN_SECONDS;

use crate::format::entry::Timestamp;
use crate::format::snapshot::Snapshot;
use crate::repo::times;

/// A snapshot that a policy is to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// When its object was stored, by the clock of the place.
    pub stored: Timestamp,
}

impl Candidate {
    /// Whether the claimed time is close enough to the time of storing.
    pub fn is_believed(&self) -> bool {
        times::is_believed(self.snapshot.time.into(), self.stored)
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is pinned.
    Pinned,
    /// It has this tag.
    Tag(String),
    /// It is the n-th newest, counted from 1.
    Last(u64),
    /// It stands for the period with this name, one of the newest.
    Of(Period, String),
    /// It is no older than this before the newest.
    Within(KeepSpan),
    /// It stands for the period with this name, and is no older than this before the newest.
    OfWithin(Period, String, KeepSpan),
    /// It is the newest and incomplete, and no newer one is complete.
    NewestIncomplete,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Last(n) => write!(f, "last {n}"),
            Self::Of(period, name) => write!(f, "{} {name}", period.name()),
            Self::Within(span) => write!(f, "within {span}"),
            Self::OfWithin(period, name, span) => {
                write!(f, "{} {name} within {span}", period.name())
            }
            Self::NewestIncomplete => f.write_str("newest, incomplete"),
        }
    }
}

/// What is to become of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether its claimed time is believed; see the [module](self).
    pub believed: bool,
    /// Whether it stays.
    pub kept: bool,
    /// Why the policy keeps it: all that applies.
    pub reasons: Vec<Reason>,
}

/// The snapshots that were judged together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// One for each snapshot, oldest first by claimed time.
    pub decisions: Vec<Decision>,
}

/// A policy under which nothing would be kept is taken for a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy keeps nothing: it would remove everything")]
pub struct EmptyPolicy;

/// Judges the candidates by `policy`, each in its group. Calendar periods begin and end in `zone`.
/// The result depends on neither the order of the candidates nor the present time.
///
/// # Errors
/// When the policy keeps nothing, whatever the snapshots are.
pub fn decide(
    candidates: Vec<Candidate>,
    policy: &Policy,
    by: GroupBy,
    zone: &TimeZone,
) -> Result<Vec<Group>, EmptyPolicy> {
    if policy.is_empty() {
        return Err(EmptyPolicy);
    }
    let mut groups = group(candidates, by);
    for group in &mut groups {
        for believed in [true, false] {
            let of_series: Vec<usize> = (0..group.decisions.len())
                .filter(|&at| group.decisions[at].believed == believed)
                .collect();
            let snapshots: Vec<&Snapshot> =
                of_series.iter().map(|&at| &group.decisions[at].snapshot).collect();
            let reasons = series::judge(&snapshots, policy, zone);
            for (at, reasons) in of_series.into_iter().zip(reasons) {
                group.decisions[at].kept = !reasons.is_empty();
                group.decisions[at].reasons = reasons;
            }
        }
    }
    Ok(groups)
}

/// Sorts the candidates into groups; all are kept, for no reason yet.
pub(super) fn group(candidates: Vec<Candidate>, by: GroupBy) -> Vec<Group> {
    let mut groups: BTreeMap<GroupKey, Vec<Decision>> = BTreeMap::new();
    for candidate in candidates {
        let key = GroupKey::of(&candidate.snapshot, by);
        let believed = candidate.is_believed();
        let snapshot = candidate.snapshot;
        let decision = Decision { snapshot, believed, kept: true, reasons: Vec::new() };
        groups.entry(key).or_default().push(decision);
    }
    let sorted = |(key, mut decisions): (GroupKey, Vec<Decision>)| {
        decisions.sort_by_key(|decision| (decision.snapshot.time, decision.snapshot.id));
        Group { key, decisions }
    };
    groups.into_iter().map(sorted).collect()
}
