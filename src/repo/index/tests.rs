//! Tests of the index as a whole.

use std::path::Path;

use super::*;
use crate::format::pack::FooterChunk;

fn id(n: u32) -> ChunkId {
    ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn pack(ids: std::ops::Range<u32>) -> NewPack {
    let mut footer = Footer::default();
    let chunks: Vec<FooterChunk> =
        ids.map(|n| FooterChunk { kind: ChunkKind::Content, id: id(n), len: n % 1000 }).collect();
    for block in chunks.chunks(1000) {
        footer.push(100, Encoding::Raw, block, &[]);
    }
    NewPack { id: PackId::random(), len: footer.end() + 100, encoded: footer.encode(), footer }
}

fn open(base: &Path) -> Result<Index, UnusableIndex> {
    let repository = RepositoryId([7; 16]);
    Index::open(Some(CacheFolder::new(base, repository)), repository, &[1; 32])
}

#[test]
fn finds_chunks_in_memory_and_in_runs_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(folder.path()).unwrap();
    for at in 0..12 {
        index.add(None, &[pack(at * 60_000..(at + 1) * 60_000)]).unwrap();
    }
    for index in [index, open(folder.path()).unwrap()] {
        assert_eq!(index.chunk_count(), 720_000);
        assert!(index.runs.last_pack().is_some());
        for n in (0..720_000).step_by(997) {
            let location = index.locate(&id(n)).unwrap().unwrap();
            assert_eq!(location.len, n % 1000);
            assert_eq!(index.holder(&id(n)).unwrap(), Some(location.pack));
        }
        assert_eq!(index.locate(&id(720_000)).unwrap(), None);
    }
}

/// An entry that means another pack would have a snapshot count on a chunk that is not there.
#[test]
fn a_run_with_a_damaged_entry_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(folder.path()).unwrap();
    (0..2).for_each(|at| index.add(None, &[pack(at * 50_000..(at + 1) * 50_000)]).unwrap());
    assert!(index.runs.last_pack().is_some() && index.recent.len() == 0);
    drop(index);
    let runs = walkdir::WalkDir::new(folder.path()).into_iter().map(|item| item.unwrap());
    let run =
        runs.map(|item| item.into_path()).find(|path| path.extension() == Some("ids".as_ref()));
    let run = run.unwrap();
    let mut bytes = std::fs::read(&run).unwrap();
    // The number of the pack of the entry in the middle: 1 becomes 2, or 2 becomes 1.
    let entry = 24 + 40 * 50_000;
    bytes[entry + 32] ^= 3;
    let damaged = ChunkId(bytes[entry..entry + 32].try_into().unwrap());
    #[expect(clippy::disallowed_methods, reason = "plants damage")]
    std::fs::write(&run, bytes).unwrap();
    let index = open(folder.path()).unwrap();
    let mut unknown = 0;
    for n in 0..100_000 {
        match index.holder(&id(n)).unwrap() {
            Some(holder) => assert_eq!(holder, index.packs[&(1 + n / 50_000)].id, "{n}"),
            None => unknown += 1,
        }
    }
    assert_eq!(index.holder(&damaged).unwrap(), None);
    assert!((1..=128).contains(&unknown), "the block of it: {unknown}");
}

#[test]
fn forgotten_and_condemned_packs_hold_nothing_for_new_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(folder.path()).unwrap();
    let packs = [pack(0..70_000), pack(0..10), pack(5..20)];
    packs.iter().for_each(|pack| index.add(None, std::slice::from_ref(pack)).unwrap());
    index.condemn(&[packs[0].id]);
    assert_eq!(index.holder(&id(3)).unwrap(), Some(packs[1].id));
    assert_eq!(index.holder(&id(50_000)).unwrap(), None);
    assert!(index.locate(&id(50_000)).unwrap().is_some());
    assert_eq!(index.locate_all(&id(15)).unwrap().len(), 2);
    index.forget(&[packs[0].id, packs[1].id], &[]).unwrap();
    assert_eq!(index.locate(&id(50_000)).unwrap(), None);
    assert_eq!(index.locate(&id(15)).unwrap().unwrap().pack, packs[2].id);
    drop(index);
    assert_eq!(open(folder.path()).unwrap().packs().count(), 1);
}

