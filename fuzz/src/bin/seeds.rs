//! Writes the inputs that fuzzing starts from into `fuzz/corpus/<target>/`: a few small valid ones
//! for every decoder. They are the same in every run and are committed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gabion::codec::{Codec, Encoding};
use gabion::crypto::ChunkKind;
use gabion::crypto::header::{ObjectHeader, ObjectType, Sealing};
use gabion::format::config::Config;
use gabion::format::entry::{
    Content, ContentItem, Entry, EntryKind, Metadata, Owner, Timestamp, Xattr,
};
use gabion::format::pack::{Footer, FooterChunk, Trailer};
use gabion::format::page::{ContentChild, ContentPage, Leaf, PageRef, Upper};
use gabion::format::parity::Layout;
use gabion::format::segment::{self, SegmentPack};
use gabion::format::snapshot::{
    self, Mark, Moment, RawBytes, Root, Session, Snapshot, SnapshotCounts, StreamRecord,
};
use gabion::id::{ChunkId, PackId, RepositoryId, SessionId, SnapshotId};
use gabion::parity::encode;
use gabion_fuzz::{keys, with_hash};

fn main() {
    block();
    chunker();
    config();
    key_slot();
    names();
    packs();
    pages();
    parity();
    records();
    restores();
    sftp_answers();
    watch_events();
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the folder of the corpus");
    fs::write(folder.join(name), bytes).expect("a file of the corpus");
}

fn chunk_id(number: u8) -> ChunkId {
    ChunkId([number; 32])
}

fn block() {
    let plain = b"a line that comes again and again\n".repeat(40);
    let mut stored = Vec::new();
    let encoding = Codec::new(1).and_then(|mut codec| codec.encode(&plain, &mut stored));
    assert_eq!(encoding, Ok(Encoding::Zstd));
    let len = u32::try_from(plain.len()).expect("a short block").to_le_bytes();
    write("block", "zstd", &[&len[..3], &stored].concat());
    write("block", "raw", b"\x05\0\0plain");
}

fn chunker() {
    write("chunker", "zeros", &[0, 0, 0, 255, 0, 0, 0, 0]);
    write(
        "chunker",
        "text",
        b"\x10\x80\xff\x40It was a dark and stormy night; the rain fell in torrents.",
    );
    let mut noise = vec![0x20, 0xff, 0x20, 3];
    noise.resize(1500, 0);
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise[4..]);
    write("chunker", "noise", &noise);
}

fn config() {
    let created = "2026-11-22T12:00:00Z".to_owned();
    let sealed = Config::new(RepositoryId([1; 16]), Sealing::Aes256Gcm, created);
    write("config", "sealed", &sealed.encode(keys()));
    let mut json = serde_json::to_value(&sealed).expect("a config is JSON");
    json["sealing"] = "none".into();
    json["plaintext-key"] = "07".repeat(32).into();
    write("config", "plaintext", json.to_string().as_bytes());
    json["required-features"] = serde_json::json!(["time-travel"]);
    write("config", "feature", json.to_string().as_bytes());
}

fn key_slot() {
    let slot = |kind: &str, kdf: &str| {
        format!(
            "{{\"format-version\":1,\"repository-id\":\"{}\",\"slot-id\":\"{}\",\"label\":\"laptop\",\
             \"created\":\"2026-11-22T12:00:00Z\",\"kind\":\"{kind}\",{kdf}\"salt\":\"{}\",\
             \"check\":\"{}\",\"wrapped\":\"{}\"}}",
            "01".repeat(16),
            "02".repeat(16),
            "03".repeat(32),
            "04".repeat(16),
            "05".repeat(48),
        )
    };
    let kdf = r#""kdf":{"name":"argon2id","memory-kib":32,"passes":1,"lanes":1},"#;
    write("key_slot", "passphrase", slot("passphrase", kdf).as_bytes());
    write("key_slot", "key-file", &with_hash(slot("key-file", "").as_bytes()));
    let mut header = ObjectHeader::new(ObjectType::Pack, Sealing::Aes256Gcm, [7; 16]).encode();
    header[32..].fill(9); // the salt, which is random
    write("key_slot", "header", &header);
}

