//! The binary parts of the format, and the sealed records.

use std::fmt::Debug;

use gabion::codec::Encoding;
use gabion::crypto::ChunkKind;
use gabion::format::entry::{Content, ContentItem, Entry};
use gabion::format::page::{ContentPage, Leaf, Page, Upper, references};
use gabion::format::snapshot::{self, Mark, Root, Session, Snapshot};
use gabion::format::{pack, path, segment as index_segment};
use gabion::id::ChunkId;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Footers and trailers: consistent when they decode, and of one form.
pub fn pack_footer(data: &[u8]) {
    if let Ok(trailer) = pack::Trailer::decode(data) {
        assert_eq!(trailer.encode(), data);
    }
    let Ok(footer) = pack::Footer::decode(data) else { return };
    assert_eq!(footer.encode(), data, "a footer has two forms");
    let mut place = (footer.blocks.first().map_or(footer.end(), |block| block.offset), 0);
    for (number, block) in footer.blocks.iter().enumerate() {
        assert_eq!((block.offset, block.first_chunk), place);
        let chunks = footer.chunks_of(block);
        assert_eq!(chunks.iter().map(|chunk| chunk.len).sum::<u32>(), block.plain_len);
        assert!(!chunks.is_empty() && block.plain_len <= pack::MAX_BLOCK_LEN);
        assert_eq!(footer.block_of(block.first_chunk), number);
        assert_eq!(footer.block_of(block.first_chunk + block.chunk_count - 1), number);
        let bases = footer.bases_of(block).len();
        assert!(bases <= pack::MAX_BASES && (block.encoding == Encoding::Delta) == (bases > 0));
        place = (place.0 + u64::from(block.stored_len), place.1 + block.chunk_count);
    }
    assert_eq!((footer.end(), footer.chunks.len()), (place.0, place.1 as usize));
}

/// Index segments: of one form, and every footer in them decodes.
pub fn segment(data: &[u8]) {
    let Ok(packs) = index_segment::decode(data) else { return };
    assert_eq!(index_segment::encode(&packs), data, "a segment has two forms");
    for pack in &packs {
        let footer = pack::Footer::decode(&pack.footer).expect("its footer was checked");
        assert!(footer.end() <= pack.len);
    }
}

/// All pages. Those of entries may be spelled in several ways (shared bytes of paths, dictionaries),
/// but gabion writes one: what decodes is written so that it decodes to the same again.
pub fn page(data: &[u8]) {
    let mut found = Vec::new();
    let told = references(data, &mut found);
    if let Ok(page) = Page::decode(data.to_vec()) {
        told.expect("whole pages tell what they refer to");
        match &page {
            Page::Leaf(page) => leaf(page, &found),
            Page::Upper(page) => upper(page, &found),
        }
    }
    if let Ok(page) = ContentPage::decode(data) {
        assert_eq!(page.encode(), data, "a content page has two forms");
        assert!(!page.is_empty());
        if let ContentPage::Items(items) = &page {
            assert!(!items.iter().any(ContentItem::is_empty));
        }
    }
}

fn leaf(page: &Leaf, found: &[(ChunkKind, ChunkId)]) {
    let entries: Vec<Entry> = (0..page.len()).map(|at| page.entry(at)).collect();
    let referred = entries.iter().flat_map(|entry| match &entry.content {
        Content::Empty | Content::Inline(_) => Vec::new(),
        Content::Paged { root, .. } => vec![(ChunkKind::ContentPage, *root)],
        Content::Items(items) => items.iter().filter_map(chunk).collect(),
    });
    assert_eq!(referred.collect::<Vec<_>>(), found);
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(path::problem(&entry.path), None);
        assert_eq!(&*entry.path, page.path(at));
        assert_eq!(page.lower_bound(&entry.path), at);
        assert!(entry.meta.mtime.nanos < 1_000_000_000 && entry.meta.ctime.nanos < 1_000_000_000);
        assert!(entry.meta.mode <= 0o7777);
        let _ = page.weight(at);
    }
    assert!(entries.is_sorted_by(|a, b| path::compare(&a.path, &b.path).is_lt()));
    let bytes = Leaf::encode(&entries);
    let again = Leaf::decode(bytes.clone()).expect("what is written can be read");
    let read: Vec<Entry> = (0..again.len()).map(|at| again.entry(at)).collect();
    assert_eq!(read, entries);
    assert_eq!(Leaf::encode(&read), bytes, "the same entries are written in two ways");
}

fn chunk(item: &ContentItem) -> Option<(ChunkKind, ChunkId)> {
    match item {
        ContentItem::Chunk { id, .. } => Some((ChunkKind::Content, *id)),
        ContentItem::Hole { .. } => None,
    }
}

fn upper(page: &Upper, found: &[(ChunkKind, ChunkId)]) {
    let referred = page.children.iter().map(|child| (ChunkKind::Page, child.id));
    assert_eq!(referred.collect::<Vec<_>>(), found);
    assert!(page.children.is_sorted_by(|a, b| path::compare(&a.first_path, &b.first_path).is_lt()));
    for (at, child) in page.children.iter().enumerate() {
        assert_eq!(page.child_for(&child.first_path), at);
    }
    let bytes = page.encode();
    let Ok(Page::Upper(again)) = Page::decode(bytes.clone()) else {
        panic!("what is written cannot be read");
    };
    assert_eq!(&again, page);
    assert_eq!(again.encode(), bytes);
}

/// Snapshots, roots, sessions and marks: what was read and is written again says the same.
pub fn snapshot_record(data: &[u8]) {
    record::<Snapshot>(data);
    record::<Root>(data);
    record::<Session>(data);
    record::<Mark>(data);
}

fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(record) = snapshot::decode::<T>("record", data) else { return };
    let bytes = snapshot::encode(&record);
    // A record that is nearly too long may pass the limit when it is spelled out.
    if bytes.len() as u64 > snapshot::MAX_RECORD_LEN {
        return;
    }
    let again: T = snapshot::decode("record", &bytes).expect("what is written can be read");
    assert_eq!(again, record);
    assert_eq!(snapshot::encode(&again), bytes);
}
