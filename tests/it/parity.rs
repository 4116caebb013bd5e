//! Parity: there for every pack, looked at by check, gone with its pack.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::entry::Timestamp;
use gabion::id::PackId;
use gabion::ops::check::{CheckSummary, ReadData};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::repo::{
    InitOptions, PackState, ParityHead, Repository, Unlock, pack_state, parity_head,
};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName, StorageErrorKind};

use crate::small::{
    FailAt, Files, copy, files, noise, notes, open, open_plain, options, problems, read_back, take,
};
use crate::specimen::checked;
use crate::support::Sandbox;

/// A repository with parity and a snapshot of `files`.
fn with_parity(files: &Files) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let options = InitOptions { parity_per_mille: Some(30), ..options(Unlock::Nothing) };
    Repository::init(&storage, "here", &options).unwrap();
    take(&open_plain(&storage), files, 1).unwrap();
    storage
}

fn some_files() -> Files {
    files([("a", noise(5000, 1)), ("b", noise(900, 2)), ("c", b"tiny".to_vec())])
}

fn ids(storage: &MemoryStorage, kind: ObjectKind) -> Vec<PackId> {
    let names = storage.names().into_iter().filter(|name| name.kind == kind);
    names.map(|name| PackId(name.id)).collect()
}

fn state(storage: &MemoryStorage, id: PackId) -> PackState {
    match parity_head(storage, id).unwrap() {
        ParityHead::Usable { head, flaw: None } => pack_state(storage, head, &[]).unwrap(),
        other => panic!("{id}: {other:?}"),
    }
}

fn change(storage: &MemoryStorage, name: ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = storage.get(name).unwrap().to_vec();
    change(&mut bytes);
    storage.put(name, bytes);
}

fn prune_options() -> PruneOptions {
    PruneOptions::new("box".to_owned(), || Timestamp { seconds: 1_000_000, nanos: 0 }, 1)
}

/// What a check of everything finds.
fn check_all(storage: &MemoryStorage) -> (CheckSummary, Vec<String>, Vec<String>) {
    let recorder = Arc::new(Recorder::default());
    let observer = Arc::clone(&recorder);
    let repository = open(storage, &Unlock::Nothing, None, observer).unwrap();
    let summary = checked(&repository, ReadData::All);
    (summary, problems(&recorder), notes(&recorder))
}

#[test]
fn every_pack_has_parity_that_fits() {
    let storage = with_parity(&some_files());
    let packs = ids(&storage, ObjectKind::Pack);
    assert_eq!(packs.len(), 2);
    assert_eq!(packs, ids(&storage, ObjectKind::Parity));
    for id in packs {
        let state = state(&storage, id);
        assert!(state.is_sound && state.lost.is_empty());
        let object = storage.get(ObjectName::parity(id)).unwrap();
        assert_eq!(object.len() as u64, state.head.layout.object_len());
    }
    let (_, problems, notes) = check_all(&storage);
    assert!(problems.is_empty() && notes.is_empty(), "{problems:?} {notes:?}");
    let plain = MemoryStorage::new();
    Repository::init(&plain, "here", &options(Unlock::Nothing)).unwrap();
    take(&open_plain(&plain), &some_files(), 1).unwrap();
    assert!(ids(&plain, ObjectKind::Parity).is_empty());
}

#[test]
fn whichever_call_fails_no_pack_is_there_without_its_parity() {
    let base = with_parity(&some_files());
    let (more, mut failed) = (files([("d", noise(3000, 3))]), 0);
    for at in 1.. {
        let storage = copy(&base);
        let failing = FailAt::new(storage.clone(), at, StorageErrorKind::Other);
        let repository = open(&failing, &Unlock::Nothing, None, Arc::new(()));
        let taken = repository.and_then(|repository| take(&repository, &more, 2));
        let parity = ids(&storage, ObjectKind::Parity);
        for id in ids(&storage, ObjectKind::Pack) {
            assert!(parity.contains(&id) && state(&storage, id).is_sound, "call {at}");
        }
        // The next run goes on, and prune removes what was left.
        let repository = open_plain(&storage);
        let snapshot = take(&repository, &more, 3).unwrap();
        prune(&repository, &prune_options()).unwrap();
        assert_eq!(ids(&storage, ObjectKind::Parity), ids(&storage, ObjectKind::Pack), "call {at}");
        assert_eq!(read_back(&repository, &snapshot).unwrap(), more);
        let (_, problems, _) = check_all(&storage);
        // Half a snapshot may be left: these tests announce no session.
        let other = problems.iter().find(|text| !text.starts_with("snapshots/"));
        assert_eq!(other, None, "call {at}");
        failed += u32::from(taken.is_err());
        if !failing.has_failed() {
            break;
        }
    }
    assert!(failed > 10);
}

