//! Places that cannot be written to, and what must not be done: each command either works or says
//! in one line why not, and changes nothing.

use std::path::PathBuf;
use std::process::Command;

use crate::small::noise;
use crate::support::{Output, Sandbox, private_mounts};

/// What a command is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It only reads.
    Work,
    /// It would write.
    Refuse,
}

/// Every command that looks at a repository. `FIRST`, `SLOT`, `DATA`, `FILE` and `NEW` stand for a
/// snapshot, a key slot, the source, a file of it, and a name that is free.
const COMMANDS: &[(Does, &[&str])] = &[
    (Does::Work, &["snapshots"]),
    (Does::Work, &["ls", "latest"]),
    (Does::Work, &["cat", "latest:FILE"]),
    (Does::Work, &["find", "large"]),
    (Does::Work, &["diff", "FIRST", "latest"]),
    (Does::Work, &["diff", "latest", "DATA"]),
    (Does::Work, &["stats"]),
    (Does::Work, &["check"]),
    (Does::Work, &["check", "--read-data"]),
    (Does::Work, &["check", "--parity"]),
    (Does::Work, &["restore", "latest", "--target", "NEW"]),
    (Does::Work, &["key", "list"]),
    (Does::Work, &["repair"]),
    (Does::Work, &["repair", "--parity"]),
    (Does::Work, &["repair", "--dry-run"]),
    (Does::Work, &["rebuild-index"]),
    (Does::Work, &["snapshot", "data", "--dry-run"]),
    (Does::Work, &["prune", "--dry-run"]),
    (Does::Work, &["forget", "--keep-last", "1", "--dry-run"]),
    (Does::Work, &["unpin", "FIRST"]),
    (Does::Refuse, &["snapshot", "data"]),
    (Does::Refuse, &["snapshot", "--stdin", "dump", "--allow-empty"]),
    (Does::Refuse, &["prune"]),
    (Does::Refuse, &["forget", "FIRST"]),
    (Does::Refuse, &["forget", "--keep-last", "1"]),
    (Does::Refuse, &["tag", "FIRST", "--add", "x"]),
    (Does::Refuse, &["pin", "FIRST"]),
    (Does::Refuse, &["key", "add", "--new-key-file", "NEW"]),
    (Does::Refuse, &["key", "export", "NEW"]),
    (Does::Refuse, &["key", "remove", "SLOT"]),
    (Does::Refuse, &["init", "-r", "repository", "--new-key-file", "NEW"]),
    (Does::Refuse, &["init", "-r", "repository/inside", "--new-key-file", "NEW"]),
];

struct Place {
    sandbox: Sandbox,
    first: String,
    slot: String,
}

impl Place {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        let init = ["init", "--new-key-file", "key", "--quiet", "--parity", "3%"];
        sandbox.gabion(init).run().success();
        sandbox.use_key();
        sandbox.write("data/large", noise(300_000, 1));
        sandbox.gabion(["snapshot", "data"]).run().success();
        sandbox.write("data/more", noise(3_000, 2));
        sandbox.gabion(["snapshot", "data"]).run().success();
        sandbox.gabion(["key", "add", "--new-key-file", "second"]).run().success();
        let listed = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
        let slots = sandbox.gabion(["key", "list", "--json"]).run().success().json_lines();
        let [first, slot] = [&listed[0]["id"], &slots[0][0]["id"]];
        let (first, slot) = (first.as_str().unwrap().into(), slot.as_str().unwrap().into());
        Self { sandbox, first, slot }
    }

    fn fill_in(&self, arg: &str, number: usize) -> String {
        let file = self.sandbox.path("data/large").display().to_string();
        let new = self.sandbox.path(format!("new-{number}")).display().to_string();
        let data = self.sandbox.path("data").display().to_string();
        let words = [
            ("DATA", &data),
            ("FIRST", &self.first),
            ("SLOT", &self.slot),
            ("FILE", &file),
            ("NEW", &new),
        ];
        words.iter().fold(arg.to_owned(), |arg, (word, value)| arg.replace(word, value))
    }

    /// All names and all bytes.
    fn state(&self) -> String {
        let script = "cd repository && find . | sort && find . -type f -exec sha256sum {} + | sort";
        self.sandbox.shell(script).run().success().stdout().to_owned()
    }

    /// Runs every command; `run` runs the program with some arguments.
    fn every_command(&self, run: impl Fn(&[String]) -> Output) {
        let before = self.state();
        for (number, (does, args)) in COMMANDS.iter().enumerate() {
            let args: Vec<String> = args.iter().map(|arg| self.fill_in(arg, number)).collect();
            let output = run(&args);
            let code = output.exit_code();
            let said = output.errors().to_owned();
            match does {
                // The two sides of a comparison may differ.
                Does::Work if args[0] == "diff" && code == Some(4) => {}
                Does::Work => assert_eq!(code, Some(0), "{args:?}: {said}"),
                Does::Refuse => {
                    assert_eq!(code, Some(1), "{args:?}: {said}");
                    let lines: Vec<&str> =
                        said.lines().filter(|line| !line.starts_with("hint: ")).collect();
                    assert!(
                        lines.len() == 1 && lines[0].starts_with("gabion: "),
                        "{args:?}: {said}"
                    );
                }
            }
            assert!(self.state() == before, "{args:?} changed something");
        }
    }
}

