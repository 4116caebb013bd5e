//! `kill -9` of a run in each of its phases: the status tells it, the next run is as any other, and the
//! repository is whole.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::super::support::Sandbox;
use super::{configure, job, snapshots, with_jobs};

/// What happens in the job: each command says that it is there, and waits while it is told to.
const JOB: &str = r#"
[job.night]
paths = ["TOP/src"]
[[job.night.command]]
name = "dump"
command = "echo begin; TOP/wait dump; date +%N"
[job.night.keep]
last = 1
[job.night.check]
budget = "1GiB"
[job.night.hooks]
before = "TOP/wait before"
after = "TOP/wait after"
finally = "TOP/wait finally"
"#;

fn with_night(port: u16) -> Sandbox {
    let sandbox = with_jobs("");
    let notify = format!(
        "[job.night.notify]\nntfy = \"http://127.0.0.1:{port}/\"\nwhen = \"always\"\ntimeout = \"60s\"\n"
    );
    configure(&sandbox, &format!("{JOB}{notify}"));
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let wait = format!(
        "#!/bin/sh\n[ -e {top}/stop-$1 ] || exit 0\ntouch {top}/there\n\
         while [ -e {top}/stop-$1 ]; do sleep 0.02; done\n"
    );
    let script = sandbox.write("wait", wait);
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    sandbox
}

#[track_caller]
fn wait_until(child: &mut Child, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !holds() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "marks of the test's own")]
fn remove(sandbox: &Sandbox, name: &str) {
    let _ = fs::remove_file(sandbox.path(name));
}

fn change(sandbox: &Sandbox, round: u8) {
    let mut noise = vec![0; 400_000];
    blake3::Hasher::new().update(&[round]).finalize_xof().fill(&mut noise);
    sandbox.write("src/changing", noise);
}

/// What holds after a run was killed in `phase`; `told` answers what the runs tell.
fn assert_goes_on(sandbox: &Sandbox, phase: &str, told: &TcpListener) {
    let status = job(sandbox, &["status"]).run();
    let said = status.text().to_owned();
    let _ = status.code(1);
    assert!(
        said.contains("night began ") && said.contains("did not come to its end"),
        "{phase}: {said}"
    );
    assert!(!snapshots(sandbox).is_empty(), "{phase}: all is lost");
    let (sandbox, run) = (sandbox, || {
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| answer_until_silent(told));
            let done = job(sandbox, &["run", "night"]).run();
            let ended = (done.exit_code(), done.errors().to_owned());
            drop(std::net::TcpStream::connect(told.local_addr().unwrap()));
            answers.join().unwrap();
            ended
        })
    });
    let (code, said) = run();
    assert_eq!(code, Some(0), "{phase}: {said}");
    assert!(said.contains("it did not come to its end"), "{phase}: {said}");
    job(sandbox, &["status"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
    let left = snapshots(sandbox);
    assert_eq!(left.len(), 1, "{phase}: retention is caught up with");
    for kind in ["sessions", "marks", "roots"] {
        let left = fs::read_dir(sandbox.path("repository").join(kind)).unwrap();
        let left = left.map(|item| item.unwrap().file_name());
        // What was being written goes when it is surely nobody's any more.
        let left: Vec<_> =
            left.filter(|name| !name.as_encoded_bytes().starts_with(b"tmp-")).collect();
        // Sessions that are over may name what was forgotten: one, or two after a kill.
        assert!(left.len() <= if kind == "sessions" { 2 } else { 0 }, "{phase}: {kind}: {left:?}");
    }
    let script = "rm -rf out && $GABION restore latest:\"$PWD/src\" --target out --quiet \
                  && diff -r src out";
    sandbox.shell(script).run().success();
}

/// Answers every request; a connection that brings nothing ends it.
fn answer_until_silent(listener: &TcpListener) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    loop {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut len, mut lines) = (0, 0);
        loop {
            let mut line = String::new();
            // Who was killed meanwhile has sent half a request.
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            lines += 1;
            if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                len = text.trim().parse().unwrap();
            }
        }
        if lines == 0 {
            return;
        }
        let _ = reader.read_exact(&mut vec![0; len]);
        let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
}

