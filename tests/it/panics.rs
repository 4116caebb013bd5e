//! A panic in any thread of an operation ends it as an error, in bounded time, and leaves the
//! repository and the commands that were started as any other error does. Panics are planted in
//! every call of the storage and in every event.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use gabion::event::{Event, Observer, Recorder};
use gabion::format::entry::Timestamp;
use gabion::ops::OpError;
use gabion::ops::cat_into::{Unchanged, cat_into};
use gabion::ops::check::{CheckOptions, ReadData, check};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::repair::{RepairOptions, repair};
use gabion::ops::restore::{Overwrite, restore};
use gabion::ops::snapshot::{SnapshotOptions, StreamInput, StreamSource, snapshot};
use gabion::repo::{Presence, Repository, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName, Storage as _};

use crate::small::{self, FailAt, files, noise, open_plain, problems, read_back, take};
use crate::{restore_op, snapshot_op};

/// Far more than any operation here takes: who is not done by then waits for ever.
const FOR_EVER: Duration = Duration::from_secs(120);

/// What `work` gives; it must not wait for ever.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match result.recv_timeout(FOR_EVER) {
        Ok(result) => {
            thread.join().unwrap();
            result
        }
        Err(_) if thread.is_finished() => panic!("{what}: it panicked"),
        Err(_) => panic!("{what}: it waits for ever"),
    }
}

/// Another storage with the same objects.
fn copy(of: &MemoryStorage) -> MemoryStorage {
    let new = MemoryStorage::new();
    of.names().into_iter().for_each(|name| new.put(name, of.get(name).unwrap()));
    new
}

/// A repository with parity, so that the thread that finishes packs reads, too.
fn with_parity() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let mut options = small::options(Unlock::Nothing);
    options.parity_per_mille = Some(100);
    Repository::init(&storage, "here", &options).unwrap();
    storage
}

fn opened(storage: &FailAt<MemoryStorage>, observer: Arc<dyn Observer>) -> Arc<Repository> {
    let storage = Arc::new(storage.clone());
    Arc::new(Repository::open(storage, "here", &Unlock::Nothing, None, observer).unwrap())
}

/// Does `work` again and again, each time with a panic in another of its calls of the storage, and
/// gives each result to `judge` with the storage as it was left. Returns how often it failed.
fn at_every_call<T: Send + 'static>(
    base: &MemoryStorage,
    work: impl Fn(&Arc<Repository>) -> Result<T, OpError> + Send + Sync + 'static,
    judge: impl Fn(&str, &MemoryStorage, Result<T, String>),
) -> u64 {
    let work = Arc::new(work);
    let counting = FailAt::panicking(copy(base), u64::MAX, false);
    drop(opened(&counting, Arc::new(())));
    let before = counting.calls();
    let mut failed = 0;
    for at in 1.. {
        let mut calls_made = true;
        for done in [false, true] {
            let what = format!("call {at}, done {done}");
            let storage = copy(base);
            let panicking = FailAt::panicking(storage.clone(), before + at, done);
            let (work, place) = (Arc::clone(&work), panicking.clone());
            let result = in_time(&what, move || work(&opened(&place, Arc::new(()))));
            calls_made = panicking.has_failed();
            if let Err(error) = &result {
                assert!(calls_made, "{what}: {error:?}");
                failed += 1;
            }
            judge(&what, &storage, result.map_err(|error| error.to_string()));
        }
        if !calls_made {
            assert!(at > 5, "only {at} calls were made");
            break;
        }
    }
    failed
}

/// No problem is found, also after another has been through the repository.
fn assert_sound(what: &str, storage: &MemoryStorage) {
    for _ in 0..2 {
        let recorder = Arc::new(Recorder::default());
        let repository =
            small::open(storage, &Unlock::Nothing, None, Arc::<Recorder>::clone(&recorder));
        let repository = repository.unwrap();
        let read = ReadData::All;
        let options = CheckOptions { read, salt: 0, threads: 1, interrupted: Arc::default() };
        let summary = check(&repository, &options).unwrap();
        assert_eq!(summary.problems, 0, "{what}: {:?}", problems(&recorder));
        // As if every session's process had ended: whatever no session explains is found then.
        let mut options = pruning();
        options.has_ended = |_| true;
        prune(&repository, &options).unwrap();
    }
    let left = storage.list(ObjectKind::Session).unwrap().objects;
    assert!(left.is_empty(), "{what}: {left:?}");
}

