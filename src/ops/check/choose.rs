//! Which packs are read whole.

use super::picture::Picture;
use super::{CheckOptions, ReadData, Verified};
use crate::id::PackId;
use crate::ops::OpError;

/// Refuses what makes no sense.
pub(super) fn validate(read: ReadData) -> Result<(), OpError> {
    let refuse = |text: String| Err(OpError::Refused(text));
    match read {
        ReadData::Subset { part, of } if part == 0 || part > of => {
            refuse(format!("there is no part {part} of {of}; parts are numbered from 1"))
        }
        ReadData::Percent(percent) if !(percent > 0.0 && percent <= 100.0) => {
            refuse(format!("{percent} is not a percentage above 0 and up to 100"))
        }
        _ => Ok(()),
    }
}

/// A number that follows from the pack's id and `salt` alone.
fn rank(id: &PackId, salt: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes()).update(&id.0);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The numbers of the packs to read, in the order in which to read them.
pub(super) fn packs(picture: &Picture, options: &CheckOptions, verified: &Verified) -> Vec<u32> {
    let all = 0..u32::try_from(picture.packs.len()).unwrap_or(u32::MAX);
    let pack = |no: u32| &picture.packs[no as usize];
    let total: u64 = picture.packs.iter().map(|pack| pack.len).sum();
    let wanted = match options.read {
        ReadData::Structure => return Vec::new(),
        ReadData::All => return all.collect(),
        ReadData::Subset { part, of } => {
            let mine = |no: &u32| rank(&pack(*no).id, 0) % u64::from(of) == u64::from(part - 1);
            return all.filter(mine).collect();
        }
        ReadData::Percent(percent) => share(total, percent),
        ReadData::Bytes(bytes) | ReadData::LongestUnverified(bytes) => bytes,
    };
    let by_age = matches!(options.read, ReadData::LongestUnverified(_));
    let mut ranked: Vec<u32> = all.collect();
    ranked.sort_unstable_by_key(|no| {
        let id = &pack(*no).id;
        // Those that never were come first.
        let last = if by_age { verified.last(id) } else { None };
        (last, rank(id, options.salt))
    });
    let mut sum = 0;
    let mut chosen: Vec<u32> = ranked
        .into_iter()
        .take_while(|no| {
            let more = sum < wanted;
            sum += pack(*no).len;
            more
        })
        .collect();
    if !by_age {
        chosen.sort_unstable();
    }
    chosen
}

/// So many per cent of `total`, rounded up to whole ten-thousandths of a per cent.
fn share(total: u64, percent: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "validated to lie between 0 and 100"
    )]
    let parts = (percent * 10_000.0).ceil() as u64;
    let bytes = (u128::from(total) * u128::from(parts)).div_ceil(1_000_000);
    u64::try_from(bytes).unwrap_or(total).min(total)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn picture() -> Picture {
        let pack = |n: u8| (PackId([n; 16]), 1000 * u64::from(n));
        Picture::of_lengths((1..=100).map(pack))
    }

    fn chosen(picture: &Picture, read: ReadData, salt: u64) -> Vec<u32> {
        validate(read).unwrap();
        let options = CheckOptions { read, salt, threads: 1, interrupted: Arc::default() };
        packs(picture, &options, &Verified::unknown())
    }

    #[test]
    fn the_parts_of_a_subset_are_disjoint_and_make_the_whole() {
        let picture = picture();
        for of in [1, 2, 7, 100, 1000] {
            let mut all = Vec::new();
            for part in 1..=of {
                all.extend(chosen(&picture, ReadData::Subset { part, of }, 3));
            }
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn percent_and_bytes_reach_what_was_asked_for_and_follow_the_salt() {
        let picture = picture();
        let bytes =
            |packs: &[u32]| packs.iter().map(|no| picture.packs[*no as usize].len).sum::<u64>();
        let total = bytes(&chosen(&picture, ReadData::All, 0));
        for percent in [0.000_1, 1.0, 33.3, 100.0] {
            let found = chosen(&picture, ReadData::Percent(percent), 9);
            assert!(!found.is_empty() && bytes(&found) >= share(total, percent));
            assert!(bytes(&found) < share(total, percent) + 100_001);
        }
        assert_eq!(chosen(&picture, ReadData::Percent(100.0), 9).len(), 100);
        assert!(chosen(&picture, ReadData::Bytes(0), 9).is_empty());
        assert_eq!(chosen(&picture, ReadData::Bytes(u64::MAX), 9).len(), 100);
        let one = chosen(&picture, ReadData::Bytes(500_000), 1);
        assert_eq!(one, chosen(&picture, ReadData::Bytes(500_000), 1));
        assert_ne!(one, chosen(&picture, ReadData::Bytes(500_000), 2));
    }

    #[test]
    fn what_was_longest_not_verified_comes_first() {
        let picture = picture();
        let mut verified = Verified::unknown();
        verified.set_for_tests((0..98).map(|no| (picture.packs[no].id, 1000 - no as i64)));
        let of = |bytes| {
            let read = ReadData::LongestUnverified(bytes);
            let options = CheckOptions { read, salt: 1, threads: 1, interrupted: Arc::default() };
            packs(&picture, &options, &verified)
        };
        let all = of(u64::MAX);
        assert_eq!(all.len(), 100);
        let mut never = all[..2].to_vec();
        never.sort_unstable();
        assert_eq!(never, [98, 99], "never verified");
        assert_eq!(all[2..], (0..98).rev().collect::<Vec<u32>>());
        assert_eq!(of(199_001), all[..3]);
    }

    #[test]
    fn nonsense_is_refused() {
        for read in [
            ReadData::Subset { part: 0, of: 1 },
            ReadData::Subset { part: 3, of: 2 },
            ReadData::Subset { part: 0, of: 0 },
            ReadData::Percent(0.0),
            ReadData::Percent(-1.0),
            ReadData::Percent(100.1),
            ReadData::Percent(f64::NAN),
        ] {
            assert!(matches!(validate(read), Err(OpError::Refused(_))), "{read:?}");
        }
    }
}
