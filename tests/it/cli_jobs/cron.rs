//! Debian's cron itself: its daemon runs the lines that `gabion cron` prints, in a mount namespace of
//! its own, so that nothing of the machine's is touched. What it mails is caught.

use std::fs;
use std::path::Path;

use super::super::support::Sandbox;
use super::{configure, job, with_jobs};

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
fn say_skipped(why: &str) {
    eprintln!("skipped: {why}");
}

fn possible(sandbox: &Sandbox) -> bool {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/cron").exists() {
        say_skipped("cron is not there, or this is not root");
        return false;
    }
    // A program that takes mail is put in its place without touching the machine's.
    let script = "mkdir up work && exec unshare -m sh -ec \
        'mount -t overlay none -o lowerdir=/usr/sbin,upperdir=up,workdir=work /usr/sbin'";
    let can = sandbox.shell(script).run().ended_well();
    if !can {
        say_skipped("nothing can be mounted here");
    }
    can
}

/// Waits for at most two minutes, which is as long as cron may take to come to the next one.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /root
mount -t tmpfs none /run
mount -t tmpfs none /etc/cron.d
mount -t tmpfs none /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs 2>/dev/null || true
: >nothing
mount --bind nothing /etc/crontab
mount -t overlay none -o lowerdir=/usr/sbin,upperdir=up,workdir=work /usr/sbin
cp sendmail /usr/sbin/sendmail
export HOME=/root
(crontab -l 2>/dev/null || true; ./gabion --config $PWD/gabion.toml cron) | crontab -
crontab -l >table
/usr/sbin/cron -f &
cron=$!
trap 'kill $cron' EXIT
ended() { ./gabion --config $PWD/gabion.toml status --json | grep -c '"last-run":{' || true; }
for round in $(seq 1 1300); do
    [ "$(ended)" != 2 ] || break
    sleep 0.1
done
# The mail comes behind the end of the run.
for round in $(seq 1 100); do
    [ ! -e mail ] || break
    sleep 0.1
done
./gabion --config $PWD/gabion.toml status >status || true
"#;

#[test]
fn cron_itself_runs_the_job_and_mails_of_failures_only() {
    let sandbox = with_jobs("");
    if !possible(&sandbox) {
        return;
    }
    // The next minute but for one that is nearly there, by the clock that cron has.
    let soon = sandbox.program("date", ["-d", "+70 seconds", "+%H:%M"]).env_remove("TZ");
    let soon = soon.run().success().stdout().trim().to_owned();
    let time = format!("schedule = \"{soon}\"\n");
    configure(
        &sandbox,
        &format!(
            "[job.good]\npaths = [\"TOP/src\"]\n{time}[[job.good.command]]\nname = \"env\"\n\
             command = \"env; tty; cat\"\n[job.bad]\npaths = [\"TOP/gone\"]\n{time}"
        ),
    );
    let configuration = fs::read(sandbox.path("home/.config/gabion/gabion.toml")).unwrap();
    sandbox.write("gabion.toml", configuration);
    // What runs must not lie in what the namespace hides.
    sandbox.shell("cp $GABION gabion").run().success();
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let mail = sandbox.write("sendmail", format!("#!/bin/sh\ncat >>{top}/mail\n"));
    fs::set_permissions(mail, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    sandbox.write("script", SCRIPT);
    let run = sandbox.shell("exec unshare -m sh script").env_remove("GABION_REPOSITORY");
    let _ = run.env_remove("GABION_CACHE_DIR").env_remove("TZ").run().success();

    let table = fs::read_to_string(sandbox.path("table")).unwrap();
    let status = fs::read_to_string(sandbox.path("status")).unwrap();
    assert!(status.contains("; good ") && status.contains("bad failed "), "{status}\n{table}");
    let given = job(&sandbox, &["cat", "latest:env"]).run().success();
    let (path, tty) = ("PATH=/usr/bin:/bin", "not a tty");
    assert!(given.stdout().contains(path) && given.stdout().contains(tty), "{}", given.stdout());
    let mail = fs::read_to_string(sandbox.path("mail")).unwrap();
    assert!(mail.contains("`paths` names ") && mail.contains("/gone"), "{mail}");
    assert_eq!(mail.matches("\nSubject: ").count(), 1, "{mail}");
}
