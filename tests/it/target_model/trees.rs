//! Random trees, laid out on a real file system and read back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Numbers that follow from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// True once in `of` times.
    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// One item of a tree that is to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Folder,
    File {
        content: Vec<u8>,
        mode: u32,
        mtime: u64,
    },
    Link(String),
    Pipe,
    /// Another name of the file at this path.
    Name(String),
}

pub(crate) type Tree = BTreeMap<String, Item>;

const NAMES: [&str; 5] = ["a", "b", "c.tmp", "d", "e"];

/// A random tree. Files of the same `era` may agree in size and time and differ in content.
pub(crate) fn random_tree(random: &mut Random, era: u64) -> Tree {
    let mut tree = Tree::new();
    fill(random, era, "", 0, &mut tree);
    tree
}

fn fill(random: &mut Random, era: u64, folder: &str, depth: u32, tree: &mut Tree) {
    for name in NAMES {
        if random.one_in(3) {
            continue;
        }
        let path = format!("{folder}{name}");
        let files: Vec<String> = tree
            .iter()
            .filter(|(_, item)| matches!(item, Item::File { .. } | Item::Pipe | Item::Link(_)))
            .map(|(path, _)| path.clone())
            .collect();
        let item = match random.below(12) {
            0..=3 if depth < 2 => {
                tree.insert(path.clone(), Item::Folder);
                fill(random, era, &format!("{path}/"), depth + 1, tree);
                continue;
            }
            4 => Item::Link(random.pick(&["a", "../b", "/", "../../beside"]).to_string()),
            5 => Item::Pipe,
            6 | 7 if !files.is_empty() => Item::Name(random.pick(&files).clone()),
            _ => random_file(random, era),
        };
        tree.insert(path, item);
    }
}

pub(crate) fn random_file(random: &mut Random, era: u64) -> Item {
    let len = *random.pick(&[0, 9, 9, 9, 300, 5000]);
    let first = u8::try_from(random.below(256)).unwrap();
    let content = (0..len).map(|at: u32| first.wrapping_add((at % 7) as u8)).collect();
    let mode = *random.pick(&[0o600, 0o644, 0o640]);
    Item::File { content, mode, mtime: era + random.below(2) * 1000 }
}

/// Makes the tree below `root`, which exists and is empty.
pub(crate) fn lay_out(root: &Path, tree: &Tree) {
    for (path, item) in tree {
        let at = root.join(path);
        match item {
            Item::Folder => fs::create_dir(&at).unwrap(),
            Item::File { content, mode, mtime } => {
                fs::write(&at, content).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
                let time = UNIX_EPOCH + Duration::from_secs(*mtime);
                fs::File::options().write(true).open(&at).unwrap().set_modified(time).unwrap();
            }
            Item::Link(to) => symlink(to, &at).unwrap(),
            Item::Pipe => {
                use rustix::fs::{CWD, FileType, Mode, mknodat};
                mknodat(CWD, &at, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
            }
            Item::Name(_) => {}
        }
    }
    for (path, item) in tree {
        if let Item::Name(first) = item {
            fs::hard_link(root.join(first), root.join(path)).unwrap();
        }
    }
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Kind and content: bytes of a file, target of a link.
    pub(crate) what: (u32, Vec<u8>),
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) inode: u64,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, content) = &self.what;
        let (len, first) = (content.len(), content.first());
        write!(f, "{kind:o} of {len} bytes {first:?} mode {:o} {:?}", self.mode, self.mtime)
    }
}

impl Seen {
    pub(crate) fn is_folder(&self) -> bool {
        self.what.0 == 0o040_000
    }

    /// The same but for which inode it is.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let time_counts = !self.is_folder();
        self.what == other.what
            && self.mode == other.mode
            && (self.mtime == other.mtime || !time_counts)
    }
}

pub(crate) type State = BTreeMap<String, Seen>;

/// Everything below `root`.
pub(crate) fn observe(root: &Path) -> State {
    let mut state = State::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(root.join(&folder)).unwrap() {
            let name = item.unwrap().file_name().into_string().unwrap();
            let path = format!("{folder}{name}");
            let at = root.join(&path);
            let about = at.symlink_metadata().unwrap();
            let kind = about.mode() & 0o170_000;
            let content = match kind {
                0o100_000 => fs::read(&at).unwrap(),
                0o120_000 => fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes(),
                _ => Vec::new(),
            };
            if kind == 0o040_000 {
                folders.push(format!("{path}/"));
            }
            let seen = Seen {
                what: (kind, content),
                mode: if kind == 0o120_000 { 0 } else { about.mode() & 0o7777 },
                mtime: (about.mtime(), about.mtime_nsec()),
                inode: about.ino(),
            };
            state.insert(path, seen);
        }
    }
    state
}
