//! The bytes of every format, pinned: a change of any of them would leave old repositories behind.

use std::convert::Infallible;
use std::sync::Arc;

use gabion::codec::Encoding;
use gabion::crypto::ChunkKind;
use gabion::format::entry::{
    Content, ContentItem, Entry, EntryKind, Metadata, Owner, Timestamp, Xattr,
};
use gabion::format::pack::{Footer, FooterChunk, Trailer};
use gabion::format::page::{ContentChild, ContentPage, Leaf, Page, PageRef, Upper};
use gabion::format::parity::{Head, Layout, TRAILER_LEN, decode_trailer};
use gabion::format::segment::{self, SegmentPack};
use gabion::format::snapshot::{
    self, GivenUp, Moment, RawBytes, Root, Session, Snapshot, SnapshotCounts, StreamRecord,
};
use gabion::id::{ChunkId, PackId, SessionId, SnapshotId};
use gabion::parity::encode;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares with the committed bytes; GABION_WRITE_GOLDEN writes them, for a new format only.
fn assert_golden(name: &str, bytes: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/golden")
        .join(format!("{name}.hex"));
    if std::env::var_os("GABION_WRITE_GOLDEN").is_some() {
        #[expect(clippy::disallowed_methods, reason = "writes a fixture on demand")]
        std::fs::write(&path, hex(bytes) + "\n").unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(hex(bytes), expected.trim(), "the format of {name} changed");
}

fn meta(kind: EntryKind) -> Metadata {
    let owner = Owner { uid: 1000, gid: 100, user: b"me"[..].into(), group: b"users"[..].into() };
    Metadata {
        kind,
        mode: 0o644,
        owner: Arc::new(owner),
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 },
        ctime: Timestamp { seconds: 1_700_000_007, nanos: 5 },
        inode: 4711,
        filesystem: 0x0123_4567_89ab_cdef,
        links: 1,
        size: 0,
        device: 0,
        xattrs: [].into(),
        target: Box::default(),
        unsettled: false,
    }
}

fn entries() -> Vec<Entry> {
    let entry = |path: &[u8], meta: Metadata, content| Entry { path: path.into(), meta, content };
    let file = |size| Metadata { size, ..meta(EntryKind::File) };
    let chunk = |n, len| ContentItem::Chunk { id: ChunkId([n; 32]), len };
    let xattr = Xattr { name: b"user.a"[..].into(), value: b"v"[..].into() };
    let link = Metadata { target: b"../x"[..].into(), ..meta(EntryKind::Symlink) };
    vec![
        entry(
            b"d",
            Metadata { xattrs: [xattr].into(), ..meta(EntryKind::Directory) },
            Content::Empty,
        ),
        entry(b"d/empty", file(0), Content::Empty),
        entry(b"d/inline", file(2), Content::Inline(b"hi"[..].into())),
        entry(b"d/one", Metadata { links: 2, ..file(300) }, Content::Items(vec![chunk(1, 300)])),
        entry(
            b"d/sparse",
            Metadata { unsettled: true, ..file(70_300) },
            Content::Items(vec![chunk(1, 300), ContentItem::Hole { len: 70_000 }]),
        ),
        entry(b"d-link", link, Content::Empty),
        entry(b"dev", Metadata { device: 0x501, ..meta(EntryKind::CharDevice) }, Content::Empty),
        entry(
            b"dump.sql",
            Metadata { size: 1 << 33, ..meta(EntryKind::Stream) },
            Content::Paged { root: ChunkId([9; 32]), height: 1 },
        ),
    ]
}

#[test]
fn pages() {
    let leaf = Leaf::encode(&entries());
    assert_golden("leaf-page", &leaf);
    let Ok(Page::Leaf(again)) = Page::decode(leaf) else { panic!("no leaf") };
    assert_eq!((0..again.len()).map(|at| again.entry(at)).collect::<Vec<_>>(), entries());
    let child = |path: &[u8], n| PageRef {
        first_path: path.into(),
        id: ChunkId([n; 32]),
        entries: 300,
        bytes: 1 << 40,
    };
    let upper = Upper { height: 2, children: vec![child(b"a", 1), child(b"a/b", 2)] };
    assert_golden("upper-page", &upper.encode());
    let items = ContentPage::Items(vec![
        ContentItem::Chunk { id: ChunkId([3; 32]), len: 4096 },
        ContentItem::Hole { len: 1 << 20 },
    ]);
    assert_golden("content-page", &items.encode());
    let children = vec![ContentChild { id: ChunkId([4; 32]), len: 1 << 30 }];
    assert_golden("content-page-upper", &ContentPage::Children { height: 1, children }.encode());
}

