//! The program as such: help, versions, bad command lines, what it says where.

use std::fs;

use super::support::Sandbox;

const COMMANDS: [&[&str]; 21] = [
    &["init"],
    &["snapshot"],
    &["snapshots"],
    &["ls"],
    &["cat"],
    &["check"],
    &["restore"],
    &["diff"],
    &["find"],
    &["stats"],
    &["forget"],
    &["tag"],
    &["pin"],
    &["unpin"],
    &["rebuild-index"],
    &["key", "add"],
    &["key", "list"],
    &["key", "remove"],
    &["key", "export"],
    &["man"],
    &["completions"],
];

#[test]
fn every_command_shows_an_example_and_the_help_shows_the_exit_codes() {
    let sandbox = Sandbox::new();
    for command in COMMANDS {
        let help = sandbox.gabion(command.iter().chain([&"--help"])).run().success();
        let example = format!("gabion {}", command.join(" "));
        let (_, examples) = help.stdout().split_once("EXAMPLES:").unwrap();
        assert!(examples.contains(&example), "{command:?}: {examples}");
    }
    let help = sandbox.gabion(["--help"]).run().success();
    for line in ["   13  damage was found", "  130  interrupted", "    3  the snapshot was taken"] {
        assert!(help.stdout().contains(line), "{}", help.stdout());
    }
    assert!(!help.stdout().contains("error"));
}

#[test]
fn the_version_names_the_format() {
    let sandbox = Sandbox::new();
    let expected = format!("gabion {}, repository format 1\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(sandbox.gabion(["version"]).run().success().stdout(), expected);
    let json = sandbox.gabion(["version", "--json"]).run().success().json_lines();
    assert_eq!(json[0]["repository-format"], 1);
    assert!(sandbox.gabion(["--version"]).run().success().stdout().starts_with("gabion "));
}

#[test]
fn senseless_command_lines_end_with_2() {
    let sandbox = Sandbox::with_repository();
    for args in [
        &[][..],
        &["no-such-command"],
        &["snapshot"],
        &["snapshot", ".", "--no-such-option"],
        &["snapshot", "--stream", "name-only"],
        &["snapshot", "--stream", "=command"],
        &["snapshot", ".", "--time", "yesterday"],
        &["snapshot", ".", "--exclude-larger-than", "big"],
        &["snapshot", ".", "--exclude", "[a"],
        &["snapshot", ".", "--compression", "99"],
        &["snapshot", ""],
        &["init", "--plaintext", "--key-file", "x"],
        &["snapshots", "--key-file", "x", "--password-file", "y"],
        &["cat", "latest"],
        &["restore", "latest"],
        &["restore", "latest", "--target", "out", "--delete"],
        &["ls", "latest:/a/../b"],
        &["completions", "no-shell"],
        &["snapshots", "--threads", "0"],
        &["forget"],
        &["forget", "--host", "x"],
        &["forget", "latest", "--keep-last", "1"],
        &["forget", "latest", "--tag", "x"],
        &["forget", "--keep-daily", "-1"],
        &["forget", "--keep-within", "2 weeks"],
        &["forget", "--keep-last", "1", "--group-by", "hosts"],
        &["forget", "--keep-last", "1", "--max-share", "101%"],
        &["tag", "latest"],
        &["tag", "--add", "x"],
        &["tag", "latest", "--set", "x", "--add", "y"],
        &["pin"],
    ] {
        let done = sandbox.gabion(args).run().code(2);
        assert_eq!(done.stdout(), "", "{args:?}");
        assert_ne!(done.stderr(), "", "{args:?}");
    }
    let done = sandbox.gabion(["snapshots"]).env_remove("GABION_REPOSITORY").run().code(2);
    done.says("no repository was named").says("hint: use --repository PLACE");
}

#[test]
fn a_place_without_a_repository_ends_with_10() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("file", "");
    fs::create_dir(sandbox.path("empty")).unwrap();
    for place in [sandbox.path("missing"), sandbox.path("empty"), file] {
        let done = sandbox.gabion(["snapshots"]).env("GABION_REPOSITORY", &place).run().code(10);
        done.says(&format!("gabion: no gabion repository at {}\n", place.display()));
        done.says("hint: `gabion init` makes one");
    }
}