fn clock() -> Timestamp {
    Timestamp { seconds: 1_800_000_000, nanos: 0 }
}

fn pruning() -> PruneOptions {
    PruneOptions { max_unused: 0.0, ..PruneOptions::new("box".to_owned(), clock, 2) }
}

#[expect(clippy::disallowed_methods, reason = "makes test data")]
fn some_files(folder: &Path) {
    std::fs::create_dir(folder.join("sub")).unwrap();
    for number in 0..20u8 {
        let bytes = noise(500 * usize::from(number), number.into());
        std::fs::write(folder.join(format!("sub/{number}")), bytes).unwrap();
    }
}

fn of_folder(folder: &Path) -> SnapshotOptions {
    SnapshotOptions { paths: vec![folder.to_owned()], ..snapshot_op::options() }
}

#[test]
fn a_panic_at_any_call_of_a_snapshot_is_an_error_and_the_next_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    some_files(folder.path());
    let base = with_parity();
    let path = folder.path().to_owned();
    let take = move |repository: &Arc<Repository>| {
        let mut options = of_folder(&path);
        let stream = "echo words >&2; head -c 200000 /dev/zero | tr '\\0' x";
        options.streams = vec![StreamSource::new("dump", StreamInput::Command(stream.to_owned()))];
        snapshot(repository, options)
    };
    let judge = |what: &str, storage: &MemoryStorage, result: Result<_, String>| {
        let confirmed = storage.list(ObjectKind::Snapshot).unwrap().objects.len();
        match result {
            Ok(_) => assert_eq!(confirmed, 1, "{what}"),
            Err(error) => {
                assert!(error.starts_with("internal error: planted at call"), "{what}: {error}");
                match error.contains("it happened during the commit") {
                    true => {}
                    false => {
                        assert!(error.ends_with("; nothing was committed"), "{what}: {error}");
                        assert_eq!(confirmed, 0, "{what}: {error}");
                    }
                }
            }
        }
        let next = snapshot(&open_plain(storage), of_folder(folder.path())).unwrap();
        assert_eq!(next.problems, 0, "{what}");
        assert_sound(what, storage);
    };
    let failed = at_every_call(&base, take, judge);
    assert!(failed > 40, "only {failed} panics ended a snapshot");
}

