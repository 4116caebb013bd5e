//! How users name a snapshot and what is in it: `latest`, an id or its beginning, `SNAP:PATH`.

use std::str::FromStr;

use super::OpError;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::repo::Repository;

/// Fewest digits of an id that name a snapshot.
const MIN_PREFIX: usize = 4;

/// A snapshot, and a path in it, as a user wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// `latest`, an id, or the beginning of one.
    pub snapshot: String,
    /// The path after the colon, as stored: no leading or trailing slash, empty for the top.
    /// Nothing when there was no colon.
    pub path: Option<Vec<u8>>,
}

impl SnapshotSpec {
    /// Reads `SNAP` or `SNAP:PATH`; the path may be any bytes.
    ///
    /// # Errors
    /// When the path is not one that a snapshot can hold, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let (snapshot, rest) = match text.iter().position(|&byte| byte == b':') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let snapshot = String::from_utf8_lossy(snapshot).into_owned();
        let path = rest.map(|rest| {
            let components: Vec<&[u8]> = rest
                .split(|&byte| byte == b'/')
                .filter(|component| !component.is_empty() && *component != b".")
                .collect();
            let joined = components.join(&b'/');
            match path::problem(&joined) {
                Some(problem) if !joined.is_empty() => Err(problem.to_owned()),
                _ => Ok(joined),
            }
        });
        Ok(Self { snapshot, path: path.transpose()? })
    }
}

impl FromStr for SnapshotSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_bytes())
    }
}

/// The snapshot that `wanted` names: `latest` is the newest by time.
///
/// # Errors
/// When there is none, or `wanted` could be several.
pub fn find_snapshot(repository: &Repository, wanted: &str) -> Result<Snapshot, OpError> {
    let (mut snapshots, _) = repository.snapshots()?;
    if wanted == "latest" {
        let newest = snapshots.pop();
        return newest.ok_or_else(|| OpError::UnknownSnapshot("(it has none yet)".to_owned()));
    }
    let digits = wanted.len() >= MIN_PREFIX && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    let wanted_id = wanted.to_ascii_lowercase();
    snapshots.retain(|snapshot| digits && snapshot.id.to_string().starts_with(&wanted_id));
    match snapshots.len() {
        1 => Ok(snapshots.remove(0)),
        0 => Err(OpError::UnknownSnapshot(wanted.to_owned())),
        _ => Err(OpError::AmbiguousSnapshot {
            wanted: wanted.to_owned(),
            candidates: snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_checked() {
        let parse = |text: &str| SnapshotSpec::parse(text.as_bytes());
        let spec = |snapshot: &str, path: Option<&str>| {
            let path = path.map(|path| path.as_bytes().to_vec());
            Ok(SnapshotSpec { snapshot: snapshot.to_owned(), path })
        };
        assert_eq!(parse("latest"), spec("latest", None));
        assert_eq!(parse("1a2b:/usr//bin/"), spec("1a2b", Some("usr/bin")));
        assert_eq!(parse("1a2b:/"), spec("1a2b", Some("")));
        assert_eq!(parse("1a2b:./db:x.sql"), spec("1a2b", Some("db:x.sql")));
        assert!(parse("1a2b:/a/../b").is_err());
    }
}
