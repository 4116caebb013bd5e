//! A repository with a past, to which the same thing can be done again and again: the program does
//! one thing and meets a fault, and afterwards everything that it had confirmed has to be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gabion::id::SnapshotId;
use gabion::repo::Unlock;

use crate::aftermath::{self, Aftermath, Promised, Tree, Unfinished, scratch};
use crate::support::Sandbox;

/// What is done: one for each way in which the program changes a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Init,
    Snapshot,
    Forget,
    Tag,
    Prune,
    AddKey,
    RemoveKey,
    /// Of a configuration of which one copy is left, and packs that no index segment lists.
    Repair,
    Check,
}

pub(super) const DEEDS: [Deed; 9] = [
    Deed::Init,
    Deed::Snapshot,
    Deed::Forget,
    Deed::Tag,
    Deed::Prune,
    Deed::AddKey,
    Deed::RemoveKey,
    Deed::Repair,
    Deed::Check,
];

/// What came of a deed.
pub(super) struct Met {
    /// Whether the fault was met at all.
    pub(super) hit: bool,
    /// The code that the program ended with; nothing when it was killed.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) text: String,
}

pub(super) struct World {
    pub(super) sandbox: Sandbox,
    /// What was confirmed before the deed.
    kept: BTreeMap<SnapshotId, Tree>,
    /// In the source when a snapshot is taken.
    tree: Tree,
    second_slot: String,
    unlock: Unlock,
}

fn tree(round: u64) -> Tree {
    let seed = |file| if file < 4 { file } else { 10 * round + file };
    (0..8).map(|file| (format!("f{file}"), seed(file))).collect()
}

