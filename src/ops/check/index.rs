//! Index segments: each must open and say of every pack what the pack's own footer says.

use std::collections::HashSet;

use super::picture::Picture;
use super::report::{self, Report};
use crate::format::pack::Footer;
use crate::format::segment::SegmentPack;
use crate::id::SegmentId;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// The segments that are there. Listed before the packs: a pruner removes a pack from the segments
/// before it removes the pack.
pub(super) fn list(report: &Report<'_>) -> Result<Vec<SegmentId>, OpError> {
    let listed = report.list(ObjectKind::Segment)?.map(|listing| listing.objects);
    let listed = listed.unwrap_or_default();
    Ok(listed.into_iter().map(|(name, _)| SegmentId(name.id)).collect())
}

/// Compares `segments` with the packs, and takes from them what a pack itself has lost.
pub(super) fn check(
    report: &Report<'_>,
    segments: &[SegmentId],
    picture: &mut Picture,
) -> Result<(), OpError> {
    let mut listed = HashSet::new();
    for &id in segments {
        report.go_on()?;
        let name = ObjectName::segment(id);
        match report.repository.read_segment(id) {
            Ok(packs) => {
                for pack in packs {
                    check_pack(report, name, &pack, picture, &mut listed);
                }
            }
            // A pruner or another writer replaced it meanwhile.
            Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NotFound => {}
            Err(error) => {
                let reason = report::reason(error)?;
                let cost = "nothing is lost by that: the packs that it lists are read one by one";
                report.problem(name, format!("{reason}; {cost}"));
            }
        }
    }
    let unlisted = picture.packs.len() - listed.len();
    if unlisted > 0 {
        report.note(format!(
            "{unlisted} packs are in no index segment; a machine without a cache reads them one \
             by one"
        ));
    }
    for (pack, no) in picture.packs.iter().zip(0..) {
        if picture.has_spare(no) {
            let text = "its own footer is lost, but an index segment has a copy of it";
            report.note(format!("{}: {text}", ObjectName::pack(pack.id)));
        }
    }
    Ok(())
}

fn check_pack(
    report: &Report<'_>,
    segment: ObjectName,
    listed: &SegmentPack,
    picture: &mut Picture,
    seen: &mut HashSet<u32>,
) {
    let name = ObjectName::pack(listed.id);
    let Some(no) = picture.number(&listed.id) else {
        report.note(format!("{segment} lists {name}, which is not there"));
        return;
    };
    let pack = &picture.packs[no as usize];
    if pack.len != listed.len {
        let (now, then) = (pack.len, listed.len);
        report.problem(name, format!("it has {now} bytes where {segment} says {then}"));
        return;
    }
    seen.insert(no);
    match &pack.footer_hash {
        Some(hash) if hash != blake3::hash(&listed.footer).as_bytes() => {
            report.problem(segment, format!("what it says of {name} is not what the pack says"));
        }
        Some(_) => {}
        None => {
            if let Ok(footer) = Footer::decode(&listed.footer) {
                picture.add_spare(no, footer);
            }
        }
    }
}
