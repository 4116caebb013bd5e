//! `kill -9` at system calls of everything that changes a repository, and at random times.
//!
//! `GABION_EVERY_CALL=1` kills at every call; `GABION_KILLS=10000` kills so often at random.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use gabion::id::SnapshotId;
use gabion::repo::Unlock;

use super::has;
use super::world::{DEEDS, World};
use crate::aftermath::{
    self, Aftermath, Promised, Tree, Unfinished, not_run, report, scale, scratch,
};
use crate::small::Random;
use crate::support::Sandbox;

/// The calls that change something, anywhere. To be killed at another one is to be killed at the
/// next of these.
const CHANGES: &str = "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,?rename,\
    renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,close";

/// The calls of a kind at which there is a fault, in ascending order: all, or a few.
pub(super) fn steps(few: &[u32]) -> Box<dyn Iterator<Item = u32> + '_> {
    if std::env::var_os("GABION_EVERY_CALL").is_some() {
        return Box::new(1..);
    }
    Box::new(few.iter().copied())
}

#[test]
fn killed_at_calls_of_every_deed_the_next_one_goes_on() {
    if !has("strace") {
        not_run("strace is not installed");
        return;
    }
    let world = World::new();
    let mut losses = Vec::new();
    for deed in DEEDS {
        let mut kills = 0;
        for n in steps(&[20, 45, 70, 95, 600]) {
            let met = world.meet(deed, CHANGES, "signal=KILL", n);
            if !met.hit {
                assert_eq!(met.code, Some(0), "{deed:?}: {}", met.text);
                break;
            }
            kills += 1;
            if let Err(loss) = world.aftermath(deed, &met) {
                losses.push(format!("{deed:?}, call {n}: {loss}"));
            }
        }
        assert!(kills > 0, "{deed:?} was never killed");
        report(&format!("kills at calls, {deed:?}"), &format!("{kills} kills"), losses.len());
    }
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}

/// A repository that is worked on and killed without end.
struct Victim {
    sandbox: Sandbox,
    unlock: Unlock,
    promised: Promised,
    tree: Tree,
    random: Random,
    /// How long each command takes, about.
    usual: BTreeMap<&'static str, Duration>,
    files: u64,
    kills: usize,
    ended: usize,
}

impl Victim {
    fn new(seed: u64) -> Self {
        let sandbox = Sandbox::with_encrypted_repository();
        let text = std::fs::read(sandbox.path("key")).unwrap();
        let key = gabion::crypto::key_file::KeyFile::parse(&text).unwrap();
        Self {
            sandbox,
            unlock: Unlock::KeyFile(key),
            promised: Promised::default(),
            tree: (0..6).map(|file| (format!("f{file}"), file)).collect(),
            random: Random::new(seed),
            usual: BTreeMap::new(),
            files: 0,
            kills: 0,
            ended: 0,
        }
    }

    /// Runs a command and kills it at a random time; what it printed if it came to its end.
    fn kill(&mut self, name: &'static str, words: &[&str]) -> Option<String> {
        let usual = self.usual.get(name).copied().unwrap_or(Duration::from_secs(1));
        let micros = u64::try_from(usual.as_micros()).unwrap() * 6 / 5;
        let after = Duration::from_micros(self.random.below(micros.max(1)));
        let mut command = self.sandbox.gabion(words).command();
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        // The moment is what is random here; nothing is awaited.
        std::thread::sleep(after);
        let killed = end(&mut child);
        let output = child.wait_with_output().unwrap();
        if killed && output.status.code().is_none() {
            self.kills += 1;
            return None;
        }
        let usual = self.usual.entry(name).or_insert(begun.elapsed());
        *usual = (*usual * 3 + begun.elapsed()) / 4;
        self.ended += 1;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }

