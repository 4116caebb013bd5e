//! From what is left of a pack and its parity object back to the pack.

use super::code::{Decoder, TooFew};
use crate::format::parity::{Head, PackHasher, SHARD_UNIT, ShardHash, shard_hash};

/// Most bytes of shard columns that the code works on at a time.
const COLUMN_BYTES: usize = 8 << 20;
/// Most bytes of lost shards that are found at a time. More are found one batch after the other.
const BATCH_BYTES: usize = 16 << 20;

/// The shards of a pack that are lost, by their numbers among all, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost(Vec<u32>);

impl Lost {
    /// These shards are lost.
    pub fn new(mut shards: Vec<u32>) -> Self {
        shards.sort_unstable();
        shards.dedup();
        Self(shards)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this shard is.
    pub fn contains(&self, shard: u32) -> bool {
        self.0.binary_search(&shard).is_ok()
    }

    /// The lost data shards.
    pub fn data(&self, head: &Head) -> &[u32] {
        &self.0[..self.0.partition_point(|shard| *shard < head.layout.data_shards())]
    }

    /// The lost parity shards, by their numbers among all.
    pub fn parity(&self, head: &Head) -> &[u32] {
        &self.0[self.data(head).len()..]
    }

    /// Whether the rest is enough to find them.
    pub fn can_be_found(&self, head: &Head) -> bool {
        self.data(head).is_empty() || self.len() <= head.layout.parity_shards() as usize
    }
}

/// Why a pack was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError<E> {
    /// More shards are lost than there is parity for.
    #[error("{lost} shards are lost, parity can replace {parity}")]
    TooMany {
        /// How many are lost.
        lost: usize,
        /// How many may be.
        parity: u32,
    },
    /// What came out is not what the pack was.
    #[error("what was rebuilt does not have the hash of what was written")]
    Different,
    /// The rest could not be read, or the result not be written.
    #[error(transparent)]
    Failed(#[from] E),
}

/// Rebuilds a pack from the shards that are not `lost` and hands it to `take`, piece by piece, from
/// its first byte to its last. `read` fills a buffer with the bytes of a shard, by its number among
/// all, from an offset inside it on.
///
/// What is taken *may* be wrong until this returns without an error: only then the whole was
/// compared with the pack's hash.
///
/// # Errors
/// When too much is lost, `read` or `take` fail, or the result is not the pack that was.
pub fn rebuild<E>(
    head: &Head,
    lost: &Lost,
    mut read: impl FnMut(u32, usize, &mut [u8]) -> Result<(), E>,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), RebuildError<E>> {
    if !lost.can_be_found(head) {
        return Err(too_many(head, lost));
    }
    let len = head.layout.shard_len() as usize;
    let mut hasher = PackHasher::default();
    let mut buffer = vec![0; len];
    let mut left = lost.data(head);
    let mut found: std::vec::IntoIter<Vec<u8>> = Vec::new().into_iter();
    for shard in 0..head.layout.data_shards() {
        let whole = head.layout.data_range(shard).1;
        if lost.contains(shard) {
            if found.len() == 0 {
                let (batch, later) = left.split_at(left.len().min((BATCH_BYTES / len).max(1)));
                found = recover(head, lost, batch, &mut read)?.into_iter();
                left = later;
            }
            buffer = found.next().ok_or_else(|| too_many(head, lost))?;
        } else {
            read(shard, 0, &mut buffer[..whole])?;
        }
        let bytes = &buffer[..whole];
        if hasher.data_shard(bytes) != expected(head, shard) {
            return Err(RebuildError::Different);
        }
        take(bytes)?;
    }
    if hasher.pack_hash() == head.pack_hash { Ok(()) } else { Err(RebuildError::Different) }
}

/// The bytes of the lost data shards `wanted`, each compared with its hash. They are padded with
/// zeros to the length of a shard.
///
/// # Errors
/// As [`rebuild`].
pub fn recover<E>(
    head: &Head,
    lost: &Lost,
    wanted: &[u32],
    mut read: impl FnMut(u32, usize, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<Vec<u8>>, RebuildError<E>> {
    let (data, parity) = (head.layout.data_shards() as usize, head.layout.parity_shards() as usize);
    let len = head.layout.shard_len() as usize;
    let unit = SHARD_UNIT as usize;
    let width = (COLUMN_BYTES / Decoder::held(data, parity) / unit * unit).clamp(unit, len);
    let none = |_: TooFew| too_many(head, lost);
    let mut decoder = Decoder::new(data, parity, width).map_err(none)?;
    let mut found = vec![vec![0; len]; wanted.len()];
    let mut column = vec![0; width];
    for start in (0..len).step_by(width) {
        let height = width.min(len - start);
        decoder.reset(height).map_err(none)?;
        for shard in (0..head.layout.shards()).filter(|shard| !lost.contains(*shard)) {
            let column = &mut column[..height];
            let whole = match shard < head.layout.data_shards() {
                true => head.layout.data_range(shard).1,
                false => len,
            };
            let here = whole.saturating_sub(start).min(height);
            column[here..].fill(0);
            if here > 0 {
                read(shard, start, &mut column[..here])?;
            }
            decoder.add(shard as usize, column).map_err(none)?;
        }
        let mut slots = found.iter_mut();
        let filled = decoder.find(wanted, |_, bytes| {
            if let Some(slot) = slots.next() {
                slot[start..start + height].copy_from_slice(bytes);
            }
        });
        filled.map_err(none)?;
    }
    for (bytes, &shard) in found.iter().zip(wanted) {
        let whole = head.layout.data_range(shard).1;
        // What the last shard was filled up with is known, too.
        if shard_hash(&bytes[..whole]) != expected(head, shard)
            || bytes[whole..].iter().any(|byte| *byte != 0)
        {
            return Err(RebuildError::Different);
        }
    }
    Ok(found)
}

/// What the head says about a shard.
fn expected(head: &Head, shard: u32) -> ShardHash {
    head.shard_hashes.get(shard as usize).copied().unwrap_or_default()
}

fn too_many<E>(head: &Head, lost: &Lost) -> RebuildError<E> {
    RebuildError::TooMany { lost: lost.len(), parity: head.layout.parity_shards() }
}

#[cfg(test)]
mod tests;
