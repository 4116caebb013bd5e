//! One line of an ignore file: read as git reads it, and put into the dialect of the matching
//! library, which knows alternatives git does not have (`{a,b}`) and lacks parts of git's
//! character classes (`[[:digit:]]`, `\]`, and that a class never matches `/`).

/// A pattern in the library's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    negated: bool,
    folders_only: bool,
    /// It began with a slash.
    rooted: bool,
    /// As written, without `!`, leading and trailing slash.
    body: String,
    /// As written.
    text: String,
}

impl Pattern {
    /// Reads a line of an ignore file; `None` for one that says nothing. `line` is without its
    /// line feed.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.starts_with('#') { None } else { Self::of_text(without_trailing_spaces(line)) }
    }

    /// Reads a pattern that stands alone, such as an argument: nothing in it is a comment or
    /// superfluous.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (folders_only, rest) = match rest.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (rooted, rest) = match rest.strip_prefix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let body = rest.to_owned();
        let text = text.to_owned();
        (!body.is_empty()).then_some(Self { negated, folders_only, rooted, body, text })
    }

    /// The same pattern taken relative to `root`, when it starts with a slash and spells out the
    /// path of `root` (in the scan's form) before going on below it.
    pub(crate) fn relative_to(&self, root: &[u8]) -> Option<Self> {
        if !self.rooted || root.is_empty() {
            return None;
        }
        let mut rest = self.body.as_bytes();
        for &want in root {
            rest = match rest {
                [b'\\', byte, after @ ..] | [byte, after @ ..] if *byte == want => after,
                _ => return None,
            };
            // A wildcard that merely could stand for the root does not spell it out.
        }
        let rest = rest.strip_prefix(b"/").filter(|rest| !rest.is_empty())?;
        let body = self.body[self.body.len() - rest.len()..].to_owned();
        Some(Self { body, ..self.clone() })
    }

    /// The pattern as the user wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line for the matching library.
    ///
    /// # Errors
    /// Says why the pattern could never match anything, which no one writes on purpose.
    pub(crate) fn translate(&self) -> Result<String, &'static str> {
        let body = self.body.replace("\\/", "/");
        if body.starts_with('/') || body.ends_with('/') || body.contains("//") {
            return Err("no path has an empty component");
        }
        let mut out = String::with_capacity(self.body.len() + 5);
        if self.negated {
            out.push('!');
        }
        // A slash anywhere but at the end ties the pattern to its place, even one in a class. The
        // library would see only those that are left, so its beginning says which it is.
        let is_name = !self.rooted && !self.body.contains('/');
        out.push_str(if is_name { "**/" } else { "/" });
        translate_body(&self.body, is_name, &mut out)?;
        if self.folders_only {
            out.push('/');
        } else if out.ends_with(|c: char| c.is_whitespace()) {
            // The library would cut it off; a class of one keeps it.
            let last = out.pop().unwrap_or(' ');
            if !last.is_ascii() {
                return Err("it ends in a blank outside ASCII");
            }
            out.extend(['[', '\0', last, ']']);
        }
        Ok(out)
    }
}

/// Cuts off the spaces at the end, up to one that a backslash protects.
fn without_trailing_spaces(line: &str) -> &str {
    let mut end = 0;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            end = chars.next().map_or(line.len(), |(at, next)| at + next.len_utf8());
        } else if c != ' ' {
            end = at + c.len_utf8();
        }
    }
    &line[..end]
}

fn translate_body(body: &str, is_name: bool, out: &mut String) -> Result<(), &'static str> {
    let mut rest = body;
    let mut after_slash = true;
    while let Some(c) = rest.chars().next() {
        let mut tail = &rest[c.len_utf8()..];
        match c {
            '*' => {
                tail = tail.trim_start_matches('*');
                let is_run = rest.len() - tail.len() > 1;
                // To git a slash that is written with a backslash must be there: no folder at all
                // is not among what the stars may stand for.
                let one_or_more = tail.starts_with("\\/");
                let bounded = tail.is_empty() || tail.starts_with('/') || one_or_more;
                out.push_str(match is_run && after_slash && bounded && !is_name {
                    true if one_or_more => "*/**",
                    true => "**",
                    false => "*",
                });
            }
            '?' => out.push('?'),
            '[' => tail = translate_class(tail, out)?,
            '\\' => {
                let literal = tail.chars().next().ok_or("it ends in a backslash")?;
                tail = &tail[literal.len_utf8()..];
                push_literal(literal, out);
            }
            literal => push_literal(literal, out),
        }
        after_slash = rest[..rest.len() - tail.len()].ends_with('/');
        rest = tail;
    }
    Ok(())
}

fn push_literal(c: char, out: &mut String) {
    match c {
        // A backslash before the last slash would be taken for its protection.
        '\\' => out.push_str("[\0\\]"),
        '*' | '?' | '[' | ']' | '{' | '}' | '!' | '#' => out.extend(['\\', c]),
        _ => out.push(c),
    }
}

/// What a character class lists.
#[derive(Default)]
struct Members {
    ascii: u128,
    others: String,
}

impl Members {
    fn add(&mut self, c: char) {
        if c.is_ascii() {
            self.ascii |= 1 << u32::from(c);
        } else {
            self.others.push(c);
        }
    }

