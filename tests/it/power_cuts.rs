//! Power cuts: the real program works on a file system in an image file, the image is copied at
//! random moments, and the copy is mounted as it would be after the power came back.
//!
//! A copy that takes time is none that a power cut could leave: its later parts are newer than its
//! earlier ones, and a journal that wrapped around in between belongs to neither. So the image lies
//! on a file system that shares extents, and is cloned by one call, which keeps writes to the image
//! out until it is done. The clone holds every write that the inner file system had sent to its
//! disk, and no other: a disk that loses power and had no cache. What the inner file system still
//! had in memory is lost. (What a disk with a cache loses as well is the matter of
//! `crash_states`.)
//!
//! `GABION_POWER_CUTS=1000 cargo test --release --test it power_cuts -- --nocapture` cuts the power
//! so many times on each kind of file system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gabion::id::SnapshotId;
use gabion::repo::Unlock;

use super::aftermath::{self, Aftermath, Promised, Tree, not_run, report, scale, scratch};
use super::small::Random;
use super::support::{Sandbox, private_mounts};

/// Mounted file systems in image files; gone with the value.
struct Disks {
    mounted: Vec<PathBuf>,
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            run(Command::new("umount").arg("--lazy").arg(path));
        }
    }
}

impl Disks {
    fn mount(&mut self, image: &Path, at: &Path, options: &str) -> bool {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let done = run(mount.arg("-o").arg(format!("loop{options}")).args([image, at]));
        if done {
            self.mounted.push(at.to_owned());
        }
        done
    }

    fn unmount(&mut self) {
        let path = self.mounted.pop().unwrap();
        // The worker's children hold what is open here until they have become programs of their
        // own.
        for _ in 0..1000 {
            if run(Command::new("umount").arg(&path)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} cannot be unmounted", path.display());
    }
}

/// Whether the command could be started and succeeded.
fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn image(path: &Path, megabytes: u64, make: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "an image, no object")]
    std::fs::File::create(path).unwrap().set_len(megabytes << 20).unwrap();
    run(Command::new(make[0]).args(&make[1..]).arg(path))
}

/// A kind of file system: how it is made, how large, and what its mounts need.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    megabytes: u64,
    options: &'static str,
    /// What the mount of a copy beside the original needs.
    beside: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "ext4",
        make: &["mkfs.ext4", "-q", "-F"],
        megabytes: 64,
        // The journal is written every second.
        options: ",commit=1",
        beside: "",
    },
    Kind {
        name: "xfs",
        make: &["mkfs.xfs", "-q", "-f"],
        megabytes: 320,
        options: "",
        beside: ",nouuid",
    },
    Kind {
        name: "btrfs",
        make: &["mkfs.btrfs", "-q", "-f"],
        megabytes: 160,
        options: ",commit=1",
        beside: "",
    },
];

/// What the program has confirmed, while it works.
#[derive(Default)]
struct Confirmed {
    promised: Promised,
    latest: Tree,
    commands: usize,
}

/// Takes, forgets and prunes until it is told to stop.
fn work(sandbox: &Sandbox, confirmed: &Mutex<Confirmed>, stop: &AtomicBool) {
    let mut random = Random::new(5);
    let mut tree: Tree = (0..6).map(|file| (format!("f{file}"), file)).collect();
    while !stop.load(Ordering::Relaxed) {
        let at = random.index(tree.len());
        tree.insert(format!("f{at}"), random.below(1000));
        aftermath::write(sandbox, "source", &tree);
        let line = command(sandbox, &["snapshot", "source"]).json_lines().remove(0);
        let id: SnapshotId = line["snapshot"]["id"].as_str().unwrap().parse().unwrap();
        let mut now = confirmed.lock().unwrap();
        now.promised.kept.insert(id, tree.clone());
        now.latest = tree.clone();
        let ids: Vec<SnapshotId> = now.promised.kept.keys().copied().collect();
        let victim = (ids.len() > 3).then(|| ids[random.index(ids.len())]);
        if let Some(victim) = victim {
            now.promised.kept.remove(&victim);
        }
        drop(now);
        if let Some(victim) = victim {
            command(sandbox, &["forget", &victim.to_string(), "--force"]);
            confirmed.lock().unwrap().promised.gone.insert(victim);
            command(sandbox, &["prune", "--max-unused", "0%"]);
        }
        confirmed.lock().unwrap().commands += 1;
    }
}

