//! The live side of a comparison: a scan, with its paths turned into those of the snapshot.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::live::{LiveMapping, LiveOptions};
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::source::open::Roots;
use crate::source::scan::{Scan, ScanOptions, Scanned};
use crate::source::{SourceError, Stat};

/// An item of the live folder.
pub(super) struct LiveItem {
    /// Where the snapshot would have it.
    pub(super) path: Vec<u8>,
    /// Where it is, without leading slash.
    pub(super) place: Vec<u8>,
    pub(super) stat: Stat,
}

/// Live items in path order.
pub(super) struct LiveSide {
    /// Nothing when no root is left to scan.
    scan: Option<Scan>,
    roots: Option<Arc<Roots>>,
    prefix: Vec<u8>,
    subtree: Vec<u8>,
    next: Option<LiveItem>,
    /// Paths below which nothing can be known: excluded, or not readable.
    hidden: Vec<Vec<u8>>,
    problems: Vec<SourceError>,
}

impl LiveSide {
    pub(super) fn start(
        snapshot: &Snapshot,
        mapping: &LiveMapping,
        options: &LiveOptions,
    ) -> Result<Self, SourceError> {
        let mut scan = ScanOptions::new(roots_to_scan(snapshot, mapping));
        scan.excludes = options.excludes.clone();
        scan.one_file_system = options.one_file_system;
        let scan = if scan.roots.is_empty() { None } else { Some(Scan::start(scan)?) };
        let mut side = Self {
            roots: scan.as_ref().map(Scan::roots),
            scan,
            prefix: without_slash(&mapping.live).to_vec(),
            subtree: mapping.subtree.clone(),
            next: None,
            hidden: Vec::new(),
            problems: Vec::new(),
        };
        side.advance();
        Ok(side)
    }

    pub(super) fn roots(&self) -> Option<&Arc<Roots>> {
        self.roots.as_ref()
    }

    pub(super) fn peek(&self) -> Option<&LiveItem> {
        self.next.as_ref()
    }

    /// Takes the item at the position and goes past it.
    pub(super) fn take(&mut self) -> Option<LiveItem> {
        let item = self.next.take();
        self.advance();
        item
    }

    /// What could not be read since the last call.
    pub(super) fn take_problems(&mut self) -> Vec<SourceError> {
        std::mem::take(&mut self.problems)
    }

    /// Whether nothing is known about `path`, at which there is no live item. Asked in path order.
    pub(super) fn is_hidden(&mut self, path: &[u8]) -> bool {
        self.hidden
            .retain(|hidden| path::is_within(path, hidden) || path::compare(hidden, path).is_gt());
        self.hidden.iter().any(|hidden| path::is_within(path, hidden))
    }

    /// From now on nothing is known about `path` and what is below it.
    pub(super) fn hide(&mut self, path: Vec<u8>) {
        self.hidden.push(path);
    }

    fn advance(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        while let Some(step) = scan.next() {
            match step {
                Scanned::Entry { path, stat } => {
                    if let Some(mapped) = mapped(path, &self.prefix, &self.subtree) {
                        let (place, stat) = (path.to_vec(), *stat);
                        self.next = Some(LiveItem { path: mapped, place, stat });
                        return;
                    }
                }
                Scanned::Excluded { path } => {
                    self.hidden.extend(mapped(path, &self.prefix, &self.subtree));
                }
                // None was asked for.
                Scanned::Deferred(_) => {}
                Scanned::Problem(problem) => {
                    let place = without_slash(&problem.path);
                    self.hidden.extend(mapped(place, &self.prefix, &self.subtree));
                    self.problems.push(problem);
                }
            }
        }
    }
}

/// The path that `place` has in the snapshot; nothing for a folder above the compared one.
fn mapped(place: &[u8], prefix: &[u8], subtree: &[u8]) -> Option<Vec<u8>> {
    if !path::is_within(place, prefix) {
        return None;
    }
    let rest = &place[prefix.len()..];
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    Some(match (subtree, rest) {
        (subtree, b"") => subtree.to_vec(),
        (b"", rest) => rest.to_vec(),
        (subtree, rest) => [subtree, b"/", rest].concat(),
    })
}

pub(super) fn without_slash(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

/// What to scan. A snapshot that holds only parts of the live folder where it lies is compared
/// with those parts alone: nobody asked for the rest to be in it.
fn roots_to_scan(snapshot: &Snapshot, mapping: &LiveMapping) -> Vec<PathBuf> {
    let whole = || vec![mapping.live.clone()];
    if !mapping.is_in_place() {
        return whole();
    }
    let sources = snapshot.paths.iter().map(|raw| raw.0.strip_prefix(b"/").unwrap_or(&raw.0));
    if sources.clone().any(|source| path::is_within(&mapping.subtree, source)) {
        return whole();
    }
    let parts: Vec<PathBuf> = sources
        .filter(|source| path::is_within(source, &mapping.subtree))
        .map(crate::source::absolute)
        .collect();
    if parts.is_empty() {
        return whole();
    }
    let is_gone = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    parts.into_iter().filter(|path| !is_gone(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_paths() {
        let map = |place: &str, prefix: &str, subtree: &str| {
            mapped(place.as_bytes(), prefix.as_bytes(), subtree.as_bytes())
                .map(|path| String::from_utf8(path).unwrap())
        };
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(map("mnt/r/a/b", "mnt/r", ""), some("a/b"));
        assert_eq!(map("mnt/r/a/b", "mnt/r", "home/x"), some("home/x/a/b"));
        assert_eq!(map("mnt/r", "mnt/r", "home/x"), some("home/x"));
        assert_eq!(map("mnt/r", "mnt/r", ""), some(""));
        assert_eq!(map("etc/x", "", ""), some("etc/x"));
        assert_eq!(map("mnt", "mnt/r", "x"), None);
        assert_eq!(map("mnt/rx", "mnt/r", "x"), None);
    }
}
