//! Disks of every size, and disks that have no room for one more name: a snapshot fails clearly or
//! is whole, and a prune works.
//!
//! `GABION_DISK_SIZES=500` takes so many sizes, 4 KiB apart.

use super::noise;
use crate::aftermath::{not_run, report, scale};
use crate::support::{Output, Sandbox};

/// What is done on each disk; `$1` is how it is mounted. It ends with 0 if all is as it should be,
/// and prints how far the disk let it go.
const SCRIPT: &str = r#"
mount -t tmpfs -o "$1" none disk || exit 90
export GABION_REPOSITORY=$PWD/disk/repository GABION_KEY_FILE=$PWD/key
# Runs the program and leaves how it ended in $code; a full disk is the one excuse.
may_fail() {
    $GABION "$@" >out.txt 2>&1; code=$?
    [ $code = 0 ] && return
    if [ $code != 1 ] || ! grep -q 'No space left on device' out.txt; then
        echo "gabion $*: ended with $code: $(cat out.txt)" >&2; exit 91
    fi
}
must() {
    $GABION "$@" >out.txt 2>&1 || { echo "gabion $*: $(cat out.txt)" >&2; exit 92; }
}
may_fail init
if [ $code != 0 ]; then
    # There is room now.
    mount -o remount,size=64m,nr_inodes=10000 disk || exit 93
    # It may have failed at its very last step only.
    $GABION init >out.txt 2>&1 || grep -q 'already holds a gabion repository' out.txt || exit 97
    must snapshot small; must check --read-data
    echo init; exit 0
fi
may_fail snapshot small
small=$code
may_fail snapshot large
large=$code
must snapshots --json
listed=$(grep -c '"id"' out.txt)
[ $listed = $(( (small == 0) + (large == 0) )) ] || { echo "$listed snapshots" >&2; exit 94; }
must check --read-data
# Where nothing could be stored there is nothing to make room of.
if [ $listed = 0 ]; then may_fail prune; else must prune; fi
if [ $large = 0 ]; then
    must restore latest:"$PWD/large" --target restored --overwrite always --delete
    diff -r large restored >&2 || exit 95
    must forget latest --force
    must prune --accept-fewer
fi
must check --read-data
if [ $small = 0 ]; then
    must restore latest:"$PWD/small" --target restored --overwrite always --delete
    diff -r small restored >&2 || exit 96
    # What the large one left waits for the next try and takes its room.
    if [ $large = 0 ]; then must snapshot small; else may_fail snapshot small; fi
fi
if [ $large = 0 ]; then echo large; elif [ $small = 0 ]; then echo small; else echo nothing; fi
"#;

struct Disks {
    sandbox: Sandbox,
    met: std::collections::BTreeMap<String, usize>,
    losses: Vec<String>,
}

impl Disks {
    /// Nothing where no disks can be mounted.
    fn new() -> Option<Self> {
        let sandbox = Sandbox::with_encrypted_repository();
        let possible = sandbox.shell("unshare -m true 2>&1").run().ended_well();
        if !rustix::process::geteuid().is_root() || !possible {
            not_run("only the superuser can mount a small disk");
            return None;
        }
        std::fs::create_dir(sandbox.path("disk")).unwrap();
        sandbox.write("small/file", noise(20_000, 1));
        for number in 0..8u8 {
            sandbox.write(format!("large/f{number}"), noise(150_000, 2 + number));
        }
        sandbox.write("script", SCRIPT);
        Some(Self { sandbox, met: std::collections::BTreeMap::new(), losses: Vec::new() })
    }

    fn meet(&mut self, options: &str) {
        let words = ["-m", "sh", "script", options];
        let run =
            self.sandbox.program("unshare", words).env("GABION", env!("CARGO_BIN_EXE_gabion"));
        let output: Output = run.run();
        if !output.ended_well() {
            self.losses.push(format!("{options}: {}{}", output.text(), output.errors()));
        }
        *self.met.entry(output.text().trim().to_owned()).or_default() += 1;
    }

    fn finish(self, what: &str) {
        let all: usize = self.met.values().sum();
        report(what, &format!("{all} disks, with room for {:?}", self.met), self.losses.len());
        assert!(self.losses.is_empty(), "{}", self.losses.join("\n"));
    }
}

#[test]
fn on_a_disk_of_any_size_a_snapshot_is_whole_or_fails_clearly() {
    let Some(mut disks) = Disks::new() else { return };
    let wanted = scale("GABION_DISK_SIZES", 10);
    let step = 500 * 4 / wanted.min(500);
    for number in 1..=wanted {
        disks.meet(&format!("size={}k,nr_inodes=10000", number * step));
    }
    disks.finish("disk sizes");
}

#[test]
fn on_a_disk_without_room_for_another_name_a_snapshot_is_whole_or_fails_clearly() {
    let Some(mut disks) = Disks::new() else { return };
    let wanted = scale("GABION_DISK_SIZES", 5).min(60);
    for number in 0..wanted {
        disks.meet(&format!("size=64m,nr_inodes={}", 260 + number * 60 / wanted));
    }
    disks.finish("disks without names");
}
