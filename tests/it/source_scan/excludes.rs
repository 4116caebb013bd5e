//! What is left out: the patterns against git itself, and the other rules one by one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use gabion::source::exclude::{ExcludeError, Excludes, ExcludesBuilder};
use gabion::source::scan::ScanOptions;
use proptest::prelude::*;

use super::{Tree, of, paths_below};

fn with(tree: &Tree, builder: ExcludesBuilder) -> ScanOptions {
    ScanOptions { excludes: builder.build().unwrap(), ..of(&tree.path) }
}

fn patterns(list: &[&str]) -> Result<Excludes, ExcludeError> {
    let patterns = list.iter().map(|&text| text.into()).collect();
    ExcludesBuilder { patterns, ..Default::default() }.build()
}

/// The files that git would not ignore, with patterns as arguments, a pattern file, and an
/// ignore file in every folder that has one.
fn git_keeps(tree: &Tree, git_dir: &Path, arguments: &[String], file: &Path) -> BTreeSet<String> {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", git_dir).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_DIR", git_dir);
    command.env("GIT_WORK_TREE", &tree.path).current_dir(&tree.path);
    command.args(["ls-files", "-o", "-z", "--exclude-per-directory=.gabionignore"]);
    command.args(arguments.iter().map(|pattern| format!("--exclude={pattern}")));
    command.arg("-X").arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = output.stdout.split(|&byte| byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| path.escape_ascii().to_string()).collect()
}

fn gabion_keeps(tree: &Tree, arguments: &[String], file: &Path) -> BTreeSet<String> {
    let builder = ExcludesBuilder {
        patterns: arguments
            .iter()
            .filter(|text| patterns(&[text]).is_ok())
            .map(Into::into)
            .collect(),
        pattern_files: vec![file.to_owned()],
        use_ignore_files: true,
        ..Default::default()
    };
    let found = paths_below(&tree.path, &with(tree, builder));
    let kept = found.into_iter().filter(|path| !path.starts_with(['-', '!']));
    kept.filter(|path| {
        let plain = tree.path.join(path.replace("\\\\", "\\"));
        plain.is_symlink() || !plain.is_dir()
    })
    .collect()
}

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "c",
        "*",
        "?",
        "**",
        "/",
        "/**/",
        "**/",
        "/**",
        "[ab]",
        "[!a]",
        "[a-b]",
        "[[:lower:]]",
        "[]b]",
        "[^/]",
        "{a,b}",
        "\\a",
        "\\",
        "\\*",
        " ",
        ".",
        "#",
        "[",
    ]);
    let start = prop::sample::select(vec!["", "", "", "/", "!", "!", "!/", "#", " "]);
    let end = prop::sample::select(vec!["", "", "", "/", " ", "\\ ", "\t"]);
    (start, prop::collection::vec(piece, 1..5), end)
        .prop_map(|(start, pieces, end)| format!("{start}{}{end}", pieces.concat()))
        .prop_filter("git treats two stars after a literal beginning as if they stood free", |p| {
            !quirk(p)
        })
}

/// git compares the beginning of a pattern up to its first wildcard literally, and then takes
/// what follows for a pattern of its own: `a**/b` is read as `a` and `**/b`. Its documentation
/// says that two stars are special only between slashes, which is what gabion does.
fn quirk(pattern: &str) -> bool {
    let body = pattern.trim_start_matches(['!', '/']);
    let literal = body.find(['*', '?', '[', '\\']).unwrap_or(body.len());
    literal > 0 && body[literal..].starts_with("**") && !body[..literal].ends_with('/')
}

