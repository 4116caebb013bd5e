//! Tests of reading contents, with damage.

use std::io;

use super::*;
use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem};
use crate::format::snapshot::Snapshot;
use crate::ops::test_support::{CHUNK, TestEntry, TestPart, TestRepository, noise, tree};
use crate::repo::{PackClass, Writer};
use crate::tree::ContentWriter;

fn read(
    made: &TestRepository,
    snapshot: &Snapshot,
    path: &[u8],
) -> (Vec<u8>, Result<u64, OpError>) {
    let mut out = Vec::new();
    let result = cat(&made.repository, snapshot, path, &mut out);
    (out, result)
}

#[test]
fn contents_of_every_form_come_back() {
    let made = TestRepository::new();
    let long = noise(1, 60 << 20);
    let mut inline = TestEntry::file("few bytes");
    inline.inline = true;
    let repeated = noise(2, CHUNK).repeat(3000);
    let mut holes = TestEntry::file(b"begin".to_vec());
    holes.parts.extend([TestPart::Hole(200_000), TestPart::Bytes(b"end".to_vec())]);
    let mut stream = TestEntry::file(noise(3, 100_000));
    stream.meta.kind = EntryKind::Stream;
    let snapshot = made.snapshot(&tree([
        ("long", TestEntry::file(long.clone())),
        ("inline", inline),
        ("repeated", TestEntry::file(repeated.clone())),
        ("holes", holes),
        ("empty", TestEntry::new(EntryKind::File)),
        ("db.sql", stream),
    ]));
    let whole = |path: &str, wanted: &[u8]| {
        let (found, result) = read(&made, &snapshot, path.as_bytes());
        assert_eq!(result.unwrap(), wanted.len() as u64, "{path}");
        assert!(found == wanted, "{path}");
    };
    whole("long", &long);
    whole("inline", b"few bytes");
    whole("repeated", &repeated);
    whole("holes", &[&b"begin"[..], &[0; 200_000], b"end"].concat());
    whole("empty", b"");
    whole("db.sql", &noise(3, 100_000));
}

#[test]
fn what_has_no_content_is_refused_in_words() {
    let made = TestRepository::new();
    let snapshot = made.snapshot(&tree([
        ("folder", TestEntry::folder()),
        ("link", TestEntry::link(b"target\n")),
        ("fifo", TestEntry::new(EntryKind::Fifo)),
    ]));
    for (path, words) in [
        ("folder", "/folder is a folder, not a file or stream"),
        ("link", "/link is a symbolic link to target\\n, not a file or stream"),
        ("fifo", "/fifo is a named pipe, not a file or stream"),
    ] {
        let Err(OpError::Refused(refusal)) = read(&made, &snapshot, path.as_bytes()).1 else {
            panic!("{path} was not refused");
        };
        assert_eq!(refusal, words);
    }
    let none = read(&made, &snapshot, b"none").1;
    assert!(matches!(none, Err(OpError::NoSuchPath { .. })));
}

#[test]
fn damage_ends_with_an_error_and_all_before_it_is_right() {
    // Short of one batch, and long enough for several threads.
    for (len, damaged_at) in [(900_000, 0), (6 << 20, 3 << 20), (50 << 20, 40 << 20)] {
        let made = TestRepository::new();
        let bytes = noise(9, len);
        let snapshot = made.snapshot(&tree([("db", TestEntry::file(bytes.clone()))]));
        made.damage_chunk(&bytes[damaged_at..damaged_at + CHUNK]);
        let (found, result) = read(&made, &snapshot, b"db");
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("/db is damaged: "), "{error}");
        assert!(found.len() <= damaged_at && bytes.starts_with(&found));
        assert!(found.len() + (2 << 20) > damaged_at, "{} of {damaged_at}", found.len());
    }
}

#[test]
fn a_missing_pack_is_damage() {
    let made = TestRepository::new();
    let bytes = noise(4, 300_000);
    let snapshot = made.snapshot(&tree([("f", TestEntry::file(bytes.clone()))]));
    let id = made.repository.keys().chunk_id(ChunkKind::Content, &bytes[..CHUNK]);
    let pack = made.repository.locate(&id).unwrap().unwrap().pack;
    assert!(made.storage.remove(crate::storage::ObjectName::pack(pack)));
    for made in [made.reopen(), made] {
        let (found, result) = read(&made, &snapshot, b"f");
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("/f is damaged: "), "{error}");
        assert!(found.is_empty());
    }
}

