//! Patterns of names: as in an ignore file, one without a slash fits the name, one with a slash
//! the whole path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::format::entry::EntryKind;
use crate::format::path;
use crate::ops::OpError;

#[derive(Debug, Clone)]
struct NamePattern {
    glob: GlobMatcher,
    whole_path: bool,
    folders_only: bool,
}

/// Patterns, of which one must fit; without any, everything does.
#[derive(Debug, Clone, Default)]
pub struct NamePatterns(Vec<NamePattern>);

impl NamePatterns {
    /// Reads patterns: `*`, `?`, `[...]` and `{a,b}` within a name, `**` for any folders. One with
    /// a slash before its end is held against the whole path, from the snapshot's top (begin it
    /// with `**/` for anywhere); a slash at the end asks for a folder.
    ///
    /// # Errors
    /// `Refused`, with the pattern and what is wrong with it.
    pub fn new(patterns: &[String], ignore_case: bool) -> Result<Self, OpError> {
        let read = |text: &String| {
            let folders_only = text.ends_with('/');
            let body = text.strip_suffix('/').unwrap_or(text);
            let whole_path = body.contains('/');
            let body = body.strip_prefix('/').unwrap_or(body);
            let refused = |why: &str| OpError::Refused(format!("the pattern {text:?} {why}"));
            if body.is_empty() {
                return Err(refused("fits nothing"));
            }
            let glob = GlobBuilder::new(body)
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(ignore_case)
                .build()
                .map_err(|error| refused(&format!("cannot be used: {}", error.kind())))?;
            Ok(NamePattern { glob: glob.compile_matcher(), whole_path, folders_only })
        };
        patterns.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn accept(&self, full: &[u8], kind: EntryKind) -> bool {
        let fits = |pattern: &NamePattern| {
            let subject = if pattern.whole_path { full } else { path::name(full) };
            (!pattern.folders_only || kind == EntryKind::Directory)
                && pattern.glob.is_match(Path::new(OsStr::from_bytes(subject)))
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &[u8]) -> bool {
        let patterns = NamePatterns::new(&[pattern.to_owned()], false).unwrap();
        patterns.accept(path, EntryKind::File)
    }

    #[test]
    fn names_paths_and_odd_bytes() {
        for (pattern, path) in [
            ("*.txt", &b"a/b/c.txt"[..]),
            ("c?", b"a/c\xff"),
            ("*", b"\xff\n"),
            ("/a/*.txt", b"a/x.txt"),
            ("a/*.txt", b"a/x.txt"),
            ("**/b/*", b"a/b/c"),
            ("/top", b"top"),
            ("a/**", b"a/b/c"),
            ("{x,y}.z", b"q/y.z"),
            ("\\*", b"*"),
            (".*", b"a/.hidden"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path:?}");
        }
        for (pattern, path) in [
            ("*.txt", &b"a.txt/b"[..]),
            ("a/*.txt", b"q/a/x.txt"),
            ("a/*", b"a/b/c"),
            ("/top", b"a/top"),
            ("ABC", b"abc"),
            ("folder/", b"folder"),
            ("\\*", b"x"),
        ] {
            assert!(!fits(pattern, path), "{pattern} {path:?}");
        }
        let folder = NamePatterns::new(&["Folder/".to_owned()], true).unwrap();
        assert!(folder.accept(b"x/fOLDER", EntryKind::Directory));
    }

    #[test]
    fn bad_patterns_are_refused_by_name() {
        for bad in ["[a", "{a", "/", "", "a[z-a]"] {
            let error = NamePatterns::new(&[bad.to_owned()], false).unwrap_err();
            assert!(error.to_string().starts_with(&format!("the pattern {bad:?} ")), "{error}");
        }
    }
}
