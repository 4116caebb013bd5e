//! Index segments: the footers of many packs in one object, so that a machine without a cache
//! needs a few reads instead of one for each pack.

use super::DecodeError;
use super::pack::{Footer, MAX_FOOTER_LEN};
use super::wire::{Reader, put_bytes, put_varint};
use crate::id::PackId;

const VERSION: u8 = 1;
/// Most packs of a segment.
pub const MAX_PACKS: usize = 1 << 16;
/// Longest stored segment, in bytes.
pub const MAX_SEGMENT_LEN: u64 = 1 << 26;

/// One pack as a segment lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPack {
    /// Which pack.
    pub id: PackId,
    /// Its whole stored length, in bytes.
    pub len: u64,
    /// Its footer in plain, encoded; known to decode.
    pub footer: Vec<u8>,
}

/// Encodes the body of an index segment.
pub fn encode(packs: &[SegmentPack]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_varint(&mut out, packs.len() as u64);
    for pack in packs {
        out.extend_from_slice(&pack.id.0);
        put_varint(&mut out, pack.len);
        put_bytes(&mut out, &pack.footer);
    }
    out
}

/// Decodes the body of an index segment, every footer in it included.
///
/// # Errors
/// When `bytes` are not exactly one valid segment.
pub fn decode(bytes: &[u8]) -> Result<Vec<SegmentPack>, DecodeError> {
    let mut reader = Reader::new("index segment", bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.error(format!("version {version}, this program knows {VERSION}")));
    }
    let count = reader.count(MAX_PACKS)?;
    let mut packs = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        let (id, len) = (PackId(reader.array()?), reader.varint()?);
        let footer = reader.bytes(usize::try_from(MAX_FOOTER_LEN).unwrap_or(usize::MAX))?;
        if Footer::decode(footer)?.end() > len {
            return Err(reader.error("a pack shorter than its blocks"));
        }
        packs.push(SegmentPack { id, len, footer: footer.to_vec() });
    }
    reader.finish()?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs() -> Vec<SegmentPack> {
        let footer = Footer::default().encode();
        vec![
            SegmentPack { id: PackId([1; 16]), len: 1 << 40, footer: footer.clone() },
            SegmentPack { id: PackId([2; 16]), len: 64, footer },
        ]
    }

    #[test]
    fn round_trip() {
        assert_eq!(decode(&encode(&packs())), Ok(packs()));
        assert_eq!(decode(&encode(&[])), Ok(Vec::new()));
    }

    #[test]
    fn damage_is_refused() {
        let bytes = encode(&packs());
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err());
        }
        let mut short = packs();
        short[1].len = 63;
        assert!(decode(&encode(&short)).is_err());
    }
}