fn footer() -> Footer {
    let chunk = |kind, n, len| FooterChunk { kind, id: ChunkId([n; 32]), len };
    let mut footer = Footer::default();
    footer.push(
        1000,
        Encoding::Zstd,
        &[chunk(ChunkKind::Content, 1, 500), chunk(ChunkKind::Content, 2, 70_000)],
        &[],
    );
    footer.push(
        80,
        Encoding::Raw,
        &[chunk(ChunkKind::Page, 3, 32), chunk(ChunkKind::ContentPage, 4, 32)],
        &[],
    );
    footer
}

#[test]
fn packs_and_segments() {
    assert_golden("pack-footer", &footer().encode());
    let delta = FooterChunk { kind: ChunkKind::Content, id: ChunkId([6; 32]), len: 300 };
    let mut with_bases = footer();
    with_bases.push(60, Encoding::Delta, &[delta], &[ChunkId([1; 32]), ChunkId([2; 32])]);
    assert_golden("pack-footer-delta", &with_bases.encode());
    assert_golden("pack-trailer", &Trailer { footer_len: 4711 }.encode());
    let pack = SegmentPack { id: PackId([5; 16]), len: 99_999, footer: footer().encode() };
    assert_golden("segment", &segment::encode(&[pack]));
}

#[test]
fn records() {
    let moment = Moment { seconds: 1_700_000_000, nanos: 5 };
    let stream = StreamRecord {
        name: "db.sql".into(),
        started: moment,
        ended: moment,
        bytes: 77,
        format: Some("pg_dump".into()),
        origin: None,
        rows: None,
    };
    let taken = Snapshot {
        id: SnapshotId([1; 16]),
        root: ChunkId([2; 32]),
        time: moment,
        scan_started: moment,
        host: "box".into(),
        user: "me".into(),
        paths: vec![RawBytes(b"/a".to_vec()), RawBytes(b"/\xff".to_vec())],
        streams: vec![stream],
        tags: vec!["nightly".into()],
        pinned: false,
        formerly: Vec::new(),
        job: Some("aiida".into()),
        parent: Some(SnapshotId([3; 16])),
        problems: 1,
        window: None,
        continuation: None,
        excludes: None,
        mirrored: false,
        counts: SnapshotCounts { entries: 1, bytes: 2, ..SnapshotCounts::default() },
        program: "0.1.0".into(),
    };
    assert_golden("snapshot", &snapshot::encode(&taken));
    let amended = Snapshot {
        id: SnapshotId([7; 16]),
        pinned: true,
        formerly: vec![SnapshotId([8; 16]), SnapshotId([1; 16])],
        ..taken.clone()
    };
    assert_golden("snapshot-amended", &snapshot::encode(&amended));
    let session = SessionId([6; 16]);
    let tentative = Root::Tentative { session, snapshot: Box::new(taken) };
    assert_golden("root-tentative", &snapshot::encode(&tentative));
    let checkpoint = Root::Checkpoint {
        session,
        root: ChunkId([2; 32]),
        scan_started: moment,
        host: "box".into(),
        paths: vec![RawBytes(b"/a".to_vec())],
    };
    assert_golden("root-checkpoint", &snapshot::encode(&checkpoint));
    let announced = Session {
        id: session,
        role: "snapshot".into(),
        host: "box".into(),
        process: 4711,
        started: moment,
        identity: None,
        forgets: Vec::new(),
        over: false,
    };
    assert_golden("session", &snapshot::encode(&announced));
    let given_up = GivenUp { given_up: SnapshotId([1; 16]) };
    assert_golden("given-up", &snapshot::encode(&given_up));
}

#[test]
fn parity() {
    let pack: Vec<u8> = (0..1000u32).map(|n| (n * n).to_le_bytes()[1]).collect();
    let layout = Layout::new(1000, 64, 4).unwrap();
    let read = |offset: u64, bytes: &mut [u8]| -> Result<(), Infallible> {
        let start = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&pack[start..start + bytes.len()]);
        Ok(())
    };
    let Ok(parity) = encode(PackId([7; 16]), layout, read);
    let bytes = parity.encode();
    assert_golden("parity-object", &bytes);
    assert_eq!(bytes.len() as u64, layout.object_len());
    let head_len = usize::try_from(layout.head_len()).unwrap();
    assert_eq!(Head::decode(&bytes[..head_len]).as_ref(), Ok(&parity.head));
    let end = bytes.len() - TRAILER_LEN;
    assert_eq!(&bytes[end - head_len..end], &bytes[..head_len]);
    assert_eq!(decode_trailer(bytes[end..].try_into().unwrap()), Ok(layout.head_len()));
}