fn names() {
    write("names", "folders", b"a/b\0a-b\0a/b/c");
    write("names", "strange", b"a//b\0../a\0\xff\x1b[2J\n/.");
    let id = "0123456789abcdef".repeat(2);
    write("names", "objects", format!("packs/01/{id}\0copy/config\0copy/keys/{id}").as_bytes());
}

fn footer(numbers: std::ops::Range<u8>) -> Footer {
    let mut footer = Footer::default();
    for number in numbers {
        let kind = ChunkKind::try_from(1 + number % 3).expect("three kinds");
        let chunk = |part| FooterChunk { kind, id: chunk_id(number + part), len: 300 };
        footer.push(400, Encoding::Zstd, &[chunk(0), chunk(100)], &[]);
    }
    footer
}

fn packs() {
    write("pack_footer", "empty", &Footer::default().encode());
    write("pack_footer", "one", &footer(0..1).encode());
    write("pack_footer", "several", &footer(1..6).encode());
    let mut delta = footer(1..2);
    let chunk = FooterChunk { kind: ChunkKind::Content, id: chunk_id(50), len: 300 };
    delta.push(60, Encoding::Delta, &[chunk], &[chunk_id(1), chunk_id(101)]);
    write("pack_footer", "delta", &delta.encode());
    write("pack_footer", "trailer", &Trailer { footer_len: 1234 }.encode());
    let pack = |number: u8| {
        let footer = footer(number..number + 2);
        let len = footer.end() + 1000;
        SegmentPack { id: PackId([number; 16]), len, footer: footer.encode() }
    };
    write("segment", "empty", &segment::encode(&[]));
    write("segment", "two", &segment::encode(&[pack(1), pack(9)]));
}

/// Servers that greet, and answer the first questions.
fn sftp_answers() {
    let number = |number: u32| number.to_be_bytes();
    let text = |text: &[u8]| {
        let len = number(u32::try_from(text.len()).expect("a short text"));
        [&len[..], text].concat()
    };
    let packet = |kind: u8, body: &[u8]| text(&[&[kind][..], body].concat());
    let words = ["fsync@openssh.com", "hardlink@openssh.com", "posix-rename@openssh.com"];
    let can: Vec<u8> =
        words.iter().flat_map(|word| [text(word.as_bytes()), text(b"1")].concat()).collect();
    let greeting = packet(2, &[&number(3)[..], &can].concat());
    // Size and rights.
    let facts = [&number(5)[..], &[0; 7], &[9], &number(0o100_644)].concat();
    let answer = |of: u32| -> Vec<u8> {
        let with = |kind: u8, body: &[u8]| packet(kind, &[&number(of)[..], body].concat());
        match of % 6 {
            0 => with(105, &facts),
            1 => with(102, &text(b"handle")),
            2 => with(103, &text(b"some data")),
            3 => with(101, &[&number(0)[..], &text(b"done"), &text(b"")].concat()),
            4 => {
                let name = [text(&[b'a'; 32]), text(b"long"), facts.clone()].concat();
                with(104, &[&number(1)[..], &name].concat())
            }
            _ => with(101, &[&number(1)[..], &text(b"end"), &text(b"")].concat()),
        }
    };
    let answers = |of: std::ops::Range<u32>| -> Vec<u8> { of.flat_map(answer).collect() };
    write("sftp_answers", "greeting", &greeting);
    write("sftp_answers", "some", &[greeting.clone(), answers(0..6)].concat());
    write("sftp_answers", "more", &[greeting, answers(0..60)].concat());
}

/// Packs with their parity: whole, damaged within the parity and beyond it, and damaged parity.
/// An event that names a file, one that names what changed itself, and a queue that was full.
fn watch_events() {
    let record = |kind: u8, name: &[u8]| {
        let handle = [&[7; 8][..], &4u32.to_le_bytes(), &1u32.to_le_bytes(), &[1, 2, 3, 4]];
        let body = [&handle.concat(), name].concat();
        let len = u16::try_from(4 + body.len()).expect("short").to_le_bytes();
        [&[kind, 0][..], &len, &body].concat()
    };
    let event = |mask: u64, records: &[u8]| {
        let len = u32::try_from(24 + records.len()).expect("short").to_le_bytes();
        [&len[..], &[3, 0, 24, 0], &mask.to_le_bytes(), &[0; 8], records].concat()
    };
    write("watch_events", "named", &event(2, &record(2, b"name\0\0\0\0")));
    write("watch_events", "itself", &event(4, &record(1, b"")));
    write("watch_events", "full", &event(0x4000, b""));
}

