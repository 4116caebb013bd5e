//! System calls that fail, that are cut short, and files that may not grow: never a success with a
//! bad result, and all is well afterwards.
//!
//! With `GABION_EVERY_CALL=1` every call of each kind fails once; with `GABION_DEEDS=Prune,Forget`
//! only while these things are done.

use std::path::Path;
use std::process::Command;

use super::has;
use super::kills::steps;
use super::world::{DEEDS, Deed, Met, World};
use crate::aftermath::{not_run, report};

/// What goes wrong, and at which calls.
const FAULTS: [(&str, &[&str]); 3] = [
    (
        "error=EIO",
        &[
            "openat",
            "read",
            "pread64",
            "write",
            "pwrite64",
            "fsync",
            "fdatasync",
            "renameat2",
            "unlinkat",
            "mkdirat",
            "getdents64",
            "close",
            "ftruncate",
            "statx",
            "newfstatat",
        ],
    ),
    (
        "error=ENOSPC",
        &["openat", "write", "pwrite64", "fallocate", "mkdirat", "renameat2", "fsync"],
    ),
    ("error=EINTR", &["openat", "read", "pread64", "write", "pwrite64", "fallocate", "close"]),
];

/// The program ended in an orderly way.
fn is_orderly(met: &Met) -> bool {
    // Before there is a program its loader reads files; it has a way of its own to say that it
    // cannot.
    let is_loader = met.code == Some(127) && met.text.contains("loading shared libraries");
    // The standard library gives up where a folder that it has listed cannot be closed. The crate
    // that knows local times lists those of the time zones; nothing of ours may end so.
    let is_close_of_zones =
        met.text.contains("unexpected error during closedir") && met.text.contains("jiff::tz::");
    is_loader
        || is_close_of_zones
        || met.code.is_some_and(|code| code < 100) && !met.text.contains("panicked")
}

#[test]
fn a_call_that_fails_is_never_a_success_with_a_bad_result() {
    if !has("strace") {
        not_run("strace is not installed");
        return;
    }
    let world = World::new();
    let (mut all, mut losses) = (0, Vec::new());
    let chosen = std::env::var("GABION_DEEDS").unwrap_or_default();
    let is_chosen = |deed: &Deed| {
        chosen.is_empty() || chosen.split(',').any(|name| name == format!("{deed:?}"))
    };
    for deed in DEEDS.into_iter().filter(is_chosen) {
        let everything = matches!(deed, Deed::Snapshot | Deed::Prune);
        for (fault, kinds) in FAULTS {
            let mut met_of_fault = 0;
            for (number, calls) in kinds.iter().enumerate() {
                let few = [4 + u32::try_from(number).unwrap()];
                // A sample of a sample for what is small.
                let len = usize::from(everything || number % 4 == 1);
                for n in steps(&few[..len]) {
                    let met = world.meet(deed, calls, fault, n);
                    if !met.hit {
                        break;
                    }
                    met_of_fault += 1;
                    let place = format!("{deed:?}, {fault} at {calls} {n}");
                    if !is_orderly(&met) {
                        losses.push(format!("{place}: ended with {:?}: {}", met.code, met.text));
                    }
                    if let Err(loss) = world.aftermath(deed, &met) {
                        losses.push(format!("{place}: {loss}; it had said: {}", met.text));
                    }
                }
            }
            all += met_of_fault;
            let counts = format!("{met_of_fault} faults");
            report(&format!("faults, {deed:?}, {fault}"), &counts, losses.len());
        }
    }
    assert!(all > 40 || !chosen.is_empty(), "only {all} faults were met");
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}

/// A library that is loaded before the program and cuts reads and writes short, or interrupts them.
const SHORT: &str = include_str!("short.c");

#[test]
fn reads_and_writes_that_are_cut_short_change_nothing() {
    let world = World::new();
    let library = world.sandbox.path("short.so");
    world.sandbox.write("short.c", SHORT);
    let mut compiler = Command::new("cc");
    let compiler = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
    if !compiler.arg(world.sandbox.path("short.c")).status().is_ok_and(|done| done.success()) {
        not_run("there is no C compiler");
        return;
    }
    let seeds = if std::env::var_os("GABION_EVERY_CALL").is_some() { 100 } else { 2 };
    let (mut losses, mut cut) = (Vec::new(), 0);
    for seed in 1..=seeds {
        for deed in DEEDS {
            world.reset(deed);
            let run = world.sandbox.gabion(world.words(deed)).env("LD_PRELOAD", &library);
            let run = run.env("SHORT_SEED", seed.to_string());
            let output = run.env("SHORT_COUNT", world.sandbox.path("count")).run();
            let text = format!("{}{}", output.text(), output.errors());
            let met = Met { hit: true, code: output.exit_code(), text };
            let place = format!("{deed:?}, seed {seed}");
            if met.code != Some(0) {
                losses.push(format!("{place}: {:?}: {}", met.code, met.text));
            }
            losses.extend(world.aftermath(deed, &met).err().map(|loss| format!("{place}: {loss}")));
            cut += count(&world.sandbox.path("count"));
        }
    }
    report("calls that are cut short", &format!("{cut} calls"), losses.len());
    assert!(cut > 100, "only {cut} calls were cut short");
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}

fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// The system takes a part of what is written, and then nothing more.
#[test]
fn files_that_may_not_grow_cost_nothing() {
    let world = World::new();
    let every = std::env::var_os("GABION_EVERY_CALL").is_some();
    let (mut met_all, mut losses) = (0, Vec::new());
    for deed in DEEDS {
        // Blocks of 512 bytes; the signal that comes with the error would end the program.
        for blocks in (0..).step_by(if every { 1 } else { 37 }).take(if every { 260 } else { 5 }) {
            world.reset(deed);
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec $GABION \"$@\"");
            let words = ["-c".to_owned(), script, "sh".to_owned()];
            let words = words.into_iter().chain(world.words(deed));
            let run = world.sandbox.program("sh", words);
            let output = run.env("GABION", env!("CARGO_BIN_EXE_gabion")).run();
            let text = format!("{}{}", output.errors(), output.text());
            let met = Met { hit: true, code: output.exit_code(), text };
            let place = format!("{deed:?}, {blocks} blocks");
            if !is_orderly(&met) {
                losses.push(format!("{place}: ended with {:?}: {}", met.code, met.text));
            }
            losses.extend(world.aftermath(deed, &met).err().map(|loss| format!("{place}: {loss}")));
            met_all += 1;
        }
    }
    report("files that may not grow", &format!("{met_all} limits"), losses.len());
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}