fn ignore_file() -> impl Strategy<Value = String> {
    prop::collection::vec(pattern(), 0..4).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn patterns_mean_what_they_mean_to_git(
        arguments in prop::collection::vec(pattern(), 0..3),
        weak in ignore_file(),
        (top, inner, deep) in (ignore_file(), ignore_file(), ignore_file()),
    ) {
        let (tree, other) = (Tree::new(), Tree::new());
        for folder in ["", "a/", "b/", "a/b/", "a/b/a/", "ab/", "ab/c/", "{a,b}/", "a /", ".a/"] {
            for file in ["a.c", "bb", "cc", "ab.b", "#a", "é", "[", "\\x", "*", "c "] {
                tree.file(format!("{folder}{file}"), "");
            }
        }
        tree.link("ab/a", "../a").file(".gabionignore", top).file("a/.gabionignore", inner);
        tree.file("a/b/.gabionignore", deep);
        // An invalid line in a pattern file is an error here, to git it matches nothing.
        let valid: Vec<_> = weak.split('\n').filter(|line| patterns(&[line.trim_end_matches(' ')]).is_ok()).collect();
        other.file("weak", valid.join("\n")).folder("home");
        let git_dir = other.at("home/git");
        let made = Command::new("git").args(["init", "-q", "--bare"]).arg(&git_dir).status();
        prop_assert!(made.unwrap().success());
        let weak = other.at("weak");
        let git = git_keeps(&tree, &git_dir, &arguments, &weak);
        let ours = gabion_keeps(&tree, &arguments, &weak);
        let missing: Vec<_> = git.difference(&ours).collect();
        let extra: Vec<_> = ours.difference(&git).collect();
        prop_assert!(missing.is_empty() && extra.is_empty(), "lost {missing:?}, extra {extra:?}");
    }
}

#[test]
fn names_that_are_not_text_are_matched_byte_by_byte() {
    let tree = Tree::new();
    tree.file(b"\xff.o", "").file(b"\xff.c", "").file(b"\xfe\xff/x", "").file("é.o", "");
    let only = |pattern: &str| {
        let patterns = vec![pattern.into()];
        paths_below(&tree.path, &with(&tree, ExcludesBuilder { patterns, ..Default::default() }))
    };
    let e = "\\xc3\\xa9.o";
    assert_eq!(
        only("*.o"),
        [&format!("-{e}"), "\\xfe\\xff", "\\xfe\\xff/x", "\\xff.c", "-\\xff.o"]
    );
    assert_eq!(only("?.[co]"), [e, "\\xfe\\xff", "\\xfe\\xff/x", "-\\xff.c", "-\\xff.o"]);
    assert_eq!(only("??"), [e, "-\\xfe\\xff", "\\xff.c", "\\xff.o"]);
    assert_eq!(only("é.o"), [&format!("-{e}"), "\\xfe\\xff", "\\xfe\\xff/x", "\\xff.c", "\\xff.o"]);
}

#[test]
fn an_absolute_pattern_applies_below_the_root_it_names_and_nowhere_else() {
    let tree = Tree::new();
    tree.file("r/doc/1", "").file("r/sub/doc/2", "").file("s/doc/3", "");
    let root = tree.at("r");
    let pattern = format!("{}/doc", root.display());
    let builder = ExcludesBuilder { patterns: vec![pattern.into()], ..Default::default() };
    let mut options = with(&tree, builder);
    options.roots = vec![root, tree.at("s")];
    let want = ["r", "-r/doc", "r/sub", "r/sub/doc", "r/sub/doc/2", "s", "s/doc", "s/doc/3"];
    assert_eq!(paths_below(&tree.path, &options), want);
}

#[test]
fn a_root_is_never_left_out_but_what_is_in_it_may_be() {
    let tree = Tree::new();
    tree.file("x.o/y.o", "").file("x.o/z", "").file("single.o", "");
    let patterns = vec!["*.o".into()];
    let mut options = with(&tree, ExcludesBuilder { patterns, ..Default::default() });
    options.roots = vec![tree.at("x.o"), tree.at("single.o")];
    let want = ["single.o", "x.o", "-x.o/y.o", "x.o/z"];
    assert_eq!(paths_below(&tree.path, &options), want);
}

