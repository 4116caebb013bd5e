//! The real program, ended at any instant or run into a full or failing disk: the next command
//! works, nothing confirmed is lost, and what was stored is used again.

mod disk_sizes;
mod every_call;
mod faults;
mod kills;
mod world;

use std::path::Path;

use crate::support::{Sandbox, private_mounts};

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A sandbox with a repository, one confirmed snapshot, and more to store.
fn prepared() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    prepare(&sandbox);
    sandbox
}

fn prepare(sandbox: &Sandbox) {
    for number in 0..200u8 {
        sandbox.write(format!("source/d{}/f{number}", number % 17), noise(3000, number));
    }
    sandbox.gabion(["snapshot", "source"]).run().success();
    for number in 0..12u8 {
        sandbox.write(format!("source/large/f{number}"), noise(700_000, 200 + number));
    }
}

fn snapshots(sandbox: &Sandbox) -> usize {
    let listed = sandbox.gabion(["snapshots", "--json"]).run().success();
    listed.stdout().lines().filter(|line| line.contains("\"id\"")).count()
}

/// Whatever happened before: a snapshot can be taken, everything checks, everything comes back.
fn assert_whole(sandbox: &Sandbox, at_least: usize) {
    assert!(snapshots(sandbox) >= at_least, "a confirmed snapshot is gone");
    sandbox.gabion(["snapshot", "source"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
    let script = "rm -rf out && $GABION restore latest:\"$PWD/source\" --target out --quiet \
                  && diff -r source out";
    sandbox.shell(script).run().success();
}

#[test]
fn killed_at_any_time_the_next_run_goes_on() {
    let sandbox = prepared();
    let mut confirmed = snapshots(&sandbox);
    for millis in (2..60).step_by(6).chain([80, 120, 180]) {
        sandbox.write("source/changing", noise(500_000, u8::try_from(millis).unwrap()));
        let script = format!(
            "$GABION snapshot source & pid=$!; sleep {}; kill -9 $pid; wait $pid; true",
            f64::from(millis) / 1000.0
        );
        sandbox.shell(&script).run().success();
        let now = snapshots(&sandbox);
        assert!(now >= confirmed, "a confirmed snapshot is gone after {millis} ms");
        confirmed = now;
    }
    assert_whole(&sandbox, confirmed);
}

fn has(program: &str) -> bool {
    Path::new("/usr/bin").join(program).exists()
}

/// Ends the program with `fault` at the n-th of the given system calls, for every n until it gets
/// through; returns how many faults it met.
fn sweep(command: &str, calls: &str, fault: &str, limit: u32) -> u32 {
    let sandbox = prepared();
    for n in 1..=limit {
        let Met { hit, now, .. } = meet(&sandbox, command, calls, fault, n);
        if n % 8 == 0 {
            sandbox.gabion(["check", "--read-data"]).run().success();
        }
        if !hit {
            assert_whole(&sandbox, now);
            return n - 1;
        }
    }
    assert_whole(&sandbox, 1);
    limit
}

/// What came of a command that met a fault.
struct Met {
    /// Whether it came to so many calls at all.
    hit: bool,
    succeeded: bool,
    /// Confirmed snapshots afterwards.
    now: usize,
}

/// Runs a command that takes a snapshot and meets `fault` at the n-th of the given system calls of
/// one of its threads. Nothing confirmed may be lost, and nothing may be called a success that is
/// none.
fn meet(sandbox: &Sandbox, command: &str, calls: &str, fault: &str, n: u32) -> Met {
    let confirmed = snapshots(sandbox);
    sandbox.write("source/changing", n.to_le_bytes().repeat(40_000));
    let script = format!(
        "strace -f -qq -o trace -e trace={calls} -e 'inject={calls}:{fault}:when={n}' \
         $GABION {command} >out.txt 2>&1; echo $? >status; grep -c INJECTED trace >hits; true"
    );
    sandbox.shell(&script).run().success();
    let read = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap();
    let hit = fault.contains("KILL") && read("trace").contains("killed by SIGKILL")
        || read("hits").trim() != "0";
    let succeeded = read("status").trim() == "0";
    let now = snapshots(sandbox);
    assert!(now >= confirmed, "{calls} {n}: a confirmed snapshot is gone");
    if succeeded {
        let said = read("out.txt");
        assert!(now > confirmed, "{calls} {n}: success without a snapshot: {said}");
    }
    Met { hit, succeeded, now }
}

#[test]
fn killed_at_each_step_of_a_publish() {
    if !has("strace") {
        eprintln!("not run: strace is not installed");
        return;
    }
    // Calls are counted in each thread by itself, so those that wait for the disk at the same time
    // have one number together. `crash_states` stops between any two of them.
    let met = sweep("snapshot source", "fsync,renameat2,unlinkat", "signal=KILL", 60);
    assert!(met >= 6, "the sweep met only {met} calls");
}

#[test]
fn a_failing_disk_is_never_a_success() {
    if !has("strace") {
        eprintln!("not run: strace is not installed");
        return;
    }
    for (calls, fault) in
        [("fsync", "error=EIO"), ("renameat2", "error=ENOSPC"), ("fallocate", "error=ENOSPC")]
    {
        let met = sweep("snapshot source", calls, fault, 40);
        assert!(met >= 1, "the sweep met no {calls}");
    }
}

#[test]
fn a_full_disk_fails_clearly_and_costs_nothing() {
    if !private_mounts() {
        eprintln!("not run: only the superuser can mount a small disk");
        return;
    }
    let sandbox = Sandbox::new();
    for number in 0..10u8 {
        sandbox.write(format!("source/f{number}"), noise(400_000, number));
    }
    for kilobytes in [700, 1200, 2000, 3000, 3600, 3800] {
        let script = format!(
            "mkdir -p disk && mount -t tmpfs -o size={kilobytes}k none disk || exit 9
             export GABION_REPOSITORY=$PWD/disk/repository
             $GABION init --plaintext --quiet || {{ umount disk; exit 8; }}
             echo small > small
             $GABION snapshot small --quiet || {{ umount disk; exit 7; }}
             $GABION snapshot source >out.txt 2>&1; first=$?
             $GABION snapshots --json >list || first=90
             $GABION check --read-data >>out.txt 2>&1 || first=91
             $GABION restore latest --target restored --overwrite always --quiet || first=92
             umount disk; exit $first"
        );
        let output = sandbox.shell(&script).run().code(1);
        drop(output);
        let text = std::fs::read_to_string(sandbox.path("out.txt")).unwrap();
        assert!(text.contains("space"), "{kilobytes} kB: {text}");
        let list = std::fs::read_to_string(sandbox.path("list")).unwrap();
        assert_eq!(list.matches("\"id\"").count(), 1, "{kilobytes} kB");
    }
}
