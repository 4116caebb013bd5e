//! How commands end when what they have done cannot be said, or is not what was meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::Sandbox;

fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "content");
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    sandbox
}

#[test]
fn what_was_done_before_standard_output_failed_is_said() {
    let sandbox = with_snapshot();
    for (command, done) in [
        ("snapshot src", "; snapshot "),
        ("restore latest --target out", "; what was asked for was restored before"),
        ("forget --keep-last 1", "; 1 snapshots were removed"),
        ("tag latest --add x", "; the snapshots were changed"),
        ("pin latest", "; the snapshots were changed"),
        ("prune", "; the prune was finished"),
        ("init -r other --plaintext", "; repository "),
        ("init -r third --plaintext --json", "; repository "),
    ] {
        let ended = sandbox.shell(&format!("exec $GABION {command} >/dev/full")).run().code(1);
        let said = "cannot write to standard output: No space left on device";
        assert!(ended.says(said).stderr().contains(done), "{command}: {}", ended.stderr());
    }
    // What was said is so.
    sandbox.gabion(["snapshots", "-r", "other"]).run().success();
    assert_eq!(fs::read(sandbox.path("out/file")).ok(), None);
    let left = sandbox.gabion(["snapshots", "--json"]).run().success();
    assert_eq!(left.json_lines().len(), 1, "{}", left.stdout());
}

#[test]
fn an_end_of_the_session_is_heeded_unless_it_is_ignored() {
    let sandbox = with_snapshot();
    sandbox.shell("mkfifo fifo").run().success();
    let script = |program: &str, then: &str| {
        format!(
            "rm -f begun; {program} snapshot --stream 'endless=touch begun; cat fifo' & pid=$!; \
             exec 3<>fifo; while [ ! -e begun ]; do sleep 0.05; done; kill -HUP $pid; {then}wait $pid"
        )
    };
    // The stream does not end by itself.
    let heeded = script("env --default-signal=HUP $GABION", "");
    sandbox.shell(&heeded).run().code(130).says("interrupted");
    // Under nohup the signal does nothing; the reader of the stream has enough after a line.
    let ignored = script("nohup $GABION", "echo x >&3; ").replace("cat fifo", "head -n 1 fifo");
    sandbox.shell(&ignored).run().success();
}

#[test]
fn a_source_that_is_empty_all_at_once_is_a_problem() {
    let sandbox = with_snapshot();
    #[expect(clippy::disallowed_methods, reason = "the source is the test's")]
    fs::remove_file(sandbox.path("src/file")).unwrap();
    let said = "it is empty, but snapshot ";
    // It stays one: an incomplete snapshot is not what the next one is compared with.
    for _ in 0..2 {
        sandbox.gabion(["snapshot", "src", "--quiet"]).run().code(3).says(said);
    }
    sandbox.gabion(["snapshot", "src", "--dry-run"]).run().code(3).says(said);
    sandbox.gabion(["snapshot", "src", "--quiet", "--allow-empty-source"]).run().success();
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success().silent();
    // One that never held anything is as it was.
    fs::create_dir(sandbox.path("new")).unwrap();
    sandbox.gabion(["snapshot", "new", "--quiet"]).run().success();
    sandbox.gabion(["snapshot", "new", "--quiet"]).run().success().silent();
}

#[test]
fn files_that_are_written_replace_files_only() {
    let sandbox = with_snapshot();
    sandbox.write("real/page", "old");
    fs::set_permissions(sandbox.path("real/page"), PermissionsExt::from_mode(0o604)).unwrap();
    std::os::unix::fs::symlink("real/page", sandbox.path("link")).unwrap();
    sandbox.shell("mkfifo pipe").run().success();
    let source = format!("latest:{}", sandbox.path("src/file").display());
    let state = ["--state-dir", "state"];
    for (args, output) in
        [(vec!["report", "--html"], true), (vec!["cat", &source, "--output"], false)]
    {
        let more: &[&str] = if output { &state } else { &[] };
        let run = |to: &str| {
            let args = args.iter().copied().chain([to]).chain(more.iter().copied());
            sandbox.gabion(args).run()
        };
        run("link").success();
        assert!(sandbox.path("link").is_symlink());
        let page = fs::metadata(sandbox.path("real/page")).unwrap();
        assert_eq!(page.permissions().mode() & 0o777, 0o604);
        assert_ne!(fs::read(sandbox.path("real/page")).unwrap(), b"old");
        sandbox.write("real/page", "old");
        run("/dev/full").code(1).says("No space left on device");
        run("/dev/stdout").success();
        run("real").code(1);
        let script =
            format!("cat pipe >read & $GABION {} pipe {}; wait", args.join(" "), more.join(" "));
        sandbox.shell(&script).run().success();
        assert!(!fs::read(sandbox.path("read")).unwrap().is_empty());
        assert_eq!(fs::read(sandbox.path("real/page")).unwrap(), b"old");
    }
    let names: Vec<_> = fs::read_dir(sandbox.path("real")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_file_that_cat_makes_is_as_private_as_it_was() {
    let sandbox = with_snapshot();
    for (name, mode) in [("secret", 0o600), ("open", 0o644), ("group", 0o640)] {
        let path = sandbox.write(format!("src/{name}"), "password");
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let args = ["snapshot", "src", "--stream", "db=echo x", "--quiet"];
        sandbox.gabion(args).run().success();
        let source = format!("latest:{}", sandbox.path("src").join(name).display());
        sandbox.gabion(["cat", &source, "--output", name]).run().success().silent();
        let made = fs::metadata(sandbox.path(name)).unwrap();
        assert_eq!((made.len(), made.permissions().mode() & 0o7777), (8, mode));
    }
    sandbox.gabion(["cat", "latest:db", "-o", "db"]).run().success();
    assert_eq!(fs::metadata(sandbox.path("db")).unwrap().permissions().mode() & 0o777, 0o600);
    sandbox.gabion(["cat", "latest:none", "-o", "db"]).run().code(1);
    assert_eq!(fs::read(sandbox.path("db")).unwrap(), b"x\n");
}

#[test]
fn names_that_play_tricks_are_shown_escaped() {
    let sandbox = Sandbox::with_repository();
    for name in ["a\u{202e}txt.exe", "a\u{200b}b", "ab", "a\\u{200b}b"] {
        sandbox.write(format!("src/{name}"), "x");
    }
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    let src = sandbox.path("src").display().to_string();
    let shown = ["a\\\\u{200b}b", "a\\u{200b}b", "a\\u{202e}txt.exe", "ab"];
    for command in [&["ls", &format!("latest:{src}")][..], &["find", "*[be]"]] {
        let done = sandbox.gabion(command).run().success();
        let mut names: Vec<&str> = done
            .stdout()
            .lines()
            .filter_map(|line| line.split(&format!("{src}/")).nth(1)?.split("  in ").next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, shown, "{command:?}");
    }
}
