//! Damaged records of those who coordinate. They keep others from working and can be put aside when
//! nobody is at work who may still need them.

use super::Repair;
use crate::ops::OpError;
use crate::repo::{Damaged, RepositoryError};

/// Puts aside damaged roots and marks, unless somebody is at work: the root may be of one who is
/// about to confirm it, and what the mark condemned is about to be deleted.
pub(super) fn set_aside_damaged(repair: &Repair<'_>) -> Result<(), OpError> {
    let roots = repair.repository.roots()?.1;
    let marks = repair.repository.readable_marks()?.1;
    let damaged = roots.into_iter().chain(marks);
    let is_damage =
        |Damaged { error, .. }: &Damaged| matches!(error, RepositoryError::Damaged { .. });
    let damaged: Vec<Damaged> = damaged.filter(is_damage).collect();
    if damaged.is_empty() || repair.others_at_work()? {
        return Ok(());
    }
    damaged.into_iter().try_for_each(|damaged| repair.set_aside(damaged.object))
}
