//! Tests of retention: the calendar, and the rules about groups, series, pins and incomplete
//! snapshots.

mod properties;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::*;
use crate::format::snapshot::{Moment, RawBytes, StreamRecord};
use crate::id::SnapshotId;
use crate::ops::test_support::bare_snapshot;

fn seconds(text: &str, zone: &TimeZone) -> i64 {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return instant.as_second();
    }
    let local: jiff::civil::DateTime = text.parse().unwrap();
    local.to_zoned(zone.clone()).unwrap().timestamp().as_second()
}

/// A complete snapshot that was stored when it says it was taken.
fn honest(number: u8, seconds: i64) -> Candidate {
    let time = Moment { seconds, nanos: 0 };
    let id = SnapshotId([number; 16]);
    let snapshot = Snapshot { id, time, ..bare_snapshot() };
    Candidate { snapshot, stored: Timestamp { seconds, nanos: 0 } }
}

/// Honest snapshots of these times, numbered from 0.
fn of_times(times: &[&str], zone: &TimeZone) -> Vec<Candidate> {
    let number = |at: usize| u8::try_from(at).unwrap();
    times.iter().enumerate().map(|(at, text)| honest(number(at), seconds(text, zone))).collect()
}

/// All decisions, oldest first within each group.
fn judged(candidates: &[Candidate], policy: &Policy, zone: &TimeZone) -> Vec<Decision> {
    let groups = decide(candidates.to_vec(), policy, GroupBy::default(), zone).unwrap();
    groups.into_iter().flat_map(|group| group.decisions).collect()
}

fn kept(candidates: &[Candidate], policy: &Policy) -> BTreeSet<SnapshotId> {
    let decisions = judged(candidates, policy, &TimeZone::UTC);
    decisions.into_iter().filter(|one| one.kept).map(|one| one.snapshot.id).collect()
}

/// The numbers of the snapshots that are kept, with the reasons.
fn reasons(candidates: &[Candidate], policy: &Policy, zone: &TimeZone) -> Vec<(u8, String)> {
    let text =
        |one: &Decision| one.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut found: Vec<(u8, String)> = judged(candidates, policy, zone)
        .iter()
        .filter(|one| one.kept)
        .map(|one| (one.snapshot.id.0[0], text(one)))
        .collect();
    found.sort();
    found
}

fn numbers(candidates: &[Candidate], policy: &Policy) -> Vec<u8> {
    kept(candidates, policy).into_iter().map(|id| id.0[0]).collect()
}

fn span(text: &str) -> Option<KeepSpan> {
    Some(text.parse().unwrap())
}

fn pairs<const N: usize>(list: [(u8, &str); N]) -> Vec<(u8, String)> {
    list.map(|(number, text)| (number, text.to_owned())).to_vec()
}

/// Asserts what one rule keeps of snapshots of these times in this zone.
#[track_caller]
fn table<const N: usize>(zone: &str, times: &[&str], policy: &Policy, wanted: [(u8, &str); N]) {
    let zone = TimeZone::get(zone).unwrap();
    assert_eq!(reasons(&of_times(times, &zone), policy, &zone), pairs(wanted));
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let zero = Policy { within: span("0d"), ..Policy::default() };
    for policy in [Policy::default(), zero] {
        assert_eq!(
            decide(Vec::new(), &policy, GroupBy::default(), &TimeZone::UTC),
            Err(EmptyPolicy)
        );
    }
    assert!(!Policy { tags: vec!["x".to_owned()], ..Policy::default() }.is_empty());
}

