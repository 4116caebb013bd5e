//! The net catches fish: ways to weaken the protocol that lose data in the model lose data in the
//! simulator, too, within a bounded number of schedules. One of the model's is not here: to list
//! packs before marks. The code lists packs once more in the end, and no schedule was found in
//! which that alone is not enough.

use super::random::SLOTS;
use super::schedule::{Lane, SLOTS_OF_A_LANE, Scene, Weakening};
use super::weak::Weakness;

/// Schedules of a weakened protocol that are tried.
const TRIES: u64 = 1500;

/// The lane that tests of this module share with nobody.
fn lane(number: usize) -> Lane {
    Lane::new(SLOTS / SLOTS_OF_A_LANE - 2 - number)
}

/// Runs schedules until one loses data.
#[expect(clippy::print_stdout, reason = "how many it takes is worth knowing")]
fn loses_data(number: usize, weakening: Weakening) {
    let lane = lane(number);
    let most = super::from_environment("GABION_SIMULATE_WEAKENED").unwrap_or(TRIES);
    for seed in 1..=most {
        let report = lane.run(seed, Some(weakening), false);
        let lost = report
            .violation
            .filter(|what| what.contains("the last one") || what.contains("in no pack"));
        if let Some(what) = lost {
            println!("{weakening:?}: schedule {seed}: {what}");
            return;
        }
    }
    panic!("{weakening:?} lost nothing in {most} schedules");
}

#[test]
fn one_phase_deletion_loses_data() {
    loses_data(0, Weakening { pruners: Weakness::OnePhase, ..Weakening::default() });
}

#[test]
fn a_time_of_grace_that_a_writer_oversleeps_loses_data() {
    let weakening = Weakening {
        pruners: Weakness::Grace,
        writers: Weakness::NoLastLook,
        ..Weakening::default()
    };
    loses_data(1, weakening);
}

#[test]
fn revoking_sessions_without_a_last_look_loses_data() {
    let weakening =
        Weakening { writers: Weakness::NoLastLook, revocations: true, ..Weakening::default() };
    loses_data(2, weakening);
}

#[test]
fn confirming_without_a_tentative_root_loses_data() {
    let weakening =
        Weakening { writers: Weakness::NoRoot, revocations: true, ..Weakening::default() };
    loses_data(3, weakening);
}

#[test]
fn pruners_that_do_not_look_at_the_marks_of_others_lose_data() {
    let weakening =
        Weakening { scene: Scene::Twins, pruners: Weakness::OwnMarksOnly, ..Weakening::default() };
    loses_data(4, weakening);
}

#[test]
fn deleting_without_a_second_look_at_the_roots_loses_data() {
    let weakening =
        Weakening { pruners: Weakness::NoSecondLook, revocations: true, ..Weakening::default() };
    loses_data(5, weakening);
}

#[test]
fn dropping_what_is_unfinished_without_taking_its_name_loses_data() {
    let weakening =
        Weakening { pruners: Weakness::NameLeftFree, revocations: true, ..Weakening::default() };
    loses_data(6, weakening);
}
