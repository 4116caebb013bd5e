//! When a schedule comes next, by the machine's clock and time zone.

use gabion::job::schedule::Schedule;
use jiff::{ToSpan as _, Zoned};

/// The time, in seconds since 1970, at which `schedule` comes next after `now`.
pub(crate) fn next_run(schedule: &Schedule, now: &Zoned) -> Option<i64> {
    let (hour, minute) = schedule.time();
    let minute = i8::try_from(minute).ok()?;
    let hours: Vec<i8> = match hour {
        Some(hour) => vec![i8::try_from(hour).ok()?],
        None => (0..24).collect(),
    };
    for days in 0..=8 {
        let date = now.date().checked_add(days.days()).ok()?;
        let weekday = u8::try_from(date.weekday().to_sunday_zero_offset()).ok()?;
        if !schedule.is_on(weekday) {
            continue;
        }
        for &hour in &hours {
            // An hour that a change of clocks leaves out is moved by what it leaves out.
            let at = date.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone()).ok()?;
            if at > *now {
                return Some(at.timestamp().as_second());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_found_beyond_midnight_and_weeks() {
        // A Thursday.
        let now: Zoned = "2026-11-26T12:00[UTC]".parse().unwrap();
        for (schedule, expected) in [
            ("hourly", "2026-11-26T13:00[UTC]"),
            ("12:00", "2026-11-27T12:00[UTC]"),
            ("12:01", "2026-11-26T12:01[UTC]"),
            ("thu 02:30", "2026-12-03T02:30[UTC]"),
            ("sun,wed 02:30", "2026-11-29T02:30[UTC]"),
        ] {
            let expected: Zoned = expected.parse().unwrap();
            let found = next_run(&schedule.parse().unwrap(), &now);
            assert_eq!(found, Some(expected.timestamp().as_second()), "{schedule}");
        }
    }
}
