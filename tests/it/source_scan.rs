//! Scans of real trees: order, completeness, what is left out, and that the parallel scan finds
//! exactly what the portable one finds.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod excludes;
mod places;
mod trees;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gabion::source::portable::PortableScan;
use gabion::source::scan::{Scan, ScanOptions, Scanned};
use gabion::source::{Stat, compare_paths};

/// A step of a scan that outlives it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Entry(String, Box<Stat>),
    Problem(PathBuf, &'static str),
    Excluded(String),
}

fn seen(step: Scanned<'_>) -> Seen {
    let text = |path: &[u8]| path.escape_ascii().to_string();
    match step {
        Scanned::Entry { path, stat } => {
            let mut stat = Box::new(*stat);
            if path == b"tmp" || path.windows(9).any(|part| part == b"/mnt/proc") {
                // Others work there too.
                (stat.mtime, stat.ctime, stat.links) = Default::default();
            }
            Seen::Entry(text(path), stat)
        }
        Scanned::Problem(problem) => Seen::Problem(problem.path, problem.action),
        Scanned::Deferred(_) => unreachable!("no folder was to be handed over"),
        Scanned::Excluded { path } => Seen::Excluded(text(path)),
    }
}

fn parallel(options: &ScanOptions) -> Vec<Seen> {
    let mut scan = Scan::start(options.clone()).unwrap();
    let mut all = Vec::new();
    while let Some(step) = scan.next() {
        all.push(seen(step));
    }
    assert!(scan.next().is_none(), "the end stays the end");
    all
}

/// The scan's steps, after making sure that every kind of scan agrees on them and that they are
/// in order.
fn scan(options: &ScanOptions) -> Vec<Seen> {
    let mut portable = PortableScan::start(options).unwrap();
    let mut want = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    while let Some(step) = portable.next() {
        if let Scanned::Entry { path, .. } | Scanned::Excluded { path } = step {
            if let Some(last) = &last {
                assert!(compare_paths(last, path).is_lt(), "{:?} after {:?}", path, last);
            }
            last = Some(path.to_vec());
        }
        want.push(seen(step));
    }
    for (threads, lookahead_entries) in [(0, 1), (1, 1), (2, 65_536), (5, 7)] {
        let options = ScanOptions { threads, lookahead_entries, ..options.clone() };
        let got = parallel(&options);
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got, want, "{threads} threads, {lookahead_entries} ahead");
        }
        assert_eq!(got.len(), want.len());
    }
    want
}

/// The paths of a scan below `root`; `-` before those left out, `!` before those with a problem.
fn paths_below(root: &Path, options: &ScanOptions) -> Vec<String> {
    let prefix = format!("{}/", root.as_os_str().as_bytes().escape_ascii());
    let prefix = prefix.strip_prefix('/').unwrap();
    scan(options)
        .into_iter()
        .filter_map(|seen| {
            let (mark, path) = match seen {
                Seen::Entry(path, _) => ("", path),
                Seen::Excluded(path) => ("-", path),
                Seen::Problem(path, _) => ("!", path.to_str().unwrap()[1..].to_owned()),
            };
            path.strip_prefix(prefix).map(|rest| format!("{mark}{rest}"))
        })
        .collect()
}

fn of(root: &Path) -> ScanOptions {
    ScanOptions::new(vec![root.to_owned()])
}

/// A folder of its own for a test, by its real path.
struct Tree {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        Self { _dir: dir, path }
    }

    fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.path.join(OsStr::from_bytes(path.as_ref()))
    }

    fn folder(&self, path: impl AsRef<[u8]>) -> &Self {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    #[expect(clippy::disallowed_methods, reason = "an input of a test")]
    fn file(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn link(&self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &Self {
        std::os::unix::fs::symlink(OsStr::from_bytes(target.as_ref()), self.at(path)).unwrap();
        self
    }
}
