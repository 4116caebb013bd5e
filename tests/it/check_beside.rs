//! The check of a repository that does not hold still: objects that cannot be read, unfinished
//! snapshots, and somebody who prunes meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gabion::crypto::ChunkKind;
use gabion::event::Recorder;
use gabion::format::snapshot::{Moment, Root};
use gabion::id::{SessionId, SnapshotId};
use gabion::ops::check::{CheckOptions, CheckSummary, ReadData, check};
use gabion::repo::{PackClass, Repository, Unlock, Writer};
use gabion::storage::{
    Listing, MemoryStorage, ObjectKind, ObjectName, PendingObject, Storage, StorageError,
};
use rustix::io::Errno;

use crate::small::{
    copy, files, noise, notes, open_plain, options, problems, read_back, store, take, writing,
};
use crate::specimen::specimen;

/// What a storage does beside handing out its objects.
#[derive(Clone, Debug)]
struct Beside {
    inner: MemoryStorage,
    /// Objects, and lists, that cannot be read, and why.
    unreadable: BTreeMap<ObjectName, Errno>,
    unlisted: Option<(ObjectKind, Errno)>,
    /// After so many calls the storage holds these objects instead.
    later: Option<(u64, MemoryStorage)>,
    /// While it is set, everything can be read.
    reached: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    turn: Arc<Mutex<()>>,
}

impl Beside {
    fn new(inner: &MemoryStorage) -> Self {
        Self {
            inner: copy(inner),
            unreadable: BTreeMap::new(),
            unlisted: None,
            later: None,
            reached: Arc::default(),
            calls: Arc::default(),
            turn: Arc::default(),
        }
    }

    fn call(&self) {
        let _turn = self.turn.lock().unwrap();
        let before = self.calls.fetch_add(1, Ordering::SeqCst);
        let Some((_, later)) = self.later.as_ref().filter(|(at, _)| *at == before) else { return };
        for name in self.inner.names() {
            self.inner.remove(name);
        }
        for name in later.names() {
            self.inner.put(name, later.get(name).unwrap());
        }
    }

    fn readable(&self, name: ObjectName) -> Result<(), StorageError> {
        self.call();
        match self.unreadable.get(&name).filter(|_| !self.reached.load(Ordering::SeqCst)) {
            Some(error) => Err(StorageError::from_io("read", name, io::Error::from(*error))),
            None => Ok(()),
        }
    }
}

impl Storage for Beside {
    fn create(
        &self,
        name: ObjectName,
        expected_len: Option<u64>,
    ) -> Result<Box<dyn PendingObject>, StorageError> {
        self.inner.create(name, expected_len)
    }

    fn read(&self, name: ObjectName, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.readable(name)?;
        self.inner.read(name, limit)
    }

    fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.readable(name)?;
        self.inner.read_range(name, offset, buffer)
    }

    fn len(&self, name: ObjectName) -> Result<u64, StorageError> {
        self.call();
        self.inner.len(name)
    }

    fn modified(&self, name: ObjectName) -> Result<std::time::SystemTime, StorageError> {
        self.inner.modified(name)
    }

    fn list(&self, kind: ObjectKind) -> Result<Listing, StorageError> {
        self.call();
        match self.unlisted {
            Some((unlisted, error)) if unlisted == kind => {
                Err(StorageError::from_io("list", format!("{kind:?}"), io::Error::from(error)))
            }
            _ => self.inner.list(kind),
        }
    }

    fn delete(&self, name: ObjectName) -> Result<(), StorageError> {
        self.inner.delete(name)
    }

    fn swap(&self, one: ObjectName, other: ObjectName) -> Result<(), StorageError> {
        self.inner.swap(one, other)
    }

    fn verify_place(&self) -> Result<(), StorageError> {
        self.inner.verify_place()
    }

    fn sweep_abandoned(&self) -> Result<u64, StorageError> {
        self.inner.sweep_abandoned()
    }
}

