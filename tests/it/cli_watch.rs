//! Snapshots that are told by `gabion watch` what changed, with the real kernel; skipped where that
//! is not permitted.

#![expect(clippy::disallowed_methods, reason = "changes sources by hand")]

use std::ffi::CString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::support::Sandbox;
use crate::aftermath::not_run;

/// The process that watches; it ends with this value.
struct Watcher(Child);

impl Watcher {
    /// Watches the source of `sandbox`; nothing where that is not permitted.
    fn start(sandbox: &Sandbox) -> Option<Self> {
        let mut command =
            sandbox.gabion(["watch", "src"]).env("GABION_WATCH_SOCKET", socket(sandbox)).command();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.starts_with("note: watching ") {
            return Some(Self(child));
        }
        child.wait().unwrap();
        assert!(!rustix::process::geteuid().is_root() || line.contains("(type "), "{line}");
        not_run(&format!("watching is not possible here: {}", line.trim()));
        None
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file system of its own, seen by this thread and what it starts, so that nothing that happens
/// elsewhere on the machine counts. It ends with this value.
struct OwnFileSystem(PathBuf);

impl OwnFileSystem {
    /// Mounts it; nothing where that is not permitted.
    #[expect(unsafe_code, reason = "no safe wrapper of these calls is used here")]
    fn at(directory: &Path) -> Option<Self> {
        let at = CString::new(directory.as_os_str().as_bytes()).unwrap();
        let (none, no_data) = (c"none".as_ptr(), std::ptr::null());
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: all texts end with a zero byte and live until the calls return.
        let is_mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, c"/".as_ptr(), std::ptr::null(), private, no_data) == 0
                && libc::mount(none, at.as_ptr(), c"tmpfs".as_ptr(), 0, no_data) == 0
        };
        is_mounted.then(|| Self(directory.to_owned()))
    }
}

