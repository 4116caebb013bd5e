//! When a job runs, in words that both cron and systemd understand: gabion has no clock of its own
//! that would have to be kept running.

use std::fmt;
use std::str::FromStr;

/// Days in the order of cron's numbers.
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// `hourly`, `02:30`, `sun 02:30` or `mon,thu 02:30`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Cron's numbers of the days, ascending; none: every day.
    days: Vec<u8>,
    /// Nothing: every hour.
    hour: Option<u8>,
    minute: u8,
}

impl Default for Schedule {
    /// Every night at half past two.
    fn default() -> Self {
        Self { days: Vec::new(), hour: Some(2), minute: 30 }
    }
}

impl FromStr for Schedule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, time) = match words[..] {
            ["hourly"] => return Ok(Self { days: Vec::new(), hour: None, minute: 0 }),
            [time] => (None, time),
            [days, time] => (Some(days), time),
            _ => return Err("it is not of a known form"),
        };
        let (hour, minute) = time.split_once(':').ok_or("it has no time")?;
        let number = |text: &str, end: u8| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u8>().ok().filter(|&number| digits && number < end)
        };
        let hour = number(hour, 24).ok_or("its hour is not between 00 and 23")?;
        let minute = number(minute, 60).ok_or("its minute is not between 00 and 59")?;
        let mut numbers = Vec::new();
        for day in days.into_iter().flat_map(|days| days.split(',')) {
            let found = DAYS.iter().position(|known| day.eq_ignore_ascii_case(known));
            let found = found.and_then(|at| u8::try_from(at).ok());
            numbers.push(found.ok_or("it names a day that is none of sun, mon, tue, …")?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self { days: numbers, hour: Some(hour), minute })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(hour) = self.hour else { return f.write_str("hourly") };
        if !self.days.is_empty() {
            write!(f, "{} ", self.day_names().join(","))?;
        }
        write!(f, "{hour:02}:{:02}", self.minute)
    }
}

impl Schedule {
    fn day_names(&self) -> Vec<&'static str> {
        self.days.iter().filter_map(|&day| DAYS.get(usize::from(day)).copied()).collect()
    }

    /// Whether it comes on a day of the week, by cron's numbers: 0 is Sunday.
    pub fn is_on(&self, day: u8) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }

    /// At which hour, if not at every one, and minute it comes.
    pub fn time(&self) -> (Option<u8>, u8) {
        (self.hour, self.minute)
    }

    /// The five fields of a crontab.
    pub fn crontab(&self) -> String {
        let hour = self.hour.map_or_else(|| "*".to_owned(), |hour| hour.to_string());
        let days: Vec<String> = self.days.iter().map(u8::to_string).collect();
        let days = if days.is_empty() { "*".to_owned() } else { days.join(",") };
        format!("{} {hour} * * {days}", self.minute)
    }

    /// The value of `OnCalendar` of a systemd timer.
    pub fn calendar(&self) -> String {
        let Some(hour) = self.hour else { return format!("*-*-* *:{:02}:00", self.minute) };
        let days = match self.day_names().join(",") {
            days if days.is_empty() => days,
            days => days + " ",
        };
        format!("{days}*-*-* {hour:02}:{:02}:00", self.minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_mean_the_same_to_cron_and_systemd() {
        for (text, shown, crontab, calendar) in [
            ("hourly", "hourly", "0 * * * *", "*-*-* *:00:00"),
            ("02:30", "02:30", "30 2 * * *", "*-*-* 02:30:00"),
            ("Sat,mon  23:05", "mon,sat 23:05", "5 23 * * 1,6", "mon,sat *-*-* 23:05:00"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), shown);
            assert_eq!(shown.parse(), Ok(schedule.clone()));
            assert_eq!(
                (schedule.crontab().as_str(), schedule.calendar().as_str()),
                (crontab, calendar)
            );
        }
        assert_eq!(Schedule::default().to_string(), "02:30");
        for bad in
            ["", "daily", "2:30", "24:00", "02:60", "day 02:30", "mon, 02:30", "mon tue 02:30"]
        {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }
}
