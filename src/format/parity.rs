//! Parity objects: how a pack is cut into shards, and the head that says so and holds a hash of
//! every shard.

use super::DecodeError;
use super::wire::Reader;
use crate::id::PackId;

const WHAT: &str = "head of a parity object";
const MAGIC: &[u8; 8] = b"GABPAR\r\n";
const VERSION: u16 = 1;

/// Bytes of a head before its table.
pub const FIXED_LEN: usize = 80;
/// Bytes of a shard's hash in the table.
pub const SHARD_HASH_LEN: usize = 8;
const HASH_LEN: usize = 32;
/// Bytes at the very end of a parity object, which say how long its second head is.
pub const TRAILER_LEN: usize = 8;

/// Most shards of a pack: data, and parity rounded up to a power of two. The code has no more.
pub const MAX_SHARDS: u64 = 65536;
/// Longest shard, in bytes.
pub const MAX_SHARD_LEN: u64 = 1 << 24;
/// Most parity shards for every thousand data shards.
pub const MAX_PER_MILLE: u32 = 250;
/// Most bytes of parity of a pack of the configured length: they are held in memory.
pub const MAX_PARITY_LEN: u64 = 1 << 24;
/// Most bytes of all parity shards of one pack, which may be longer than configured.
pub const MAX_PARITY_BYTES: u64 = 1 << 26;

/// A shard's length is a multiple of this: what the code takes at a time.
pub const SHARD_UNIT: u32 = 64;
/// Writers choose multiples of this: what a disk loses at a time.
const SECTOR: u64 = 4096;
/// About so many data shards has a pack that is not small.
const USUAL_SHARDS: u64 = 2048;

/// How a pack is cut into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pack_len: u64,
    shard_len: u32,
    data_shards: u32,
    parity_shards: u32,
}

impl Layout {
    /// A pack of `pack_len` bytes, cut into shards of `shard_len`, with so many parity shards.
    ///
    /// # Errors
    /// When that is outside the limits.
    pub fn new(pack_len: u64, shard_len: u32, parity_shards: u32) -> Result<Self, DecodeError> {
        let bad = |reason: &str| Err(DecodeError::new(WHAT, reason));
        if shard_len == 0
            || !shard_len.is_multiple_of(SHARD_UNIT)
            || u64::from(shard_len) > MAX_SHARD_LEN
        {
            return bad("a shard length that is no multiple of 64, or too large");
        }
        let data = pack_len.div_ceil(u64::from(shard_len));
        // Compared before it is rounded, which must not overflow.
        if pack_len == 0 || data >= MAX_SHARDS || u64::from(parity_shards) >= MAX_SHARDS {
            return bad("an empty pack, or too many shards");
        }
        let rounded = u64::from(parity_shards.next_power_of_two());
        let data_shards = u32::try_from(data).unwrap_or(u32::MAX);
        if parity_shards == 0 || data + rounded > MAX_SHARDS {
            return bad("no parity shard, or too many shards");
        }
        if u64::from(parity_shards) * u64::from(shard_len) > MAX_PARITY_BYTES {
            return bad("too much parity");
        }
        Ok(Self { pack_len, shard_len, data_shards, parity_shards })
    }

    /// What a writer chooses for a pack of `pack_len` bytes and `per_mille` parity shards for every
    /// thousand data shards.
    ///
    /// # Errors
    /// When the pack is empty, or longer than any that is written.
    pub fn for_pack(pack_len: u64, per_mille: u32) -> Result<Self, DecodeError> {
        let wanted = pack_len.div_ceil(USUAL_SHARDS).next_multiple_of(SECTOR);
        // A pack that is shorter than a sector is one shard.
        let whole = pack_len.next_multiple_of(SHARD_UNIT.into());
        let shard_len = wanted.min(whole).clamp(SHARD_UNIT.into(), MAX_SHARD_LEN);
        let data = pack_len.div_ceil(shard_len);
        // One more than the share: a torn region of that share touches one more at its ends.
        let parity = data.saturating_mul(u64::from(per_mille)).div_ceil(1000) + 1;
        let parity = u32::try_from(parity).unwrap_or(u32::MAX);
        Self::new(pack_len, u32::try_from(shard_len).unwrap_or(u32::MAX), parity)
    }

    /// Bytes of the pack.
    pub fn pack_len(&self) -> u64 {
        self.pack_len
    }

    /// Bytes of a shard.
    pub fn shard_len(&self) -> u32 {
        self.shard_len
    }

    /// How many shards the pack is cut into.
    pub fn data_shards(&self) -> u32 {
        self.data_shards
    }