#[test]
fn a_cache_keeps_its_folder_and_tag_only() {
    let tree = Tree::new();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55";
    tree.file("good/CACHEDIR.TAG", format!("{tag}\n# why")).file("good/a", "").file("good/z/1", "");
    tree.file("exact/CACHEDIR.TAG", tag).file("short/CACHEDIR.TAG", &tag[..42]);
    tree.file("wrong/CACHEDIR.TAG", tag.replace('8', "9")).file("wrong/a", "");
    tree.folder("folder/CACHEDIR.TAG")
        .folder("link")
        .link("link/CACHEDIR.TAG", "../good/CACHEDIR.TAG");
    tree.file("link/a", "");
    let want = [
        "exact",
        "exact/CACHEDIR.TAG",
        "folder",
        "folder/CACHEDIR.TAG",
        "good",
        "good/CACHEDIR.TAG",
        "-good/a",
        "-good/z",
        "link",
        "link/CACHEDIR.TAG",
        "link/a",
        "short",
        "short/CACHEDIR.TAG",
        "wrong",
        "wrong/CACHEDIR.TAG",
        "wrong/a",
    ];
    let options = with(&tree, ExcludesBuilder { caches: true, ..Default::default() });
    assert_eq!(paths_below(&tree.path, &options), want);
}

#[test]
fn a_marker_empties_its_folder() {
    let tree = Tree::new();
    tree.file("a/.nobackup", "").file("a/b", "").file("c/.nobackup/x", "").file("d/e", "");
    let if_present = vec!["none".into(), ".nobackup".into()];
    let options = with(&tree, ExcludesBuilder { if_present, ..Default::default() });
    let want = ["a", "-a/.nobackup", "-a/b", "c", "-c/.nobackup", "d", "d/e"];
    assert_eq!(paths_below(&tree.path, &options), want);
}

#[test]
fn only_files_can_be_too_large() {
    let tree = Tree::new();
    tree.file("at", "12345").file("over", "123456").folder("folder").link("link", "123456789");
    let options = with(&tree, ExcludesBuilder { larger_than: Some(5), ..Default::default() });
    assert_eq!(paths_below(&tree.path, &options), ["at", "folder", "link", "-over"]);
}

#[test]
fn an_invalid_pattern_is_named_with_its_place() {
    let tree = Tree::new();
    tree.file("patterns", "\u{feff}*.o\r\n# [\n\n[a\n");
    let error = patterns(&["ok", "a\\"]).unwrap_err();
    assert_eq!(error.to_string(), "invalid exclude pattern \"a\\\\\": it ends in a backslash");
    let of_file = |name: &str| {
        let pattern_files = vec![tree.at(name)];
        ExcludesBuilder { pattern_files, ..Default::default() }.build().unwrap_err()
    };
    let message = of_file("patterns").to_string();
    assert!(message.contains("\"[a\" in ") && message.contains("patterns, line 4: "), "{message}");
    for name in ["", ".", "a/b"] {
        let builder = ExcludesBuilder { if_present: vec![name.into()], ..Default::default() };
        assert!(matches!(builder.build(), Err(ExcludeError::Marker(other)) if other == name));
    }
    assert!(matches!(of_file("gone"), ExcludeError::File { path, .. } if path == tree.at("gone")));
}

#[test]
fn an_ignore_file_that_cannot_be_used_is_a_problem_and_the_rest_goes_on() {
    let tree = Tree::new();
    tree.file("a/.gabionignore", "[\n*.o\n").file("a/x.o", "").file("b/.gabionignore", b"./x.o\n");
    tree.file("b/x.o", "").folder("c/.gabionignore").folder("d").link("d/.gabionignore", "../all");
    tree.file("all", "*").file("d/x.o", "");
    let builder = ExcludesBuilder { use_ignore_files: true, ..Default::default() };
    let want = [
        "a",
        "!a/.gabionignore",
        "a/.gabionignore",
        "-a/x.o",
        "all",
        "b",
        "!b/.gabionignore",
        "b/.gabionignore",
        "b/x.o",
        "c",
        "c/.gabionignore",
        "d",
        "d/.gabionignore",
        "d/x.o",
    ];
    assert_eq!(paths_below(&tree.path, &with(&tree, builder)), want);
    assert_eq!(paths_below(&tree.path, &of(&tree.path)).len(), want.len() - 2);
}