#[test]
fn the_newest_of_each_period_stands_for_it() {
    let times = [
        "2026-11-21T01:00:00Z",
        "2026-11-22T01:00:00Z",
        "2026-11-22T23:59:59Z",
        "2026-11-23T00:00:00Z",
        "2026-11-23T02:00:00Z",
    ];
    let policy = Policy { last: 1, daily: 2, ..Policy::default() };
    table("UTC", &times, &policy, [(2, "daily 2026-11-22"), (4, "last 1, daily 2026-11-23")]);
    // The same instants, east of there.
    let policy = Policy { daily: 2, ..Policy::default() };
    table("Asia/Tokyo", &times, &policy, [(1, "daily 2026-11-22"), (4, "daily 2026-11-23")]);
    let policy = Policy { hourly: 3, monthly: 1, yearly: 1, ..Policy::default() };
    table(
        "UTC",
        &times,
        &policy,
        [
            (2, "hourly 2026-11-22 23h+00:00"),
            (3, "hourly 2026-11-23 00h+00:00"),
            (4, "hourly 2026-11-23 02h+00:00, monthly 2026-11, yearly 2026"),
        ],
    );
}

#[test]
fn weeks_are_those_of_iso_8601_over_the_end_of_a_year() {
    // 2026 has 53 weeks: the last one reaches into 2027.
    let times = [
        "2026-12-20T12:00:00",
        "2026-12-27T12:00:00",
        "2026-12-28T12:00:00",
        "2027-01-03T23:59:00",
        "2027-01-04T00:00:00",
    ];
    let policy = Policy { weekly: 3, ..Policy::default() };
    table(
        "Europe/Berlin",
        &times,
        &policy,
        [(1, "weekly 2026-W52"), (3, "weekly 2026-W53"), (4, "weekly 2027-W01")],
    );
    let policy = Policy { yearly: 2, ..Policy::default() };
    table("Europe/Berlin", &times, &policy, [(2, "yearly 2026"), (4, "yearly 2027")]);
    // The first days of 2023 belong to the last week of 2022, and the last of 2024 to 2025.
    let times = ["2023-01-01T12:00:00", "2023-01-02T12:00:00", "2024-12-30T12:00:00"];
    let policy = Policy { weekly: 9, ..Policy::default() };
    table(
        "UTC",
        &times,
        &policy,
        [(0, "weekly 2022-W52"), (1, "weekly 2023-W01"), (2, "weekly 2025-W01")],
    );
}

#[test]
fn where_the_clock_changes_no_hour_is_lost_and_days_have_their_own_length() {
    // In October the hour from 2 to 3 comes twice; in March it does not come at all.
    let autumn = ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
    let policy = Policy { hourly: 9, ..Policy::default() };
    table(
        "Europe/Berlin",
        &autumn,
        &policy,
        [
            (0, "hourly 2026-10-25 01h+02:00"),
            (1, "hourly 2026-10-25 02h+02:00"),
            (2, "hourly 2026-10-25 02h+01:00"),
        ],
    );
    let spring = ["2026-03-28T12:00:00", "2026-03-29T01:59:00", "2026-03-29T12:00:00"];
    // A day before noon is noon of the day before, 23 hours earlier.
    let policy = Policy { within: span("1d"), ..Policy::default() };
    let all = [(0, "within 1d"), (1, "within 1d"), (2, "within 1d")];
    table("Europe/Berlin", &spring, &policy, all);
    let policy = Policy { within: span("22h"), ..Policy::default() };
    table("Europe/Berlin", &spring, &policy, [(1, "within 22h"), (2, "within 22h")]);
    // Here the clock was put back a minute after midnight: the new day was left once more.
    let back = ["1990-10-28T02:30:30Z", "1990-10-28T03:00:00Z", "1990-10-28T12:00:00Z"];
    let policy = Policy { daily: 9, ..Policy::default() };
    table("America/St_Johns", &back, &policy, [(1, "daily 1990-10-27"), (2, "daily 1990-10-28")]);
}

