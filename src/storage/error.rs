//! Why a storage operation failed.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What a caller can tell apart about a failed storage operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// There is no such object (or no repository at this place).
    NotFound,
    /// The name is taken; what it names was not touched.
    AlreadyExists,
    /// No space, or a quota is used up.
    NoSpace,
    /// The place cannot be written to by anyone.
    ReadOnly,
    /// The place cannot be used by this user.
    PermissionDenied,
    /// The object ends before the wanted range does.
    Truncated,
    /// The object is longer than the caller allows.
    TooLong,
    /// The repository is no longer where it was opened: unmounted, replaced or disconnected.
    PlaceLost,
    /// Anything else; the source says what.
    Other,
}

impl StorageErrorKind {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT) => Self::NotFound,
            Some(Errno::EXIST) => Self::AlreadyExists,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace,
            Some(Errno::ROFS) => Self::ReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => Self::PermissionDenied,
            // A stale network handle, a removed device, a dead user-space file system.
            Some(Errno::STALE | Errno::NODEV | Errno::NXIO | Errno::NOTCONN) => Self::PlaceLost,
            // A network file system whose server cannot be reached any more.
            Some(
                Errno::TIMEDOUT
                | Errno::CONNRESET
                | Errno::CONNREFUSED
                | Errno::CONNABORTED
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NETRESET
                | Errno::PIPE
                | Errno::SHUTDOWN,
            ) => Self::PlaceLost,
            Some(_) => Self::Other,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None if error.kind() == io::ErrorKind::NotConnected => Self::PlaceLost,
            None => Self::Other,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::AlreadyExists => "the name is taken",
            Self::NoSpace => "no space left",
            Self::ReadOnly => "the place is read-only",
            Self::PermissionDenied => "permission denied",
            Self::Truncated => "it ends too early",
            Self::TooLong => "it is longer than allowed",
            Self::PlaceLost => "the repository is no longer there",
            Self::Other => "it failed",
        }
    }
}

/// A storage operation failed. Nothing that a repository error touches may be skipped like an
/// unreadable source.
#[derive(Debug, thiserror::Error)]
pub struct StorageError {
    /// What was tried, as a verb: "read", "publish".
    pub operation: &'static str,
    /// The object or folder that it was tried on.
    pub object: String,
    /// What went wrong, as far as a caller can act on it.
    pub kind: StorageErrorKind,
    /// What the operating system said, if it was asked.
    #[source]
    pub source: Option<io::Error>,
}

impl StorageError {
    /// An error that was found without the operating system.
    pub fn new(operation: &'static str, object: impl fmt::Display, kind: StorageErrorKind) -> Self {
        Self { operation, object: object.to_string(), kind, source: None }
    }

    /// The same error once more, for another who is stopped by it.
    #[must_use]
    pub fn again(&self) -> Self {
        let source = self.source.as_ref().map(|source| match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(source.kind(), source.to_string()),
        });
        Self { operation: self.operation, object: self.object.clone(), kind: self.kind, source }
    }

    /// Whether the medium itself could not give the bytes back.
    pub fn is_bad_sector(&self) -> bool {
        self.source.as_ref().and_then(Errno::from_io_error) == Some(Errno::IO)
    }

    /// An error that the operating system reported; the kind follows from `source`.
    pub fn from_io(
        operation: &'static str,
        object: impl fmt::Display,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        let kind = StorageErrorKind::of(&source);
        Self { operation, object: object.to_string(), kind, source: Some(source) }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation, self.object)?;
        if self.source.is_none() {
            write!(f, ": {}", self.kind.words())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_text_names_the_cause_once() {
        let bare = StorageError::new("read", "config", StorageErrorKind::TooLong);
        assert_eq!(bare.to_string(), "cannot read config: it is longer than allowed");
        assert!(bare.source().is_none());

        let full = StorageError::from_io("publish", "index/00", Errno::NOSPC);
        assert_eq!(full.to_string(), "cannot publish index/00");
        assert_eq!(full.kind, StorageErrorKind::NoSpace);
        assert_eq!(full.source().unwrap().to_string(), io::Error::from(Errno::NOSPC).to_string());
    }
}
