//! Index segments: each must open and say of every pack what the pack's own footer says.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::picture::Picture;
use super::records;
use super::report::{self, Report};
use crate::format::pack::Footer;
use crate::format::segment::SegmentPack;
use crate::id::{PackId, SegmentId};
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::{ObjectKind, ObjectName, StorageErrorKind};

/// The segments that are there; nothing when they cannot be listed.
pub(super) fn list(report: &Report<'_>) -> Result<Option<Vec<SegmentId>>, OpError> {
    let listed = report.list(ObjectKind::Segment)?.map(|listing| listing.objects);
    let ids = |objects: Vec<(ObjectName, u64)>| {
        objects.into_iter().map(|(name, _)| SegmentId(name.id)).collect()
    };
    Ok(listed.map(ids))
}

/// Looks at segments and sessions after which it is left open whose pack one is: others replace
/// segments all the time.
const MAX_LOOKS: usize = 8;

/// Compares `segments` with the packs, and takes from them what a pack itself has lost.
pub(super) fn check(
    report: &Report<'_>,
    segments: Option<Vec<SegmentId>>,
    picture: &mut Picture,
) -> Result<(), OpError> {
    if let Some(segments) = segments {
        let mut found = Found::default();
        for &id in &segments {
            found.read(report, id, picture)?;
        }
        found.tell_unexplained(report, segments, picture)?;
    }
    for (pack, no) in picture.packs.iter().zip(0..) {
        if picture.has_spare(no) {
            let text = "its own footer is lost, but an index segment has a copy of it";
            report.note(format!("{}: {text}", ObjectName::pack(pack.id)));
        }
    }
    Ok(())
}

/// What the segments that were read so far say.
#[derive(Default)]
struct Found {
    /// Numbers of the packs that one of them lists.
    listed: HashSet<u32>,
    /// Packs that are not there, with a segment that lists each.
    absent: BTreeMap<PackId, SegmentId>,
    /// Whether one cannot be read: what it lists may be in no other.
    damaged: bool,
}

impl Found {
    fn read(
        &mut self,
        report: &Report<'_>,
        id: SegmentId,
        picture: &mut Picture,
    ) -> Result<(), OpError> {
        report.go_on()?;
        let name = ObjectName::segment(id);
        match report.repository.read_segment(id) {
            Ok(packs) => {
                for pack in packs {
                    match picture.number(&pack.id) {
                        Some(no) => check_pack(report, name, &pack, no, picture, &mut self.listed),
                        None => drop(self.absent.insert(pack.id, id)),
                    }
                }
            }
            // A pruner or another writer replaced it meanwhile.
            Err(RepositoryError::Storage(error)) if error.kind == StorageErrorKind::NotFound => {}
            Err(error) => {
                self.damaged = true;
                let reason = report::reason(error)?;
                let cost = "nothing is lost by that: the packs that it lists are read one by one";
                report.problem(name, format!("{reason}; {cost}"));
            }
        }
        Ok(())
    }

    /// Tells of packs that are in no segment, and of segments that list packs which are gone, as
    /// far as no session explains that. Sessions are listed after the packs and before the
    /// segments: whoever ends one has listed its packs, and replaced what lists deleted ones.
    fn tell_unexplained(
        mut self,
        report: &Report<'_>,
        segments: Vec<SegmentId>,
        picture: &mut Picture,
    ) -> Result<(), OpError> {
        let mut known: BTreeSet<SegmentId> = segments.into_iter().collect();
        let (mut unlisted, mut absent) = self.suspects(picture);
        for _ in 0..MAX_LOOKS {
            if unlisted.is_empty() && absent.is_empty() {
                return Ok(());
            }
            let Some(sessions) = records::at_work(report)? else { return Ok(()) };
            let Some(now) = list(report)? else { return Ok(()) };
            let now: BTreeSet<SegmentId> = now.into_iter().collect();
            for &id in now.difference(&known) {
                self.read(report, id, picture)?;
            }
            self.absent.retain(|_, segment| now.contains(segment));
            (unlisted, absent) = self.suspects(picture);
            unlisted.retain(|pack| !sessions.explain(Some(pack)));
            absent.retain(|_| !sessions.explain(None));
            if now == known {
                tell(report, &unlisted, &absent);
                return Ok(());
            }
            known = now;
        }
        Ok(())
    }

    /// Packs that can be read and are in no segment, and those that only a segment has.
    fn suspects(&self, picture: &Picture) -> (Vec<PackId>, Vec<(PackId, SegmentId)>) {
        // What a damaged segment listed is told with that segment.
        let packs = picture.packs.iter().zip(0..).filter(|_| !self.damaged);
        let unlisted =
            packs.filter(|(pack, no)| pack.footer_hash.is_some() && !self.listed.contains(no));
        let unlisted = unlisted.map(|(pack, _)| pack.id).collect();
        (unlisted, self.absent.iter().map(|(pack, segment)| (*pack, *segment)).collect())
    }
}

fn tell(report: &Report<'_>, unlisted: &[PackId], absent: &[(PackId, SegmentId)]) {
    let there = |pack: &&PackId| !report.is_gone(ObjectName::pack(**pack));
    let mut unlisted = unlisted.iter().filter(there);
    if let Some(first) = unlisted.next() {
        let packs = match unlisted.count() {
            0 => format!("{} is in no index segment", ObjectName::pack(*first)),
            more => format!(
                "{} packs are in no index segment ({} and others)",
                more + 1,
                ObjectName::pack(*first)
            ),
        };
        report.problem(
            "index",
            format!(
                "{packs}, so a segment is missing; nothing is lost by that, but a machine without \
                 a cache reads them one by one; `gabion repair`, or the next prune, lists them again"
            ),
        );
    }
    for (pack, segment) in absent {
        let segment = ObjectName::segment(*segment);
        if !report.is_gone(segment) && report.is_gone(ObjectName::pack(*pack)) {
            let cost = "what snapshots lose by that is told with them";
            report
                .problem(ObjectName::pack(*pack), format!("it is missing, says {segment}; {cost}"));
        }
    }
}

fn check_pack(
    report: &Report<'_>,
    segment: ObjectName,
    listed: &SegmentPack,
    no: u32,
    picture: &mut Picture,
    seen: &mut HashSet<u32>,
) {
    let name = ObjectName::pack(listed.id);
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
