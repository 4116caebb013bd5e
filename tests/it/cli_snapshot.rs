//! Taking snapshots and looking at them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::support::{Sandbox, odd_name};

/// A repository and a small source.
fn with_source() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/a/file", "content");
    sandbox.write("src/b.tmp", "left out");
    sandbox
}

fn listed(sandbox: &Sandbox) -> Vec<String> {
    let done = sandbox.gabion(["ls", "latest"]).run().success();
    let top = format!("{}/", sandbox.path("").display()).replace("//", "/");
    done.stdout().lines().map(|line| line.strip_prefix(&top).unwrap_or(line).to_owned()).collect()
}

#[expect(clippy::disallowed_methods, reason = "what is moved is in no use")]
fn move_to(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn under_cron_there_is_one_line() {
    let sandbox = with_source();
    let done = sandbox.gabion(["snapshot", "src"]).run().success();
    assert_eq!(done.stderr(), "");
    let line = done.stdout().strip_suffix('\n').unwrap();
    assert!(line.starts_with("snapshot ") && !line.contains('\n'), "{line}");
    assert!(line.contains(" saved: ") && line.contains("15 B"), "{line}");
    let again = sandbox.gabion(["snapshot", "src"]).run().success();
    assert!(again.stdout().contains("0 new, "), "{}", again.stdout());
}

#[test]
fn on_a_terminal_notes_are_shown_too() {
    let sandbox = with_source();
    let run = sandbox.gabion(["snapshot", "."]).run_on_terminal(&[]).success();
    let note = "note: the repository lies in a source and is left out";
    assert!(run.stdout().contains(note), "{}", run.stdout());
}

#[test]
fn paths_are_made_absolute_and_the_own_folders_left_out() {
    let sandbox = with_source();
    sandbox.gabion(["rebuild-index"]).run().success();
    fs::create_dir(sandbox.path("odd[*]")).unwrap();
    for place in ["repository", "cache"] {
        move_to(&sandbox.path(place), &sandbox.path(format!("odd[*]/{place}")));
    }
    let done = sandbox
        .gabion(["snapshot", "../src/", "../odd[*]/.", "--exclude", "!repository"])
        .current_dir(sandbox.path("home"))
        .env("GABION_REPOSITORY", "../odd[*]/repository")
        .env("GABION_CACHE_DIR", "../odd[*]/cache")
        .run()
        .success();
    assert_eq!(done.stderr(), "");
    for place in ["repository", "cache"] {
        move_to(&sandbox.path(format!("odd[*]/{place}")), &sandbox.path(place));
    }
    let listed = listed(&sandbox);
    assert!(listed.contains(&"src/a/file".to_owned()), "{listed:?}");
    assert_eq!(listed.iter().filter(|path| path.starts_with("odd[*]/")).count(), 0, "{listed:?}");
    sandbox.gabion(["snapshot", "repository"]).run().code(2).says("is the repository itself");
}

#[test]
fn rules_leave_out_what_they_say() {
    let sandbox = with_source();
    sandbox.write("src/.gabionignore", "ignored\n");
    sandbox.write("src/ignored", "");
    sandbox.write("src/large", [0; 5000]);
    sandbox.write("patterns", "a/\n");
    let files = |args: &[&str]| {
        sandbox.gabion(["snapshot", "src"].iter().chain(args)).run().success();
        let all = listed(&sandbox);
        all.into_iter()
            .filter_map(|path| Some(path.strip_prefix("src/")?.to_owned()))
            .collect::<Vec<_>>()
    };
    let all = [".gabionignore", "a", "a/file", "b.tmp", "ignored", "large"];
    assert_eq!(files(&["--no-ignore-files"]), all);
    assert_eq!(files(&["--exclude", "*.tmp"]), [".gabionignore", "a", "a/file", "large"]);
    assert_eq!(files(&["--exclude-file", "patterns"]), [".gabionignore", "b.tmp", "large"]);
    assert_eq!(files(&["--exclude-larger-than", "4k"]), [".gabionignore", "a", "a/file", "b.tmp"]);
    assert_eq!(files(&["--exclude-if-present", "b.tmp"]), [""; 0]);
    let missing = sandbox.gabion(["snapshot", "src", "--exclude-file", "nowhere"]).run().code(2);
    missing.says("cannot read the pattern file nowhere: No such file");
}

#[test]
fn streams_are_kept_and_read_back() {
    let sandbox = with_source();
    let args = ["snapshot", "src", "--stream", "db.sql=printf 'select %s;' 1=1", "--stdin", "in"];
    sandbox.gabion(args).stdin("typed").run().success();
    let cat = |what: &str| sandbox.gabion(["cat", what]).run().success().stdout().to_owned();
    assert_eq!(cat("latest:db.sql"), "select 1=1;");
    assert_eq!(cat("latest:in"), "typed");
    assert_eq!(cat(&format!("latest:{}", sandbox.path("src/a/file").display())), "content");
    assert!(listed(&sandbox).contains(&"db.sql".to_owned()));
    let json = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(json[0]["streams"].as_array().unwrap().len(), 2);
}

#[test]
fn a_stream_that_fails_commits_nothing_and_ends_with_12() {
    let sandbox = with_source();
    let failing = "db.sql=echo begin; echo no such table >&2; exit 3";
    let done = sandbox.gabion(["snapshot", "src", "--stream", failing]).run().code(12);
    assert_eq!(done.stdout(), "");
    done.says("gabion: stream db.sql: ").says("  | no such table\n");
    sandbox.gabion(["snapshot", "--stream", "empty=true"]).run().code(12);
    sandbox.gabion(["snapshot", "--stdin", "empty"]).run().code(12);
    sandbox.gabion(["snapshots"]).run().success().silent();
    sandbox.gabion(["snapshot", "--stream", "empty=true", "--allow-empty"]).run().success();
}

#[test]
fn a_missing_source_ends_with_1_and_leaves_no_snapshot() {
    let sandbox = with_source();
    let done = sandbox.gabion(["snapshot", "src", "nowhere"]).run().code(1);
    done.says("/nowhere: No such file or directory\n").says(" exists and holds: ");
    sandbox.gabion(["snapshots"]).run().success().silent();
}

#[test]
fn sources_that_cannot_be_read_end_with_3() {
    // For root every file can be read; it gives up being root (and then owns nothing here).
    let sandbox = with_source();
    let secret = sandbox.write("src/secret", "x");
    let unreadable = || {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    };
    unreadable();
    let without_power = "setpriv --bounding-set=-all --inh-caps=-all";
    let script = if rustix::process::geteuid().is_root() {
        format!("exec {without_power} $GABION snapshot src")
    } else {
        "exec $GABION snapshot src".to_owned()
    };
    let done = sandbox.shell(&script).run().code(3);
    done.says("problem: ").says("src/secret: ");
    assert!(done.stdout().contains("INCOMPLETE: 1 problem"), "{}", done.stdout());
    let shown = sandbox.gabion(["snapshots"]).run().success();
    assert!(shown.stdout().contains("incomplete"), "{}", shown.stdout());
    let json = sandbox.shell(&format!("{script} --json")).run().code(3).json_lines();
    assert_eq!(json[0]["type"], "problem");
    assert_eq!(json[0]["subject"], secret.to_str().unwrap());
    assert_eq!(json.last().unwrap()["problems"], 1);
}

#[test]
fn a_dry_run_stores_nothing() {
    let sandbox = with_source();
    let done = sandbox.gabion(["snapshot", "src", "--dry-run"]).run().success();
    assert!(done.stdout().starts_with("dry run, nothing stored: "), "{}", done.stdout());
    let json = sandbox.gabion(["snapshot", "src", "--dry-run", "--json"]).run().success();
    assert_eq!(json.json_lines()[0]["snapshot"], serde_json::Value::Null);
    sandbox.gabion(["snapshots"]).run().success().silent();
}

#[test]
fn snapshots_are_listed_filtered_and_named_by_their_beginning() {
    let sandbox = with_source();
    let take = |time: &str, tag: &str| {
        let args = ["snapshot", "src", "--time", time, "--tag", tag, "--host", "box", "--json"];
        let json = sandbox.gabion(args).run().success().json_lines().remove(0);
        json["snapshot"]["id"].as_str().unwrap().to_owned()
    };
    let (new, old) = (take("2026-01-02T03:04:05Z", "new"), take("2025-01-02 03:04", "old"));
    let text = sandbox.gabion(["snapshots"]).run().success().stdout().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].starts_with(&format!("{}  2025-01-02 03:04:00  box ", &old[..8])), "{text}");
    assert!(lines[2].starts_with(&format!("{}  2026-01-02 03:04:05  box ", &new[..8])), "{text}");
    let berlin = sandbox.gabion(["snapshots", "--tag", "new"]).env("TZ", "Europe/Berlin");
    let berlin = berlin.run().success().stdout().to_owned();
    assert!(berlin.contains("2026-01-02 04:04:05") && !berlin.contains("2025"), "{berlin}");
    sandbox.gabion(["snapshots", "--host", "elsewhere"]).run().success().silent();
    let json = sandbox.gabion(["snapshots", "--json", "--tag", "old"]).run().success();
    assert_eq!(json.json_lines()[0]["id"], old.as_str());
    assert_eq!(json.json_lines()[0]["time"], "2025-01-02T03:04:00Z");
    sandbox.gabion(["ls", &new[..6]]).run().success();
}

