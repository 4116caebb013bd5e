//! From a pack to its parity object.

use super::code::Encoder;
use crate::format::parity::{
    Head, Layout, PackHasher, SHARD_UNIT, ShardHash, encode_trailer, shard_hash,
};
use crate::id::PackId;

/// Most bytes of a block of shard columns that are summed up at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// A parity object in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parity {
    /// What is known about all shards.
    pub head: Head,
    /// The parity shards, one behind the other.
    pub shards: Vec<u8>,
}

impl Parity {
    /// The parts of the object, to be written one behind the other.
    pub fn parts(&self) -> [Vec<u8>; 2] {
        let head = self.head.encode();
        let trailer = encode_trailer(head.len() as u64);
        let end = [&head[..], &trailer].concat();
        [head, end]
    }

    /// The whole object.
    pub fn encode(&self) -> Vec<u8> {
        let [head, end] = self.parts();
        [head, self.shards.clone(), end].concat()
    }
}

/// Computes the parity of a pack. `read` fills a buffer with the bytes of the pack from an offset
/// on; every byte is read once, in order, unless the parity is large.
///
/// # Errors
/// Those of `read`.
pub fn encode<E>(
    pack: PackId,
    layout: Layout,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Parity, E> {
    let (len, parity) = (layout.shard_len() as usize, layout.parity_shards() as usize);
    let width = column_width(&layout);
    let mut shards = vec![0; parity * len];
    let mut encoder = Encoder::new(parity, width);
    let mut hashes = Vec::with_capacity(layout.shards() as usize);
    let mut hasher = PackHasher::default();
    for start in (0..len).step_by(width) {
        encoder.reset();
        for shard in 0..layout.data_shards() {
            let (offset, whole) = layout.data_range(shard);
            encoder.shard(|column| {
                let here = whole.saturating_sub(start).min(width);
                let column = &mut column[..here];
                if here > 0 {
                    read(offset + start as u64, column)?;
                }
                if width == len {
                    hashes.push(hasher.data_shard(column));
                }
                Ok(())
            })?;
        }
        let height = width.min(len - start);
        for (number, column) in encoder.finish().enumerate() {
            let at = number * len + start;
            shards[at..at + height].copy_from_slice(&column[..height]);
        }
    }
    if width < len {
        (hasher, hashes) = hash_shards(&layout, &mut read)?;
    }
    hashes.extend(shards.chunks(len).map(shard_hash));
    let head = Head { pack, layout, pack_hash: hasher.pack_hash(), shard_hashes: hashes };
    Ok(Parity { head, shards })
}

/// How many bytes of each shard are worked on at a time.
fn column_width(layout: &Layout) -> usize {
    let block = u64::from(layout.parity_shards().next_power_of_two());
    let unit = u64::from(SHARD_UNIT);
    let width = (BLOCK_BYTES / block / unit * unit).clamp(unit, u64::from(layout.shard_len()));
    usize::try_from(width).unwrap_or(usize::MAX)
}

/// Reads the pack once more: its columns were no whole shards.
fn hash_shards<E>(
    layout: &Layout,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<(PackHasher, Vec<ShardHash>), E> {
    let (mut hasher, mut hashes) = (PackHasher::default(), Vec::new());
    let mut buffer = vec![0; layout.shard_len() as usize];
    for shard in 0..layout.data_shards() {
        let (offset, len) = layout.data_range(shard);
        read(offset, &mut buffer[..len])?;
        hashes.push(hasher.data_shard(&buffer[..len]));
    }
    Ok((hasher, hashes))
}
