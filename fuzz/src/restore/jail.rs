//! A folder to restore into, and beside it what must not change.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gabion::target::TargetFolder;

/// What lies outside of the target, made once for the process.
struct Outside {
    base: PathBuf,
    /// How it was at first.
    looks: Vec<String>,
}

static OUTSIDE: LazyLock<Outside> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let places = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    remove_leftovers(&places);
    let base = places.join(format!("{PREFIX}{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    fs::create_dir_all(base.join("outside/folder")).expect("room for a few files");
    fs::write(base.join("outside/secret"), b"nobody writes here").expect("a file");
    fs::write(base.join("outside/folder/file"), b"nor here").expect("a file");
    symlink("secret", base.join("outside/link")).expect("a link");
    let looks = looks(&base);
    Outside { base, looks }
});

const PREFIX: &str = "gabion-fuzz-restore-";

/// A fuzzer ends without a chance to tidy up: whoever comes next does it.
fn remove_leftovers(places: &Path) {
    let found = fs::read_dir(places).expect("a folder for temporary files");
    for item in found.flatten() {
        let name = item.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = fs::remove_dir_all(item.path());
        }
    }
}

/// Everything in `base` but the target: names, kinds, rights, times and contents, sorted.
fn looks(base: &Path) -> Vec<String> {
    let mut looks = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).expect("it can be read").flatten() {
            let path = item.path();
            if path == base.join("target") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let content = if meta.is_file() { fs::read(&path).ok() } else { None };
            looks.push(format!(
                "{} {:o} {} {} {} {} {}.{} {}.{} {content:?}",
                path.display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.nlink(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    let meta = fs::symlink_metadata(base).expect("it is there");
    looks.push(format!("{:o} {} {}", meta.mode(), meta.uid(), meta.gid()));
    looks.sort();
    looks
}

/// The target of one restore; removed when it is dropped.
pub(super) struct Jail(&'static Outside);

impl Jail {
    /// An empty target, or one that somebody planted links in.
    pub(super) fn new(planted: bool) -> Self {
        let jail = Self(&OUTSIDE);
        let target = jail.target();
        fs::create_dir(&target).expect("a folder for the restore");
        if planted {
            symlink("../outside", target.join("a")).expect("a link");
            symlink(jail.0.base.join("outside/secret"), target.join("b")).expect("a link");
            fs::create_dir(target.join("c")).expect("a folder");
            symlink("../../outside/folder", target.join("c/a")).expect("a link");
            symlink("../../new", target.join("c/b")).expect("a link");
            fs::write(target.join("secret"), b"in the way").expect("a file");
        }
        jail
    }

    pub(super) fn target(&self) -> PathBuf {
        self.0.base.join("target")
    }

    /// The path of a folder outside, for links.
    pub(super) fn outside(&self) -> Vec<u8> {
        self.0.base.join("outside").as_os_str().as_bytes().to_vec()
    }

    /// Empties the target, the way that a restore does it, too, and sees whether anything outside
    /// has changed.
    pub(super) fn check(self) {
        let base = TargetFolder::open(&self.0.base).expect("the folder that holds all");
        base.remove(b"target").expect("what was restored can be removed");
        assert_eq!(looks(&self.0.base), self.0.looks, "something outside the target changed");
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        match fs::remove_dir_all(self.target()) {
            Err(error) if error.kind() != ErrorKind::NotFound && !std::thread::panicking() => {
                panic!("cannot remove the target: {error}")
            }
            _ => {}
        }
    }
}
