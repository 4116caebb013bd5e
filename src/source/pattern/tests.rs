//! Tests of the dialect of patterns.

use std::os::unix::ffi::OsStrExt as _;

use super::*;

fn regex(line: &[u8]) -> Result<String, Cow<'static, str>> {
    let pattern = Pattern::of_line(line).map_err(|error| error.reason)?;
    match pattern.expect("it is a pattern").compiled()? {
        translate::Matcher::Regex(regex) => Ok(regex),
        translate::Matcher::Literal(bytes) => Ok(format!("={}", bytes.escape_ascii())),
    }
}

fn matches(text: &[u8], path: &[u8]) -> bool {
    let pattern = Pattern::of_text(text).unwrap();
    PatternSet::new([&pattern], false).unwrap().verdict(path, true) == Some(true)
}

#[test]
fn lines_are_read_as_git_reads_them() {
    for (line, want) in [
        (&b"a{b,c}  "[..], "=a{b,c}"),
        (b"a\\ ", "=a "),
        (b"a\t", "=a\\t"),
        (b"!/x/***/y/\r", "x/(?:.*/)?y"),
        (b"a***b/**c", "a[^/]*b/[^/]*c"),
        (b"**\\/a/**\\/b", ".*/a/.*/b"),
        (b"a/**", "a/.*"),
        (b"**", "[^/]*"),
        (b"/**", ".*"),
        (b"[]a-c]", "[\\x5Dabc]"),
        (b"[[:digit:]_-]", "[\\x2D0123456789_]"),
        (b"[z-a]", "[z]"),
        (b"\\#a", "=#a"),
        (b"\xff?[\xf0-\xf1]", "\\xFF[^/][\\xF0\\xF1]"),
    ] {
        assert_eq!(regex(line).as_deref(), Ok(want), "{}", line.escape_ascii());
    }
    for silent in [&b""[..], b"   ", b"# x", b"\r"] {
        assert_eq!(Pattern::of_line(silent), Ok(None), "{silent:?}");
    }
    for bad in ["[a", "a\\", "//a", "a//b", "a//", "a/\\/b", "[[:none:]]", "[/]", "[é-ü]"] {
        assert!(regex(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_pattern_that_stands_alone_is_taken_as_it_is() {
    for name in ["#recycle", "a{b,c}", "sp ace ", " ", "a\tb\n", "$HOME", "~", "~x", "a~"] {
        assert!(matches(name.as_bytes(), format!("d/{name}").as_bytes()), "{name:?}");
    }
    assert!(!matches(b"a{b,c}", b"ab") && matches(b"\\!x", b"!x") && matches(b"\\~/x", b"~/x"));
    assert!(matches(b"\xe4*", b"d/\xe4x") && matches(b"d/?x", b"d/\xe4x"));
    assert!(!matches(b"\xe4", b"\xc3\xa4") && !matches("ä".as_bytes(), b"\xe4"));
}

#[test]
fn what_can_never_match_is_refused_with_what_to_write() {
    for (text, advice) in [
        ("./x", "write /x for"),
        ("!./x/", "write /x for"),
        ("./a/./b", "write /a/b for"),
        ("\\./x", "write "),
        ("a/./b", "write a/b"),
        ("a/.", "write a"),
        (".", "write * for"),
        ("../x", "write the path from the top"),
        ("/a/../b", "write the path from the top"),
        ("a/..", "write the path from the top"),
        ("~/x", "write the path of the home directory"),
        ("!~/", "write the path of the home directory"),
        ("", "leave it out"),
        ("/", "leave it out"),
        ("!", "leave it out"),
        ("!/", "leave it out"),
    ] {
        let error = Pattern::of_text(text.as_bytes()).unwrap_err();
        assert!(error.advice().unwrap().starts_with(advice), "{text:?}: {error:?}");
        let file = Pattern::of_line(text.as_bytes());
        assert_eq!(file.is_err(), !text.is_empty(), "{text:?}");
    }
    assert!(Pattern::of_text(b"a\0b").is_err());
    let error = Patterns::selecting(["!x", "y"]).unwrap_err();
    assert!(error.to_string().starts_with("invalid pattern \"!x\": it only takes back"));
    assert!(Patterns::selecting(["y", "!x"]).is_ok() && Patterns::new(["!x"]).is_ok());
}

#[test]
fn an_absolute_pattern_becomes_relative_to_the_root_that_it_names() {
    let below = |text: &str| {
        let pattern = Pattern::of_text(text.as_bytes()).unwrap().relative_to(b"u[r/lib")?;
        Some(String::from_utf8(pattern.body).unwrap())
    };
    assert_eq!(below("/u\\[r/lib/doc/"), Some("doc".into()));
    assert_eq!(below("/u\\[r/lib/*.o"), Some("*.o".into()));
    for other in ["/u*/lib/doc", "/u\\[r/lib", "/u\\[r/library/x", "u\\[r/lib/doc", "/doc"] {
        assert_eq!(below(other), None, "{other}");
    }
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let patterns = Patterns::new(["*.o", "!keep.o", "/d/keep.o", "*/", "!d"]).unwrap();
    let set = PatternSet::new(&patterns.0, false).unwrap();
    for (path, is_directory, want) in [
        (&b"x.o"[..], false, Some(true)),
        (b"keep.o", false, Some(false)),
        (b"d/keep.o", false, Some(true)),
        (b"x", false, None),
        (b"x", true, Some(true)),
        (b"a/d", true, Some(false)),
    ] {
        assert_eq!(set.verdict(path, is_directory), want, "{}", path.escape_ascii());
    }
}

#[test]
fn letters_have_two_cases_when_that_is_asked_for() {
    let patterns = Patterns::new(["Ä?.TXT", "x[a-c]", "Ordner", "ÉTÉ"]).unwrap();
    let set = |ignore_case| PatternSet::new(&patterns.0, ignore_case).unwrap();
    for path in ["xA", "X/oRDNER", "été"] {
        assert_eq!(set(true).verdict(path.as_bytes(), false), Some(true), "{path}");
        assert_eq!(set(false).verdict(path.as_bytes(), false), None, "{path}");
    }
}

#[test]
fn a_literal_pattern_matches_its_path_alone() {
    assert_eq!(literal("/a*b/[x]?"), "/a\\*b/\\[x\\]\\?");
    let odd = OsStr::from_bytes(b"!a\\{*}[\xff]~ #");
    assert!(matches(literal(odd).as_bytes(), odd.as_bytes()));
    assert!(!matches(literal("a*").as_bytes(), b"ab"));
    assert!(matches(literal("~/x").as_bytes(), b"~/x"));
    let paths = [&b"a b /\xff*"[..], b"#x", b"!y"];
    let set = PatternSet::new(&Patterns::of_paths(paths).0, false).unwrap();
    assert!(paths.iter().all(|path| set.verdict(path, false) == Some(true)));
    assert_eq!((set.verdict(b"a b /\xffx", false), set.verdict(b"d/#x", false)), (None, None));
}