#[test]
fn parity_goes_with_its_pack_and_what_has_none_goes_unless_somebody_is_at_work() {
    let storage = with_parity(&some_files());
    let repository = open_plain(&storage);
    let other = take(&repository, &files([("d", noise(3000, 3))]), 2).unwrap();
    let before = ids(&storage, ObjectKind::Parity).len();
    repository.remove_records(&[other.id]).unwrap();
    let summary = prune(&repository, &prune_options()).unwrap();
    assert!(summary.packs_deleted > 0);
    let packs = ids(&storage, ObjectKind::Pack);
    assert_eq!(ids(&storage, ObjectKind::Parity), packs);
    assert!(packs.len() < before);

    let bytes = storage.get(ObjectName::parity(packs[0])).unwrap();
    let session = gabion::id::SessionId::random();
    let (orphan, coming) = (PackId::random(), PackId::of_session(session));
    storage.put(ObjectName::parity(orphan), bytes.to_vec());
    storage.put(ObjectName::parity(coming), bytes.to_vec());
    storage.put(ObjectName::session(session), b"not to be read".to_vec());
    prune(&repository, &prune_options()).unwrap();
    assert!(storage.get(ObjectName::parity(orphan)).is_none());
    assert!(storage.get(ObjectName::parity(coming)).is_some());
    storage.remove(ObjectName::session(session));
    let (_, _, notes) = check_all(&storage);
    assert!(notes.iter().any(|note| note.contains("1 parity objects")), "{notes:?}");
    prune(&repository, &prune_options()).unwrap();
    assert_eq!(ids(&storage, ObjectKind::Parity), ids(&storage, ObjectKind::Pack));
}

#[test]
fn check_names_what_is_wrong_with_parity() {
    type Damage = fn(&MemoryStorage, PackId);
    let kinds: [(&str, Damage); 9] = [
        ("it is missing", |storage, id| {
            storage.remove(ObjectName::parity(id));
        }),
        ("it ends too early", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| bytes.truncate(3));
        }),
        ("its first head", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| bytes[90] ^= 1);
        }),
        ("its second head", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| {
                let at = bytes.len() - 20;
                bytes[at] ^= 1;
            });
        }),
        ("its second head", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| {
                let at = bytes.len() - 1;
                bytes[at] ^= 1;
            });
        }),
        ("bytes instead of", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| bytes.push(0));
        }),
        ("its hash does not fit", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| {
                let at = bytes.len() - 20;
                bytes[90] ^= 1;
                bytes[at] ^= 1;
            });
        }),
        ("1 of its 2 shards are damaged", |storage, id| {
            change(storage, ObjectName::parity(id), |bytes| bytes[1000] ^= 1);
        }),
        ("it is that of another pack", |storage, id| {
            let others = ids(storage, ObjectKind::Pack);
            let other = others.into_iter().find(|other| *other != id).unwrap();
            let bytes = storage.get(ObjectName::parity(other)).unwrap();
            storage.put(ObjectName::parity(id), bytes);
        }),
    ];
    let base = with_parity(&some_files());
    let id = ids(&base, ObjectKind::Pack)[0];
    for (words, damage) in kinds {
        let storage = copy(&base);
        damage(&storage, id);
        let (_, found, _) = check_all(&storage);
        let name = ObjectName::parity(id).to_string();
        let named = |text: &String| text.starts_with(&name) && text.contains(words);
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found.iter().all(named), "{words}: {found:?}");
    }
}

#[test]
fn check_says_whether_a_damaged_pack_can_be_rebuilt() {
    let base = with_parity(&files([("a", noise(60_000, 1))]));
    let sizes = |id: &PackId| base.get(ObjectName::pack(*id)).unwrap().len();
    let id = ids(&base, ObjectKind::Pack).into_iter().max_by_key(sizes).unwrap();
    let parity = state(&base, id).head.layout.parity_shards() as usize;
    for (shards, words) in [(1, "it can be rebuilt"), (parity + 1, "it cannot be rebuilt whole")] {
        let storage = copy(&base);
        change(&storage, ObjectName::pack(id), |bytes| {
            (0..shards).for_each(|shard| bytes[4096 * shard + 100] ^= 1);
        });
        let (_, found, _) = check_all(&storage);
        let name = ObjectName::pack(id).to_string();
        let told = found.iter().any(|text| text.starts_with(&name) && text.contains(words));
        assert!(told, "{words}: {found:?}");
    }
}

/// A snapshot that relies on a pack without parity says so.
#[test]
fn a_snapshot_is_not_silent_about_missing_parity() {
    let sandbox = Sandbox::new();
    let init = ["init", "--plaintext", "--parity", "3%"];
    let made = sandbox.gabion(init).run().success();
    assert!(made.stdout().contains("with parity"), "{}", made.stdout());
    sandbox.write("source/a", noise(100_000, 1));
    let quiet = sandbox.gabion(["snapshot", "source"]).run().success();
    assert!(!quiet.stderr().contains("parity"), "{}", quiet.stderr());
    sandbox.gabion(["check", "--read-data"]).run().success();
    sandbox.shell("find repository/parity -type f | head -1 | xargs rm").run().success();
    sandbox.gabion(["check"]).run().code(13);
    sandbox.write("source/b", b"more");
    let told = sandbox.gabion(["snapshot", "source"]).run().success();
    assert!(told.stderr().contains("1 packs have no parity"), "{}", told.stderr());
}
