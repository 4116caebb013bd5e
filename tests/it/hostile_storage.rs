//! What whoever holds the storage can put in front of gabion without any key: it decides neither
//! over memory and time nor over which snapshot counts as the newest.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Output, Run, Sandbox};
use super::support_sftp::{SERVER, has_server, instead_of_ssh};

/// More memory than any of these commands takes, and far less than what was planted asks for.
const MEMORY_KIB: u64 = 200_000;

/// Runs the program, and then prints the most memory that it took.
const MEASURED: &str = "\
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print('KiB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)";

const PASSPHRASE: &str = "correct horse";

fn measured(sandbox: &Sandbox, args: &[&str]) -> Run {
    let program = ["-c", MEASURED, env!("CARGO_BIN_EXE_gabion")];
    sandbox.program("python3", program.iter().chain(args))
}

#[track_caller]
fn took_little(output: &Output) {
    let said = output.errors();
    let (_, kib) = said.trim_end().rsplit_once("KiB ").unwrap();
    let kib: u64 = kib.parse().unwrap();
    assert!(kib < MEMORY_KIB, "{kib} KiB: {said}");
}

fn with_passphrase() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.gabion(["init"]).env("GABION_PASSWORD", PASSPHRASE).run().success();
    sandbox
}

pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
    found.sort();
    found
}

/// The id that is written as this number.
fn id_bytes(number: u8) -> [u8; 16] {
    let mut id = [0; 16];
    id[15] = number;
    id
}

/// A file with a length and nothing in it.
fn sparse(sandbox: &Sandbox, name: &str, len: u64) -> fs::File {
    let path = sandbox.write(name, "");
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    file.set_len(len).unwrap();
    file
}

/// Adds copies of the key slot with other ids and costs, as whoever can write to the storage can.
fn plant_slots(sandbox: &Sandbox, count: u32, memory_kib: u32, passes: u32) {
    let slot = fs::read_to_string(&files_of(&sandbox.path("repository/keys"))[0]).unwrap();
    let mut slot: Value = serde_json::from_str(slot.lines().next().unwrap()).unwrap();
    for number in 0..count {
        let id = format!("{number:032x}");
        slot["slot-id"] = id.clone().into();
        slot["kdf"]["memory-kib"] = memory_kib.into();
        slot["kdf"]["passes"] = passes.into();
        // The hash is over the text, whatever the order of its fields.
        let line = slot.to_string();
        let text = format!("{line}\nblake3 {}\n", blake3::hash(line.as_bytes()));
        sandbox.write(format!("repository/keys/{id}"), &text);
        sandbox.write(format!("repository/copy/keys/{id}"), &text);
    }
}

#[test]
fn planted_key_slots_cost_no_memory_and_keep_nobody_out() {
    let sandbox = with_passphrase();
    plant_slots(&sandbox, 3, 1 << 20, 16);
    let opened = measured(&sandbox, &["snapshots"]).env("GABION_PASSWORD", PASSPHRASE).run();
    took_little(&opened);
    opened.success();
    let wrong = measured(&sandbox, &["snapshots"]).env("GABION_PASSWORD", "wrong").run();
    took_little(&wrong);
    let wrong = wrong.code(11);
    wrong.says("opens none of the 1 key slots that were tried; 3 more were not");
    wrong.says("deriving this key exceeds the allowed cost").says("--allow-costly-keys");
}

/// Each of them alone would be tried.
#[test]
fn many_planted_key_slots_are_not_all_tried() {
    let sandbox = with_passphrase();
    plant_slots(&sandbox, 60, 64 << 10, 3);
    let wrong = sandbox.gabion(["snapshots"]).env("GABION_PASSWORD", "wrong").run().code(11);
    wrong.says("opens none of the 24 key slots that were tried; 37 more were not");
}

