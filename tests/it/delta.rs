//! Blocks that are encoded against chunks of others: what it saves, and that nothing is lost by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gabion::codec::Encoding;
use gabion::crypto::ChunkKind;
use gabion::event::{Event, Recorder};
use gabion::format::entry::Timestamp;
use gabion::format::snapshot::Snapshot;
use gabion::id::{ChunkId, PackId};
use gabion::ops::check::ReadData;
use gabion::ops::prune::{PruneOptions, prune};
use gabion::ops::snapshot::{SnapshotOptions, StreamInput, StreamSource, snapshot};
use gabion::repo::{ChunkReader, PackClass, Repository, Unlock, Writer};
use gabion::storage::{MemoryStorage, ObjectKind, ObjectName};
use gabion::tree::Reach;

use crate::model::edit;
use crate::small::{copy, noise, open, open_plain, read_back, tiny};
use crate::specimen::checked;

fn clock() -> Timestamp {
    Timestamp { seconds: 1_800_000_000, nanos: 0 }
}

/// Takes a snapshot of a stream with these bytes; says how many bytes that stored, too.
fn take(storage: &MemoryStorage, dump: &[u8]) -> (Snapshot, u64) {
    let input = StreamInput::Reader(Box::new(std::io::Cursor::new(dump.to_vec())));
    let options = SnapshotOptions {
        streams: vec![StreamSource::new("dump", input)],
        time: clock(),
        clock,
        threads: 1,
        ..crate::snapshot_op::options()
    };
    let summary = snapshot(&open_plain(storage), options).unwrap();
    (summary.snapshot.unwrap(), summary.counts.stored_bytes)
}

fn dump_of(storage: &MemoryStorage, snapshot: &Snapshot) -> Vec<u8> {
    read_back(&open_plain(storage), snapshot).unwrap().remove("dump").unwrap()
}

fn edited(dump: &[u8], seed: u64) -> Vec<u8> {
    let mut dump = dump.to_vec();
    edit(&mut dump, seed);
    dump
}

/// A block with bases: its pack, its chunks and its bases.
type Delta = (PackId, Vec<ChunkId>, Vec<ChunkId>);

/// All blocks with bases, and the packs in which a chunk lies by itself.
fn blocks(repository: &Repository) -> (Vec<Delta>, BTreeMap<ChunkId, BTreeSet<PackId>>) {
    let (mut deltas, mut plain) = (Vec::new(), BTreeMap::<_, BTreeSet<_>>::new());
    let packs: Vec<PackId> = repository.index().packs().map(|(id, _)| id).collect();
    for id in packs {
        let pack = repository.pack_footer(&id).unwrap().unwrap();
        for block in &pack.footer.blocks {
            let chunks = pack.footer.chunks_of(block).iter().map(|chunk| chunk.id);
            if block.encoding == Encoding::Delta {
                let bases = pack.footer.bases_of(block).to_vec();
                deltas.push((id, chunks.collect(), bases));
            } else {
                for chunk in chunks {
                    plain.entry(chunk).or_default().insert(id);
                }
            }
        }
    }
    (deltas, plain)
}

fn forget(storage: &MemoryStorage, snapshot: &Snapshot) {
    open_plain(storage).remove_records(&[snapshot.id]).unwrap();
}

fn pruned(storage: &MemoryStorage) {
    let recorder = Arc::new(Recorder::default());
    let repository = open(storage, &Unlock::Nothing, None, recorder.clone()).unwrap();
    let options = PruneOptions {
        max_unused: 0.0,
        has_ended: |_| true,
        ..PruneOptions::new("box".to_owned(), clock, 1)
    };
    prune(&repository, &options).unwrap();
    let problem = recorder.events().into_iter().find(|event| matches!(event, Event::Problem(_)));
    assert_eq!(problem, None);
}

