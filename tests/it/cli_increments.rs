//! Snapshots that do not look at everything, by the program: options, lists, jobs.

use std::fs;
use std::time::Duration;

use super::support::Sandbox;

/// A repository, and a source of 20 folders with 10 files each.
fn with_store() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    for number in 0..200 {
        sandbox.write(format!("src/{:02}/{number:03}", number % 20), format!("{number}"));
    }
    sandbox
}

fn summary(sandbox: &Sandbox, args: &[&str]) -> serde_json::Value {
    let args = ["snapshot", "src", "--json"].iter().chain(args);
    sandbox.gabion(args).run().success().json_lines().pop().unwrap()
}

fn assert_is_as_live(sandbox: &Sandbox) {
    let different = sandbox.gabion(["diff", "latest", "./src"]).run().success();
    assert_eq!(different.stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n");
}

/// Waits until what was written so far is older than the grain of the clock of files.
fn settle(sandbox: &Sandbox) {
    let time = || fs::metadata(sandbox.write("probe", "")).unwrap().modified().unwrap();
    let first = time();
    while time().duration_since(first).unwrap() < Duration::from_millis(40) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn write_once_looks_at_folders_and_says_when_it_does_not() {
    let sandbox = with_store();
    let first = sandbox.gabion(["snapshot", "src", "--write-once", "src"]).run().success();
    let why = "everything was looked at: there is no earlier snapshot of these sources";
    assert!(first.stderr().contains(why), "{}", first.stderr());
    settle(&sandbox);
    summary(&sandbox, &[]);
    let second = summary(&sandbox, &["--write-once", "src"]);
    assert!(second["unseen-entries"].as_u64().unwrap() > 100, "{second}");
    assert_eq!(second["full-scan-because"], serde_json::Value::Null);
    let full = summary(&sandbox, &["--write-once", "src", "--full-scan"]);
    assert_eq!(full["unseen-entries"], 0);
    let other = sandbox.gabion(["snapshot", "src", "--write-once", "home"]).run().code(1);
    other.says("lies in none of the sources");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is removed is a source")]
fn changes_are_taken_from_a_list() {
    let sandbox = with_store();
    settle(&sandbox);
    summary(&sandbox, &[]);
    sandbox.write("src/03/new", "new");
    fs::remove_file(sandbox.path("src/04/004")).unwrap();
    sandbox.write("list", b"03/new\x0004/004\0");
    let list = sandbox.path("list");
    let list = list.to_str().unwrap();
    let dry = summary(&sandbox, &["--changed-from", list, "--dry-run"]);
    let taken = summary(&sandbox, &["--changed-from", list]);
    for summary in [&dry, &taken] {
        let counts = (&summary["new-entries"], &summary["removed-entries"]);
        assert_eq!(counts, (&1.into(), &1.into()), "{summary}");
    }
    assert_is_as_live(&sandbox);
    sandbox.write("list", "");
    let empty = sandbox.gabion(["snapshot", "src", "--changed-from", list]).run().code(1);
    empty.says("the list of changes is empty").says("--allow-empty");
    summary(&sandbox, &["--changed-from", list, "--allow-empty"]);
    sandbox.write("list", "03/new\n");
    sandbox.gabion(["snapshot", "src", "--changed-from", list]).run().code(1).says("zero byte");
    sandbox.write("list", "/etc/passwd\0");
    let outside = sandbox.gabion(["snapshot", "src", "--changed-from", list]).run().code(1);
    outside.says("/etc/passwd").says("none of the sources");
    sandbox.write("list", "03/new\0");
    let unknown = ["snapshot", "src", "--changed-from", list, "--parent", "0123456789"];
    sandbox.gabion(unknown).run().code(1);
    let both = ["snapshot", "src", "--changed-from", list, "--write-once", "src"];
    sandbox.gabion(both).run().code(2);
}

#[test]
fn a_job_asks_a_command_for_the_changes() {
    let sandbox = with_store();
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let configure = |command: &str| {
        let text = format!(
            "[repository]\nurl = \"{top}/repository\"\n[job.j]\npaths = [\"{top}/src\"]\n\
             changed-from = '{command}'\n"
        );
        sandbox.write("home/.config/gabion/gabion.toml", text);
    };
    let run = || sandbox.gabion(["run", "j", "--json"]).env_remove("GABION_REPOSITORY").run();
    settle(&sandbox);
    configure(
        "printf \"03/new\\0\"; test \"$GABION_SINCE\" -gt 1000000000 -a -n \"$GABION_PARENT\"",
    );
    run().success().says("there is no earlier snapshot");
    sandbox.write("src/03/new", "new");
    let told = run().success();
    let summary = told.json_lines().pop().unwrap();
    assert_eq!((told.stderr(), &summary["new-entries"]), ("", &1.into()), "{summary}");
    assert!(summary["unseen-entries"].as_u64().unwrap() > 100, "{summary}");
    configure("printf \"03/new\\0\"; echo broken >&2; exit 3");
    run().code(1).says("ended with exit status 3").says("broken");
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
fn say_skipped() {
    eprintln!("skipped: nothing can be mounted here");
}

/// What a snapshot below write-once folders finds with `mounts` in a mount namespace of its own;
/// nothing where that is not permitted.
fn with_mounts(sandbox: &Sandbox, mounts: &str) -> Option<serde_json::Value> {
    let possible = sandbox.shell("unshare -m true").run();
    if !rustix::process::geteuid().is_root() || !possible.ended_well() {
        say_skipped();
        return None;
    }
    let script = format!("{mounts}; $GABION snapshot src --json --write-once src");
    let done = sandbox.shell(&format!("exec unshare -m sh -ec '{script}'")).run().success();
    done.json_lines().pop()
}

#[test]
fn what_is_mounted_in_a_write_once_folder_is_seen_when_it_comes_and_goes() {
    let sandbox = with_store();
    settle(&sandbox);
    summary(&sandbox, &[]);
    let mounts = "mount -t tmpfs none src/03; echo inner >src/03/inner; \
                  mount --bind src/04 src/05; sleep 0.1";
    let Some(mounted) = with_mounts(&sandbox, mounts) else { return };
    // Of 03 and 05, what was there is gone; 04 is there twice, and 03 has another file.
    assert_eq!(mounted["full-scan-because"], serde_json::Value::Null, "{mounted}");
    let counts = (&mounted["new-entries"], &mounted["removed-entries"]);
    assert_eq!(counts, (&11.into(), &20.into()), "{mounted}");
    assert!(mounted["unseen-entries"].as_u64().unwrap() > 80, "{mounted}");
    let bare = summary(&sandbox, &["--write-once", "src"]);
    let counts = (&bare["new-entries"], &bare["removed-entries"]);
    assert_eq!(counts, (&20.into(), &11.into()), "{bare}");
    assert_is_as_live(&sandbox);
}

#[test]
fn a_change_that_is_not_in_the_list_is_a_problem_when_it_is_found() {
    let sandbox = with_store();
    settle(&sandbox);
    summary(&sandbox, &[]);
    sandbox.write("src/11/051", "changed, and in no list");
    settle(&sandbox);
    let list = sandbox.write("list", "");
    let args = ["snapshot", "src", "--changed-from", list.to_str().unwrap(), "--allow-empty"];
    let found = (0..34).find_map(|_| {
        let run = sandbox.gabion(args).run();
        if run.exit_code() == Some(0) { None } else { Some(run.code(3)) }
    });
    let found = found.expect("every entry had its turn");
    found.says("src/11/051").says("did not report it").says("everything was looked at: ");
    assert_is_as_live(&sandbox);
}

#[test]
fn everything_is_looked_at_when_the_last_time_is_too_long_ago() {
    let sandbox = with_store();
    settle(&sandbox);
    summary(&sandbox, &[]);
    std::thread::sleep(Duration::from_secs(2));
    let less = ["--write-once", "src"];
    let why = |more: &[&str]| {
        let told = summary(&sandbox, &[&less[..], more].concat());
        told["full-scan-because"].as_str().map(str::to_owned)
    };
    assert_eq!(why(&[]), None);
    assert_eq!(why(&["--full-scan-every", "never"]), None);
    let due = why(&["--full-scan-every", "1s"]).unwrap();
    assert!(due.starts_with("everything was looked at last ") && due.ends_with(" ago"), "{due}");
    sandbox.gabion(["snapshot", "src", "--full-scan-every", "often"]).run().code(2);
}
