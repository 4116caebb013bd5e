//! Advice for errors of storage and of the target of a restore.

use std::io;

use gabion::storage::{StorageError, StorageErrorKind};
use gabion::target::TargetErrorKind;

/// What helps where the storage of a repository fails.
pub(super) fn of_storage(error: &StorageError) -> Option<&'static str> {
    let by_line = error.source.as_ref().map(io::Error::kind) == Some(io::ErrorKind::NotConnected);
    Some(match error.kind {
        StorageErrorKind::PlaceLost if by_line => {
            "does `ssh` reach that machine from here? Run the same command again when it does: \
             what was stored is kept and used"
        }
        StorageErrorKind::NoSpace => {
            "make room where the repository is and run the same command again: what was stored \
             is kept and used"
        }
        StorageErrorKind::ReadOnly => "the repository's file system cannot be written to",
        StorageErrorKind::PermissionDenied => {
            "run the command as the user who owns the repository, or give the files back to that \
             user: `chown -R --reference=REPOSITORY REPOSITORY` as root"
        }
        StorageErrorKind::PlaceLost => "is the repository's disk still mounted?",
        StorageErrorKind::AlreadyExists => "name a folder that does not exist yet, or an empty one",
        StorageErrorKind::NotFound => "is the repository's disk mounted?",
        _ => return None,
    })
}

/// What helps where the target of a restore fails.
pub(super) fn of_target(kind: TargetErrorKind) -> Option<&'static str> {
    Some(match kind {
        TargetErrorKind::NoSpace => {
            "make room at the target and run the same command again with --overwrite if-changed"
        }
        TargetErrorKind::ReadOnly => "the target's file system cannot be written to",
        _ => return None,
    })
}
