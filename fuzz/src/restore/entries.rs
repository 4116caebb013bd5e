//! Entries as nobody would honestly write them, made from the bytes of an input.
//!
//! Every byte chooses something from a table, and when the bytes are used up every choice is the
//! first: so each input is a list of entries, and a changed byte changes one thing.

use std::sync::Arc;

use gabion::crypto::ChunkKind;
use gabion::format::entry::{
    Content, ContentItem, Entry, EntryKind, Metadata, Owner, Timestamp, Xattr,
};
use gabion::format::page::{ContentChild, ContentPage};
use gabion::id::ChunkId;
use gabion::repo::{RepositoryError, Worker};

use super::jail::Jail;

/// Most entries of an input: a restore should take a few milliseconds.
const MAX_ENTRIES: usize = 24;

/// What is left of an input.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn of<'t, T>(&mut self, table: &'t [T]) -> &'t T {
        &table[usize::from(self.next()) % table.len()]
    }
}

/// Chunks and content pages that are in the repository.
pub(super) struct Stored {
    short: (ChunkId, u32),
    long: (ChunkId, u32),
    list: ChunkId,
    list_len: u64,
    /// A list of lists that names itself as being higher than it is.
    crooked: ChunkId,
}

impl Stored {
    pub(super) fn put(worker: &mut Worker) -> Result<Self, RepositoryError> {
        let (short, long) = (&[b'#'; 100][..], &[b'%'; 5000][..]);
        let short = (worker.store(ChunkKind::Content, short)?, 100);
        let long = (worker.store(ChunkKind::Content, long)?, 5000);
        let items = [short, long].map(|(id, len)| ContentItem::Chunk { id, len });
        let list = ContentPage::Items([items, items].concat()).encode();
        let list = worker.store(ChunkKind::ContentPage, &list)?;
        let list_len = 2 * (100 + 5000);
        let children = vec![ContentChild { id: list, len: list_len }; 2];
        let crooked = ContentPage::Children { height: 2, children }.encode();
        let crooked = worker.store(ChunkKind::ContentPage, &crooked)?;
        Ok(Self { short, long, list, list_len, crooked })
    }
}

/// The entries of an input, by leaf. A leaf may be empty.
pub(super) fn leaves(
    bytes: &mut Bytes<'_>,
    stored: &Stored,
    jail: &Jail,
    longest_hole: u64,
) -> Vec<Vec<Entry>> {
    let mut leaves = vec![Vec::new()];
    for _ in 0..MAX_ENTRIES {
        if bytes.0.is_empty() {
            break;
        }
        let choice = bytes.next();
        if choice & 0x80 != 0 {
            leaves.push(Vec::new());
        }
        let entry = entry(bytes, choice, stored, jail, longest_hole);
        leaves.last_mut().expect("there is one").push(entry);
    }
    leaves
}

fn entry(
    bytes: &mut Bytes<'_>,
    choice: u8,
    stored: &Stored,
    jail: &Jail,
    longest_hole: u64,
) -> Entry {
    // Kinds that others can be put below come up more often.
    let kind = match choice & 15 {
        0..=3 => EntryKind::Directory,
        4..=6 => EntryKind::Symlink,
        7..=10 => EntryKind::File,
        11 => EntryKind::Fifo,
        12 => EntryKind::Socket,
        13 => EntryKind::CharDevice,
        14 => EntryKind::BlockDevice,
        _ => EntryKind::Stream,
    };
    let path = path(bytes);
    let mut meta = metadata(kind, choice & 0x40 != 0, bytes);
    let mut content = Content::Empty;
    match kind {
        EntryKind::Symlink => meta.target = link_target(bytes, jail),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            // Only devices that do no harm when somebody opens them: none, /dev/null, /dev/zero.
            meta.device = *bytes.of(&[0, 0x103, 0x105, u64::MAX]);
        }
        EntryKind::File | EntryKind::Stream => {
            let size;
            (content, size) = file_content(bytes, stored, longest_hole);
            // What is said of the size may be a lie.
            meta.size = if choice & 0x30 == 0x30 { u64::from(bytes.next()) << 32 } else { size };
        }
        _ => {}
    }
    Entry { path, meta, content }
}

