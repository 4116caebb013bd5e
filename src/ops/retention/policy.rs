//! What a policy keeps, and durations as users write them.

use std::fmt;
use std::str::FromStr;

use jiff::{Span, Zoned};

use super::Period;

/// What is kept. All rules apply side by side: a snapshot goes only when none of them keeps it. A
/// count of 0 and an absent or empty duration keep nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest so many.
    pub last: u64,
    /// The newest of each of the newest so many hours that have a snapshot.
    pub hourly: u64,
    /// As `hourly`, with days.
    pub daily: u64,
    /// As `hourly`, with weeks of ISO 8601.
    pub weekly: u64,
    /// As `hourly`, with months.
    pub monthly: u64,
    /// As `hourly`, with years.
    pub yearly: u64,
    /// All that are no older than this before the newest.
    pub within: Option<KeepSpan>,
    /// The newest of each hour, of those that are no older than this before the newest.
    pub within_hourly: Option<KeepSpan>,
    /// As `within_hourly`, with days.
    pub within_daily: Option<KeepSpan>,
    /// As `within_hourly`, with weeks of ISO 8601.
    pub within_weekly: Option<KeepSpan>,
    /// As `within_hourly`, with months.
    pub within_monthly: Option<KeepSpan>,
    /// As `within_hourly`, with years.
    pub within_yearly: Option<KeepSpan>,
    /// All that have one of these tags.
    pub tags: Vec<String>,
}

/// A rule of a policy that keeps something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Last(u64),
    Every(Period, u64),
    Within(KeepSpan),
    EveryWithin(Period, KeepSpan),
}

impl Policy {
    /// Whether it keeps nothing, whatever the snapshots are.
    pub fn is_empty(&self) -> bool {
        self.rules().next().is_none() && self.tags.is_empty()
    }

    /// The rules that keep something, tags left out.
    pub(super) fn rules(&self) -> impl Iterator<Item = Rule> {
        let every = [
            (Period::Hour, self.hourly),
            (Period::Day, self.daily),
            (Period::Week, self.weekly),
            (Period::Month, self.monthly),
            (Period::Year, self.yearly),
        ];
        let every_within = [
            (Period::Hour, self.within_hourly),
            (Period::Day, self.within_daily),
            (Period::Week, self.within_weekly),
            (Period::Month, self.within_monthly),
            (Period::Year, self.within_yearly),
        ];
        let some = |span: Option<KeepSpan>| span.filter(|span| !span.is_zero());
        let last = (self.last > 0).then_some(Rule::Last(self.last));
        let every = every.into_iter().filter(|(_, count)| *count > 0);
        let every = every.map(|(period, count)| Rule::Every(period, count));
        let within = some(self.within).map(Rule::Within);
        let every_within = every_within
            .into_iter()
            .filter_map(move |(period, span)| Some(Rule::EveryWithin(period, some(span)?)));
        last.into_iter().chain(every).chain(within).chain(every_within)
    }
}

/// A duration by the calendar, as `1y5m7d2h`: a month back from the 31st is the last day of the
/// month before, and a day has the hours that it has where the clock is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KeepSpan {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

impl KeepSpan {
    fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The time that lies so far before `time`; nothing when that is before all calendars.
    pub(super) fn before(self, time: &Zoned) -> Option<Zoned> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        time.checked_sub(span.ok()?).ok()
    }
}

impl FromStr for KeepSpan {
    type Err = String;

    /// Reads numbers with the units y, m (months), w, d and h, from the largest to the smallest.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no duration such as 14d or 1y5m7d2h (years, months, weeks, days, hours)"
            )
        };
        let mut span = Self::default();
        let mut rest = text;
        let units = [
            ('y', &mut span.years),
            ('m', &mut span.months),
            ('w', &mut span.weeks),
            ('d', &mut span.days),
            ('h', &mut span.hours),
        ];
        for (unit, field) in units {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let Some(tail) = rest[digits..].strip_prefix(unit) else { continue };
            // Numbers that fit stay far within the years 1 to 9999 that calendars know.
            *field = rest[..digits].parse().map_err(|_| bad())?;
            rest = tail;
        }
        if text.is_empty() || !rest.is_empty() { Err(bad()) } else { Ok(span) }
    }
}

impl fmt::Display for KeepSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (number, unit) in units.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        if self.is_zero() { f.write_str("0h") } else { Ok(()) }
    }
}