#[test]
fn a_panic_at_any_call_of_a_restore_is_an_error_and_the_next_one_completes_it() {
    let folder = tempfile::tempdir().unwrap();
    some_files(folder.path());
    let base = with_parity();
    let taken = snapshot(&open_plain(&base), of_folder(folder.path())).unwrap().snapshot.unwrap();
    let target = tempfile::tempdir().unwrap();
    let options = move |target: &Path| {
        let mut options = restore_op::options(&taken, target);
        options.overwrite = Some(Overwrite::Always);
        options
    };
    let (again, to) = (options.clone(), target.path().to_owned());
    let work = move |repository: &Arc<Repository>| restore(repository, options(&to));
    let judge = |what: &str, storage: &MemoryStorage, result: Result<_, String>| {
        if let Err(error) = result {
            assert!(error.starts_with("internal error: planted at call"), "{what}: {error}");
        }
        let summary = restore(&open_plain(storage), again(target.path())).unwrap();
        assert_eq!((summary.problems, summary.damaged), (0, 0), "{what}");
        let names = |path: &Path| {
            let entries = std::fs::read_dir(path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(target.path()), names(folder.path()), "{what}");
        assert_eq!(names(&target.path().join("sub")), names(&folder.path().join("sub")), "{what}");
    };
    let failed = at_every_call(&base, work, judge);
    assert!(failed > 10, "only {failed} panics ended a restore");
}

/// Two snapshots, and dead and half-dead packs of a third that is gone.
fn with_garbage() -> MemoryStorage {
    let storage = small::tiny(false);
    let repository = open_plain(&storage);
    let part = |seed| noise(3000, seed);
    take(&repository, &files([("a", part(1)), ("b", part(2))]), 1).unwrap();
    let gone = take(&repository, &files([("b", part(2)), ("c", part(3))]), 2).unwrap();
    let gone_too = take(&repository, &files([("c", part(3)), ("d", part(4))]), 3).unwrap();
    take(&repository, &files([("d", [part(4), part(5)].concat())]), 4).unwrap();
    for id in [gone.id, gone_too.id] {
        storage.remove(ObjectName::snapshot(id));
        storage.remove(ObjectName::snapshot_copy(id));
    }
    storage
}

#[test]
fn a_panic_at_any_call_of_a_prune_is_an_error_and_loses_nothing() {
    let base = with_garbage();
    let judge = |what: &str, storage: &MemoryStorage, result: Result<_, String>| {
        if let Err(error) = result {
            assert!(error.starts_with("internal error: planted at call"), "{what}: {error}");
        }
        let repository = open_plain(storage);
        let (snapshots, damaged) = repository.snapshots().unwrap();
        assert_eq!((snapshots.len(), damaged.len()), (2, 0), "{what}");
        for snapshot in &snapshots {
            read_back(&repository, snapshot).unwrap();
        }
        assert_sound(what, storage);
    };
    let failed = at_every_call(&base, |repository| prune(repository, &pruning()), judge);
    assert!(failed > 40, "only {failed} panics ended a prune");
}

#[test]
fn a_panic_at_any_call_of_a_check_or_a_repair_is_an_error() {
    let base = with_garbage();
    let only_internal = |what: &str, _: &MemoryStorage, result: Result<u64, String>| {
        if let Err(error) = result {
            assert!(error.starts_with("internal error: planted at call"), "{what}: {error}");
        }
    };
    let look = |repository: &Arc<Repository>| {
        let (read, interrupted) = (ReadData::All, Arc::default());
        let options = CheckOptions { read, salt: 0, threads: 2, interrupted };
        check(repository, &options).map(|summary| summary.problems)
    };
    let failed = at_every_call(&base, look, only_internal);
    assert!(failed > 20, "only {failed} panics ended a check");

    let copy = base.list(ObjectKind::SnapshotCopy).unwrap().objects[0].0;
    base.remove(copy);
    let mend = |repository: &Arc<Repository>| {
        let options = RepairOptions {
            from: Vec::new(),
            read_data: true,
            dry_run: false,
            presence: Presence { host: "box".to_owned(), now: clock(), identity: None },
            has_ended: |_| true,
            compression: 1,
            threads: 2,
            interrupted: Arc::default(),
        };
        repair(repository, &options).map(|summary| summary.problems)
    };
    let judge = |what: &str, storage: &MemoryStorage, result: Result<u64, String>| {
        only_internal(what, storage, result);
        mend(&open_plain(storage)).unwrap();
        assert_sound(what, storage);
    };
    let failed = at_every_call(&base, mend, judge);
    assert!(failed > 20, "only {failed} panics ended a repair");
}

/// Panics at the n-th event.
struct PanicAt {
    events: AtomicU64,
    at: u64,
}

impl Observer for PanicAt {
    fn event(&self, event: Event) {
        let number = self.events.fetch_add(1, Ordering::SeqCst) + 1;
        assert_ne!(number, self.at, "planted at event {number}: {event:?}");
    }
}

#[test]
fn a_panic_at_any_event_of_a_snapshot_is_an_error_unless_it_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    some_files(folder.path());
    let base = with_parity();
    let mut failed = 0;
    for at in 1.. {
        let what = format!("event {at}");
        let storage = copy(&base);
        let observer = Arc::new(PanicAt { events: AtomicU64::new(0), at });
        let mut options = of_folder(folder.path());
        let line = "echo words >&2; head -c 2000000 /dev/zero; echo more >&2".to_owned();
        options.streams = vec![StreamSource::new("dump", StreamInput::Command(line))];
        let (place, events) = (storage.clone(), Arc::<PanicAt>::clone(&observer));
        let result = in_time(&what, move || {
            let place = Arc::new(place);
            let opened = Repository::open(place, "here", &Unlock::Nothing, None, events).unwrap();
            snapshot(&Arc::new(opened), options)
        });
        let confirmed = storage.list(ObjectKind::Snapshot).unwrap().objects.len();
        if let Err(error) = result {
            let text = error.to_string();
            assert!(
                text.starts_with("internal error: assertion `left != right`"),
                "{what}: {text}"
            );
            assert!(text.ends_with("; nothing was committed"), "{what}: {text}");
            assert_eq!(confirmed, 0, "{what}: {text}");
            let sessions = storage.list(ObjectKind::Session).unwrap().objects;
            assert!(sessions.is_empty(), "{what}: the session was not ended: {sessions:?}");
            failed += 1;
        } else {
            assert_eq!(confirmed, 1, "{what}");
        }
        if observer.events.load(Ordering::SeqCst) < at {
            break;
        }
    }
    assert!(failed > 5, "only {failed} panics ended a snapshot");
}

