//! Patterns mean the same in every command that takes them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::support::Sandbox;

/// Names that other dialects read as a comment, as alternatives, or cut off.
const NAMES: [&[u8]; 6] = [b"#recycle", b"a{b,c}", b"sp ace ", b"plain", b"\xff\xe4", b"-x"];

fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    for name in NAMES {
        sandbox.write(inside(name), "content");
    }
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    sandbox
}

fn inside(name: &[u8]) -> OsString {
    OsString::from_vec([b"src/", name, b"/x"].concat())
}

/// `--option=PATTERN`, since a pattern may begin with a hyphen.
fn option(name: &str, pattern: &[u8]) -> OsString {
    OsString::from_vec([name.as_bytes(), b"=", pattern].concat())
}

/// The names in `src` that lie in a directory now, sorted.
fn names(sandbox: &Sandbox, directory: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(sandbox.path(directory)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_vec()).collect();
    names.sort();
    names
}

fn source(sandbox: &Sandbox) -> OsString {
    let mut spec = OsString::from("latest:");
    spec.push(sandbox.path("src"));
    spec
}

#[test]
fn a_pattern_of_the_command_line_is_literal_but_for_wildcards() {
    let sandbox = with_snapshot();
    let spec = source(&sandbox);
    for (number, name) in NAMES.into_iter().enumerate() {
        let (only, without) = (format!("only{number}"), format!("without{number}"));
        let restore = |target: &str, pattern: OsString| {
            let args =
                [OsStr::new("restore"), &spec, "--target".as_ref(), target.as_ref(), &pattern];
            sandbox.gabion(args).run().success()
        };
        restore(&only, option("--include", name));
        assert_eq!(names(&sandbox, &only), [name]);
        restore(&without, option("--exclude", name));
        let others = NAMES.into_iter().filter(|other| *other != name);
        let mut others: Vec<_> = others.collect();
        others.sort();
        assert_eq!(names(&sandbox, &without), others);
        let args = [OsStr::new("snapshot"), "src".as_ref(), &option("--exclude", name)];
        sandbox.gabion(args).run().success();
        let kept = sandbox.gabion([OsStr::new("ls"), &spec]).run().success();
        assert_eq!(kept.stdout().lines().count(), 2 * (NAMES.len() - 1), "{}", kept.stdout());
        let args = [OsStr::new("find"), "--snapshot=latest~1".as_ref(), "--".as_ref()];
        let found = sandbox.gabion(args.into_iter().chain([OsStr::from_bytes(name)])).run();
        let found = found.success();
        let found = found.stdout();
        assert_eq!(found.lines().count(), 1, "{found}");
        sandbox.gabion(["forget", "latest"]).run().success();
    }
}

#[test]
fn a_file_of_patterns_may_hold_names_that_are_not_utf_8() {
    let sandbox = with_snapshot();
    sandbox.write("patterns", b"# names\n\\#recycle\n\xff\xe4\nsp ace\\ \nplain  \n");
    sandbox.write("src/.gabionignore", b"a{b,c}\n-?\n");
    sandbox.gabion(["snapshot", "src", "--exclude-file", "patterns"]).run().success();
    let kept = sandbox.gabion([OsStr::new("ls"), &source(&sandbox)]).run().success();
    let kept = kept.stdout();
    assert_eq!((kept.lines().count(), kept.contains(".gabionignore")), (1, true), "{kept}");
}

#[test]
fn an_include_that_matches_nothing_is_no_success() {
    let sandbox = with_snapshot();
    let spec = source(&sandbox);
    let restore = |target: &str, includes: &[&str]| {
        let args = [OsStr::new("restore"), &spec, "--target".as_ref(), target.as_ref()];
        let includes =
            includes.iter().flat_map(|&pattern| ["--include".as_ref(), pattern.as_ref()]);
        sandbox.gabion(args.into_iter().chain(includes)).run()
    };
    let nothing = restore("none", &["nosuch"]);
    let said = "--include nosuch: it matches nothing of what is restored";
    assert!(nothing.code(1).stderr().contains(said));
    let one = restore("one", &["nosuch", "plain"]).code(1);
    assert!(one.stderr().contains(said) && !one.stderr().contains("plain"), "{}", one.stderr());
    assert_eq!(names(&sandbox, "one"), [b"plain"]);
    restore("both", &["/plain", "\\#*"]).success();
    assert_eq!(names(&sandbox, "both"), [&b"#recycle"[..], b"plain"]);
}

#[test]
fn a_pattern_that_can_never_match_is_refused_everywhere() {
    let sandbox = with_snapshot();
    let spec = source(&sandbox).into_string().unwrap();
    sandbox.write("src/.gabionignore", "");
    for (pattern, advice) in [
        ("./plain", "hint: write /plain for the top"),
        ("../src/plain", "hint: write the path from the top of the source, without .."),
        ("~/plain", "hint: write the path of the home directory itself"),
        ("plain//x", ""),
        ("", "hint: leave it out"),
        ("/", "hint: leave it out"),
    ] {
        for command in [
            &["snapshot", "src", "--dry-run", "--exclude", pattern][..],
            &["restore", &spec, "--target", "never", "--include", pattern],
            &["restore", &spec, "--target", "never", "--exclude", pattern],
            &["diff", "latest", "./src", "--exclude", pattern],
            &["find", pattern],
        ] {
            let refused = sandbox.gabion(command).run().code(2);
            let stderr = refused.stderr();
            assert!(stderr.contains(" pattern \""), "{command:?}: {stderr}");
            assert!(stderr.contains(advice), "{command:?}: {stderr}");
        }
        if pattern.is_empty() {
            continue;
        }
        sandbox.write("patterns", pattern);
        sandbox.gabion(["snapshot", "src", "--exclude-file", "patterns"]).run().code(2);
        sandbox.write("src/.gabionignore", pattern);
        let taken = sandbox.gabion(["snapshot", "src", "--quiet"]).run().code(3);
        assert!(taken.stderr().contains("line 1: invalid pattern"), "{}", taken.stderr());
        let job = format!("[jobs.a]\npaths = [\"/srv\"]\nexclude = [\"{pattern}\"]\n");
        sandbox.write("config.toml", job);
        sandbox.gabion(["jobs", "--config", "config.toml"]).run().code(2);
        sandbox.write("src/.gabionignore", "");
    }
    assert!(!sandbox.path("never").exists());
    let only_back = sandbox.gabion(["find", "!plain"]).run().code(2);
    assert!(only_back.stderr().contains("it only takes back"), "{}", only_back.stderr());
}
