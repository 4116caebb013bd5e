//! A repository on another machine by sshfs, as AiiDA's page has it: real sshfs and a real SFTP
//! server, with a pipe in the place of the network.

use std::fs;
use std::path::Path;

use super::with_jobs;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
fn say_skipped() {
    eprintln!("skipped: sshfs is not there, or nothing can be mounted here");
}

/// Connects `disk` with the folder `remote`; `lost` ends the server as a network that is gone does.
const SCRIPT: &str = r#"
set -e
gabion() { "$GABION" "$@"; }
connect() {
    sshfs -f -o ssh_command=$PWD/ssh -o idmap=user host:$PWD/remote disk &
    sshfs=$!
    for round in $(seq 1 600); do
        mountpoint -q disk && return
        sleep 0.05
    done
    exit 20
}
disconnect() { umount disk; wait $sshfs || true; }
connect
gabion init --plaintext --quiet -r disk/repository
gabion run files
head -c 3000000 /dev/urandom >src/more
gabion run files
rm src/more
gabion run files
gabion check --read-data -r disk/repository
gabion restore "latest:$PWD/src" --target back -r disk/repository
diff -r src back
# The connection is lost while the dump runs.
gabion run lost >lost 2>&1 && exit 21 || echo "code $?" >>lost
umount -l disk 2>/dev/null || true
wait $sshfs || true
[ -z "$(ls -A disk)" ] || exit 22
gabion run files >gone 2>&1 && exit 23 || echo "code $?" >>gone
[ -z "$(ls -A disk)" ] || exit 24
connect
gabion run files
gabion status files
gabion check --read-data -r disk/repository
gabion snapshots --json -r disk/repository >list
disconnect
"#;

#[test]
fn a_repository_by_sshfs_works_and_a_lost_connection_is_said() {
    let sandbox = with_jobs("");
    let there = [SERVER, "/usr/bin/sshfs", "/dev/fuse"].iter().all(|path| Path::new(path).exists());
    let can_mount = || sandbox.shell("unshare -m true").run().ended_well();
    if !there || !rustix::process::geteuid().is_root() || !can_mount() {
        say_skipped();
        return;
    }
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let jobs = format!(
        "[repository]\nurl = \"{top}/disk/repository\"\n[job.files]\npaths = [\"{top}/src\"]\n\
         [job.files.keep]\nlast = 2\n[job.files.check]\nbudget = \"1GiB\"\n\
         [job.lost]\n[[job.lost.command]]\nname = \"dump\"\n\
         command = \"kill -9 $(cat {top}/server); echo a dump\"\n"
    );
    sandbox.write("home/.config/gabion/gabion.toml", jobs);
    let ssh = format!("#!/bin/sh\necho $$ >{top}/server\nexec {SERVER}\n");
    let ssh = sandbox.write("ssh", ssh);
    fs::set_permissions(ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(sandbox.path("disk")).unwrap();
    fs::create_dir(sandbox.path("remote")).unwrap();
    sandbox.write("script", SCRIPT);
    let run = sandbox.shell("exec unshare -m sh script").env_remove("GABION_REPOSITORY");
    let _ = run.run().success();
    let text = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    let lost = text("lost");
    assert!(!lost.contains("code 0\n") && lost.contains("code "), "{lost}");
    assert!(text("gone").ends_with("code 10\n"), "{}", text("gone"));
    assert_eq!(text("list").lines().count(), 2, "{}", text("list"));
}