fn assert_sound(storage: &MemoryStorage, taken: &[(&Snapshot, &[u8])]) {
    assert_eq!(checked(&open_plain(storage), ReadData::All).problems, 0);
    for (snapshot, dump) in taken {
        assert!(dump_of(storage, snapshot) == *dump);
    }
}

#[test]
fn what_changed_in_place_takes_little_room_and_bases_have_no_bases() {
    let (with, without) = (tiny(true), tiny(false));
    let mut dump = noise(100_000, 1);
    let mut taken = Vec::new();
    let (mut little, mut much) = (0, 0);
    for day in 0..6 {
        let (snapshot, stored) = take(&with, &dump);
        let (_, plainly) = take(&without, &dump);
        if day > 0 {
            (little, much) = (little + stored, much + plainly);
        }
        taken.push((snapshot, dump.clone()));
        dump = edited(&dump, day);
    }
    assert!(little < much * 3 / 4, "{little} of {much}");
    let taken: Vec<(&Snapshot, &[u8])> = taken.iter().map(|(s, dump)| (s, &dump[..])).collect();
    assert_sound(&with, &taken);
    let (deltas, plain) = blocks(&open_plain(&with));
    let kinds: BTreeSet<ChunkId> =
        deltas.iter().flat_map(|(_, chunks, _)| chunks.clone()).collect();
    assert!(deltas.len() > 10 && kinds.len() > 10, "{} blocks", deltas.len());
    for (_, _, bases) in &deltas {
        assert!(bases.iter().all(|base| plain.contains_key(base)));
    }
    let (none, _) = blocks(&open_plain(&without));
    assert!(none.is_empty(), "not where it was not asked for");
}

#[test]
fn bases_outlive_the_snapshot_that_brought_them_and_go_with_the_last_that_needs_them() {
    let storage = tiny(true);
    let days: Vec<Vec<u8>> = (0..4)
        .scan(noise(60_000, 2), |dump, day| Some(std::mem::replace(dump, edited(dump, day))))
        .collect();
    let taken: Vec<Snapshot> = days.iter().map(|dump| take(&storage, dump).0).collect();
    for gone in 0..4 {
        assert!(gone == 0 || !blocks(&open_plain(&storage)).0.is_empty());
        forget(&storage, &taken[gone]);
        pruned(&storage);
        let rest: Vec<(&Snapshot, &[u8])> =
            taken.iter().zip(&days).skip(gone + 1).map(|(s, dump)| (s, &dump[..])).collect();
        assert_sound(&storage, &rest);
    }
    assert!(storage.names().iter().all(|name| name.kind != ObjectKind::Pack));
}

/// A repository with two days, and a pack that only has bases and other things of the first.
fn two_days() -> (MemoryStorage, [Vec<u8>; 2], [Snapshot; 2], Vec<Delta>, PackId) {
    let storage = tiny(true);
    let first = noise(60_000, 4);
    let second = edited(&first, 77);
    let taken = [take(&storage, &first).0, take(&storage, &second).0];
    let (deltas, plain) = blocks(&open_plain(&storage));
    let content = |delta: &&Delta| {
        let index = open_plain(&storage);
        let location = index.locate(&delta.1[0]).unwrap().unwrap();
        location.kind == ChunkKind::Content
    };
    let delta = deltas.iter().find(content).unwrap();
    let pack = *plain[&delta.2[0]].first().unwrap();
    let deltas = deltas.iter().filter(content).cloned().collect();
    (storage, [first, second], taken, deltas, pack)
}

#[test]
fn a_chunk_counts_only_as_long_as_its_bases_do() {
    let (storage, _, [_, second], deltas, base_pack) = two_days();
    let repository = open_plain(&storage);
    let chunk = deltas[0].1[0];
    assert_eq!(repository.standing(&chunk).unwrap().unwrap().0, deltas[0].0);
    assert_eq!(repository.standing_plain(&chunk).unwrap(), None, "it cannot be a base itself");
    repository.condemn(&[base_pack]);
    assert_eq!(repository.standing(&chunk).unwrap(), None);
    let mut reach = Reach::new(&repository);
    reach.walk(&second.root).unwrap();
    assert!(reach.stranded().any(|(_, id)| id == chunk), "it is to be stored again");
}