/// What a check of all data says, finds and notes; nothing when it stops.
fn check_of(place: &Beside) -> Option<(CheckSummary, Vec<String>, Vec<String>)> {
    let recorder = Arc::new(Recorder::default());
    let storage: Arc<dyn Storage> = Arc::new(place.clone());
    let opened = Repository::open(storage, "here", &Unlock::Nothing, None, recorder.clone());
    // Counted from the opening, which needs only the configuration.
    place.calls.store(0, Ordering::SeqCst);
    let (read, interrupted) = (ReadData::All, Arc::default());
    let options = CheckOptions { read, salt: 0, threads: 1, interrupted };
    let summary = check(&Arc::new(opened.unwrap()), &options).ok()?;
    let (problems, notes) = (problems(&recorder), notes(&recorder));
    assert_eq!(summary.problems, problems.len() as u64);
    Some((summary, problems, notes))
}

#[test]
fn one_object_that_cannot_be_read_is_a_finding_and_the_check_goes_on() {
    let specimen = specimen(&Unlock::Nothing);
    let whole = Beside::new(&specimen.storage);
    let (clean, ..) = check_of(&whole).unwrap();
    assert_eq!((clean.problems, clean.snapshots), (0, 2));
    for name in specimen.storage.names() {
        let is_config = matches!(name.kind, ObjectKind::Config | ObjectKind::ConfigCopy);
        // Who may not read the configuration is not let in at all.
        for error in [Errno::IO, Errno::ACCESS].into_iter().take(2 - usize::from(is_config)) {
            let unreadable = BTreeMap::from([(name, error)]);
            let place = Beside { unreadable, ..Beside::new(&specimen.storage) };
            let (summary, problems, _) = check_of(&place).unwrap();
            let named: Vec<&String> =
                problems.iter().filter(|problem| problem.contains(&name.to_string())).collect();
            assert!(!named.is_empty(), "{name}: {problems:#?}");
            assert!(named[0].contains(&io::Error::from(error).to_string()), "{named:?}");
            assert_eq!((summary.snapshots, summary.packs), (2, clean.packs), "{name}");
            let coordinates =
                matches!(name.kind, ObjectKind::Root | ObjectKind::Session | ObjectKind::Mark);
            assert!(!coordinates || problems.len() == 1, "{name}: {problems:#?}");
        }
        let unreadable = BTreeMap::from([(name, Errno::STALE)]);
        let place = Beside { unreadable, ..Beside::new(&specimen.storage) };
        assert!(is_config || check_of(&place).is_none(), "{name}: the place is lost");
    }
}

#[test]
fn a_kind_that_cannot_be_listed_is_a_finding_unless_nothing_can_be_checked_without() {
    let specimen = specimen(&Unlock::Nothing);
    for kind in ObjectKind::ALL {
        let unlisted = Some((kind, Errno::ACCESS));
        let found = check_of(&Beside { unlisted, ..Beside::new(&specimen.storage) });
        if matches!(kind, ObjectKind::Pack | ObjectKind::Snapshot) {
            assert!(found.is_none(), "{kind:?}");
            continue;
        }
        let (summary, problems, _) = found.unwrap();
        assert_eq!((summary.problems, summary.snapshots), (1, 2), "{problems:?}");
        assert!(problems[0].contains("cannot be listed"), "{problems:?}");
    }
}

/// A plaintext repository.
fn repository() -> (MemoryStorage, Arc<Repository>) {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    let opened = open_plain(&storage);
    (storage, opened)
}

fn packs(storage: &MemoryStorage) -> Vec<ObjectName> {
    storage.names().into_iter().filter(|name| name.kind == ObjectKind::Pack).collect()
}

