//! What a snapshot is taken of and how, and what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::stand_in::StandIn;
use crate::format::entry::Timestamp;
use crate::format::snapshot::{ProcessIdentity, Snapshot, SnapshotCounts, StreamOrigin};
use crate::id::SnapshotId;
use crate::ops::OpError;
use crate::ops::program::Program;
use crate::source::exclude::Excludes;

/// Where the bytes of a stream come from.
pub enum StreamInput {
    /// A shell command that gabion starts itself; its success is part of the snapshot's.
    Command(String),
    /// The same without a shell.
    Program(Program),
    /// Bytes that somebody else writes; whether they were successful cannot be known.
    Reader(Box<dyn std::io::Read + Send>),
}

impl std::fmt::Debug for StreamInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(_) => f.write_str("Command"),
            Self::Program(program) => f.debug_tuple("Program").field(program).finish(),
            Self::Reader(_) => f.write_str("Reader"),
        }
    }
}

/// One stream of a snapshot.
#[derive(Debug)]
pub struct StreamSource {
    /// Its name: one path component.
    pub name: String,
    /// Where its bytes come from.
    pub input: StreamInput,
    /// Whether it may be empty, whatever [`SnapshotOptions::allow_empty`] says.
    pub allow_empty: bool,
    /// What is known of it beforehand and kept with the snapshot.
    pub origin: Option<StreamOrigin>,
    /// Counts what the dump should hold; asked before and after it.
    pub census: Option<Census>,
}

/// Asks a server what it has: counts by name.
pub struct Census(pub Box<dyn Fn() -> BTreeMap<String, u64> + Send>);

impl std::fmt::Debug for Census {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Census(..)")
    }
}

impl StreamSource {
    /// A stream of which nothing is known.
    pub fn new(name: impl Into<String>, input: StreamInput) -> Self {
        Self { name: name.into(), input, allow_empty: false, origin: None, census: None }
    }
}

/// What of the sources is looked at. Whatever is said here, the first snapshot of the sources looks
/// at everything, and so does one whose parent does not allow less; the summary says why.
#[derive(Default)]
pub enum Scope {
    /// Everything.
    #[default]
    Everything,
    /// Everything, but that below these folders only what lies in folders that changed: the caller
    /// says that a file there never changes once it is there, and is never linked from elsewhere.
    WriteOnce(Vec<PathBuf>),
    /// What has changed since the parent, as the caller tells, and what leads there.
    Told(Told),
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => f.write_str("Everything"),
            Self::WriteOnce(folders) => f.debug_tuple("WriteOnce").field(folders).finish(),
            Self::Told(told) => f.debug_tuple("Told").field(&told.parent).finish(),
        }
    }
}

/// What has changed since the parent's walk began, from somebody who knows. What is not told is
/// taken over as it was.
pub struct Told {
    /// The snapshot that the changes are told since; the latest of the same sources if none is
    /// named.
    pub parent: Option<SnapshotId>,
    /// Whether the kernel reports the changes: then a directory whose times differ has one.
    pub by_kernel: bool,
    /// Asked once for the paths, absolute and lexically clean, when the walk has begun and the
    /// parent is known: what changes later than that is for the next snapshot. What is at a path is
    /// looked at with all that is below it; when nothing is there any more, it is gone.
    pub changes: Box<Changes>,
}

/// Tells what has changed since a snapshot.
pub type Changes = dyn FnOnce(&Snapshot) -> Result<ChangesSince, OpError> + Send;

/// How old the last look at everything may be, if the user does not choose.
pub const FULL_SCAN_EVERY: Duration = Duration::from_secs(7 * 86_400);

/// What is known of the changes since a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesSince {
    /// All of them are at or below these paths.
    Below(Vec<PathBuf>),
    /// Not everything is known, for this reason: everything is looked at.
    Unknown(String),
}

/// What a snapshot is taken of and how.
#[derive(Debug)]
pub struct SnapshotOptions {
    /// Absolute, lexically clean paths.
    pub paths: Vec<PathBuf>,
    /// Streams, run in this order before the walk.
    pub streams: Vec<StreamSource>,
    /// Files that are stored as copies.
    pub stand_ins: Vec<StandIn>,
    /// Whether a stream may be empty.
    pub allow_empty: bool,
    /// Whether a path may be an empty directory of which the last complete snapshot holds files.
    pub allow_empty_source: bool,
    /// What is left out.
    pub excludes: Excludes,
    /// Take the raw files of a running database although they cannot be consistent.
    pub allow_live_database: bool,
    /// Stay on the file systems of the named paths.
    pub one_file_system: bool,
    /// Words to find the snapshot by.
    pub tags: Vec<String>,
    /// The machine's name.
    pub host: String,
    /// What tells this process from others of the machine, where that can be known.
    pub identity: Option<ProcessIdentity>,
    /// The user's name.
    pub user: String,
    /// The configured job, if one is run.
    pub job: Option<String>,
    /// The time the snapshot is of.
    pub time: Timestamp,
    /// Tells the time, for the walk's start and the streams' start and end.
    pub clock: fn() -> Timestamp,
    /// Read every file, changed or not. Looks at everything, whatever `scope` says.
    pub force: bool,
    /// What is looked at.
    pub scope: Scope,
    /// How old the last look at everything may be where `scope` asks for less; `None` for no limit.
    pub full_scan_every: Option<Duration>,
    /// Walk and compare, but store nothing.
    pub dry_run: bool,
    /// Bytes of the sources that are read in a second at most.
    pub rate: Option<u64>,
    /// zstd level.
    pub compression: i32,
    /// Threads that read and store; as many again list folders. With 0 one thing is done after the
    /// other.
    pub threads: usize,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotSummary {
    /// The snapshot; nothing after a dry run.
    pub snapshot: Option<Snapshot>,
    /// Counts, of a dry run too.
    pub counts: SnapshotCounts,
    /// Entries that are new, changed, unchanged and gone since the parent.
    pub new_entries: u64,
    /// Entries that the parent had otherwise.
    pub modified_entries: u64,
    /// Entries taken over from the parent.
    pub unchanged_entries: u64,
    /// Entries that the parent had and the source has no more.
    pub removed_entries: u64,
    /// How many of the unchanged were taken over without a look at them.
    pub unseen_entries: u64,
    /// Why everything was looked at although the caller had asked for less.
    pub full_scan_because: Option<String>,
    /// Entries that were as before, but of whose content the repository had lost something: they
    /// were read again.
    pub lost_entries: u64,
    /// Pages of the earlier snapshot that the repository had lost: what they told of was read again.
    pub lost_pages: u64,
    /// Paths left out by rules.
    pub excluded: u64,
    /// Sources that could not be read, or not whole.
    pub problems: u64,
    /// Whether an unfinished earlier run was taken up.
    pub resumed: bool,
}