/// Undoes a mount, whatever happens.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn on_a_read_only_file_system_what_reads_works_and_what_writes_says_why_not() {
    let place = Place::new();
    let folder = place.sandbox.path("repository");
    let mount = "mount --bind repository repository && mount -o remount,ro,bind repository";
    if !private_mounts() || !place.sandbox.shell(mount).run().ended_well() {
        eprintln!("not run: nothing can be mounted here");
        return;
    }
    let _mounted = Mounted(folder);
    place.every_command(|args| place.sandbox.gabion(args).run());
}

#[test]
fn without_the_right_to_write_what_reads_works_and_what_writes_says_why_not() {
    let place = Place::new();
    place.sandbox.shell("chmod -R a-w repository").run().success();
    let root = rustix::process::geteuid().is_root();
    if root {
        let give = "chown -R 65534:65534 . && chmod 755 . && command -v setpriv";
        if !place.sandbox.shell(give).run().ended_well() {
            eprintln!("not run: there is nobody to run it as");
            return;
        }
    }
    place.every_command(|args| {
        if !root {
            return place.sandbox.gabion(args).run();
        }
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
        let program = [env!("CARGO_BIN_EXE_gabion").to_owned()];
        let all = nobody.iter().chain(&program).chain(args);
        place.sandbox.program("setpriv", all).run()
    });
    place.sandbox.shell("chmod -R u+w repository").run().success();
}

#[test]
fn a_damaged_repository_that_cannot_be_written_to_is_not_repaired() {
    let place = Place::new();
    place.sandbox.shell("rm repository/copy/config").run().success();
    let mount = "mount --bind repository repository && mount -o remount,ro,bind repository";
    if !private_mounts() || !place.sandbox.shell(mount).run().ended_well() {
        eprintln!("not run: nothing can be mounted here");
        return;
    }
    let _mounted = Mounted(place.sandbox.path("repository"));
    place.sandbox.gabion(["repair"]).run().code(1).says("Read-only file system");
    place.sandbox.gabion(["snapshots"]).run().success();
    place.sandbox.gabion(["check"]).run().code(13);
}

#[test]
fn what_would_lose_something_is_refused_in_one_line_and_nothing_changes() {
    let place = Place::new();
    let (sandbox, before) = (&place.sandbox, place.state());
    let refused = |args: &[&str], code: i32, says: &str| {
        let done = sandbox.gabion(args).run().code(code);
        done.says(says);
        assert!(place.state() == before, "{args:?} changed something");
    };
    refused(&["forget", "--keep-fortnightly", "2"], 2, "unexpected argument '--keep-fortnightly'");
    refused(&["forget", "--keep-last", "some"], 2, "invalid value 'some'");
    refused(&["forget"], 2, "");
    // Nothing has this tag, so nothing would be kept.
    refused(&["forget", "--keep-tag", "nothing"], 1, "the last complete one");
    refused(&["prune", "--keep-tag", "nothing"], 1, "the last complete one");
    // A list that suddenly lacks what is needed.
    sandbox.shell("mv repository/packs elsewhere && mkdir repository/packs").run().success();
    let empty = place.state();
    sandbox.gabion(["prune"]).run().code(1).says("nothing was deleted");
    let without_sessions = |state: &str| state.replace("./sessions\n", "");
    assert_eq!(without_sessions(&place.state()), without_sessions(&empty));
    sandbox.shell("rmdir repository/packs && mv elsewhere repository/packs").run().success();
    sandbox.gabion(["check"]).run().success();
}
