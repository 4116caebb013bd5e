//! Any damage within the parity is put right, and none beyond it is ever "put right" wrongly.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::format::parity::Layout;
use crate::id::PackId;
use crate::parity::{Parity, encode};

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn encoded(pack: &[u8], layout: Layout) -> Parity {
    let read = |offset: u64, buffer: &mut [u8]| -> Result<(), Infallible> {
        let offset = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&pack[offset..offset + buffer.len()]);
        Ok(())
    };
    let Ok(parity) = encode(PackId([1; 16]), layout, read);
    parity
}

/// Rebuilds from the bytes as they are.
fn rebuilt(parity: &Parity, pack: &[u8], lost: &Lost) -> Result<Vec<u8>, String> {
    let layout = parity.head.layout;
    let len = layout.shard_len() as usize;
    let read = |shard: u32, at: usize, buffer: &mut [u8]| -> Result<(), Infallible> {
        assert!(!lost.contains(shard), "a lost shard is not asked for");
        let (bytes, offset) = match shard.checked_sub(layout.data_shards()) {
            None => (pack, shard as usize * len + at),
            Some(shard) => (&*parity.shards, shard as usize * len + at),
        };
        buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]);
        Ok(())
    };
    let mut out = Vec::new();
    let take = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    match rebuild(&parity.head, lost, read, take) {
        Ok(()) => Ok(out),
        Err(error) => Err(error.to_string()),
    }
}

/// Every shard whose hash differs.
fn lost(parity: &Parity, pack: &[u8]) -> Lost {
    let layout = parity.head.layout;
    let len = layout.shard_len() as usize;
    let shards = pack.chunks(len).chain(parity.shards.chunks(len));
    let wrong =
        (0u32..).zip(shards).filter(|(n, shard)| shard_hash(shard) != expected(&parity.head, *n));
    Lost::new(wrong.map(|(n, _)| n).collect())
}

#[test]
fn hashes_fit_what_was_encoded() {
    for (len, shard, count) in [(1, 64, 1), (64, 64, 3), (1000, 64, 5), (70_000, 4096, 2)] {
        let pack = noise(1, len);
        let parity = encoded(&pack, Layout::new(len as u64, shard, count).unwrap());
        assert!(lost(&parity, &pack).is_empty());
        assert_eq!(rebuilt(&parity, &pack, &Lost::default()).unwrap(), pack);
    }
}

/// Packs so long that their shards are worked on in several columns, and so much lost that it takes
/// several batches.
#[test]
fn columns_and_batches_join() {
    let len = (3 << 20) + 12_345;
    let pack = noise(2, len);
    // Blocks of 8 shards of 1 MiB take twice what is summed up at a time.
    let layout = Layout::new(len as u64, 1 << 20, 5).unwrap();
    let parity = encoded(&pack, layout);
    let all = Lost::new((0..layout.data_shards()).collect());
    assert_eq!(rebuilt(&parity, &pack, &all).unwrap(), pack);
    let layout = Layout::new(len as u64, 4096 * 24, 40).unwrap();
    let parity = encoded(&pack, layout);
    let all = Lost::new((0..layout.data_shards()).collect());
    assert_eq!(rebuilt(&parity, &pack, &all).unwrap(), pack);
}

#[test]
fn hashes_of_a_whole_pack_decide() {
    let pack = noise(3, 5000);
    let mut parity = encoded(&pack, Layout::new(5000, 64, 4).unwrap());
    parity.head.pack_hash[0] ^= 1;
    assert!(rebuilt(&parity, &pack, &Lost::default()).unwrap_err().contains("hash"));
    parity.head.pack_hash[0] ^= 1;
    // A shard that rots after it was looked at.
    let mut other = pack.clone();
    other[100] ^= 1;
    assert!(rebuilt(&parity, &other, &Lost::new(vec![7])).unwrap_err().contains("hash"));
    assert!(rebuilt(&parity, &other, &Lost::default()).unwrap_err().contains("hash"));
}

