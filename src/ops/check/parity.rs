//! Parity: every pack has it, and it and the pack are what they were.

use std::collections::HashSet;

use rayon::prelude::*;

use super::picture::{Pack, Picture};
use super::report::Report;
use crate::id::{PackId, SessionId};
use crate::ops::OpError;
use crate::repo::{PackState, ParityHead, pack_state, parity_head};
use crate::storage::{ObjectKind, ObjectName};

const LOST: &str = "damage of its pack cannot be repaired until it is made again";

/// Every pack must have a parity object of the right length whose heads are whole.
pub(super) fn check(report: &Report<'_>, picture: &Picture) -> Result<(), OpError> {
    if report.repository.parity().is_none() {
        return Ok(());
    }
    report.phase("checking the parity of all packs");
    report.total(picture.packs.len() as u64, 0);
    picture.packs.par_iter().try_for_each(|pack| {
        report.go_on()?;
        check_head(report, pack)?;
        report.progress(1, 0);
        Ok::<(), OpError>(())
    })?;
    check_orphans(report, picture)
}

fn check_head(report: &Report<'_>, pack: &Pack) -> Result<(), OpError> {
    let name = ObjectName::parity(pack.id);
    let problem = match parity_head(&**report.repository.storage(), pack.id)? {
        ParityHead::Missing => format!("it is missing: {LOST}"),
        ParityHead::Lost(reason) => format!("{reason}: {LOST}"),
        ParityHead::Usable { flaw: Some(flaw), .. } => {
            format!("{flaw}; as long as the other one is whole, it is used")
        }
        ParityHead::Usable { head, flaw: None } => {
            let (now, then) = (pack.len, head.layout.pack_len());
            if now != then {
                let text = format!("it has {now} bytes where its parity says {then}");
                report.problem(ObjectName::pack(pack.id), text);
            }
            return Ok(());
        }
    };
    // A pruner deletes the pack first.
    if !report.is_gone(ObjectName::pack(pack.id)) {
        report.problem(name, problem);
    }
    Ok(())
}

/// Parity without a pack is left behind by runs that were cut off, or of a pack that is just coming.
fn check_orphans(report: &Report<'_>, picture: &Picture) -> Result<(), OpError> {
    let list = |kind| report.list(kind).map(|found| found.unwrap_or_default().objects);
    let parity = list(ObjectKind::Parity)?;
    let sessions = list(ObjectKind::Session)?;
    let at_work: HashSet<SessionId> =
        sessions.into_iter().map(|(name, _)| SessionId(name.id)).collect();
    let orphans = parity.into_iter().map(|(name, _)| PackId(name.id)).filter(|id| {
        picture.number(id).is_none()
            && !at_work.iter().any(|session| id.is_of_session(*session))
            && report.is_gone(ObjectName::pack(*id))
    });
    let count = orphans.count();
    if count > 0 {
        report
            .note(format!("{count} parity objects are of packs that are gone; prune removes them"));
    }
    Ok(())
}

/// Reads a pack and its parity, and compares every shard with its hash.
pub(super) fn check_shards(report: &Report<'_>, pack: &Pack) -> Result<(), OpError> {
    if report.repository.parity().is_none() {
        return Ok(());
    }
    let storage = &**report.repository.storage();
    // What is wrong with its heads was told before.
    let ParityHead::Usable { head, .. } = parity_head(storage, pack.id)? else { return Ok(()) };
    let state = pack_state(storage, head, &[])?;
    let (data, parity) = (state.lost.data(&state.head).len(), state.lost.parity(&state.head).len());
    if !state.is_sound && !report.is_gone(ObjectName::pack(pack.id)) {
        report.problem(ObjectName::pack(pack.id), told(&state, data));
    }
    if parity > 0 && !report.is_gone(ObjectName::pack(pack.id)) {
        let text = format!("{parity} of its {} shards", state.head.layout.parity_shards());
        report.problem(ObjectName::parity(pack.id), format!("{text} are damaged"));
    }
    Ok(())
}

fn told(state: &PackState, data: usize) -> String {
    let layout = state.head.layout;
    let what = match data {
        0 => "it is not what was written".to_owned(),
        _ => format!("{data} of its {} shards are damaged", layout.data_shards()),
    };
    if state.can_be_rebuilt() {
        return format!("{what}; it can be rebuilt with its parity");
    }
    let (lost, most) = (state.lost.len(), layout.parity_shards());
    format!("{what}; with {lost} lost shards and parity for {most} it cannot be rebuilt whole")
}
