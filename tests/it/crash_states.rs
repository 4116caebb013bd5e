//! Power failures at every moment of what the real program does, by the record of its system calls.
//!
//! A record says what was written, named and synced, and in which order. Up to any moment of it, a
//! file system may have kept or lost whatever was not synced: names, lengths, contents, each by
//! itself. Such states are laid out as folders. In each, everything that the program had said by
//! then has to be so, and work has to go on without anybody's help.
//!
//! `GABION_CRASH_STATES=10000 cargo test --release --test it crash_states -- --nocapture` looks at
//! so many states of each history.

mod disk;
mod history;
mod record;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use gabion::crypto::key_file::KeyFile;
use gabion::repo::{Repository, Unlock};
use gabion::storage::{LocalStorage, StorageErrorKind};

use super::aftermath::{self, Aftermath, Promised, Unfinished, scratch};
use super::small::Random;
use disk::{Disk, Fate, State, Stripped, fingerprint, lay_out};
use history::{History, Said};
use record::Step;

/// One state that the power failure leaves, and what has to be so in it.
struct Case<'a> {
    state: State,
    said: &'a Said,
    cache: Option<PathBuf>,
    place: String,
}

/// What was looked at.
#[derive(Default)]
struct Survey {
    states: usize,
    moments: usize,
    losses: Vec<String>,
}

/// Which moments of the history are looked at, and with which fates.
#[derive(Clone, Copy)]
enum Sample {
    /// So many states, from all moments.
    Of(usize),
    /// A few states for each moment at which something is said, until something is lost.
    Promises,
}

fn survey(history: &History, stripped: Stripped, sample: Sample) -> Survey {
    let (sender, receiver) = sync_channel(8);
    let (receiver, losses) = (Mutex::new(receiver), Mutex::new(Vec::new()));
    let mut survey = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| look_at(history, &receiver, &losses));
        }
        let survey = match sample {
            Sample::Of(wanted) => send_sample(history, stripped, wanted, |case| {
                sender.send(case).unwrap();
                true
            }),
            Sample::Promises => send_promises(history, stripped, |case| {
                sender.send(case).unwrap();
                losses.lock().unwrap().is_empty()
            }),
        };
        drop(sender);
        survey
    });
    survey.losses = losses.into_inner().unwrap();
    survey
}

fn look_at<'a>(
    history: &'a History,
    cases: &Mutex<Receiver<Case<'a>>>,
    losses: &Mutex<Vec<String>>,
) {
    loop {
        let next = cases.lock().unwrap().recv();
        let Ok(case) = next else { return };
        if let Err(loss) = go_on(history, &case) {
            losses.lock().unwrap().push(format!("{}: {loss}", case.place));
        }
    }
}

/// Distinct states from everywhere: first the simple fates of all moments, then mixed ones.
fn send_sample<'a>(
    history: &'a History,
    stripped: Stripped,
    wanted: usize,
    mut send: impl FnMut(Case<'a>) -> bool,
) -> Survey {
    let mut survey = Survey::default();
    let (mut seen, mut moments) = (HashSet::new(), HashSet::new());
    // Most rounds of a small sample pass over most moments.
    let stride = (history.steps.len() * 8 / wanted).max(1);
    for round in 0..4000 {
        let mut disk = Disk::new(stripped);
        for (at, step) in history.steps.iter().enumerate() {
            disk.apply(step);
            let seed = (round * history.steps.len() + at) as u64;
            let mut random = Random::new(seed);
            if random.index(stride * history.dullness(at)) != 0 {
                continue;
            }
            let fate = match round {
                0 => Fate::Lost,
                1 => Fate::Kept,
                2 => Fate::Names,
                3 => Fate::Zeros,
                _ => Fate::Mixed(seed),
            };
            let state = disk.after(fate);
            let said = history.said(at);
            if seen.insert((fingerprint(&state), said.number)) {
                moments.insert(at);
                survey.states += 1;
                let cache = random.index(said.number + 1).checked_sub(1);
                let cache = cache.map(|number| history.cache(number));
                let place = format!("after step {at} {}, {fate:?}", brief(step));
                send(Case { state, said, cache, place });
            }
            if survey.states == wanted {
                survey.moments = moments.len();
                return survey;
            }
        }
    }
    survey.moments = moments.len();
    survey
}

/// A few fates of the moments at which something was just said, while `send` wants more.
fn send_promises<'a>(
    history: &'a History,
    stripped: Stripped,
    mut send: impl FnMut(Case<'a>) -> bool,
) -> Survey {
    let mut survey = Survey::default();
    let mut disk = Disk::new(stripped);
    for (at, step) in history.steps.iter().enumerate() {
        disk.apply(step);
        if *step != Step::Said {
            continue;
        }
        let mixed = (0..4).map(|seed| Fate::Mixed(at as u64 + seed));
        for fate in [Fate::Lost, Fate::Names, Fate::Zeros].into_iter().chain(mixed) {
            let (state, said) = (disk.after(fate), history.said(at));
            survey.states += 1;
            let place = format!("after step {at}, {fate:?}");
            if !send(Case { state, said, cache: None, place }) {
                return survey;
            }
        }
    }
    survey
}