    /// How many parity shards there are.
    pub fn parity_shards(&self) -> u32 {
        self.parity_shards
    }

    /// Data shards and parity shards together. The number of a parity shard among all is
    /// [`Self::data_shards`] more than its own.
    pub fn shards(&self) -> u32 {
        self.data_shards + self.parity_shards
    }

    /// Where a data shard lies in the pack: its offset and how many bytes it really has.
    pub fn data_range(&self, shard: u32) -> (u64, usize) {
        let offset = u64::from(shard) * u64::from(self.shard_len);
        let len = self.pack_len.saturating_sub(offset).min(u64::from(self.shard_len));
        (offset, usize::try_from(len).unwrap_or(0))
    }

    /// Where a parity shard lies in the parity object.
    pub fn parity_offset(&self, shard: u32) -> u64 {
        self.head_len() + u64::from(shard) * u64::from(self.shard_len)
    }

    /// Bytes of a head.
    pub fn head_len(&self) -> u64 {
        (FIXED_LEN + HASH_LEN) as u64 + SHARD_HASH_LEN as u64 * u64::from(self.shards())
    }

    /// Bytes of the whole parity object.
    pub fn object_len(&self) -> u64 {
        let parity = u64::from(self.parity_shards) * u64::from(self.shard_len);
        2 * self.head_len() + parity + TRAILER_LEN as u64
    }
}

/// The start of the hash of a shard.
pub type ShardHash = [u8; SHARD_HASH_LEN];

/// What is known about the shards of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which pack.
    pub pack: PackId,
    /// How it is cut.
    pub layout: Layout,
    /// Its hash.
    pub pack_hash: [u8; 32],
    /// The hashes of all shards, data first.
    pub shard_hashes: Vec<ShardHash>,
}

impl Head {
    /// The head's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(self.layout.head_len()).unwrap_or(0));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&self.layout.pack_len.to_le_bytes());
        out.extend_from_slice(&self.layout.shard_len.to_le_bytes());
        out.extend_from_slice(&self.layout.parity_shards.to_le_bytes());
        out.extend_from_slice(&self.pack_hash);
        self.shard_hashes.iter().for_each(|hash| out.extend_from_slice(hash));
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// How long the head is whose first [`FIXED_LEN`] bytes are `fixed`. They may be damaged, so
    /// all that is sure is that it is within the limits.
    ///
    /// # Errors
    /// When these are not the first bytes of a head.
    pub fn measure(fixed: &[u8; FIXED_LEN]) -> Result<u64, DecodeError> {
        Ok(decode_fixed(&mut Reader::new(WHAT, fixed))?.layout.head_len())
    }

    /// Reads a head.
    ///
    /// # Errors
    /// When `bytes` are not exactly one whole head.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes);
        let mut head = decode_fixed(&mut reader)?;
        if head.layout.head_len() != bytes.len() as u64 {
            return Err(reader.error("another length than its own numbers say"));
        }
        for _ in 0..head.layout.shards() {
            head.shard_hashes.push(reader.array()?);
        }
        let covered = bytes.len() - HASH_LEN;
        if reader.array()? != *blake3::hash(&bytes[..covered]).as_bytes() {
            return Err(reader.error("its hash does not fit"));
        }
        reader.finish()?;
        Ok(head)
    }
}

fn decode_fixed(reader: &mut Reader<'_>) -> Result<Head, DecodeError> {
    if reader.array()? != *MAGIC {
        return Err(reader.error("it does not start like one"));
    }
    let version = reader.u16()?;
    if version != VERSION {
        return Err(reader.error(format!("version {version}, this program knows {VERSION}")));
    }
    if reader.array()? != [0; 6] {
        return Err(reader.error("reserved bytes are not zero"));
    }
    let pack = PackId(reader.array()?);
    let pack_len = u64::from_le_bytes(reader.array()?);
    let layout = Layout::new(pack_len, reader.u32()?, reader.u32()?)?;
    Ok(Head { pack, layout, pack_hash: reader.array()?, shard_hashes: Vec::new() })
}

/// The last bytes of a parity object whose heads have `head_len` bytes.
pub fn encode_trailer(head_len: u64) -> [u8; TRAILER_LEN] {
    let len = u32::try_from(head_len).expect("heads are short");
    let mut bytes = [0; TRAILER_LEN];
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..].copy_from_slice(&(!len).to_le_bytes());
    bytes
}