fn parity() {
    let pack: Vec<u8> = (0..1000u32).map(|n| (n * n).to_le_bytes()[1]).collect();
    let layout = Layout::new(1000, 64, 4).expect("within the limits");
    let read = |offset: u64, bytes: &mut [u8]| -> Result<(), std::convert::Infallible> {
        let start = usize::try_from(offset).expect("a short pack");
        bytes.copy_from_slice(&pack[start..start + bytes.len()]);
        Ok(())
    };
    let Ok(parity) = encode(PackId([7; 16]), layout, read);
    let object = parity.encode();
    write("parity", "head", &parity.head.encode());
    write("parity", "trailer", &object[object.len() - 8..]);
    let seed = |name: &str, pack: &[u8], object: &[u8]| {
        let len = u16::try_from(pack.len()).expect("a short pack").to_le_bytes();
        write("parity", name, &[&len, pack, object].concat());
    };
    let hit = |bytes: &[u8], places: std::ops::Range<usize>| {
        let mut bytes = bytes.to_vec();
        bytes[places].iter_mut().for_each(|byte| *byte ^= 0xff);
        bytes
    };
    seed("whole", &pack, &object);
    seed("torn", &hit(&pack, 100..300), &object);
    seed("lost", &hit(&pack, 100..600), &object);
    seed("short", &pack[..900], &object);
    seed("both", &hit(&pack, 100..200), &hit(&object, 300..310));
    seed("second-head", &hit(&pack, 100..200), &hit(&object, 0..10));
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let owner = Owner { uid: 1000, gid: 100, user: b"ada"[..].into(), group: b"users"[..].into() };
    let meta = Metadata {
        kind,
        mode: 0o644,
        owner: Arc::new(owner),
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 5 },
        ctime: Timestamp { seconds: 1_700_000_001, nanos: 999_999_999 },
        inode: 77,
        filesystem: 0x1234_5678_9abc_def0,
        links: 1,
        size: 0,
        device: 0,
        xattrs: Arc::new([]),
        target: Box::default(),
        unsettled: false,
    };
    Entry { path: path.into(), meta, content: Content::Empty }
}

fn file(path: &[u8], size: u64, content: Content) -> Entry {
    let mut entry = entry(path, EntryKind::File);
    entry.meta.size = size;
    entry.content = content;
    entry
}

fn entries() -> Vec<Entry> {
    let mut marked = entry(b"a", EntryKind::Directory);
    let xattr = Xattr { name: b"user.note"[..].into(), value: b"\x01\x02"[..].into() };
    marked.meta.xattrs = Arc::new([xattr]);
    let mut link = entry(b"a/link", EntryKind::Symlink);
    link.meta.target = b"../b"[..].into();
    let mut device = entry(b"a/tty", EntryKind::CharDevice);
    device.meta.device = 0x0501;
    let items = vec![
        ContentItem::Chunk { id: chunk_id(1), len: 65536 },
        ContentItem::Hole { len: 1 << 20 },
        ContentItem::Chunk { id: chunk_id(2), len: 10 },
    ];
    let paged = Content::Paged { root: chunk_id(3), height: 1 };
    vec![
        marked,
        file(b"a/inline", 5, Content::Inline(b"hello"[..].into())),
        file(b"a/large", 65546 + (1 << 20), Content::Items(items)),
        link,
        device,
        file(b"a/vast", 1 << 40, paged),
        file(b"b", 0, Content::Empty),
    ]
}

fn pages() {
    write("page", "leaf-empty", &Leaf::encode(&[]));
    write("page", "leaf-one", &Leaf::encode(&entries()[..1]));
    write("page", "leaf", &Leaf::encode(&entries()));
    let child = |path: &[u8], number| PageRef {
        first_path: path.into(),
        id: chunk_id(number),
        entries: 300,
        bytes: 1 << 20,
    };
    let children = vec![child(b"a", 1), child(b"a/b", 2), child(b"c", 3)];
    write("page", "upper", &Upper { height: 1, children }.encode());
    let items =
        vec![ContentItem::Chunk { id: chunk_id(4), len: 4096 }, ContentItem::Hole { len: 123_456 }];
    write("page", "content", &ContentPage::Items(items).encode());
    let children = [5, 6].map(|number| ContentChild { id: chunk_id(number), len: 1 << 22 });
    let upper = ContentPage::Children { height: 1, children: children.to_vec() };
    write("page", "content-upper", &upper.encode());
}

