//! Tests with the real kernel, as the superuser; others skip them.

#![expect(clippy::disallowed_methods, reason = "makes test data")]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;
use crate::id::{RepositoryId, SnapshotId};

#[path = "ways_tests.rs"]
mod ways;

/// Changes something below the source, given what is where.
type Apply<'a> = &'a dyn Fn(&dyn Fn(&str) -> PathBuf);

const REPOSITORY: RepositoryId = RepositoryId([3; 16]);

/// A file system of its own, seen by this thread and what it starts, so that nothing that happens
/// elsewhere on the machine counts. It ends with this value.
pub(super) struct OwnFileSystem(PathBuf);

impl OwnFileSystem {
    /// Mounts it; nothing where that is not permitted.
    #[expect(unsafe_code, reason = "no safe wrapper of these calls is used here")]
    pub(super) fn at(directory: &Path) -> Option<Self> {
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

/// A process that watches, here a thread.
struct Watching {
    /// Ends before its directory is removed.
    own: Option<OwnFileSystem>,
    folder: tempfile::TempDir,
    interrupted: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<(), WatchError>>>,
    count: std::cell::Cell<u8>,
}

impl Watching {
    /// Nothing where that is not permitted.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFileSystem::at(folder.path());
        fs::create_dir(folder.path().join("source")).unwrap();
        let interrupted = Arc::new(AtomicBool::new(false));
        let options = ServeOptions {
            paths: vec![folder.path().join("source")],
            socket: folder.path().join("run/socket"),
            interrupted: Arc::clone(&interrupted),
        };
        let (tell, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || serve(&options, move |_| tell.send(()).unwrap()));
        if ready.recv().is_err() {
            let error = thread.join().unwrap().unwrap_err();
            assert!(!rustix::process::geteuid().is_root(), "{error:?}");
            return None;
        }
        let count = std::cell::Cell::new(0);
        Some(Self { own, folder, interrupted, thread: Some(thread), count })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("source").join(name)
    }

    fn begin(&self) -> Begun {
        let sources = [self.folder.path().join("source")];
        begin(&self.folder.path().join("run/socket"), REPOSITORY, &sources, false).unwrap()
    }

    fn confirm(&self, begun: &Begun) -> SnapshotId {
        self.count.set(self.count.get() + 1);
        let id = SnapshotId([self.count.get(); 16]);
        begun.confirm(id).unwrap();
        id
    }

    /// Waits until nothing is told any more: a process that another test starts at this moment has
    /// all files of this one for an instant, and its end of them is an event.
    fn becomes_quiet(&self) {
        for _ in 0..500 {
            if self.told(|_| {}).is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("something is told again and again");
    }

    /// What is told of what `change` does, below the source.
    fn told(&self, change: impl FnOnce(&dyn Fn(&str) -> PathBuf)) -> Vec<String> {
        let parent = self.confirm(&self.begin());
        change(&|name| self.path(name));
        let paths = self.begin().changes(parent).unwrap();
        let below = |path: &PathBuf| {
            path.strip_prefix(self.folder.path().join("source")).unwrap().display().to_string()
        };
        paths.iter().map(below).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.interrupted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
        drop(self.own.take());
    }
}

#[test]
fn every_kind_of_change_is_told_and_nothing_else() {
    let Some(watching) = Watching::new() else { return };
    let told = |change: Apply<'_>| watching.told(change);
    fs::create_dir_all(watching.path("d/e")).unwrap();
    fs::write(watching.path("d/f"), "f").unwrap();
    assert_eq!(told(&|_| {}), [""; 0]);
    assert_eq!(told(&|at| drop(fs::read(at("d/f")).unwrap())), [""; 0]);
    assert_eq!(told(&|at| fs::write(at("d/f"), "other").unwrap()), ["d/f"]);
    assert_eq!(told(&|at| fs::write(at("d/new"), "").unwrap()), ["d/new"]);
    assert_eq!(told(&|at| fs::create_dir(at("d/new folder")).unwrap()), ["d/new folder"]);
    assert_eq!(told(&|at| fs::remove_file(at("d/new")).unwrap()), ["d/new"]);
    assert_eq!(told(&|at| fs::rename(at("d/f"), at("g")).unwrap()), ["d/f", "g"]);
    assert_eq!(told(&|at| fs::rename(at("d/e"), at("e")).unwrap()), ["d/e", "e"]);
    let linked = told(&|at| fs::hard_link(at("g"), at("e/h")).unwrap());
    assert!(linked.contains(&"e/h".to_owned()), "{linked:?}");
    assert_eq!(told(&|at| fs::remove_file(at("g")).unwrap()), ["e/h", "g"]);
    assert_eq!(told(&|at| fs::rename(at("e/h"), at("g")).unwrap()), ["e/h", "g"]);
    assert!(told(&|at| fs::hard_link(at("g"), at("e/h")).unwrap()).contains(&"e/h".to_owned()));
    assert_eq!(told(&|at| std::os::unix::fs::symlink("x", at("l")).unwrap()), ["l"]);
    let mode = |path: PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    assert_eq!(told(&|at| mode(at("g")).unwrap()), ["g"]);
    assert_eq!(told(&|at| mode(at("d")).unwrap()), ["d"]);
    assert_eq!(told(&|at| mode(at("")).unwrap()), [""]);
    let shorter = |at: &dyn Fn(&str) -> PathBuf| {
        fs::File::options().write(true).open(at("g")).unwrap().set_len(1).unwrap();
    };
    assert_eq!(told(&shorter), ["g"]);
    let moved_with_a_change = |at: &dyn Fn(&str) -> PathBuf| {
        fs::write(at("e/h"), "changed first").unwrap();
        fs::rename(at("e"), at("d/e")).unwrap();
        fs::rename(at("d"), at("D")).unwrap();
    };
    assert_eq!(told(&moved_with_a_change), ["D", "D/e", "D/e/h", "d", "e"]);
    let gone = |at: &dyn Fn(&str) -> PathBuf| {
        fs::write(at("D/e/h"), "x").unwrap();
        fs::remove_dir_all(at("D")).unwrap();
    };
    // The file has another name still.
    assert_eq!(told(&gone), ["D", "g"]);
    let outside = |_: &dyn Fn(&str) -> PathBuf| {
        fs::write(watching.folder.path().join("beside"), "x").unwrap();
    };
    assert_eq!(told(&outside), [""; 0]);
}

#[test]
fn a_file_that_is_mapped_for_writing_counts_as_changed() {
    let Some(watching) = Watching::new() else { return };
    fs::write(watching.path("mapped"), [0; 4096]).unwrap();
    let file = fs::File::options().read(true).write(true).open(watching.path("mapped")).unwrap();
    #[expect(unsafe_code, reason = "memory maps need it")]
    // SAFETY: nobody else changes the file.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    drop(file);
    assert_eq!(watching.told(|_| map[7] = 7), ["mapped"]);
    assert_eq!(watching.told(|_| {}), ["mapped"]);
    // The other name is looked at when the file turns out to have changed.
    fs::hard_link(watching.path("mapped"), watching.path("twice")).unwrap();
    let told = watching.told(|_| map[8] = 8);
    assert!(told == ["mapped"] || told == ["twice"], "{told:?}");
    // Where no name is found in the source, one might be there.
    for name in ["mapped", "twice"] {
        fs::rename(watching.path(name), watching.folder.path().join(name)).unwrap();
    }
    let parent = watching.confirm(&watching.begin());
    let why = watching.begin().changes(parent).unwrap_err();
    assert!(why.contains("is open for writing under a name"), "{why}");
    fs::remove_file(watching.folder.path().join("twice")).unwrap();
    drop(map);
    watching.told(|_| {});
    watching.becomes_quiet();
}

#[test]
fn a_file_that_is_open_for_writing_counts_as_changed() {
    let Some(watching) = Watching::new() else { return };
    for name in ["read", "written", "moved"] {
        fs::write(watching.path(name), "text").unwrap();
    }
    let _read = fs::File::open(watching.path("read")).unwrap();
    let written = fs::File::options().write(true).open(watching.path("written")).unwrap();
    let moved = fs::File::options().append(true).open(watching.path("moved")).unwrap();
    let beside = fs::File::create(watching.folder.path().join("beside")).unwrap();
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), ["moved", "written"]);
    fs::rename(watching.path("moved"), watching.path("elsewhere")).unwrap();
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), ["elsewhere", "written"]);
    // Closing it is an event, and the last one.
    assert_eq!(watching.told(move |_| drop((written, moved))), ["elsewhere", "written"]);
    watching.becomes_quiet();
    drop(beside);
}

