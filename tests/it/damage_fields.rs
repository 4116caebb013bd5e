//! Damage of each field of each kind of object, objects in the place of others, objects of another
//! repository and an older state of one object: the check names each, and says what is wrong.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::ops::check::ReadData;
use gabion::repo::Repository;
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName, Storage};

use crate::small::{key_file, open, options, passphrase, problems};
use crate::specimen::{add_coordination, checked, specimen};

const SEALED: [ObjectKind; 7] = [
    ObjectKind::Pack,
    ObjectKind::Segment,
    ObjectKind::Snapshot,
    ObjectKind::SnapshotCopy,
    ObjectKind::Root,
    ObjectKind::Session,
    ObjectKind::Mark,
];

/// A repository with at least two objects of each kind.
fn made() -> MemoryStorage {
    let specimen = specimen(&key_file());
    let repository = open(&specimen.storage, &key_file(), None, Arc::new(())).unwrap();
    repository.add_slot(&key_file(), &options(passphrase("second"))).unwrap();
    add_coordination(&repository, &specimen.storage, &specimen.taken[1].1);
    specimen.storage
}

fn of_kind(storage: &MemoryStorage, kind: ObjectKind) -> Vec<ObjectName> {
    storage.names().into_iter().filter(|name| name.kind == kind).collect()
}

/// The last object of a kind.
fn one(storage: &MemoryStorage, kind: ObjectKind) -> ObjectName {
    of_kind(storage, kind).pop().unwrap()
}

/// Counts what was planted, and gathers what was not said of it.
#[derive(Default)]
struct Ledger {
    planted: usize,
    wrong: Vec<String>,
}

impl Ledger {
    /// A check of the structure of `storage` must name `object` and say one of `expected` of it.
    fn expect(
        &mut self,
        storage: &MemoryStorage,
        what: &str,
        object: ObjectName,
        expected: &[&str],
    ) {
        self.planted += 1;
        let recorder = Arc::new(Recorder::default());
        let place: Arc<dyn Storage> = Arc::new(storage.clone());
        let opened = Repository::open(place, "here", &key_file(), None, recorder.clone());
        let summary = checked(&Arc::new(opened.unwrap()), ReadData::Structure);
        let found = problems(&recorder);
        assert_eq!(summary.problems, found.len() as u64, "{what}: each is told and counted");
        // Of two copies of a key slot, the first stands for both.
        let last = object.to_string().rsplit('/').next().unwrap().to_owned();
        let named: Vec<&String> = found.iter().filter(|text| text.contains(&last)).collect();
        let said = |text: &&&String| expected.iter().any(|words| text.contains(words));
        if !named.iter().any(|text| said(&text)) {
            self.wrong.push(format!("{what} of {object}: {found:#?}"));
        }
    }

    fn finish(self, planted: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert!(self.planted >= planted, "{}", self.planted);
    }
}

#[test]
fn every_field_of_every_sealed_object() {
    let storage = made();
    let mut ledger = Ledger::default();
    let forged = ["damaged or forged"];
    for kind in SEALED {
        let name = one(&storage, kind);
        let good = storage.get(name).unwrap().to_vec();
        let fields: [(&str, usize, u8, &[&str]); 13] = [
            ("the magic", 0, 1, &["not a sealed object"]),
            ("the end of the magic", 7, 1, &["not a sealed object"]),
            ("a later format version", 8, 2, &["format version is 3"]),
            ("format version 0", 8, 1, &["not a sealed object", "version"]),
            ("the type", 10, 1, &["differs", "not a sealed object"]),
            ("an unknown type", 10, 64, &["not a sealed object"]),
            ("the sealing", 11, 1, &["its sealing differs", "differs"]),
            ("an unknown sealing", 11, 64, &["not a sealed object"]),
            ("what is reserved", 13, 1, &["not a sealed object"]),
            ("the id", 16, 1, &["differs"]),
            ("the salt", 32, 1, &forged),
            ("the end of the salt", 63, 128, &forged),
            (
                "the end",
                good.len() - 1,
                1,
                &["damaged or forged", "trailer", "it is no pack", "end"],
            ),
        ];
        for (what, at, bits, expected) in fields {
            let mut bytes = good.clone();
            bytes[at] ^= bits;
            storage.put(name, bytes);
            ledger.expect(&storage, what, name, expected);
        }
        let zeros = vec![0; good.len()];
        storage.put(name, zeros);
        ledger.expect(&storage, "zeros in place", name, &["not a sealed object", "cannot be used"]);
        for len in [1, 63, 64, 79] {
            storage.put(name, &good[..len.min(good.len() - 1)]);
            let expected =
                ["not a sealed object", "damaged", "too short", "cannot be used", "bytes"];
            ledger.expect(&storage, &format!("all but {len} bytes"), name, &expected);
        }
        storage.put(name, good);
    }
    ledger.finish(7 * 18);
}

