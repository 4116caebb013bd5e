//! `forget`, `tag`, `pin` and `unpin`, with the real program.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{Done, Sandbox, odd_name};

/// 2026-11-20T12:00:00Z.
const START: u64 = 1_795_176_000;
const DAY: u64 = 86_400;

/// Takes a snapshot of `source` as of a number of days after the start, and returns its id. Its
/// object looks as if it had been stored then.
fn take_of(sandbox: &Sandbox, source: &str, day: u64, more: &[&str]) -> String {
    let seconds = START + day * DAY;
    let time = format!("@{seconds}");
    let time = sandbox.shell(&format!("date -u -d {time} +%FT%TZ")).run().success();
    let args = ["snapshot", source, "--json", "--time", time.stdout().trim()];
    let done = sandbox.gabion(args.iter().chain(more)).run().success();
    let id = done.json_lines()[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    stored_at(sandbox, &id, seconds);
    id
}

fn stored_at(sandbox: &Sandbox, id: &str, seconds: u64) {
    let object = fs::File::open(sandbox.path(format!("repository/snapshots/{id}"))).unwrap();
    object.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// A repository with a snapshot a day, and their ids.
fn of_days(days: u64) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "content");
    let ids = (0..days).map(|day| take_of(&sandbox, "src", day, &[])).collect();
    (sandbox, ids)
}

