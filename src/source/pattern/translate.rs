//! From git's dialect to what a path is compared with: bytes, or a regular expression over bytes.

use std::fmt::Write as _;

/// What is wrong with a pattern.
pub(super) type Reason = &'static str;

/// What a name or a path is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matcher {
    /// The only bytes that match.
    Literal(Vec<u8>),
    /// A regular expression without anchors.
    Regex(String),
}

/// Says what is wrong with a pattern that has a component which no path has, and how to write it.
pub(super) fn impossible_component(body: &[u8]) -> Option<(Reason, Option<String>)> {
    // A slash may be written with a backslash, and so may a dot.
    let plain = without_backslashes(body);
    let components = || plain.split(|&byte| byte == b'/');
    if plain.contains(&0) {
        return Some(("no path has a zero byte", None));
    }
    if components().any(<[u8]>::is_empty) {
        return Some(("no path has an empty component", None));
    }
    if components().any(|component| component == b"..") {
        let advice = "write the path from the top of the source, without ..";
        return Some(("no path has a component ..", Some(advice.to_owned())));
    }
    if components().any(|component| component == b".") {
        let kept: Vec<_> = components().filter(|component| component != b".").collect();
        let rest = String::from_utf8(kept.join(&b'/')).ok().filter(|rest| !rest.is_empty());
        let advice = match rest {
            None => "write * for everything in the source".to_owned(),
            Some(rest) if body.starts_with(b".") => {
                format!("write /{rest} for the top of the source only, or **/{rest} for anywhere")
            }
            Some(rest) => format!("write {rest}"),
        };
        return Some(("no path has a component .", Some(advice)));
    }
    None
}

/// The pattern without the backslashes that protect something.
fn without_backslashes(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    out
}

/// What a pattern without `!` and without slashes at its ends is compared with. One of a name has
/// no slash, and is compared with the last component only.
pub(super) fn matcher(body: &[u8], is_name: bool) -> Result<Matcher, Reason> {
    let mut out = String::with_capacity(body.len() * 2);
    // Bytes that stand for themselves and were not written yet.
    let mut literal = Vec::new();
    let mut rest = body;
    let mut after_slash = true;
    while let Some((&byte, mut tail)) = rest.split_first() {
        if matches!(byte, b'*' | b'?' | b'[') {
            push_literal(&literal, &mut out);
            literal.clear();
        }
        match byte {
            b'*' => {
                let stars = rest.iter().take_while(|&&byte| byte == b'*').count();
                tail = &rest[stars..];
                let is_run = stars > 1 && after_slash && !is_name;
                match tail {
                    // Any number of directories, none included.
                    [b'/', after @ ..] if is_run => {
                        out.push_str("(?:.*/)?");
                        tail = after;
                    }
                    // To git a slash that is written with a backslash must be there: the stars
                    // stand for one directory at least.
                    [] | [b'\\', b'/', ..] if is_run => out.push_str(".*"),
                    _ => out.push_str("[^/]*"),
                }
            }
            b'?' => out.push_str("[^/]"),
            b'[' => tail = class(tail, std::str::from_utf8(body).is_ok(), &mut out)?,
            byte => {
                let mut byte = byte;
                if byte == b'\\' {
                    let Some((&protected, after)) = tail.split_first() else {
                        return Err("it ends in a backslash");
                    };
                    (byte, tail) = (protected, after);
                }
                literal.push(byte);
            }
        }
        after_slash = rest[..rest.len() - tail.len()].ends_with(b"/");
        rest = tail;
    }
    if out.is_empty() {
        return Ok(Matcher::Literal(literal));
    }
    push_literal(&literal, &mut out);
    Ok(Matcher::Regex(out))
}

/// Writes bytes that stand for themselves; letters beyond ASCII so that they can have two cases.
pub(super) fn push_literal(bytes: &[u8], out: &mut String) {
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match u8::try_from(c) {
                Ok(byte) if c.is_ascii() => push_byte(byte, out),
                _ => out.push_str(&format!("(?u:\\x{{{:X}}})", u32::from(c))),
            }
        }
        part.invalid().iter().for_each(|&byte| push_byte(byte, out));
    }
}

fn push_byte(byte: u8, out: &mut String) {
    match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'/' | b'_' => out.push(char::from(byte)),
        _ => {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
}

/// The bytes that a character class lists.
struct Members([bool; 256]);

impl Members {
    fn add_named(&mut self, name: &[u8]) -> Result<(), Reason> {
        let holds: fn(&u8) -> bool = match name {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"blank" => |byte| matches!(byte, b' ' | b'\t'),
            b"cntrl" => u8::is_ascii_control,
            b"digit" => u8::is_ascii_digit,
            b"graph" => u8::is_ascii_graphic,
            b"lower" => u8::is_ascii_lowercase,
            b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
            b"punct" => u8::is_ascii_punctuation,
            b"space" => |byte| byte.is_ascii_whitespace() || *byte == b'\x0b',
            b"upper" => u8::is_ascii_uppercase,
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => return Err("its class of characters is unknown"),
        };
        (0..=u8::MAX).filter(holds).for_each(|byte| self.0[usize::from(byte)] = true);
        Ok(())
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte)] = true;
    }
}

/// Reads a class after its `[` and returns what follows its `]`.
fn class<'a>(text: &'a [u8], is_utf8: bool, out: &mut String) -> Result<&'a [u8], Reason> {
    const UNCLOSED: Reason = "its character class is not closed";
    let (negated, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut members = Members([false; 256]);
    let mut previous: Option<u8> = None;
    let mut is_first = true;
    loop {
        let (&byte, tail) = rest.split_first().ok_or(UNCLOSED)?;
        if byte == b']' && !is_first {
            push_class(negated, &members, out)?;
            return Ok(tail);
        }
        is_first = false;
        (previous, rest) = match (byte, previous, tail) {
            (b'\\', _, [protected, after @ ..]) => {
                members.add(*protected);
                (Some(*protected), after)
            }
            (b'-', Some(first), [b'\\', last, after @ ..] | [last, after @ ..])
                if !tail.starts_with(b"]") =>
            {
                if is_utf8 && !(first.is_ascii() && last.is_ascii()) {
                    return Err("its range goes beyond ASCII");
                }
                (first..=*last).for_each(|byte| members.add(byte));
                (None, after)
            }
            (b'[', _, [b':', name @ ..]) => {
                let end = name.iter().position(|&byte| byte == b']').ok_or(UNCLOSED)?;
                match name[..end].strip_suffix(b":") {
                    Some(class) => {
                        members.add_named(class)?;
                        (None, &name[end + 1..])
                    }
                    None => {
                        members.add(b'[');
                        (Some(b'['), tail)
                    }
                }
            }
            (b'\\', ..) => return Err(UNCLOSED),
            (byte, ..) => {
                members.add(byte);
                (Some(byte), tail)
            }
        };
    }
}

/// Writes a class whose members stand one by one. No class matches a slash.
fn push_class(negated: bool, members: &Members, out: &mut String) -> Result<(), Reason> {
    let matched = (0..=u8::MAX).filter(|&byte| members.0[usize::from(byte)] != negated);
    let matched: Vec<u8> = matched.filter(|&byte| byte != b'/').collect();
    if matched.is_empty() {
        return Err("its character class is empty");
    }
    out.push('[');
    matched.iter().for_each(|&byte| push_byte(byte, out));
    out.push(']');
    Ok(())
}
