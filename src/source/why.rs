//! Why a path is in a snapshot or is not: the answer that the walk would give, with the rule that
//! decides.

use std::io;
use std::path::{Path, PathBuf};

use super::exclude::{Excludes, FolderView};
use super::open::Roots;
use super::{SourceError, Stat, absolute, read_start};
use crate::format::entry::EntryKind;

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It lies in none of the sources.
    Outside,
    /// It is taken.
    Included {
        /// The source that it lies in.
        root: PathBuf,
        /// The rule that brings it back, where one does, in words.
        rule: Option<String>,
    },
    /// It is left out.
    Excluded {
        /// What the rule is about: the path, or a folder above it.
        at: PathBuf,
        /// The rule, in words.
        rule: String,
    },
}

/// Says what a walk over `roots` does with `path`; all are absolute and clean.
///
/// # Errors
/// When `path` or a folder on the way cannot be looked at.
pub fn why(roots: &[PathBuf], excludes: &Excludes, path: &Path) -> Result<Reason, SourceError> {
    // A root within another stands for itself, so the innermost decides.
    let holding = roots.iter().filter(|root| path.starts_with(root));
    let Some(root) = holding.max_by_key(|root| root.components().count()) else {
        return Ok(Reason::Outside);
    };
    let opened = Roots::open(std::slice::from_ref(root))?;
    let stored = |path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
    };
    let mut current = stored(root);
    let mut rules = excludes.for_root(&current)?;
    let mut decided = None;
    let below = path.strip_prefix(root).unwrap_or(Path::new(""));
    for component in below.components() {
        let view = Folder { roots: &opened, path: &current };
        rules = rules.enter(&current, &view, &mut Vec::new());
        if !current.is_empty() {
            current.push(b'/');
        }
        let name_at = current.len();
        current.extend_from_slice(component.as_os_str().as_encoded_bytes());
        let stat = look_at(&opened, &current)?;
        match rules.explain(&current, name_at, &stat) {
            Some((true, rule)) => return Ok(Reason::Excluded { at: absolute(&current), rule }),
            Some((false, rule)) => decided = Some(rule),
            None => decided = None,
        }
    }
    Ok(Reason::Included { root: root.clone(), rule: decided })
}

fn look_at(roots: &Roots, path: &[u8]) -> Result<Stat, SourceError> {
    use std::os::fd::AsFd as _;
    let handle = roots.open_handle(path)?;
    let failed = |error| SourceError::at(path, "read the attributes of", error);
    roots.stat_of(handle.as_fd()).map_err(failed)
}

struct Folder<'a> {
    roots: &'a Roots,
    path: &'a [u8],
}

impl Folder<'_> {
    fn inside(&self, name: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        [self.path, slash, name].concat()
    }
}

impl FolderView for Folder<'_> {
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind> {
        look_at(self.roots, &self.inside(name)).ok().map(|stat| stat.kind)
    }

    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.roots.open_file(&self.inside(name.as_bytes()));
        read_start(file.map_err(|error| error.source)?.into(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::exclude::ExcludesBuilder;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "lays out a tree")]
    fn the_rule_that_decides_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/cache")).unwrap();
        for name in ["a/x.tmp", "a/keep.tmp", "a/cache/file", "a/plain", "a/own"] {
            std::fs::write(top.join(name), "x").unwrap();
        }
        std::fs::write(top.join("a/.gabionignore"), "own\n").unwrap();
        let patterns = ["*.tmp", "!keep.tmp", "cache/"].map(Into::into).to_vec();
        let excludes = ExcludesBuilder { patterns, use_ignore_files: true, ..Default::default() };
        let excludes = excludes.build().unwrap();
        let roots = [top.clone()];
        let ask = |name: &str| why(&roots, &excludes, &top.join(name)).unwrap();
        let excluded = |at: &str, rule: String| Reason::Excluded { at: top.join(at), rule };
        let pattern = |text: &str| format!("the pattern {text:?}");
        assert_eq!(ask("a/x.tmp"), excluded("a/x.tmp", pattern("*.tmp")));
        assert_eq!(ask("a/cache/file"), excluded("a/cache", pattern("cache/")));
        let file = top.join("a/.gabionignore");
        let own = format!("{} of {}", pattern("own"), file.display());
        assert_eq!(ask("a/own"), excluded("a/own", own));
        let included = |rule| Reason::Included { root: top.clone(), rule };
        assert_eq!(ask("a/keep.tmp"), included(Some(pattern("!keep.tmp"))));
        assert_eq!((ask("a/plain"), ask("")), (included(None), included(None)));
        assert_eq!(why(&roots, &excludes, Path::new("/else")).unwrap(), Reason::Outside);
        assert!(why(&roots, &excludes, &top.join("gone")).is_err());
    }
}