fn ids(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    listed.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// Everything in the repository's folder, with its length.
fn objects(sandbox: &Sandbox) -> String {
    let script = "find repository -type f -printf '%p %s\\n' | sort";
    sandbox.shell(script).run().success().stdout().to_owned()
}

fn forget(sandbox: &Sandbox, args: &[&str]) -> crate::support::Output {
    sandbox.gabion(["forget"].iter().chain(args)).run()
}

/// The run failed with one line that says this, and changed nothing.
#[track_caller]
fn refused(sandbox: &Sandbox, args: &[&str], wanted: &str) {
    let before = objects(sandbox);
    let done: Done = sandbox.gabion(args).run().code(1);
    done.says(wanted);
    let hints = done.stderr().lines().skip(1);
    assert!(done.stdout().is_empty() && hints.clone().count() < 2, "{}", done.stderr());
    hints.for_each(|line| assert!(line.starts_with("hint: "), "{line}"));
    assert_eq!(objects(sandbox), before);
}

#[test]
fn a_policy_shows_what_stays_and_why_and_removes_the_rest() {
    let (sandbox, ids_before) = of_days(5);
    let args = ["--keep-last", "2", "--keep-daily", "3", "--keep-monthly", "1"];
    let before = objects(&sandbox);
    let dry = forget(&sandbox, &[&args[..], &["--dry-run"]].concat()).success();
    assert_eq!(objects(&sandbox), before);
    let lines: Vec<&str> = dry.stdout().lines().collect();
    assert!(lines[0].ends_with("/src") && lines[0].starts_with("host "), "{lines:?}");
    assert!(lines[1].starts_with("        ID        TIME                 HOST"), "{lines:?}");
    assert!(lines[2].starts_with(&format!("remove  {}  2026-11-20 12:00:00", &ids_before[0][..8])));
    assert!(lines[4].starts_with("keep    ") && lines[4].ends_with("daily 2026-11-22"));
    assert!(lines[6].ends_with("last 1, daily 2026-11-24, monthly 2026-11"), "{}", lines[6]);
    assert_eq!(lines[7..9], ["", "dry run, nothing removed: 2 snapshots would go, 3 stay"]);
    assert!(lines[9].starts_with("a prune would then free ") && lines.len() == 10, "{lines:?}");

    let done = forget(&sandbox, &args).success();
    assert!(done.stdout().ends_with("\n2 snapshots removed, 3 stay\n"), "{}", done.stdout());
    assert_eq!(ids(&sandbox), ids_before[2..]);
    forget(&sandbox, &[&args[..], &["--quiet"]].concat()).success().silent();
    sandbox.gabion(["check", "--read-data"]).run().success();
}

#[test]
fn programs_get_a_line_for_each_decision() {
    let (sandbox, ids) = of_days(3);
    let lines = forget(&sandbox, &["--keep-last", "2", "--json"]).success().json_lines();
    let found: Vec<(&str, bool, &Value)> = lines[..3]
        .iter()
        .map(|line| {
            (line["id"].as_str().unwrap(), line["keep"].as_bool().unwrap(), &line["reasons"])
        })
        .collect();
    let reasons =
        [serde_json::json!([]), serde_json::json!(["last 2"]), serde_json::json!(["last 1"])];
    let wanted: Vec<(&str, bool, &Value)> =
        ids.iter().zip(&reasons).map(|(id, why)| (&**id, why != &reasons[0], why)).collect();
    assert_eq!(found, wanted);
    let first = &lines[0];
    assert_eq!((&first["type"], &first["time-believed"]), (&"decision".into(), &true.into()));
    assert_eq!(first["time"], "2026-11-20T12:00:00Z");
    assert_eq!(first["group"]["paths"], first["paths"]);
    assert_eq!((&first["pinned"], &first["problems"]), (&false.into(), &0.into()));
    let summary = serde_json::json!(
        {"type": "summary", "removed": [ids[0]], "kept": 2, "dry-run": false});
    assert_eq!(lines[3..], [summary]);
}

#[test]
fn too_much_is_refused_once_and_force_does_it() {
    let (sandbox, ids_before) = of_days(9);
    refused(&sandbox, &["forget", "--keep-last", "1"], "8 of 9 snapshots, more than 50%");
    refused(&sandbox, &["forget", "--keep-last", "4", "--max-share", "20"], "--max-share");
    refused(&sandbox, &["forget", "--keep-daily", "0"], "it would remove everything");
    let gone = ["forget", "--keep-tag", "nobody-has-it", "--max-share", "100%"];
    refused(&sandbox, &gone, "the last complete one of host ");
    // A dry run shows it, and ends as the real one would.
    let dry = forget(&sandbox, &["--keep-last", "1", "--dry-run"]).code(1);
    assert!(dry.says("more than 50%").stdout().contains("last 1"));
    assert_eq!(ids(&sandbox), ids_before);
    forget(&sandbox, &["--keep-last", "1", "--force"]).success();
    assert_eq!(ids(&sandbox), ids_before[8..]);
}

#[test]
fn filters_and_groups_choose_who_is_judged() {
    let (sandbox, _) = of_days(3);
    sandbox.write("other/file", "x");
    for day in 0..3 {
        take_of(&sandbox, "other", day, &["--host", "elsewhere", "--tag", "t"]);
    }
    let count = || ids(&sandbox).len();
    for filter in [["--host", "nowhere"], ["--tag", "none"], ["--path", "/none"], ["--job", "none"]]
    {
        let done = forget(&sandbox, &[&filter[..], &["--keep-last", "1"]].concat()).success();
        assert_eq!(done.stdout(), "0 snapshots removed, 0 stay\n");
        let listed = sandbox.gabion(["snapshots"].iter().chain(&filter)).run().success();
        listed.silent();
    }
    assert_eq!(count(), 6);
    forget(&sandbox, &["--path", "other", "--tag", "t", "--keep-last", "2"]).success();
    assert_eq!(count(), 5);
    let all = forget(&sandbox, &["--keep-last", "1", "--group-by", "", "--dry-run", "--force"]);
    assert!(all.success().stdout().starts_with("all snapshots\n"));
    forget(&sandbox, &["--keep-last", "1"]).success();
    assert_eq!(count(), 2);
    let listed = sandbox.gabion(["snapshots", "--path", "./src"]).run().success();
    assert_eq!(listed.stdout().lines().count(), 2);
}

#[test]
fn named_snapshots_go_but_not_the_last_and_not_pinned_ones() {
    let (sandbox, ids_before) = of_days(4);
    refused(&sandbox, &["forget", "ffffffff"], "no snapshot ffffffff");
    sandbox.gabion(["pin", &ids_before[3]]).run().success();
    refused(&sandbox, &["forget", "latest"], "is pinned: `gabion unpin ");
    let done = forget(&sandbox, &[&ids_before[0][..8], &ids_before[0], &ids_before[1]]).success();
    assert!(done.stdout().ends_with("2 snapshots removed, 2 stay\n"), "{}", done.stdout());
    assert!(!done.stdout().contains("keep"), "only what goes is shown");
    sandbox.gabion(["unpin", "latest"]).run().success();
    let left = ids(&sandbox);
    assert_eq!(left.len(), 2);
    refused(&sandbox, &["forget", &left[0], &left[1]], "--force removes it all the same");
    forget(&sandbox, &[&left[0], &left[1], "--force", "--quiet"]).success().silent();
    assert_eq!(ids(&sandbox), [""; 0]);
}

#[test]
fn tags_and_pins_change_and_old_ids_go_on_working() {
    let (sandbox, ids_before) = of_days(2);
    let old = &ids_before[1];
    let done = sandbox.gabion(["tag", "latest", "--add", "a", "--add", "b"]).run().success();
    let said = done.stdout().trim_end().to_owned();
    assert!(said.contains(&format!("(before: {}) has the tags a,b", &old[..8])), "{said}");
    let tag = |args: &[&str]| {
        let run = sandbox.gabion(["tag", old, "--json"].iter().chain(args)).run().success();
        run.json_lines().remove(0)
    };
    let line = tag(&["--remove", "a", "--add", "b"]);
    assert_eq!((&line["tags"], &line["changed"]), (&serde_json::json!(["b"]), &true.into()));
    let line = tag(&["--remove", "a"]);
    assert_eq!((&line["before"], &line["changed"]), (&line["id"], &false.into()));
    assert_eq!(tag(&["--set", "x", "--set", "y"])["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(tag(&["--set", ""])["tags"], serde_json::json!([]));
    refused(&sandbox, &["tag", old, "--add", ""], "a tag must not be empty");
    refused(&sandbox, &["tag", old, "ffffffff", "--add", "z"], "no snapshot ffffffff");

    sandbox.gabion(["pin", "--quiet", &old[..8], &ids_before[0]]).run().success().silent();
    let listed = sandbox.gabion(["snapshots"]).run().success();
    assert_eq!(listed.stdout().matches("  pinned\n").count(), 2, "{}", listed.stdout());
    let json = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(json[1]["pinned"], true);
    assert_eq!(json[1]["formerly"].as_array().unwrap().len(), 5);
    assert_eq!(json[1]["formerly"][0], **old);
    // Everything else takes the old id, too.
    let file = sandbox.path("src/file");
    let cat = sandbox.gabion(["cat", &format!("{old}:{}", file.display())]).run().success();
    assert_eq!(cat.stdout(), "content");
    sandbox.gabion(["unpin", old]).run().success();
    assert!(!sandbox.gabion(["snapshots"]).run().success().stdout().contains(&ids_before[0][..8]));
    let script = "find repository/roots repository/sessions -type f";
    assert_eq!(sandbox.shell(script).run().success().stdout(), "");
    sandbox.gabion(["check", "--read-data"]).run().success();
    // The next snapshot goes on from it.
    let next = sandbox.gabion(["snapshot", "src", "--json"]).run().success().json_lines();
    assert_eq!(next[0]["counts"]["read-bytes"], 0);
}

#[test]
fn odd_words_do_no_harm_on_a_terminal() {
    let (sandbox, _) = of_days(1);
    sandbox.write(odd_name(), "x");
    sandbox.gabion([std::ffi::OsStr::new("snapshot"), odd_name()]).run().success();
    sandbox.gabion(["tag", "latest", "--add", "red\x1b[31m\n"]).run().success();
    let args = ["--keep-tag", "red\x1b[31m\n", "--keep-last", "1", "--dry-run"];
    let done = forget(&sandbox, &args).success();
    let tag = sandbox.gabion(["tag", "latest", "--add", "x"]).run().success();
    for text in [done.stdout(), tag.stdout()] {
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn false_and_imported_times_push_nobody_out() {
    let (sandbox, ids_before) = of_days(3);
    // An import of old data, and one that claims to be of the future; both stored on day 2.
    for day in [0, 400, 401] {
        let id = take_of(&sandbox, "src", day, &[]);
        stored_at(&sandbox, &id, START + 2 * DAY + u64::from(day > 0) + DAY);
    }
    let before = ids(&sandbox);
    let done = forget(&sandbox, &["--keep-last", "3"]).success();
    assert!(done.stdout().ends_with("0 snapshots removed, 6 stay\n"), "{}", done.stdout());
    assert_eq!(done.stdout().matches("(its time is not when it was stored)").count(), 3);
    assert_eq!(ids(&sandbox), before);
    forget(&sandbox, &["--keep-last", "2"]).success();
    let left = ids(&sandbox);
    assert_eq!(left.len(), 4);
    assert!(left.contains(&ids_before[1]) && left.contains(&ids_before[2]), "{left:?}");
    // Copied without the times of the files: nothing that counts is lost.
    for id in &left {
        stored_at(&sandbox, id, START + 1000 * DAY);
    }
    forget(&sandbox, &["--keep-last", "4", "--keep-daily", "9"]).success();
    assert_eq!(ids(&sandbox), left);
}

#[test]
fn a_damaged_record_is_named_and_stops_a_policy() {
    let (sandbox, ids_before) = of_days(3);
    for folder in ["snapshots", "copy/snapshots"] {
        let object = format!("repository/{folder}/{}", ids_before[1]);
        let mut bytes = fs::read(sandbox.path(&object)).unwrap();
        bytes[80] ^= 1;
        sandbox.write(&object, bytes);
    }
    let wanted = format!("snapshots/{} is damaged", ids_before[1]);
    refused(&sandbox, &["forget", "--keep-last", "9"], &wanted);
    refused(&sandbox, &["forget", &ids_before[1]], "--force removes it");
    forget(&sandbox, &[&ids_before[0]]).success();
    forget(&sandbox, &[&ids_before[1], "--force"]).success();
    forget(&sandbox, &["--keep-last", "9"]).success();
    assert_eq!(ids(&sandbox), ids_before[2..]);
}

#[test]
fn a_repository_that_cannot_be_written_to_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let (sandbox, ids_before) = of_days(2);
    let before = objects(&sandbox);
    let forbid = |mode: u32| {
        for folder in ["roots", "sessions", "snapshots"] {
            let path = sandbox.path("repository").join(folder);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    forbid(0o500);
    let power = match rustix::process::geteuid().is_root() {
        true => "setpriv --bounding-set=-all --inh-caps=-all",
        false => "",
    };
    for (command, object) in [
        (format!("forget {}", ids_before[0]), "cannot create sessions/"),
        ("pin latest".to_owned(), "cannot create sessions/"),
    ] {
        let done = sandbox.shell(&format!("{power} $GABION {command}")).run().code(1);
        done.says(object)
            .says("Permission denied")
            .says("hint: run the command as the user who owns the repository");
        assert_eq!((done.stdout(), done.stderr().lines().count()), ("", 2), "{}", done.stderr());
    }
    forbid(0o700);
    assert_eq!(objects(&sandbox), before);
}

#[test]
fn killed_at_each_step_of_a_change_the_snapshot_is_there_and_the_next_change_ends_it() {
    if !sandbox_has("strace") {
        eprintln!("not run: strace is not installed");
        return;
    }
    // Each call has a count of its own.
    for (call, wanted) in [("fsync", 9), ("renameat2", 3), ("unlinkat", 3)] {
        let met = (1..).take_while(|at| killed_in_a_change(call, *at)).count();
        assert!(met >= wanted, "the sweep met only {met} of {call}");
    }
}

/// Kills a change when it makes this call for this time, and says whether it did so.
fn killed_in_a_change(call: &str, at: usize) -> bool {
    let (sandbox, ids_before) = of_days(1);
    let old = &ids_before[0];
    let inject = format!("inject={call}:signal=KILL:when={at}");
    let script = format!("strace -f -o trace -e {inject} $GABION pin {old}; test $? = 137");
    let was_killed = sandbox.shell(&script).run().ended_well();
    let there = ids(&sandbox).len();
    assert!((1..=2).contains(&there), "{call} {at}");
    let file = format!("{old}:{}", sandbox.path("src/file").display());
    let cat = sandbox.gabion(["cat", &file]).run().success();
    assert_eq!(cat.stdout(), "content", "{call} {at}");
    sandbox.gabion(["pin", old]).run().success();
    let json = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    assert_eq!((json.len(), &json[0]["pinned"]), (1, &true.into()), "{call} {at}");
    sandbox.gabion(["check", "--read-data"]).run().success();
    was_killed
}

fn sandbox_has(program: &str) -> bool {
    Sandbox::new().shell(&format!("command -v {program}")).run().ended_well()
}
