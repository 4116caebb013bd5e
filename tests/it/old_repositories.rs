//! Repositories that earlier builds made, kept for ever: every build must read, check and restore
//! them, and go on with them. A change of the format adds one; none is ever changed.

use crate::support::Sandbox;

/// Copies a committed repository into the sandbox.
fn copied(name: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let script = format!("cp -r '{}' repository", from.join("repository").display());
    sandbox.shell(&script).run().success();
    let script = format!(
        "cp -r '{}' expected && cp '{}' key",
        from.join("expected").display(),
        from.join("key").display()
    );
    sandbox.shell(&script).run().success();
    sandbox
}

#[test]
fn version_1() {
    let sandbox = copied("repo-v1");
    let key = sandbox.path("key");
    let gabion = |args: &[&str]| sandbox.gabion(args).env("GABION_KEY_FILE", &key);
    let listed = gabion(&["snapshots", "--json"]).run().success();
    assert_eq!(listed.stdout().lines().filter(|line| line.contains("\"id\"")).count(), 2);
    gabion(&["check", "--read-data"]).run().success();
    gabion(&["restore", "latest:/data", "--target", "out", "--quiet"]).run().success();
    // An empty folder does not survive a checkout.
    let script = "mkdir -p expected/sub/empty && diff -r --no-dereference expected out";
    sandbox.shell(script).run().success();
    let dump = gabion(&["cat", "latest:db.sql"]).run().success();
    assert!(dump.stdout().starts_with("-- PostgreSQL database dump\n"));
    assert_eq!(dump.stdout().lines().count(), 20_003);
    sandbox.write("more/file", b"a new snapshot into an old repository");
    gabion(&["snapshot", "more"]).run().success();
    gabion(&["check", "--read-data"]).run().success();
}

/// With blocks that are encoded against others, three days of a stream.
#[test]
fn version_1_with_delta() {
    let sandbox = copied("repo-v1-delta");
    let key = sandbox.path("key");
    let gabion = |args: &[&str]| sandbox.gabion(args).env("GABION_KEY_FILE", &key);
    gabion(&["check", "--read-data"]).run().success();
    let listed = gabion(&["snapshots", "--json"]).run().success();
    let id = |line: &str| line.split("\"id\":\"").nth(1).unwrap()[..32].to_owned();
    let ids: Vec<String> = listed.stdout().lines().map(id).collect();
    assert_eq!(ids.len(), 3);
    for (id, day) in ids.iter().zip(1..) {
        let dump = gabion(&["cat", &format!("{id}:db.csv")]).run().success();
        let expected = std::fs::read_to_string(sandbox.path(format!("expected/{day}.csv")));
        assert!(dump.stdout() == expected.unwrap(), "day {day}");
    }
    gabion(&["forget", &ids[0], "--force"]).run().success();
    gabion(&["prune", "--max-unused", "0"]).run().success();
    let dump = "sed s/value/another/ expected/3.csv";
    gabion(&["snapshot", "--stream", &format!("db.csv={dump}")]).run().success();
    gabion(&["check", "--read-data"]).run().success();
}

/// With parity, a sector of it damaged.
#[test]
fn version_1_with_parity() {
    let sandbox = copied("repo-v1-parity");
    let key = sandbox.path("key");
    let gabion = |args: &[&str]| sandbox.gabion(args).env("GABION_KEY_FILE", &key);
    sandbox.gabion(["check", "--parity"]).run().success();
    let hit = "dd if=/dev/zero of=$(find repository/packs -type f -size +40k) bs=4096 seek=2 \
               count=1 conv=notrunc status=none";
    sandbox.shell(hit).run().success();
    gabion(&["check", "--read-data"]).run().code(13);
    sandbox.gabion(["repair", "--parity"]).run().success();
    gabion(&["check", "--read-data"]).run().success();
    gabion(&["restore", "latest:/data", "--target", "out", "--quiet"]).run().success();
    sandbox.shell("diff -r expected out").run().success();
    sandbox.write("more/file", b"a new snapshot into an old repository");
    gabion(&["snapshot", "more"]).run().success();
    gabion(&["check", "--read-data"]).run().success();
}