#[test]
fn what_an_unfinished_snapshot_lost_is_a_note_unless_others_need_it() {
    let (storage, repository) = repository();
    let first = files([("a", noise(100, 1)), ("b", noise(100, 2))]);
    take(&repository, &first, 1).unwrap();
    let confirmed = packs(&storage);
    let mut second = first.clone();
    second.insert("c".to_owned(), noise(100, 3));
    let unfinished = store(&repository, &second, 2).unwrap();
    let (session, moment) = (SessionId::random(), Moment { seconds: 2, nanos: 0 });
    let ids = [SnapshotId::random(), SnapshotId::random()];
    let root = unfinished.root;
    let checkpoint = Root::Checkpoint {
        session,
        root,
        scan_started: moment,
        host: "box".to_owned(),
        paths: Vec::new(),
    };
    let tentative = Root::Tentative { session, snapshot: Box::new(unfinished) };
    repository.publish_root(ids[0], &checkpoint).unwrap();
    repository.publish_root(ids[1], &tentative).unwrap();
    let whole = check_of(&Beside::new(&storage)).unwrap();
    assert_eq!((whole.0.problems, whole.0.notes), (0, 0));
    for pack in packs(&storage) {
        let place = Beside::new(&storage);
        place.inner.remove(pack);
        let (_, problems, notes) = check_of(&place).unwrap();
        let is_needed = confirmed.contains(&pack);
        let (name, others) = (pack.to_string(), problems.iter());
        let others = others.filter(|text| !text.starts_with(&name)).count();
        assert_eq!(others > 0, is_needed, "{problems:?}");
        assert!(others < problems.len(), "the pack itself is told: {problems:?}");
        for id in ids.into_iter().filter(|_| !is_needed) {
            let name = format!("{}: ", ObjectName::root(id));
            let told = |note: &String| note.starts_with(&name) && note.contains("taken up again");
            assert!(notes.iter().any(told), "{notes:?}");
        }
    }
}

/// Every moment at which the objects of `before` could become those of `after`.
fn no_false_finding(before: &MemoryStorage, after: &MemoryStorage) {
    let mut moment = 0;
    loop {
        let later = Some((moment, copy(after)));
        let place = Beside { later, ..Beside::new(before) };
        let (_, problems, _) = check_of(&place).unwrap();
        assert_eq!(problems, [""; 0], "changed before call {moment}");
        if place.calls.load(Ordering::SeqCst) <= moment {
            break;
        }
        moment += 1;
    }
    assert!(moment > 20, "{moment} calls");
}

#[test]
fn who_moves_chunks_to_other_packs_meanwhile_causes_no_finding() {
    let (before, repository) = repository();
    let content = files([("a", noise(100, 1)), ("b/long", noise(1000, 2))]);
    take(&repository, &content, 1).unwrap();
    // Another writer does not know of the packs and stores all again.
    let after = copy(&before);
    let old = packs(&after);
    old.iter().for_each(|pack| assert!(after.remove(*pack)));
    let segments = after.names().into_iter().filter(|name| name.kind == ObjectKind::Segment);
    segments.for_each(|name| assert!(after.remove(name)));
    store(&open_plain(&after), &content, 1).unwrap();
    assert!(packs(&after).iter().all(|pack| !old.contains(pack)));
    no_false_finding(&before, &after);
}

#[test]
fn who_forgets_and_prunes_meanwhile_causes_no_finding() {
    let (after, repository) = repository();
    take(&repository, &files([("a", noise(100, 1))]), 1).unwrap();
    let before = copy(&after);
    let beside = open_plain(&before);
    take(&beside, &files([("a", noise(100, 1)), ("b", noise(100, 2))]), 2).unwrap();
    beside.begin_session(&writing()).unwrap();
    no_false_finding(&before, &after);
}