fn brief(step: &Step) -> String {
    match step {
        Step::Append(path, bytes) => format!("Append({path}, {} bytes)", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// Lays the state out and goes on from there.
fn go_on(history: &History, case: &Case<'_>) -> Result<(), String> {
    let folder = scratch();
    let [disk, scratch] = ["disk", "scratch"].map(|name| folder.path().join(name));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&scratch).unwrap();
    lay_out(&case.state, &disk);
    let repository = disk.join("repository");
    let cache = case.cache.as_ref().map(|from| {
        let to = folder.path().join("cache");
        aftermath::copy_folder(from, &to);
        to
    });
    if case.said.unfinished == Some(Unfinished::Init) {
        make_if_needed(history, &repository)?;
    }
    if let Some(opens) = case.said.second_key_opens {
        second_key(&disk, &repository, opens)?;
    }
    let aftermath = Aftermath {
        repository: &repository,
        unlock: &history.unlock,
        cache: cache.as_deref(),
        source: &history.source,
        tree: &history.tree,
        scratch: &scratch,
        // The machine was started anew.
        has_ended: |_| true,
        unfinished: case.said.unfinished,
    };
    aftermath.go_on(&case.said.promised)?;
    for kind in ["marks", "sessions", "roots"] {
        // Sessions that are over may name what was forgotten: one, or two after a crash.
        let most = if kind == "sessions" { 2 } else { 0 };
        if fs::read_dir(repository.join(kind)).map_or(0, |left| left.filter(is_object).count())
            > most
        {
            return Err(format!("{kind} are left"));
        }
    }
    Ok(())
}

fn is_object(item: &std::io::Result<fs::DirEntry>) -> bool {
    !item.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"tmp-")
}

/// Does again what an `init` did that did not come to its end.
fn make_if_needed(history: &History, path: &Path) -> Result<(), String> {
    match LocalStorage::open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind == StorageErrorKind::NotFound => {}
        Err(error) => return Err(format!("open: {error}")),
    }
    let storage = LocalStorage::create(path).map_err(|error| format!("init: {error}"))?;
    let made = Repository::init(&storage, "here", &history.init_options());
    made.map(drop).map_err(|error| format!("init: {error}"))
}

/// The key that was added opens the repository, or does so no more.
fn second_key(disk: &Path, repository: &Path, opens: bool) -> Result<(), String> {
    let text = fs::read(disk.join("second")).map_err(|error| format!("second key: {error}"))?;
    let key = KeyFile::parse(&text).map_err(|error| format!("second key: {error}"))?;
    let key = Unlock::KeyFile(key);
    let storage = LocalStorage::open(repository).map_err(|error| format!("open: {error}"))?;
    let storage = std::sync::Arc::new(storage);
    let opened = Repository::open(storage, "here", &key, None, std::sync::Arc::new(()));
    match (opened, opens) {
        (Ok(_), true) | (Err(_), false) => Ok(()),
        (Ok(_), false) => Err("the removed key opens the repository".to_owned()),
        (Err(error), true) => Err(format!("the second key: {error}")),
    }
}

fn nothing(_: &str, _: bool) -> bool {
    false
}

fn no_loss(what: &str, survey: &Survey) {
    let counts = format!("{} states, {} moments", survey.states, survey.moments);
    aftermath::report(what, &counts, survey.losses.len());
    assert!(
        survey.losses.is_empty(),
        "{}",
        survey.losses[..survey.losses.len().min(20)].join("\n")
    );
}

fn states() -> usize {
    aftermath::scale("GABION_CRASH_STATES", 90)
}

#[test]
fn after_a_power_failure_at_any_moment_all_that_was_said_is_so() {
    let Some(history) = History::encrypted(0) else { return };
    let mut disk = Disk::new(nothing);
    history.steps.iter().for_each(|step| disk.apply(step));
    assert!(disk.after(Fate::Kept) == disk::read(&history.disk()), "the record lacks something");
    no_loss("crash states, encrypted", &survey(&history, nothing, Sample::Of(states())));
}

#[test]
fn after_a_power_failure_at_any_moment_a_plaintext_repository_is_whole() {
    let Some(history) = History::plaintext() else { return };
    no_loss("crash states, plaintext", &survey(&history, nothing, Sample::Of(states() / 3)));
}

/// The net catches fish: a record from which the syncs of some objects are taken away loses what
/// was promised.
#[test]
fn each_kind_of_sync_is_missed_when_it_is_taken_away() {
    let Some(history) = History::encrypted(1) else { return };
    let stripped: BTreeMap<&str, Stripped> = BTreeMap::from([
        ("all files", (|_, is_file| is_file) as Stripped),
        ("all folders", |_, is_file| !is_file),
        ("packs", |path, is_file| is_file && path.starts_with("repository/packs")),
        ("folders of packs", |path, is_file| !is_file && path.starts_with("repository/packs")),
        ("snapshots", |path, is_file| is_file && path.contains("/snapshots/")),
        ("folders of snapshots", |path, is_file| !is_file && path.ends_with("/snapshots")),
        ("segments", |path, is_file| is_file && path.contains("/index/")),
        ("configs", |path, is_file| {
            is_file && ["repository", "repository/copy"].contains(&path.rsplit_once('/').unwrap().0)
        }),
        ("the top", |path, is_file| !is_file && path == "repository"),
        ("what the top lies in", |path, is_file| !is_file && path.is_empty()),
        ("key slots", |path, is_file| is_file && path.contains("/keys/")),
        ("folders of key slots", |path, is_file| !is_file && path.ends_with("/keys")),
        ("the new key file", |path, is_file| is_file && path.starts_with(".gabion-")),
    ]);
    let mut caught = 0;
    for (what, stripped) in stripped {
        let survey = survey(&history, stripped, Sample::Promises);
        println!("without syncs of {what}: {}", survey.losses.first().map_or("nothing", |l| l));
        assert!(!survey.losses.is_empty(), "nobody missed the syncs of {what}");
        caught += 1;
    }
    aftermath::report(
        "crash states without some syncs",
        &format!("{caught} kinds, each caught"),
        0,
    );
}
