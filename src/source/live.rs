//! The raw files of a running database. Copied one after the other they are of no one moment: a
//! server started from them may run and show other rows than there were. So a dump is the way.

use std::path::Path;

use super::open::Roots;
use super::{Stat, absolute};
use crate::format::entry::EntryKind;
use crate::format::path;

/// A running database whose raw files are in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveDatabase {
    /// What it is.
    pub kind: &'static str,
    /// Whether it lies deep in a tree and is small, as programs of desktops keep them: worth a note
    /// and no more.
    pub minor: bool,
}

/// Whether the file `path`, in the scan's form, shows that a database runs in its folder.
pub(crate) fn found_at(roots: &Roots, path: &[u8], stat: &Stat) -> Option<LiveDatabase> {
    if stat.kind != EntryKind::File {
        return None;
    }
    let name = path::name(path);
    let folder = path::parent(path);
    let there = |beside: &[u8]| {
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        roots.open_handle(&[folder, slash, beside].concat()).is_ok()
    };
    if let Some(kind) = server(name, there) {
        return Some(LiveDatabase { kind, minor: false });
    }
    let file = name.strip_suffix(b"-wal").filter(|file| !file.is_empty() && stat.size > 0)?;
    if !there(file) || !there(&[file, b"-shm"].concat()) {
        return None;
    }
    let (_, below) = roots.locate(path).ok()?;
    let deep = below.iter().filter(|&&byte| byte == b'/').count() > 1;
    Some(LiveDatabase { kind: SQLITE, minor: deep })
}

const SQLITE: &str = "an SQLite database that is in use";

/// The server that `name` is a sign of, together with what else is there.
fn server(name: &[u8], there: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    match name {
        b"postmaster.pid" if there(b"PG_VERSION") => Some("a running PostgreSQL server"),
        b"aria_log_control" if there(b"ibdata1") => Some("a MariaDB server"),
        _ if name.ends_with(b".pid") && there(b"ibdata1") => Some("a running MySQL server"),
        _ => None,
    }
}

/// Looks at a root itself, before anything else is done.
pub(crate) fn at_root(root: &Path) -> Option<&'static str> {
    let there = |name: &[u8]| {
        let name = std::ffi::OsStr::new(std::str::from_utf8(name).unwrap_or_default());
        root.join(name).symlink_metadata().is_ok()
    };
    for sign in [&b"postmaster.pid"[..], b"aria_log_control"] {
        if there(sign)
            && let Some(kind) = server(sign, there)
        {
            return Some(kind);
        }
    }
    let mut log = root.as_os_str().to_owned();
    log.push("-wal");
    let log = Path::new(&log).symlink_metadata().ok()?;
    let file = root.symlink_metadata().ok()?;
    (file.is_file() && log.is_file() && log.len() > 0).then_some(SQLITE)
}

/// What is said about such a folder.
pub(crate) fn refusal(kind: &str, path: &[u8]) -> String {
    let place = path::printable(absolute(path::parent(path)).as_os_str().as_encoded_bytes());
    format!(
        "{place} holds the files of {kind}: a copy of them is of no one moment (take a dump as a \
         stream and exclude the folder, or say --allow-live-database)"
    )
}