impl Drop for OwnFileSystem {
    #[expect(unsafe_code, reason = "no safe wrapper of this call is used here")]
    fn drop(&mut self) {
        let at = CString::new(self.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: the text ends with a zero byte and lives until the call returns.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

fn socket(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("run/watch.sock")
}

fn take(sandbox: &Sandbox, args: &[&str]) -> serde_json::Value {
    let args = ["snapshot", "src", "--json"].iter().chain(args);
    let run = sandbox.gabion(args).env("GABION_WATCH_SOCKET", socket(sandbox));
    run.run().success().json_lines().pop().unwrap()
}

fn watched(sandbox: &Sandbox) -> serde_json::Value {
    take(sandbox, &["--watched"])
}

fn why(summary: &serde_json::Value) -> &str {
    summary["full-scan-because"].as_str().unwrap_or("")
}

fn assert_is_as_live(sandbox: &Sandbox) {
    let different = sandbox.gabion(["diff", "latest", "./src"]).run().success();
    assert_eq!(different.stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n");
}

/// A repository, and a source of 10 folders with 10 files each, on a file system of its own.
fn with_source() -> (Sandbox, Option<OwnFileSystem>) {
    let sandbox = Sandbox::with_repository();
    fs::create_dir(sandbox.path("src")).unwrap();
    let own = OwnFileSystem::at(&sandbox.path("src"));
    for number in 0..100 {
        sandbox.write(format!("src/d{}/f{}", number % 10, number / 10), format!("{number}"));
    }
    // What changed directly before a snapshot is read again by the next one.
    std::thread::sleep(std::time::Duration::from_millis(50));
    (sandbox, own)
}

#[test]
fn a_watched_snapshot_looks_only_at_what_changed() {
    let (sandbox, _own) = with_source();
    assert!(why(&watched(&sandbox)).contains("there is no earlier snapshot"));
    assert!(why(&watched(&sandbox)).contains("talk to `gabion watch`"));
    let Some(watcher) = Watcher::start(&sandbox) else { return };
    assert!(why(&watched(&sandbox)).contains("has not seen the parent"));
    let unchanged = watched(&sandbox);
    assert_eq!(why(&unchanged), "");
    assert!(unchanged["unseen-entries"].as_u64().unwrap() > 100, "{unchanged}");
    sandbox.write("src/d3/f3", "changed");
    fs::rename(sandbox.path("src/d4"), sandbox.path("src/d5/inner")).unwrap();
    let changed = watched(&sandbox);
    assert_eq!(why(&changed), "");
    assert!(changed["unseen-entries"].as_u64().unwrap() > 50, "{changed}");
    assert_is_as_live(&sandbox);

    // A snapshot that does not ask is not known; one that looks at everything and asks is.
    take(&sandbox, &[]);
    assert!(why(&watched(&sandbox)).contains("has not seen the parent"));
    take(&sandbox, &["--watched", "--full-scan"]);
    assert_eq!(why(&watched(&sandbox)), "");

    let status = sandbox.gabion(["watch", "--status"]);
    let status = status.env("GABION_WATCH_SOCKET", socket(&sandbox)).run().success();
    assert!(status.stdout().contains("/src; "), "{}", status.stdout());
    let another = sandbox.gabion(["watch", "src"]);
    another.env("GABION_WATCH_SOCKET", socket(&sandbox)).run().code(1).says("watches already");

    // Killed, it leaves its socket; whoever comes next knows nothing of what was before.
    drop(watcher);
    sandbox.write("src/d3/f3", "changed while nobody watched");
    let Some(_watcher) = Watcher::start(&sandbox) else { panic!("it was possible before") };
    assert!(why(&watched(&sandbox)).contains("has not seen the parent"));
    assert_is_as_live(&sandbox);
    assert_eq!(why(&watched(&sandbox)), "");
}

#[test]
fn a_job_asks_what_changed() {
    let (sandbox, _own) = with_source();
    let Some(_watcher) = Watcher::start(&sandbox) else { return };
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let text = format!(
        "[repository]\nurl = \"{top}/repository\"\n[job.j]\npaths = [\"{top}/src\"]\nwatched = true\n"
    );
    sandbox.write("home/.config/gabion/gabion.toml", text);
    let run = || {
        let run = sandbox.gabion(["run", "j", "--json"]).env_remove("GABION_REPOSITORY");
        run.env("GABION_WATCH_SOCKET", socket(&sandbox)).run().success().json_lines().pop().unwrap()
    };
    run();
    sandbox.write("src/d3/new", "new");
    let second = run();
    assert_eq!(why(&second), "");
    assert_eq!(second["new-entries"], 1, "{second}");
    assert!(second["unseen-entries"].as_u64().unwrap() > 50, "{second}");
    assert_is_as_live(&sandbox);
}

#[test]
fn what_is_mounted_in_the_source_is_no_secret() {
    let (sandbox, _own) = with_source();
    let possible = sandbox.shell("unshare -m true").run();
    if !rustix::process::geteuid().is_root() || !possible.ended_well() {
        not_run("nothing can be mounted here");
        return;
    }
    let Some(_watcher) = Watcher::start(&sandbox) else { return };
    watched(&sandbox);
    let within = |mounts: &str| {
        let script = format!("{mounts}; $GABION snapshot src --json --watched");
        let shell = sandbox.shell(&format!("exec unshare -m sh -ec '{script}'"));
        shell
            .env("GABION_WATCH_SOCKET", socket(&sandbox))
            .run()
            .success()
            .json_lines()
            .pop()
            .unwrap()
    };
    let other = within("mount -t tmpfs none src/d1; echo inner >src/d1/inner");
    assert!(why(&other).contains("does not watch the file system at"), "{other}");
    let bare = watched(&sandbox);
    assert!(why(&bare).contains("has not seen the parent"), "{bare}");
    let bound = within("mount --bind src/d1 src/d2");
    assert!(why(&bound).contains("other file systems are mounted"), "{bound}");
    watched(&sandbox);
    assert_is_as_live(&sandbox);
}

/// Writes with `io_submit(2)`, of which the kernel tells nothing while the file is open.
#[expect(unsafe_code, reason = "no safe wrapper of these calls is used here")]
fn write_asynchronously(file: &fs::File, offset: i64, bytes: &[u8]) {
    /// `struct iocb`.
    #[repr(C)]
    #[derive(Default)]
    struct Request {
        data: u64,
        key: u32,
        rw_flags: u32,
        opcode: u16,
        priority: i16,
        file: u32,
        buffer: u64,
        len: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        event_file: u32,
    }
    /// `IOCB_CMD_PWRITE`.
    const WRITE: u16 = 1;
    let mut request = Request {
        opcode: WRITE,
        file: u32::try_from(file.as_raw_fd()).unwrap(),
        buffer: bytes.as_ptr() as u64,
        len: bytes.len() as u64,
        offset,
        ..Request::default()
    };
    let (mut context, mut event, mut requests) = (0_u64, [0_u64; 4], [&raw mut request]);
    // SAFETY: the context is made and ended here; what it points to lives until the event has come.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_io_setup, 1, &raw mut context), 0);
        let requests = requests.as_mut_ptr();
        assert_eq!(libc::syscall(libc::SYS_io_submit, context, 1, requests), 1);
        let no_limit = std::ptr::null::<libc::timespec>();
        let event = event.as_mut_ptr();
        assert_eq!(libc::syscall(libc::SYS_io_getevents, context, 1, 1, event, no_limit), 1);
        assert_eq!(libc::syscall(libc::SYS_io_destroy, context), 0);
    }
    assert_eq!(event[2], bytes.len() as u64, "what the write gave");
}

#[test]
fn watched_and_asynchronous_writes() {
    let (sandbox, _own) = with_source();
    sandbox.write("src/d1/disk", vec![0; 65536]);
    let Some(_watcher) = Watcher::start(&sandbox) else { return };
    let path = sandbox.path("src/d1/disk");
    let disk = fs::File::options().read(true).write(true).open(&path).unwrap();
    let is_stored = || {
        let file = format!("latest:{}", path.display());
        let stored = sandbox.gabion(["cat", &file]).run().success().stdout_bytes().to_vec();
        assert!(stored == fs::read(&path).unwrap(), "the snapshot has an older state");
    };
    watched(&sandbox);
    watched(&sandbox);
    for round in 0..3_i64 {
        // Past the moment in which a change may have the time of the snapshot before.
        std::thread::sleep(std::time::Duration::from_millis(50));
        write_asynchronously(&disk, 8192 * round, b"written by the kernel");
        let summary = watched(&sandbox);
        assert_eq!(why(&summary), "");
        assert!(summary["unseen-entries"].as_u64().unwrap() > 50, "{summary}");
        is_stored();
    }
    // The last write is followed by the end of the process, or the file.
    std::thread::sleep(std::time::Duration::from_millis(50));
    write_asynchronously(&disk, 100, b"and closed");
    drop(disk);
    assert_eq!(why(&watched(&sandbox)), "");
    is_stored();
}

/// A generator of numbers; `MINSTD`, which is enough to choose by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        usize::try_from(self.0).unwrap() % limit
    }
}

fn all(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.symlink_metadata().unwrap().is_dir() {
            all(&path, found);
        }
    }
}