#[test]
fn unknown_and_ambiguous_snapshots_end_with_1() {
    let sandbox = with_source();
    sandbox.gabion(["ls", "latest"]).run().code(1).says("hint: `gabion snapshots`");
    sandbox.gabion(["snapshot", "src"]).run().success();
    for unknown in ["ffffffffffff", "abc", "", "no-such"] {
        sandbox.gabion(["ls", unknown]).run().code(1).says("no snapshot ");
    }
    let missing = sandbox.gabion(["cat", "latest:/no/where"]).run().code(1);
    missing.says("holds no /no/where").says("hint: `gabion ls SNAP`");
    let folder = format!("latest:{}", sandbox.path("src").display());
    sandbox.gabion(["cat", &folder]).run().code(1);
}

#[test]
fn odd_names_do_no_harm_and_are_not_lost() {
    let sandbox = with_source();
    let folder = Path::new("odd").join(odd_name());
    sandbox.write(folder.join("file"), "found");
    sandbox.gabion(["snapshot", "odd"]).run().success();
    let text = sandbox.gabion(["ls", "-l", "latest"]).run().success();
    assert!(text.stdout().contains("/odd/odd\\u{1b}[2J\\n\\xff/file\n"), "{}", text.stdout());
    let json = sandbox.gabion(["ls", "--json", "latest"]).run().success().json_lines();
    let hex = json.last().unwrap()["path"]["hex"].as_str().unwrap();
    assert!(hex.ends_with("6f6464 1b5b324a 0a ff 2f66696c65".replace(' ', "").as_str()), "{hex}");
    let path = sandbox.path(folder.join("file"));
    let what = OsStr::from_bytes(&[b"latest:", path.as_os_str().as_bytes()].concat()).to_owned();
    let args = [OsStr::new("cat"), &what];
    assert_eq!(sandbox.gabion(args).run().success().stdout_bytes(), b"found");
}

