//! Repositories on another machine, as users name them: the real ssh and the real sshd, which is
//! started for each connection, with a pipe in place of the network.

use std::fs;
use std::path::Path;

use crate::support::{Run, Sandbox};
use crate::support_sftp::{Meddler, SERVER, has_server, instead_of_ssh};

const SSHD: &str = "/usr/sbin/sshd";

/// Makes keys, and the configurations of a server and of a user whom it knows.
const SET_UP: &str = r#"
set -e
umask 077
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f user_key
ssh-keygen -q -t ed25519 -N '' -f stranger
echo "restrict,command=\"internal-sftp -d $PWD/remote\" $(cat user_key.pub)" >authorized
echo "nas $(cut -d' ' -f1,2 host_key.pub)" >known
echo "nas $(cut -d' ' -f1,2 stranger.pub)" >known_wrong
cat >sshd_config <<END
HostKey $PWD/host_key
AuthorizedKeysFile $PWD/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp
END
cat >ssh_config <<END
Host nas
    ProxyCommand /usr/sbin/sshd -i -e -f $PWD/sshd_config 2>>$PWD/sshd.log
    IdentityFile $PWD/user_key
    IdentitiesOnly yes
    UserKnownHostsFile $PWD/known
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    User $(id -un)
Host wrong-machine
    HostKeyAlias nas
    UserKnownHostsFile $PWD/known_wrong
    ProxyCommand /usr/sbin/sshd -i -e -f $PWD/sshd_config 2>>$PWD/sshd.log
    StrictHostKeyChecking yes
Host wrong-key
    HostKeyAlias nas
    UserKnownHostsFile $PWD/known
    ProxyCommand /usr/sbin/sshd -i -e -f $PWD/sshd_config 2>>$PWD/sshd.log
    IdentityFile $PWD/stranger
    IdentitiesOnly yes
    User $(id -un)
END
mkdir remote
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
"#;

/// A sandbox with a machine `nas`, and where its repository is.
struct Nas {
    sandbox: Sandbox,
    place: String,
}

impl Nas {
    #[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
    fn new() -> Option<Self> {
        if ![SSHD, "/usr/bin/ssh", SERVER].iter().all(|path| Path::new(path).exists()) {
            eprintln!("not run: ssh or sshd is not there");
            return None;
        }
        let sandbox = Sandbox::new();
        sandbox.shell(SET_UP).run().success().silent();
        for number in 0..30 {
            sandbox.write(format!("src/file{number}"), format!("content {number}\n").repeat(1000));
        }
        let place = "nas:r".to_owned();
        Some(Self { sandbox, place })
    }

    fn ssh(&self) -> String {
        format!("ssh -F {}", self.sandbox.path("ssh_config").display())
    }

    fn gabion(&self, args: &[&str]) -> Run {
        let run = self.sandbox.gabion(args).env("GABION_REPOSITORY", &self.place);
        run.env("GABION_SSH_COMMAND", self.ssh())
    }
}

