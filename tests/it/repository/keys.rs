//! Key slots of a repository: what opens it, what does not, and why.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::id::{RepositoryId, SlotId};
use gabion::repo::{Repository, RepositoryError, SlotInfo, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName};

use super::some_files;
use crate::small::{key_file, open, open_plain, options, passphrase, read_back, take};

fn sealed() -> (MemoryStorage, RepositoryId) {
    let storage = MemoryStorage::new();
    let id = Repository::init(&storage, "here", &options(passphrase("secret"))).unwrap();
    (storage, id)
}

fn opened(storage: &MemoryStorage, unlock: &Unlock) -> Result<Arc<Repository>, RepositoryError> {
    open(storage, unlock, None, Arc::new(()))
}

fn only_slot(storage: &MemoryStorage, id: RepositoryId) -> SlotInfo {
    let mut slots = Repository::slots(storage, id).unwrap();
    assert_eq!(slots.len(), 1);
    slots.remove(0)
}

#[test]
fn only_the_right_key_opens() {
    let (storage, _) = sealed();
    let snapshot = take(&opened(&storage, &passphrase("secret")).unwrap(), &some_files(), 1);
    let again = opened(&storage, &passphrase("secret")).unwrap();
    assert_eq!(read_back(&again, &snapshot.unwrap()).unwrap(), some_files());
    for wrong in [passphrase("Secret"), passphrase("secret\n"), key_file(), Unlock::Nothing] {
        let error = opened(&storage, &wrong).unwrap_err();
        assert!(matches!(error, RepositoryError::WrongKey { slots: 1 }), "{wrong:?}: {error:?}");
    }
}

#[test]
fn nothing_of_an_encrypted_repository_is_in_the_open() {
    let (storage, _) = sealed();
    let repository = opened(&storage, &passphrase("secret")).unwrap();
    let text = b"a sentence that nobody else should read".to_vec();
    take(&repository, &[("dir/file-name".to_owned(), text)].into(), 1).unwrap();
    for name in storage.names() {
        let bytes = storage.get(name).unwrap();
        for secret in [&b"sentence"[..], b"file-name"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name}");
        }
    }
}

#[test]
fn a_plaintext_repository_is_refused_when_a_key_was_given() {
    let storage = MemoryStorage::new();
    Repository::init(&storage, "here", &options(Unlock::Nothing)).unwrap();
    for unlock in [passphrase("secret"), key_file()] {
        let error = opened(&storage, &unlock).unwrap_err();
        assert!(matches!(error, RepositoryError::UnexpectedPlaintext(_)), "{error:?}");
    }
    let error = open_plain(&storage).add_slot(&Unlock::Nothing, &options(key_file()));
    assert!(matches!(error, Err(RepositoryError::Key(_))), "{error:?}");
}

#[test]
fn a_damaged_slot_is_not_a_wrong_key() {
    let (storage, id) = sealed();
    let slot = only_slot(&storage, id).id;
    let (first, second) = (ObjectName::key(slot), ObjectName::key_copy(slot));
    let good = storage.get(first).unwrap();
    // One copy is enough, whichever.
    for (bad, other) in [(first, second), (second, first)] {
        for damage in [None, Some(&good[..10]), Some(&b""[..])] {
            match damage {
                None => assert!(storage.remove(bad)),
                Some(bytes) => storage.put(bad, bytes),
            }
            opened(&storage, &passphrase("secret")).unwrap();
            let error = opened(&storage, &passphrase("wrong")).unwrap_err();
            assert!(matches!(error, RepositoryError::WrongKey { slots: 1 }), "{error:?}");
        }
        storage.put(bad, storage.get(other).unwrap());
    }
    storage.put(first, &good[..10]);
    storage.put(second, *b"");
    for key in [passphrase("secret"), passphrase("wrong"), key_file()] {
        let error = opened(&storage, &key).unwrap_err();
        let RepositoryError::NoUsableSlot { reason } = error else { panic!("{error:?}") };
        assert!(reason.contains(&first.to_string()), "{reason}");
    }
    assert!(only_slot(&storage, id).kind.is_none());
    storage.remove(first);
    storage.remove(second);
    let error = opened(&storage, &passphrase("secret")).unwrap_err();
    assert!(matches!(error, RepositoryError::NoUsableSlot { .. }), "{error:?}");
}

#[test]
fn slots_are_added_and_removed_but_never_the_last_usable_one() {
    let (storage, id) = sealed();
    let repository = opened(&storage, &passphrase("secret")).unwrap();
    let first = only_slot(&storage, id).id;
    let refused = repository.remove_slot(first);
    assert!(matches!(refused, Err(RepositoryError::LastSlot(_))), "{refused:?}");
    let unknown = repository.remove_slot(SlotId([9; 16]));
    assert!(matches!(unknown, Err(RepositoryError::NoSuchSlot(_))), "{unknown:?}");

    let wrong = repository.add_slot(&passphrase("wrong"), &options(key_file()));
    assert!(matches!(wrong, Err(RepositoryError::WrongKey { .. })), "{wrong:?}");
    let nothing = repository.add_slot(&passphrase("secret"), &options(Unlock::Nothing));
    assert!(matches!(nothing, Err(RepositoryError::Key(_))), "{nothing:?}");
    assert_eq!(Repository::slots(&storage, id).unwrap().len(), 1, "nothing was left behind");

    let second = repository.add_slot(&passphrase("secret"), &options(key_file())).unwrap();
    let third = repository.add_slot(&key_file(), &options(passphrase("third"))).unwrap();
    for key in [passphrase("secret"), key_file(), passphrase("third")] {
        opened(&storage, &key).unwrap();
    }
    repository.remove_slot(first).unwrap();
    let error = opened(&storage, &passphrase("secret")).unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKey { slots: 2 }), "{error:?}");

    // A damaged slot does not count as one that is left.
    storage.put(ObjectName::key(third), *b"x");
    storage.put(ObjectName::key_copy(third), *b"x");
    let refused = repository.remove_slot(second);
    assert!(matches!(refused, Err(RepositoryError::LastSlot(_))), "{refused:?}");
    repository.remove_slot(third).unwrap();
    opened(&storage, &key_file()).unwrap();
    assert!(storage.names().iter().all(|name| name.id != third.0));
}

#[test]
fn slots_of_another_repository_or_under_another_name_open_nothing() {
    let (storage, id) = sealed();
    let (other, other_id) = sealed();
    let (slot, strange) = (only_slot(&storage, id).id, only_slot(&other, other_id).id);
    for name in [ObjectName::key(slot), ObjectName::key_copy(slot)] {
        storage.put(name, other.get(ObjectName::key(strange)).unwrap());
    }
    let error = opened(&storage, &passphrase("secret")).unwrap_err();
    assert!(matches!(error, RepositoryError::NoUsableSlot { .. }), "{error:?}");
    // Also when it bears the right name: it was wrapped for the other one.
    for (kind, name) in [
        (ObjectKind::Key, ObjectName::key(strange)),
        (ObjectKind::KeyCopy, ObjectName::key_copy(strange)),
    ] {
        storage.put(name, other.get(ObjectName { kind, id: strange.0 }).unwrap());
    }
    let error = opened(&storage, &passphrase("secret")).unwrap_err();
    assert!(matches!(error, RepositoryError::NoUsableSlot { .. }), "{error:?}");
    let recorder = Recorder::default();
    assert!(crate::small::problems(&recorder).is_empty());
}