    fn add_range(&mut self, first: char, last: char) -> Result<(), &'static str> {
        if !first.is_ascii() || !last.is_ascii() {
            return Err("its range goes beyond ASCII");
        }
        (first..=last).for_each(|c| self.add(c));
        Ok(())
    }

    fn add_named(&mut self, name: &str) -> Result<(), &'static str> {
        let holds: fn(&char) -> bool = match name {
            "alnum" => char::is_ascii_alphanumeric,
            "alpha" => char::is_ascii_alphabetic,
            "blank" => |c| matches!(c, ' ' | '\t'),
            "cntrl" => char::is_ascii_control,
            "digit" => char::is_ascii_digit,
            "graph" => char::is_ascii_graphic,
            "lower" => char::is_ascii_lowercase,
            "print" => |c| c.is_ascii_graphic() || *c == ' ',
            "punct" => char::is_ascii_punctuation,
            "space" => |c| c.is_ascii_whitespace() || *c == '\x0b',
            "upper" => char::is_ascii_uppercase,
            "xdigit" => char::is_ascii_hexdigit,
            _ => return Err("its class of characters is unknown"),
        };
        ('\0'..='\x7f').filter(holds).for_each(|c| self.add(c));
        Ok(())
    }
}

/// Reads a class after its `[` and returns what follows its `]`.
fn translate_class<'a>(text: &'a str, out: &mut String) -> Result<&'a str, &'static str> {
    const UNCLOSED: &str = "its character class is not closed";
    let (negated, mut rest) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut members = Members::default();
    let mut previous: Option<char> = None;
    let mut is_first = true;
    loop {
        let mut chars = rest.chars();
        let c = chars.next().ok_or(UNCLOSED)?;
        let tail = chars.as_str();
        if c == ']' && !is_first {
            push_class(negated, &members, out)?;
            return Ok(tail);
        }
        is_first = false;
        (previous, rest) = match (c, previous) {
            ('\\', _) => {
                let literal = chars.next().ok_or(UNCLOSED)?;
                members.add(literal);
                (Some(literal), chars.as_str())
            }
            ('-', Some(first)) if !tail.is_empty() && !tail.starts_with(']') => {
                let mut last = chars.next().ok_or(UNCLOSED)?;
                if last == '\\' {
                    last = chars.next().ok_or(UNCLOSED)?;
                }
                members.add_range(first, last)?;
                (None, chars.as_str())
            }
            ('[', _) if tail.starts_with(':') => {
                let end = tail[1..].find(']').ok_or(UNCLOSED)?;
                match tail[1..=end].strip_suffix(':') {
                    Some(name) => {
                        members.add_named(name)?;
                        (None, &tail[end + 2..])
                    }
                    None => {
                        members.add('[');
                        (Some('['), tail)
                    }
                }
            }
            (literal, _) => {
                members.add(literal);
                (Some(literal), tail)
            }
        };
    }
}

/// Writes a class whose members stand one by one, so that nothing in it is special.
fn push_class(negated: bool, members: &Members, out: &mut String) -> Result<(), &'static str> {
    let has = |c: char| members.ascii >> u32::from(c) & 1 == 1;
    let slash = 1 << u32::from('/');
    if !negated && members.ascii & !slash == 0 && members.others.is_empty() {
        return Err("its character class is empty");
    }
    out.push_str(if negated { "[!" } else { "[" });
    // `]` is literal only in the first place, and `!` or `^` only elsewhere; no path contains
    // the zero byte, so it can hold that place.
    out.push(if has(']') { ']' } else { '\0' });
    if negated {
        out.push('/');
    }
    out.extend(('\x01'..='\x7f').filter(|&c| has(c) && !matches!(c, ']' | '/' | '-')));
    out.push_str(&members.others);
    if has('-') {
        out.push('-');
    }
    out.push(']');
    Ok(())
}

/// A pattern that matches `path` and nothing else.
pub fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Result<String, &'static str> {
        Pattern::of_line(line).expect("it says something").translate()
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        assert_eq!(translated("a{b,c}  "), Ok("**/a\\{b,c\\}".into()));
        assert_eq!(translated("a\\ "), Ok("**/a[\0 ]".into()));
        assert_eq!(translated("a\t"), Ok("**/a[\0\t]".into()));
        assert_eq!(translated("!/x/***/y/\r"), Ok("!/x/**/y/".into()));
        assert_eq!(translated("a***b/**c"), Ok("/a*b/*c".into()));
        assert_eq!(translated("**\\/a/**\\/b"), Ok("/*/**/a/*/**/b".into()));
        assert_eq!(translated("[!]a-c]"), Ok("**/[!]/abc]".into()));
        assert_eq!(translated("[[:digit:]_-]"), Ok("**/[\x000123456789_-]".into()));
        assert_eq!(translated("[z-a]"), Ok("**/[\0z]".into()));
        assert_eq!(translated("\\#a"), Ok("**/\\#a".into()));
        for silent in ["", "   ", "# x", "!", "/", "!/"] {
            assert_eq!(Pattern::of_line(silent), None, "{silent:?}");
        }
        assert_eq!(Pattern::of_text("#x ").unwrap().translate(), Ok("**/\\#x[\0 ]".into()));
        for bad in ["[a", "a\\", "//a", "a//b", "a//", "a/\\/b", "[[:none:]]", "[/]"] {
            assert!(translated(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_absolute_pattern_becomes_relative_to_the_root_that_it_names() {
        let below = |text: &str| {
            let pattern = Pattern::of_text(text).unwrap().relative_to(b"u[r/lib")?;
            Some(pattern.translate().unwrap())
        };
        assert_eq!(below("/u\\[r/lib/doc/"), Some("/doc/".into()));
        assert_eq!(below("!/u[r/lib/*.o"), Some("!/*.o".into()));
        for other in ["/u*/lib/doc", "/u[r/lib", "/u[r/library/x", "u[r/lib/doc", "/doc"] {
            assert_eq!(below(other), None, "{other}");
        }
    }
}