/// How long the heads of a parity object are that ends with these bytes.
///
/// # Errors
/// When they were damaged.
pub fn decode_trailer(bytes: &[u8; TRAILER_LEN]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new("end of a parity object", bytes);
    let (len, inverted) = (reader.u32()?, reader.u32()?);
    let most = (FIXED_LEN + HASH_LEN) as u64 + SHARD_HASH_LEN as u64 * MAX_SHARDS;
    if len != !inverted || u64::from(len) > most {
        return Err(reader.error("it is not what was written"));
    }
    Ok(u64::from(len))
}

/// Hashes a pack shard by shard.
#[derive(Debug, Default)]
pub struct PackHasher {
    all: blake3::Hasher,
}

impl PackHasher {
    /// Takes the next data shard, as it lies in the pack, and returns its hash.
    pub fn data_shard(&mut self, bytes: &[u8]) -> ShardHash {
        let hash = blake3::hash(bytes);
        self.all.update(hash.as_bytes());
        shortened(&hash)
    }

    /// The hash of the pack whose data shards were taken in their order.
    pub fn pack_hash(&self) -> [u8; 32] {
        *self.all.finalize().as_bytes()
    }
}

/// The hash of any shard.
pub fn shard_hash(bytes: &[u8]) -> ShardHash {
    shortened(&blake3::hash(bytes))
}

fn shortened(hash: &blake3::Hash) -> ShardHash {
    let mut short = [0; SHARD_HASH_LEN];
    short.copy_from_slice(&hash.as_bytes()[..SHARD_HASH_LEN]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let layout = Layout::for_pack(100_000, 30).unwrap();
        let shard_hashes = (0..layout.shards()).map(|n| [u8::try_from(n).unwrap(); 8]).collect();
        Head { pack: PackId([7; 16]), layout, pack_hash: [9; 32], shard_hashes }
    }

    #[test]
    fn round_trip_and_any_flipped_bit_is_noticed() {
        let bytes = head().encode();
        assert_eq!(bytes.len() as u64, head().layout.head_len());
        assert_eq!(Head::decode(&bytes), Ok(head()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Head::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        let trailer = encode_trailer(head().layout.head_len());
        assert_eq!(decode_trailer(&trailer), Ok(head().layout.head_len()));
        for bit in 0..trailer.len() * 8 {
            let mut bad = trailer;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_trailer(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_region_of_the_share_is_covered_and_little_more_is_spent() {
        for per_mille in [1, 10, 30, 100, 250] {
            for len in [1, 64, 4096, 4097, 300_000, 8 << 20, 64 << 20, (64 << 20) + 777_777] {
                let layout = Layout::for_pack(len, per_mille).unwrap();
                let (shard, share) =
                    (u64::from(layout.shard_len), len * u64::from(per_mille) / 1000);
                // At its worst place a region touches so many shards.
                let touched = if share == 0 { 1 } else { (share + shard - 2) / shard + 1 };
                assert!(touched <= u64::from(layout.parity_shards), "{len} at {per_mille}");
                if len >= 64 << 20 && per_mille >= 10 {
                    let cost = layout.object_len() * 1000;
                    let wanted = len * u64::from(per_mille);
                    assert!(cost < wanted * 12 / 10, "{len} at {per_mille}: {cost}");
                }
            }
        }
    }

    #[test]
    fn layouts_outside_the_limits_are_refused() {
        for (len, shard, parity) in [
            (0, 64, 1),
            (100, 0, 1),
            (100, 100, 1),
            (100, 1 << 25, 1),
            (100, 64, 0),
            (100, 64, 65536),
            (100, 64, u32::MAX),
            (100, 1 << 24, 5),
            (100, 4096, 16385),
            (64 * 65535, 64, 2),
            (u64::MAX, 64, 1),
            (u64::MAX, 1 << 24, 1),
        ] {
            assert!(Layout::new(len, shard, parity).is_err(), "{len} {shard} {parity}");
        }
        assert!(Layout::new(64 * 65535, 64, 1).is_ok());
        assert!(Layout::for_pack(0, 30).is_err());
    }

    #[test]
    fn shards_cover_the_pack() {
        let layout = head().layout;
        let mut end = 0;
        for shard in 0..layout.data_shards() {
            let (offset, len) = layout.data_range(shard);
            assert_eq!(offset, end);
            assert!(len > 0);
            end += len as u64;
        }
        assert_eq!(end, layout.pack_len());
        let last = layout.parity_shards() - 1;
        let end = layout.parity_offset(last) + u64::from(layout.shard_len());
        assert_eq!(end + layout.head_len() + TRAILER_LEN as u64, layout.object_len());
    }
}
