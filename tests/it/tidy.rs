//! The rules about the source tree that the compiler and clippy do not know: layers, homes of
//! third-party crates, length of files, words, and documents that must agree with the code.
//!
//! Every rule is a pure function over texts that returns what breaks it. It is applied to this
//! source tree here, and to planted violations in `planted.rs`.

mod planted;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use rules::SourceFile;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// All Rust files below `folder`, by path.
fn files_below(folder: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(SourceFile::new(&relative(&path), &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty());
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

#[track_caller]
fn nothing_breaks_it(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    nothing_breaks_it(rules::layers(&files_below("src")));
}

#[test]
fn third_party_crates_are_used_only_in_their_homes() {
    nothing_breaks_it(rules::homes(&files_below("src"), &read("Cargo.toml")));
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = [files_below("src"), files_below("tests")].concat();
    nothing_breaks_it(rules::purpose(&files));
}

#[test]
fn no_file_is_long() {
    nothing_breaks_it(rules::length(&files_below("src")));
}

#[test]
fn nothing_is_left_to_do() {
    nothing_breaks_it(rules::unfinished(&files_below("src")));
}

#[test]
fn the_library_leaves_terminal_clock_and_environment_alone() {
    nothing_breaks_it(rules::surroundings(&files_below("src")));
}

#[test]
fn no_test_file_is_forgotten() {
    nothing_breaks_it(rules::forgotten(&files_below("tests/it"), "tests/it/main.rs"));
}

#[test]
fn the_format_names_only_tests_that_exist() {
    let files = [files_below("src"), files_below("tests")].concat();
    nothing_breaks_it(rules::named_tests(&read("src/format/FORMAT.md"), &files));
}

#[test]
fn the_limits_of_the_format_are_those_of_the_code() {
    nothing_breaks_it(rules::limits(&read("src/format/FORMAT.md"), &files_below("src")));
}

#[test]
fn there_is_one_description_of_the_format() {
    let top = root().join("FORMAT.md");
    assert_eq!(fs::read_link(top).unwrap(), Path::new("src/format/FORMAT.md"));
}
