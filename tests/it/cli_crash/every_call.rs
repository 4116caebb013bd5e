//! Faults at every kind of system call that a snapshot makes: ended there, interrupted there, and
//! not let write as much as it wants. A sample of the calls; with
//! `GABION_EVERY_CALL=1 cargo test --test it every_call` it is every single one.
//!
//! Calls are counted for each thread by itself: the n-th call is that of whichever thread comes to
//! n first.

use super::{Met, Sandbox, assert_whole, has, meet, noise, prepare, snapshots};

/// The calls of a kind at which there is a fault, in ascending order.
fn steps() -> Box<dyn Iterator<Item = u32>> {
    if std::env::var_os("GABION_EVERY_CALL").is_some() {
        return Box::new(1..);
    }
    Box::new((0..).map(|exponent| 7u32.saturating_pow(exponent)))
}

fn encrypted() -> Sandbox {
    let sandbox = Sandbox::with_encrypted_repository();
    prepare(&sandbox);
    sandbox
}

/// Meets `fault` at calls of each kind until a run gets through; `each` looks at what came of it.
fn sweep_kinds(kinds: &[&str], fault: &str, each: impl Fn(&Sandbox, &Met, &str)) {
    let mut sandbox = encrypted();
    for calls in kinds {
        let mut met = 0;
        for n in steps() {
            let came = meet(&sandbox, "snapshot source", calls, fault, n);
            if !came.hit {
                break;
            }
            each(&sandbox, &came, &format!("{calls} {n}"));
            met += 1;
            if met % 50 == 0 {
                // What the faults leave makes later runs longer: with it the sweep would not end.
                assert_whole(&sandbox, came.now);
                sandbox = encrypted();
            }
        }
        assert!(met > 0, "no {calls} was met");
    }
    assert_whole(&sandbox, snapshots(&sandbox));
}

#[test]
fn killed_at_calls_of_every_kind_with_an_encrypted_repository() {
    if !has("strace") {
        eprintln!("not run: strace is not installed");
        return;
    }
    let kinds = ["openat", "write", "pwrite64", "mkdir,mkdirat", "close"];
    sweep_kinds(&kinds, "signal=KILL", |_, _, _| {});
}

/// All but fsync: what that says first is what counts.
#[test]
fn an_interrupted_call_is_made_again() {
    if !has("strace") {
        eprintln!("not run: strace is not installed");
        return;
    }
    let kinds = ["openat", "read", "pread64", "write", "pwrite64", "fallocate"];
    sweep_kinds(&kinds, "error=EINTR", |sandbox, came, place| {
        let said = std::fs::read_to_string(sandbox.path("out.txt")).unwrap();
        // The first calls are those of the system's loader, which gives up at once.
        let is_loader = said.contains("error while loading shared libraries");
        assert!(came.succeeded || is_loader, "{place}: {said}");
    });
}

/// The system takes a part of what is written, and then nothing more.
#[test]
fn a_file_that_may_not_grow_fails_the_run_and_costs_nothing() {
    let sandbox = encrypted();
    let confirmed = snapshots(&sandbox);
    // Blocks of 512 bytes; the signal that comes with the error would end the program.
    for (number, blocks) in [100u32, 777, 2001, 5000].into_iter().enumerate() {
        sandbox.write("source/changing", noise(300_000, u8::try_from(number).unwrap()));
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec $GABION snapshot source");
        sandbox.shell(&script).run().code(1).says("too large");
        assert_eq!(snapshots(&sandbox), confirmed, "{blocks} blocks");
    }
    assert_whole(&sandbox, confirmed);
}