#[test]
fn wrong_lengths_and_unknown_chunks_are_damage() {
    let made = TestRepository::new();
    let bytes = noise(5, 3 * CHUNK);
    let snapshot = made.snapshot(&tree([("f", TestEntry::file(bytes.clone()))]));
    let entry = find_entry(&made.repository, &snapshot, b"f").unwrap();
    let Content::Items(items) = entry.content.clone() else { panic!("a list") };
    let mut unknown = items.clone();
    unknown[1] = ContentItem::Chunk { id: crate::id::ChunkId([7; 32]), len: 4096 };
    let mut longer = items.clone();
    let ContentItem::Chunk { id, .. } = items[2] else { panic!("a chunk") };
    longer[2] = ContentItem::Chunk { id, len: u32::MAX };
    let size = |items: &[ContentItem]| items.iter().map(ContentItem::len).sum::<u64>();
    for (items, said, written) in [
        (items.clone(), size(&items) + 1, 0),
        (items[..2].to_vec(), size(&items), 0),
        (unknown.clone(), size(&unknown), CHUNK),
        (longer.clone(), size(&longer), 2 * CHUNK),
    ] {
        let mut entry = entry.clone();
        (entry.content, entry.meta.size) = (Content::Items(items), said);
        let mut found = Vec::new();
        let result = read_content(&made.repository, &entry, &mut |part| {
            let Part::Bytes(bytes) = part else { panic!("no holes here") };
            found.extend_from_slice(bytes);
            Ok(())
        });
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("/f is damaged: "), "{error}");
        assert!(found == bytes[..written]);
    }
}

/// Counts bytes, and fails behind `room`.
struct Counter {
    written: u64,
    room: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written >= self.room {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn huge_holes_take_no_memory_and_a_closed_pipe_is_told_apart() {
    let made = TestRepository::new();
    let mut huge = TestEntry::file(noise(6, 100));
    huge.parts.extend([TestPart::Hole(1 << 33), TestPart::Bytes(noise(7, 100))]);
    let mut endless = TestEntry::new(EntryKind::File);
    endless.parts = vec![TestPart::Hole(1 << 62)];
    let long = TestEntry::file(noise(8, 40 << 20));
    let snapshot = made.snapshot(&tree([("huge", huge), ("endless", endless), ("long", long)]));
    let mut out = Counter { written: 0, room: u64::MAX };
    assert_eq!(cat(&made.repository, &snapshot, b"huge", &mut out).unwrap(), (1 << 33) + 200);
    assert_eq!(out.written, (1 << 33) + 200);
    for path in ["endless", "long"] {
        let mut out = Counter { written: 0, room: 1 << 20 };
        let result = cat(&made.repository, &snapshot, path.as_bytes(), &mut out);
        let Err(OpError::Output(error)) = result else { panic!("the output failed") };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_million_items_are_read_through_their_pages() {
    let made = TestRepository::new();
    let writer = Writer::new(&made.repository, 1);
    let mut worker = writer.worker(PackClass::Content).unwrap();
    let chunks: Vec<(Vec<u8>, ContentItem)> = (0..1000u64)
        .map(|n| {
            let bytes = noise(n, 10);
            let id = worker.store(ChunkKind::Content, &bytes).unwrap();
            (bytes, ContentItem::Chunk { id, len: 10 })
        })
        .collect();
    worker.flush().unwrap();
    let mut pages = writer.worker(PackClass::Pages).unwrap();
    let mut content = ContentWriter::default();
    let mut expected = blake3::Hasher::new();
    for at in 0..1_000_000usize {
        let (bytes, item) = &chunks[at * 7 % 1000];
        content.push(&mut pages, *item).unwrap();
        expected.update(bytes);
    }
    let mut entry = Entry {
        path: b"million"[..].into(),
        meta: TestEntry::new(EntryKind::File).meta,
        content: Content::Empty,
    };
    entry.meta.size = content.len();
    entry.content = content.finish(&mut pages).unwrap();
    pages.flush().unwrap();
    writer.checkpoint().unwrap();
    assert!(matches!(entry.content, Content::Paged { height: 1.., .. }));
    let snapshot = made.raw_snapshot(vec![entry.clone()]);
    let mut found = blake3::Hasher::new();
    assert_eq!(cat(&made.repository, &snapshot, b"million", &mut found).unwrap(), 10_000_000);
    assert_eq!(found.finalize(), expected.finalize());
    entry.meta.size += 1;
    let wrong = made.raw_snapshot(vec![entry]);
    let (found, result) = read(&made, &wrong, b"million");
    assert!(found.is_empty() && result.unwrap_err().to_string().contains("another length"));
}