fn path(bytes: &mut Bytes<'_>) -> Box<[u8]> {
    const NAMES: [&[u8]; 20] = [
        b"a",
        b"b",
        b"c",
        b"outside",
        b"secret",
        b"a\nb",
        b"\xff\xfe",
        b" ",
        b"-rf",
        b"...",
        b"*",
        b"\\..\\",
        b"..",
        b".",
        b"",
        b"a\0b",
        b"../outside",
        b"target",
        &[b'n'; 255],
        &[b'n'; 256],
    ];
    let shape = bytes.next();
    let depth = 1 + usize::from(shape & 3);
    let mut components: Vec<&[u8]> = Vec::new();
    for _ in 0..depth {
        components.push(*bytes.of(&NAMES));
    }
    if shape & 0xf0 == 0xf0 {
        // A path that no system call takes at once.
        components.extend([&[b'd'; 200][..]; 30]);
    }
    components.join(&b'/').into()
}

fn link_target(bytes: &mut Bytes<'_>, jail: &Jail) -> Box<[u8]> {
    let outside = jail.outside();
    let choices: [&[u8]; 14] = [
        b"../outside",
        &outside,
        b"..",
        b".",
        b"a",
        b"b",
        b"../outside/secret",
        b"../outside/folder",
        b"../new",
        b"/proc/self/cwd",
        b"c",
        b"a/../../outside",
        b"",
        &[b't'; 5000],
    ];
    (*bytes.of(&choices)).into()
}

/// Bytes of a file, and how many they are.
fn file_content(bytes: &mut Bytes<'_>, stored: &Stored, longest_hole: u64) -> (Content, u64) {
    let chunk = |(id, len): (ChunkId, u32)| ContentItem::Chunk { id, len };
    let missing = ContentItem::Chunk { id: ChunkId([9; 32]), len: 77 };
    let hole = |bytes: &mut Bytes<'_>| {
        let len = 1u64 << (bytes.next() & 63);
        ContentItem::Hole { len: len.min(longest_hole) }
    };
    let items = match bytes.next() % 10 {
        0 => return (Content::Empty, 0),
        1 => return (Content::Inline(b"inline"[..].into()), 6),
        2 => vec![chunk(stored.short)],
        3 => vec![chunk(stored.short), chunk(stored.long)],
        4 => vec![chunk(stored.long), hole(bytes), chunk(stored.short)],
        5 => vec![missing, chunk(stored.short)],
        6 => vec![hole(bytes), hole(bytes)],
        7 => vec![ContentItem::Chunk { id: stored.short.0, len: 3 }],
        8 => return (Content::Paged { root: stored.list, height: 0 }, stored.list_len),
        _ => {
            let root = *bytes.of(&[stored.crooked, stored.short.0, ChunkId([8; 32])]);
            let height = bytes.next() % 4;
            return (Content::Paged { root, height }, 2 * stored.list_len);
        }
    };
    let size = items.iter().map(ContentItem::len).fold(0, u64::saturating_add);
    (Content::Items(items), size)
}

fn metadata(kind: EntryKind, odd: bool, bytes: &mut Bytes<'_>) -> Metadata {
    let time = Timestamp { seconds: 1_000_000, nanos: 5 };
    let mut meta = Metadata { inode: 1, filesystem: 1, ..Metadata::bare(kind, 0o755, time) };
    if !odd {
        return meta;
    }
    meta.mode = *bytes.of(&[0, 0o7777, 0o4755, 0o1777, 0o100, 0o400]);
    let (user, group) =
        *bytes.of(&[("", ""), ("root", "root"), ("nobody", "x:y"), ("\n", "daemon")]);
    let uid = *bytes.of(&[0, 1, 1000, u32::MAX, u32::MAX - 1]);
    let names = (user.as_bytes().into(), group.as_bytes().into());
    meta.owner = Arc::new(Owner { uid, gid: uid ^ 1, user: names.0, group: names.1 });
    let seconds = *bytes.of(&[0, 1_000_000, -1, i64::MAX, i64::MIN, 1 << 40]);
    meta.mtime = Timestamp { seconds, nanos: 999_999_999 };
    (meta.links, meta.inode) = *bytes.of(&[(1, 1), (2, 1), (2, 2), (3, 1), (u32::MAX, 3), (0, 1)]);
    let xattr =
        |name: &str, value: &[u8]| Xattr { name: name.as_bytes().into(), value: value.into() };
    meta.xattrs = match bytes.next() % 6 {
        0 => Arc::new([]),
        1 => Arc::new([xattr("user.a", b"1")]),
        2 => Arc::new([xattr("security.capability", &[1; 20])]),
        3 => Arc::new([xattr("system.posix_acl_access", &[2; 11]), xattr("trusted.t", b"")]),
        4 => Arc::new([xattr(&"user.".repeat(60), &[0; 1 << 12])]),
        _ => Arc::new([xattr("/", b""), xattr("user.b", &[0; 1 << 16])]),
    };
    meta
}