/// The number of cases: more with GABION_PARITY_CASES.
fn cases() -> u32 {
    std::env::var("GABION_PARITY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Random packs and random damage of both the pack and the parity: bits, sectors, regions.
    #[test]
    fn damage_within_the_parity_is_repaired_and_beyond_it_is_refused(
        seed: u64,
        len in 1usize..400_000,
        shard in 1u32..=8,
        per_mille in 1u32..=250,
        hits in prop::collection::vec((any::<prop::sample::Index>(), 1usize..3 * 4096), 0..12),
    ) {
        let pack = noise(seed, len);
        let data = (len as u64).div_ceil(u64::from(shard) * 512);
        let count = u32::try_from(data * u64::from(per_mille) / 1000).unwrap() + 1;
        let layout = Layout::new(len as u64, shard * 512, count).unwrap();
        let mut parity = encoded(&pack, layout);
        let mut damaged = pack.clone();
        for (at, size) in hits {
            let total = damaged.len() + parity.shards.len();
            let start = at.index(total);
            for place in start..(start + size).min(total) {
                match place.checked_sub(damaged.len()) {
                    None => damaged[place] ^= 0x5a,
                    Some(place) => parity.shards[place] ^= 0x5a,
                }
            }
        }
        let lost = lost(&parity, &damaged);
        let result = rebuilt(&parity, &damaged, &lost);
        if lost.data(&parity.head).is_empty() || lost.len() <= count as usize {
            prop_assert_eq!(result, Ok(pack));
        } else {
            prop_assert!(result.unwrap_err().contains("shards are lost"));
        }
    }
}

/// GF(2^16) as `FORMAT.md` describes it, without tables.
mod field {
    const BASIS: [u32; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72,
        0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e,
    ];

    /// The element that a number stands for.
    pub(super) fn element(number: u32) -> u32 {
        (0..16).filter(|bit| number >> bit & 1 == 1).fold(0, |sum, bit| sum ^ BASIS[bit])
    }

    pub(super) fn times(a: u32, b: u32) -> u32 {
        let mut product = 0;
        for bit in (0..16).rev() {
            product <<= 1;
            if product & 0x1_0000 != 0 {
                product ^= 0x1_002d;
            }
            if b >> bit & 1 == 1 {
                product ^= a;
            }
        }
        product
    }

    pub(super) fn inverse(a: u32) -> u32 {
        // a to the power of 2^16 - 2.
        (1..16).fold(1, |power, n| times(power, (0..n).fold(a, |square, _| times(square, square))))
    }
}

/// Lagrange's formula: the value at `x` of the polynomial through `points`.
fn interpolated(points: &[(u32, u32)], x: u32) -> u32 {
    points.iter().fold(0, |sum, &(at, value)| {
        let others = points.iter().filter(|other| other.0 != at);
        let factor = others.fold(1, |product, &(other, _)| {
            let quotient = field::times(x ^ other, field::inverse(at ^ other));
            field::times(product, quotient)
        });
        sum ^ field::times(value, factor)
    })
}

#[test]
fn the_code_is_that_of_the_format() {
    for (data, parity) in [(1u32, 1u32), (3, 1), (7, 3), (9, 4), (5, 5), (2, 6)] {
        let pack = noise(u64::from(data), data as usize * 64);
        let layout = Layout::new(pack.len() as u64, 64, parity).unwrap();
        let made = encoded(&pack, layout);
        let symbol = |bytes: &[u8], shard: u32, at: usize| {
            let shard = &bytes[shard as usize * 64..][..64];
            field::element(u32::from(shard[at]) | u32::from(shard[32 + at]) << 8)
        };
        let c = parity.next_power_of_two();
        for at in [0, 1, 17, 31] {
            for wanted in 0..parity {
                let sum = (0..data.div_ceil(c)).fold(0, |sum, block| {
                    let points: Vec<(u32, u32)> = (0..c)
                        .map(|i| {
                            let shard = c * block + i;
                            let value = if shard < data { symbol(&pack, shard, at) } else { 0 };
                            (field::element(c * (block + 1) + i), value)
                        })
                        .collect();
                    sum ^ interpolated(&points, field::element(wanted))
                });
                let got = symbol(&made.shards, wanted, at);
                assert_eq!(got, sum, "{data} {parity} {wanted} {at}");
            }
        }
    }
}
