//! Chunking and compression.

use gabion::chunk::Chunker;
use gabion::codec::{Codec, Encoding};
use gabion::format::config::ChunkSizes;

/// A fixed gear table without structure.
fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut output = blake3::Hasher::new().update(b"fuzzed gear").finalize_xof();
    for slot in &mut table {
        let mut bytes = [0; 8];
        output.fill(&mut bytes);
        *slot = u64::from_le_bytes(bytes);
    }
    table
}

/// Bounds as a config may have them, small enough for a fuzzer's inputs.
fn sizes(choice: [u8; 3]) -> ChunkSizes {
    let [min, avg, max] = choice.map(u32::from);
    let min = 64 + 2 * min;
    let avg = (min + 2 + 2 * avg).max(256);
    ChunkSizes { min, avg, max: (avg + 2 + 4 * max).max(1024) }
}

/// Chunks concatenate to the input, keep the bounds, and each depends on no more than the longest
/// chunk's worth of bytes from its start. The input is three bytes of bounds, one that says how
/// often the rest is repeated, and the rest.
pub fn chunker(data: &[u8]) {
    let Some((&[a, b, c, repeats], pattern)) = data.split_first_chunk() else { return };
    let sizes = sizes([a, b, c]);
    let chunker = Chunker::new(sizes, &gear());
    let (min, max) = (sizes.min as usize, sizes.max as usize);
    assert_eq!(chunker.max(), max);
    let whole = pattern.repeat(1 + usize::from(repeats));
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let len = chunker.cut(rest);
        assert!(0 < len && len <= max && len <= rest.len(), "{len} of {}", rest.len());
        assert!(len >= min || len == rest.len(), "{len} of {} is too short", rest.len());
        for prefix in [max, max + 1, max + min] {
            if let Some(prefix) = rest.get(..prefix) {
                assert_eq!(chunker.cut(prefix), len, "a prefix is cut elsewhere");
            }
        }
        rest = &rest[len..];
    }
    assert_eq!(chunker.cut(&[]), 0);
}

/// A hostile block is refused or decodes to as many bytes as were announced, without room for
/// more, with a base or without; and every block that is written comes back. The input is three bytes of announced length
/// and the block.
pub fn block(data: &[u8]) {
    let Some((&[a, b, c], stored)) = data.split_first_chunk() else { return };
    let announced = u32::from_le_bytes([a, b, c, 0]) as usize;
    let mut codec = Codec::new(1).expect("a codec");
    let mut plain = Vec::new();
    for encoding in [Encoding::Raw, Encoding::Zstd] {
        if codec.decode(encoding, stored, announced, &mut plain).is_ok() {
            assert_eq!(plain.len(), announced);
        }
        assert!(plain.capacity() <= announced.max(stored.len()) + 4096);
    }
    // Against a base, which is the first half of what is given.
    let (base, delta) = stored.split_at(stored.len() / 2);
    if codec.decode_delta(base, delta, announced, &mut plain).is_ok() {
        assert_eq!(plain.len(), announced);
    }
    assert!(plain.capacity() <= announced.max(stored.len()) + 4096);
    let mut again = Vec::new();
    codec.encode_delta(base, stored, &mut again).expect("what is encoded comes back");
    codec.decode_delta(base, &again, stored.len(), &mut plain).expect("what is encoded decodes");
    assert_eq!(plain, stored);
    let encoding = codec.encode(stored, &mut again).expect("what is encoded comes back");
    codec.decode(encoding, &again, stored.len(), &mut plain).expect("what is encoded decodes");
    assert_eq!(plain, stored);
}
