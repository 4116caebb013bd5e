//! The rules, each a function from texts to violations, one line for each.

use std::collections::{BTreeMap, BTreeSet};

/// The layer of every module of the library; what is higher may use what is lower.
const LAYERS: &[(&str, u8)] = &[
    ("id", 0),
    ("event", 0),
    ("threads", 0),
    ("chunk", 1),
    ("codec", 1),
    ("parity", 1),
    ("crypto", 1),
    ("format", 1),
    ("storage", 1),
    ("source", 1),
    ("target", 1),
    ("repo", 2),
    ("watch", 2),
    ("tree", 3),
    ("ops", 4),
    ("job", 5),
];

/// Which modules use others of their own layer. The list may only shrink: a pair that is not
/// needed any more is a violation.
const SIDEWAYS: &[(&str, &str)] = &[
    ("chunk", "format"),
    ("codec", "format"),
    ("crypto", "format"),
    ("format", "crypto"),
    ("format", "codec"),
    ("parity", "format"),
    ("source", "format"),
    ("target", "format"),
];

/// What a module must not use although it lies below.
const APART: &[(&str, &str, &str)] = &[
    ("storage", "event", "storage knows names and bytes only"),
    ("repo", "source", "trouble with sources and trouble with the repository never mix"),
    ("repo", "target", "the repository does not know where bytes go"),
    ("tree", "source", "a tree does not know where entries come from"),
    ("tree", "target", "a tree does not know where entries go"),
];

const COMMAND_LINE: &str = "src/bin/gabion/";

/// The only files and folders that may use each third-party crate; none: all may.
const HOMES: &[(&str, &[&str])] = &[
    ("aes_gcm", &["src/crypto/aead.rs"]),
    ("argon2", &["src/crypto/passphrase.rs"]),
    (
        "blake3",
        &[
            "src/crypto/",
            "src/format/key_slot.rs",
            "src/format/parity.rs",
            "src/repo/index/",
            "src/repo/memory.rs",
            "src/source/filesystem.rs",
            "src/ops/check/",
        ],
    ),
    ("bytes", &["src/storage/sftp_connection.rs"]),
    ("clap", &[COMMAND_LINE]),
    ("clap_complete", &[COMMAND_LINE]),
    ("clap_mangen", &[COMMAND_LINE]),
    ("fastcdc", &["src/chunk.rs"]),
    ("getrandom", &["src/id.rs"]),
    ("indicatif", &[COMMAND_LINE]),
    ("jiff", &["src/ops/retention/", "src/ops/forget.rs", COMMAND_LINE]),
    ("libc", &["src/storage/local_pending.rs", "src/watch/", COMMAND_LINE]),
    ("memchr", &["src/ops/snapshot/rows.rs", "src/job/database/psql_script.rs"]),
    ("memmap2", &["src/repo/index/"]),
    (
        "nix",
        &[
            "src/source/metadata.rs",
            "src/storage/local_pending.rs",
            "src/target/file.rs",
            "src/target/owner.rs",
            "src/watch/group.rs",
            COMMAND_LINE,
        ],
    ),
    (
        "openssh_sftp_client_lowlevel",
        &[
            "src/storage/sftp.rs",
            "src/storage/sftp_connection.rs",
            "src/storage/sftp_fault.rs",
            "src/storage/sftp_list.rs",
            "src/storage/sftp_server.rs",
        ],
    ),
    ("rayon", &["src/ops/"]),
    ("regex", &["src/source/pattern/"]),
    ("reed_solomon_simd", &["src/parity/code.rs"]),
    ("rpassword", &[COMMAND_LINE]),
    ("rusqlite", &["src/repo/index/", "src/job/database/sqlite.rs", "src/job/drill/sqlite.rs"]),
    (
        "rustix",
        &[
            "src/storage/",
            "src/source/",
            "src/target/",
            "src/watch/",
            "src/ops/",
            "src/job/",
            "src/repo/memory.rs",
            COMMAND_LINE,
        ],
    ),
    ("serde", &[]),
    (
        "serde_json",
        &[
            "src/crypto/text.rs",
            "src/format/snapshot.rs",
            "src/job/aiida.rs",
            "src/job/setup/",
            "src/job/notify/",
            "src/job/state",
            "src/repo/memory.rs",
            "src/watch/wire.rs",
            COMMAND_LINE,
        ],
    ),
    ("signal_hook", &[COMMAND_LINE]),
    ("tempfile", &["src/job/output_file.rs"]),
    ("thiserror", &[]),
    ("tokio", &["src/storage/sftp_packets.rs"]),
    ("toml", &["src/job/config/"]),
    ("unicode_normalization", &["src/ops/restore/names.rs"]),
    ("ureq", &["src/job/notify/"]),
    ("walkdir", &["src/source/portable.rs"]),
    ("zeroize", &["src/crypto/", "src/format/key_slot.rs", "src/repo/index/"]),
    ("zstd", &["src/codec.rs"]),
];

