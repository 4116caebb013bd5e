//! What is said over the socket: one request a connection, a line of JSON; and the answer, a line,
//! which a list of folders may follow.

use std::io::{BufRead, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ledger::{Folder, NameSet};
use super::{FileSystemId, WatchError};
use crate::format::snapshot::RawBytes;
use crate::id::{SessionId, SnapshotId};

/// Longest line, in bytes.
const MAX_LINE: u64 = 4 << 20;
/// Names in one line.
const NAMES_OF_A_LINE: usize = 1000;
/// Longest that one side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub(super) enum Request {
    /// For a new epoch.
    Begin,
    /// For the changes since a snapshot.
    Since { series: String, snapshot: SnapshotId },
    /// That an epoch be remembered as that of a snapshot.
    Confirm {
        /// Of what process the epoch is.
        instance: SessionId,
        epoch: u64,
        series: String,
        snapshot: SnapshotId,
        mounts: String,
    },
    /// How it is.
    Status,
}

/// The first line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub(super) enum Answer {
    Begun {
        instance: SessionId,
        epoch: u64,
        watched: Vec<Watched>,
    },
    /// So many lines of folders follow.
    Changes {
        mounts: String,
        lines: u64,
    },
    Unknown {
        why: String,
    },
    Confirmed,
    Status(Status),
}

/// A file system of which changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) id: FileSystemId,
    pub(super) device: u64,
}

/// What `gabion watch` says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// A path of each file system that is watched.
    pub paths: Vec<RawBytes>,
    /// Changed items that are kept.
    pub changes: usize,
    /// Series of snapshots that may ask for them.
    pub series: usize,
}

/// A folder and names in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FolderLine {
    filesystem: FileSystemId,
    kind: i32,
    handle: RawBytes,
    names: Vec<RawBytes>,
}

impl FolderLine {
    /// How many lines a folder takes in which so many names changed.
    pub(super) fn count(names: usize) -> u64 {
        names.div_ceil(NAMES_OF_A_LINE) as u64
    }

    /// Writes the lines of a folder.
    pub(super) fn write_all(
        to: &mut impl Write,
        folder: &Folder,
        names: &NameSet,
    ) -> std::io::Result<()> {
        let mut names = names.iter().map(|name| RawBytes(name.to_vec())).peekable();
        while names.peek().is_some() {
            let line = Self {
                filesystem: folder.filesystem,
                kind: folder.kind,
                handle: RawBytes(folder.handle.to_vec()),
                names: names.by_ref().take(NAMES_OF_A_LINE).collect(),
            };
            write_line(to, &line)?;
        }
        Ok(())
    }

    pub(super) fn into_parts(self) -> (Folder, Vec<RawBytes>) {
        let Self { filesystem, kind, handle, names } = self;
        (Folder { filesystem, kind, handle: handle.0.into() }, names)
    }
}

/// Writes one line.
pub(super) fn write_line(to: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads one line; nothing when it is not what it should be.
pub(super) fn read_line<T: DeserializeOwned>(
    from: &mut impl BufRead,
) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok()))
}

/// A connection to what listens at `socket`.
pub(super) fn connect(socket: &Path) -> Result<UnixStream, WatchError> {
    let io = |error| WatchError::io("talk to `gabion watch` at", socket, error);
    let stream = UnixStream::connect(socket).map_err(io)?;
    if !is_trusted(&stream) {
        return Err(WatchError::Untrusted(socket.to_owned()));
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
    Ok(stream)
}

/// Whether the superuser, or the same user, is at the other end: another user who says what did not
/// change would decide what is in a snapshot.
pub(super) fn is_trusted(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}
