//! Patterns of paths, in the dialect of git's ignore files: the only one that gabion knows,
//! whether a pattern leaves something out of a snapshot, selects what is restored, or names what
//! is looked for.
//!
//! A pattern is bytes, as paths are. It is compiled to a regular expression over bytes, whose
//! time is linear in the length of the path whatever the pattern is.

mod set;
mod translate;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

pub(crate) use set::PatternSet;

use crate::format::path::{harmless, printable};
use translate::Reason;

/// A pattern that means nothing, or that can never match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern {}: {reason}", quoted(pattern))]
pub struct PatternError {
    /// The pattern as written.
    pub(super) pattern: Vec<u8>,
    /// What is wrong with it.
    pub(super) reason: Cow<'static, str>,
    /// How to write what was probably meant.
    advice: Option<String>,
}

impl PatternError {
    fn new(pattern: &[u8], reason: Reason, advice: Option<String>) -> Self {
        Self { pattern: pattern.to_vec(), reason: reason.into(), advice }
    }

    /// How to write what was probably meant; begins with a verb.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

/// A pattern in quotes, for messages.
pub(super) fn quoted(pattern: &[u8]) -> String {
    match std::str::from_utf8(pattern) {
        Ok(text) => harmless(format!("{text:?}").as_bytes()),
        Err(_) => format!("\"{}\"", printable(pattern)),
    }
}

/// One pattern, which can match something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    negated: bool,
    directories_only: bool,
    /// It began with a slash.
    rooted: bool,
    /// As written, without `!`, leading and trailing slash.
    body: Vec<u8>,
    /// As written.
    text: Vec<u8>,
}

impl Pattern {
    /// Reads a line of an ignore file, without its line feed; `None` for a comment or a blank
    /// line.
    pub(crate) fn of_line(line: &[u8]) -> Result<Option<Self>, PatternError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = without_trailing_spaces(line);
        if line.starts_with(b"#") || text.is_empty() {
            return Ok(None);
        }
        Self::of_text(text).map(Some)
    }

    /// Reads a pattern that stands alone, such as an argument: no `#` begins a comment, and no
    /// space is superfluous.
    pub(crate) fn of_text(text: &[u8]) -> Result<Self, PatternError> {
        let (negated, rest) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (directories_only, body) = match rest.strip_suffix(b"/") {
            Some(body) => (true, body),
            None => (false, rest),
        };
        let (rooted, body) = match body.strip_prefix(b"/") {
            Some(body) => (true, body),
            None => (false, body),
        };
        if body.is_empty() {
            let advice = "leave it out, or write * to match everything";
            return Err(PatternError::new(text, "it names nothing", Some(advice.to_owned())));
        }
        if rest.starts_with(b"~/") {
            let advice = "write the path of the home directory itself, or \\~/ for a directory \
                          whose name is ~";
            let reason = "only a shell replaces ~ by the home directory";
            return Err(PatternError::new(text, reason, Some(advice.to_owned())));
        }
        if let Some((reason, advice)) = translate::impossible_component(body) {
            return Err(PatternError::new(text, reason, advice));
        }
        let (body, text) = (body.to_owned(), text.to_owned());
        let pattern = Self { negated, directories_only, rooted, body, text };
        match pattern.compiled() {
            Ok(_) => Ok(pattern),
            Err(reason) => Err(PatternError::new(&pattern.text, reason, None)),
        }
    }

    /// The same pattern taken relative to `root`, when it starts with a slash and spells out the
    /// path of `root` (as a snapshot has it) before going on below it.
    pub(crate) fn relative_to(&self, root: &[u8]) -> Option<Self> {
        if !self.rooted || root.is_empty() {
            return None;
        }
        let mut rest = &*self.body;
        for &want in root {
            rest = match rest {
                [b'\\', byte, after @ ..] | [byte, after @ ..] if *byte == want => after,
                _ => return None,
            };
            // A wildcard that merely could stand for the root does not spell it out.
        }
        let rest = rest.strip_prefix(b"/").filter(|rest| !rest.is_empty())?;
        Some(Self { body: rest.to_owned(), ..self.clone() })
    }

    /// The pattern as the user wrote it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether it takes back what an earlier pattern matched.
    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }

    /// A slash anywhere but at the end ties the pattern to its place, even one in a class.
    fn is_name(&self) -> bool {
        !self.rooted && !self.body.contains(&b'/')
    }

    fn compiled(&self) -> Result<translate::Matcher, Reason> {
        translate::matcher(&self.body, self.is_name())
    }
}

/// Patterns as they were given, each of which can match something. Of those that match a path, the
/// last one decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns(pub(crate) Vec<Pattern>);

impl Patterns {
    /// Reads patterns that stand alone, such as arguments.
    ///
    /// # Errors
    /// Names the first one that means nothing or can never match.
    pub fn new<T: AsRef<OsStr>>(texts: impl IntoIterator<Item = T>) -> Result<Self, PatternError> {
        let read = |text: T| Pattern::of_text(text.as_ref().as_bytes());
        texts.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Reads patterns that select something: the first one must match, since there is nothing
    /// before it that it could take back.
    ///
    /// # Errors
    /// As [`Patterns::new`].
    pub fn selecting<T: AsRef<OsStr>>(
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, PatternError> {
        let patterns = Self::new(texts)?;
        match patterns.0.first() {
            Some(first) if first.negated => {
                let reason = "it only takes back what an earlier pattern matches";
                let advice = "write before it what it takes back from, such as *, or \\! for a \
                              name that begins with !";
                Err(PatternError::new(first.text(), reason, Some(advice.to_owned())))
            }
            _ => Ok(patterns),
        }
    }

    /// Patterns that match these paths of a snapshot and nothing else; such a path is not empty.
    pub fn of_paths<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let pattern = |path: &[u8]| Pattern {
            negated: false,
            directories_only: false,
            rooted: true,
            body: literal(OsStr::from_bytes(path)).into_vec(),
            text: [b"/", path].concat(),
        };
        Self(paths.into_iter().map(pattern).collect())
    }

    /// Adds the patterns of `others` after these.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Cuts off the spaces at the end, up to one that a backslash protects.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let (mut at, mut end) = (0, 0);
    while let Some(&byte) = line.get(at) {
        at = if byte == b'\\' { line.len().min(at + 2) } else { at + 1 };
        if byte != b' ' {
            end = at;
        }
    }
    &line[..end]
}

/// A pattern that matches `path` and nothing else.
pub fn literal(path: impl AsRef<OsStr>) -> OsString {
    let path = path.as_ref().as_bytes();
    let mut pattern = Vec::with_capacity(path.len());
    for (at, &byte) in path.iter().enumerate() {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\')
            || at == 0 && matches!(byte, b'!' | b'~')
        {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    OsString::from_vec(pattern)
}

#[cfg(test)]
mod tests;
