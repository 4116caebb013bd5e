//! A simulator of sources: between any two calls that a snapshot makes to the kernel, files appear,
//! go, are renamed, linked, replaced, written and cut, as a seed decides, on two file systems with
//! the same identity, whose inode numbers are given out again, whose clocks are coarse, late or
//! stand still, and whose files may not be as long as they are said to be. After each snapshot,
//! every entry must show a state that its own file was in while the snapshot was taken, and nothing
//! that was there all the time may be missing.
//!
//! `GABION_SIMULATE_SOURCES=1000000 cargo test --release --lib snapshot::tests -- --nocapture`
//! runs many on all cores, from `GABION_SIMULATE_FROM` on; `GABION_SIMULATE_SEED=…` one again, with
//! everything that happens in it.

mod oracle;
mod random;
mod script;
mod weakened;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use script::{Scripted, Weakness};
use world::{FIRST_RUN, RUN, World};

use super::{Scope, SnapshotOptions, snapshot};
use crate::event::Event;
use crate::format::entry::Timestamp;
use crate::ops::test_support::TestRepository;
use crate::source::exclude::Excludes;
use crate::source::probe::Probe;

/// Schedules of an ordinary run of the tests.
const ORDINARY: u64 = 1500;
/// Schedules after which a lane takes another repository: its lists of snapshots grow.
const PER_REPOSITORY: u64 = 50;

fn start_of(run: i64) -> Timestamp {
    Timestamp { seconds: FIRST_RUN + run * RUN, nanos: 0 }
}

/// Runs of a schedule.
const RUNS: i64 = 3;

/// The time that a run is told. Threads on which nothing was simulated yet see a late one.
fn clock() -> Timestamp {
    script::now().unwrap_or_else(|| start_of(RUNS))
}

/// What a schedule gave.
#[derive(Debug, Default)]
struct Report {
    calls: u64,
    changes: u64,
    entries: u64,
    unsettled: u64,
    violation: Option<String>,
    trace: Vec<String>,
    /// Problems and notes of the repository's runs up to the violation.
    told: Vec<String>,
}

fn options(script: &Scripted, seed: u64, run: i64) -> SnapshotOptions {
    SnapshotOptions {
        paths: vec![script.lock().world.root.clone()],
        streams: Vec::new(),
        stand_ins: Vec::new(),
        allow_empty: false,
        excludes: Excludes::default(),
        allow_live_database: false,
        one_file_system: false,
        tags: Vec::new(),
        host: format!("schedule {seed}"),
        identity: None,
        user: "me".to_owned(),
        job: None,
        time: start_of(run),
        clock,
        force: false,
        scope: Scope::Everything,
        dry_run: false,
        rate: None,
        compression: 1,
        threads: 0,
        full_scan_every: None,
        allow_empty_source: true,
        interrupted: Arc::default(),
    }
}

/// Runs one schedule.
fn run(repository: &TestRepository, seed: u64, weakness: Weakness) -> Report {
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let world = World::new(&place.path().canonicalize().unwrap(), seed);
    let root = world.root.clone();
    let script = Arc::new(Scripted::new(world, weakness));
    Probe::install(&root, Arc::<Scripted>::clone(&script));
    let mut report = Report::default();
    for number in 0..RUNS {
        let from = script.begin(number);
        let taken = snapshot(&repository.repository, options(&script, seed, number));
        let mut inner = script.end();
        let found = taken
            .map_err(|error| format!("it failed: {error}"))
            .and_then(|summary| oracle::check(&repository.repository, &mut inner, from, &summary));
        match found {
            Ok((entries, unsettled)) => {
                report.entries += entries;
                report.unsettled += unsettled;
            }
            Err(what) => {
                report.violation = Some(format!("run {number}: {what}"));
                let told = repository.events.events().into_iter();
                let told = told.filter(|e| matches!(e, Event::Problem(_) | Event::Note(_)));
                report.told = told.map(|event| format!("{event:?}")).collect();
                break;
            }
        }
    }
    Probe::remove(&root);
    let inner = script.lock();
    (report.calls, report.changes) = (inner.calls, inner.world.trace.len() as u64);
    report.trace.clone_from(&inner.world.trace);
    report
}

/// What many schedules gave.
#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    calls: u64,
    changes: u64,
    entries: u64,
    unsettled: u64,
    violations: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, seed: u64, report: Report) {
        self.schedules += 1;
        self.calls += report.calls;
        self.changes += report.changes;
        self.entries += report.entries;
        self.unsettled += report.unsettled;
        self.violations.extend(report.violation.map(|what| (seed, what)));
    }
}

/// Runs schedules with the seeds from `first` on, on all cores, until `most` went wrong.
fn run_many(first: u64, count: u64, weakness: Weakness, most: usize) -> Totals {
    let started = Instant::now();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    let lane = || {
        let mut repository = TestRepository::new();
        for round in 1.. {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            if round % PER_REPOSITORY == 0 {
                repository = TestRepository::new();
            }
            let report = run(&repository, first + at, weakness);
            if let (Some(what), Weakness::None) = (&report.violation, weakness) {
                println!("GABION_SIMULATE_SEED={}: {what}", first + at);
            }
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(first + at, report);
            let (done, wrong) = (totals.schedules, totals.violations.len());
            if wrong >= most {
                break;
            }
            if done % 10_000 == 0 {
                let seconds = started.elapsed().as_secs();
                println!("{done} of {count} schedules in {seconds} s, {wrong} violations");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(lane);
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn every_entry_shows_a_state_of_its_own_file() {
    if let Some(seed) = from_environment("GABION_SIMULATE_SEED") {
        let report = run(&TestRepository::new(), seed, Weakness::None);
        report.trace.iter().chain(&report.told).for_each(|line| println!("{line}"));
        assert_eq!(report.violation, None);
        return;
    }
    let count = from_environment("GABION_SIMULATE_SOURCES").unwrap_or(ORDINARY);
    let first = from_environment("GABION_SIMULATE_FROM").unwrap_or(1);
    let totals = run_many(first, count, Weakness::None, 20);
    println!(
        "proof: {} schedules of sources: {} calls, {} changes, {} entries, {} of them changing, \
         {} violations",
        totals.schedules,
        totals.calls,
        totals.changes,
        totals.entries,
        totals.unsettled,
        totals.violations.len()
    );
    assert!(totals.violations.is_empty(), "{} violations", totals.violations.len());
}
