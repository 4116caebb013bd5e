//! Jobs as a schedule runs them: configuration, runs, state, lines for cron.

mod as_it_was;
mod cron;
mod databases;
mod drill;
mod endings;
mod failures;
mod hostile_servers;
mod kills;
mod links;
mod notify;
mod sshfs;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Run, Sandbox};

/// A sandbox with a repository and this configuration, in which `REPO` and `TOP` are filled in.
fn with_jobs(jobs: &str) -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "content");
    configure(&sandbox, jobs);
    sandbox
}

fn configure(sandbox: &Sandbox, jobs: &str) {
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let jobs = jobs.replace("TOP", &top);
    let text = format!("[repository]\nurl = \"{top}/repository\"\n\n{jobs}");
    sandbox.write("home/.config/gabion/gabion.toml", text);
}

fn job(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.gabion(args).env_remove("GABION_REPOSITORY")
}

fn snapshots(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    sandbox.gabion(["snapshots", "--json"]).run().success().json_lines()
}

const FILES: &str = "[job.files]\npaths = [\"TOP/src\"]\n";

#[test]
fn a_run_takes_a_snapshot_says_one_line_and_is_remembered() {
    let sandbox = with_jobs(FILES);
    let never = job(&sandbox, &["status"]).run().code(1);
    assert_eq!(never.stdout(), "gabion CRITICAL: files never ran\n");
    let done = job(&sandbox, &["run", "files"]).run().success();
    assert!(done.stdout().starts_with("files: snapshot "), "{}", done.stdout());
    assert_eq!((done.stdout().lines().count(), done.stderr()), (1, ""));
    assert_eq!(snapshots(&sandbox)[0]["job"], "files");
    job(&sandbox, &["--quiet", "run", "--all"]).run().success().silent();
    let status = job(&sandbox, &["status", "--max-age", "26h"]).run().success();
    assert!(status.stdout().starts_with("gabion OK: files "), "{}", status.stdout());
    let json = job(&sandbox, &["status", "--json"]).run().success().json_lines();
    assert_eq!((&json[0]["ok"], &json[0]["last-run"]["exit-code"]), (&true.into(), &0.into()));
    assert_eq!(json[0]["last-success"]["bytes"], 7);
    let figures = sandbox.path("gabion.prom");
    job(&sandbox, &["status", "--prometheus", figures.to_str().unwrap()]).run().success();
    let figures = fs::read_to_string(figures).unwrap();
    assert!(figures.contains("gabion_job_last_run_ok{job=\"files\"} 1\n"), "{figures}");
    assert!(figures.contains("gabion_job_last_success_growth_bytes{job=\"files\"} 0\n"));
    let long = job(&sandbox, &["status", "--long"]).run().success();
    for wanted in ["files: ok\n  last success  ", "last check    never", "next run      2"] {
        assert!(long.stdout().contains(wanted), "{}", long.stdout());
    }
    // Without configuration, repository and key.
    fs::remove_dir_all(sandbox.path("repository")).unwrap();
    fs::remove_dir_all(sandbox.path("home/.config")).unwrap();
    job(&sandbox, &["status", "files"]).run().success();
    job(&sandbox, &["status", "other"]).run().code(1);
}

#[test]
fn an_old_success_is_not_well() {
    let sandbox = with_jobs(FILES);
    job(&sandbox, &["run", "files"]).run().success();
    let path = sandbox.path("home/.local/state/gabion/files.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for run in ["last-run", "last-success"] {
        let ended = state[run]["ended"].as_i64().unwrap();
        state[run]["ended"] = (ended - 27 * 3600).into();
    }
    sandbox.write(&path, state.to_string());
    let done = job(&sandbox, &["status", "--max-age", "26h"]).run().code(1);
    assert!(done.stdout().contains("files succeeded 27h ago, more than 26h"), "{}", done.stdout());
    job(&sandbox, &["status", "--max-age", "28h"]).run().success();
}

#[test]
fn a_repository_that_went_away_is_said_and_nothing_is_written_elsewhere() {
    let sandbox = with_jobs(FILES);
    fs::remove_dir_all(sandbox.path("repository")).unwrap();
    fs::create_dir(sandbox.path("repository")).unwrap();
    let done = job(&sandbox, &["run", "files"]).run().code(10);
    done.says("is its disk mounted?");
    assert_eq!(fs::read_dir(sandbox.path("repository")).unwrap().count(), 0);
    let status = job(&sandbox, &["status"]).run().code(1);
    assert!(status.stdout().contains("files failed "), "{}", status.stdout());
}

