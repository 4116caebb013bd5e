//! Names of files: any bytes, shown so that they can do no harm, given to programs unchanged.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use gabion::format::entry::{Entry, EntryKind};
use gabion::format::path;
use gabion::format::snapshot::RawBytes;
use serde::Serialize;

/// A path for people and programs. As JSON it is a string, or `{"hex": ..}` where it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct PathText(RawBytes);

impl PathText {
    /// A path of this machine.
    pub(crate) fn of_path(path: &Path) -> Self {
        Self(RawBytes(path.as_os_str().as_bytes().to_vec()))
    }

    /// The path of an entry as users write it after `SNAP:`. Streams have no leading slash: they
    /// lie in no folder.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self::of_stored(&entry.path, entry.meta.kind)
    }

    /// As [`Self::of_entry`], from its parts.
    pub(crate) fn of_stored(path: &[u8], kind: EntryKind) -> Self {
        Self(RawBytes([leading_slash(kind).as_bytes(), path].concat()))
    }

    /// For people.
    pub(crate) fn printable(&self) -> String {
        path::printable(&self.0.0)
    }
}

/// What stands before the path of an entry.
pub(crate) fn leading_slash(kind: EntryKind) -> &'static str {
    if kind == EntryKind::Stream { "" } else { "/" }
}

/// Any bytes for programs.
pub(crate) fn raw(bytes: &[u8]) -> RawBytes {
    RawBytes(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_no_slash_and_odd_bytes_are_kept_for_programs() {
        let file = PathText::of_stored(b"a/\xff\n", EntryKind::File);
        assert_eq!(file.printable(), "/a/\\xff\\n");
        assert_eq!(serde_json::to_string(&file).unwrap(), "{\"hex\":\"2f612fff0a\"}");
        let stream = PathText::of_stored(b"db.sql", EntryKind::Stream);
        assert_eq!(serde_json::to_string(&stream).unwrap(), "\"db.sql\"");
    }
}