#[test]
fn ls_shows_a_folder_flat_or_whole() {
    let sandbox = with_source();
    sandbox.gabion(["snapshot", "src"]).run().success();
    let src = format!("latest:{}", sandbox.path("src").display());
    let names = |args: &[&str]| {
        let done = sandbox.gabion(args).run().success();
        let top = format!("{}/", sandbox.path("src").display());
        done.stdout().lines().map(|line| line.replace(&top, "")).collect::<Vec<_>>()
    };
    assert_eq!(names(&["ls", &src]), ["a", "a/file", "b.tmp"]);
    assert_eq!(names(&["ls", "--flat", &src]), ["a", "b.tmp"]);
    let long = names(&["ls", "-l", "--flat", &src]);
    assert!(long[1].starts_with("-rw") && long[1].contains("8 B"), "{long:?}");
}

#[test]
fn a_link_is_kept_as_a_link_and_that_is_said() {
    let sandbox = with_source();
    std::os::unix::fs::symlink("src", sandbox.path("link")).unwrap();
    let src = sandbox.path("src").display().to_string();
    let done = sandbox.gabion(["snapshot", "link"]).run().success();
    let said = format!("/link is a link: it is stored, but not what it points to; name {} ", src);
    done.says(&said);
    sandbox.gabion(["snapshot", "link", "--quiet"]).run().success().says(&said);
    let long = sandbox.gabion(["ls", "-l", "latest"]).run().success();
    assert!(long.stdout().ends_with("/link -> src\n"), "{}", long.stdout());
    for followed in ["link/", "link/."] {
        sandbox.gabion(["snapshot", followed]).run().success();
        let ls = sandbox.gabion(["ls", &format!("latest:{src}")]).run().success();
        assert!(ls.stdout().contains("/src/a/file\n"), "{}", ls.stdout());
    }
}