#[test]
fn a_source_that_went_away_is_a_failed_run_that_names_the_line() {
    let sandbox = with_jobs(FILES);
    fs::remove_dir_all(sandbox.path("src")).unwrap();
    job(&sandbox, &["run", "files"]).run().code(1).says("gabion.toml:5: `paths` names ");
    job(&sandbox, &["status"]).run().code(1);
    job(&sandbox, &["jobs"]).run().code(2).says("gabion.toml:5: ");
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let sandbox = with_jobs("[job.files]\npathes = [\"/\"]\n");
    for args in [&["run", "files"][..], &["jobs"], &["status"], &["cron"]] {
        job(&sandbox, args)
            .run()
            .code(2)
            .says("gabion.toml:5: unknown key `pathes`")
            .says("hint: ");
    }
    configure(&sandbox, FILES);
    let unknown = job(&sandbox, &["run", "other"]).run().code(2);
    unknown.says("no job \"other\"").says("it has files");
    let other = sandbox.gabion(["run", "files"]).env("GABION_REPOSITORY", "/elsewhere");
    other.run().code(2).says("not /elsewhere");
    let file = sandbox.path("home/.config/gabion/gabion.toml");
    fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
    job(&sandbox, &["run", "files"]).run().code(2).says("everybody can change");
    fs::remove_dir_all(sandbox.path("home/.config")).unwrap();
    job(&sandbox, &["jobs"]).run().code(2).says("there is no configuration of jobs");
}

#[test]
fn jobs_are_listed_and_explained_and_other_commands_find_the_repository() {
    let sandbox = with_jobs(&format!("{FILES}exclude = [\"*.tmp\"]\nschedule = \"sun 04:05\"\n"));
    let list = job(&sandbox, &["jobs"]).run().success();
    assert!(list.stdout().contains("files  sun 04:05  "), "{}", list.stdout());
    let all = job(&sandbox, &["jobs", "--explain", "files"]).run().success();
    for line in
        ["[job.files]", "compression = 1", "limits.wait = \"leave\"", "keep = all snapshots"]
    {
        assert!(all.stdout().lines().any(|found| found == line), "{}", all.stdout());
    }
    job(&sandbox, &["snapshots"]).run().success();
    sandbox.write("src/a.tmp", "");
    let path = |name: &str| sandbox.path(name).display().to_string();
    let why = |name: &str| job(&sandbox, &["why", &path(name), "--job", "files"]).run();
    assert!(why("src/a.tmp").code(1).stdout().contains("left out by the pattern \"*.tmp\""));
    assert!(why("src/file").success().stdout().contains("is taken"));
    assert!(why("home").code(1).stdout().contains("none of the job's paths"));
}

#[test]
fn hooks_run_in_order_with_what_they_need_to_know() {
    let hooks = "[job.files.hooks]\nbefore = \"echo before >>TOP/log\"\n\
                 after = \"echo after $GABION_JOB $GABION_STATUS >>TOP/log\"\n\
                 failed = \"echo failed $GABION_STATUS >>TOP/log\"\n\
                 finally = \"echo finally >>TOP/log\"\n";
    let sandbox = with_jobs(&format!("{FILES}{hooks}"));
    let log = || fs::read_to_string(sandbox.path("log")).unwrap_or_default();
    job(&sandbox, &["run", "files"]).run().success();
    assert_eq!(log(), "before\nafter files ok\nfinally\n");
    sandbox.write("log", "");
    configure(&sandbox, &format!("{FILES}{}", hooks.replace("echo before", "exit 5; true")));
    job(&sandbox, &["run", "files"])
        .run()
        .code(1)
        .says("the hook `before` ended with exit status 5");
    assert_eq!(log(), "failed failed\nfinally\n");
    assert_eq!(snapshots(&sandbox).len(), 1);
    configure(
        &sandbox,
        &format!("{FILES}[job.files.hooks]\nafter = \"sleep 60\"\ntimeout = \"1s\"\n"),
    );
    let late = job(&sandbox, &["run", "files"]).run().code(3);
    late.says("the hook `after` did not end within 1s");
    assert_eq!(snapshots(&sandbox).len(), 2);
    job(&sandbox, &["status"]).run().code(1);
}

/// A job whose stream waits until the file `go` is there.
const SLOW: &str = "[job.slow]\n[[job.slow.command]]\nname = \"out\"\n\
    command = \"touch TOP/begun; while ! [ -e TOP/go ]; do sleep 0.05; done; echo x\"\n";