impl World {
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::with_encrypted_repository();
        let mut kept = BTreeMap::new();
        for round in 1..=3 {
            aftermath::write(&sandbox, "source", &tree(round));
            let line = sandbox.gabion(["snapshot", "source", "--json"]).run().success();
            let line = line.json_lines().remove(0);
            kept.insert(line["snapshot"]["id"].as_str().unwrap().parse().unwrap(), tree(round));
        }
        let first: SnapshotId = *kept.iter().find(|(_, then)| **then == tree(1)).unwrap().0;
        kept.remove(&first);
        sandbox.gabion(["forget", &first.to_string(), "--force"]).run().success();
        let key = sandbox.path("second").display().to_string();
        let added =
            sandbox.gabion(["key", "add", "--new-key-file", &key, "--json"]).run().success();
        let second_slot = added.json_lines()[0]["id"].as_str().unwrap().to_owned();
        aftermath::write(&sandbox, "source", &tree(4));
        for name in ["repository", "cache", "home"] {
            aftermath::copy_folder(&sandbox.path(name), &sandbox.path(format!("{name}.before")));
        }
        let text = fs::read(sandbox.path("key")).unwrap();
        let key = gabion::crypto::key_file::KeyFile::parse(&text).unwrap();
        Self { sandbox, kept, tree: tree(4), second_slot, unlock: Unlock::KeyFile(key) }
    }

    fn of_round(&self, round: u64) -> String {
        self.kept.iter().find(|(_, then)| **then == tree(round)).unwrap().0.to_string()
    }

    pub(super) fn words(&self, deed: Deed) -> Vec<String> {
        let third = self.sandbox.path("third").display().to_string();
        let words: Vec<&str> = match deed {
            Deed::Init => vec!["init", "--quiet"],
            Deed::Snapshot => vec!["snapshot", "source", "--json"],
            Deed::Forget => vec!["forget", "SNAP", "--force"],
            Deed::Tag => vec!["tag", "SNAP", "--add", "word"],
            Deed::Prune => vec!["prune", "--max-unused", "0%"],
            Deed::AddKey => vec!["key", "add", "--new-key-file", &third],
            Deed::RemoveKey => vec!["key", "remove", &self.second_slot],
            Deed::Repair => vec!["repair", "--read-data"],
            Deed::Check => vec!["check", "--read-data"],
        };
        let round = if deed == Deed::Forget { 2 } else { 3 };
        let named =
            |word: &str| if word == "SNAP" { self.of_round(round) } else { word.to_owned() };
        words.into_iter().map(named).collect()
    }

    /// Everything as before the deed.
    pub(super) fn reset(&self, deed: Deed) {
        // What this machine remembers of the repository is in the home directory.
        for name in ["repository", "cache", "home"] {
            let path = self.sandbox.path(name);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            if deed != Deed::Init {
                aftermath::copy_folder(&self.sandbox.path(format!("{name}.before")), &path);
            }
        }
        fs::create_dir_all(self.sandbox.path("home")).unwrap();
        if deed == Deed::Repair {
            self.sandbox.shell("rm repository/config repository/index/*").run().success();
        }
        let third = self.sandbox.path("third");
        if third.exists() {
            #[expect(clippy::disallowed_methods, reason = "a key file, no object")]
            fs::remove_file(third).unwrap();
        }
    }

    /// Does the deed, and lets it meet a fault at the n-th of these calls of one of its threads.
    pub(super) fn meet(&self, deed: Deed, calls: &str, fault: &str, n: u32) -> Met {
        self.reset(deed);
        let script = format!(
            "strace -f -qq -o trace -e trace={calls} -e 'inject={calls}:{fault}:when={n}' \
             $GABION --threads 2 \"$@\" >out.txt 2>&1; code=$?; \
             grep -c -e INJECTED -e 'killed by SIGKILL' trace; exit $code"
        );
        let words = ["-c".to_owned(), script, "sh".to_owned()].into_iter().chain(self.words(deed));
        let run = self.sandbox.program("sh", words).env("GABION", env!("CARGO_BIN_EXE_gabion"));
        // Whoever panics is to say where.
        let output = run.env("RUST_BACKTRACE", "1").run();
        let code = output.exit_code().filter(|code| *code < 128);
        let hit = output.text().trim() != "0";
        let text = fs::read_to_string(self.sandbox.path("out.txt")).unwrap();
        Met { hit, code, text }
    }

    /// What must be so after the deed; an error says what is not.
    pub(super) fn aftermath(&self, deed: Deed, met: &Met) -> Result<(), String> {
        if deed == Deed::Init {
            return self.aftermath_of_init(met);
        }
        let mut promised = Promised { kept: self.kept.clone(), ..Promised::default() };
        match (deed, met.code) {
            (Deed::Snapshot, Some(0)) => {
                let line: serde_json::Value =
                    serde_json::from_str(met.text.lines().last().unwrap())
                        .map_err(|error| format!("{error}: {}", met.text))?;
                let id = line["snapshot"]["id"].as_str().ok_or("success without a snapshot")?;
                promised.kept.insert(id.parse().unwrap(), self.tree.clone());
            }
            (Deed::Forget, code) => {
                let id = self.of_round(2).parse().unwrap();
                promised.kept.remove(&id);
                if code == Some(0) {
                    promised.gone.insert(id);
                }
            }
            _ => {}
        }
        self.go_on(deed, met, &promised)
    }

    fn aftermath_of_init(&self, met: &Met) -> Result<(), String> {
        let again = self.sandbox.gabion(["init", "--quiet"]).run();
        let code = again.exit_code();
        // The same again, or what was killed had come to its end.
        let there = self.sandbox.gabion(["snapshots"]).run();
        if met.code == Some(0) && code == Some(0) {
            return Err("what was made was not there".to_owned());
        }
        if !there.ended_well() {
            return Err(format!("init again: {}, then: {}", again.errors(), there.errors()));
        }
        self.go_on(Deed::Init, met, &Promised::default())
    }

    fn go_on(&self, deed: Deed, met: &Met, promised: &Promised) -> Result<(), String> {
        let folder = scratch();
        let cache: PathBuf = self.sandbox.path("cache");
        let aftermath = Aftermath {
            repository: &self.sandbox.path("repository"),
            unlock: &self.unlock,
            cache: Some(&cache),
            source: &self.sandbox.path("source"),
            tree: &self.tree,
            scratch: folder.path(),
            has_ended: |_| true,
            unfinished: match deed {
                _ if met.code == Some(0) => None,
                Deed::Init | Deed::Repair => Some(Unfinished::Init),
                Deed::AddKey | Deed::RemoveKey => Some(Unfinished::Key),
                _ => None,
            },
        };
        aftermath.go_on(promised)
    }
}
