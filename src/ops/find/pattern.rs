//! Patterns of what is looked for.

use crate::format::entry::EntryKind;
use crate::ops::OpError;
use crate::source::pattern::{PatternSet, Patterns};

/// Compiled patterns, which are compared with the path from the snapshot's top. Without any,
/// everything is found.
#[derive(Debug, Clone, Default)]
pub struct NamePatterns(Option<PatternSet>);

impl NamePatterns {
    /// Compiles patterns, in which upper and lower case are the same if `ignore_case` says so.
    ///
    /// # Errors
    /// `Refused` when they are too many.
    pub fn new(patterns: &Patterns, ignore_case: bool) -> Result<Self, OpError> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let set = PatternSet::new(&patterns.0, ignore_case).map_err(OpError::Refused)?;
        Ok(Self(Some(set)))
    }

    pub(super) fn accept(&self, full: &[u8], kind: EntryKind) -> bool {
        let is_directory = kind == EntryKind::Directory;
        self.0.as_ref().is_none_or(|set| set.verdict(full, is_directory) == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], path: &[u8]) -> bool {
        let patterns = Patterns::selecting(patterns).unwrap();
        NamePatterns::new(&patterns, false).unwrap().accept(path, EntryKind::File)
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
            ("{x,y}.z", b"q/{x,y}.z"),
            ("\\*", b"*"),
            (".*", b"a/.hidden"),
        ] {
            assert!(found(&[pattern], path), "{pattern} {path:?}");
        }
        for (pattern, path) in [
            ("*.txt", &b"a.txt/b"[..]),
            ("a/*.txt", b"q/a/x.txt"),
            ("a/*", b"a/b/c"),
            ("/top", b"a/top"),
            ("ABC", b"abc"),
            ("dir/", b"dir"),
            ("\\*", b"x"),
            ("{x,y}.z", b"q/y.z"),
        ] {
            assert!(!found(&[pattern], path), "{pattern} {path:?}");
        }
        assert!(found(&["*.c", "!b*"], b"a.c") && !found(&["*.c", "!b*"], b"b.c"));
        let directory = Patterns::new(["Dir/"]).unwrap();
        let directory = NamePatterns::new(&directory, true).unwrap();
        assert!(directory.accept(b"x/dIR", EntryKind::Directory));
        assert!(NamePatterns::default().accept(b"x", EntryKind::File));
    }
}
