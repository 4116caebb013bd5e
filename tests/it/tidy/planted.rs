//! Violations planted on purpose: every rule is shown to find what it is for, and to leave alone
//! what only looks like it.

use super::rules::{self, SourceFile};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile::new(path, text)
}

#[track_caller]
fn found(violations: &[String], expected: &[&str]) {
    assert_eq!(violations.len(), expected.len(), "{violations:#?}");
    for (violation, wanted) in violations.iter().zip(expected) {
        assert!(violation.contains(wanted), "{violation} is not about {wanted}");
    }
}

#[test]
fn imports_upward_sideways_and_of_what_is_kept_apart() {
    let layers = |path, text| rules::layers(&[file(path, text)]);
    found(
        &layers("src/repo/x.rs", "use crate::id::Id;\nuse crate::tree::Page;\n"),
        &["src/repo/x.rs:2: repo uses tree, which lies above it"],
    );
    found(&layers("src/id.rs", "fn f(e: &crate::event::Event) {}"), &["id uses event beside it"]);
    found(
        &layers(
            "src/repo/x.rs",
            "use crate::{\n    id::{A, B},\n    source::{Stat},\n    ops,\n};",
        ),
        &["sources and trouble with the repository", "repo uses ops, which lies above"],
    );
    found(&layers("src/storage/x.rs", "use crate::event::Event;"), &["names and bytes only"]);
    found(&layers("src/new.rs", ""), &["the module new has no layer"]);
    found(&layers("src/ops/x.rs", "use crate::new::Thing;"), &["crate::new has no layer"]);
    // Needed no more, and so to be taken out of the list.
    found(&layers("src/source/x.rs", ""), &["source does not use format any more"]);
    found(&layers("src/source/x.rs", "use crate::format::entry::Entry;"), &[]);
}

#[test]
fn what_is_no_import_is_no_violation() {
    let text = "//! crate::ops\nuse crate::id::Id; // crate::ops\n\
                /* crate::ops /* */ crate::ops */\nconst A: &str = \"crate::ops \\\" crate::ops\";\n\
                const B: &str = r#\"crate::ops \" crate::ops\"#;\nfn f<'a>(x: &'a u8) -> char { '\"' }\n\
                fn subcrate::ops() {}\n\
                #[cfg(test)]\n#[expect(lint)]\nmod tests {\n    use crate::ops::Op;\n}\n";
    found(&rules::layers(&[file("src/repo/x.rs", text)]), &[]);
    found(&rules::layers(&[file("src/repo/tests.rs", "use crate::ops::Op;")]), &[]);
    found(&rules::layers(&[file("src/bin/gabion/x.rs", "use crate::whatever::It;")]), &[]);
    // Code behind a quote is seen again.
    let code =
        rules::without_comments_and_quotes("a('\\'', '\"', \"'\", b\"\\\\\", 'x'); crate::ops");
    assert_eq!(code, "a(, , , b, ); crate::ops");
}

#[test]
fn crates_away_from_home_and_without_one() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nserde = \"1\"\nleft-pad = \"1\"\n\n\
                    [dev-dependencies]\nproptest = \"1\"\n";
    found(&rules::homes(&[], manifest), &["the dependency left_pad has no home"]);
    let homes = |path, text| rules::homes(&[file(path, text)], "");
    found(&homes("src/ops/x.rs", "\nuse rusqlite::Connection;\n"), &["src/ops/x.rs:2: rusqlite"]);
    found(&homes("src/tree/x.rs", "let c = ::zstd::bulk::x();"), &["zstd"]);
    found(&homes("src/ops/x.rs", "#[derive(clap::Args)]"), &["clap"]);
    found(&homes("src/repo/index/x.rs", "use rusqlite::Connection;"), &[]);
    found(&homes("src/source/x.rs", "use std::os::unix::fs;\nuse crate::zstd::x;"), &[]);
}

#[test]
fn files_that_do_not_say_what_they_are_for() {
    for text in ["", "use std::fs;\n//! Too late.\n", "//!\n", "// No.\n", "/// No.\n"] {
        found(&rules::purpose(&[file("src/x.rs", text)]), &["src/x.rs"]);
    }
    found(&rules::purpose(&[file("src/x.rs", "//! Yes.\n")]), &[]);
}

#[test]
fn files_that_are_too_long() {
    let lines = |count: usize| "x\n".repeat(count);
    found(&rules::length(&[file("src/x.rs", &lines(401))]), &["more than 400"]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(400), lines(300));
    found(&rules::length(&[file("src/x.rs", &tests), file("src/x/tests.rs", &lines(900))]), &[]);
    let other = format!("{}#[cfg(test)]\nfn f() {{}}\nmod more {{\n{}}}\n", lines(300), lines(300));
    found(&rules::length(&[file("src/x.rs", &other)]), &["more than 400"]);
}

#[test]
fn words_of_the_unfinished() {
    let text = "//! A.\n// TODO: b\nlet c = todo!();\n// FIXME\nunimplemented!()\n// XXX\nfine\n";
    let places = ["src/x.rs:2", "src/x.rs:3", "src/x.rs:4", "src/x.rs:5", "src/x.rs:6"];
    found(&rules::unfinished(&[file("src/x.rs", text)]), &places);
}

#[test]
fn a_library_that_prints_looks_at_the_clock_or_at_the_environment() {
    let text = "println!(\"a\");\neprint!(\"b\");\ndbg!(c);\nlet d = std::time::SystemTime::now();\n\
                use std::env;\nstd::process::exit(1);\nlet e = env!(\"X\");\nblueprint!(f);\n";
    let violations = rules::surroundings(&[file("src/repo/x.rs", text)]);
    assert_eq!(violations.len(), 6, "{violations:#?}");
    found(&rules::surroundings(&[file("src/lib.rs", "println!();")]), &["println!"]);
    found(&rules::surroundings(&[file("src/bin/gabion/x.rs", text)]), &[]);
}

#[test]
fn test_files_that_nobody_runs() {
    let files = [
        file("tests/it/main.rs", "mod a;\n// mod b;\nmod cc;\n"),
        file("tests/it/a.rs", "mod deep;\n"),
        file("tests/it/a/deep.rs", ""),
        file("tests/it/a/lost.rs", ""),
        file("tests/it/b.rs", ""),
        file("tests/it/c.rs", ""),
    ];
    let expected = ["mod lost; in tests/it/a.rs", "mod b; in tests/it/main.rs", "mod c; in"];
    found(&rules::forgotten(&files, "tests/it/main.rs"), &expected);
}

#[test]
fn a_document_that_names_tests_and_limits_that_are_not() {
    let code = "pub const MAX_A: usize = 1 << 4;\nconst MAX_B: u64 = 64 * 1_024;\n\
                fn it_is_so() {}\n";
    let files = [file("src/format/x.rs", code)];
    found(
        &rules::named_tests("See `it_is_so`, `it_is`, `MAX_A`, `a-b`.", &files),
        &["test it_is,"],
    );
    let good = "| `MAX_A` | format/x.rs | 16 | of |\n| `MAX_B` | format/x.rs | 65536 | of |\n";
    found(&rules::limits(good, &files), &[]);
    found(&rules::limits(&good.replace("16", "17"), &files), &["MAX_A = Some(17)"]);
    found(&rules::limits(&good[..good.len() / 2 - 2], &files), &["does not list MAX_B"]);
    found(
        &rules::limits(&format!("{good}| `MAX_C` | format/x.rs | 1 | of |\n"), &files),
        &["MAX_C = Some(1)"],
    );
}
