//! A snapshot never takes over what the repository has lost: what is as it was is read again then.

use crate::small::noise;
use crate::support::Sandbox;

/// A sandbox with some files in two snapshots. The parent of the next one is so late that all of
/// them are taken over.
fn made() -> Sandbox {
    let sandbox = Sandbox::with_encrypted_repository();
    sandbox.write("data/small", noise(5_000, 1));
    sandbox.write("data/large", noise(1_900_000, 2));
    sandbox.write("data/deep/er", noise(70_000, 3));
    // Enough for several pages wherever the key of this repository cuts them: only the first of
    // them has the folders that lead to the source.
    for number in 0..2500 {
        sandbox.write(format!("data/many/{number}"), noise(100 + number % 600, number as u64));
    }
    sandbox.gabion(["snapshot", "data"]).run().success();
    // What the next ones add is pages of the folders that lead to the source, in which other
    // tests are at work: a snapshot that finds those changed does not miss the former ones.
    sandbox.shell("ls -S repository/packs/*/* > packs-of-the-data").run().success();
    sandbox.gabion(["snapshot", "data"]).run().success();
    sandbox
}

/// What a snapshot with these arguments says of itself, and how much it read.
fn taken(sandbox: &Sandbox, args: &[&str]) -> (String, u64) {
    let args = ["snapshot", "data", "--json"].iter().chain(args);
    let done = sandbox.gabion(args).run().success();
    let lines = done.json_lines();
    let read = lines.last().unwrap()["counts"]["read-bytes"].as_u64().unwrap();
    (done.stderr().to_owned(), read)
}

fn all_restores(sandbox: &Sandbox, snapshots: usize) {
    let listed = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(listed.len(), snapshots);
    for line in listed {
        let id = line["id"].as_str().unwrap();
        sandbox.shell("rm -rf out").run().success();
        sandbox.gabion(["restore", id, "--target", "out"]).run().success();
        sandbox.shell("diff -r data $(find out -name data)").run().success();
    }
}

#[test]
fn whichever_packs_are_gone_the_next_snapshot_stores_again_what_the_files_still_have() {
    // The longest pack has content, the others have pages or little.
    for which in
        ["head -1 packs-of-the-data", "tail -1 packs-of-the-data", "ls repository/packs/*/*"]
    {
        let sandbox = made();
        assert_eq!(taken(&sandbox, &[]), (String::new(), 0), "nothing is lost");
        sandbox.shell(&format!("rm $({which})")).run().success();
        let (said, read) = taken(&sandbox, &[]);
        assert!(said.contains("the repository had lost content of"), "{which}: {said}");
        assert!(read > 0);
        // Pages of earlier ones are back only if no folder that leads to the source changed.
        sandbox.gabion(["forget", "--keep-last", "1", "--force"]).run().success();
        all_restores(&sandbox, 1);
        // The index lists what is gone until then.
        sandbox.gabion(["check"]).run().code(13);
        sandbox.gabion(["repair"]).run().success();
        sandbox.gabion(["check", "--read-data"]).run().success();
        assert_eq!(taken(&sandbox, &[]), (String::new(), 0), "{which}");
    }
}

#[test]
fn what_a_repair_put_into_quarantine_is_stored_again() {
    let sandbox = made();
    let damage = "pack=$(ls -S repository/packs/*/* | head -1); chmod u+w $pack
        printf damaged | dd of=$pack bs=1 seek=300000 conv=notrunc 2>/dev/null";
    sandbox.shell(damage).run().success();
    sandbox.gabion(["repair", "--read-data"]).run().code(13);
    let (said, read) = taken(&sandbox, &[]);
    assert!(said.contains("the repository had lost content of"), "{said}");
    assert!(read > 0 && read < 1_990_000, "{read}");
    sandbox.gabion(["check", "--read-data"]).run().success();
    all_restores(&sandbox, 3);
    let remembered = || {
        let found = sandbox.shell("cat cache/*/whole-in-doubt").run().success();
        found.stdout().lines().count()
    };
    assert_eq!(remembered(), 1);
    assert_eq!(taken(&sandbox, &[]), (String::new(), 0));
    assert_eq!(remembered(), 1, "for the latest");
}

#[test]
fn what_the_files_do_not_have_any_more_stays_lost_and_is_told() {
    let sandbox = made();
    sandbox.shell("rm $(ls -S repository/packs/*/* | head -1)").run().success();
    sandbox.write("data/small", "changed");
    taken(&sandbox, &[]);
    sandbox.gabion(["repair"]).run().code(13).says("1 entry cannot be restored");
    sandbox.shell("rm -rf out").run().success();
    sandbox.gabion(["restore", "latest", "--target", "out"]).run().success();
}

#[test]
fn nothing_is_taken_over_unseen_when_something_is_lost() {
    let sandbox = made();
    let scope = ["--write-once", "data"];
    taken(&sandbox, &scope);
    sandbox.shell("rm $(ls -S repository/packs/*/* | head -1)").run().success();
    let (said, read) = taken(&sandbox, &scope);
    assert!(said.contains("packs are gone that the index lists"), "{said}");
    assert!(read > 1_900_000, "{read}");
    all_restores(&sandbox, 4);
}

/// A check that found something is a reason to look, and one that finds nothing ends it.
#[test]
fn what_a_check_found_is_remembered_until_one_finds_nothing() {
    let sandbox = made();
    let findings = "cat cache/*/check-findings";
    sandbox.gabion(["check"]).run().success();
    sandbox.shell(findings).run().code(1);
    sandbox.shell("rm repository/copy/config").run().success();
    sandbox.gabion(["check"]).run().code(13);
    assert_eq!(sandbox.shell(findings).run().success().stdout(), "1");
    sandbox.gabion(["repair"]).run().success();
    sandbox.gabion(["check"]).run().success();
    sandbox.shell(findings).run().code(1);
}
