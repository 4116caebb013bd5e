//! Tests of the numbers.

use super::*;
use crate::ops::test_support::{CHUNK, TestEntry, TestPart, TestRepository, TestTree, noise, tree};
use crate::storage::ObjectName;

#[test]
fn shared_chunks_and_pages_count_once_and_restored_bytes_each_time() {
    let made = TestRepository::new();
    let nothing = stats(&made.repository, &[]).unwrap();
    assert_eq!((nothing.packs, nothing.unique_chunks, nothing.dedup_ratio()), (0, 0, None));
    assert!(nothing.other_bytes > 0 && nothing.overhead() == nothing.stored_bytes());

    let long = noise(1, 100 * CHUNK);
    let mut sparse = TestEntry::file(noise(2, 10));
    sparse.parts.push(TestPart::Hole(1 << 30));
    let first = tree([
        ("long", TestEntry::file(long.clone())),
        ("copy", TestEntry::file(long.clone())),
        ("sparse", sparse),
        ("text", TestEntry::file("text ".repeat(1000))),
    ]);
    let mut second = first.clone();
    second.insert(b"new".to_vec(), TestEntry::file(noise(3, CHUNK)));
    let snapshots = [made.snapshot(&first), made.snapshot(&second), made.snapshot(&first)];
    let one = stats(&made.repository, &snapshots[..1]).unwrap();
    assert_eq!((one.snapshots, one.entries, one.unique_chunks), (1, 4, 100 + 1 + 2));
    assert_eq!(one.bytes, 200 * CHUNK as u64 + 10 + (1 << 30) + 5000);
    assert_eq!(one.unique_bytes, 100 * CHUNK as u64 + 10 + 5000);
    // The map's page and the one list of chunks that both long files share.
    assert!(one.pages >= 2);
    let all = stats(&made.repository, &snapshots).unwrap();
    assert_eq!((all.snapshots, all.entries, all.unique_chunks), (3, 13, 104));
    assert_eq!(all.bytes, one.bytes * 3 + CHUNK as u64);
    assert_eq!((all.pages, all.unique_bytes), (one.pages + 1, one.unique_bytes + CHUNK as u64));
    assert_eq!(all.plain_blocks, [all.unique_bytes, all.page_bytes]);
    assert_eq!(all.packs, made.packs().len() as u64);
    assert_eq!(
        all.pack_bytes,
        made.packs().iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>()
    );
    assert!(all.segments > 0 && all.segment_bytes > 0 && all.overhead() > 0);
    assert!(all.compression_ratio().unwrap() > 1.0 && all.dedup_ratio().unwrap() > 1000.0);
    let every: u64 = made
        .storage
        .names()
        .into_iter()
        .map(|name| made.storage.get(name).unwrap().len() as u64)
        .sum();
    assert_eq!(all.stored_bytes(), every);
}

#[test]
fn many_pages_and_missing_packs() {
    let made = TestRepository::with_small_pages();
    let many: TestTree = (0..2000u64)
        .map(|n| (format!("f{n:05}").into_bytes(), TestEntry::file(noise(n % 500, 20))))
        .collect();
    let snapshot = made.snapshot(&many);
    let counted = stats(&made.repository, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!((counted.entries, counted.bytes), (2000, 40_000));
    assert_eq!((counted.unique_chunks, counted.unique_bytes), (500, 10_000));
    assert!(counted.pages > 60);
    let (content, pages): (Vec<_>, Vec<_>) =
        made.packs().into_iter().partition(|(name, _)| pack_class(&made, *name) == 0);
    // Without contents all pages are still counted; each leaf is told once, and each snapshot
    // that shares them costs no word more.
    for (name, _) in &content {
        assert!(made.storage.remove(*name));
    }
    let twice = [snapshot.clone(), snapshot];
    let broken = stats(&made.reopen().repository, &twice).unwrap();
    assert_eq!((broken.entries, broken.pages, broken.unique_chunks), (4000, counted.pages, 0));
    assert!(0 < broken.problems && broken.problems < counted.pages, "{broken:?}");
    for (name, _) in &pages {
        assert!(made.storage.remove(*name));
    }
    let broken = stats(&made.reopen().repository, &twice).unwrap();
    assert_eq!((broken.snapshots, broken.entries, broken.pages, broken.problems), (2, 0, 0, 1));
}

/// The class of what a pack holds.
fn pack_class(made: &TestRepository, name: ObjectName) -> usize {
    let pack = made.repository.pack_footer(&PackId(name.id)).unwrap().unwrap();
    usize::from(pack.footer.chunks[0].kind != ChunkKind::Content)
}
