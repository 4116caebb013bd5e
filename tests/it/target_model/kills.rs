//! A restore that is killed at any of its system calls.

use std::path::Path;

use super::trees::{State, observe};
use crate::support::Sandbox;

/// The system calls of a restore that change a target.
const CALLS: &str = "openat,write,pwrite64,linkat,symlinkat,mkdirat,renameat,renameat2,unlinkat,\
                     fchmod,utimensat,ftruncate";

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A snapshot, and beside it a target where each file is another one.
fn prepared() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    for number in 0..12u8 {
        let len = if number % 4 == 0 { 1_200_000 } else { 700 };
        sandbox.write(format!("source/d{}/f{number}", number % 3), noise(len, number));
        sandbox.write(format!("old/d{}/f{number}", number % 3), noise(500, 100 + number));
    }
    sandbox.write("old/d0/extra", "kept");
    let script = "ln source/d1/f1 source/d1/name; ln -s f1 source/d1/link; mkfifo source/d2/pipe
                  ln -s f2 old/d1/link; ln old/d2/f2 old/d1/name; echo x >old/d2/pipe
                  rm old/d2/f5; mkdir old/d2/f5; echo y >old/d2/f5/y; echo z >source/d2/f5";
    sandbox.shell(script).run().success();
    sandbox.gabion(["snapshot", "source", "--quiet"]).run().success();
    sandbox
}

fn judge(n: u32, old: &State, new: &State, now: &State) {
    for (path, seen) in now.iter().filter(|(_, seen)| !seen.is_folder()) {
        let temporary = path.contains(".gabion-restore-");
        let known = [old.get(path), new.get(path)].into_iter().flatten();
        assert!(
            temporary || known.into_iter().any(|known| known.what == seen.what),
            "killed at call {n}: {path} is neither old nor new"
        );
    }
    for path in old.keys().filter(|path| !now.contains_key(*path)) {
        // What lay in a directory that a file takes the place of is gone with it.
        assert!(path.starts_with("d2/f5/"), "killed at call {n}: {path} is lost");
    }
}

/// Kills a restore at the n-th of its calls; says whether it came to so many.
fn killed_at(sandbox: &Sandbox, n: u32) -> bool {
    let script = format!(
        "rm -rf target; cp -a old target
         strace -f -qq -o trace -e trace={CALLS} -e 'inject={CALLS}:signal=KILL:when={n}' \
           $GABION restore latest:$PWD/source --target target --overwrite always --delete \
           --threads 1 --quiet >out.txt 2>&1; true"
    );
    sandbox.shell(&script).run().success();
    std::fs::read_to_string(sandbox.path("trace")).unwrap().contains("killed by SIGKILL")
}

#[test]
fn a_restore_killed_at_any_call_leaves_each_file_old_or_new() {
    if !Path::new("/usr/bin/strace").exists() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let every_call = std::env::var_os("GABION_EVERY_CALL").is_some();
    let sandbox = prepared();
    let (old, new) = (observe(&sandbox.path("old")), observe(&sandbox.path("source")));
    let (mut n, mut kills) = (1, 0);
    while killed_at(&sandbox, n) {
        kills += 1;
        let now = observe(&sandbox.path("target"));
        // With --delete, `d0/extra` may be gone.
        let mut expected = old.clone();
        expected.remove("d0/extra");
        judge(
            n,
            &expected,
            &new,
            &now.into_iter().filter(|(path, _)| path != "d0/extra").collect(),
        );
        if kills % 5 == 0 {
            let script = "$GABION restore latest:$PWD/source --target target --overwrite if-changed \
                          --delete --verify --quiet && diff -r --no-dereference source target";
            let output = sandbox.shell(script).run();
            assert!(
                output.ended_well() || output.text().contains("is a fifo"),
                "after call {n}: {} {}",
                output.text(),
                output.errors()
            );
            let left = observe(&sandbox.path("target"));
            assert!(!left.keys().any(|path| path.contains(".gabion-restore-")), "after call {n}");
        }
        n += if every_call { 1 } else { 1 + n / 3 };
    }
    assert!(kills >= 10, "only {kills} kills");
    println!("proof: {kills} restores killed at a system call, no file neither old nor new");
}
