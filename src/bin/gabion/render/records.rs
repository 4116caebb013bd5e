//! What programs read: one object per line, with a `type` and names that stay as they are.

use gabion::format::entry::Timestamp;
use gabion::format::snapshot::{RawBytes, Snapshot, SnapshotCounts, StreamRecord};
use gabion::id::SnapshotId;
use serde::Serialize;

use super::values::rfc3339;

/// A snapshot.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "snapshot")]
pub(crate) struct SnapshotLine<'a> {
    id: SnapshotId,
    time: String,
    host: &'a str,
    user: &'a str,
    paths: &'a [RawBytes],
    streams: Vec<StreamLine<'a>>,
    tags: &'a [String],
    job: Option<&'a str>,
    parent: Option<SnapshotId>,
    problems: u64,
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
}

impl<'a> SnapshotLine<'a> {
    /// All about `snapshot`.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            id: snapshot.id,
            time: rfc3339(snapshot.time),
            host: &snapshot.host,
            user: &snapshot.user,
            paths: &snapshot.paths,
            streams: snapshot.streams.iter().map(StreamLine::new).collect(),
            tags: &snapshot.tags,
            job: snapshot.job.as_deref(),
            parent: snapshot.parent,
            problems: snapshot.problems,
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
        }
    }
}
