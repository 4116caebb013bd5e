//! `gabion check`: verifies that the repository keeps its promises.

use std::time::Duration;

use gabion::format::entry::Timestamp;
use gabion::job::config::parse_duration;
use gabion::ops::check::{CheckOptions, CheckSummary, ReadData, Verified, check_and_remember};
use serde::Serialize;

use crate::commands::scrub;
use crate::errors::{Exit, Failure};
use crate::machine;
use crate::output::{one_json, one_line};
use crate::render::values::{counted, parse_size, size};
use crate::session::Session;

/// Verify the repository
///
/// Without options all but the packs' data is read: configuration, keys, snapshots, pages and
/// footers, and that every chunk that a snapshot needs is there. With them, data is read,
/// decrypted, decompressed and compared, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion check
  gabion check --read-data
  gabion check --read-data-subset 3/7
  gabion check --read-data-subset 5%
  gabion check --read-data-subset 20GiB
  gabion check --budget 10m
  gabion check --budget 50GiB
  gabion check --parity")]
pub(crate) struct Args {
    /// Read all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read a part of the data: N/OF, a percentage, or so many bytes
    #[arg(long, value_name = "PART", value_parser = parse_subset)]
    read_data_subset: Option<ReadData>,
    /// Read data for so long (90s, 10m, 2h) or so much (50GiB): what was longest not verified first
    #[arg(long, value_name = "BUDGET", value_parser = parse_budget,
        conflicts_with_all = ["read_data", "read_data_subset"])]
    budget: Option<Budget>,
    /// Only read all packs and their parity and compare them with what was written: needs no key
    #[arg(long, conflicts_with_all = ["read_data", "read_data_subset", "budget"])]
    parity: bool,
}

/// How much is read.
#[derive(Debug, Clone, Copy)]
enum Budget {
    Time(Duration),
    Bytes(u64),
}

fn parse_budget(text: &str) -> Result<Budget, String> {
    let bytes = || parse_size(text).ok().map(Budget::Bytes);
    let budget = parse_duration(text).map(Budget::Time).or_else(bytes);
    budget.ok_or_else(|| format!("{text:?} is no time such as 10m, and no size such as 50GiB"))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary {
    snapshots: u64,
    packs: u64,
    chunks: u64,
    pages: u64,
    bytes_read: u64,
    problems: u64,
    notes: u64,
    /// Since when, at least, each pack has been known to be whole.
    verified_from: Option<i64>,
}

/// Checks the repository.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    if args.parity {
        return scrub::run(session, false);
    }
    let interrupted = session.interruption()?;
    let opened = session.open()?;
    let mut verified = Verified::recall(&opened.repository, machine::now);
    let read = match (args.read_data_subset, args.budget) {
        (Some(read), _) => read,
        (None, Some(Budget::Bytes(bytes))) => ReadData::LongestUnverified(bytes),
        (None, Some(Budget::Time(time))) => {
            let now = machine::now();
            let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            let seconds = now.seconds.saturating_add(seconds);
            verified.until = Some(Timestamp { seconds, ..now });
            ReadData::LongestUnverified(u64::MAX)
        }
        (None, None) if args.read_data => ReadData::All,
        (None, None) => ReadData::Structure,
    };
    // Another day, another part of the data.
    let salt = u64::try_from(machine::now().seconds).unwrap_or(0);
    let options = CheckOptions { read, salt, threads: session.threads(), interrupted };
    let summary = check_and_remember(&opened.repository, &options, &mut verified)?;
    session.console.finish();
    print(session, &summary, verified.oldest)?;
    Ok(if summary.problems > 0 { Exit::Damage } else { Exit::Done })
}

fn print(
    session: &Session,
    summary: &CheckSummary,
    verified_from: Option<i64>,
) -> Result<(), Failure> {
    let &CheckSummary { snapshots, packs, chunks, pages, bytes_read, problems, notes } = summary;
    if session.json() {
        return one_json(&Summary {
            snapshots,
            packs,
            chunks,
            pages,
            bytes_read,
            problems,
            notes,
            verified_from,
        });
    }
    if session.quiet() {
        return Ok(());
    }
    let found = match problems {
        0 => "no problems".to_owned(),
        _ => counted(problems, "PROBLEM", "PROBLEMS"),
    };
    one_line(format!(
        "checked {}, {}, {} of data read: {found}",
        counted(snapshots, "snapshot", "snapshots"),
        counted(packs, "pack", "packs"),
        size(bytes_read),
    ))
}

fn parse_subset(text: &str) -> Result<ReadData, String> {
    let bad = || format!("{text:?} is no part such as 3/7, 5% or 20GiB");
    if let Some((part, of)) = text.split_once('/') {
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| bad());
        let (part, of) = (number(part)?, number(of)?);
        let valid = 1 <= part && part <= of;
        return if valid { Ok(ReadData::Subset { part, of }) } else { Err(bad()) };
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| bad())?;
        let valid = percent > 0.0 && percent <= 100.0;
        return if valid { Ok(ReadData::Percent(percent)) } else { Err(bad()) };
    }
    parse_size(text).map(ReadData::Bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read() {
        assert_eq!(parse_subset("3/7"), Ok(ReadData::Subset { part: 3, of: 7 }));
        assert_eq!(parse_subset("2.5%"), Ok(ReadData::Percent(2.5)));
        assert_eq!(parse_subset("1k"), Ok(ReadData::Bytes(1024)));
        for bad in ["", "0/7", "8/7", "1/", "0%", "101%", "NaN%", "x"] {
            assert!(parse_subset(bad).is_err(), "{bad:?}");
        }
    }
}
