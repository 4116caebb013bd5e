//! The net catches fish: a snapshot that is not told what it decides by stores something wrong
//! within a bounded number of schedules.

use super::run_many;
use super::script::Weakness;

/// Schedules of a weakened snapshot that are tried.
const TRIES: u64 = 4000;

fn is_caught(weakness: Weakness, by: &str) {
    let mut first = 1;
    while first <= TRIES {
        let totals = run_many(first, 500, weakness, 1);
        let found = totals.violations.into_iter().find(|(_, what)| what.contains(by));
        if let Some((seed, what)) = found {
            println!("{weakness:?}: schedule {seed}: {what}");
            return;
        }
        first += totals.schedules;
    }
    panic!("{weakness:?} did no harm in {TRIES} schedules");
}

#[test]
fn an_inode_number_of_two_file_systems_stores_wrong_content() {
    is_caught(Weakness::NumberAlone, "it shows");
}

#[test]
fn an_inode_number_that_is_given_out_again_stores_wrong_content() {
    is_caught(Weakness::NumberOnDisk, "it shows");
}

#[test]
fn a_length_that_is_believed_stores_a_part() {
    is_caught(Weakness::LengthBelieved, "it shows");
}

#[test]
fn no_look_after_reading_stores_a_mixture() {
    is_caught(Weakness::NoLastLook, "it shows");
}

#[test]
fn a_grain_that_is_ignored_keeps_an_old_state() {
    is_caught(Weakness::GrainIgnored, "it shows");
}

#[test]
fn without_the_time_of_change_an_old_state_is_kept() {
    is_caught(Weakness::NoTimeOfChange, "it shows");
}
