//! A check with a budget: what was longest not verified comes first, and is remembered.

use crate::small::noise;
use crate::support::Sandbox;

/// Stored bytes of data that were read, and since when all of it is verified.
fn checked(sandbox: &Sandbox, args: &[&str]) -> (u64, i64) {
    let ended = sandbox.gabion([&["check", "--json"], args].concat()).run().success();
    let lines = ended.json_lines();
    let summary = lines.iter().find(|line| line["type"] == "summary").unwrap();
    (summary["bytes-read"].as_u64().unwrap(), summary["verified-from"].as_i64().unwrap())
}

#[test]
fn each_pack_comes_once_before_any_comes_again() {
    let sandbox = Sandbox::with_encrypted_repository();
    for n in 0..4 {
        sandbox.write(format!("data/{n}"), noise(100_000, n));
        sandbox.gabion(["snapshot", "data"]).run().success();
    }
    // Stored long ago, as far as anybody can tell.
    sandbox.shell("touch -d 2001-01-01 repository/packs/*/*").run().success();
    let (all, _) = checked(&sandbox, &["--read-data"]);
    sandbox.shell("rm -r cache").run().success();
    let (none, stored) = checked(&sandbox, &[]);
    assert_eq!((none, stored), (0, 978_307_200), "never verified: the age is that of the packs");
    // One pack a run: after as many runs as there are packs, all were read, each once.
    let (mut read, mut last) = (0, stored);
    for left in (0..8).rev() {
        assert_eq!(last, stored, "{left} packs ago");
        let (bytes, from) = checked(&sandbox, &["--budget", "1B"]);
        assert!(bytes > 0);
        (read, last) = (read + bytes, from);
    }
    assert_eq!(read, all);
    assert!(last > stored, "all of it is verified now");
    // In an hour there is time for everything.
    assert_eq!(checked(&sandbox, &["--budget", "1h"]).0, all);
    sandbox.gabion(["check", "--budget", "soon"]).run().code(2).says("no time such as 10m");
}

#[test]
fn a_damaged_pack_counts_as_not_verified() {
    let sandbox = Sandbox::with_encrypted_repository();
    sandbox.write("data", noise(100_000, 1));
    sandbox.gabion(["snapshot", "data"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
    let flip = "f=$(ls -S repository/packs/*/* | head -1); chmod u+w $f; \
                printf X | dd of=$f bs=1 seek=5000 conv=notrunc status=none; touch -d 2001-01-01 $f";
    sandbox.shell(flip).run().success();
    sandbox.gabion(["check", "--read-data"]).run().code(13);
    let ended = sandbox.gabion(["check", "--json"]).run().success();
    assert_eq!(ended.json_lines()[0]["verified-from"], 978_307_200);
}
