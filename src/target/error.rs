//! Why something below a target folder could not be made, changed or read.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::format::path;

/// What a caller can tell apart about a failure at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetErrorKind {
    /// Something is there already; it was not touched.
    Exists,
    /// Something else is where a folder is needed.
    NotAFolder,
    /// This user may not do it.
    NotPermitted,
    /// No space, or a quota is used up.
    NoSpace,
    /// The place cannot be written to by anyone.
    ReadOnly,
    /// It, or a folder that it should be in, is not there.
    Vanished,
    /// The path would lead out of the target, or through a symbolic link, or is no path at all.
    UnsafePath,
    /// Anything else; the source says what.
    Other,
}

impl TargetErrorKind {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::EXIST | Errno::NOTEMPTY) => Self::Exists,
            Some(Errno::NOTDIR) => Self::NotAFolder,
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace,
            Some(Errno::ROFS) => Self::ReadOnly,
            Some(Errno::NOENT | Errno::STALE) => Self::Vanished,
            // A link on the way, or a way that leaves the folder it should stay in.
            Some(Errno::LOOP | Errno::XDEV) => Self::UnsafePath,
            _ => Self::Other,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Exists => "something is there already",
            Self::NotAFolder => "something else is where a folder is needed",
            Self::NotPermitted => "not permitted",
            Self::NoSpace => "no space left",
            Self::ReadOnly => "the place is read-only",
            Self::Vanished => "it is not there",
            Self::UnsafePath => "the path leads through a link or out of the target",
            Self::Other => "it failed",
        }
    }
}

/// Something below a target folder could not be made, changed or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {}", path::printable(path.as_os_str().as_bytes()), kind.words())]
pub struct TargetError {
    /// What it was tried on, with the target folder in front.
    pub path: PathBuf,
    /// What was tried, as a verb: "write".
    pub action: &'static str,
    /// What went wrong, as far as a caller can act on it.
    pub kind: TargetErrorKind,
    /// What the operating system said, or what is wrong with the path.
    #[source]
    pub source: Option<io::Error>,
}

impl TargetError {
    pub(super) fn new(path: PathBuf, action: &'static str, source: io::Error) -> Self {
        Self { path, action, kind: TargetErrorKind::of(&source), source: Some(source) }
    }

    pub(super) fn unsafe_path(path: PathBuf, action: &'static str, problem: &'static str) -> Self {
        let source = io::Error::new(io::ErrorKind::InvalidInput, problem);
        Self { path, action, kind: TargetErrorKind::UnsafePath, source: Some(source) }
    }
}