/// Found by the simulator: the session that explained the pack was over when the check looked at it
/// a second time, but the segments were those of the first time.
#[test]
fn who_lists_packs_and_ends_meanwhile_causes_no_finding() {
    let (before, repository) = repository();
    take(&repository, &files([("a", noise(100, 1))]), 1).unwrap();
    let after = copy(&before);
    let session = writing();
    repository.begin_session(&session).unwrap();
    let writer = Writer::new(&repository, 1);
    writer.announce(session.id);
    let mut worker = writer.worker(PackClass::Content).unwrap();
    worker.store(ChunkKind::Content, &noise(100, 2)).unwrap();
    worker.flush().unwrap();
    let segment = writer.finish().unwrap().unwrap();
    for pack in packs(&before) {
        after.put(pack, before.get(pack).unwrap());
    }
    after.put(segment.name, segment.bytes);
    no_false_finding(&before, &after);
}

#[test]
fn what_is_still_missing_at_the_second_look_is_told_once() {
    let (storage, repository) = repository();
    let kept = take(&repository, &files([("a", noise(100, 1))]), 1).unwrap();
    let older = packs(&storage);
    take(&repository, &files([("b", noise(100, 2))]), 2).unwrap();
    // All of the older snapshot's packs are lost, while a pack that nobody needs comes.
    let before = copy(&storage);
    older.iter().for_each(|pack| assert!(before.remove(*pack)));
    let after = copy(&before);
    store(&open_plain(&after), &files([("c", noise(100, 3))]), 3).unwrap();
    let calls = {
        let place = Beside::new(&before);
        check_of(&place).unwrap();
        place.calls.load(Ordering::SeqCst)
    };
    let later = Some((calls - 2, after));
    let (_, problems, _) = check_of(&Beside { later, ..Beside::new(&before) }).unwrap();
    let name = ObjectName::snapshot(kept.id).to_string();
    let about: Vec<&String> = problems.iter().filter(|text| text.contains(&name)).collect();
    assert_eq!(about.len(), 1, "{problems:#?}");
}

/// Two packs hold the same; one is damaged, and the other one cannot be read for a while.
#[test]
fn a_second_copy_that_cannot_be_reached_is_not_damage() {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    let packs = || -> Vec<ObjectName> {
        let names = storage.names().into_iter();
        names.filter(|name| name.kind == ObjectKind::Pack).collect()
    };
    // Neither knows what the other one stores.
    let writers = [open_plain(&storage), open_plain(&storage)];
    let content = files([("a", noise(3000, 1)), ("b", noise(200, 2))]);
    let taken = take(&writers[0], &content, 0).unwrap();
    let first = packs();
    take(&writers[1], &content, 1).unwrap();
    let second: Vec<_> = packs().into_iter().filter(|name| !first.contains(name)).collect();
    for (error, wanted) in [
        (Errno::STALE, "unreached"),
        (Errno::TIMEDOUT, "unreached"),
        (Errno::CONNRESET, "unreached"),
        (Errno::MFILE, "unreached"),
        (Errno::NOMEM, "unreached"),
        (Errno::IO, "damaged"),
        (Errno::NOENT, "damaged"),
    ] {
        for (damaged, unreadable) in [(&first, &second), (&second, &first)] {
            let unreadable = unreadable.iter().map(|name| (*name, error)).collect();
            let place = Beside { unreadable, ..Beside::new(&storage) };
            place.reached.store(true, Ordering::SeqCst);
            let repository = open_plain(&place);
            for name in damaged {
                let mut bytes = place.inner.get(*name).unwrap().to_vec();
                let middle = bytes.len() / 2;
                bytes[60..middle].iter_mut().for_each(|byte| *byte ^= 1);
                place.inner.put(*name, bytes);
            }
            assert!(read_back(&repository, &taken).unwrap() == content, "{error:?}");
            place.reached.store(false, Ordering::SeqCst);
            match read_back(&repository, &taken) {
                Ok(_) => panic!("{error:?}: nothing of it can be read"),
                Err(failed) if wanted == "damaged" => {
                    assert!(failed.is_about_one_object(), "{error:?}: {failed}");
                }
                Err(failed) => assert!(!failed.is_about_one_object(), "{error:?}: {failed}"),
            }
        }
    }
}