    fn some_snapshot(&mut self) -> Option<SnapshotId> {
        let at = self.random.index(self.promised.kept.len());
        self.promised.kept.keys().nth(at).copied()
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..6 => self.snapshot(),
            6 => {
                let Some(id) = self.some_snapshot() else { return };
                self.kill("tag", &["tag", &id.to_string(), "--add", "word"]);
            }
            7 => {
                if let Some(id) = self.some_snapshot().filter(|_| self.promised.kept.len() > 3) {
                    self.promised.kept.remove(&id);
                    if self.kill("forget", &["forget", &id.to_string(), "--force"]).is_some() {
                        self.promised.gone.insert(id);
                    }
                }
            }
            8 => {
                self.files += 1;
                let path = self.sandbox.path(format!("keys/{}", self.files));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let path = path.display().to_string();
                self.kill("key", &["key", "add", "--new-key-file", &path, "--label", "more"]);
            }
            _ => {
                self.kill("prune", &["prune", "--max-unused", "0%", "--accept-fewer"]);
            }
        }
    }

    fn snapshot(&mut self) {
        let (file, seed) = (self.random.index(6), self.random.below(1000));
        self.tree.insert(format!("f{file}"), seed);
        aftermath::write(&self.sandbox, "source", &self.tree);
        if let Some(text) = self.kill("snapshot", &["snapshot", "source", "--json"]) {
            let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
            let id = line["snapshot"]["id"].as_str().unwrap().parse().unwrap();
            self.promised.kept.insert(id, self.tree.clone());
        }
    }

    /// Goes on with a copy, so that what the kills left stays for the next ones.
    fn look(&self) -> Result<(), String> {
        let folder = scratch();
        let [repository, cache, rest] =
            ["repository", "cache", "rest"].map(|name| folder.path().join(name));
        aftermath::copy_folder(&self.sandbox.path("repository"), &repository);
        aftermath::copy_folder(&self.sandbox.path("cache"), &cache);
        std::fs::create_dir(&rest).unwrap();
        let aftermath = Aftermath {
            repository: &repository,
            unlock: &self.unlock,
            cache: Some(&cache),
            source: &self.sandbox.path("source"),
            tree: &self.tree,
            scratch: &rest,
            has_ended: |_| true,
            // A key is added now and then and may be cut off.
            unfinished: Some(Unfinished::Key),
        };
        aftermath.go_on(&self.promised)
    }

    /// The program itself comes to its end and leaves nothing behind.
    fn settle(&self) {
        self.sandbox.gabion(["snapshot", "source"]).run().success();
        let prune = ["prune", "--max-unused", "0%", "--accept-fewer"];
        self.sandbox.gabion(prune).run().success();
        // A key that was being added may have one copy; to remove it is the way out.
        let checked = self.sandbox.gabion(["check"]).run();
        for line in checked.errors().lines() {
            let slot =
                line.strip_prefix("problem: keys/").and_then(|rest| rest.split_once(": one"));
            if let Some((slot, _)) = slot {
                self.sandbox.gabion(["key", "remove", slot]).run().success();
            }
        }
        self.sandbox.gabion(["check", "--read-data"]).run().success();
        for kind in ["marks", "sessions", "roots"] {
            let left = std::fs::read_dir(self.sandbox.path("repository").join(kind)).unwrap();
            let left = left.map(|item| item.unwrap().file_name());
            let left: Vec<_> =
                left.filter(|name| !name.as_encoded_bytes().starts_with(b"tmp-")).collect();
            // Sessions that are over may name what was forgotten: one, or two after a kill.
            assert!(left.len() <= if kind == "sessions" { 2 } else { 0 }, "{kind}: {left:?}");
        }
    }
}

/// Whether it was still there to be killed.
fn end(child: &mut Child) -> bool {
    let living = child.try_wait().unwrap().is_none();
    if living {
        child.kill().unwrap();
    }
    living
}

#[test]
fn killed_at_random_without_end_nothing_is_lost() {
    let wanted = scale("GABION_KILLS", 60);
    let (mut kills, mut ended, mut losses) = (0, 0, Vec::new());
    for seed in 0.. {
        // Now and then another repository: what kills leave makes later commands slower.
        let mut victim = Victim::new(seed);
        for step in 1..=400 {
            victim.step();
            let last = kills + victim.kills >= wanted;
            if step % 20 == 0 || last {
                losses
                    .extend(victim.look().err().map(|loss| format!("seed {seed}, {step}: {loss}")));
            }
            if last || !losses.is_empty() {
                break;
            }
        }
        victim.settle();
        losses.extend(victim.look().err().map(|loss| format!("seed {seed}, settled: {loss}")));
        kills += victim.kills;
        ended += victim.ended;
        if kills >= wanted || !losses.is_empty() {
            break;
        }
    }
    let counts = format!("{kills} kills, {ended} commands not killed");
    report("kills at random", &counts, losses.len());
    assert!(losses.is_empty(), "{}", losses.join("\n"));
}