/// Changes something in the source.
fn change(source: &Path, random: &mut Random, number: usize) {
    let mut there = vec![source.to_owned()];
    all(source, &mut there);
    there.sort();
    let one = there[random.below(there.len())].clone();
    let other = &there[random.below(there.len())];
    let other = if other.is_dir() { other.clone() } else { other.parent().unwrap().to_owned() };
    let new = other.join(format!("n{number}"));
    match random.below(8) {
        0 | 1 if one.is_file() => fs::write(&one, format!("changed {number}")).unwrap(),
        2 => fs::write(new, format!("new {number}")).unwrap(),
        3 => fs::create_dir(new).unwrap(),
        4 if one != source => drop(fs::rename(&one, new)),
        5 if one.is_file() => fs::remove_file(&one).unwrap(),
        5 if one != source && there.len() > 60 => fs::remove_dir_all(&one).unwrap(),
        6 if one.is_file() => fs::hard_link(&one, new).unwrap(),
        7 => {
            let mode = if number.is_multiple_of(2) { 0o755 } else { 0o700 };
            fs::set_permissions(&one, fs::Permissions::from_mode(mode)).unwrap();
        }
        _ => {}
    }
}

#[test]
fn whatever_changes_a_watched_snapshot_is_what_is_there() {
    let (sandbox, _own) = with_source();
    let Some(_watcher) = Watcher::start(&sandbox) else { return };
    watched(&sandbox);
    let (mut random, mut told) = (Random(4711), 0);
    for round in 0..25 {
        for step in 0..random.below(12) {
            change(&sandbox.path("src"), &mut random, round * 100 + step);
        }
        let summary = watched(&sandbox);
        // Where names of a hard-linked file were not all told, everything is looked at.
        assert!(matches!(why(&summary), "") || why(&summary).contains("hard links"), "{summary}");
        told += usize::from(why(&summary).is_empty());
        assert_is_as_live(&sandbox);
    }
    assert!(told > 5, "{told}");
}
