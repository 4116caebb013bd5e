//! What was done to a repository from `init` on, recorded, with what the program said.

use std::ops::Range;
use std::path::PathBuf;

use gabion::crypto::key_file::KeyFile;
use gabion::crypto::passphrase::KdfCosts;
use gabion::id::SnapshotId;
use gabion::repo::{InitOptions, Unlock};

use super::record::{CALLS, Step, parse};
use super::{Promised, Unfinished, aftermath};
use crate::aftermath::{Tree, not_run};
use crate::support::Sandbox;

/// What the program has said up to a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Commands that have come to their end.
    pub(super) number: usize,
    pub(super) promised: Promised,
    /// What has begun and was not said to be done.
    pub(super) unfinished: Option<Unfinished>,
    /// Whether a second key opens it, where that is known.
    pub(super) second_key_opens: Option<bool>,
}

/// A recorded history.
pub(super) struct History {
    sandbox: Sandbox,
    pub(super) steps: Vec<Step>,
    /// What has to be so from which step on.
    said: Vec<(usize, Said)>,
    /// The steps of `init`, of which most are dull.
    init: Range<usize>,
    pub(super) unlock: Unlock,
    pub(super) source: PathBuf,
    /// What is in the source at the end.
    pub(super) tree: Tree,
    now: Said,
}

pub(super) fn key_file(text: &[u8]) -> Unlock {
    Unlock::KeyFile(KeyFile::parse(text).unwrap())
}

impl History {
    /// One of an encrypted repository; nothing where there is no `strace`.
    pub(super) fn encrypted(seed: u64) -> Option<Self> {
        let mut history = Self::begin(Some(seed))?;
        history.run(&["init"], |_, _| {});
        let first = history.take(seed + 1, 6);
        let second = history.take(seed + 2, 3);
        let slot = history.add_key();
        history.run(&["tag", &first.to_string(), "--add", "kept"], |_, _| {});
        let third = history.take(seed + 3, 2);
        history.forget(second);
        history.run(&["prune", "--max-unused", "0%"], |_, _| {});
        history.remove_key(&slot);
        history.forget(first);
        history.run(&["prune", "--max-unused", "0%"], |_, _| {});
        history.take(seed + 4, 4);
        history.forget(third);
        history.run(&["prune", "--max-unused", "0%"], |_, _| {});
        Some(history)
    }

    /// A short one of a repository that is not encrypted.
    pub(super) fn plaintext() -> Option<Self> {
        let mut history = Self::begin(None)?;
        history.run(&["init", "--plaintext"], |_, _| {});
        let first = history.take(11, 6);
        history.take(12, 3);
        history.forget(first);
        history.run(&["prune", "--max-unused", "0%"], |_, _| {});
        Some(history)
    }