#[test]
fn init_makes_one_repository_and_no_second() {
    let sandbox = Sandbox::new();
    let done = sandbox.gabion(["init", "--plaintext"]).run().success();
    assert!(done.stdout().starts_with("made repository "), "{}", done.stdout());
    sandbox.gabion(["init", "--plaintext"]).run().code(1).says("already holds a gabion repository");
    sandbox.write("full/file", "");
    let full = sandbox.gabion(["init", "--plaintext", "-r", "full"]).run().code(1);
    full.says("/full: the name is taken").says("hint: name a folder that does not");
    let deep = sandbox.gabion(["init", "--plaintext", "-r", "no/where"]).run().code(1);
    deep.says("No such file or directory").says("the folder above it must exist");
    let json = sandbox.gabion(["init", "--plaintext", "-r", "other", "--json"]).run().success();
    assert_eq!(json.json_lines()[0]["encrypted"], false);
}

#[test]
fn quiet_says_nothing_when_all_is_well() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success().silent();
    sandbox.gabion(["rebuild-index", "-q"]).run().success().silent();
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let sandbox = Sandbox::with_repository();
    for number in 0..3000 {
        sandbox.write(format!("src/a-rather-long-name-of-a-file-{number}"), "x");
    }
    sandbox.gabion(["snapshot", "src"]).run().success();
    // The shell waits until the reader is gone, so that the pipe is surely closed.
    let script = "{ $GABION ls latest; echo \"ended with $?\" >&2; } | head -n 1";
    let done = sandbox.shell(script).run().success();
    assert_eq!(done.stderr(), "ended with 0\n");
    assert_eq!(done.stdout().lines().count(), 1);
}

#[test]
fn without_a_home_the_cache_stays_in_memory() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    let bare = |args: [&str; 2]| {
        sandbox
            .gabion(args)
            .env_remove("HOME")
            .env_remove("GABION_CACHE_DIR")
            .env("GABION_STATE_DIR", sandbox.path("state"))
            .run()
            .success()
    };
    let before = fs::read_dir(sandbox.path("home")).unwrap().count();
    assert_eq!(bare(["snapshot", "src"]).stderr(), "");
    assert!(bare(["ls", "latest"]).stdout().ends_with("/src/file\n"));
    assert_eq!(fs::read_dir(sandbox.path("home")).unwrap().count(), before);
}

#[test]
fn the_cache_is_where_the_user_wants_it() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    let is_cached = |name: &str| sandbox.path(name).exists();
    sandbox
        .gabion(["snapshot", "src", "--no-cache"])
        .env_remove("GABION_CACHE_DIR")
        .run()
        .success();
    assert!(!is_cached("home/.cache"));
    sandbox.gabion(["snapshot", "src"]).env_remove("GABION_CACHE_DIR").run().success();
    assert!(is_cached("home/.cache/gabion"));
    let xdg = sandbox.gabion(["snapshot", "src"]).env_remove("GABION_CACHE_DIR");
    xdg.env("XDG_CACHE_HOME", sandbox.path("xdg")).run().success();
    assert!(is_cached("xdg/gabion"));
    sandbox.gabion(["snapshot", "src"]).run().success();
    assert!(is_cached("cache"));
}

#[test]
fn what_is_written_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    sandbox.gabion(["snapshot", "src"]).run().success();
    let mut folders = vec![sandbox.path("repository"), sandbox.path("cache")];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            assert_eq!(about.permissions().mode() & 0o077, 0, "{}", path.display());
            looked_at += 1;
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(looked_at > 10);
}

#[test]
fn completions_and_manual_pages_come_out() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = sandbox.gabion(["completions", shell]).run().success();
        assert!(done.stdout().contains("rebuild-index"), "{shell}");
    }
    sandbox.gabion(["man", "pages/man1"]).run().success().silent();
    let page = fs::read_to_string(sandbox.path("pages/man1/gabion-snapshot.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("one\\-file\\-system"), "{page}");
    assert!(sandbox.path("pages/man1/gabion.1").exists());
}