#[test]
fn an_open_file_that_only_one_thread_has_counts_as_changed() {
    let Some(watching) = Watching::new() else { return };
    fs::write(watching.path("file"), "text").unwrap();
    let (path, (opened, wait)) = (watching.path("file"), mpsc::channel::<()>());
    let (tell, ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        #[expect(unsafe_code, reason = "a table of files of its own")]
        // SAFETY: the thread uses no file that another one opens or closes.
        let failed = unsafe { libc::unshare(libc::CLONE_FILES) };
        assert_eq!(failed, 0);
        let file = fs::File::options().write(true).open(path).unwrap();
        tell.send(()).unwrap();
        let _ = wait.recv();
        drop(file);
    });
    ready.recv().unwrap();
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), ["file"]);
    drop(opened);
    thread.join().unwrap();
    watching.told(|_| {});
    watching.becomes_quiet();
}

#[test]
fn nobody_else_can_ask_from_the_first_moment_on() {
    let Some(watching) = Watching::new() else { return };
    let socket = watching.folder.path().join("run/socket");
    let rights = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(rights(&socket), 0o600);
    assert_eq!(rights(&watching.folder.path().join("run/socket.lock")), 0o600);
    // Another one that begins at the same time neither listens nor removes the socket.
    fs::remove_file(&socket).unwrap();
    let paths = vec![watching.path("")];
    let again = ServeOptions { paths, socket: socket.clone(), interrupted: Arc::default() };
    assert!(matches!(serve(&again, |_| {}), Err(WatchError::Taken(_))));
    assert!(!socket.exists());
}

