//! What the simulated writers take snapshots of: one folder that never changes. A version of the
//! source is the folder without some of its files. So versions share what they have in common, as
//! the states of a living tree do, and unchanged files are taken over from the parent snapshot.
//!
//! The folder is made once and stays, in the target folder or where `GABION_SIMULATE_FOLDER` says:
//! a replay of a seed is exact as long as neither it nor a folder that leads to it changes, since
//! their times are in the snapshots.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gabion::format::snapshot::Snapshot;
use gabion::ops::snapshot::{StreamInput, StreamSource};
use gabion::repo::{Repository, RepositoryError};
use gabion::source::exclude::{Excludes, ExcludesBuilder};

use crate::small::{self, Files, noise};

/// Which version of the source.
pub(super) type Version = usize;

/// Files of which every version has one form, or none.
const ITEMS: usize = 6;
/// Forms of each.
const FORMS: usize = 2;
/// Small files that are in every version: they make several pages.
const COMMON: usize = 22;

/// Of each version, the form of each item; 9 where it does not have it.
const VERSIONS: [[usize; ITEMS]; 10] = [
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 1],
    [0, 0, 0, 1, 1, 1],
    [1, 0, 0, 1, 1, 1],
    [1, 1, 1, 1, 1, 1],
    [0, 9, 9, 9, 9, 9],
    [9, 9, 9, 9, 9, 9],
    [1, 9, 0, 9, 1, 9],
    [0, 1, 9, 0, 9, 0],
    [1, 0, 1, 0, 1, 0],
];

pub(super) const VERSION_COUNT: usize = VERSIONS.len();

fn item_name(item: usize, form: usize) -> String {
    format!("{item}-{form}")
}

/// The content of a form of an item.
fn content(item: usize, form: usize) -> Vec<u8> {
    let seed = (item * 10 + form) as u64;
    match item {
        // One chunk of each form, and one that the forms share.
        0 => [noise(2000, 1), noise(400, seed)].concat(),
        // The same content twice in one tree, and in both forms.
        1 | 2 => noise(600 + 200 * form, 77),
        // A list of chunks that is a page of its own.
        3 => [noise(6000, 5), noise(1500, seed)].concat(),
        4 => vec![0; 3000 * (form + 1)],
        _ => noise(300, seed),
    }
}

/// Everything in the folder.
fn all_files() -> Files {
    let items = (0..ITEMS).flat_map(|item| (0..FORMS).map(move |form| (item, form)));
    let items = items.map(|(item, form)| (item_name(item, form), content(item, form)));
    let common = (0..COMMON).map(|n| (format!("c/{n:02}"), noise(n % 60, 900 + n as u64)));
    items.chain(common).collect()
}

/// The name of the stream that every version has.
const STREAM: &str = "db";

/// What the stream gives: a dump in which some rows are as the items' forms say.
pub(super) fn stream(version: Version) -> Vec<u8> {
    let mut dump = noise(9000, 50);
    for (item, form) in VERSIONS[version].iter().enumerate().rev() {
        let at = 1200 * (item + 1);
        match form {
            0 => {}
            9 => drop(dump.drain(at..at + 50)),
            _ => drop(dump.splice(at..at + 40, noise(40, 60 + item as u64))),
        }
    }
    dump
}

/// The folder.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let target = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
        let base = std::env::var_os("GABION_SIMULATE_FOLDER").map_or_else(target, PathBuf::from);
        std::fs::create_dir_all(&base).unwrap();
        let base = base.canonicalize().unwrap();
        let folder = base.join("simulated-source-1");
        if !folder.exists() {
            make(&base, &folder);
        }
        folder
    })
}

#[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
fn make(base: &Path, folder: &Path) {
    let made = tempfile::tempdir_in(base).unwrap();
    std::fs::create_dir(made.path().join("c")).unwrap();
    for (path, bytes) in all_files() {
        std::fs::write(made.path().join(path), bytes).unwrap();
    }
    // Another process may have been first; then that one's is used.
    if std::fs::rename(made.path(), folder).is_ok() {
        let _ = made.keep();
    }
}

/// Leaves out what a version does not have.
pub(super) fn excludes(version: Version) -> Excludes {
    static ALL: OnceLock<Vec<Excludes>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let of = |forms: &[usize; ITEMS]| {
            let left_out = |(item, form): &(usize, usize)| forms[*item] != *form;
            let all = (0..ITEMS).flat_map(|item| (0..FORMS).map(move |form| (item, form)));
            let patterns = all
                .filter(left_out)
                .map(|(item, form)| format!("/{}", item_name(item, form)).into());
            ExcludesBuilder { patterns: patterns.collect(), ..ExcludesBuilder::default() }
                .build()
                .unwrap()
        };
        VERSIONS.iter().map(of).collect()
    });
    all[version].clone()
}

/// The stream as a source.
pub(super) fn stream_source(version: Version) -> StreamSource {
    let dump = std::io::Cursor::new(stream(version));
    StreamSource::new(STREAM, StreamInput::Reader(Box::new(dump)))
}

/// The tag that says of which version a snapshot is.
pub(super) fn tag(version: Version) -> String {
    format!("v{version}")
}

/// The version that the tags name.
pub(super) fn version_of(tags: &[String]) -> Option<Version> {
    tags.iter().find_map(|tag| tag.strip_prefix('v')?.parse().ok())
}

/// Reads a snapshot byte for byte and says of which version it is.
pub(super) fn read_back(
    repository: &Repository,
    snapshot: &Snapshot,
) -> Result<Version, RepositoryError> {
    let mut found = small::read_back(repository, snapshot)?;
    let dump = found.remove(STREAM);
    let top = folder().strip_prefix("/").unwrap().to_str().unwrap();
    let below = |path: &String| Some(path.strip_prefix(top)?.strip_prefix('/')?.to_owned());
    let is_folder = |path: &str| path == "c";
    let found: Files = found
        .into_iter()
        .filter_map(|(path, bytes)| Some((below(&path)?, bytes)))
        .filter(|(path, _)| !is_folder(path))
        .collect();
    let version = (0..VERSION_COUNT).find(|version| expected(*version) == found);
    let version = version.unwrap_or_else(|| panic!("no version looks like {:?}", found.keys()));
    assert!(dump == Some(stream(version)), "the stream is not that of version {version}");
    Ok(version)
}

fn expected(version: Version) -> Files {
    let forms = &VERSIONS[version];
    let is_there = |name: &String| match name.split_once('-') {
        Some((item, form)) => forms[item.parse::<usize>().unwrap()].to_string() == form,
        None => true,
    };
    all_files().into_iter().filter(|(name, _)| is_there(name)).collect()
}