#[test]
fn a_repository_on_another_machine_is_one_like_any_other() {
    let Some(nas) = Nas::new() else { return };
    let made = nas.gabion(&["init", "--new-key-file", "key", "--parity", "3%"]).run().success();
    assert!(made.stdout().contains(&format!(" at {} (encrypted", nas.place)), "{}", made.stdout());
    let with_key = |args: &[&str]| nas.gabion(args).env("GABION_KEY_FILE", "key");
    with_key(&["init"]).run().code(1).says("already");
    with_key(&["snapshot", "src", "--quiet"]).run().success().silent();
    nas.sandbox.write("src/more", "more");
    with_key(&["snapshot", "src", "--quiet"]).run().success().silent();
    nas.sandbox.shell("rm src/more").run().success().silent();
    with_key(&["snapshot", "src", "--quiet"]).run().success().silent();
    let listed = with_key(&["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(listed.len(), 3);
    let below = format!("latest:{}", nas.sandbox.path("src").display());
    with_key(&["restore", &below, "--target", "back"]).run().success();
    nas.sandbox.shell("diff -r src back").run().success().silent();
    with_key(&["forget", "--keep-last", "1"]).run().success();
    with_key(&["prune"]).run().success();
    with_key(&["check", "--read-data"]).run().success();
    with_key(&["stats"]).run().success();
    with_key(&["repair"]).run().success();
    nas.gabion(&["check", "--parity"]).run().success();
    with_key(&["key", "add", "--new-key-file", "second"]).run().success();
    // What was made from afar is read where it lies, and the other way round.
    let here = |args: &[&str]| nas.sandbox.gabion(args).env("GABION_KEY_FILE", "second");
    let local = nas.sandbox.path("remote/r").display().to_string();
    here(&["-r", &local, "check", "--read-data"]).run().success();
    here(&["-r", &local, "snapshot", "src", "--quiet"]).run().success();
    assert_eq!(with_key(&["snapshots", "--json"]).run().success().json_lines().len(), 2);
    assert_eq!(fs::read_to_string(nas.sandbox.path("sshd.log")).unwrap(), "");
    let notes = fs::read_dir(nas.sandbox.path("cache/sftp")).map_or(0, Iterator::count);
    assert_eq!(notes, 0, "nothing was left unfinished");
}

#[test]
fn a_machine_that_is_not_reached_is_said_in_the_words_of_ssh() {
    let Some(nas) = Nas::new() else { return };
    nas.gabion(&["init", "--plaintext", "--quiet"]).run().success();
    for (host, said) in [
        ("wrong-machine", "Host key verification failed"),
        ("wrong-key", "Permission denied"),
        ("no.such.machine.invalid", "no.such.machine.invalid"),
    ] {
        let place = format!("{host}:r");
        for args in [&["snapshots"][..], &["snapshot", "src"], &["init", "--plaintext"]] {
            let run = nas.gabion(args).env("GABION_REPOSITORY", &place).run().code(1);
            run.says(&place).says(said).says("does `ssh` reach that machine");
        }
    }
    nas.gabion(&["snapshots"])
        .env("GABION_REPOSITORY", "nas:no")
        .run()
        .code(10)
        .says("gabion init");
    nas.gabion(&["--ssh-command", "/no/such/ssh", "snapshots"]).run().code(1).says("not found");
    nas.gabion(&["--ssh-command", "false", "snapshots"]).run().code(1).says("hung up");
}

#[test]
fn a_job_may_save_to_another_machine() {
    let Some(nas) = Nas::new() else { return };
    let run = |args: &[&str]| {
        let run = nas.sandbox.gabion(["--config", "jobs.toml"].iter().chain(args));
        run.env_remove("GABION_REPOSITORY")
    };
    let (src, ssh) = (nas.sandbox.path("src").display().to_string(), nas.ssh());
    let setup = |place: &str, more: &[&str]| {
        let there = ["setup", "--yes", "--repository", place, "--ssh-command", &ssh];
        run(&[&there[..], &["--path", &src, "--job", "files"], more].concat())
    };
    let said = setup(&nas.place, &["--no-first-snapshot"]).run().success();
    assert!(said.stdout().contains(&format!(" at {}\n", nas.place)), "{}", said.stdout());
    run(&["run", "files"]).run().success();
    run(&["run", "files"]).run().success();
    run(&["status"]).run().success();
    run(&["drill", "files"]).run().success();
    run(&["cron"]).run().success();
    let explained = run(&["jobs", "--explain"]).run().success();
    assert!(explained.stdout().contains(&format!("repository = {:?}", nas.place)));
    assert!(explained.stdout().contains(&format!("ssh-command = {ssh:?}")));
    let listed = run(&["snapshots", "--json"]).run().success().json_lines();
    assert_eq!(listed.len(), 1, "one for each day");
    // What is named beside the configuration counts no less than for a folder.
    run(&["-r", "nas:elsewhere", "run", "files"]).run().code(2).says("the configuration names");
    // A second set-up finds what is there.
    let again = setup(&nas.place, &["--overwrite", "--password-file", "password"]).run().success();
    assert!(again.stdout().contains("found repository"), "{}", again.stdout());
    nas.sandbox.write("remote/full/thing", "");
    for (name, why) in [("full", "neither a repository nor an empty"), ("no/r", "is not there")] {
        let place = format!("nas:{name}");
        setup(&place, &["--overwrite", "--plaintext"]).run().code(2).says(why);
    }
}

#[test]
fn a_line_that_breaks_ends_the_run_and_the_next_one_goes_on() {
    if !has_server() {
        return;
    }
    let (sandbox, meddler) = (Sandbox::new(), Meddler::new());
    // What cannot be made smaller, so that there is something to cut.
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut bytes = vec![0; 6 << 20];
    noise.fill(&mut bytes);
    sandbox.write("src/noise", &bytes);
    let place = format!("nas:{}", sandbox.path("r").display());
    let gabion = |command: &str, args: &[&str]| {
        let run = sandbox.gabion(args).env("GABION_REPOSITORY", &place);
        run.env("GABION_SSH_COMMAND", command)
    };
    let whole = instead_of_ssh(SERVER);
    gabion(&whole, &["init", "--plaintext", "--quiet"]).run().success();
    for writes in [1, 3, 100] {
        let cut = meddler.command("cut-at-write", writes);
        let said = gabion(&cut, &["snapshot", "src"]).run().code(1);
        said.says("the line is cut").says("does `ssh` reach that machine");
        assert_eq!(said.stdout(), "");
        assert_eq!(
            gabion(&whole, &["snapshots"]).run().success().stdout().matches("src").count(),
            0
        );
    }
    let unfinished = || {
        let items = walkdir::WalkDir::new(sandbox.path("r")).into_iter();
        items
            .filter(|item| item.as_ref().unwrap().path().to_string_lossy().contains("tmp-"))
            .count()
    };
    assert!(unfinished() > 0);
    gabion(&whole, &["snapshot", "src", "--quiet"]).run().success().silent();
    gabion(&whole, &["prune", "--quiet"]).run().success();
    assert_eq!(unfinished(), 0, "what the dead processes left was swept");
    gabion(&whole, &["check", "--read-data", "--quiet"]).run().success();
}

#[test]
fn ssh_is_let_go_when_gabion_is_interrupted() {
    if !has_server() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let place = format!("nas:{}", sandbox.path("r").display());
    let script = format!("{SERVER}; echo $? >{}", sandbox.path("ended").display());
    let gabion = |args: &[&str]| {
        let run = sandbox.gabion(args).env("GABION_REPOSITORY", &place);
        run.env("GABION_SSH_COMMAND", instead_of_ssh(&script))
    };
    gabion(&["init", "--plaintext", "--quiet"]).run().success();
    let fifo = sandbox.path("fifo");
    sandbox.shell("mkfifo fifo").run().success();
    // The stream tells that the run is under way, and then waits.
    let stream = format!("wait=echo begun >{}; sleep 600", fifo.display());
    let mut child = gabion(&["snapshot", "--stream", &stream]).command();
    let mut child = std::os::unix::process::CommandExt::process_group(&mut child, 0)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "begun\n");
    // As a terminal does it: to all of them.
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let _ = child.wait().unwrap();
    while !sandbox.path("ended").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    gabion(&["check"]).run().success();
}
