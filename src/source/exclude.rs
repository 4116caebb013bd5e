//! What of the source is left out: patterns with the semantics of git's ignore files, ignore
//! files in the tree, cache folders, marker files and files that are too large.
//!
//! Of several patterns that match, the last of the strongest group decides: patterns given
//! singly, then the ignore files of the tree (the deeper the stronger), then pattern files. What
//! is below an excluded folder cannot be brought back.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

pub use super::pattern::literal;
use super::pattern::{Pattern, PatternError, PatternSet, quoted};
use super::{SourceError, Stat};
use crate::format::entry::EntryKind;
use crate::format::snapshot::Window;

/// Name of the ignore files in the tree.
pub const IGNORE_FILE: &str = ".gabionignore";
/// Name of the file that marks a folder as a cache.
pub const CACHE_TAG: &str = "CACHEDIR.TAG";
/// What such a file starts with, as its specification demands.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// An ignore file longer than this is no ignore file.
const MAX_IGNORE_FILE: usize = 4 << 20;
const READ_IGNORE_FILE: &str = "read the ignore file";

/// What to leave out. Patterns are relative to every root of the source, as if they stood in an
/// ignore file there; one that starts with a root's own absolute path means that path. No pattern
/// leaves out a root itself, but a root that is marked as a cache is emptied like any other.
#[derive(Debug, Clone, Default)]
pub struct ExcludesBuilder {
    /// Single patterns, the strongest.
    pub patterns: Vec<OsString>,
    /// Files of patterns, one a line, the weakest.
    pub pattern_files: Vec<PathBuf>,
    /// Honour `.gabionignore` files in the tree.
    pub use_ignore_files: bool,
    /// Of folders with a valid `CACHEDIR.TAG`, keep only the folder and the tag.
    pub caches: bool,
    /// Of folders that hold a file of such a name, keep only the folder.
    pub if_present: Vec<OsString>,
    /// Leave out regular files of more bytes than this.
    pub larger_than: Option<u64>,
    /// Leave out what is no folder and was last changed outside of this window.
    pub window: Option<Window>,
}

/// A pattern that cannot be used, or a pattern file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// The pattern means nothing, or can never match.
    #[error(
        "invalid exclude pattern {}{}: {}",
        quoted(&error.pattern), origin.as_deref().unwrap_or(""), error.reason
    )]
    Pattern {
        /// What is wrong with which pattern.
        error: PatternError,
        /// Where it stands (" in FILE, line N"), for a pattern from a file.
        origin: Option<String>,
    },
    /// What should be the name of a marker file is none.
    #[error("invalid name of a marker file {}: a name has no slash and is not empty", quoted(.0.as_bytes()))]
    Marker(OsString),
    /// The patterns are too many to be compiled.
    #[error("cannot use the exclude patterns: {0}")]
    TooMany(String),
    /// The file is missing or cannot be read.
    #[error("cannot read the pattern file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ExcludeError {
    /// How to write what was probably meant; begins with a verb.
    pub fn advice(&self) -> Option<&str> {
        match self {
            Self::Pattern { error, .. } => error.advice(),
            Self::Marker(_) => Some("give the name of a file alone"),
            Self::TooMany(_) => Some("write fewer patterns with wildcards"),
            Self::File { .. } => None,
        }
    }
}

/// Validated excludes, ready for any source. The default excludes nothing.
#[derive(Debug, Clone, Default)]
pub struct Excludes(pub(super) Arc<Rules>);

#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) strong: Vec<Pattern>,
    pub(super) weak: Vec<Pattern>,
    pub(super) use_ignore_files: bool,
    pub(super) caches: bool,
    pub(super) if_present: Vec<OsString>,
    pub(super) larger_than: Option<u64>,
    pub(super) window: Option<Window>,
}

impl Rules {
    /// What of an item leaves it out whatever it is called.
    fn by_attributes(&self, stat: &Stat) -> Option<&'static str> {
        let too_large = |limit| stat.kind == EntryKind::File && stat.size > limit;
        if self.larger_than.is_some_and(too_large) {
            return Some("its size (--exclude-larger-than)");
        }
        let outside = self.window.is_some_and(|window| !window.holds(stat.mtime.into()));
        (outside && stat.kind != EntryKind::Directory)
            .then_some("the time of its last change (--since, --until)")
    }
}

impl ExcludesBuilder {
    /// Reads the pattern files and validates all patterns.
    ///
    /// # Errors
    /// Names the first invalid pattern with its file and line, or the unreadable file.
    pub fn build(self) -> Result<Excludes, ExcludeError> {
        let mut weak = Vec::new();
        for path in &self.pattern_files {
            let failed = |source| ExcludeError::File { path: path.clone(), source };
            for (number, line) in lines(&std::fs::read(path).map_err(failed)?) {
                let failed = |error| {
                    let origin = Some(format!(" in {}, line {number}", path.display()));
                    ExcludeError::Pattern { error, origin }
                };
                weak.extend(Pattern::of_line(line).map_err(failed)?);
            }
        }
        self.with_weak(weak)
    }

