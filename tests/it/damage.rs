//! Every kind of damage to every kind of object: what the check says of it, and what can still be
//! read.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::ops::check::{CheckSummary, ReadData};
use gabion::repo::{Repository, RepositoryError};
use gabion::storage::{LocalStorage, MemoryStorage, ObjectKind, ObjectName, Storage};

use crate::small::{Files, copy, key_file, notes, open, options, passphrase, problems, read_back};
use crate::specimen::{Specimen, add_coordination, checked, specimen};

/// What must come of it. A cell says who finds the damage (S: the check of the structure, D: that
/// of the data) and what becomes of the older and the newer snapshot: a (all of it reads back),
/// g (it is no longer listed), m (a chunk is missing), d (damage is met). The object belongs to the
/// newer snapshot.
///
/// Not found by any check: what coordinates writers and is simply gone, for nothing else refers to
/// it, and a swap of two equal things.
const TABLE: &str = "
    object    delete  empty   cut     half    flip    swap    older   double  longer
    config    SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   --:aa   SD:aa   .       SD:aa
    copy      SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   --:aa   SD:aa   .       SD:aa
    key       SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    key-copy  SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    content   SD:am   SD:am   SD:am   SD:am   -D:ad   SD:mm   SD:am   SD:aa   SD:am
    pages     SD:am   SD:am   SD:am   SD:am   SD:ad   SD:mm   SD:am   SD:aa   SD:am
    segment   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    snapshot  SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    its-copy  SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    root      --:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    session   --:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
    mark      --:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa   SD:aa
";