fn begin(sandbox: &Sandbox) -> Child {
    let mut command = job(sandbox, &["run", "night"]).command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn first_run(sandbox: &Sandbox, told: &TcpListener) {
    std::thread::scope(|scope| {
        let answers = scope.spawn(|| answer_until_silent(told));
        job(sandbox, &["run", "night"]).run().success();
        drop(std::net::TcpStream::connect(told.local_addr().unwrap()));
        answers.join().unwrap();
    });
}

#[test]
fn a_run_that_is_killed_in_a_command_or_while_it_tells_costs_nothing() {
    let told = TcpListener::bind("127.0.0.1:0").unwrap();
    let sandbox = with_night(told.local_addr().unwrap().port());
    first_run(&sandbox, &told);
    for (round, phase) in (0..).zip(["before", "dump", "after", "finally"]) {
        change(&sandbox, round);
        sandbox.write(format!("stop-{phase}"), "");
        let mut run = begin(&sandbox);
        wait_until(&mut run, || sandbox.path("there").exists());
        run.kill().unwrap();
        run.wait().unwrap();
        remove(&sandbox, &format!("stop-{phase}"));
        remove(&sandbox, "there");
        assert_goes_on(&sandbox, phase, &told);
    }
    // While it tells, all is done but the remembering.
    change(&sandbox, 9);
    let mut run = begin(&sandbox);
    told.set_nonblocking(true).unwrap();
    let mut held = None;
    wait_until(&mut run, || {
        held = told.accept().ok();
        held.is_some()
    });
    told.set_nonblocking(false).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    drop(held);
    // How it ended was remembered before anybody was told.
    job(&sandbox, &["status"]).run().success();
    first_run(&sandbox, &told);
    sandbox.gabion(["check", "--read-data"]).run().success();
}

/// The calls at which a phase is met: the call, and the folder in which it names something.
const CALLS: [(&str, &str, &str); 12] = [
    ("the announcement", "renameat2", "sessions"),
    ("the files, at a pack", "renameat2", "packs"),
    ("the index segment", "renameat2", "index"),
    ("the tentative root", "renameat2", "roots"),
    ("the confirmation", "renameat2", "snapshots"),
    ("behind the confirmation", "unlinkat", "roots"),
    ("the retention", "unlinkat", "snapshots"),
    ("the retention's second copies", "unlinkat", "copy/snapshots"),
    ("the mark of the prune", "renameat2", "marks"),
    ("the prune", "unlinkat", "packs"),
    ("the prune's index", "unlinkat", "index"),
    ("the end of the prune", "unlinkat", "marks"),
];

/// Runs the job and kills it at the first such call; false when there was none.
fn killed_at(sandbox: &Sandbox, call: &str, folder: &str) -> bool {
    let place = sandbox.path("repository").join(folder);
    let mut places = vec![place.clone()];
    if folder == "packs" {
        places.extend((0..=255u8).map(|byte| place.join(format!("{byte:02x}"))));
    }
    let names: Vec<String> = places.iter().map(|p| format!("-P {}", p.display())).collect();
    let script = format!(
        "strace -f -qq -o trace {} -e trace={call} -e inject={call}:signal=KILL:when=1 \
         $GABION run night >/dev/null 2>&1; grep -c 'killed by SIGKILL' trace >killed; true",
        names.join(" ")
    );
    sandbox.shell(&script).env_remove("GABION_REPOSITORY").run().success();
    fs::read_to_string(sandbox.path("killed")).unwrap().trim() != "0"
}

#[test]
fn a_run_that_is_killed_while_it_stores_keeps_prunes_or_checks_costs_nothing() {
    if !Path::new("/usr/bin/strace").exists() {
        return;
    }
    let told = TcpListener::bind("127.0.0.1:0").unwrap();
    let sandbox = with_night(told.local_addr().unwrap().port());
    first_run(&sandbox, &told);
    for (round, (phase, call, folder)) in (0..).zip(CALLS) {
        change(&sandbox, round);
        assert!(killed_at(&sandbox, call, folder), "{phase} was not met");
        assert_goes_on(&sandbox, phase, &told);
    }
    // The check reads packs when the snapshot is confirmed. Each of its reads waits a while.
    change(&sandbox, 99);
    let script = "exec strace -f -qq -y -o trace -e trace=renameat2,pread64 \
                  -e inject=pread64:delay_enter=200000 $GABION run night";
    let mut command = sandbox.shell(script).env_remove("GABION_REPOSITORY").command();
    remove(&sandbox, "trace");
    let mut run = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut process = None;
    wait_until(&mut run, || {
        let trace = fs::read_to_string(sandbox.path("trace")).unwrap_or_default();
        let confirmed = trace.find("/repository/snapshots>, \"tmp-");
        process = trace.split_whitespace().next().map(str::to_owned);
        confirmed.is_some_and(|at| {
            trace[at..].lines().any(|line| line.contains("pread64(") && line.contains("/packs/"))
        })
    });
    let process: i32 = process.unwrap().parse().unwrap();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    run.wait().unwrap();
    assert_goes_on(&sandbox, "the check", &told);
}

/// A power failure leaves the old or the new: what is not under its name yet is written through,
/// then it gets the name, then the folder is written through. Nothing is written in place.
#[test]
fn what_is_remembered_of_a_job_is_replaced_durably_and_at_once() {
    if !Path::new("/usr/bin/strace").exists() {
        return;
    }
    let sandbox = with_jobs("[job.night]\npaths = [\"TOP/src\"]\n");
    for _ in 0..2 {
        let script = "strace -f -qq -y -e signal=none -o trace \
                      -e trace=openat,rename,renameat,renameat2,fsync $GABION run night";
        sandbox.shell(script).env_remove("GABION_REPOSITORY").run().success();
        let state = sandbox.path("home/.local/state/gabion");
        let state = fs::canonicalize(&state).unwrap().display().to_string();
        let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
        let name = format!("{state}/night.json\"");
        let mut found = 0;
        for (at, line) in trace.lines().enumerate().filter(|(_, line)| line.contains(&name)) {
            if line.contains("openat(") {
                assert!(line.contains("O_RDONLY"), "{line}");
                continue;
            }
            assert!(line.contains("rename"), "{line}");
            let written = line.split('"').nth(1).unwrap();
            let synced = |line: &str, path: &str| {
                line.contains("fsync(") && line.contains(&format!("<{path}>)"))
            };
            assert!(trace.lines().take(at).any(|before| synced(before, written)), "{line}");
            assert!(trace.lines().skip(at).any(|after| synced(after, &state)), "{line}");
            found += 1;
        }
        assert!(found > 0, "{trace}");
    }
}