/// Most lines of a file, its module of tests left out.
const MAX_LINES: usize = 400;

/// Files that are longer today. The list may only shrink.
const LONG_FILES: &[&str] = &[];

const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "todo!", "unimplemented!"];

/// What the library leaves to its caller.
const SURROUNDINGS: &[&str] = &[
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "SystemTime::now",
    "std::env",
    "process::exit",
    "process::abort",
];

/// What looks like the name of a test in the format's description but is a field.
const NOT_TESTS: &[&str] = &[];

/// A Rust file.
#[derive(Clone)]
pub(super) struct SourceFile {
    /// Path from the top of the source tree.
    pub(super) path: String,
    text: String,
    /// The text without comments, without what stands in quotes, and without the module of tests.
    code: String,
}

impl SourceFile {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = without_comments_and_quotes(text);
        let code = if is_test_file(path) { String::new() } else { without_tests(&code).to_owned() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The module of the library below the top that it belongs to.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/").filter(|_| self.is_library())?;
        Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
    }

    fn is_library(&self) -> bool {
        self.path.starts_with("src/")
            && !self.path.starts_with("src/bin/")
            && self.path != "src/lib.rs"
    }
}

fn is_test_file(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    let test = |name: &str| matches!(name, "tests" | "test_support") || name.ends_with("_tests");
    path.starts_with("src/") && (test(stem) || path.split('/').any(|folder| folder == "tests"))
}

/// Cuts an inline module of tests off, with its attributes; by convention it comes last.
fn without_tests(code: &str) -> &str {
    let mut from = None;
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let text = line.trim_end();
        if text.starts_with("#[cfg(") && text.contains("test") {
            from = Some(at);
        } else if text.starts_with("mod ") && text.ends_with('{') {
            if let Some(from) = from {
                return &code[..from];
            }
        } else if !text.is_empty() && !text.starts_with("#[") {
            from = None;
        }
        at += line.len();
    }
    code
}

/// Replaces comments and what stands in quotes by nothing, and keeps the lines.
pub(super) fn without_comments_and_quotes(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment_len(rest).or_else(|| quote_len(rest, code.chars().last()));
        let len = skipped.unwrap_or(first.len_utf8());
        let (now, later) = rest.split_at(len);
        match skipped {
            Some(_) => code.extend(now.chars().filter(|&c| c == '\n')),
            None => code.push(first),
        }
        rest = later;
    }
    code
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    loop {
        let tail = &rest[at..];
        if tail.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if tail.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += tail.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at >= rest.len() {
            return Some(at);
        }
    }
}

