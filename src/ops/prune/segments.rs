//! Replacing index segments that list packs which are gone.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::segment::SegmentPack;
use crate::id::{PackId, SegmentId};
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError};
use crate::storage::{ObjectKind, ObjectName};

/// Segments that may stay beside each other: more of them make the first look of another client
/// slower.
const MANY_SEGMENTS: usize = 16;
/// Bytes of footers after which a segment is closed.
const SEGMENT_BYTES: usize = 64 << 20;
/// Packs after which a segment is closed.
const SEGMENT_PACKS: usize = 16384;

/// Replaces segments that list deleted packs by new ones, and all of them when there are many. The
/// new ones come first; a segment too many or too few costs time and nothing else.
pub(super) fn replace(repository: &Arc<Repository>) -> Result<(), OpError> {
    let listing = repository.storage().list(ObjectKind::Segment).map_err(RepositoryError::from)?;
    let all = listing.objects.len() > MANY_SEGMENTS;
    let known: HashSet<PackId> = repository.index().packs().map(|(id, _)| id).collect();
    let mut stale = Vec::new();
    let mut kept: HashSet<PackId> = HashSet::new();
    for (name, _) in listing.objects {
        match repository.read_segment(SegmentId(name.id)) {
            Ok(packs) if !all && packs.iter().all(|pack| known.contains(&pack.id)) => {
                kept.extend(packs.iter().map(|pack| pack.id));
            }
            Ok(_) => stale.push(name),
            Err(error) if error.is_damage() => stale.push(name),
            Err(RepositoryError::Storage(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let mut unlisted: Vec<PackId> = known.difference(&kept).copied().collect();
    unlisted.sort_unstable();
    publish(repository, &unlisted)?;
    stale.into_iter().try_for_each(|name: ObjectName| {
        repository.storage().delete(name).map_err(RepositoryError::from)
    })?;
    Ok(())
}

fn publish(repository: &Repository, packs: &[PackId]) -> Result<(), RepositoryError> {
    let mut listed: Vec<SegmentPack> = Vec::new();
    let mut bytes = 0;
    for id in packs {
        let Some(pack) = repository.index().pack_footer(id)? else { continue };
        let footer = pack.footer.encode();
        bytes += footer.len();
        listed.push(SegmentPack { id: *id, len: pack.len, footer });
        if bytes >= SEGMENT_BYTES || listed.len() >= SEGMENT_PACKS {
            repository.publish_segment(SegmentId::random(), &listed)?;
            listed.clear();
            bytes = 0;
        }
    }
    if !listed.is_empty() {
        repository.publish_segment(SegmentId::random(), &listed)?;
    }
    Ok(())
}