fn is_running(process: &str) -> bool {
    // One that ended and was not waited for is as bad.
    Path::new("/proc").join(process).exists()
}

/// Takes a snapshot of a command that tells its process id and then does `rest`, which never ends;
/// it and its command must end.
fn never_ending(rest: &str, storage: FailAt<MemoryStorage>, observer: Arc<dyn Observer>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let line = format!("echo $$ >{}; {rest}", pid.display());
    let mut options = snapshot_op::options();
    options.streams = vec![StreamSource::new("dump", StreamInput::Command(line))];
    let repository = opened(&storage, observer);
    let result = in_time(rest, move || snapshot(&repository, options));
    let process = std::fs::read_to_string(&pid).unwrap();
    assert!(!is_running(process.trim()), "{rest}: {process} still runs");
    result.map(drop).unwrap_err().to_string()
}

#[test]
fn a_panic_ends_the_command_of_a_stream_that_says_nothing_more() {
    // In the thread that passes on what the command says.
    struct AtOutput;
    impl Observer for AtOutput {
        fn event(&self, event: Event) {
            assert!(!matches!(event, Event::CommandOutput { .. }), "planted");
        }
    }
    let whole = || FailAt::panicking(with_parity(), u64::MAX, false);
    let error = never_ending("echo words >&2; exec sleep 1000", whole(), Arc::new(AtOutput));
    assert_eq!(error, "internal error: planted; nothing was committed");
    // In the thread that runs the streams.
    struct AtWork;
    impl Observer for AtWork {
        fn event(&self, event: Event) {
            assert!(!matches!(event, Event::Progress { .. }), "planted");
        }
    }
    let line = "head -c 9000000 /dev/urandom; exec sleep 1000";
    let error = never_ending(line, whole(), Arc::new(AtWork));
    assert_eq!(error, "internal error: planted; nothing was committed");
    // In the threads that store: the first call was for the record of the session.
    for at in 2..=6 {
        let storage = FailAt::panicking_in("append to", with_parity(), at);
        let error = never_ending(line, storage, Arc::new(()));
        assert!(error.starts_with("internal error: planted at call"), "append {at}: {error}");
        assert!(error.ends_with("; nothing was committed"), "append {at}: {error}");
    }
}

#[test]
fn a_panic_does_not_close_the_input_of_a_command_as_if_all_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let storage = with_parity();
    let mut options = snapshot_op::options();
    let input = StreamInput::Reader(Box::new(std::io::Cursor::new(noise(40 << 20, 1))));
    options.streams = vec![StreamSource::new("dump", input)];
    let taken = snapshot(&open_plain(&storage), options).unwrap().snapshot.unwrap();
    let counting = FailAt::panicking(storage.clone(), u64::MAX, false);
    opened(&counting, Arc::new(())).load_index().unwrap();
    let opening = counting.calls();
    let mut failed = 0;
    for at in (opening + 1..).step_by(7) {
        let panicking = FailAt::panicking(storage.clone(), at, false);
        let repository = opened(&panicking, Arc::new(()));
        repository.load_index().unwrap();
        let all = folder.path().join("all");
        let mut command = Command::new("sh");
        command.args(["-c", "cat >/dev/null && : >\"$0\""]).arg(&all);
        let taken = taken.clone();
        let result = in_time("cat_into", move || {
            let stop = AtomicBool::new(false);
            cat_into(&repository, &taken, b"dump", &mut Unchanged, command, &stop)
        });
        if !panicking.has_failed() {
            assert!(all.exists() && result.is_ok());
            break;
        }
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("internal error: planted at call"), "call {at}: {error}");
        assert!(!all.exists(), "call {at}: the command took the beginning for all");
        failed += 1;
    }
    assert!(failed > 2, "only {failed} panics were planted");
}