#[test]
fn every_object_in_the_place_of_one_of_another_kind() {
    let storage = made();
    let mut ledger = Ledger::default();
    for kind in SEALED {
        let name = one(&storage, kind);
        let good = storage.get(name).unwrap();
        for other in SEALED.into_iter().filter(|other| *other != kind) {
            let copies = [ObjectKind::Snapshot, ObjectKind::SnapshotCopy];
            if copies.contains(&kind) && copies.contains(&other) {
                // The two copies of a record say the same.
                continue;
            }
            storage.put(name, storage.get(one(&storage, other)).unwrap());
            let expected = ["differs", "damaged", "bytes", "cannot be used"];
            ledger.expect(&storage, &format!("a {other:?} in the place"), name, &expected);
        }
        storage.put(name, good);
    }
    ledger.finish(7 * 6 - 2);
}

#[test]
fn objects_of_another_repository_and_under_other_names() {
    let (storage, other) = (made(), made());
    let mut ledger = Ledger::default();
    for kind in SEALED {
        let (name, stranger) = (one(&storage, kind), one(&other, kind));
        let (good, theirs) = (storage.get(name).unwrap(), other.get(stranger).unwrap());
        storage.put(name, Arc::clone(&theirs));
        ledger.expect(&storage, "another repository's in the place", name, &["differs", "bytes"]);
        // With the id that it should have, it is one that was made elsewhere.
        let mut bytes = theirs.to_vec();
        bytes[16..32].copy_from_slice(&name.id);
        storage.put(name, bytes);
        ledger.expect(&storage, "another repository's, renamed", name, &["forged", "bytes"]);
        storage.put(name, Arc::clone(&good));
        storage.put(stranger, theirs);
        ledger.expect(&storage, "another repository's beside", stranger, &["damaged or forged"]);
        storage.remove(stranger);
        let wrong = ObjectName { id: [0x5a; 16], ..name };
        storage.put(wrong, good);
        ledger.expect(&storage, "a second name", wrong, &["differs"]);
        storage.remove(wrong);
    }
    ledger.finish(7 * 4);
}

/// The lines of a configuration and a key slot: each is damage of its own.
#[test]
fn every_line_of_what_is_text() {
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 8] = [
        ("a digit", |text| text.replacen("\"format-version\":1", "\"format-version\":0", 1)),
        ("a later version", |text| {
            text.replacen("\"format-version\":1", "\"format-version\":9", 1)
        }),
        ("another id", |text| text.replacen("-id\":\"", "-id\":\"00", 1)),
        ("no last line", |text| text[..text.trim_end().rfind('\n').unwrap() + 1].to_owned()),
        ("a line more", |text| format!("{text}more\n")),
        ("another end of lines", |text| text.replace('\n', "\r\n")),
        ("the checksum", |text| text.replacen("blake3 ", "blake3 0", 1)),
        ("capitals", |text| text.to_uppercase()),
    ];
    let storage = made();
    let mut ledger = Ledger::default();
    for kind in [ObjectKind::Config, ObjectKind::ConfigCopy, ObjectKind::Key, ObjectKind::KeyCopy] {
        let name = one(&storage, kind);
        let good = storage.get(name).unwrap();
        let text = String::from_utf8(good.to_vec()).unwrap();
        for (what, change) in changes {
            storage.put(name, change(&text).into_bytes());
            ledger.expect(&storage, what, name, &["damaged", "version", "one copy"]);
        }
        storage.put(name, good);
    }
    ledger.finish(4 * 8);
}