    fn begin(key: Option<u64>) -> Option<Self> {
        if std::process::Command::new("strace").arg("-V").output().is_err() {
            not_run("strace is not installed");
            return None;
        }
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("disk")).unwrap();
        let unlock = match key {
            None => Unlock::Nothing,
            Some(_) => {
                let text = KeyFile::generate().encode();
                sandbox.write("key", text.as_bytes());
                key_file(text.as_bytes())
            }
        };
        let source = sandbox.path("source");
        Some(Self {
            sandbox,
            steps: Vec::new(),
            said: Vec::new(),
            init: 0..0,
            unlock,
            source,
            tree: Tree::new(),
            now: Said::default(),
        })
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.sandbox.path("disk")
    }

    pub(super) fn init_options(&self) -> InitOptions {
        let unlock = match &self.unlock {
            Unlock::Nothing => Unlock::Nothing,
            _ => key_file(&std::fs::read(self.sandbox.path("key")).unwrap()),
        };
        let costs = KdfCosts::default();
        InitOptions {
            unlock,
            costs,
            label: "first".to_owned(),
            now: "2026-11-22T00:00:00Z".to_owned(),
            parity_per_mille: None,
            delta: false,
        }
    }

    /// Runs a command and records it. `then` says what has to be so once it has printed its result,
    /// which is JSON.
    fn run(&mut self, args: &[&str], then: impl FnOnce(&mut Said, &serde_json::Value)) {
        let script = format!(
            "exec strace -f -qq -y -xx -s 67108864 -e signal=none -o trace -e trace={CALLS} \
             $GABION --json --threads 2 \"$@\""
        );
        let mut words = vec!["-c".to_owned(), script, "sh".to_owned()];
        words.extend(args.iter().map(ToString::to_string));
        let mut run = self.sandbox.program("sh", words).env("GABION", env!("CARGO_BIN_EXE_gabion"));
        run = run.env("GABION_REPOSITORY", self.sandbox.path("disk/repository"));
        if !matches!(self.unlock, Unlock::Nothing) {
            run = run.env("GABION_KEY_FILE", self.sandbox.path("key"));
        }
        let lines = run.run().success().json_lines();
        let trace = std::fs::read_to_string(self.sandbox.path("trace")).unwrap();
        let steps = parse(&trace, &self.disk());
        let begin = self.steps.len();
        self.now.unfinished = match args[0] {
            "init" => Some(Unfinished::Init),
            "key" => Some(Unfinished::Key),
            _ => None,
        };
        self.said.push((begin, self.now.clone()));
        self.now.unfinished = None;
        let printed = steps.iter().position(|step| *step == Step::Said).expect("it says something");
        self.steps.extend(steps);
        self.now.number += 1;
        then(&mut self.now, lines.first().unwrap_or(&serde_json::Value::Null));
        self.said.push((begin + printed, self.now.clone()));
        if args[0] == "init" {
            self.init = begin..begin + printed;
        }
        let cache = self.sandbox.path(format!("cache-{}", self.now.number));
        if self.sandbox.path("cache").exists() {
            aftermath::copy_folder(&self.sandbox.path("cache"), &cache);
        } else {
            std::fs::create_dir(cache).unwrap();
        }
    }

    /// Takes a snapshot, with so many files that changed.
    fn take(&mut self, seed: u64, changed: u64) -> SnapshotId {
        for file in 0..changed {
            self.tree.insert(format!("f{file}"), 1000 * seed + file);
        }
        aftermath::write(&self.sandbox, "source", &self.tree);
        let (tree, mut taken) = (self.tree.clone(), None);
        self.run(&["snapshot", "source"], |said, line| {
            let id: SnapshotId = line["snapshot"]["id"].as_str().unwrap().parse().unwrap();
            said.promised.kept.insert(id, tree);
            taken = Some(id);
        });
        taken.unwrap()
    }

    fn forget(&mut self, id: SnapshotId) {
        // From the beginning of the command on nobody knows whether it is there.
        self.now.promised.kept.remove(&id);
        self.run(&["forget", &id.to_string(), "--force"], |said, _| {
            said.promised.gone.insert(id);
        });
    }

    fn add_key(&mut self) -> String {
        let path = self.sandbox.path("disk/second").display().to_string();
        let mut slot = String::new();
        self.run(&["key", "add", "--new-key-file", &path], |said, line| {
            line["id"].as_str().unwrap().clone_into(&mut slot);
            said.second_key_opens = Some(true);
        });
        slot
    }

    fn remove_key(&mut self, slot: &str) {
        self.now.second_key_opens = None;
        self.run(&["key", "remove", slot], |said, _| said.second_key_opens = Some(false));
    }

    /// What has to be so when the power fails after step `at`.
    pub(super) fn said(&self, at: usize) -> &Said {
        &self.said[self.said.partition_point(|(from, _)| *from <= at) - 1].1
    }

    /// The client's cache after so many commands and one more.
    pub(super) fn cache(&self, number: usize) -> PathBuf {
        self.sandbox.path(format!("cache-{}", number + 1))
    }

    /// Of how many moments like this one is enough.
    pub(super) fn dullness(&self, at: usize) -> usize {
        let dull = self.init.contains(&at)
            && matches!(
                &self.steps[at],
                Step::MakeFolder(_) | Step::SyncBegins(..) | Step::SyncEnds(_)
            );
        if dull { 20 } else { 1 }
    }
}
