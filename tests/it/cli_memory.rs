//! What a client remembers of a repository, outside of it, and notices by that.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::hostile_storage::files_of;
use super::support::{Run, Sandbox};

/// A second client of the same repository: its own home, hence its own memory and cache.
fn elsewhere<'s>(sandbox: &'s Sandbox, args: &[&'s str]) -> Run {
    let run = sandbox.gabion(args).env("HOME", sandbox.path("other"));
    run.env("GABION_CACHE_DIR", sandbox.path("other/cache"))
}

fn snapshot(sandbox: &Sandbox, content: &str) -> String {
    sandbox.write("tree/file", content);
    let lines = sandbox.gabion(["snapshot", "tree", "--json"]).run().success().json_lines();
    lines[0]["snapshot"]["id"].as_str().unwrap().to_owned()
}

fn remove(sandbox: &Sandbox, folder: &str) {
    for file in files_of(&sandbox.path(folder)) {
        delete(&file);
    }
}

#[expect(clippy::disallowed_methods, reason = "plays whoever holds the storage")]
fn delete(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn copy(sandbox: &Sandbox, from: &str, to: &str) {
    let script = format!("rm -rf {to} && cp -a {from} {to}");
    sandbox.shell(&script).run().success();
}

#[test]
fn removed_snapshots_are_missed_by_every_command() {
    let sandbox = Sandbox::with_encrypted_repository();
    let (first, second) = (snapshot(&sandbox, "1"), snapshot(&sandbox, "2"));
    remove(&sandbox, "repository/snapshots");
    remove(&sandbox, "repository/copy/snapshots");
    let gone = |args: &[&str], code: i32| {
        let done = sandbox.gabion(args).run().code(code);
        done.says(&first).says(&second).says("--accept-changes");
        done.says("snapshots").says("gone, although this machine took and did not forget them");
    };
    for args in [&["check"][..], &["snapshots"], &["--quiet", "check"], &["--json", "snapshots"]] {
        gone(args, 13);
    }
    gone(&["prune"], 13);
    gone(&["prune", "--dry-run"], 13);
    gone(&["forget", "--keep-last", "1"], 13);
    gone(&["cat", "latest:tree/file"], 1);
    assert_eq!(files_of(&sandbox.path("repository/sessions")).len(), 0);
    // What is there now is saved all the same, and then what is read is as good as ever.
    gone(&["snapshot", "tree"], 13);
    let path = format!("latest:{}", sandbox.path("tree/file").display());
    gone(&["cat", &path], 0);
    sandbox.gabion(["--accept-changes", "snapshots"]).run().success().says(": accepted");
    sandbox.gabion(["check"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    // A client that never saw them misses nothing.
    elsewhere(&sandbox, &["check"]).run().success();
}

#[test]
fn a_repository_that_was_put_back_is_noticed() {
    let sandbox = Sandbox::with_encrypted_repository();
    let first = snapshot(&sandbox, "1");
    copy(&sandbox, "repository", "earlier");
    let second = snapshot(&sandbox, "2");
    sandbox.gabion(["forget", &first]).run().success();
    copy(&sandbox, "earlier", "repository");
    let done = sandbox.gabion(["snapshots"]).run().code(13);
    done.says(&format!("snapshot {second} is gone, although"));
    done.says(&format!("snapshot {first} is back, although this machine forgot it"));
}

/// Two machines that share a repository: neither wonders about what the other does.
#[test]
fn what_another_client_forgets_is_not_missing() {
    let sandbox = Sandbox::with_encrypted_repository();
    let ids = ["1", "2", "3", "4"].map(|content| snapshot(&sandbox, content));
    elsewhere(&sandbox, &["forget", &ids[0]]).run().success();
    elsewhere(&sandbox, &["tag", "--add", "x", &ids[1]]).run().success();
    sandbox.gabion(["check"]).run().success();
    elsewhere(&sandbox, &["forget", &ids[2]]).run().success();
    elsewhere(&sandbox, &["prune"]).run().success();
    // The traces become one.
    assert_eq!(files_of(&sandbox.path("repository/sessions")).len(), 1);
    sandbox.gabion(["check"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    elsewhere(&sandbox, &["forget", "--keep-last", "1", "--force"]).run().success();
    let left = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(left.len(), 1);
    // Known from then on, whatever becomes of the trace.
    remove(&sandbox, "repository/sessions");
    sandbox.gabion(["check"]).run().success();
    remove(&sandbox, "repository/snapshots");
    remove(&sandbox, "repository/copy/snapshots");
    sandbox.gabion(["check"]).run().code(13).says(&ids[3]);
}

#[test]
fn a_repository_that_was_encrypted_is_not_believed_to_be_open() {
    let sandbox = Sandbox::with_encrypted_repository();
    snapshot(&sandbox, "secret");
    let plain = Sandbox::with_repository();
    let id = |sandbox: &Sandbox| {
        let config = fs::read_to_string(sandbox.path("repository/config")).unwrap();
        let config: serde_json::Value =
            serde_json::from_str(config.lines().next().unwrap()).unwrap();
        config["repository-id"].as_str().unwrap().to_owned()
    };
    let (own, other) = (id(&sandbox), id(&plain));
    let bare = |args: &[&str]| sandbox.gabion(args).env_remove("GABION_KEY_FILE");
    for (with_id, said) in [(&own, "now says that it is not"), (&other, "now holds the repository")]
    {
        // Whoever holds the storage makes any configuration that is not encrypted.
        let text = fs::read_to_string(plain.path("repository/config")).unwrap();
        let line = text.lines().next().unwrap().replace(&other, with_id);
        let text = sealed_by_its_own_key(&line);
        for name in ["repository/config", "repository/copy/config"] {
            sandbox.write(name, &text);
        }
        for args in [&["snapshots"][..], &["snapshot", "tree"]] {
            bare(args).run().code(13).says(said).says("--accept-changes");
        }
    }
    // With a key it is refused by those, too, who never saw it.
    elsewhere(&sandbox, &["snapshots"]).run().code(11).says("is not encrypted, but a passphrase");
    // Only with the word that it counts.
    let accepted = bare(&["--accept-changes", "snapshots"]).run().code(13);
    accepted.says("is damaged: another object lies in its place: its sealing differs");
    bare(&["snapshots"]).run().code(13).says("its sealing differs");
}

fn sealed_by_its_own_key(line: &str) -> String {
    let config: serde_json::Value = serde_json::from_str(line).unwrap();
    let master = config["plaintext-key"].as_str().unwrap();
    let master: Vec<u8> = (0..master.len() / 2)
        .map(|at| u8::from_str_radix(&master[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let key = blake3::derive_key("gabion 2026-11 config mac", &master);
    let (hash, mac) = (blake3::hash(line.as_bytes()), blake3::keyed_hash(&key, line.as_bytes()));
    format!("{line}\nblake3 {hash}\nmac {mac}\n")
}

#[test]
fn disks_that_take_turns_are_accepted_once_each() {
    let sandbox = Sandbox::with_repository();
    copy(&sandbox, "repository", "one");
    sandbox.shell("rm -r repository").run().success();
    // Made at the place itself, it needs no word.
    sandbox.gabion(["init", "--plaintext"]).run().success();
    sandbox.gabion(["snapshots"]).run().success();
    copy(&sandbox, "repository", "two");
    copy(&sandbox, "one", "repository");
    let refused = sandbox.gabion(["snapshots"]).run().code(13);
    refused.says("now holds the repository").says("is the right disk mounted?");
    sandbox.gabion(["--accept-changes", "snapshots"]).run().success();
    for disk in ["two", "one", "two"] {
        copy(&sandbox, disk, "repository");
        sandbox.gabion(["snapshots"]).run().success().silent();
    }
}

#[test]
fn without_a_memory_everything_works_and_one_line_says_so() {
    let sandbox = Sandbox::with_encrypted_repository();
    let first = snapshot(&sandbox, "1");
    // A file where the directory belongs: nobody can write there, root neither.
    let state = sandbox.write("no-state", "");
    let run = |args: &[&str]| sandbox.gabion(args).env("GABION_STATE_DIR", &state);
    for args in [&["snapshot", "tree"][..], &["check"], &["forget", &first], &["prune"]] {
        let done = run(args).run().success();
        assert_eq!(done.stderr().matches("warning: cannot use").count(), 1, "{}", done.stderr());
        assert_eq!(done.stderr().lines().count(), 1, "{}", done.stderr());
    }
    // What is not understood is said once, and made again.
    for file in files_of(&sandbox.path("home/.local/state/gabion/repositories")) {
        let name = file.strip_prefix(sandbox.path("")).unwrap().to_owned();
        sandbox.write(name, "{ torn");
    }
    sandbox.gabion(["snapshots"]).run().success().says("warning: cannot use");
    sandbox.gabion(["snapshots"]).run().success();
    let folder = sandbox.path("home/.local/state/gabion/repositories");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Several processes of one user write to the memory at once, and none loses what another wrote.
#[test]
fn runs_at_once_remember_all_that_they_confirmed() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("tree/file", "text");
    let start = |_| {
        let mut command = sandbox.gabion(["--quiet", "snapshot", "tree"]).command();
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    remove(&sandbox, "repository/snapshots");
    remove(&sandbox, "repository/copy/snapshots");
    let done = sandbox.gabion(["check"]).run().code(13);
    let named = done.stderr().lines().find(|line| line.contains("are gone")).unwrap();
    assert_eq!(named.matches(", ").count(), 6, "{named}");
}

/// What costs more than is allowed is tried only where it opened the repository before, as it was.
#[test]
fn the_slot_that_opened_it_before_is_found_among_any_number() {
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| sandbox.gabion(args).env("GABION_PASSWORD", "correct horse").run();
    run(&["init"]).success();
    run(&["snapshots"]).success();
    for number in 0..5000 {
        sandbox.write(format!("repository/keys/{number:032x}"), "planted");
    }
    run(&["snapshots"]).success();
    let other = elsewhere(&sandbox, &["snapshots"]).env("GABION_PASSWORD", "correct horse");
    other.run().code(1).says("more than 4096 names");
}

#[test]
fn of_several_inits_at_once_one_wins() {
    for _ in 0..8 {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("repository")).unwrap();
        let start = |number: usize| {
            let key = format!("key-{number}");
            let mut command = sandbox.gabion(["--quiet", "init", "--new-key-file", &key]).command();
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let children: Vec<_> = (0..4).map(start).collect();
        let ended: Vec<bool> =
            children.into_iter().map(|mut child| child.wait().unwrap().success()).collect();
        let winners: Vec<usize> = (0..4).filter(|at| ended[*at]).collect();
        let [winner] = winners[..] else { panic!("{ended:?}") };
        let key = format!("key-{winner}");
        sandbox.gabion(["snapshots", "--key-file", &key]).run().success();
        assert_eq!(files_of(&sandbox.path("repository/keys")).len(), 1);
        assert_eq!(files_of(&sandbox.path("repository/copy/keys")).len(), 1);
        for loser in (0..4).filter(|at| *at != winner) {
            assert!(!sandbox.path(format!("key-{loser}")).exists());
        }
    }
}

#[test]
fn what_root_adds_belongs_to_the_owner_of_the_repository() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = Sandbox::with_repository();
    sandbox.write("tree/file", "text");
    sandbox.shell("chown -R 4321:8765 repository").run().success();
    sandbox.gabion(["snapshot", "tree"]).run().success();
    sandbox.gabion(["forget", "latest", "--force"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    let foreign = sandbox.shell("find repository ! -user 4321 -o ! -group 8765").run().success();
    assert_eq!(foreign.stdout(), "");
}