#[test]
fn durations_count_from_the_newest_and_by_the_calendar() {
    let times = [
        "2025-02-27T12:00:00",
        "2025-02-28T12:00:00",
        "2026-01-31T12:00:00",
        "2026-02-28T11:00:00",
        "2026-02-28T12:00:00",
    ];
    let policy = Policy { within: span("1y"), ..Policy::default() };
    let all = [(1, "within 1y"), (2, "within 1y"), (3, "within 1y"), (4, "within 1y")];
    table("UTC", &times, &policy, all);
    let policy = Policy { within_monthly: span("1y1d"), ..Policy::default() };
    table(
        "UTC",
        &times,
        &policy,
        [
            (1, "monthly 2025-02 within 1y1d"),
            (2, "monthly 2026-01 within 1y1d"),
            (4, "monthly 2026-02 within 1y1d"),
        ],
    );
    // Beyond all calendars is no limit.
    let policy = Policy { within: span("65535y"), ..Policy::default() };
    assert_eq!(numbers(&of_times(&times, &TimeZone::UTC), &policy), [0, 1, 2, 3, 4]);
}

#[test]
fn durations_are_read_and_shown() {
    for text in ["1y5m7d2h", "14d", "3w", "0h", "65535h"] {
        assert_eq!(text.parse::<KeepSpan>().unwrap().to_string(), text);
    }
    assert_eq!("0d".parse::<KeepSpan>().unwrap().to_string(), "0h");
    for bad in
        ["", "7", "d", "-1d", "1d1y", "1d1d", "1.5d", "1s", "65536d", "7d ", "1mm", "\u{663}d"]
    {
        assert!(bad.parse::<KeepSpan>().is_err(), "{bad:?}");
    }
}

