//! Periods of the calendar, and how they are called.

use jiff::Zoned;

/// A period of the calendar of which one snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour. Where the clock is put back, the same hour comes twice and counts twice.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// A week of ISO 8601: from Monday on, and of the year that its Thursday lies in.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// The adjective: "daily".
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// The name of the period that `time` lies in: two times are of one period exactly when they
    /// have the same name.
    pub(super) fn label(self, time: &Zoned) -> String {
        let date = time.date();
        match self {
            // The offset tells the two equal hours of a clock that is put back apart.
            Self::Hour => format!("{date} {:02}h{}", time.hour(), offset(time)),
            Self::Day => date.to_string(),
            Self::Week => {
                let week = date.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Month => format!("{:04}-{:02}", date.year(), date.month()),
            Self::Year => format!("{:04}", date.year()),
        }
    }
}

/// The difference to UTC, as in `+02:00`.
fn offset(time: &Zoned) -> String {
    let seconds = time.offset().seconds();
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match rest {
        0 => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
    }
}