fn command(sandbox: &Sandbox, args: &[&str]) -> super::support::Done {
    on_disk(sandbox.gabion([&["--json", "--threads", "2"], args].concat()), sandbox).run().success()
}

/// With repository and cache on the disk that loses its power.
fn on_disk(run: super::support::Run, sandbox: &Sandbox) -> super::support::Run {
    run.env("GABION_REPOSITORY", sandbox.path("disk/repository"))
        .env("GABION_CACHE_DIR", sandbox.path("disk/cache"))
}

/// Cuts the power, and goes on with what is left.
fn cut(
    sandbox: &Sandbox,
    disks: &mut Disks,
    kind: &Kind,
    confirmed: &Mutex<Confirmed>,
) -> Result<(), String> {
    let copy = sandbox.path("host/cut");
    let mut promised = confirmed.lock().unwrap().promised.clone();
    let mut cp = Command::new("cp");
    cp.arg("--reflink=always").arg(sandbox.path("host/disk")).arg(&copy);
    let cloned = cp.output().unwrap();
    assert!(cloned.status.success(), "cloning the image: {cloned:?}");
    let now = confirmed.lock().unwrap();
    // Of what somebody has begun to forget meanwhile nothing is known.
    promised.kept.retain(|id, _| now.promised.kept.contains_key(id));
    let tree = now.latest.clone();
    drop(now);
    let at = sandbox.path("cut");
    let options = format!("{}{}", kind.options, kind.beside);
    if !disks.mount(&copy, &at, &options) {
        return Err("the copy cannot be mounted".to_owned());
    }
    let folder = scratch();
    let (source, rest) = (folder.path().join("source"), folder.path().join("scratch"));
    std::fs::create_dir(&source).unwrap();
    std::fs::create_dir(&rest).unwrap();
    for (name, seed) in &tree {
        let bytes = super::small::noise(aftermath::FILE, *seed);
        #[expect(clippy::disallowed_methods, reason = "makes test data")]
        std::fs::write(source.join(name), bytes).unwrap();
    }
    let aftermath = Aftermath {
        repository: &at.join("repository"),
        unlock: &Unlock::Nothing,
        cache: Some(&at.join("cache")),
        source: &source,
        tree: &tree,
        scratch: &rest,
        has_ended: |_| true,
        unfinished: None,
    };
    let result = aftermath.go_on(&promised);
    disks.unmount();
    #[expect(clippy::disallowed_methods, reason = "an image, no object")]
    std::fs::remove_file(copy).unwrap();
    result
}

/// Tells the worker to stop, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn cuts(kind: &Kind, wanted: usize) {
    let sandbox = Sandbox::new();
    let mut disks = Disks { mounted: Vec::new() };
    let host = ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"];
    let ready = private_mounts()
        && image(&sandbox.path("image"), 1024, &host)
        && disks.mount(&sandbox.path("image"), &sandbox.path("host"), "")
        && image(&sandbox.path("host/disk"), kind.megabytes, kind.make)
        && disks.mount(&sandbox.path("host/disk"), &sandbox.path("disk"), kind.options);
    if !ready {
        not_run(&format!("no {} in a file on xfs can be mounted here", kind.name));
        return;
    }
    on_disk(sandbox.gabion(["init", "--plaintext", "--quiet"]), &sandbox).run().success();
    let (confirmed, stop) = (Mutex::new(Confirmed::default()), AtomicBool::new(false));
    let mut losses = Vec::new();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&sandbox, &confirmed, &stop));
        let _stop = StopAtEnd(&stop);
        let mut random = Random::new(kind.megabytes);
        for number in 0..wanted {
            // The moment is what is random here; nothing is awaited.
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
            while confirmed.lock().unwrap().commands == 0 && !worker.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            if let Err(loss) = cut(&sandbox, &mut disks, kind, &confirmed) {
                losses.push(format!("cut {number}: {loss}"));
            }
        }
    });
    let rounds = confirmed.into_inner().unwrap().commands;
    let counts = format!("{wanted} cuts, {rounds} snapshots");
    report(&format!("power cuts, {}", kind.name), &counts, losses.len());
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}

#[test]
fn when_the_power_is_cut_all_that_was_confirmed_is_on_the_disk() {
    let wanted = scale("GABION_POWER_CUTS", 2);
    for kind in &KINDS {
        cuts(kind, wanted);
    }
}