#[test]
fn what_is_planted_takes_no_memory_before_it_is_authenticated() {
    const GIB: u64 = 1 << 30;
    let sandbox = Sandbox::with_encrypted_repository();
    sandbox.write("tree/file", "text");
    sandbox.gabion(["snapshot", "tree"]).run().success();
    let id = |number: u32| format!("{number:032x}");
    for (number, folder) in
        ["index", "snapshots", "copy/snapshots", "roots", "keys", "copy/keys"].iter().enumerate()
    {
        let number = u32::try_from(number).unwrap();
        sparse(&sandbox, &format!("repository/{folder}/{}", id(number + 1)), GIB);
    }
    // Begins like a segment, as anybody can make it.
    let segment = &files_of(&sandbox.path("repository/index"))[1];
    let header = fs::read(segment).unwrap()[..64].to_vec();
    let forged = sparse(&sandbox, &format!("repository/index/{}", id(0x14)), GIB);
    forged.write_all_at(&header, 0).unwrap();
    forged.write_all_at(&id_bytes(20), 16).unwrap();
    let shorter = sparse(&sandbox, &format!("repository/index/{}", id(0x15)), (64 << 20) - 1024);
    shorter.write_all_at(&header, 0).unwrap();
    shorter.write_all_at(&id_bytes(21), 16).unwrap();
    // Packs whose ends claim long footers.
    for (number, footer) in [(30_u32, 1_u32 << 28), (31, (1 << 26) - 1)] {
        let pack = sparse(&sandbox, &format!("repository/packs/00/{}", id(number)), GIB);
        let end = [&footer.to_le_bytes()[..], &[0; 4], b"\nNOIBAG\n"].concat();
        pack.write_all_at(&end, GIB - 16).unwrap();
    }
    for (args, code) in [
        (&["snapshot", "tree"][..], 0),
        (&["snapshots"], 13),
        (&["check"], 13),
        (&["prune"], 1),
        (&["key", "list"], 0),
    ] {
        let run = measured(&sandbox, args).run();
        took_little(&run);
        run.code(code);
    }
}

#[test]
fn names_without_end_are_refused() {
    let sandbox = with_passphrase();
    for number in 0..5000 {
        sandbox.write(format!("repository/keys/{number}"), "");
    }
    let said = "cannot list keys: it holds more than 4096 names";
    sandbox.gabion(["snapshots"]).env("GABION_PASSWORD", "x").run().code(1).says(said);
    if has_server() {
        let place = format!("host:{}", sandbox.path("repository").display());
        let run = sandbox.gabion(["snapshots", "-r", &place]).env("GABION_PASSWORD", "x");
        run.env("GABION_SSH_COMMAND", instead_of_ssh(SERVER)).run().code(1).says(said);
    }
}

/// The clock of the machine stood ten years ahead, say.
#[test]
fn a_snapshot_dated_after_it_was_stored_is_not_the_latest() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("tree/file", "old");
    let run = |args: &[&str]| {
        let done = sandbox.gabion(args.iter().chain(&["--json"])).run().success();
        done.json_lines()
    };
    let first = run(&["snapshot", "tree", "--time", "2036-01-01 00:00"]);
    let first = first[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    sandbox.write("tree/file", "newer");
    let second = run(&["snapshot", "tree"])[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    sandbox.write("tree/file", "newest");
    let third = run(&["snapshot", "tree"]);
    assert_eq!(third[0]["snapshot"]["parent"], *second, "the choice of the parent");

    let path = format!("latest:{}", sandbox.path("tree/file").display());
    let latest = sandbox.gabion(["cat", &path]).run().success();
    assert_eq!(latest.stdout(), "newest");
    latest.says(&format!("warning: snapshot {first} is dated long after it was stored"));
    assert_eq!(latest.stderr().lines().count(), 1);
    let listed: Vec<Value> = run(&["snapshots"]);
    assert_eq!(listed[0]["id"], *first, "it comes where it was stored");
    let shown = sandbox.gabion(["snapshots"]).run().success();
    assert_eq!(shown.stdout().matches("dated after it was stored").count(), 1);
    // By a policy it displaces none, and neither does it by name.
    let kept = run(&["forget", "--keep-last", "1", "--dry-run"]);
    let kept: Vec<&Value> = kept.iter().filter(|line| line["keep"] == true).collect();
    assert_eq!(kept.len(), 2, "the newest that is believed, and the one that is not");
    sandbox.gabion(["forget", "latest"]).run().success();
    let left: Vec<Value> = run(&["snapshots"]);
    assert_eq!([&left[0]["id"], &left[1]["id"]], [&*first, &*second]);
    // Of several that are not believed, the one that was stored last.
    sandbox.gabion(["forget", &second, "--force"]).run().success();
    let alone = sandbox.gabion(["cat", &path]).run().success();
    assert_eq!((alone.stdout(), alone.stderr()), ("old", ""), "better than none");
}