#[test]
fn a_signal_ends_a_snapshot_with_130() {
    let sandbox = with_source();
    for signal in ["INT", "TERM"] {
        let script = format!(
            "$GABION snapshot --stream 'slow=echo begun >&2; echo x; touch begun; sleep 60' & \
             while ! [ -e begun ]; do sleep 0.05; done; rm begun; kill -{signal} $!; wait $!"
        );
        // A shell without job control starts such programs deaf to SIGINT; set -m is the cure.
        let done = sandbox.shell(&format!("set -m; {script}")).run().code(130);
        done.says("gabion: interrupted");
    }
    sandbox.gabion(["snapshots"]).run().success().silent();
}

/// Gives a file of the source a time of its last change, in seconds since 1970.
fn changed_at(sandbox: &Sandbox, name: &str, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(sandbox.write(name, name)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_partial_snapshot_holds_what_changed_in_its_window_and_stands_for_no_whole_one() {
    const DAY: u64 = 86_400;
    let sandbox = Sandbox::with_repository();
    // 2014-07-18T13:54:53Z and the days around it.
    let from = 1_405_691_693;
    for (name, at) in [
        ("src/before", from - 1),
        ("src/first", from),
        ("src/d/second", from + DAY),
        ("src/d/fifth", from + 5 * DAY),
        ("src/after", from + 5 * DAY + 1),
    ] {
        changed_at(&sandbox, name, at);
    }
    sandbox.gabion(["snapshot", "src", "--time", "2026-01-01T00:00:00Z"]).run().success();
    let take = |more: &[&str]| sandbox.gabion(["snapshot", "src"].iter().chain(more)).run();
    let partial = |more: &[&str]| {
        let line = take(&[more, &["--json"]].concat()).success().json_lines().remove(0);
        let id = line["snapshot"]["id"].as_str().unwrap().to_owned();
        let all = sandbox.gabion(["ls", &id, "--json"]).run().success().json_lines();
        let files = all.iter().filter(|entry| entry["kind"] == "file");
        let name = |entry: &serde_json::Value| {
            entry["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
        };
        files.map(name).collect::<Vec<_>>()
    };
    // As the scripts of AiiDA 1 write it, and in each other form.
    let since = ["--since", "2014-07-18 13:54:53.000000+00:00"];
    assert_eq!(partial(&since), ["after", "fifth", "second", "first"].map(str::to_owned));
    let days = [&since[..], &["--days", "5"]].concat();
    assert_eq!(partial(&days), ["fifth", "second", "first"]);
    let end = [&since[..], &["--until", "2014-07-19T13:54:53Z"]].concat();
    assert_eq!(partial(&end), ["second", "first"]);
    assert_eq!(partial(&["--until", "2014-07-18 13:54:52"]), ["before"]);

    // Never in the place of a whole one: not as the latest, not as the parent, not by a policy.
    assert!(listed(&sandbox).iter().any(|name| name.ends_with("src/before")));
    let next = take(&["--time", "2026-01-02T00:00:00Z"]).success();
    let counts = next.stdout().contains("; 0 new, ") && next.stdout().contains(", 0 removed");
    assert!(counts, "{}", next.stdout());
    let table = sandbox.gabion(["snapshots"]).run().success();
    assert_eq!(table.stdout().matches("  partial\n").count(), 4, "{}", table.stdout());
    let days = take(&days).success();
    assert!(days.stdout().starts_with("partial snapshot "), "{}", days.stdout());
    sandbox.gabion(["forget", "--keep-last", "1", "--force"]).run().success();
    assert!(listed(&sandbox).iter().any(|name| name.ends_with("src/before")));

    let refused = |more: &[&str], said: &str| {
        take(more).code(2).says(said);
    };
    refused(&["--since", "sometimes"], "no time such as");
    refused(&["--days", "5"], "--since");
    refused(&["--since", "2014-07-18", "--until", "2014-07-17"], "lies before --since");
    refused(&["--since", "2014-07-18", "--days", "0"], "--days");
    let both = ["--since", "2014-07-18", "--until", "2014-07-19", "--days", "1"];
    refused(&both, "cannot be used with");
}
