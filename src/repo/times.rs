//! Which times of snapshots are believed: the one rule for all that compares them.
//!
//! A snapshot says of itself which time it is of, and a writer with a wrong clock, or one who wants
//! to mislead, can let it say anything. When its object was stored is what the storage says.

use crate::format::entry::Timestamp;

/// How far, in seconds, the claimed time of a snapshot and the time at which it was stored may lie
/// apart for the first to be believed.
pub const BELIEVED_WITHIN_SECONDS: u64 = 24 * 60 * 60;

fn nanos(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

/// Whether the claimed time is close enough to the time of storing.
pub fn is_believed(claimed: Timestamp, stored: Timestamp) -> bool {
    let apart = nanos(claimed).abs_diff(nanos(stored));
    apart <= u128::from(BELIEVED_WITHIN_SECONDS) * 1_000_000_000
}

/// Whether a snapshot claims to be of a time long after it was stored, which none can be.
pub fn is_of_the_future(claimed: Timestamp, stored: Timestamp) -> bool {
    claimed > stored && !is_believed(claimed, stored)
}

/// The time by which snapshots are put in order: the claimed one, unless that is of the future; then
/// the time of storing. So a snapshot is never newer than one that was stored long after it.
pub fn trusted(claimed: Timestamp, stored: Timestamp) -> Timestamp {
    if is_of_the_future(claimed, stored) { stored } else { claimed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_believed_up_to_a_day_from_when_it_was_stored() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let (day, stored) = (86_400, at(1_000_000));
        for (claimed, believed, future) in [
            (1_000_000 + day, true, false),
            (1_000_001 + day, false, true),
            (1_000_000 - day, true, false),
            (999_999 - day, false, false),
            (i64::MAX, false, true),
            (i64::MIN, false, false),
        ] {
            assert_eq!(is_believed(at(claimed), stored), believed, "{claimed}");
            assert_eq!(is_of_the_future(at(claimed), stored), future, "{claimed}");
            let expected = if future { stored } else { at(claimed) };
            assert_eq!(trusted(at(claimed), stored), expected, "{claimed}");
        }
    }
}
