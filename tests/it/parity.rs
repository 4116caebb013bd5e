//! Parity: there for every pack, looked at by check, gone with its pack.

use std::collections::BTreeSet;
use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::entry::Timestamp;
use gabion::id::PackId;
use gabion::ops::check::{CheckSummary, ReadData};
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::scrub::{ScrubOptions, ScrubSummary, make_parity_again, scrub};
use gabion::repo::{
    InitOptions, PackState, ParityHead, Repository, Unlock, pack_state, parity_head,
};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName, Storage, StorageErrorKind};

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

fn longest_pack(storage: &MemoryStorage) -> PackId {
    let len = |id: &PackId| storage.get(ObjectName::pack(*id)).unwrap().len();
    ids(storage, ObjectKind::Pack).into_iter().max_by_key(len).unwrap()
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
    let id = longest_pack(&base);
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
    let id = longest_pack(&base);
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

/// Scrubs, and returns the problems that were told.
fn scrubbed(storage: &dyn Storage, mend: bool) -> (ScrubSummary, Vec<String>) {
    let recorder = Recorder::default();
    let options = ScrubOptions { mend, only: None, threads: 2, interrupted: Arc::default() };
    let summary = scrub(storage, &recorder, &options).unwrap();
    (summary, problems(&recorder))
}

fn objects(storage: &MemoryStorage) -> Vec<(ObjectName, Arc<[u8]>)> {
    storage.names().into_iter().map(|name| (name, storage.get(name).unwrap())).collect()
}

fn without_quarantine(storage: &MemoryStorage) -> Vec<(ObjectName, Arc<[u8]>)> {
    let mut objects = objects(storage);
    objects.retain(|(name, _)| name.kind != ObjectKind::Quarantine);
    objects
}

/// A repository with a pack of many shards, and the pack's id.
fn with_long_pack() -> (MemoryStorage, PackId) {
    let storage = with_parity(&files([("a", noise(60_000, 1)), ("b", noise(50_000, 2))]));
    let id = longest_pack(&storage);
    (storage, id)
}

#[test]
fn scrubbing_a_sound_repository_changes_nothing() {
    let storage = with_parity(&some_files());
    let before = objects(&storage);
    for mend in [false, true] {
        let (summary, problems) = scrubbed(&storage, mend);
        assert!(summary.is_sound() && problems.is_empty(), "{problems:?}");
        assert_eq!(summary.packs, 2);
    }
    assert_eq!(objects(&storage), before);
    let only = Some(BTreeSet::from([ids(&storage, ObjectKind::Pack)[1]]));
    let one = ScrubOptions { mend: false, only, threads: 1, interrupted: Arc::default() };
    assert_eq!(scrub(&storage, &Recorder::default(), &one).unwrap().packs, 1);
    let plain = MemoryStorage::new();
    Repository::init(&plain, "here", &options(Unlock::Nothing)).unwrap();
    let options = ScrubOptions { mend: false, only: None, threads: 1, interrupted: Arc::default() };
    assert!(scrub(&plain, &Recorder::default(), &options).is_err());
}

#[test]
fn damage_of_packs_and_parity_is_mended_without_a_key_and_the_damaged_pack_is_kept() {
    type Damage = fn(&mut Vec<u8>);
    let kinds: [(&str, Damage); 5] = [
        ("a bit", |bytes| bytes[5000] ^= 1),
        ("its end is cut off", |bytes| bytes.truncate(bytes.len() - 100)),
        ("something follows", |bytes| bytes.extend_from_slice(b"more")),
        ("a sector of zeros", |bytes| bytes[4096..8192].fill(0)),
        ("header", |bytes| bytes[..64].fill(0xff)),
    ];
    let (base, id) = with_long_pack();
    for (what, damage) in kinds {
        let storage = copy(&base);
        change(&storage, ObjectName::pack(id), damage);
        let damaged = storage.get(ObjectName::pack(id)).unwrap();
        let (summary, told) = scrubbed(&storage, false);
        assert_eq!((summary.damaged, summary.rebuilt, told.len()), (1, 0, 1), "{what}: {told:?}");
        assert!(told[0].contains("it can be rebuilt"), "{what}: {told:?}");
        let (summary, told) = scrubbed(&storage, true);
        assert_eq!((summary.damaged, summary.rebuilt), (1, 1), "{what}: {told:?}");
        assert_eq!(without_quarantine(&storage), objects(&base), "{what}");
        let kept = ids(&storage, ObjectKind::Quarantine);
        assert_eq!(kept.len(), 1);
        assert_eq!(storage.get(ObjectName::quarantine(kept[0].0)), Some(damaged), "{what}");
        assert!(told[0].contains(&ObjectName::quarantine(kept[0].0).to_string()));
        assert!(scrubbed(&storage, true).1.is_empty(), "{what}");
    }
    for at in [0, 90, 1000, 6000] {
        let storage = copy(&base);
        change(&storage, ObjectName::parity(id), |bytes| bytes[at] ^= 1);
        let (summary, told) = scrubbed(&storage, true);
        assert_eq!((summary.parity_damaged, summary.parity_rebuilt), (1, 1), "{at}: {told:?}");
        assert_eq!(objects(&storage), objects(&base), "{at}: nothing of parity is kept");
    }
    let storage = copy(&base);
    change(&storage, ObjectName::pack(id), |bytes| bytes[5000] ^= 1);
    change(&storage, ObjectName::parity(id), |bytes| bytes[1000] ^= 1);
    let (summary, told) = scrubbed(&storage, true);
    assert!(summary.is_sound() && told.len() == 2, "{told:?}");
    assert_eq!(without_quarantine(&storage), objects(&base));
}

#[test]
fn what_is_beyond_the_parity_is_told_and_not_touched() {
    let (base, id) = with_long_pack();
    let most = state(&base, id).head.layout.parity_shards() as usize;
    let hit = |storage: &MemoryStorage, shards: usize| {
        change(storage, ObjectName::pack(id), |bytes| {
            (0..shards).for_each(|shard| bytes[4096 * shard + 7] ^= 1);
        });
    };
    let storage = copy(&base);
    hit(&storage, most);
    assert!(scrubbed(&storage, true).0.is_sound());
    assert_eq!(without_quarantine(&storage), objects(&base));

    let storage = copy(&base);
    hit(&storage, most + 1);
    let before = objects(&storage);
    let (summary, told) = scrubbed(&storage, true);
    assert_eq!((summary.damaged, summary.rebuilt), (1, 0));
    assert!(told[0].contains("more than the parity"), "{told:?}");
    assert_eq!(objects(&storage), before);
    // Both heads are lost: nothing is said about the pack, and the key is needed.
    let storage = copy(&base);
    change(&storage, ObjectName::parity(id), |bytes| bytes.fill(0));
    let before = objects(&storage);
    let (summary, _) = scrubbed(&storage, true);
    assert_eq!((summary.without_parity, summary.is_sound()), (1, false));
    assert_eq!(objects(&storage), before);
}

#[test]
fn a_repair_that_fails_at_any_call_loses_nothing_and_the_next_one_finishes() {
    let (base, id) = with_long_pack();
    change(&base, ObjectName::pack(id), |bytes| bytes[5000] ^= 1);
    change(&base, ObjectName::parity(id), |bytes| bytes[1000] ^= 1);
    let whole = copy(&base);
    assert!(scrubbed(&whole, true).0.is_sound());
    let (damaged, whole) = (objects(&base), without_quarantine(&whole));
    for at in 1.. {
        let storage = copy(&base);
        let failing = FailAt::new(storage.clone(), at, StorageErrorKind::Other);
        let options =
            ScrubOptions { mend: true, only: None, threads: 1, interrupted: Arc::default() };
        let result = scrub(&failing, &Recorder::default(), &options);
        // Every object is as it was, or as it was before it was damaged.
        let now = without_quarantine(&storage);
        assert_eq!(now.len(), whole.len(), "call {at}");
        for (object, (was, good)) in now.iter().zip(damaged.iter().zip(&whole)) {
            assert!(object == was || object == good, "call {at}: {}", object.0);
        }
        assert!(scrubbed(&storage, true).0.is_sound(), "call {at}");
        assert_eq!(without_quarantine(&storage), whole, "call {at}");
        if !failing.has_failed() {
            assert!(result.unwrap().is_sound());
            break;
        }
    }
}

/// A pruner deletes a pack while it is rebuilt: it must not come back.
#[test]
fn a_pack_that_is_deleted_meanwhile_stays_deleted() {
    let (base, id) = with_long_pack();
    change(&base, ObjectName::pack(id), |bytes| bytes[5000] ^= 1);
    let mut met = 0;
    for at in 1.. {
        let storage = copy(&base);
        let meddle = |storage: &MemoryStorage| {
            let longest = longest_pack(storage);
            storage.remove(ObjectName::pack(longest));
            storage.remove(ObjectName::parity(longest));
        };
        let meddling = FailAt::meddling(storage.clone(), at, meddle);
        let options =
            ScrubOptions { mend: true, only: None, threads: 1, interrupted: Arc::default() };
        scrub(&meddling, &Recorder::default(), &options).unwrap();
        if !meddling.has_failed() {
            break;
        }
        assert!(storage.get(ObjectName::pack(id)).is_none(), "call {at}");
        assert!(storage.get(ObjectName::parity(id)).is_none(), "call {at}");
        met += 1;
    }
    assert!(met > 10);
}

#[test]
fn lost_parity_is_made_again_with_the_key_but_never_of_a_damaged_pack() {
    let base = with_parity(&some_files());
    let packs = ids(&base, ObjectKind::Pack);
    let storage = copy(&base);
    storage.remove(ObjectName::parity(packs[0]));
    change(&storage, ObjectName::parity(packs[1]), |bytes| bytes.fill(0));
    let made = make_parity_again(&open_plain(&storage)).unwrap();
    assert_eq!(made, (2, 0));
    assert_eq!(objects(&storage), objects(&base));
    assert_eq!(make_parity_again(&open_plain(&storage)).unwrap(), (0, 0));

    let len = base.get(ObjectName::pack(packs[0])).unwrap().len();
    for at in (0..len).step_by(97).chain([len - 1]) {
        let storage = copy(&base);
        storage.remove(ObjectName::parity(packs[0]));
        change(&storage, ObjectName::pack(packs[0]), |bytes| bytes[at] ^= 1);
        assert_eq!(make_parity_again(&open_plain(&storage)).unwrap(), (0, 1), "byte {at}");
        assert!(storage.get(ObjectName::parity(packs[0])).is_none(), "byte {at}");
    }
}

/// The program, on an encrypted repository, from a machine that has no key.
#[test]
fn a_machine_without_the_key_finds_and_mends() {
    let sandbox = Sandbox::new();
    let with_key = |args: &[&str]| sandbox.gabion(args).env("GABION_PASSWORD", "secret");
    with_key(&["init", "--parity", "3%"]).run().success();
    sandbox.write("source/a", noise(300_000, 1));
    with_key(&["snapshot", "source"]).run().success();
    sandbox.gabion(["check", "--parity"]).run().success();
    let pack = "pack=$(find repository/packs -type f -size +200k)";
    let hit = "dd if=/dev/zero of=$pack bs=4096 seek=3 count=2 conv=notrunc status=none";
    sandbox.shell(&format!("{pack}; cp $pack whole; {hit}; cp $pack damaged")).run().success();
    let found = sandbox.gabion(["check", "--parity"]).run().code(13);
    found.says("it can be rebuilt");
    with_key(&["check", "--read-data"]).run().code(13);
    let json = sandbox.gabion(["repair", "--parity", "--json"]).run().success().json_lines();
    let summary = json.last().unwrap();
    assert_eq!((&summary["damaged"], &summary["rebuilt"]), (&1.into(), &1.into()));
    let same = "cmp $pack whole && cmp repository/quarantine/* damaged";
    sandbox.shell(&format!("{pack}; {same}")).run().success();
    with_key(&["check", "--read-data"]).run().success();
    sandbox.gabion(["repair", "--parity"]).run().success();

    sandbox.shell("rm -r repository/parity").run().success();
    sandbox.gabion(["check", "--parity"]).run().code(13);
    sandbox.gabion(["repair", "--parity"]).run().code(13).says("passphrase or key file");
    with_key(&["repair", "--parity"]).run().success();
    with_key(&["check", "--read-data"]).run().success();
    sandbox.gabion(["check", "--parity"]).run().success();
}
