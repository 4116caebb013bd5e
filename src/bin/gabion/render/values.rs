//! Sizes, times, ids, counts and permissions as text, and sizes and times read from text.

use std::fmt::Display;

use gabion::format::entry::{EntryKind, Timestamp};
use jiff::tz::TimeZone;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Digits of an id that people see.
const SHORT: usize = 8;

/// A number of bytes in binary units, with one decimal below 100.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale: u64 = 1;
    // In tenths, rounded, so that 1023.99 KiB becomes 1.0 MiB and not 1024.0 KiB.
    let tenths = |scale: u64| (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    while unit + 1 < UNITS.len() && tenths(scale) >= 10_240 {
        unit += 1;
        scale <<= 10;
    }
    match (unit, tenths(scale)) {
        (0, _) => format!("{bytes} B"),
        (_, tenths) if tenths < 1000 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        (_, tenths) => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
    }
}

/// A number of bytes from text such as `4096`, `10M`, `1.5GiB` (units are binary).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size such as 4096, 10M or 1.5GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || number.ends_with('.') {
        return Err(bad());
    }
    let scale = 1_u128 << (10 * power);
    let parse = |digits: &str| match digits {
        "" => Ok(0),
        _ => digits.parse::<u128>().map_err(|_| bad()),
    };
    let tens = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let whole = parse(whole)?.checked_mul(scale).ok_or_else(bad)?;
    u64::try_from(whole + parse(fraction)? * scale / tens).map_err(|_| bad())
}

/// A time in the user's time zone, to the second.
pub(crate) fn time(time: impl Into<Timestamp>) -> String {
    let time = time.into();
    let Ok(instant) = jiff::Timestamp::from_second(time.seconds) else {
        return format!("@{}", time.seconds);
    };
    instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time for programs: RFC 3339 in UTC.
pub(crate) fn rfc3339(time: impl Into<Timestamp>) -> String {
    let time = time.into();
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    jiff::Timestamp::new(time.seconds, nanos)
        .map_or_else(|_| format!("@{}", time.seconds), |instant| instant.to_string())
}

/// A time from RFC 3339, or `YYYY-MM-DD HH:MM[:SS]` in the user's time zone.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let instant = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<jiff::civil::DateTime>()?;
        local.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp())
    });
    let instant = instant.map_err(|_| {
        format!("{text:?} is no time such as 2026-11-22T13:59:07Z or \"2026-11-22 13:59\"")
    })?;
    let nanos = instant.as_nanosecond();
    Ok(Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    })
}

/// The beginning of an id, enough to name it.
pub(crate) fn short(id: impl Display) -> String {
    id.to_string().chars().take(SHORT).collect()
}

/// A number in groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 entry`, `2 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Kind and permissions as `ls -l` shows them.
pub(crate) fn mode(kind: EntryKind, mode: u16) -> String {
    let letter = match kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Stream => '>',
    };
    let mut out = String::from(letter);
    for (shift, special, on) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => on,
            (false, true) => on.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// The name of a kind for programs.
pub(crate) fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice => "char-device",
        EntryKind::BlockDevice => "block-device",
        EntryKind::Stream => "stream",
    }
}

/// How long ago something was, in the unit that fits.
pub(crate) fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_round_to_the_next_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (150 << 20, "150 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_in_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10k", 10 << 10),
            ("10KiB", 10 << 10),
            ("1.5 GiB", 3 << 29),
            ("2TB", 2 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "k", "1.", ".5", "-1", "1x", "1.2.3", "99999999999P", "1ib", "1kbb", "1e3"]
        {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let expected = Ok(Timestamp { seconds: 1_700_000_000, nanos: 0 });
        assert_eq!(parse_time("2023-11-14T22:13:20Z"), expected);
        assert_eq!(parse_time("2023-11-14T23:13:20+01:00"), expected);
        let local = parse_time("2023-11-14 22:13").unwrap();
        assert_eq!(time(local), "2023-11-14 22:13:00");
        let early = parse_time("1969-12-31T23:59:59.5Z").unwrap();
        assert_eq!(early, Timestamp { seconds: -1, nanos: 500_000_000 });
        for bad in ["", "yesterday", "2023-13-01 00:00", "2023-11-14 25:00"] {
            assert!(parse_time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_beyond_all_calendars_is_still_shown() {
        assert_eq!(time(Timestamp { seconds: i64::MAX, nanos: 0 }), format!("@{}", i64::MAX));
        assert_eq!(rfc3339(Timestamp { seconds: i64::MIN, nanos: 0 }), format!("@{}", i64::MIN));
    }

    #[test]
    fn counts_permissions_and_ids() {
        assert_eq!((count(0), count(999)), ("0".into(), "999".into()));
        assert_eq!((count(1000), count(1_234_567)), ("1 000".into(), "1 234 567".into()));
        assert_eq!(mode(EntryKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(EntryKind::File, 0o4644), "-rwSr--r--");
        assert_eq!(short("0123456789"), "01234567");
    }
}