#[test]
fn groups_are_judged_apart_and_two_dumps_are_two_groups() {
    let mut candidates: Vec<Candidate> = (0..6).map(|n| honest(n, i64::from(n) * 60)).collect();
    candidates[1].snapshot.host = "other".to_owned();
    candidates[2].snapshot.paths = vec![RawBytes(b"/a".to_vec()), RawBytes(b"/b".to_vec())];
    candidates[3].snapshot.paths = vec![RawBytes(b"/b".to_vec()), RawBytes(b"/a".to_vec())];
    candidates[4].snapshot.job = Some("nightly".to_owned());
    let moment = candidates[5].snapshot.time;
    candidates[5].snapshot.streams = vec![StreamRecord {
        name: "db.sql".to_owned(),
        started: moment,
        ended: moment,
        bytes: 1,
        format: None,
        origin: None,
        rows: None,
    }];
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(numbers(&candidates, &policy), [0, 1, 3, 4, 5]);
    let by = |text: &str| {
        let by = text.parse().unwrap();
        let groups = decide(candidates.clone(), &policy, by, &TimeZone::UTC).unwrap();
        groups.iter().map(|group| group.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(by(""), ["all snapshots"]);
    assert_eq!(by("host"), ["host host", "host other"]);
    assert_eq!(by("job, host").len(), 3);
    assert_eq!(by("host,paths,job").len(), 5);
    assert!(by("host,paths,job").contains(&"host host, /a, /b".to_owned()));
    assert!("hosts".parse::<GroupBy>().is_err());
}

#[test]
fn incomplete_ones_take_no_slot_of_a_complete_one() {
    let day = |n: u8| honest(n, i64::from(n) * 86_400);
    let incomplete = |n: u8| {
        let mut one = day(n);
        one.snapshot.problems = 1;
        one
    };
    let policy = Policy { last: 2, ..Policy::default() };
    // All nights since the 3rd were incomplete.
    let nights = [day(1), day(2), day(3), incomplete(4), incomplete(5), incomplete(6)];
    assert_eq!(numbers(&nights, &policy), [2, 3, 5, 6]);
    let daily = Policy { daily: 3, ..Policy::default() };
    assert_eq!(numbers(&nights, &daily), [1, 2, 3, 4, 5, 6]);
    // Of one day, the complete one stands for it; the newest stays beside it, until there is a
    // newer complete one.
    let mut late = incomplete(3);
    late.snapshot.id = SnapshotId([9; 16]);
    late.snapshot.time.seconds += 3600;
    late.stored.seconds += 3600;
    let one_day = [day(2), day(3), late.clone()];
    let policy = Policy { daily: 1, ..Policy::default() };
    assert_eq!(
        reasons(&one_day, &policy, &TimeZone::UTC),
        pairs([(3, "daily 1970-01-04"), (9, "newest, incomplete")])
    );
    assert_eq!(numbers(&[day(2), day(3), late.clone(), day(4)], &policy), [4]);
    let tagged = Policy { tags: vec!["x".to_owned()], ..Policy::default() };
    assert_eq!(numbers(&[day(2), late], &tagged), [9]);
}

#[test]
fn times_that_were_made_up_push_nobody_out() {
    let day = 86_400;
    let mut candidates: Vec<Candidate> = (0..5).map(|n| honest(n, i64::from(n) * day)).collect();
    // Stored on the last day, for each of the days to come.
    for number in 10..20u8 {
        let mut forged = honest(number, i64::from(number) * day);
        forged.stored.seconds = 4 * day;
        candidates.push(forged);
    }
    let policy = Policy { last: 2, daily: 3, ..Policy::default() };
    assert_eq!(numbers(&candidates, &policy), [2, 3, 4, 17, 18, 19]);
    // Exactly a day apart is believed.
    let edge = |stored| {
        let mut one = honest(1, 10 * day);
        one.stored = stored;
        one.is_believed()
    };
    assert!(edge(Timestamp { seconds: 11 * day, nanos: 0 }));
    assert!(!edge(Timestamp { seconds: 11 * day, nanos: 1 }));
    assert!(edge(Timestamp { seconds: 9 * day, nanos: 0 }));
    assert!(!edge(Timestamp { seconds: i64::MAX, nanos: 0 }));
    // A copy that lost all times of storing is judged as it was.
    for candidate in &mut candidates[..5] {
        candidate.stored.seconds = 1000 * day;
    }
    assert_eq!(numbers(&candidates[..5], &policy), [2, 3, 4]);
}

#[test]
fn times_beyond_all_calendars_are_judged_too() {
    let policy = Policy { last: 1, yearly: 2, within: span("1h"), ..Policy::default() };
    let ends = [honest(1, i64::MIN), honest(2, 0), honest(3, i64::MAX)];
    assert_eq!(numbers(&ends, &policy), [2, 3]);
}

#[test]
fn pinned_ones_stay_and_count_for_nothing() {
    let mut candidates: Vec<Candidate> = (0..4).map(|n| honest(n, i64::from(n) * 60)).collect();
    candidates[3].snapshot.pinned = true;
    candidates[0].snapshot.pinned = true;
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(
        reasons(&candidates, &policy, &TimeZone::UTC),
        pairs([(0, "pinned"), (2, "last 1"), (3, "pinned")])
    );
}

#[test]
fn a_record_and_the_one_it_replaces_are_one_snapshot() {
    let mut candidates: Vec<Candidate> = (0..3).map(|n| honest(n, i64::from(n) * 60)).collect();
    let mut copy = candidates[2].clone();
    copy.snapshot.id = SnapshotId([9; 16]);
    copy.snapshot.formerly = vec![SnapshotId([2; 16])];
    candidates[2].snapshot.tags = vec!["yearly".to_owned()];
    candidates.push(copy);
    let policy = Policy { last: 2, ..Policy::default() };
    assert_eq!(numbers(&candidates, &policy), [1, 2, 9]);
    // What the copy leaves out still counts: else a copy could strip a snapshot of its pin.
    let yearly = Policy { tags: vec!["yearly".to_owned()], ..Policy::default() };
    assert_eq!(numbers(&candidates, &yearly), [2, 9]);
    candidates[2].snapshot.pinned = true;
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(numbers(&candidates, &policy), [1, 2, 9]);
    // A copy that was stored long after is of another series: alone, and no reason to keep the
    // first.
    candidates[2].snapshot.pinned = false;
    candidates[3].stored.seconds += 1_000_000;
    candidates.push(honest(4, 1000));
    assert_eq!(numbers(&candidates, &policy), [4, 9]);
}
