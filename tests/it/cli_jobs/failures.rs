//! What cost the backups of the old procedures, met by runs of jobs: each is said, costs nothing that
//! was there, and the next night is as if it had not been.

use std::fs;

use super::super::support::{Done, Sandbox};
use super::{FILES, configure, job, snapshots, with_jobs};

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
fn say_skipped() {
    eprintln!("skipped: nothing can be mounted here");
}

/// Runs a script in which `gabion` is the program and `disk` an empty folder, in a mount namespace
/// of its own; nothing where that is not permitted.
fn with_disk(sandbox: &Sandbox, script: &str) -> Option<Done> {
    let possible = sandbox.shell("unshare -m true").run();
    if !rustix::process::geteuid().is_root() || !possible.ended_well() {
        say_skipped();
        return None;
    }
    fs::create_dir(sandbox.path("disk")).unwrap();
    sandbox.write("script", format!("gabion() {{ \"$GABION\" \"$@\"; }}\nset -e\n{script}"));
    let run = sandbox.shell("exec unshare -m sh script").env_remove("GABION_REPOSITORY");
    Some(run.run().success())
}

/// A job whose repository lies on `disk`.
fn on_disk(more: &str) -> Sandbox {
    let sandbox = with_jobs("");
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let jobs = format!("{FILES}{more}").replace("TOP", &top);
    let text = format!("[repository]\nurl = \"{top}/disk/repository\"\n\n{jobs}");
    sandbox.write("home/.config/gabion/gabion.toml", text);
    sandbox
}

fn text(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.path(name)).unwrap()
}

#[test]
fn a_full_disk_fails_the_run_and_the_next_night_goes_on() {
    let sandbox = on_disk("");
    let script = "
        mount -t tmpfs -o size=4m none disk
        gabion init --plaintext --quiet -r disk/repository
        gabion run files
        head -c 8000000 /dev/urandom >src/big
        for night in 1 2; do
            gabion run files >>said 2>&1 && exit 9 || echo \"code $?\" >>said
        done
        gabion status >status && exit 8
        gabion snapshots --json >list
        gabion check --read-data
        rm src/big
        echo more >src/more
        gabion run files
        gabion status
        gabion check --read-data
        umount disk";
    let Some(done) = with_disk(&sandbox, script) else { return };
    let said = text(&sandbox, "said");
    assert!(said.matches("code 1\n").count() == 2 && said.contains("space"), "{said}");
    assert_eq!(text(&sandbox, "list").lines().count(), 1);
    assert!(text(&sandbox, "status").contains("files failed "));
    assert!(done.stdout().contains("gabion OK: files "), "{}", done.stdout());
}

#[test]
fn a_disk_that_is_not_mounted_or_goes_away_is_said_and_its_place_stays_empty() {
    let sandbox = on_disk(
        "[job.away]\n[[job.away.command]]\nname = \"dump\"\n\
         command = \"umount -l TOP/disk; echo a dump\"\n",
    );
    let script = "
        mount -t tmpfs none disk
        gabion init --plaintext --quiet -r disk/repository
        gabion run files
        umount disk
        for night in 1 2; do
            gabion run files >>said 2>&1 && exit 9 || echo \"code $?\" >>said
        done
        [ -z \"$(ls -A disk)\" ] || exit 8
        gabion status && exit 7
        mount -t tmpfs none disk
        gabion init --plaintext --quiet -r disk/repository
        gabion run files
        gabion run away >away 2>&1 && exit 6 || echo \"code $?\" >>away
        [ -z \"$(ls -A disk)\" ] || exit 5";
    let Some(_) = with_disk(&sandbox, script) else { return };
    let said = text(&sandbox, "said");
    assert_eq!(said.matches("code 10\n").count(), 2, "{said}");
    assert_eq!(said.matches("is its disk mounted?").count(), 2, "{said}");
    let away = text(&sandbox, "away");
    assert!(away.contains("code 10\n") || away.contains("code 1\n"), "{away}");
}

#[test]
fn a_folder_that_the_jobs_user_cannot_read_is_named_and_taken_later() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = with_jobs(FILES);
    sandbox.write("src/locked/deep/file", "content");
    // Somebody else than root, who has nothing but the sandbox.
    let script = "cp $GABION gabion && chown -R 65534:65534 . && chmod 0 src/locked
        as() { setpriv --reuid=65534 --regid=65534 --clear-groups ./gabion \"$@\"; }
        as run files >said 2>&1; echo \"code $?\" >>said
        as status >status; echo \"code $?\" >>status
        as snapshots >list
        chmod 755 src/locked
        as run files && as status";
    let done = sandbox.shell(script).env_remove("GABION_REPOSITORY").run().success();
    let said = text(&sandbox, "said");
    assert!(said.contains("src/locked") && said.contains("INCOMPLETE"), "{said}");
    assert!(said.ends_with("code 3\n"), "{said}");
    let status = text(&sandbox, "status");
    assert!(status.contains("files was incomplete ") && status.ends_with("code 1\n"), "{status}");
    assert!(text(&sandbox, "list").contains("incomplete"));
    assert!(done.stdout().contains("gabion OK: files "), "{}", done.stdout());
    let listed = sandbox.gabion(["ls", "latest"]).run().success();
    assert!(listed.stdout().contains("src/locked/deep/file\n"), "{}", listed.stdout());
}

#[test]
fn a_drill_without_the_servers_programs_says_what_to_install() {
    let sandbox = on_disk(
        "[job.night]\n[[job.night.command]]\nname = \"d.pgsql\"\ncommand = \"cat TOP/dump.sql\"\n",
    );
    let dump = "-- PostgreSQL database dump\n-- PostgreSQL database dump complete\n";
    sandbox.write("dump.sql", dump);
    let script = "
        mount -t tmpfs none disk
        gabion init --plaintext --quiet -r disk/repository
        gabion run night
        mount -t tmpfs none /usr/lib/postgresql
        gabion drill night --folder /tmp >said 2>&1 && exit 9 || echo \"code $?\" >>said
        gabion status && exit 8 || true";
    let Some(_) = with_disk(&sandbox, script) else { return };
    let said = text(&sandbox, "said");
    let expected = "the server programs initdb, postgres and psql are not on this machine: install";
    assert!(said.contains(expected) && said.ends_with("code 1\n"), "{said}");
}

#[test]
fn what_was_cut_before_it_came_is_refused() {
    let sandbox = with_jobs("");
    let head = "-- MariaDB dump 10.19  Distrib 10.11\n--\n";
    let body = "INSERT INTO `t` VALUES (1);\n".repeat(5000);
    let cut = sandbox.gabion(["snapshot", "--stdin", "d.mysql"]).stdin(format!("{head}{body}"));
    cut.run().code(12).says("it is not complete");
    let whole = format!("{head}{body}-- Dump completed on 2026-11-26\n");
    sandbox.gabion(["snapshot", "--stdin", "d.mysql"]).stdin(whole).run().success();
    sandbox.write("dump.sql", format!("{head}{body}"));
    configure(
        &sandbox,
        "[job.night]\n[[job.night.command]]\nname = \"d.mysql\"\ncommand = \"cat TOP/dump.sql\"\n",
    );
    for _ in 0..2 {
        job(&sandbox, &["run", "night"]).run().code(12).says("it is not complete");
    }
    assert_eq!(snapshots(&sandbox).len(), 1);
}
