//! Comparing, searching and counting snapshots from the command line.

use std::fs;

use super::support::Sandbox;

/// Two snapshots of a source that changed between them, and has changed again since.
fn with_history() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/same", "same");
    sandbox.write("src/edited", "one");
    sandbox.write("src/gone", "gone");
    sandbox.gabion(["snapshot", "src", "--tag", "old"]).run().success();
    sandbox.write("src/edited", "two!");
    sandbox.write("src/new", "new");
    remove(&sandbox, "src/gone");
    sandbox.gabion(["snapshot", "src"]).run().success();
    sandbox
}

#[expect(clippy::disallowed_methods, reason = "tests change sources by hand")]
fn remove(sandbox: &Sandbox, name: &str) {
    fs::remove_file(sandbox.path(name)).unwrap();
}

fn oldest(sandbox: &Sandbox) -> String {
    let listed = sandbox.gabion(["snapshots", "--json", "--tag", "old"]).run().success();
    listed.json_lines()[0]["id"].as_str().unwrap()[..12].to_owned()
}

#[test]
fn two_snapshots_are_compared() {
    let sandbox = with_history();
    let old = oldest(&sandbox);
    let src = sandbox.path("src").display().to_string();
    let done = sandbox.gabion(["diff", &old, "latest"]).run().code(4);
    let lines: Vec<&str> = done.stdout().lines().filter(|line| line.contains("src/")).collect();
    assert_eq!(lines[1..], [format!("- {src}/gone"), format!("+ {src}/new")]);
    assert!(lines[0].starts_with(&format!("M {src}/edited  (content, size")), "{lines:?}");
    assert!(done.stdout().contains("1 added, 1 removed, "), "{}", done.stdout());

    let part = sandbox.gabion(["diff", &format!("{old}:{src}/new"), "latest", "--json"]);
    let json = part.run().code(4).json_lines();
    assert_eq!((json.len(), &json[0]["change"]), (2, &"added".into()));
    assert_eq!((&json[1]["type"], &json[1]["added"]), (&"summary".into(), &1.into()));
    let same = sandbox.gabion(["diff", "latest", "latest"]).run().success();
    assert_eq!(same.stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n");
    sandbox.gabion(["diff", "latest", "ffff"]).run().code(1).says("no snapshot ffff");
}

#[test]
fn a_snapshot_is_compared_with_the_files_of_now() {
    let sandbox = with_history();
    let src = sandbox.path("src").display().to_string();
    let clean = sandbox.gabion(["diff", "latest", &src]).run().success();
    assert_eq!(clean.stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n");
    remove(&sandbox, "src/same");
    let changed = sandbox.gabion(["diff", "latest", "./src"]).run().code(4);
    assert!(changed.stdout().contains(&format!("- {src}/same\n")), "{}", changed.stdout());
    sandbox.gabion(["diff", "latest", "./src", "--quiet"]).run().code(4).silent();
    sandbox.gabion(["diff", "latest", "latest", "--quiet"]).run().success().silent();
}

#[test]
fn entries_are_found_in_all_snapshots_that_hold_them() {
    let sandbox = with_history();
    let find = |args: &[&str]| {
        sandbox.gabion(["find", "--json"].iter().chain(args)).run().success().json_lines()
    };
    let holders = |args: &[&str]| {
        find(args)
            .iter()
            .map(|line| line["snapshots"].as_array().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert_eq!(holders(&["same"]), [2]);
    assert_eq!(holders(&["edited"]), [1, 1]);
    assert_eq!(holders(&["EDITED"]), [0; 0]);
    assert_eq!(holders(&["-i", "EDITED", "--min-size", "4"]), [1]);
    assert_eq!(holders(&["gone", "--snapshot", "latest"]), [0; 0]);
    assert_eq!(holders(&["*", "--kind", "file", "--snapshot", "latest"]), [1, 1, 1]);
    assert_eq!(holders(&["same", "--newer", "2199-01-01 00:00"]), [0; 0]);
    let text = sandbox.gabion(["find", "same"]).run().success();
    assert!(text.stdout().contains("/src/same  in "), "{}", text.stdout());
    assert!(text.stdout().ends_with("(2 snapshots)\n"), "{}", text.stdout());
    sandbox.gabion(["find", "[a"]).run().code(2);
}

#[test]
fn numbers_are_shown_for_people_and_programs() {
    let sandbox = with_history();
    let json = sandbox.gabion(["stats", "--json"]).run().success().json_lines().remove(0);
    assert_eq!(json["snapshots"], 2);
    assert_eq!(json["bytes"], 11 + 11);
    let latest = sandbox.gabion(["stats", "latest", "--json"]).run().success();
    assert_eq!(latest.json_lines()[0]["bytes"], 11);
    let text = sandbox.gabion(["stats"]).run().success();
    assert!(text.stdout().contains("stored in all "), "{}", text.stdout());
}

#[test]
fn a_live_path_may_be_relative() {
    let sandbox = with_history();
    for path in ["src/", "./src", "../src"] {
        let run = sandbox.gabion(["diff", "latest", path]);
        let run = if path == "../src" { run.current_dir(sandbox.path("home")) } else { run };
        let clean = run.run().success();
        assert_eq!(clean.stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n", "{path}");
    }
    let word = sandbox.gabion(["diff", "latest", "src"]).run().code(1);
    word.says("no snapshot src").says("for the files in src say ./src");
}
