//! Every way in which a job ends is remembered and told, and takes no other job with it.

use std::fs;
use std::io::Write as _;

use super::super::support::Sandbox;
use super::notify::Receiver;
use super::{FILES, SLOW, configure, job, snapshots, with_jobs};

const STATE: &str = "home/.local/state/gabion";

fn webhook(job: &str, server: &Receiver) -> String {
    let port = server.port;
    format!("[job.{job}.notify]\nwebhook = \"http://127.0.0.1:{port}/\"\nwhen = \"always\"\n")
}

/// What the webhook was told since the last look.
fn told(server: &Receiver) -> Vec<serde_json::Value> {
    let requests = server.take();
    requests.iter().map(|request| serde_json::from_str(&request.body).unwrap()).collect()
}

fn status(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let output = job(sandbox, &["status", name, "--json"]).run();
    serde_json::from_str(output.text().trim_end()).unwrap()
}

#[test]
fn a_line_of_the_past_that_a_crash_cut_takes_no_later_run_with_it() {
    let sandbox = with_jobs(FILES);
    job(&sandbox, &["run", "files"]).run().success();
    let past = sandbox.path(STATE).join("files.past");
    let mut file = fs::File::options().append(true).open(past).unwrap();
    file.write_all(b"{\"what\":\"run\",\"started\":1").unwrap();
    for _ in 0..2 {
        job(&sandbox, &["run", "files"]).run().success();
    }
    let report = job(&sandbox, &["report", "--html", "page.html"]).run().success();
    assert!(report.stdout().contains("3 runs of 1 job"), "{}", report.stdout());
}

#[test]
fn a_run_of_a_clock_that_was_ahead_is_not_fresh() {
    let sandbox = with_jobs(FILES);
    job(&sandbox, &["run", "files"]).run().success();
    let path = sandbox.path(STATE).join("files.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for run in ["last-run", "last-success"] {
        let ended = state[run]["ended"].as_i64().unwrap();
        state[run]["ended"] = (ended + 400 * 86_400).into();
    }
    sandbox.write(&path, state.to_string());
    let done = job(&sandbox, &["status", "--max-age", "26h"]).run().code(1);
    assert!(done.stdout().contains("in the future"), "{}", done.stdout());
    job(&sandbox, &["run", "files"]).run().success();
    job(&sandbox, &["status", "--max-age", "26h"]).run().success();
}

#[test]
fn a_lock_that_cannot_be_had_is_told_and_the_next_job_runs() {
    let server = Receiver::start("200 OK");
    let other = FILES.replace("files", "other");
    let sandbox = with_jobs(&format!("{FILES}{}{other}", webhook("files", &server)));
    fs::create_dir_all(sandbox.path(STATE).join("files.lock")).unwrap();
    job(&sandbox, &["run", "--all"]).run().code(1).says("cannot lock ");
    let told = told(&server);
    assert_eq!((told.len(), &told[0]["occasion"]), (1, &"failure".into()));
    let status = status(&sandbox, "files");
    assert_eq!(status["last-run"]["outcome"], "failed");
    let left = snapshots(&sandbox);
    assert_eq!((left.len(), &left[0]["job"]), (1, &"other".into()));
}

#[test]
fn a_run_that_waited_in_vain_is_remembered_and_told() {
    let server = Receiver::start("200 OK");
    let sandbox = with_jobs("");
    let wait = "[job.slow.limits]\nwait = \"1s\"\n";
    configure(&sandbox, &format!("{SLOW}{wait}{}", webhook("slow", &server)));
    let script = "$GABION run slow & while ! [ -e begun ]; do sleep 0.05; done; \
                  $GABION run slow && exit 9; $GABION status --json >during; touch go; wait $!";
    sandbox.shell(script).env_remove("GABION_REPOSITORY").run().success();
    let during = fs::read_to_string(sandbox.path("during")).unwrap();
    assert!(during.contains("another run is still under way"), "{during}");
    assert!(during.contains("running for"), "{during}");
    let occasions: Vec<_> = told(&server).iter().map(|one| one["occasion"].clone()).collect();
    assert_eq!(occasions, ["failure", "recovery"]);
    job(&sandbox, &["status"]).run().success();
}

#[test]
fn a_state_that_cannot_be_written_is_told_with_the_run_and_the_next_job_runs() {
    let server = Receiver::start("200 OK");
    let other = FILES.replace("files", "other");
    let sandbox = with_jobs(&format!("{FILES}{}{other}", webhook("files", &server)));
    job(&sandbox, &["run", "files"]).run().success();
    told(&server);
    // Nothing can be put in the place of a directory that is not empty.
    let state = sandbox.path(STATE);
    #[expect(clippy::disallowed_methods, reason = "breaks what is remembered")]
    fs::remove_file(state.join("files.json")).unwrap();
    fs::create_dir_all(state.join("files.json/full")).unwrap();
    job(&sandbox, &["run", "--all"]).run().code(3).says("cannot write ");
    let told = told(&server);
    assert_eq!((told.len(), &told[0]["occasion"]), (1, &"failure".into()));
    assert!(told[0]["text"].as_str().unwrap().contains("cannot write "), "{}", told[0]);
    assert_eq!(told[0]["run"]["outcome"], "incomplete");
    assert!(told[0]["run"]["snapshot"].is_string(), "{}", told[0]);
    assert_eq!(snapshots(&sandbox).len(), 3);
}

#[test]
fn what_a_command_said_last_is_told_with_its_failure_and_has_a_limit() {
    let server = Receiver::start("200 OK");
    let command = "[job.dump]\n[[job.dump.command]]\nname = \"out\"\n\
        command = \"head -c 30000000 /dev/zero | tr '\\\\0' . >&2; \
        printf '\\\\nLINE 1:\\\\tfirst\\\\nthe server is gone\\\\n' >&2; exit 1\"\n";
    let sandbox = with_jobs(&format!("{command}{}", webhook("dump", &server)));
    let done = job(&sandbox, &["--quiet", "run", "dump"]).run().code(12);
    done.says("  | LINE 1: first\n  | the server is gone\n");
    assert!(done.stderr().len() < 10_000, "{} bytes", done.stderr().len());
    let told = told(&server);
    let text = told[0]["text"].as_str().unwrap();
    assert!(text.contains("\n  | LINE 1: first\n  | the server is gone\n"), "{text}");
    let short = job(&sandbox, &["status"]).run().code(1);
    assert!(short.stdout().contains(": the server is gone"), "{}", short.stdout());
    let long = job(&sandbox, &["status", "--long"]).run().code(1);
    assert!(long.stdout().contains("| LINE 1: first\n"), "{}", long.stdout());
    job(&sandbox, &["report", "--html", "page.html"]).run().success();
    let page = fs::read_to_string(sandbox.path("page.html")).unwrap();
    assert!(page.contains("LINE 1: first | the server is gone"), "{page}");
}

#[test]
fn what_a_password_command_says_is_kept_and_has_a_limit() {
    let sandbox = Sandbox::with_encrypted_repository();
    let command = "head -c 3000000 /dev/zero >&2; echo >&2; echo the safe is locked >&2; exit 4";
    let run = sandbox.gabion(["--password-command", command, "snapshots"]);
    let done = run.env_remove("GABION_KEY_FILE").run().code(11);
    done.says("the password command ended with exit status 4").says("the safe is locked");
    assert!(done.stderr().len() < 10_000, "{} bytes", done.stderr().len());
    let endless = sandbox.gabion(["--password-command", "head -c 20000000 /dev/zero", "snapshots"]);
    endless.env_remove("GABION_KEY_FILE").run().code(11).says("prints more than");
}
