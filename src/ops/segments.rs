//! Index segments: every pack is in one, and none lists packs that are gone.

use std::collections::HashSet;
use std::sync::Arc;

use super::OpError;
use crate::format::segment::SegmentPack;
use crate::id::{PackId, SegmentId, SessionId};
use crate::repo::{Repository, RepositoryError, SEGMENT_BYTES, SEGMENT_PACKS};
use crate::storage::{ObjectKind, ObjectName};

/// Small segments that may stay beside each other: more of them make the first look of another
/// client slower.
const MANY_SEGMENTS: usize = 16;
/// Looks after which it is left to whoever else replaces segments all the time.
const MAX_LOOKS: usize = 4;

/// Replaces segments that list deleted packs or are damaged, and small ones when there are many; and
/// lists what no segment lists and no other session than `own` will. The new ones come first.
pub(super) fn replace(repository: &Arc<Repository>, own: SessionId) -> Result<(), OpError> {
    // Two pruners may each delete the segment that the other relies on: whoever is last sees it.
    for _ in 0..MAX_LOOKS {
        let mut found = Faults::find(repository, own)?;
        found.merge_small(repository)?;
        if !found.any() {
            break;
        }
        let listed = list(repository, &found.unlisted)?;
        if listed == 0 && found.stale.is_empty() {
            // Packs that cannot be read: nobody can list them.
            break;
        }
        for name in found.stale {
            repository.storage().delete(name).map_err(RepositoryError::from)?;
        }
    }
    Ok(())
}

/// What is wrong with the segments as a whole.
pub(super) struct Faults {
    /// Segments that are damaged, or list packs that are not there.
    pub(super) stale: Vec<ObjectName>,
    /// Packs that are in none but these, and that no session at work will list.
    pub(super) unlisted: Vec<PackId>,
    /// Whole ones that are small, with what they list.
    small: Vec<(ObjectName, Vec<PackId>)>,
}

impl Faults {
    pub(super) fn find(repository: &Repository, own: SessionId) -> Result<Self, OpError> {
        let listing =
            repository.storage().list(ObjectKind::Segment).map_err(RepositoryError::from)?;
        let present: HashSet<PackId> = repository.list_packs()?.into_keys().collect();
        let (mut stale, mut small) = (Vec::new(), Vec::new());
        let mut kept: HashSet<PackId> = HashSet::new();
        for (name, len) in listing.objects {
            let packs = match repository.read_segment(SegmentId(name.id)) {
                Ok(packs) => packs.into_iter().map(|pack| pack.id).collect::<Vec<_>>(),
                Err(error) if error.is_damage() => {
                    stale.push(name);
                    continue;
                }
                Err(RepositoryError::Storage(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if !packs.iter().all(|pack| present.contains(pack)) {
                stale.push(name);
                continue;
            }
            kept.extend(&packs);
            if len < SEGMENT_BYTES as u64 / 2 && packs.len() < SEGMENT_PACKS / 2 {
                small.push((name, packs));
            }
        }
        // Others at work list their packs themselves, or whoever ends them does.
        let sessions = repository.storage().list(ObjectKind::Session);
        let sessions = sessions.map_err(RepositoryError::from)?.objects;
        let others = sessions.into_iter().map(|(name, _)| SessionId(name.id));
        let others: Vec<SessionId> = others.filter(|id| *id != own).collect();
        let is_theirs = |pack: &PackId| others.iter().any(|session| pack.is_of_session(*session));
        let mut unlisted: Vec<PackId> = present.difference(&kept).copied().collect();
        // What a segment listed that goes is listed again, whoever uploaded it.
        unlisted.retain(|pack| !stale.is_empty() || !is_theirs(pack));
        unlisted.sort_unstable();
        Ok(Self { stale, unlisted, small })
    }

    pub(super) fn any(&self) -> bool {
        !self.stale.is_empty() || !self.unlisted.is_empty()
    }

    /// Puts small segments together when there are many.
    fn merge_small(&mut self, repository: &Repository) -> Result<(), OpError> {
        if self.small.len() <= MANY_SEGMENTS {
            return Ok(());
        }
        let present = repository.list_packs()?;
        for (name, packs) in std::mem::take(&mut self.small) {
            self.stale.push(name);
            self.unlisted.extend(packs.iter().filter(|pack| present.contains_key(pack)));
        }
        self.unlisted.sort_unstable();
        self.unlisted.dedup();
        Ok(())
    }
}

/// Lists those of `packs` in new segments whose footers can be read; returns how many segments.
pub(super) fn list(repository: &Arc<Repository>, packs: &[PackId]) -> Result<u64, OpError> {
    if packs.iter().any(|pack| repository.index().pack_len(pack).is_none()) {
        repository.load_index()?;
    }
    Ok(publish(repository, packs)?)
}

fn publish(repository: &Repository, packs: &[PackId]) -> Result<u64, RepositoryError> {
    let mut listed: Vec<SegmentPack> = Vec::new();
    let (mut bytes, mut segments) = (0, 0);
    let mut publish = |listed: &mut Vec<SegmentPack>| {
        if listed.is_empty() {
            return Ok(());
        }
        segments += 1;
        repository.publish_segment(SegmentId::random(), &std::mem::take(listed)).map(drop)
    };
    for id in packs {
        let Some(pack) = repository.pack_footer(id)? else { continue };
        let footer = pack.footer.encode();
        bytes += footer.len();
        listed.push(SegmentPack { id: *id, len: pack.len, footer });
        if bytes >= SEGMENT_BYTES || listed.len() >= SEGMENT_PACKS {
            publish(&mut listed)?;
            bytes = 0;
        }
    }
    publish(&mut listed)?;
    Ok(segments)
}
