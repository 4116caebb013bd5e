//! Each way in which a file changes, tried with the real kernel: with an event, or found otherwise.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::fd::AsRawFd as _;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};

use super::*;

type Way = (&'static str, fn(&Path));

/// Changes of a file that nobody has open for writing.
const BY_PATH: [Way; 9] = [
    ("truncate", |path| {
        drop(fs::File::options().write(true).truncate(true).open(path).unwrap());
    }),
    ("add an attribute", |path| {
        rustix::fs::setxattr(path, "trusted.x", b"1", XattrFlags::empty()).unwrap();
    }),
    ("remove an attribute", |path| rustix::fs::removexattr(path, "trusted.x").unwrap()),
    ("times", |path| {
        let time = Timespec { tv_sec: 5, tv_nsec: 6 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }),
    ("owner", |path| std::os::unix::fs::chown(path, Some(7), Some(8)).unwrap()),
    ("exchange", |path| {
        let other = path.with_file_name("other");
        rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    }),
    ("write by another name", |path| {
        let other = path.parent().unwrap().with_file_name("beside");
        fs::hard_link(path, &other).unwrap();
        fs::write(&other, "written by another name").unwrap();
        fs::remove_file(&other).unwrap();
    }),
    ("replace by a file that had no name", |path| {
        fs::remove_file(path).unwrap();
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(path.parent().unwrap(), flags, mode).unwrap();
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW).unwrap();
    }),
    ("replace by a pipe", |path| {
        fs::remove_file(path).unwrap();
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }),
];

#[test]
fn each_change_by_path_is_told() {
    let Some(watching) = Watching::new() else { return };
    for name in ["file", "other"] {
        fs::write(watching.path(name), "text").unwrap();
    }
    for (way, change) in BY_PATH {
        let told = watching.told(|at| change(&at("file")));
        assert!(told.contains(&"file".to_owned()), "{way}: {told:?}");
        watching.becomes_quiet();
    }
}

#[test]
fn what_was_written_through_a_mapping_counts_until_the_file_is_closed() {
    let Some(watching) = Watching::new() else { return };
    fs::write(watching.path("file"), [0; 4096]).unwrap();
    let open = || fs::File::options().read(true).write(true).open(watching.path("file")).unwrap();
    #[expect(unsafe_code, reason = "memory maps need it")]
    // SAFETY: nobody else changes the file.
    let map = |file: &fs::File| unsafe { memmap2::MmapMut::map_mut(file).unwrap() };
    // The mapping ends and the file stays open.
    let file = open();
    let mut mapped = map(&file);
    watching.told(|_| {});
    mapped[0] = 1;
    drop(mapped);
    assert_eq!(watching.told(|_| {}), ["file"]);
    assert_eq!(watching.told(|_| drop(file)), ["file"]);
    // The file is closed, and the mapping may no longer be written to.
    let mut mapped = map(&open());
    watching.told(|_| {});
    mapped[0] = 2;
    let read_only = mapped.make_read_only().unwrap();
    assert_eq!(watching.told(|_| {}), ["file"]);
    assert_eq!(watching.told(|_| {}), ["file"]);
    assert_eq!(watching.told(|_| drop(read_only)), ["file"]);
    watching.becomes_quiet();
}

/// A shell that has something mounted or attached until this value ends.
struct Holder(Child);

impl Holder {
    /// Nothing where the machine does not permit it. What the script does ends with `undo`.
    fn start(directory: &Path, script: &str, undo: &str) -> Option<Self> {
        let script = format!("set -e; {script}; echo ready; trap '{undo}' EXIT; read line || true");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).current_dir(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let holder = Self(child);
        (line == "ready\n").then_some(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_behind_a_loop_device_counts_as_changed() {
    let Some(watching) = Watching::new() else { return };
    // The kernel adds this to what has no name any more.
    let name = "disk (deleted)";
    fs::write(watching.path(name), vec![0; 1 << 20]).unwrap();
    let attach = format!("device=$(losetup --find --show '{name}')");
    let undo = "losetup -d $device";
    let Some(holder) = Holder::start(&watching.path(""), &attach, undo) else { return };
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), [name]);
    fs::rename(watching.path(name), watching.path("disk")).unwrap();
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), ["disk"]);
    drop(holder);
    watching.told(|_| {});
    watching.becomes_quiet();
}

#[test]
fn the_upper_directory_of_an_overlay_counts_as_changed() {
    let Some(watching) = Watching::new() else { return };
    for name in ["lower", "upper", "merged"] {
        fs::create_dir(watching.path(name)).unwrap();
    }
    fs::create_dir(watching.folder.path().join("work")).unwrap();
    let before = unseen::overlays().unwrap();
    let options = "lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/../work";
    let mount = format!("mount -t overlay none -o {options} merged");
    let Some(holder) = Holder::start(&watching.path(""), &mount, "umount merged") else { return };
    watching.told(|_| {});
    assert_eq!(watching.told(|_| {}), ["upper"], "it is mounted in another mount namespace");
    assert_ne!(unseen::overlays().unwrap(), before);
    drop(holder);
    watching.told(|_| {});
    watching.becomes_quiet();
}

#[test]
fn a_change_by_a_name_outside_of_the_source_is_not_missed() {
    let Some(watching) = Watching::new() else { return };
    let outside = |name: &str| watching.folder.path().join(name);
    fs::write(watching.path("file"), "text").unwrap();
    fs::hard_link(watching.path("file"), outside("linked")).unwrap();
    watching.told(|_| {});
    let parent = watching.confirm(&watching.begin());
    fs::write(outside("linked"), "changed by its other name").unwrap();
    let why = watching.begin().changes(parent).unwrap_err();
    assert!(why.contains("linked changed, and has another name"), "{why}");
    // All names of a new file are reported.
    let parent = watching.confirm(&watching.begin());
    fs::write(outside("new"), "new").unwrap();
    fs::hard_link(outside("new"), outside("newer")).unwrap();
    assert_eq!(watching.begin().changes(parent), Ok(Vec::new()));
    let parent = watching.confirm(&watching.begin());
    fs::write(outside("third"), "new").unwrap();
    fs::hard_link(outside("third"), watching.path("fourth")).unwrap();
    assert_eq!(watching.begin().changes(parent), Ok(vec![watching.path("fourth")]));
    // The other name goes after the change.
    let parent = watching.confirm(&watching.begin());
    fs::write(outside("linked"), "changed again").unwrap();
    fs::remove_file(outside("linked")).unwrap();
    assert_eq!(watching.begin().changes(parent), Ok(vec![watching.path("file")]));
}
