//! Knowing what changed without looking: a process, `gabion watch`, asks the kernel to be told of
//! every change on whole file systems (fanotify, since Linux 5.9), and tells snapshots in which
//! folders something changed since an earlier one, so that they look nowhere else.
//!
//! **What is proven.** The kernel queues an event before the call that made the change returns. So
//! once a request has been read, one look at the queue until it is empty finds everything that was
//! done before the request was made; nothing has to be written anywhere to know that. A moment at
//! which the queue was empty begins an *epoch*. A snapshot begins one before it walks, and says
//! when it is confirmed; the next one is told of all changes since that epoch began. An event that
//! comes late belongs to a later epoch, and is told once more.
//!
//! What is known lives in the memory of the one process and ends with it: after a restart, a
//! reboot, a full queue, too many changes, or where other file systems are mounted than at the time
//! of the earlier snapshot, nothing is known, and the snapshot looks at everything. The process
//! holds a handle of each file system, so that it cannot go away and come back unseen.
//!
//! **What the kernel does not tell** is found otherwise: files that are open or mapped for writing,
//! and those that the kernel itself writes to (loop devices, swap, overlays), count as changed
//! (`unseen`). Network file systems are refused, since others change them.
//!
//! The process keeps folders as the kernel names them, by handles; what they are called is asked
//! only when a snapshot wants to know, in that process, with its own view of what is mounted where.

mod client;
pub mod event;
mod folders;
mod group;
mod ledger;
mod mounts;
mod server;
mod sources;
mod unseen;
mod wire;

use std::path::PathBuf;

pub use client::{Begun, begin, status};
pub use server::{ServeOptions, serve};
pub use wire::Status;

/// The kernel's number of a file system, as events and `statfs` have it.
pub type FileSystemId = [u8; 8];

/// An item that changed: a name in a folder, of which the kernel gives a handle. The name `.` is
/// the folder itself. Without a name the handle is that of the item: some changes are told so, as
/// that a file has one name more or less, or what a server for NFS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'b> {
    /// Where the folder lies.
    pub filesystem: FileSystemId,
    /// The type of the handle, which only the file system understands.
    pub kind: i32,
    /// The handle.
    pub handle: &'b [u8],
    /// Name in the folder.
    pub name: &'b [u8],
}

/// Why watching cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// Not every change would be told there.
    #[error("{} is on a file system ({kind}) whose changes the kernel does not all tell", path.display())]
    NotLocal {
        /// What was to be watched.
        path: PathBuf,
        /// The type of its file system.
        kind: String,
    },
    /// Somebody else is listening.
    #[error("another process watches already, and listens at {}", .0.display())]
    Taken(PathBuf),
    /// Another user is listening.
    #[error("another user listens at {}", .0.display())]
    Untrusted(PathBuf),
    /// The other side says something that makes no sense.
    #[error("what listens at {} is no `gabion watch` of this version", .0.display())]
    NotUnderstood(PathBuf),
}

impl WatchError {
    fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

/// An error with its cause.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
pub(crate) fn words(error: WatchError) -> String {
    match &error {
        WatchError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
