//! A simulator: several clients work on one repository at once, with the library's own operations,
//! and a seed decides who makes each call of the storage, who sleeps, dies, is taken for dead, gets
//! no answer or a list that is not whole. After each change of the objects, every confirmed
//! snapshot that nobody forgets must be complete.
//!
//! `GABION_SIMULATE_SCHEDULES=1000000 cargo test --release --test it simulation -- --nocapture`
//! runs many on all cores; `GABION_SIMULATE_SEED=…` one again, with everything that happens in it.

mod bases;
mod client;
mod faults;
mod ledger;
mod place;
mod random;
mod schedule;
mod scheduler;
mod sources;
mod weak;
mod weakened;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use random::SLOTS;
use schedule::{Lane, Report, SLOTS_OF_A_LANE};

/// Schedules of an ordinary run of the tests.
const ORDINARY: u64 = 150;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What many schedules gave.
#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    steps: u64,
    injected: u64,
    done: u64,
    failed: u64,
    violations: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, seed: u64, report: Report) {
        self.schedules += 1;
        self.steps += report.steps;
        self.injected += report.injected;
        self.done += report.done;
        self.failed += report.failed;
        self.violations.extend(report.violation.map(|what| (seed, what)));
    }
}

/// Runs schedules with the seeds from `first` on, on all cores.
#[expect(clippy::print_stdout, reason = "it takes hours, and somebody waits")]
fn run_many(first: u64, count: u64) -> Totals {
    let started = Instant::now();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for number in 0..lanes.min(SLOTS / SLOTS_OF_A_LANE - 1) {
            let (next, totals) = (&next, &totals);
            scope.spawn(move || {
                let lane = Lane::new(number);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let report = lane.run(first + at, None, false);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.add(first + at, report);
                    if totals.schedules.is_multiple_of(2000) {
                        let (done, lost) = (totals.schedules, totals.violations.len());
                        let seconds = started.elapsed().as_secs();
                        println!("{done} of {count} schedules in {seconds} s, {lost} violations");
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_is_lost_whoever_comes_first() {
    if let Some(seed) = from_environment("GABION_SIMULATE_SEED") {
        let report = Lane::new(0).run(seed, None, true);
        report.trace.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: {} calls, hash {:016x}", report.steps, report.hash);
        assert_eq!(report.violation, None);
        return;
    }
    let count = from_environment("GABION_SIMULATE_SCHEDULES").unwrap_or(ORDINARY);
    let first = from_environment("GABION_SIMULATE_FROM").unwrap_or(1);
    let totals = run_many(first, count);
    println!(
        "{} schedules: {} calls, {} faults, {} operations of which {} ended with an error",
        totals.schedules, totals.steps, totals.injected, totals.done, totals.failed
    );
    for (seed, what) in totals.violations.iter().take(20) {
        println!("GABION_SIMULATE_SEED={seed}: {what}");
    }
    assert!(totals.violations.is_empty(), "{} violations", totals.violations.len());
}