#[test]
fn a_base_that_is_lost_is_named_and_what_needed_it_is_stored_again_by_the_next_snapshot() {
    let (storage, days, [first, second], deltas, base_pack) = two_days();
    let lost = storage.get(ObjectName::pack(base_pack)).unwrap();
    storage.remove(ObjectName::pack(base_pack));
    let recorder = Arc::new(Recorder::default());
    let repository = open(&storage, &Unlock::Nothing, None, recorder.clone()).unwrap();
    for read in [ReadData::Structure, ReadData::All] {
        assert!(checked(&repository, read).problems > 0);
    }
    let told: Vec<String> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Problem(problem) => {
                Some(format!("{}: {}", problem.subject.display(), problem.message))
            }
            _ => None,
        })
        .collect();
    let names = |text: &str| told.iter().any(|line| line.contains(text));
    assert!(names(&format!("encoded against chunk {}", deltas[0].2[0])), "{told:#?}");
    assert!(names(&first.id.to_string()) && names(&second.id.to_string()), "{told:#?}");
    assert!(names("1 entry cannot be restored: /dump"), "{told:#?}");
    // Nothing is counted on that lacks its base.
    repository.load_index().unwrap();
    assert!(!repository.is_anywhere(&deltas[0].1[0]).unwrap());
    let (third, _) = take(&storage, &days[1]);
    assert!(dump_of(&storage, &third) == days[1] && dump_of(&storage, &second) == days[1]);
    storage.put(ObjectName::pack(base_pack), lost);
    assert_sound(&storage, &[(&first, &days[0]), (&second, &days[1]), (&third, &days[1])]);
}

#[test]
fn a_base_is_never_taken_from_a_block_with_bases() {
    let (storage, days, [_, second], deltas, base_pack) = two_days();
    let (chunk, base) = (deltas[0].1[0], deltas[0].2[0]);
    // Somebody who does not see the base stores it as a difference to something else.
    let other = copy(&storage);
    let repository = open_plain(&other);
    let mut bytes = Vec::new();
    ChunkReader::new(&repository).read(ChunkKind::Content, &base, &mut bytes).unwrap();
    let writer = Writer::new(&repository, 1);
    let mut worker = writer.worker(PackClass::Content).unwrap();
    let mut reader = ChunkReader::new(&repository);
    let near = [&bytes[..], b"and more"].concat();
    let id = worker.store(ChunkKind::Content, &near).unwrap();
    worker.flush().unwrap();
    writer.checkpoint().unwrap();
    repository.condemn(&[base_pack]);
    let (claimed, is_new) = worker.claim(ChunkKind::Content, &bytes).unwrap();
    assert!(is_new && claimed.id == base);
    let on_delta = [(ChunkKind::Content, chunk)];
    assert!(!worker.store_against(&mut reader, &on_delta, &[claimed], &bytes).unwrap());
    let on_plain = [(ChunkKind::Content, id)];
    assert!(worker.store_against(&mut reader, &on_plain, &[claimed], &bytes).unwrap());
    writer.checkpoint().unwrap();
    for name in other.names() {
        storage.put(name, other.get(name).unwrap());
    }
    assert!(dump_of(&storage, &second) == days[1]);
    storage.remove(ObjectName::pack(base_pack));
    let repository = open_plain(&storage);
    assert!(repository.standing(&base).unwrap().is_some(), "it can be read");
    assert_eq!(repository.standing(&chunk).unwrap(), None, "but is no base");
    let mut bytes = Vec::new();
    let read = ChunkReader::new(&repository).read(ChunkKind::Content, &chunk, &mut bytes);
    assert!(read.unwrap_err().to_string().contains(&format!("encoded against chunk {base}")));
    assert!(checked(&repository, ReadData::All).problems > 0);
}
