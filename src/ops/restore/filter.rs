//! Which entries a restore is about.

use super::RestoreOptions;
use crate::format::path::{self, printable};
use crate::ops::OpError;
use crate::source::pattern::{Pattern, PatternSet, Patterns};

/// Includes and excludes of a restore, relative to the target.
#[derive(Debug)]
pub(super) struct Filter {
    include: Option<Include>,
    exclude: PatternSet,
    /// What was decided about the directories above, for everything in them that no pattern
    /// names, from the top.
    decided: Vec<(Box<[u8]>, Decision)>,
}

/// What selects, and whether it did.
#[derive(Debug)]
struct Include {
    patterns: PatternSet,
    /// For each compiled pattern the number of the one that it comes from.
    origins: Vec<usize>,
    /// As written, with whether something matched.
    written: Vec<(Pattern, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Excluded,
    Included,
    NotIncluded,
}

/// The patterns with their numbers. One that spells out the path of the directory whose content
/// is restored means what lies in it, as in a snapshot.
fn relative(patterns: &Patterns, top: &[u8]) -> (Vec<usize>, Vec<Pattern>) {
    let both = |pattern: &Pattern| [Some(pattern.clone()), pattern.relative_to(top)];
    let numbered = patterns.0.iter().enumerate();
    let all = numbered.flat_map(|(number, pattern)| both(pattern).map(|p| Some((number, p?))));
    all.flatten().unzip()
}

impl Filter {
    pub(super) fn new(options: &RestoreOptions) -> Result<Self, OpError> {
        let top = options.path.as_deref().unwrap_or_default();
        Self::of(&options.include, &options.exclude, top)
    }

    fn of(include: &Patterns, exclude: &Patterns, top: &[u8]) -> Result<Self, OpError> {
        let compiled =
            |patterns: &[Pattern]| PatternSet::new(patterns, false).map_err(OpError::Refused);
        let exclude = compiled(&relative(exclude, top).1)?;
        if include.is_empty() {
            return Ok(Self { include: None, exclude, decided: Vec::new() });
        }
        let (origins, all) = relative(include, top);
        let written = include.0.iter().map(|pattern| (pattern.clone(), false)).collect();
        let include = Some(Include { patterns: compiled(&all)?, origins, written });
        Ok(Self { include, exclude, decided: Vec::new() })
    }

    /// Whether the entry at `below` (relative to the target) is to be restored; to be asked in
    /// path order. Directories above an included entry are made when they are needed.
    pub(super) fn wants(&mut self, below: &[u8], is_directory: bool) -> bool {
        while self.decided.last().is_some_and(|(above, _)| !path::is_within(below, above)) {
            self.decided.pop();
        }
        let above = self.decided.last().map(|(_, decision)| *decision);
        if above == Some(Decision::Excluded) {
            return false;
        }
        let included = self.include.as_mut().and_then(|set| set.verdict(below, is_directory));
        let decision = if self.exclude.verdict(below, is_directory) == Some(true) {
            Some(Decision::Excluded)
        } else {
            included.map(|it| if it { Decision::Included } else { Decision::NotIncluded })
        };
        if let Some(decision) = decision.filter(|_| is_directory) {
            self.decided.push((below.into(), decision));
        }
        match decision.or(above) {
            Some(decision) => decision == Decision::Included,
            None => self.include.is_none(),
        }
    }

    /// The patterns of `include` that no entry matched, of those that were asked about.
    pub(super) fn unmatched(&self) -> impl Iterator<Item = String> {
        let written = self.include.iter().flat_map(|include| &include.written);
        let unmatched = written.filter(|(pattern, matched)| !matched && !pattern.is_negated());
        unmatched.map(|(pattern, _)| printable(pattern.text()))
    }
}

impl Include {
    /// The verdict of the last pattern that matches; all that match are remembered.
    fn verdict(&mut self, below: &[u8], is_directory: bool) -> Option<bool> {
        let mut last = None;
        for number in self.patterns.matching(below, is_directory) {
            self.written[self.origins[number]].1 = true;
            last = last.max(Some(number));
        }
        last.map(|number| !self.written[self.origins[number]].0.is_negated())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::Path;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::format::entry::EntryKind;
    use crate::source::exclude::{Excludes, ExcludesBuilder};
    use crate::source::scan::{Scan, ScanOptions, Scanned};

    const ALL: [&str; 8] =
        ["a/", "a/b/", "a/b/c.txt", "a/b/d.log", "a/e.txt", "f.txt", "g/", "g/h.log"];

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let (include, exclude) = (Patterns::selecting(include), Patterns::new(exclude));
        Filter::of(&include.unwrap(), &exclude.unwrap(), b"srv/x").unwrap()
    }

    fn wanted_by(filter: &mut Filter) -> Vec<&'static str> {
        let wants = |path: &&str| {
            let bare = path.trim_end_matches('/');
            filter.wants(bare.as_bytes(), bare.len() != path.len())
        };
        ALL.into_iter().filter(wants).collect()
    }

    fn wanted(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        wanted_by(&mut filter(include, exclude))
    }