/// The length of a string or character at the start of `rest`; `before` is the character before.
fn quote_len(rest: &str, before: Option<char>) -> Option<usize> {
    let raw = rest.strip_prefix('r').filter(|_| before.is_none_or(|c| !is_word(c) || c == 'b'));
    if let Some(tail) = raw {
        let hashes = tail.len() - tail.trim_start_matches('#').len();
        if tail[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let found = tail[hashes + 1..].find(&end);
            return Some(found.map_or(rest.len(), |at| 1 + hashes + 1 + at + end.len()));
        }
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = rest.char_indices().skip(1);
    let mut inside = 0;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            _ if c == quote => return Some(at + 1),
            // No character but a lifetime.
            _ if quote == '\'' && inside > 0 => return None,
            _ => {}
        }
        inside += 1;
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The positions of `wanted` in `code` where it does not continue a word or path.
fn places<'a>(code: &'a str, wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(wanted).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[*at + wanted.len()..].chars().next();
        let ends = !wanted.ends_with(is_word) || !after.is_some_and(is_word);
        ends && !before.is_some_and(is_word)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first words after every `crate::` of `code`, with their lines.
fn used_modules(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in places(code, "crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group_heads(group),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim_start().chars().take_while(|&c| is_word(c)).collect();
            found.push((name, line_of(code, at)));
        }
    }
    found
}

/// The beginnings of the members of a `use` group, whose opening brace was taken off.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut heads, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.trim().is_empty());
    heads
}

/// No module uses one of a higher layer, or one of its own that it is not allowed to.
pub(super) fn layers(files: &[SourceFile]) -> Vec<String> {
    let layer = |module: &str| LAYERS.iter().find(|known| known.0 == module).map(|known| known.1);
    let mut violations = Vec::new();
    let mut sideways = BTreeSet::new();
    for file in files {
        let Some(module) = file.module() else { continue };
        let Some(own) = layer(module) else {
            violations.push(format!("{}: the module {module} has no layer", file.path));
            continue;
        };
        for (used, line) in used_modules(&file.code) {
            let place = format!("{}:{line}", file.path);
            // What starts otherwise is a macro or a name that is exported at the top.
            let Some(its) = layer(&used) else {
                violations.push(format!("{place}: crate::{used} has no layer"));
                continue;
            };
            let apart = APART.iter().find(|pair| (pair.0, pair.1) == (module, &used));
            if let Some((_, _, why)) = apart {
                violations.push(format!("{place}: {module} uses {used}, but {why}"));
            } else if its > own {
                violations.push(format!("{place}: {module} uses {used}, which lies above it"));
            } else if its == own && used != module {
                if !SIDEWAYS.contains(&(module, &used)) {
                    violations.push(format!("{place}: {module} uses {used} beside it"));
                }
                sideways.insert((module.to_owned(), used));
            }
        }
    }
    let unused = SIDEWAYS.iter().filter(|(from, to)| {
        let covered = files.iter().any(|file| file.module() == Some(from));
        covered && !sideways.contains(&((*from).to_owned(), (*to).to_owned()))
    });
    violations.extend(unused.map(|(from, to)| {
        format!("tests/it/tidy/rules.rs: {from} does not use {to} any more: take the pair out")
    }));
    violations
}

/// Third-party crates are used in their homes only, and every dependency has a home.
pub(super) fn homes(files: &[SourceFile], manifest: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    for name in dependencies.lines().filter_map(|line| line.split_once(" = ")) {
        let name = name.0.replace('-', "_");
        if !HOMES.iter().any(|home| home.0 == name) {
            violations.push(format!("Cargo.toml: the dependency {name} has no home"));
        }
    }
    for file in files {
        for (name, homes) in HOMES.iter().filter(|home| !home.1.is_empty()) {
            if homes.iter().any(|home| file.path.starts_with(home)) {
                continue;
            }
            for at in places(&file.code, &format!("{name}::")) {
                if file.code[..at].ends_with("::") && !file.code[..at].ends_with(" ::") {
                    continue;
                }
                let place = format!("{}:{}", file.path, line_of(&file.code, at));
                violations.push(format!("{place}: {name} is not at home here"));
            }
        }
    }
    violations
}

/// Every file begins with a line that says what it is for.
pub(super) fn purpose(files: &[SourceFile]) -> Vec<String> {
    let silent = files.iter().filter(|file| {
        let first = file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_none_or(|text| text.trim().is_empty())
    });
    silent.map(|file| format!("{}: it does not begin with //!", file.path)).collect()
}