fn records() {
    let moment = Moment { seconds: 1_700_000_000, nanos: 1 };
    let stream = StreamRecord {
        name: "db.sql".to_owned(),
        started: moment,
        ended: moment,
        bytes: 27_000_000,
        format: Some("pg_dump".to_owned()),
        origin: None,
        rows: None,
    };
    let taken = Snapshot {
        id: SnapshotId([1; 16]),
        root: chunk_id(2),
        time: moment,
        scan_started: moment,
        host: "node1".to_owned(),
        user: "ada".to_owned(),
        paths: vec![RawBytes(b"/home".to_vec()), RawBytes(b"/\xff".to_vec())],
        streams: vec![stream],
        tags: vec!["daily".to_owned()],
        pinned: false,
        formerly: Vec::new(),
        job: Some("aiida".to_owned()),
        parent: Some(SnapshotId([3; 16])),
        problems: 1,
        window: None,
        continuation: None,
        excludes: None,
        mirrored: false,
        counts: SnapshotCounts::default(),
        program: "gabion 0.1.0".to_owned(),
    };
    write("snapshot_record", "snapshot", &snapshot::encode(&taken));
    let amended = Snapshot {
        id: SnapshotId([8; 16]),
        pinned: true,
        formerly: vec![taken.id],
        ..taken.clone()
    };
    write("snapshot_record", "amended", &snapshot::encode(&amended));
    let session = SessionId([4; 16]);
    let root = Root::Tentative { session, snapshot: Box::new(taken.clone()) };
    write("snapshot_record", "tentative", &snapshot::encode(&root));
    let checkpoint = Root::Checkpoint {
        session,
        root: chunk_id(5),
        scan_started: moment,
        host: taken.host,
        paths: taken.paths,
    };
    write("snapshot_record", "checkpoint", &snapshot::encode(&checkpoint));
    let role = "snapshot".to_owned();
    let host = "node1".to_owned();
    let announced = Session {
        id: session,
        role,
        host,
        process: 4711,
        started: moment,
        identity: None,
        forgets: Vec::new(),
        over: false,
    };
    write("snapshot_record", "session", &snapshot::encode(&announced));
    let mark = Mark { session, packs: vec![PackId([6; 16]), PackId([7; 16])], waits_for: None };
    write("snapshot_record", "mark", &snapshot::encode(&mark));
}

/// Bytes that choose entries: see `gabion_fuzz::restore_plan`.
fn restores() {
    let (folder, link, file, next_leaf) = (0, 4, 7, 0x80);
    // A folder with a file in it, and a further file.
    let honest = [folder, 0, 0, file, 1, 0, 4, 3, file, 0, 2, 1];
    write("restore_plan", "honest", &[&[4, 3][..], &honest].concat());
    // A link that leads out, and in the next page a file and a folder below it.
    let below_link = [link, 0, 0, 0, next_leaf | file, 1, 0, 4, 2, next_leaf | folder, 1, 0, 1];
    write("restore_plan", "below-link", &[&[4, 3][..], &below_link].concat());
    // The same over planted links, with everything removed that is in the way.
    write("restore_plan", "planted", &[&[0x48 | 0x10, 3][..], &honest, &below_link].concat());
    // A folder where a planted link stays, and what lies in it.
    let in_link = [folder, 0, 0, file, 1, 0, 8, 2, folder, 1, 0, 1];
    write("restore_plan", "kept-link", &[&[3 | 64, 3][..], &in_link].concat());
    // Hard links with odd metadata, and a device; what holds them is restored, not the whole.
    let odd = 0x40;
    let odd_file = [odd | file, 1, 0, 1, 1, 0, 3, 3, 1, 2];
    let further_name = [odd | file, 1, 0, 2, 1, 0, 3, 3, 1, 2];
    let device = [13, 1, 0, 4, 1];
    let names = [&[folder, 0, 0][..], &odd_file, &further_name, &device].concat();
    write("restore_plan", "links", &[&[4, 5 << 3][..], &names].concat());
    write("restore_plan", "page", &[&[4, 7][..], &Leaf::encode(&entries())].concat());
}
