//! Entry: one item of a snapshot with all of its metadata.

use std::sync::Arc;

use crate::id::ChunkId;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 1,
    /// A folder.
    Directory = 2,
    /// A symbolic link; its target is kept as raw bytes and never followed.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A socket: noted, never restored (only its owner can make it again).
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
    /// The output of a command, or standard input.
    Stream = 8,
}

/// A point in time: seconds since 1970-01-01 UTC and the nanoseconds on top of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// One extended attribute: its name and value, both raw bytes. POSIX ACLs are among them
/// (`system.posix_acl_access`, `system.posix_acl_default`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Full name with its name space ("user.comment").
    pub name: Box<[u8]>,
    /// The value.
    pub value: Box<[u8]>,
}

/// Who owns an entry. Names are kept beside the numbers because a restore on another machine
/// should follow the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// User name, empty when the machine knew none.
    pub user: Box<[u8]>,
    /// Group name, empty when the machine knew none.
    pub group: Box<[u8]>,
}

/// Everything about an entry except its path and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// The twelve permission bits: rwx for three, setuid, setgid, sticky.
    pub mode: u16,
    /// Owner, shared between the many entries that have the same.
    pub owner: Arc<Owner>,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata. Cannot be restored; tells a later snapshot what changed.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Stable identity of the file system it lies on (not `st_dev`); 0 when unknown.
    pub filesystem: u64,
    /// Number of hard links; entries with more than one and the same (filesystem, inode) are one file.
    pub links: u32,
    /// Plain length in bytes: of a file or stream; 0 for everything else.
    pub size: u64,
    /// Device number of a device, else 0.
    pub device: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: Arc<[Xattr]>,
    /// Target of a symbolic link, else empty.
    pub target: Box<[u8]>,
    /// The file kept changing while it was read: what is stored may never have existed at one
    /// instant, and no later snapshot takes it over unread.
    pub unsettled: bool,
}

impl Metadata {
    /// Of something of which nothing is known but what it is, its permissions and its time: one
    /// link, all else 0 or empty.
    pub fn bare(kind: EntryKind, mode: u16, time: Timestamp) -> Self {
        Self {
            kind,
            mode,
            owner: Arc::default(),
            mtime: time,
            ctime: time,
            inode: 0,
            filesystem: 0,
            links: 1,
            size: 0,
            device: 0,
            xattrs: Arc::default(),
            target: Box::default(),
            unsettled: false,
        }
    }
}

/// One step of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentItem {
    /// The plain bytes of a chunk.
    Chunk {
        /// Which chunk.
        id: ChunkId,
        /// Its plain length in bytes.
        len: u32,
    },
    /// A run of zeros that the source did not store (a sparse region).
    Hole {
        /// Its length in bytes.
        len: u64,
    },
}

impl ContentItem {
    /// Plain length in bytes.
    pub fn len(&self) -> u64 {
        match *self {
            Self::Chunk { len, .. } => u64::from(len),
            Self::Hole { len } => len,
        }
    }

    /// Whether it holds no byte; a valid item never does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the bytes of a file or stream are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// No bytes: an empty file, or an entry that has none (a folder).
    #[default]
    Empty,
    /// So few bytes that they sit in the entry itself.
    Inline(Box<[u8]>),
    /// A list short enough to sit in the entry.
    Items(Vec<ContentItem>),
    /// A longer list, cut into content pages.
    Paged {
        /// The top page.
        root: ChunkId,
        /// Height of the top page: 0 lists items, n lists pages of height n - 1.
        height: u8,
    },
}

/// One item of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path without leading or trailing slash, raw bytes, components separated by `/`.
    pub path: Box<[u8]>,
    /// All about it.
    pub meta: Metadata,
    /// Its bytes.
    pub content: Content,
}

impl EntryKind {
    /// The kind that is written as `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::File,
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::CharDevice,
            7 => Self::BlockDevice,
            8 => Self::Stream,
            _ => return None,
        })
    }
}

impl Entry {
    /// About how many bytes the entry takes in a page.
    pub fn weight(&self) -> usize {
        weight(&self.path, &self.meta.xattrs, self.meta.target.len(), &self.content)
    }
}

/// About how many bytes an entry with these parts takes in a page. Only the parts that can be
/// long count; owners and extended attributes may be shared, which makes it less.
pub(crate) fn weight(path: &[u8], xattrs: &[Xattr], target: usize, content: &Content) -> usize {
    let xattrs: usize = xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
    let content = match content {
        Content::Empty => 0,
        Content::Inline(bytes) => bytes.len(),
        Content::Items(items) => items.len() * 40,
        Content::Paged { .. } => 40,
    };
    32 + path.len() + xattrs + target + content
}