#[test]
fn of_two_runs_at_once_the_second_leaves_or_waits() {
    let second = |wait: &str, then: &str| {
        let sandbox = with_jobs(&format!("{SLOW}[job.slow.limits]\nwait = \"{wait}\"\n"));
        let script = format!(
            "$GABION run slow & while ! [ -e begun ]; do sleep 0.05; done; {then}; wait $!"
        );
        let run = sandbox.shell(&script).env_remove("GABION_REPOSITORY").run().success();
        (run.stderr().to_owned(), snapshots(&sandbox).len())
    };
    let (said, count) = second("leave", "$GABION run slow || exit 9; touch go");
    assert!(said.contains("another run is under way") && count == 1, "{said} {count}");
    let (said, count) = second("1s", "$GABION run slow && exit 9; touch go");
    assert!(said.contains("another run is still under way") && count == 1, "{said} {count}");
    let (said, count) = second("5m", "(sleep 0.3; touch go) & $GABION run slow || exit 9");
    assert!(said.is_empty() && count == 2, "{said} {count}");
}

#[test]
fn a_run_that_was_killed_leaves_no_lock() {
    let sandbox = with_jobs(SLOW);
    let script = "$GABION run slow & while ! [ -e begun ]; do sleep 0.05; done; \
                  $GABION status >during; kill -9 $!; wait $!; touch go; $GABION status && exit 9; \
                  $GABION --quiet run slow";
    let done = sandbox.shell(script).env_remove("GABION_REPOSITORY").run().success();
    assert_eq!(snapshots(&sandbox).len(), 1);
    let during = fs::read_to_string(sandbox.path("during")).unwrap();
    assert!(during.contains("slow never ran, running for "), "{during}");
    let dead = "it did not come to its end: it was killed, or the machine went down";
    assert!(done.stdout().contains(dead), "{}", done.stdout());
    // The next run says it once more, for those who never look at the status.
    done.says(dead);
    let status = job(&sandbox, &["status", "--json"]).run().success().json_lines().remove(0);
    assert_eq!(status["last-failure"]["exit-code"], 130, "{status}");
    job(&sandbox, &["--quiet", "run", "slow"]).run().success().silent();
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_fails() {
    let sandbox = with_jobs(&format!("{SLOW}[job.slow.limits]\ntime = \"1s\"\n"));
    job(&sandbox, &["run", "slow"]).run().code(1).says("took longer than 1s and was ended");
    assert_eq!(snapshots(&sandbox).len(), 0);
    job(&sandbox, &["status"]).run().code(1);
}

#[test]
fn the_lines_for_cron_work_with_crons_environment() {
    let sandbox = with_jobs(&format!("{FILES}schedule = \"mon,thu 23:05\"\n"));
    let printed = job(&sandbox, &["cron"]).run().success().stdout().to_owned();
    let line = printed.strip_prefix("5 23 * * 1,4 ").unwrap().trim_end();
    assert!(!line.contains('%') && !line.contains('\n'), "{line}");
    let top = sandbox.path("");
    let script = format!(
        "cd / && env -i PATH=/usr/bin:/bin HOME={home} setsid /bin/sh -c '{line}' </dev/null",
        home = sandbox.path("home").display(),
    );
    sandbox.shell(&script).current_dir(top).run().success().silent();
    assert_eq!(snapshots(&sandbox).len(), 1);
    let units = job(&sandbox, &["cron", "files", "--print", "systemd"]).run().success();
    for wanted in ["Persistent=true", "RandomizedDelaySec=", "OnCalendar=mon,thu *-*-* 23:05:00"] {
        assert!(units.stdout().contains(wanted), "{}", units.stdout());
    }
    let file = job(&sandbox, &["cron", "--print", "cron.d"]).run().success();
    assert!(file.stdout().lines().any(|l| l.starts_with("5 23 * * 1,4 ")), "{}", file.stdout());
    fs::create_dir(sandbox.path("a%b")).unwrap();
    let odd = sandbox.path("a%b/gabion.toml");
    fs::copy(sandbox.path("home/.config/gabion/gabion.toml"), &odd).unwrap();
    job(&sandbox, &["cron", "--config", odd.to_str().unwrap()]).run().code(2).says("a%b");
}

#[test]
fn failures_are_mailed_by_the_part_of_the_machine_that_does_that() {
    if fs::exists("/usr/sbin/sendmail").unwrap() || fs::exists("/usr/lib/sendmail").unwrap() {
        return;
    }
    let sandbox =
        with_jobs("[job.files]\npaths = [\"TOP/gone\"]\n[job.files.notify]\nmail = \"a@b\"\n");
    let program =
        sandbox.write("bin/sendmail", "#!/bin/sh\n{ echo \"$@\"; cat; } >\"$HOME/mail\"\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    let run = || job(&sandbox, &["run", "files"]).env("PATH", &path).run();
    run().code(1);
    let mail = fs::read_to_string(sandbox.path("home/mail")).unwrap();
    assert!(mail.starts_with("-i -- a@b\nTo: a@b\nSubject: gabion on "), "{mail}");
    assert!(mail.contains("files FAILED\n") && mail.contains("last success: never"), "{mail}");
    // The first success behind it is told, the second is not.
    sandbox.write("gone", "is back");
    run().success();
    let mail = fs::read_to_string(sandbox.path("home/mail")).unwrap();
    assert!(mail.contains("files ok again\n"), "{mail}");
    sandbox.write("home/mail", "");
    run().success();
    assert_eq!(fs::read_to_string(sandbox.path("home/mail")).unwrap(), "");
}

#[test]
fn what_the_policy_does_not_keep_is_forgotten_and_its_space_given_back() {
    let sandbox = with_jobs(&format!("{FILES}[job.files.keep]\nlast = 2\n"));
    sandbox.gabion(["snapshot", "src"]).run().success();
    let mut packs = 0;
    for round in 0..5u8 {
        sandbox.write("src/file", vec![round; 100_000]);
        job(&sandbox, &["--quiet", "run", "files"]).run().success().silent();
        let all = walkdir::WalkDir::new(sandbox.path("repository/packs")).into_iter();
        packs = all.filter(|item| item.as_ref().unwrap().file_type().is_file()).count();
    }
    let left = snapshots(&sandbox);
    let of_job: Vec<_> = left.iter().filter(|one| one["job"] == "files").collect();
    assert_eq!((left.len(), of_job.len()), (3, 2), "what no job took is no job's to forget");
    assert!(packs <= 6, "{packs}");
    sandbox.gabion(["check", "--read-data"]).run().success();
}

#[test]
fn the_report_is_one_page_in_which_nothing_is_markup_that_was_said() {
    let sandbox =
        with_jobs("[job.odd]\npaths = [\"TOP/<b>'gone&\"]\n[job.files]\npaths = [\"TOP/src\"]\n");
    let page = || {
        job(&sandbox, &["report", "--html", "page.html"]).run().success();
        fs::read_to_string(sandbox.path("page.html")).unwrap()
    };
    assert!(page().contains("It never ran."));
    for _ in 0..3 {
        job(&sandbox, &["run", "odd", "files"]).run().code(1);
    }
    let folder = sandbox.path("").display().to_string();
    job(&sandbox, &["drill", "files", "--folder", "/tmp"]).run().success();
    let page = page();
    assert!(page.contains("/&lt;b&gt;&#39;gone&amp;: ") && !page.contains("<b>'gone"), "{page}");
    for nothing in ["<script", "href", "src=", "url(", "@import", "http"] {
        let found = page.replace("http-equiv", "").contains(nothing);
        assert!(!found, "{nothing} in {page}");
    }
    assert!(!page.replace(&folder, "").is_empty() && page.matches("<svg").count() == 6, "{page}");
    for wanted in ["Runs: 3", "Drills: 1", "3 of 3 ok", "0 of 3 ok", "prefers-color-scheme: dark"] {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
    let past = sandbox.path("home/.local/state/gabion/files.past");
    assert_eq!(fs::read_to_string(past).unwrap().lines().count(), 4);
}

#[test]
fn a_stream_of_every_night_is_neither_new_nor_gone() {
    let sandbox = with_jobs(&format!(
        "{FILES}[[job.files.command]]\nname = \"out\"\ncommand = \"date +%N\"\n"
    ));
    let run = |more: &[&str]| {
        let words = [&["run", "files"], more].concat();
        job(&sandbox, &words).run().success().stdout().to_owned()
    };
    run(&[]);
    let second = run(&[]);
    assert!(second.contains("; 0 new, ") && second.contains(" changed, 0 removed"), "{second}");
    let dry = run(&["--dry-run"]);
    assert!(dry.contains("; 0 new, ") && dry.contains(" changed, 0 removed"), "{dry}");
    configure(&sandbox, FILES);
    let without = run(&[]);
    assert!(without.contains(" changed, 1 removed"), "{without}");
}

#[test]
fn a_job_that_gets_other_sources_says_so_once() {
    let sandbox = with_jobs(FILES);
    let quiet = || job(&sandbox, &["--quiet", "run", "files"]).run().success();
    quiet().silent();
    configure(&sandbox, "[job.files]\npaths = [\"TOP/home\"]\n");
    quiet().says("files: its last snapshot was of ").says("/src on ").says("different names");
    quiet().silent();
    configure(&sandbox, "[job.files]\npaths = [\"TOP/home\"]\nhost = \"other\"\n");
    quiet().says("files: its last snapshot was of ");
    quiet().silent();
}
