//! `gabion prune` as users and schedules run it: beside others, killed, on a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::aftermath::report;
use super::small::{Random, noise};
use super::support::{Run, Sandbox, private_mounts};

/// A sandbox with three snapshots of a source that changed in between: of the first much is needed
/// by nobody else.
fn with_history() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::with_encrypted_repository();
    for round in 0..3u64 {
        for file in 0..8 {
            let seed = if file < 4 { file } else { 100 * round + file };
            sandbox.write(format!("source/{file}"), noise(70_000, seed));
        }
        sandbox.gabion(["snapshot", "source"]).run().success();
    }
    let ids = ids(&sandbox);
    (sandbox, ids)
}

fn ids(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
    listed.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// The bytes of all packs.
fn stored(sandbox: &Sandbox) -> u64 {
    let packs = walkdir::WalkDir::new(sandbox.path("repository/packs"));
    packs
        .into_iter()
        .map(|file| file.unwrap().metadata().unwrap())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

/// The objects of a folder; what was cut off in the making is none.
fn count(sandbox: &Sandbox, folder: &str) -> usize {
    let items = fs::read_dir(sandbox.path("repository").join(folder)).unwrap();
    items
        .filter(|item| !item.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"tmp-"))
        .count()
}

fn restores(sandbox: &Sandbox, id: &str, source: &str) {
    let source = sandbox.path(source);
    let wanted = format!("{id}:{}", source.display());
    sandbox.gabion(["diff", &wanted, source.to_str().unwrap(), "--quiet"]).run().success().silent();
}

#[test]
fn space_comes_back_at_once_and_what_stays_is_whole() {
    let (sandbox, ids_before) = with_history();
    let before = stored(&sandbox);
    let foreseen = sandbox.gabion(["forget", &ids_before[0], &ids_before[1], "--dry-run"]).run();
    assert!(foreseen.success().stdout().contains("a prune would then free "));
    sandbox.gabion(["forget", &ids_before[0], &ids_before[1]]).run().success();
    let dry = sandbox.gabion(["prune", "--dry-run", "--json"]).run().success().json_lines();
    assert_eq!((stored(&sandbox), &dry[0]["dry-run"]), (before, &true.into()));
    let done = sandbox.gabion(["prune"]).run().success();
    assert!(done.stdout().starts_with("pruned: freed "), "{}", done.stdout());
    assert_eq!(done.stdout().lines().count(), 1);
    // Two times four files of 70 kB are gone.
    assert!(stored(&sandbox) + 500_000 < before, "{} of {before}", stored(&sandbox));
    sandbox.gabion(["check", "--read-data"]).run().success();
    restores(&sandbox, &ids_before[2], "source");
    for folder in ["marks", "sessions", "roots"] {
        // A session that is over may name what was forgotten.
        assert!(count(&sandbox, folder) <= usize::from(folder == "sessions"), "{folder}");
    }
    sandbox.gabion(["--quiet", "prune"]).run().success().silent();
}

#[test]
fn a_policy_forgets_and_frees_in_one_go() {
    let (sandbox, before) = with_history();
    sandbox.gabion(["prune", "--keep-last", "1", "--dry-run"]).run().success();
    assert_eq!(ids(&sandbox), before);
    let done = sandbox.gabion(["prune", "--keep-last", "1"]).run().success();
    assert!(
        done.stdout().starts_with("2 snapshots forgotten\npruned: freed "),
        "{}",
        done.stdout()
    );
    assert_eq!(ids(&sandbox), before[2..]);
    restores(&sandbox, &before[2], "source");
    sandbox.gabion(["prune", "--keep-last", "0"]).run().code(1).says("would remove everything");
}

#[test]
fn a_full_disk_is_no_reason_not_to_prune() {
    if !private_mounts() {
        eprintln!("not run: only the superuser can mount a small disk");
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("old/file", noise(900_000, 1));
    sandbox.write("new/file", noise(300_000, 2));
    let script = "mkdir -p disk && mount -t tmpfs -o size=4m none disk || exit 90
         export GABION_REPOSITORY=$PWD/disk/repository
         $GABION init --plaintext --quiet && $GABION snapshot old --quiet \
             && $GABION snapshot new --quiet || { umount disk; exit 91; }
         head -c 9000000 /dev/zero > disk/filler 2>/dev/null
         df --output=avail disk | tail -1 > left
         $GABION snapshot new --quiet && { umount disk; exit 92; }
         $GABION forget $($GABION snapshots | sed -n 2s/\\ .*//p) --force > out.txt 2>&1; forget=$?
         $GABION prune >> out.txt 2>&1; prune=$?
         rm disk/filler
         $GABION check --read-data >> out.txt 2>&1; check=$?
         $GABION snapshot new --quiet; again=$?
         umount disk; echo $forget $prune $check $again > codes";
    sandbox.shell(script).run().success();
    let text = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!(text("left").trim(), "0", "the disk was full");
    assert_eq!(text("codes").trim(), "0 0 0 0", "{}", text("out.txt"));
    assert!(text("out.txt").contains("pruned: freed "), "{}", text("out.txt"));
}

#[test]
fn killed_at_each_step_nothing_is_lost_and_the_next_one_finishes() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let mut met = 0;
    for call in ["fsync", "renameat2", "unlinkat"] {
        for n in 1.. {
            let (sandbox, ids) = with_history();
            sandbox.gabion(["forget", &ids[0]]).run().success();
            let script = format!(
                "strace -f -qq -o trace -e trace={call} -e 'inject={call}:signal=KILL:when={n}' \
                 $GABION prune --max-unused 0% >out.txt 2>&1; echo $? >status; true"
            );
            sandbox.shell(&script).run().success();
            sandbox.gabion(["check", "--read-data"]).run().success();
            let done = fs::read_to_string(sandbox.path("status")).unwrap().trim() == "0";
            sandbox.gabion(["prune", "--max-unused", "0%"]).run().success();
            sandbox.gabion(["check", "--read-data"]).run().success();
            restores(&sandbox, &ids[2], "source");
            for folder in ["marks", "sessions", "roots"] {
                // Sessions that are over may name what was forgotten: one, or two after a kill.
                let most = if folder == "sessions" { 2 } else { 0 };
                assert!(count(&sandbox, folder) <= most, "{call} {n}: {folder}");
            }
            if done {
                break;
            }
            met += 1;
        }
    }
    assert!(met > 10, "{met}");
}

/// A client remembers which snapshots it saw, and wonders when most are gone. It must not wonder
/// about what was done here on purpose, however that ended.
#[test]
fn new_tags_and_a_forget_that_was_cut_off_are_no_reason_to_refuse() {
    let (sandbox, ids) = with_history();
    sandbox.gabion(["prune"]).run().success();
    sandbox.gabion(["tag", &ids[0], &ids[1], &ids[2], "--add", "word"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    sandbox.gabion(["snapshot", "source"]).run().success();
    sandbox.gabion(["prune"]).run().success();
    // After three records and their copies: before the session is ended.
    let script = format!(
        "strace -f -qq -o trace -e trace=unlinkat -e inject=unlinkat:signal=KILL:when=7 \
         $GABION forget {} --force; true",
        ids.join(" ")
    );
    sandbox.shell(&script).run().success();
    // With the one that is over, of the first forget.
    assert_eq!((count(&sandbox, "snapshots"), count(&sandbox, "sessions")), (1, 2));
    sandbox.gabion(["prune"]).run().success();
    assert_eq!(count(&sandbox, "sessions"), 1);
}

/// The client remembers them under the ids that they had before.
#[test]
fn what_was_forgotten_with_new_tags_is_no_reason_to_refuse() {
    let (sandbox, ids) = with_history();
    sandbox.gabion(["prune"]).run().success();
    sandbox.gabion(["tag", &ids[0], &ids[1], &ids[2], "--add", "word"]).run().success();
    sandbox.gabion(["snapshot", "source"]).run().success();
    sandbox.gabion(["forget", &ids[0], &ids[1], &ids[2], "--force"]).run().success();
    sandbox.gabion(["prune"]).run().success();
}

/// How long the processes below go on: `GABION_TURMOIL_SECONDS`, else a moment.
fn turmoil() -> Duration {
    let seconds = std::env::var("GABION_TURMOIL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Somebody who shares the repository's folder.
#[derive(Clone, Copy)]
enum Machine<'a> {
    This(&'a Sandbox),
    /// One with a cache, a name and process numbers of its own: nobody else can know which of its
    /// processes have ended.
    Other(&'a Sandbox),
}

impl<'a> Machine<'a> {
    fn sandbox(self) -> &'a Sandbox {
        let (Self::This(sandbox) | Self::Other(sandbox)) = self;
        sandbox
    }

    fn gabion(self, args: &[&str]) -> Run {
        let Self::Other(sandbox) = self else { return self.sandbox().gabion(args) };
        let script = "hostname other; exec \"$0\" \"$@\"";
        let inside = ["sh", "-c", script, env!("CARGO_BIN_EXE_gabion")];
        let unshare = ["--pid", "--uts", "--mount-proc", "--kill-child"];
        let words = [&unshare[..], &inside, args].concat();
        sandbox.program("unshare", words).env("GABION_CACHE_DIR", sandbox.path("cache-other"))
    }
}

/// Runs a command and kills it when it takes longer than it is given; what it printed if it
/// succeeded.
fn run_for_a_while(machine: Machine<'_>, args: &[&str], time: Duration) -> Option<String> {
    let mut child = machine
        .gabion(args)
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > time {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What a writer has confirmed: the seeds of the files of each snapshot.
type Confirmed = Mutex<BTreeMap<String, Vec<u64>>>;

/// Returns how many snapshots were confirmed.
fn write_and_forget(
    machine: Machine<'_>,
    name: &str,
    until: Instant,
    confirmed: &Confirmed,
) -> u32 {
    // The longer it goes on, the more stay, so that there is something to lose.
    let stay = 1 + usize::try_from(turmoil().as_secs() / 60).unwrap();
    let mut count = 0;
    let mut random = Random::new(name.len() as u64 + u64::from(name.as_bytes()[0]));
    let mut seeds: Vec<u64> = (0..6).collect();
    let mut in_vain = 0;
    // However slow the machine is, something comes to its end: patience grows.
    while Instant::now() < until || confirmed.lock().unwrap().is_empty() {
        let at = random.index(seeds.len());
        // Other writers have the same contents: chunks are shared, and needed by turns.
        seeds[at] = random.below(24);
        for (file, seed) in seeds.iter().enumerate() {
            machine.sandbox().write(format!("{name}/{file}"), noise(30_000, *seed));
        }
        let patience = Duration::from_millis(20 + random.below(400)) * (1 + in_vain);
        let taken = run_for_a_while(machine, &["snapshot", name, "--json"], patience);
        let line =
            taken.map(|text| serde_json::from_str::<serde_json::Value>(text.trim()).unwrap());
        in_vain = if line.is_some() { 0 } else { in_vain + 1 };
        if let Some(line) = line {
            let id = line["snapshot"]["id"].as_str().unwrap().to_owned();
            confirmed.lock().unwrap().insert(id, seeds.clone());
            count += 1;
        }
        if random.below(3) == 0 {
            let own = confirmed.lock().unwrap();
            let victim = own.keys().nth(random.index(own.len())).filter(|_| own.len() > stay);
            let victim = victim.cloned();
            drop(own);
            if let Some(id) = victim {
                confirmed.lock().unwrap().remove(&id);
                let patience = Duration::from_millis(random.below(100));
                run_for_a_while(machine, &["forget", &id, "--force"], patience);
            }
        }
    }
    count
}

fn prune_until(machine: Machine<'_>, seed: u64, stop: &AtomicBool) -> u32 {
    let mut random = Random::new(seed);
    let (mut done, mut in_vain) = (0, 0);
    while !stop.load(Ordering::Relaxed) || done == 0 {
        let patience = Duration::from_millis(random.below(500)) * (1 + in_vain);
        let args = ["prune", "--max-unused", "0%", "--accept-fewer"];
        let has_ended = run_for_a_while(machine, &args, patience).is_some();
        done += u32::from(has_ended);
        in_vain = if has_ended { 0 } else { in_vain + 1 };
    }
    done
}

/// Two writers and two pruners on one repository, all of them killed at random moments: whatever
/// was confirmed and not forgotten restores byte for byte.
#[test]
fn any_number_at_once_killed_at_random() {
    let sandbox = Sandbox::with_repository();
    turmoil_of(&sandbox, [Machine::This(&sandbox); 2]);
    for folder in ["marks", "sessions", "roots"] {
        // Sessions that are over may name what was forgotten, of each that forgot at once.
        let most = if folder == "sessions" { 4 } else { 0 };
        assert!(count(&sandbox, folder) <= most, "{folder}");
    }
}

/// The same with a writer and a pruner on each of two machines. What the other machine's dead left
/// stays for a day, and costs nobody anything but space.
#[test]
fn two_machines_at_once_killed_at_random() {
    let sandbox = Sandbox::with_repository();
    let other = Machine::Other(&sandbox);
    let possible = other.gabion(&["snapshots"]).run().ended_well();
    if !rustix::process::geteuid().is_root() || !possible {
        eprintln!("not run: only the superuser can have a second machine's names and numbers");
        return;
    }
    turmoil_of(&sandbox, [Machine::This(&sandbox), other]);
}

fn turmoil_of(sandbox: &Sandbox, machines: [Machine<'_>; 2]) {
    let confirmed = [Confirmed::default(), Confirmed::default()];
    let (until, stop) = (Instant::now() + turmoil(), AtomicBool::new(false));
    let (taken, pruned): (u32, u32) = std::thread::scope(|scope| {
        let (confirmed, stop) = (&confirmed, &stop);
        let pruners =
            [0, 1].map(|n| scope.spawn(move || prune_until(machines[n], 1 + n as u64, stop)));
        let writers = [0, 1].map(|n| {
            scope.spawn(move || write_and_forget(machines[n], ["a", "b"][n], until, &confirmed[n]))
        });
        let taken = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        (taken, pruners.into_iter().map(|pruner| pruner.join().unwrap()).sum())
    });
    sandbox.gabion(["check", "--read-data"]).run().success();
    let mut restored = 0;
    for (name, confirmed) in ["a", "b"].into_iter().zip(&confirmed) {
        for (id, seeds) in confirmed.lock().unwrap().iter() {
            let target = sandbox.path(format!("restored-{id}"));
            let from = format!("{id}:{}", sandbox.path(name).display());
            sandbox
                .gabion(["restore", &from, "--target", target.to_str().unwrap()])
                .run()
                .success();
            for (file, seed) in seeds.iter().enumerate() {
                let found = fs::read(Path::new(&target).join(file.to_string())).unwrap();
                assert!(found == noise(30_000, *seed), "{id}: {name}/{file}");
            }
            restored += 1;
        }
    }
    assert!(restored > 0 && pruned > 0, "{restored} snapshots, {pruned} prunes");
    sandbox.gabion(["prune", "--max-unused", "0%", "--accept-fewer"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
    let counts = format!(
        "{taken} snapshots confirmed, {restored} not forgotten and restored, \
         {pruned} prunes not killed"
    );
    report("turmoil", &counts, 0);
}
