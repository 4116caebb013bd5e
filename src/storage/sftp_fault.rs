//! Why a request over SFTP failed, and what that means to whoever uses a storage.

use std::fmt;
use std::io;

use openssh_sftp_client_lowlevel::{Error, SftpErrorKind};

use super::{StorageError, StorageErrorKind};

/// Longest text of a server or program that goes on, in characters.
const MAX_TEXT: usize = 300;

/// What is done before there is a connection.
pub(super) const REACH: &str = "reach";

/// A request failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no connection, and why.
    Lost(String),
    /// There is no such file or folder.
    NotFound,
    /// The server's user may not do this.
    Denied,
    /// The server says no; the protocol has no numbers for most reasons.
    Refused(String),
    /// The request makes no sense to the server's system, as "sync" does for some folders.
    Senseless(String),
    /// What is there is not what it should be.
    Strange(&'static str),
    /// A kind that was found by asking further.
    Known(StorageErrorKind),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let Error::SftpError(kind, message) = error else {
            return Self::Lost(printable(&error.to_string()));
        };
        let text = printable(message.get().0);
        match kind {
            SftpErrorKind::NoSuchFile => Self::NotFound,
            SftpErrorKind::PermDenied => Self::Denied,
            SftpErrorKind::BadMessage => Self::Senseless(text),
            _ => Self::Refused(text),
        }
    }
}

impl Fault {
    /// The error of `operation` on `object`.
    pub(super) fn during(self, operation: &'static str, object: impl fmt::Display) -> StorageError {
        let said = |text: &str| Some(io::Error::other(format!("the server says: {text}")));
        let (kind, source) = match self {
            Self::Lost(why) => {
                // Who never got there has lost nothing.
                let lost = if operation == REACH { "" } else { "the connection was lost: " };
                let text = format!("{lost}{why}");
                let source = io::Error::new(io::ErrorKind::NotConnected, text);
                (StorageErrorKind::PlaceLost, Some(source))
            }
            Self::NotFound => (StorageErrorKind::NotFound, None),
            Self::Denied => (StorageErrorKind::PermissionDenied, None),
            Self::Refused(text) | Self::Senseless(text) => (StorageErrorKind::Other, said(&text)),
            Self::Strange(text) => (StorageErrorKind::Other, Some(io::Error::other(text))),
            Self::Known(kind) => (kind, None),
        };
        StorageError { operation, object: object.to_string(), kind, source }
    }

    /// Whether the server answered, and said no without saying why.
    pub(super) fn is_vague(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Senseless(_))
    }
}

/// A text of somebody else's, fit for a line on a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
