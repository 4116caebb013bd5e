//! Index segments: every pack is in one, and none lists packs that are gone.

use std::collections::HashSet;

use super::Prune;
use crate::format::segment::SegmentPack;
use crate::id::{PackId, SegmentId};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::storage::{ObjectKind, ObjectName};

/// Small segments that may stay beside each other: more of them make the first look of another
/// client slower.
const MANY_SEGMENTS: usize = 16;
/// Bytes of footers after which a segment is closed.
const SEGMENT_BYTES: usize = 64 << 20;
/// Packs after which a segment is closed.
const SEGMENT_PACKS: usize = 16384;
/// Looks after which it is left to whoever else replaces segments all the time.
const MAX_LOOKS: usize = 4;

/// Replaces segments that list deleted packs, and small ones when there are many; and lists what no
/// segment lists and no other session at work will. The new ones come first.
pub(super) fn replace(prune: &Prune<'_>) -> Result<(), OpError> {
    // Two pruners may each delete the segment that the other relies on: whoever is last sees it.
    for _ in 0..MAX_LOOKS {
        if !replace_once(prune)? {
            break;
        }
    }
    Ok(())
}

/// Whether there was anything to do.
fn replace_once(prune: &Prune<'_>) -> Result<bool, OpError> {
    let repository = prune.repository;
    let listing = repository.storage().list(ObjectKind::Segment).map_err(RepositoryError::from)?;
    let present: HashSet<PackId> = repository.list_packs()?.into_keys().collect();
    let mut stale = Vec::new();
    let mut small = Vec::new();
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
        } else if len < SEGMENT_BYTES as u64 / 2 && packs.len() < SEGMENT_PACKS / 2 {
            small.push((name, packs));
        } else {
            kept.extend(packs);
        }
    }
    if small.len() > MANY_SEGMENTS {
        stale.extend(small.into_iter().map(|(name, _)| name));
    } else {
        kept.extend(small.into_iter().flat_map(|(_, packs)| packs));
    }
    let mut unlisted: Vec<PackId> = present.difference(&kept).copied().collect();
    if stale.is_empty() {
        // They list their packs themselves, or whoever ends them does.
        let others: Vec<_> =
            prune.all_sessions()?.into_iter().filter(|id| *id != prune.session).collect();
        unlisted.retain(|pack| !others.iter().any(|session| pack.is_of_session(*session)));
    }
    if unlisted.iter().any(|pack| repository.index().pack_len(pack).is_none()) {
        repository.load_index()?;
    }
    unlisted.sort_unstable();
    let published = publish(repository, &unlisted)?;
    let changed = published > 0 || !stale.is_empty();
    stale.into_iter().try_for_each(|name: ObjectName| prune.delete(name))?;
    Ok(changed)
}

/// Lists those of `packs` whose footers are known; returns how many segments that took.
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
        let Some(pack) = repository.index().pack_footer(id)? else { continue };
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
