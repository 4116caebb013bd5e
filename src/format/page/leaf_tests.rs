//! Tests of leaf pages.

use proptest::prelude::*;

use super::super::columns::put_column;
use super::super::{VERSION, references};
use super::*;
use crate::crypto::ChunkKind;
use crate::format::entry::ContentItem;
use crate::format::path;
use crate::format::wire::{put_bytes, put_varint};
use crate::id::ChunkId;

fn metadata(kind: EntryKind) -> Metadata {
    Metadata {
        kind,
        mode: 0o644,
        owner: Arc::new(Owner { uid: 1000, gid: 100, user: b"me"[..].into(), ..Owner::default() }),
        mtime: Timestamp { seconds: -5, nanos: 999_999_999 },
        ctime: Timestamp { seconds: 1_700_000_000, nanos: 1 },
        inode: u64::MAX,
        filesystem: 77,
        links: 1,
        size: 0,
        device: 0,
        xattrs: Arc::new([]),
        target: Box::default(),
        unsettled: false,
    }
}

fn entry(path: &[u8], meta: Metadata, content: Content) -> Entry {
    Entry { path: path.into(), meta, content }
}

/// One entry of every kind and every form of content.
fn samples() -> Vec<Entry> {
    let file = |size| Metadata { size, ..metadata(EntryKind::File) };
    let xattrs: Arc<[Xattr]> = Arc::new([
        Xattr { name: b"system.posix_acl_access"[..].into(), value: vec![2; 44].into() },
        Xattr { name: b"user.a"[..].into(), value: Box::default() },
    ]);
    let chunk = |n, len| ContentItem::Chunk { id: ChunkId([n; 32]), len };
    vec![
        entry(b"a", Metadata { mode: 0o7777, ..metadata(EntryKind::Directory) }, Content::Empty),
        entry(b"a/b", Metadata { xattrs, ..file(0) }, Content::Empty),
        entry(b"a/b\xff\n", file(3), Content::Inline(b"abc"[..].into())),
        entry(b"a/c", file(300), Content::Items(vec![chunk(1, 300)])),
        entry(
            b"a/sparse",
            Metadata { unsettled: true, links: 3, ..file(301 + (1 << 41)) },
            Content::Items(vec![chunk(1, 300), ContentItem::Hole { len: 1 << 41 }, chunk(2, 1)]),
        ),
        entry(b"a/z", file(1 << 50), Content::Paged { root: ChunkId([9; 32]), height: 2 }),
        entry(
            b"a-link",
            Metadata { target: b"../\xfe"[..].into(), ..metadata(EntryKind::Symlink) },
            Content::Empty,
        ),
        entry(b"b", metadata(EntryKind::Fifo), Content::Empty),
        entry(b"c", metadata(EntryKind::Socket), Content::Empty),
        entry(b"d", Metadata { device: 0x501, ..metadata(EntryKind::CharDevice) }, Content::Empty),
        entry(b"e", Metadata { device: 7, ..metadata(EntryKind::BlockDevice) }, Content::Empty),
        entry(
            b"f.sql",
            Metadata { size: 4, ..metadata(EntryKind::Stream) },
            Content::Items(vec![chunk(5, 4)]),
        ),
    ]
}

fn all(leaf: &Leaf) -> Vec<Entry> {
    (0..leaf.len()).map(|at| leaf.entry(at)).collect()
}

#[test]
fn every_kind_round_trips() {
    let leaf = Leaf::decode(Leaf::encode(&samples())).unwrap();
    assert_eq!(all(&leaf), samples());
    assert_eq!(all(&Leaf::decode(Leaf::encode(&[])).unwrap()), []);
    assert_eq!(leaf.lower_bound(b"a/b"), 1);
    assert_eq!(leaf.lower_bound(b"a/bb"), 2);
    assert_eq!(leaf.lower_bound(b"zzz"), leaf.len());
}

/// What is found in a decoded page.
fn references_in(leaf: &Leaf) -> Vec<(ChunkKind, ChunkId)> {
    let mut found = Vec::new();
    for at in 0..leaf.len() {
        match leaf.content(at) {
            Content::Empty | Content::Inline(_) => {}
            Content::Paged { root, .. } => found.push((ChunkKind::ContentPage, *root)),
            Content::Items(items) => found.extend(items.iter().filter_map(|item| match item {
                ContentItem::Chunk { id, .. } => Some((ChunkKind::Content, *id)),
                ContentItem::Hole { .. } => None,
            })),
        }
    }
    found
}

#[test]
fn references_are_told_without_decoding() {
    let bytes = Leaf::encode(&samples());
    let mut found = Vec::new();
    references(&bytes, &mut found).unwrap();
    assert_eq!(found, references_in(&Leaf::decode(bytes.clone()).unwrap()));
    let [content, page] = [ChunkKind::Content, ChunkKind::ContentPage];
    let expected = [(content, 1), (content, 1), (content, 2), (page, 9), (content, 5)];
    assert_eq!(found, expected.map(|(kind, n)| (kind, ChunkId([n; 32]))));
    for len in 0..bytes.len() {
        assert!(references(&bytes[..len], &mut Vec::new()).is_err(), "cut at {len}");
    }
}

#[test]
fn truncation_and_extra_bytes_are_refused() {
    let bytes = Leaf::encode(&samples());
    for len in 0..bytes.len() {
        assert!(Leaf::decode(bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
    assert!(Leaf::decode([&bytes[..], b"\0"].concat()).is_err());
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let refused = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = samples();
        change(&mut entries);
        assert!(Leaf::decode(Leaf::encode(&entries)).is_err());
    };
    refused(&|entries| entries.swap(1, 2));
    refused(&|entries| entries[0].path = b".."[..].into());
    refused(&|entries| entries[3].meta.size = 299);
    refused(&|entries| entries[2].meta.size = 2);
    refused(&|entries| entries[0].meta.mode = 0o10000);
    refused(&|entries| entries[6].meta.target = Box::default());
    refused(&|entries| entries[1].meta.mtime.nanos = 1_000_000_000);
    refused(&|entries| entries[3].content = Content::Items(vec![ContentItem::Hole { len: 0 }]));
}

#[test]
fn shared_prefixes_cannot_be_used_as_a_bomb() {
    let mut bytes = vec![VERSION, 0];
    put_varint(&mut bytes, 60_000);
    put_column(&mut bytes, |out| {
        let mut len = 0;
        for at in 0..60_000u32 {
            put_varint(out, len as u64);
            let suffix = if at == 0 { vec![b'a'; 1 << 20] } else { b"/a".to_vec() };
            put_bytes(out, &suffix);
            len += suffix.len();
        }
    });
    assert!(Leaf::decode(bytes).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Leaf::decode([&[VERSION, 0][..], &bytes].concat());
    }

    #[test]
    fn a_changed_byte_never_panics_and_what_decodes_is_canonical(at: usize, with: u8) {
        let mut bytes = Leaf::encode(&samples());
        let at = at % bytes.len();
        bytes[at] = with;
        let mut found = Vec::new();
        let told = references(&bytes, &mut found);
        if let Ok(leaf) = Leaf::decode(bytes) {
            prop_assert!(told.is_ok());
            prop_assert_eq!(found, references_in(&leaf));
            let entries = all(&leaf);
            prop_assert!(entries.is_sorted_by(|a, b| path::compare(&a.path, &b.path).is_lt()));
            let again = Leaf::decode(Leaf::encode(&entries)).unwrap();
            prop_assert_eq!(all(&again), entries);
        }
    }
}
