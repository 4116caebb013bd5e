//! Content-defined chunking: where the bytes of a source are cut into chunks.
//!
//! FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
//! Deduplication", USENIX ATC 2016, and the 2020 journal version's two-bytes-a-step scan), as
//! implemented by the crate `fastcdc`, version pinned, with a gear table of our own that is derived
//! from the repository's master key: who does not have the key does not know where cuts fall.

use std::fmt;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::format::config::ChunkSizes;

/// Finds cut points. Cheap to use, costly to make (its tables are 4 KiB): make one and keep it.
#[derive(Clone)]
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    min: usize,
    avg: usize,
    max: usize,
    mask_strict: u64,
    mask_relaxed: u64,
}

impl fmt::Debug for Chunker {
    /// Leaves the tables out: they are as secret as a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunker({}/{}/{})", self.min, self.avg, self.max)
    }
}

impl Chunker {
    /// A chunker for sources cut into `sizes` by the repository's `gear` table.
    pub fn new(sizes: ChunkSizes, gear: &[u64; 256]) -> Self {
        let [min, avg, max] = [sizes.min, sizes.avg, sizes.max]
            .map(|size| usize::try_from(size).expect("32 bits fit the address space"));
        let (mask_strict, mask_relaxed) = select_masks(avg, Normalization::Level1);
        Self {
            gear: Box::new(*gear),
            gear_shifted: Box::new(gear.map(|value| value << 1)),
            min,
            avg,
            max,
            mask_strict,
            mask_relaxed,
        }
    }

    /// The length of the first chunk of `bytes`: 0 only when `bytes` is empty. The answer holds for
    /// a longer source too as soon as `bytes` has at least [`Self::max`] bytes; with fewer, it is
    /// right only when `bytes` ends the source.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        cut_gear(
            bytes,
            self.min,
            self.avg,
            self.max,
            self.mask_strict,
            self.mask_relaxed,
            self.mask_strict << 1,
            self.mask_relaxed << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        )
        .1
    }

    /// The longest chunk it makes, in bytes.
    pub fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gear() -> [u64; 256] {
        let mut table = [0; 256];
        let mut output = blake3::Hasher::new_derive_key("test gear").finalize_xof();
        for slot in &mut table {
            let mut bytes = [0; 8];
            output.fill(&mut bytes);
            *slot = u64::from_le_bytes(bytes);
        }
        table
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let len = chunker.cut(bytes);
            found.push(len);
            bytes = &bytes[len..];
        }
        found
    }

    const FILES: ChunkSizes = ChunkSizes { min: 32_768, avg: 65_536, max: 262_144 };
    const STREAMS: ChunkSizes = ChunkSizes { min: 2_048, avg: 4_096, max: 16_384 };

    #[test]
    fn golden_cut_points() {
        let bytes = noise(1 << 20);
        let digest = |sizes| {
            let lengths = lengths(&Chunker::new(sizes, &gear()), &bytes);
            let mut hasher = blake3::Hasher::new();
            for len in &lengths {
                hasher.update(&u32::try_from(*len).unwrap().to_le_bytes());
            }
            format!("{} {}", lengths.len(), &hasher.finalize().to_hex()[..16])
        };
        assert_eq!(digest(FILES), "12 d309971e4e18e773");
        assert_eq!(digest(STREAMS), "191 ecc5b2e30d4ebcb6");
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let chunker = Chunker::new(STREAMS, &gear());
        let before = noise(1 << 20);
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"five!");
        let chunks = |bytes: &[u8]| {
            let mut rest = bytes;
            let mut set = std::collections::HashSet::new();
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(chunker.cut(rest));
                set.insert(chunk.to_vec());
                rest = tail;
            }
            set
        };
        let (old, new) = (chunks(&before), chunks(&after));
        assert!(new.difference(&old).count() <= 3);
    }

    proptest! {
        #[test]
        fn chunks_concatenate_to_the_input_within_the_bounds(
            seed: [u8; 8], len in 0usize..200_000, period in 1usize..5000,
        ) {
            let mut pattern = vec![0; period];
            blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut pattern);
            let bytes: Vec<u8> = pattern.iter().copied().cycle().take(len).collect();
            let found = lengths(&Chunker::new(STREAMS, &gear()), &bytes);
            prop_assert_eq!(found.iter().sum::<usize>(), len);
            for (at, &chunk) in found.iter().enumerate() {
                prop_assert!(chunk <= 16_384);
                prop_assert!(chunk >= 2_048 || at + 1 == found.len());
            }
        }
    }
}