    /// The rules with the patterns `weak` in place of pattern files.
    pub(super) fn with_weak(self, weak: Vec<Pattern>) -> Result<Excludes, ExcludeError> {
        let strong = patterns(self.patterns.iter().map(|text| text.as_bytes()))?;
        for patterns in [&strong, &weak] {
            PatternSet::new(patterns, false).map_err(ExcludeError::TooMany)?;
        }
        let is_name = |name: &OsString| {
            !matches!(name.as_bytes(), b"" | b"." | b"..") && !name.as_bytes().contains(&b'/')
        };
        if let Some(other) = self.if_present.iter().find(|name| !is_name(name)) {
            return Err(ExcludeError::Marker(other.clone()));
        }
        Ok(Excludes(Arc::new(Rules {
            strong,
            weak,
            use_ignore_files: self.use_ignore_files,
            caches: self.caches,
            if_present: self.if_present,
            larger_than: self.larger_than,
            window: self.window,
        })))
    }
}

/// Patterns that stand alone.
pub(super) fn patterns<'t>(
    texts: impl Iterator<Item = &'t [u8]>,
) -> Result<Vec<Pattern>, ExcludeError> {
    let failed = |error| ExcludeError::Pattern { error, origin: None };
    texts.map(|text| Pattern::of_text(text).map_err(failed)).collect()
}

/// The lines with their numbers from 1, a byte order mark skipped.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    bytes.split(|&byte| byte == b'\n').enumerate().map(|(index, line)| (index + 1, line))
}

/// The compiled patterns for one root.
#[derive(Debug)]
struct RootRules {
    rules: Arc<Rules>,
    strong: PatternSet,
    weak: PatternSet,
    below: usize,
}

/// An ignore file of the tree and those above it.
#[derive(Debug)]
struct IgnoreLevel {
    set: PatternSet,
    below: usize,
    parent: Option<Arc<Self>>,
}

/// What applies to the items of one folder.
#[derive(Debug, Clone)]
pub(crate) struct FolderRules {
    root: Arc<RootRules>,
    ignore_files: Option<Arc<IgnoreLevel>>,
    /// Nothing of the folder is kept, or the cache tag alone.
    mark: Option<Mark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Cache,
    Present,
}

/// What the rules need to see of a folder before they can judge what is in it.
pub(crate) trait FolderView {
    /// The kind of the item of that name, if there is one.
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind>;
    /// The start of a regular file, at most `limit` bytes of it.
    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>>;
}

/// Length of what stands before a name in the folder `path`.
fn prefix_len(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.len() + 1 }
}

impl Excludes {
    /// The rules for the items directly below `root`, before anything in it was seen.
    pub(crate) fn for_root(&self, root: &[u8]) -> Result<FolderRules, SourceError> {
        let compile = |patterns: &[Pattern]| {
            let all: Vec<_> = patterns
                .iter()
                .flat_map(|pattern| [Some(pattern.clone()), pattern.relative_to(root)])
                .flatten()
                .collect();
            PatternSet::new(&all, false).map_err(|reason| {
                SourceError::at(root, "apply the excludes to", io::Error::other(reason))
            })
        };
        let rules = Arc::clone(&self.0);
        let (strong, weak) = (compile(&rules.strong)?, compile(&rules.weak)?);
        let root = Arc::new(RootRules { rules, strong, weak, below: prefix_len(root) });
        Ok(FolderRules { root, ignore_files: None, mark: None })
    }
}