#[test]
fn two_processes_may_share_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (open(folder.path()).unwrap(), open(folder.path()).unwrap());
    let (a, b) = (pack(0..70_000), pack(70_000..140_000));
    one.add(Some((SegmentId([1; 16]), &[a.id, b.id])), &[a.clone(), b.clone()]).unwrap();
    two.add(Some((SegmentId([1; 16]), &[a.id, b.id])), &[a.clone(), b.clone()]).unwrap();
    for index in [one, two, open(folder.path()).unwrap()] {
        assert_eq!(index.packs().count(), 2);
        assert_eq!(index.segments().unwrap(), [SegmentId([1; 16])]);
        assert_eq!(index.holder(&id(139_999)).unwrap(), Some(b.id));
    }
}

#[test]
fn what_another_process_added_is_found_after_a_spill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (open(folder.path()).unwrap(), open(folder.path()).unwrap());
    let theirs = pack(0..10);
    one.add(None, std::slice::from_ref(&theirs)).unwrap();
    // Numbered behind the other's pack, and so many chunks that they are moved to a run.
    two.add(None, &[pack(10..70_010)]).unwrap();
    assert!(two.runs.last_pack().is_some());
    for index in [two, open(folder.path()).unwrap()] {
        assert_eq!(index.locate(&id(5)).unwrap().map(|found| found.pack), Some(theirs.id));
        assert!(index.locate(&id(70_009)).unwrap().is_some());
    }
}

#[test]
fn a_chunk_outlives_one_of_its_copies() {
    let folder = tempfile::tempdir().unwrap();
    for chunks in [10, 70_000] {
        let place = folder.path().join(chunks.to_string());
        let packs = [pack(0..chunks), pack(0..chunks), pack(0..chunks)];
        let mut index = open(&place).unwrap();
        packs.iter().for_each(|pack| index.add(None, std::slice::from_ref(pack)).unwrap());
        assert_eq!(index.locate_all(&id(3)).unwrap().len(), 3);
        index.condemn(&[packs[2].id, packs[1].id]);
        assert_eq!(index.holder(&id(3)).unwrap(), Some(packs[0].id));
        index.forget(&[packs[2].id], &[]).unwrap();
        index.forget(&[packs[0].id], &[]).unwrap();
        assert_eq!(index.locate(&id(3)).unwrap().map(|found| found.pack), Some(packs[1].id));
        index.forget(&[packs[1].id], &[]).unwrap();
        assert_eq!(index.locate(&id(3)).unwrap(), None);
    }
}

#[test]
fn a_foreign_a_damaged_and_a_forged_catalogue_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(folder.path()).unwrap();
    index.add(None, &[pack(0..10)]).unwrap();
    drop(index);
    let repository = RepositoryId([7; 16]);
    let place = || Some(CacheFolder::new(folder.path(), repository));
    assert!(Index::open(place(), RepositoryId([8; 16]), &[1; 32]).is_err());
    assert!(Index::open(place(), repository, &[2; 32]).is_err(), "made with another key");
    let file = place().unwrap().path().join("index.sqlite");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.execute("UPDATE pack SET footer = ?1", [pack(5..15).encoded]).unwrap();
    drop(db);
    assert!(open(folder.path()).is_err());
}

#[test]
fn what_was_seen_is_kept_for_the_newest_trees_and_a_damaged_note_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).unwrap();
    for n in 0..20 {
        index.keep_seen_folders(&id(n), &n.to_le_bytes()).unwrap();
    }
    index.keep_seen_folders(&id(10), b"later").unwrap();
    index.keep_seen_folders(&id(20), &20u32.to_le_bytes()).unwrap();
    let seen = |n| open(folder.path()).unwrap().seen_folders(&id(n)).map_err(|_| ());
    assert_eq!(seen(5), Ok(None), "sixteen numbers are later");
    assert_eq!(seen(10), Ok(Some(b"later".to_vec())));
    for n in (6..=20).filter(|n| *n != 10) {
        assert_eq!(seen(n), Ok(Some(n.to_le_bytes().to_vec())), "{n}");
    }
    let path = CacheFolder::new(folder.path(), RepositoryId([7; 16])).path().join("index.sqlite");
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute("UPDATE seen SET folders = x'00' WHERE root = ?1", [&id(12).0[..]]).unwrap();
    db.execute("UPDATE seen SET root = ?1 WHERE root = ?2", [&id(99).0[..], &id(13).0[..]])
        .unwrap();
    assert_eq!([12, 99, 14].map(|n| seen(n).is_ok()), [false, false, true]);
}
