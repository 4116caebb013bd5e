//! Paths as the keys of a snapshot's sorted map: raw bytes, components separated by `/`, no
//! leading or trailing slash.

use std::cmp::Ordering;

/// Longest path that a snapshot can hold, in bytes. Far beyond what a system call takes at once
/// (trees deeper than that exist), yet small enough that a hostile page cannot eat the memory.
pub const MAX_PATH_LEN: usize = 1 << 20;

/// Component-wise order: a folder comes directly before everything in it, so that a subtree is one
/// contiguous range. It is the byte order with `/` taken as 0 (no name holds a 0 byte).
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    match common {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

/// Whether `path` is `folder` or lies in it. The empty path holds everything.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The folder that holds `path`: empty for a path of one component.
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |at| &path[..at])
}

/// The last component of `path`.
pub fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// Why `path` cannot be a key, or nothing. What passes can be walked down from a folder handle one
/// component at a time without ever leaving it.
pub fn problem(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("empty path");
    }
    if let Some(problem) = too_long(path) {
        return Some(problem);
    }
    path.split(|&byte| byte == b'/').find_map(|component| match component {
        b"" => Some("path with an empty component"),
        b"." | b".." => Some("path with a . or .. component"),
        _ if component.contains(&0) => Some("path with a zero byte"),
        _ => None,
    })
}

/// Why `path` cannot be a key, if its length alone says so.
pub fn too_long(path: &[u8]) -> Option<&'static str> {
    (path.len() > MAX_PATH_LEN).then_some("path too long")
}

/// `path` for people: with the leading slash, odd bytes escaped.
pub fn display(path: &[u8]) -> String {
    format!("/{}", printable(path))
}

/// `bytes` as they are, if they are ASCII without control characters and backslashes.
pub fn plain(bytes: &[u8]) -> Option<&str> {
    let plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~'));
    if plain { std::str::from_utf8(bytes).ok() } else { None }
}

/// A name for people: what [`harmless`] escapes, and backslashes, so that two names never look
/// alike because one of them contains what the other one is shown as.
pub fn printable(bytes: &[u8]) -> String {
    match plain(bytes) {
        Some(text) => text.to_owned(),
        None => escaped(bytes, true),
    }
}

/// A message for people, in which names are escaped already: control characters, characters that
/// cannot be seen or change the order of others, and what is not UTF-8 are escaped, so that it
/// cannot play tricks on a terminal or forge a second line. Backslashes stay.
pub fn harmless(bytes: &[u8]) -> String {
    match plain(bytes) {
        Some(text) => text.to_owned(),
        None => escaped(bytes, false),
    }
}

fn escaped(bytes: &[u8], backslashes: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' if backslashes => out.push_str("\\\\"),
                c if c.is_control() => out.extend(c.escape_default()),
                c if is_unseen(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a character shows nothing of its own: Unicode's format characters, separators other
/// than the space, fillers, variation selectors and tags.
fn is_unseen(c: char) -> bool {
    c != ' ' && c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subtree_is_contiguous() {
        let mut paths: Vec<&[u8]> = vec![b"a.b", b"a", b"a/b", b"a-b", b"a/b/c", b"a b", b"b"];
        paths.sort_by(|a, b| compare(a, b));
        assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/c", b"a b", b"a-b", b"a.b", b"b"]);
    }

    #[test]
    fn relations() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
        assert_eq!((parent(b"a/b/c"), name(b"a/b/c")), (&b"a/b"[..], &b"c"[..]));
        assert_eq!((parent(b"a"), name(b"a")), (&b""[..], &b"a"[..]));
    }

    #[test]
    fn what_could_leave_the_target_is_no_path() {
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"a/.", b"a\0b"] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        for good in [&b"a"[..], b"a/b", b"...", b".a", b"a\nb", b"\xff"] {
            assert!(problem(good).is_none(), "{good:?}");
        }
    }

    #[test]
    fn odd_bytes_are_escaped() {
        assert_eq!(printable(b"a\x1b[2J\n\xff\xc3\xa9"), "a\\u{1b}[2J\\n\\xff\u{e9}");
        let names = ["a\u{202e}b", "a\u{200b}b", "ab", "a\u{ad}b", "a\u{2028}b", "a\\u{202e}b"];
        let shown = names.map(|name| printable(name.as_bytes()));
        let want =
            ["a\\u{202e}b", "a\\u{200b}b", "ab", "a\\u{ad}b", "a\\u{2028}b", "a\\\\u{202e}b"];
        assert_eq!(shown, want);
        // Names in a message are escaped already.
        assert_eq!(harmless(shown[5].as_bytes()), shown[5]);
        assert_eq!(harmless("x\u{2066}".as_bytes()), "x\\u{2066}");
    }

    proptest! {
        #[test]
        fn two_names_never_look_alike(a in ".{0,4}[\\\\x0-9a-f\n\u{202e}u{}]{0,12}", b in any::<[u8; 3]>()) {
            let other = [a.as_bytes(), &b].concat();
            for (one, two) in [(a.as_bytes(), &other[..]), (printable(&other).as_bytes(), &other)] {
                prop_assert!(one == two || printable(one) != printable(two));
            }
            let seen = printable(&other);
            prop_assert!(!seen.chars().any(|c| c.is_control() || is_unseen(c)), "{seen:?}");
        }

        #[test]
        fn order_is_that_of_the_component_lists(
            a in "[ab.-]a?(/[ab.-]b?){0,4}", b in "[ab.-]a?(/[ab.-]b?){0,4}",
        ) {
            let list = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(compare(a.as_bytes(), b.as_bytes()), list(&a).cmp(&list(&b)));
        }
    }
}