#[test]
fn without_proof_nothing_is_known() {
    let Some(watching) = Watching::new() else { return };
    let known = |id: SnapshotId| watching.begin().changes(id);
    let why = known(SnapshotId([9; 16])).unwrap_err();
    assert!(why.contains("has not seen the parent"), "{why}");
    let first = watching.confirm(&watching.begin());
    assert_eq!(known(first), Ok(Vec::new()));

    // A run that was killed, and one that is confirmed late.
    drop(watching.begin());
    let slow = watching.begin();
    fs::write(watching.path("late"), "").unwrap();
    let slow = watching.confirm(&slow);
    assert_eq!(known(slow), Ok(vec![watching.path("late")]));
    assert!(known(first).is_err());

    let socket = watching.folder.path().join("run/socket");
    let again = ServeOptions {
        paths: vec![watching.path("")],
        socket: socket.clone(),
        interrupted: Arc::default(),
    };
    assert!(matches!(serve(&again, |_| {}), Err(WatchError::Taken(_))));
    let begun = watching.begin();
    drop(watching);
    assert!(begun.changes(slow).is_err());
    assert!(begun.confirm(slow).is_err());
    assert!(!socket.exists());
    assert!(begin(&socket, REPOSITORY, &[], false).is_err());
}

#[test]
fn what_is_not_all_told_is_not_watched() {
    let refused = |path: &str| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let paths = vec![path.into()];
        serve(&ServeOptions { paths, socket, interrupted: Arc::default() }, |_| {}).unwrap_err()
    };
    if rustix::process::geteuid().is_root() && Path::new("/proc/self").exists() {
        assert!(matches!(refused("/proc/self"), WatchError::NotLocal { .. }));
    }
    assert!(matches!(refused("/nowhere"), WatchError::Io { .. }));
}
