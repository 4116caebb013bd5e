//! What can go wrong with a repository. Disjoint from the errors of sources: nothing here can ever
//! be skipped like an unreadable file.

use crate::codec::EncodeError;
use crate::crypto::seal::OpenError;
use crate::format::DecodeError;
use crate::format::config::ConfigError;
use crate::id::ChunkId;
use crate::repo::index::UnusableIndex;
use crate::storage::{ObjectName, StorageError, StorageErrorKind};
use crate::threads::Panicked;

/// A repository operation failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The place where the objects lie failed.
    #[error(transparent)]
    Storage(StorageError),
    /// There is no repository at the place.
    #[error("no gabion repository at {0}")]
    NotARepository(String),
    /// There is one already.
    #[error("{0} already holds a gabion repository")]
    AlreadyInitialised(String),
    /// Both copies of the configuration are unusable.
    #[error("the repository's configuration cannot be used")]
    Config(#[source] ConfigError),
    /// No key slot opens with what was given.
    #[error("wrong passphrase or key file: it opens none of the repository's {slots} key slots")]
    WrongKey {
        /// How many slots were tried.
        slots: usize,
    },
    /// No key slot opens that could be tried, and others cost too much to try.
    #[error(
        "the passphrase opens none of the {tried} key slots that were tried; {skipped} more were \
         not: deriving this key exceeds the allowed cost"
    )]
    KeyTooCostly {
        /// How many slots were tried.
        tried: usize,
        /// How many were not.
        skipped: usize,
    },
    /// A passphrase or key file was given for a repository that is not encrypted.
    #[error("{0} is not encrypted, but a passphrase or key file was given for it")]
    UnexpectedPlaintext(String),
    /// It was encrypted when this client last saw it.
    #[error("{0} was encrypted before, and now says that it is not")]
    NoLongerEncrypted(String),
    /// Another repository lay there when this client last looked.
    #[error("{place} now holds the repository {found}; this machine knows {known} there")]
    AnotherRepository {
        /// Where.
        place: String,
        /// What is there now.
        found: String,
        /// What was there.
        known: String,
    },
    /// No key slot could even be tried.
    #[error("no key slot of the repository is usable: {reason}")]
    NoUsableSlot {
        /// What is wrong with them.
        reason: String,
    },
    /// The last key slot would be removed, and with it all access for ever.
    #[error("{0} is the last key slot: without it nothing could ever be read again")]
    LastSlot(String),
    /// No slot has this id.
    #[error("no key slot {0}")]
    NoSuchSlot(String),
    /// An object is not what it should be.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object's path in the repository.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object was written by a later version of this program.
    #[error("{object} has format version {found}; this program knows up to {supported}")]
    NewerFormat {
        /// The object's path in the repository.
        object: String,
        /// Its version.
        found: u16,
        /// The newest version that can be read.
        supported: u16,
    },
    /// A chunk that something refers to is in no pack.
    #[error("chunk {0} is missing from the repository")]
    MissingChunk(ChunkId),
    /// A block could not be encoded, or not so that it decodes again.
    #[error("a block could not be stored")]
    Encode(#[source] EncodeError),
    /// The place now holds another repository than the one that was opened.
    #[error("{0} now holds another repository than the one that was opened")]
    Replaced(String),
    /// The cached index cannot be used; making it anew cures that.
    #[error(transparent)]
    Index(UnusableIndex),
    /// A thread of the writer failed before.
    #[error("writing to the repository failed: {0}")]
    Writer(String),
    /// Memory could not be provided for a key, or a cost is out of range.
    #[error("the key could not be derived: {0}")]
    Key(String),
    /// The system did not allow another thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// gabion itself failed.
    #[error(transparent)]
    Internal(Panicked),
}

impl From<StorageError> for RepositoryError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<UnusableIndex> for RepositoryError {
    fn from(error: UnusableIndex) -> Self {
        Self::Index(error)
    }
}

impl From<EncodeError> for RepositoryError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<Panicked> for RepositoryError {
    fn from(error: Panicked) -> Self {
        Self::Internal(error)
    }
}

impl RepositoryError {
    /// The same error once more, for another who is stopped by it.
    #[must_use]
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Storage(error) => Self::Storage(error.again()),
            Self::Writer(text) => Self::Writer(text.clone()),
            Self::Internal(panicked) => Self::Internal(panicked.clone()),
            other => Self::Writer(other.to_string()),
        }
    }

    /// `object` did not decode.
    pub fn damaged(object: ObjectName, error: &DecodeError) -> Self {
        Self::Damaged { object: object.to_string(), reason: error.to_string() }
    }

    /// `object` did not open.
    pub fn not_opened(object: ObjectName, error: &OpenError) -> Self {
        match *error {
            OpenError::NewerFormat { found, supported } => {
                Self::NewerFormat { object: object.to_string(), found, supported }
            }
            _ => Self::Damaged { object: object.to_string(), reason: error.to_string() },
        }
    }

    /// Whether it is about the bytes of one object, not about reaching the repository. A version
    /// that is too new counts: the configuration says that this program may use the repository, so
    /// an object that says otherwise is most likely damaged, and the others are not affected.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::MissingChunk(_) | Self::NewerFormat { .. })
    }

    /// Whether it says something of one object, which may be damaged, gone or on a bad sector;
    /// everything else, such as a connection that was lost, says nothing of the object.
    pub fn is_about_one_object(&self) -> bool {
        use StorageErrorKind::{NotFound, TooLong, Truncated};
        match self {
            Self::Storage(error) => {
                error.is_bad_sector() || matches!(error.kind, NotFound | TooLong | Truncated)
            }
            error => error.is_damage(),
        }
    }
}