impl FolderRules {
    /// Whether ignore files of folders above have a say.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_ignore_files(&self) -> bool {
        self.ignore_files.is_some()
    }

    /// The rules for the items of the folder `path`, which is itself subject to `self`. Ignore
    /// files that cannot be used are added to `problems`.
    pub(crate) fn enter(
        &self,
        path: &[u8],
        view: &impl FolderView,
        problems: &mut Vec<SourceError>,
    ) -> Self {
        let rules = &self.root.rules;
        let mut inner = Self { mark: None, ..self.clone() };
        if rules.if_present.iter().any(|name| view.kind_of(name.as_bytes()).is_some()) {
            inner.mark = Some(Mark::Present);
        } else if rules.caches && has_cache_tag(view) {
            inner.mark = Some(Mark::Cache);
        }
        let wanted = rules.use_ignore_files && inner.mark.is_none();
        if wanted && view.kind_of(IGNORE_FILE.as_bytes()) == Some(EntryKind::File) {
            let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let file = [path, slash, IGNORE_FILE.as_bytes()].concat();
            match read_ignore_file(&file, view, problems) {
                Ok(set) => {
                    let (below, parent) = (prefix_len(path), inner.ignore_files.take());
                    inner.ignore_files = Some(Arc::new(IgnoreLevel { set, below, parent }));
                }
                Err(source) => problems.push(SourceError::at(&file, READ_IGNORE_FILE, source)),
            }
        }
        inner
    }

    /// Whether an item of the folder is left out. `path` is its whole path, `name_at` where its
    /// name begins in it.
    pub(crate) fn excludes(&self, path: &[u8], name_at: usize, stat: &Stat) -> bool {
        match self.mark {
            Some(Mark::Present) => return true,
            Some(Mark::Cache) => return path[name_at..] != *CACHE_TAG.as_bytes(),
            None if self.root.rules.by_attributes(stat).is_some() => return true,
            None => {}
        }
        let is_folder = stat.kind == EntryKind::Directory;
        let within_root = &path[self.root.below..];
        let mut level = self.ignore_files.as_deref();
        let ignore_files = std::iter::from_fn(|| {
            let current = level?;
            level = current.parent.as_deref();
            Some(current)
        });
        let of_files =
            || ignore_files.map(|l| l.set.verdict(&path[l.below..], is_folder)).find_map(|v| v);
        let strong = self.root.strong.verdict(within_root, is_folder);
        let verdict = strong.or_else(of_files);
        verdict.or_else(|| self.root.weak.verdict(within_root, is_folder)).unwrap_or(false)
    }
}

impl FolderRules {
    /// As [`Self::excludes`], with the rule that decides, in words; nothing when none says
    /// anything about the item.
    pub(crate) fn explain(
        &self,
        path: &[u8],
        name_at: usize,
        stat: &Stat,
    ) -> Option<(bool, String)> {
        match self.mark {
            Some(Mark::Present) => {
                return Some((true, "a marker file in its folder (--exclude-if-present)".into()));
            }
            Some(Mark::Cache) if path[name_at..] != *CACHE_TAG.as_bytes() => {
                return Some((true, format!("the {CACHE_TAG} in its folder")));
            }
            _ => {}
        }
        let is_folder = stat.kind == EntryKind::Directory;
        if let Some(why) = self.root.rules.by_attributes(stat) {
            return Some((true, why.into()));
        }
        let within_root = &path[self.root.below..];
        let said = |origin: &str| {
            let origin = origin.to_owned();
            move |(excluded, pattern): (bool, Pattern)| {
                (excluded, format!("the pattern {}{origin}", quoted(pattern.text())))
            }
        };
        let explain = |set: &PatternSet, path: &[u8]| {
            let pattern = set.deciding(path, is_folder)?.clone();
            Some((!pattern.is_negated(), pattern))
        };
        let mut level = self.ignore_files.as_deref();
        let mut decided = explain(&self.root.strong, within_root).map(said(""));
        while let (None, Some(current)) = (&decided, level) {
            let folder = super::absolute(&path[..current.below.saturating_sub(1)]);
            let origin = format!(" of {}", folder.join(IGNORE_FILE).display());
            decided = explain(&current.set, &path[current.below..]).map(said(&origin));
            level = current.parent.as_deref();
        }
        let weak = || explain(&self.root.weak, within_root);
        decided.or_else(|| weak().map(said(" of a pattern file")))
    }
}

fn has_cache_tag(view: &impl FolderView) -> bool {
    view.kind_of(CACHE_TAG.as_bytes()) == Some(EntryKind::File)
        && view
            .read_start(CACHE_TAG, CACHE_SIGNATURE.len())
            .is_ok_and(|start| start == CACHE_SIGNATURE)
}

/// Reads and compiles an ignore file. An invalid line is a problem, the others count.
fn read_ignore_file(
    path: &[u8],
    view: &impl FolderView,
    problems: &mut Vec<SourceError>,
) -> io::Result<PatternSet> {
    let bytes = view.read_start(IGNORE_FILE, MAX_IGNORE_FILE + 1)?;
    if bytes.len() > MAX_IGNORE_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut patterns = Vec::new();
    for (number, line) in lines(&bytes) {
        match Pattern::of_line(line) {
            Ok(pattern) => patterns.extend(pattern),
            Err(error) => {
                let advice = error.advice().map(|advice| format!("; {advice}"));
                let message = format!("line {number}: {error}{}", advice.unwrap_or_default());
                let source = io::Error::new(io::ErrorKind::InvalidData, message);
                problems.push(SourceError::at(path, "use a line of the ignore file", source));
            }
        }
    }
    PatternSet::new(&patterns, false).map_err(io::Error::other)
}
