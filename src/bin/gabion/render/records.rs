//! What programs read: one object per line, with a `type` and names that stay as they are.

use gabion::format::entry::{Entry, EntryKind, Timestamp};
use gabion::format::path::printable;
use gabion::format::snapshot::{RawBytes, Snapshot, SnapshotCounts, StreamOrigin, StreamRecord};
use gabion::id::SnapshotId;
use gabion::ops::snapshot::SnapshotSummary;
use serde::Serialize;

use super::names::{PathText, raw};
use super::values::{kind, mode, rfc3339, short, size, time};

/// A snapshot.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "snapshot")]
pub(crate) struct SnapshotLine<'a> {
    id: SnapshotId,
    time: String,
    scan_started: String,
    host: &'a str,
    user: &'a str,
    paths: &'a [RawBytes],
    streams: Vec<StreamLine<'a>>,
    tags: &'a [String],
    pinned: bool,
    formerly: &'a [SnapshotId],
    job: Option<&'a str>,
    parent: Option<SnapshotId>,
    problems: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    counts: SnapshotCounts,
    program: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StreamLine<'a> {
    name: &'a str,
    bytes: u64,
    started: String,
    ended: String,
    format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a StreamOrigin>,
}

impl<'a> SnapshotLine<'a> {
    /// All about `snapshot`.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            id: snapshot.id,
            time: rfc3339(snapshot.time),
            scan_started: rfc3339(snapshot.scan_started),
            host: &snapshot.host,
            user: &snapshot.user,
            paths: &snapshot.paths,
            streams: snapshot.streams.iter().map(StreamLine::new).collect(),
            tags: &snapshot.tags,
            pinned: snapshot.pinned,
            formerly: &snapshot.formerly,
            job: snapshot.job.as_deref(),
            parent: snapshot.parent,
            problems: snapshot.problems,
            since: snapshot.window.and_then(|window| window.since).map(rfc3339),
            until: snapshot.window.and_then(|window| window.until).map(rfc3339),
            counts: snapshot.counts,
            program: &snapshot.program,
        }
    }
}

impl<'a> StreamLine<'a> {
    fn new(stream: &'a StreamRecord) -> Self {
        let text = |moment| rfc3339(Timestamp::from(moment));
        Self {
            name: &stream.name,
            bytes: stream.bytes,
            started: text(stream.started),
            ended: text(stream.ended),
            format: stream.format.as_deref(),
            origin: stream.origin.as_ref(),
        }
    }
}

/// An entry of a snapshot.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "entry")]
pub(crate) struct EntryLine {
    path: PathText,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    user: RawBytes,
    group: RawBytes,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<RawBytes>,
    #[serde(skip_serializing_if = "is_false")]
    unsettled: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl EntryLine {
    /// All about `entry` but where its bytes are.
    pub(crate) fn new(entry: &Entry) -> Self {
        let meta = &entry.meta;
        Self {
            path: PathText::of_entry(entry),
            kind: kind(meta.kind),
            mode: format!("{:04o}", meta.mode),
            uid: meta.owner.uid,
            gid: meta.owner.gid,
            user: raw(&meta.owner.user),
            group: raw(&meta.owner.group),
            size: meta.size,
            mtime: rfc3339(meta.mtime),
            target: (meta.kind == EntryKind::Symlink).then(|| raw(&meta.target)),
            unsettled: meta.unsettled,
        }
    }
}

/// An entry as `ls -l` shows it.
pub(crate) fn long_line(entry: &Entry) -> String {
    let meta = &entry.meta;
    let named = |name: &[u8], number: u32| match name {
        b"" => number.to_string(),
        name => printable(name),
    };
    let arrow = match meta.kind {
        EntryKind::Symlink => format!(" -> {}", printable(&meta.target)),
        _ => String::new(),
    };
    format!(
        "{} {:<8} {:<8} {:>10}  {}  {}{arrow}",
        mode(meta.kind, meta.mode),
        named(&meta.owner.user, meta.owner.uid),
        named(&meta.owner.group, meta.owner.gid),
        size(meta.size),
        time(meta.mtime),
        PathText::of_entry(entry).printable(),
    )
}
/// What is in the repository now, for when nothing else can be said.
pub(crate) fn what_was_saved(summary: &SnapshotSummary) -> String {
    match &summary.snapshot {
        Some(snapshot) => format!("snapshot {} was saved", short(snapshot.id)),
        None => "nothing was to be stored".to_owned(),
    }
}