/// A repository with two objects of each kind: of each pair the older one first.
struct Pairs {
    specimen: Specimen,
    pairs: Vec<(&'static str, [ObjectName; 2])>,
    older_config: Vec<u8>,
}

fn of_kind(storage: &MemoryStorage, kind: ObjectKind) -> Vec<ObjectName> {
    storage.names().into_iter().filter(|name| name.kind == kind).collect()
}

fn two(storage: &MemoryStorage, kind: ObjectKind) -> [ObjectName; 2] {
    of_kind(storage, kind).try_into().unwrap()
}

/// The packs of chunks that both snapshots need, and of those that only the newer one needs;
/// content first, pages second.
fn packs(repository: &Arc<Repository>, specimen: &Specimen) -> [[ObjectName; 2]; 2] {
    let reader = gabion::repo::ChunkReader::new(repository);
    let pages = specimen
        .taken
        .iter()
        .map(|(snapshot, _)| ObjectName::pack(reader.locate(&snapshot.root).unwrap().pack));
    let pages: [ObjectName; 2] = pages.collect::<Vec<_>>().try_into().unwrap();
    let content = |bytes: &[u8]| {
        let id = repository.keys().chunk_id(gabion::crypto::ChunkKind::Content, bytes);
        ObjectName::pack(reader.locate(&id).unwrap().pack)
    };
    let first_chunk = |files: &Files, path: &str| content(&files[path][..24]);
    let files = &specimen.taken[1].1;
    [[first_chunk(files, "long"), first_chunk(files, "b/new")], pages]
}

fn pairs() -> Pairs {
    let specimen = specimen(&key_file());
    let storage = &specimen.storage;
    let repository = open(storage, &key_file(), None, Arc::new(())).unwrap();
    repository.add_slot(&key_file(), &options(passphrase("second"))).unwrap();
    add_coordination(&repository, storage, &specimen.taken[1].1);
    let mut config = repository.config().clone();
    config.created = "2020-01-01T00:00:00Z".to_owned();
    let [content, pages] = packs(&repository, &specimen);
    let taken = |at: usize| ObjectName::snapshot(specimen.taken[at].0.id);
    let taken_copy = |at: usize| ObjectName::snapshot_copy(specimen.taken[at].0.id);
    let pairs = vec![
        ("config", [ObjectName::CONFIG_COPY, ObjectName::CONFIG]),
        ("copy", [ObjectName::CONFIG, ObjectName::CONFIG_COPY]),
        ("key", two(storage, ObjectKind::Key)),
        ("key-copy", two(storage, ObjectKind::KeyCopy)),
        ("content", content),
        ("pages", pages),
        ("segment", two(storage, ObjectKind::Segment)),
        ("snapshot", [taken(0), taken(1)]),
        ("its-copy", [taken_copy(0), taken_copy(1)]),
        ("root", two(storage, ObjectKind::Root)),
        ("session", two(storage, ObjectKind::Session)),
        ("mark", two(storage, ObjectKind::Mark)),
    ];
    Pairs { pairs, older_config: config.encode(repository.keys()), specimen }
}

/// Does `action` to the newer of a pair; returns the objects that are damaged then.
fn damage(
    storage: &MemoryStorage,
    [old, new]: [ObjectName; 2],
    action: &str,
    older_config: &[u8],
) -> Vec<ObjectName> {
    let (bytes, other) = (storage.get(new).unwrap().to_vec(), storage.get(old).unwrap());
    let len = bytes.len();
    match action {
        "delete" => assert!(storage.remove(new)),
        "empty" => storage.put(new, *b""),
        "cut" => storage.put(new, &bytes[..len - 1]),
        "half" => storage.put(new, &bytes[..len / 2]),
        "flip" => {
            let mut bytes = bytes;
            bytes[70] ^= 4; // Behind the header, if there is one: in the first block of a pack.
            storage.put(new, bytes);
        }
        "swap" => {
            storage.put(new, other);
            storage.put(old, bytes);
            return vec![old, new];
        }
        "older" if new.kind == ObjectKind::Config || new.kind == ObjectKind::ConfigCopy => {
            storage.put(new, older_config);
            return vec![old, new];
        }
        "older" => storage.put(new, other),
        "double" => {
            let name = ObjectName { id: [0x5a; 16], ..new };
            storage.put(name, bytes);
            return vec![name];
        }
        "longer" => storage.put(new, [&bytes[..], b"\0"].concat()),
        other => panic!("{other}"),
    }
    vec![new]
}

/// Whether a check found something that names one of `objects` or, if that is gone, a snapshot or
/// the index.
fn check_names(
    storage: &MemoryStorage,
    read: ReadData,
    objects: &[ObjectName],
    what: &str,
) -> (bool, CheckSummary) {
    let recorder = Arc::new(Recorder::default());
    let storage = Arc::new(storage.clone());
    let place = storage as Arc<dyn Storage>;
    let repository = Repository::open(place, "here", &key_file(), None, recorder.clone());
    let repository = Arc::new(repository.unwrap_or_else(|error| panic!("{what}: {error:?}")));
    let summary = checked(&repository, read);
    let problems = problems(&recorder);
    assert_eq!(problems.len() as u64, summary.problems, "{what}: each is told and counted");
    // By the last part of the path: of a slot's two copies, the first may stand for both.
    let last = |name: &ObjectName| name.to_string().rsplit('/').next().unwrap_or("").to_owned();
    let named = objects.iter().map(last).chain(["snapshots/", "index: "].map(str::to_owned));
    let found = summary.problems > 0;
    let mut named = named.filter(|name| problems.iter().any(|problem| problem.contains(name)));
    assert!(!found || named.next().is_some(), "{what}: {problems:#?}");
    (found, summary)
}

fn letter_of_reading(
    repository: &Repository,
    taken: &(gabion::format::snapshot::Snapshot, Files),
) -> char {
    let (snapshots, _) = repository.snapshots().unwrap();
    let Some(found) = snapshots.iter().find(|found| found.id == taken.0.id) else { return 'g' };
    match read_back(repository, found) {
        Ok(files) => {
            assert_eq!(files, taken.1);
            'a'
        }
        Err(RepositoryError::MissingChunk(_)) => 'm',
        Err(RepositoryError::Damaged { .. }) => 'd',
        Err(error) => panic!("{error:?}"),
    }
}

fn outcome(
    specimen: &Specimen,
    storage: &MemoryStorage,
    objects: &[ObjectName],
    what: &str,
) -> String {
    let (structure, _) = check_names(storage, ReadData::Structure, objects, what);
    let (data, _) = check_names(storage, ReadData::All, objects, what);
    let repository = open(storage, &key_file(), None, Arc::new(())).unwrap();
    let letters: String =
        specimen.taken.iter().map(|taken| letter_of_reading(&repository, taken)).collect();
    let sign = |found, letter| if found { letter } else { '-' };
    format!("{}{}:{letters}", sign(structure, 'S'), sign(data, 'D'))
}

#[test]
fn each_cell_of_the_table() {
    let pairs = pairs();
    assert_eq!(outcome(&pairs.specimen, &pairs.specimen.storage, &[], "no damage"), "--:aa");
    let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
    let actions: Vec<&str> = lines.next().unwrap().split_whitespace().skip(1).collect();
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for (line, (object, pair)) in lines.zip(&pairs.pairs) {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(*object));
        for (action, expected) in actions.iter().zip(words).filter(|(_, cell)| *cell != ".") {
            let storage = copy(&pairs.specimen.storage);
            let damaged = damage(&storage, *pair, action, &pairs.older_config);
            let what = format!("{action} {object}");
            let found = outcome(&pairs.specimen, &storage, &damaged, &what);
            cells += 1;
            if found != expected {
                wrong.push(format!("{what}: {found}, expected {expected}"));
            }
        }
    }
    assert_eq!(cells, 12 * 9 - 2);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The parts of a pack: without its header nothing of it opens, its footer is also in a segment.
#[test]
fn each_part_of_a_pack() {
    let pairs = pairs();
    let storage = &pairs.specimen.storage;
    for (object, header) in [("content", "SD:ad"), ("pages", "SD:ad")] {
        let (_, [_, pack]) = pairs.pairs.iter().find(|(name, _)| name == &object).unwrap();
        let good = storage.get(*pack).unwrap();
        for (at, expected) in [
            (0, header),
            (8, "SD:aE"),
            (20, header),
            (40, header),
            (good.len() - 40, "SD:aa"),
            (good.len() - 16, "SD:aa"),
            (good.len() - 1, "SD:aa"),
        ] {
            let storage = copy(storage);
            let mut bytes = good.to_vec();
            bytes[at] ^= 2;
            storage.put(*pack, bytes);
            let what = format!("byte {at} of {object}");
            if expected.ends_with('E') {
                let repository = open(&storage, &key_file(), None, Arc::new(())).unwrap();
                let read = read_back(&repository, &pairs.specimen.taken[1].0);
                assert!(matches!(read, Err(RepositoryError::NewerFormat { .. })), "{read:?}");
                continue;
            }
            assert_eq!(outcome(&pairs.specimen, &storage, &[*pack], &what), expected, "{what}");
        }
    }
}

#[test]
fn what_is_lost_is_named() {
    let pairs = pairs();
    let newer = &pairs.specimen.taken[1].0;
    let said = |object: &str, action: &str| {
        let storage = copy(&pairs.specimen.storage);
        let (_, pair) = pairs.pairs.iter().find(|(name, _)| name == &object).unwrap();
        damage(&storage, *pair, action, &pairs.older_config);
        let recorder = Arc::new(Recorder::default());
        let place: Arc<dyn Storage> = Arc::new(storage);
        let repository = Repository::open(place, "here", &key_file(), None, recorder.clone());
        checked(&Arc::new(repository.unwrap()), ReadData::All);
        problems(&recorder)
    };
    let snapshot = ObjectName::snapshot(newer.id).to_string();
    let lost = format!("{snapshot}: 1 entry cannot be restored: /b/new");
    for action in ["delete", "flip", "half"] {
        assert!(said("content", action).contains(&lost), "{:#?}", said("content", action));
    }
    let nothing = format!("{snapshot}: nothing of it can be restored: its top page is lost");
    for action in ["delete", "flip", "half"] {
        assert!(said("pages", action).contains(&nothing), "{:#?}", said("pages", action));
    }
    let flipped = said("content", "flip");
    let [_, pack] = pairs.pairs[4].1;
    let block = format!("{pack}: block 0 is damaged or forged (2 chunks with 40 plain bytes)");
    assert!(flipped.contains(&block), "{flipped:#?}");
    assert_eq!(flipped.len(), 2);
}

#[test]
fn the_index_of_the_client_is_not_believed() {
    let pairs = pairs();
    let (_, [_, pack]) = pairs.pairs[4];
    let cache = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let storage = &pairs.specimen.storage;
    let open = |recorder| open(storage, &key_file(), Some(cache.path()), recorder).unwrap();
    let repository = open(Arc::clone(&recorder) as _);
    // The index knows the pack, and so does the cache that the next process opens.
    assert!(storage.remove(pack));
    assert!(checked(&repository, ReadData::Structure).problems > 0);
    assert!(problems(&recorder).iter().any(|problem| problem.contains("/b/new")));
    assert!(checked(&open(Arc::new(())), ReadData::Structure).problems > 0);
}

#[test]
fn strange_things_in_the_folders_are_told_apart() {
    let pairs = pairs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let local = LocalStorage::create(&path).unwrap();
    for name in pairs.specimen.storage.names() {
        local.publish(name, &pairs.specimen.storage.get(name).unwrap()).unwrap();
    }
    drop(local);
    let check = || {
        let recorder = Arc::new(Recorder::default());
        let place: Arc<dyn Storage> = Arc::new(LocalStorage::open(&path).unwrap());
        let repository = Repository::open(place, "here", &key_file(), None, recorder.clone());
        let summary = checked(&Arc::new(repository.unwrap()), ReadData::All);
        (summary, problems(&recorder), notes(&recorder))
    };
    let (clean, _, before) = check();
    assert_eq!((clean.problems, clean.snapshots), (0, 2));

    std::fs::create_dir(path.join("lost+found")).unwrap();
    std::fs::create_dir(path.join("packs/.snapshot")).unwrap();
    let (strange, _, after) = check();
    assert_eq!((strange.problems, strange.notes), (0, clean.notes + 2));
    for name in ["lost+found", "packs/.snapshot"] {
        assert!(after.iter().any(|note| note.contains(name)), "{after:?}, {before:?}");
    }

    let in_the_way = format!("snapshots/{}", "5a".repeat(16));
    std::fs::create_dir(path.join(&in_the_way)).unwrap();
    let (blocked, said, _) = check();
    assert_eq!(blocked.problems, 1);
    assert!(said[0].starts_with(&in_the_way), "{said:?}");
}