    #[test]
    fn includes_and_excludes_combine() {
        assert_eq!(wanted(&[], &[]).len(), 8);
        assert_eq!(wanted(&["*.txt"], &[]), ["a/b/c.txt", "a/e.txt", "f.txt"]);
        assert_eq!(wanted(&["/a/b"], &[]), ["a/b/", "a/b/c.txt", "a/b/d.log"]);
        assert_eq!(wanted(&["/srv/x/a/b"], &[]), ["a/b/", "a/b/c.txt", "a/b/d.log"]);
        assert_eq!(wanted(&["/a"], &["*.log"]), ["a/", "a/b/", "a/b/c.txt", "a/e.txt"]);
        assert_eq!(wanted(&[], &["b/"]), ["a/", "a/e.txt", "f.txt", "g/", "g/h.log"]);
        assert_eq!(
            wanted(&[], &["*.log", "!h.log"]),
            [ALL[0], ALL[1], ALL[2], ALL[4], ALL[5], ALL[6], ALL[7]]
        );
        assert_eq!(wanted(&["a", "!b"], &[]), ["a/", "a/e.txt"]);
        assert_eq!(wanted(&["a", "!b", "c.*"], &[]), ["a/", "a/b/c.txt", "a/e.txt"]);
    }

    #[test]
    fn includes_that_matched_nothing_are_known() {
        let mut filter = filter(&["*.txt", "nosuch", "/a/e.txt", "!f*", "h.log", "b"], &["g"]);
        wanted_by(&mut filter);
        assert_eq!(filter.unmatched().collect::<Vec<_>>(), ["nosuch", "h.log"]);
    }

    /// Paths, and whether each is a directory.
    type Paths = Vec<(Vec<u8>, bool)>;

    /// Lays out a small tree whose names are what patterns like to misread.
    #[expect(clippy::disallowed_methods, reason = "lays out a tree")]
    fn lay_out(top: &Path) {
        let names = [&b"a"[..], b"b.o", b"#a", b"a{b,c}", b"a b ", b"!a", b"\xe4.o", b"~"];
        for outer in names {
            for inner in [&b"a"[..], b"b.o", b"#a", b"x "] {
                let dir = top.join(OsStr::from_bytes(outer)).join(OsStr::from_bytes(inner));
                std::fs::create_dir_all(&dir).unwrap();
                for name in names {
                    std::fs::write(dir.join(OsStr::from_bytes(name)), "").unwrap();
                }
            }
        }
    }

    /// What a snapshot with these excludes takes of `top`: paths, and whether each is a directory.
    fn taken(top: &Path, excludes: Excludes) -> Paths {
        let mut options = ScanOptions::new(vec![top.to_owned()]);
        options.excludes = excludes;
        let stored = top.as_os_str().as_bytes()[1..].len();
        let mut all = Vec::new();
        let mut scan = Scan::start(options).unwrap();
        while let Some(item) = scan.next() {
            if let Scanned::Entry { path, stat } = item
                && path.len() > stored
            {
                all.push((path[stored + 1..].to_vec(), stat.kind == EntryKind::Directory));
            }
        }
        all
    }

    fn pattern() -> impl Strategy<Value = OsString> {
        let pieces = [
            &b"a"[..],
            b"b.o",
            b"#a",
            b"a{b,c}",
            b"a b ",
            b"x ",
            b"\xe4.o",
            b"*",
            b"*.o",
            b"?",
            b"**",
            b"/",
            b"/",
            b"/**/",
            b"[a-b]*",
            b"[!a]*",
            b"\\#a",
            b"~",
            b" ",
        ];
        let piece = prop::sample::select(pieces.to_vec());
        let start = prop::sample::select(vec![&b""[..], b"", b"/", b"!", b"!/", b"TOP/"]);
        let end = prop::sample::select(vec![&b""[..], b"", b"/"]);
        (start, prop::collection::vec(piece, 1..4), end).prop_map(|(start, pieces, end)| {
            OsString::from_vec([start, &pieces.concat(), end].concat())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_snapshot_and_a_restore_leave_out_the_same(
            patterns in prop::collection::vec(pattern(), 1..5),
        ) {
            static TREE: LazyLock<(tempfile::TempDir, Paths)> = LazyLock::new(|| {
                let dir = tempfile::tempdir().unwrap();
                lay_out(dir.path());
                let all = taken(dir.path(), Excludes::default());
                (dir, all)
            });
            let (dir, all) = &*TREE;
            let top = dir.path().as_os_str().as_bytes();
            // A pattern that spells out the path of the source means what lies in it.
            let absolute = |pattern: &OsString| match pattern.as_bytes().strip_prefix(b"TOP") {
                Some(rest) => OsString::from_vec([top, rest].concat()),
                None => pattern.clone(),
            };
            let patterns = patterns.iter().map(absolute);
            let valid: Vec<_> = patterns.filter(|text| Patterns::new([text]).is_ok()).collect();
            let builder = ExcludesBuilder { patterns: valid.clone(), ..Default::default() };
            let kept = taken(dir.path(), builder.build().unwrap());
            let excludes = Patterns::new(&valid).unwrap();
            let mut filter = Filter::of(&Patterns::default(), &excludes, &top[1..]).unwrap();
            let all = all.iter().filter(|(path, is_directory)| filter.wants(path, *is_directory));
            let all: Vec<_> = all.cloned().collect();
            prop_assert_eq!(all, kept, "{:?}", valid);
        }
    }
}
