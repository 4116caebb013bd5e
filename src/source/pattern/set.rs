//! Patterns that were compiled together: the last one that matches decides.

use std::collections::HashMap;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::Pattern;
use super::translate::{Matcher, push_literal};
use crate::format::path;

/// Compiled patterns. Those without a wildcard are looked up, whatever their number.
#[derive(Debug, Clone)]
pub(crate) struct PatternSet {
    patterns: Vec<Pattern>,
    /// Compared with the last component.
    names: Compiled,
    /// Compared with the whole path.
    paths: Compiled,
}

/// Matchers of one kind of subject, by the numbers of their patterns.
#[derive(Debug, Clone)]
struct Compiled {
    literals: HashMap<Box<[u8]>, Vec<usize>>,
    regexes: RegexSet,
    numbers: Vec<usize>,
}

impl Compiled {
    fn new(matchers: Vec<(usize, Matcher)>, ignore_case: bool) -> Result<Self, String> {
        let mut literals: HashMap<_, Vec<_>> = HashMap::new();
        let (mut numbers, mut regexes) = (Vec::new(), Vec::new());
        for (number, matcher) in matchers {
            match matcher {
                Matcher::Literal(bytes) if !ignore_case => {
                    literals.entry(bytes.into_boxed_slice()).or_default().push(number);
                }
                Matcher::Literal(bytes) => {
                    let mut regex = String::new();
                    push_literal(&bytes, &mut regex);
                    numbers.push(number);
                    regexes.push(anchored(&regex));
                }
                Matcher::Regex(regex) => {
                    numbers.push(number);
                    regexes.push(anchored(&regex));
                }
            }
        }
        let mut builder = RegexSetBuilder::new(regexes);
        builder.unicode(false).dot_matches_new_line(true).case_insensitive(ignore_case);
        let regexes = builder.build().map_err(|error| format!("too many wildcards: {error}"))?;
        Ok(Self { literals, regexes, numbers })
    }

    /// The numbers of the patterns that match.
    fn matching(&self, subject: &[u8]) -> impl Iterator<Item = usize> {
        let literals = self.literals.get(subject).into_iter().flatten().copied();
        // Most paths match nothing, and to know that costs no memory.
        let matches =
            self.regexes.is_match(subject).then(|| self.regexes.matches(subject).into_iter());
        literals.chain(matches.into_iter().flatten().map(|at| self.numbers[at]))
    }
}

fn anchored(regex: &str) -> String {
    format!("\\A(?:{regex})\\z")
}

impl PatternSet {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When they are too many to be compiled.
    pub(crate) fn new<'a>(
        patterns: impl IntoIterator<Item = &'a Pattern>,
        ignore_case: bool,
    ) -> Result<Self, String> {
        let patterns: Vec<_> = patterns.into_iter().cloned().collect();
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for (number, pattern) in patterns.iter().enumerate() {
            let kind = if pattern.is_name() { &mut names } else { &mut paths };
            kind.push((number, pattern.compiled()?));
        }
        let (names, paths) =
            (Compiled::new(names, ignore_case)?, Compiled::new(paths, ignore_case)?);
        Ok(Self { patterns, names, paths })
    }

    /// The numbers of all patterns that match a path, which is relative to where the patterns
    /// apply.
    pub(crate) fn matching(&self, path: &[u8], is_directory: bool) -> impl Iterator<Item = usize> {
        let counts = move |&number: &usize| is_directory || !self.patterns[number].directories_only;
        self.paths.matching(path).chain(self.names.matching(path::name(path))).filter(counts)
    }

    /// The pattern that decides about a path.
    pub(crate) fn deciding(&self, path: &[u8], is_directory: bool) -> Option<&Pattern> {
        self.matching(path, is_directory).max().map(|last| &self.patterns[last])
    }

    /// Whether the patterns match (`true`) or take back (`false`) the path, if they apply to it
    /// at all.
    pub(crate) fn verdict(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        self.deciding(path, is_directory).map(|pattern| !pattern.negated)
    }
}