/// No file is long.
pub(super) fn length(files: &[SourceFile]) -> Vec<String> {
    let long = |file: &SourceFile| without_tests(&file.text).lines().count() > MAX_LINES;
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| !is_test_file(&file.path)) {
        let listed = LONG_FILES.contains(&&*file.path);
        if long(file) && !listed {
            violations.push(format!("{}: more than {MAX_LINES} lines", file.path));
        } else if listed && !long(file) {
            violations.push(format!("{}: not long any more: take it off the list", file.path));
        }
    }
    violations
}

/// Nothing is marked as unfinished, in comments neither.
pub(super) fn unfinished(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
                violations.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    violations
}

/// The library does not touch what belongs to its caller.
pub(super) fn surroundings(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_library() || file.path == "src/lib.rs") {
        for wanted in SURROUNDINGS {
            for at in places(&file.code, wanted) {
                violations.push(format!("{}:{}: {wanted}", file.path, line_of(&file.code, at)));
            }
        }
    }
    violations
}

/// Every file of tests is declared by the file above it; `main` is the topmost.
pub(super) fn forgotten(files: &[SourceFile], main: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path != main) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let name = name.trim_end_matches(".rs");
        let at_top = main.rsplit_once('/').is_some_and(|(top, _)| top == folder);
        let above = if at_top { main.to_owned() } else { format!("{folder}.rs") };
        let declaration = format!("mod {name};");
        let declared = files
            .iter()
            .any(|other| other.path == above && places(&other.code, &declaration).next().is_some());
        if !declared {
            violations.push(format!("{}: no {declaration} in {above}", file.path));
        }
    }
    violations
}

/// Every test that a document names exists.
pub(super) fn named_tests(document: &str, files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    let named: BTreeSet<&str> =
        document.split('`').skip(1).step_by(2).filter(is_test_name).collect();
    for name in named {
        let declaration = format!("fn {name}");
        if !files.iter().any(|file| places(&file.text, &declaration).next().is_some()) {
            violations.push(format!("FORMAT.md names the test {name}, which does not exist"));
        }
    }
    violations
}

fn is_test_name(text: &&str) -> bool {
    text.contains('_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !NOT_TESTS.contains(text)
}

/// The limits that a document lists (`| constant | file below src | value |`) are those of the code,
/// and none of the format's is missing.
pub(super) fn limits(document: &str, files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut listed = BTreeMap::new();
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, path, value, ..] = cells[..] else { continue };
        let name = name.trim_matches('`');
        if path.ends_with(".rs") {
            listed.insert((format!("src/{path}"), name), value.parse::<u64>().ok());
        }
    }
    for ((path, name), value) in &listed {
        let found = files.iter().find(|file| file.path == *path);
        let found = found.and_then(|file| constant(&file.code, name));
        if found != *value || value.is_none() {
            violations.push(format!("FORMAT.md says {name} = {value:?}; {path} has {found:?}"));
        }
    }
    for file in files.iter().filter(|file| file.path.starts_with("src/format/")) {
        for at in places(&file.code, "const ") {
            let rest = &file.code[at + "const ".len()..];
            let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
            if name.starts_with("MAX_") && !listed.contains_key(&(file.path.clone(), &*name)) {
                violations.push(format!("FORMAT.md does not list {name} of {}", file.path));
            }
        }
    }
    violations
}

/// The value of a constant that is a number, a product or a shift.
fn constant(code: &str, name: &str) -> Option<u64> {
    let declaration = format!("const {name}: ");
    let at = places(code, &declaration).next()?;
    let (_, rest) = code[at..].split_once('=')?;
    let (value, _) = rest.split_once(';')?;
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    if let Some((value, bits)) = value.split_once("<<") {
        return number(value)?.checked_shl(u32::try_from(number(bits)?).ok()?);
    }
    value.split('*').map(number).try_fold(1u64, |product, factor| product.checked_mul(factor?))
}
