//! Where a repository is, as users write it: a folder, or `[user@]host:path` and
//! `sftp://[user@]host[:port]/path` for a folder of another machine.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A folder of another machine.
    Remote(RemotePlace),
}

/// A folder of a machine that is reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePlace {
    /// The name there; none: what ssh takes.
    user: Option<String>,
    /// The machine, or what ssh's configuration calls it.
    host: String,
    /// The port; none: what ssh takes.
    port: Option<u16>,
    /// The folder. Without a slash in front it begins at the user's home.
    path: String,
}

/// What cannot say where a repository is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is no place for a repository: {reason}")]
pub struct ParsePlaceError {
    /// What was written.
    text: String,
    /// What is wrong with it.
    reason: &'static str,
    /// What to write instead.
    pub cure: &'static str,
}

const FORMS: &str = "write a folder, host:folder, user@host:folder or sftp://host:port/folder";

impl Place {
    /// The place that `text` means. What has a colon before its first slash is on another machine;
    /// a folder with such a name is written `./a:b`.
    ///
    /// # Errors
    /// When `text` is empty, or means another machine and cannot.
    pub fn parse(text: &OsStr) -> Result<Self, ParsePlaceError> {
        let shown = text.display().to_string();
        let wrong = |reason, cure| ParsePlaceError { text: shown.clone(), reason, cure };
        if text.is_empty() {
            return Err(wrong("it is empty", FORMS));
        }
        let start = text.as_encoded_bytes().split(|&byte| byte == b'/').next();
        if !start.is_some_and(|start| start.contains(&b':')) {
            return Ok(Self::Folder(text.into()));
        }
        let text = text.to_str().ok_or_else(|| wrong("it is no UTF-8", FORMS))?;
        let parts = match text.split_once("://") {
            Some(("sftp", rest)) => from_address(rest),
            Some((scheme, _)) if !scheme.contains('/') => {
                Err(("nothing but sftp:// is known", FORMS))
            }
            _ => from_short(text),
        };
        let remote = parts.and_then(|place| place.checked());
        remote.map(Self::Remote).map_err(|(reason, cure)| wrong(reason, cure))
    }

    /// The folder, if it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Remote(place) => place.fmt(f),
        }
    }
}

type Wrong = (&'static str, &'static str);

/// What stands behind `sftp://`. Its path is absolute; `/~/` begins at the user's home.
fn from_address(rest: &str) -> Result<RemotePlace, Wrong> {
    let (machine, path) = rest.split_once('/').ok_or(("it names no folder", FORMS))?;
    let (user, machine) = user_of(machine);
    let (host, behind) = host_of(machine, ':')?;
    let port = match behind.strip_prefix(':') {
        None if behind.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| ("its port is none", FORMS))?)
        }
        _ => return Err(("its port is none", FORMS)),
    };
    let path = decoded(path).ok_or(("its % stands for nothing", "write %25 for a %"))?;
    let path = match path.strip_prefix("~/") {
        Some(below) => below.to_owned(),
        None => format!("/{path}"),
    };
    Ok(RemotePlace { user, host, port, path })
}

/// `[user@]host:path`.
fn from_short(text: &str) -> Result<RemotePlace, Wrong> {
    let (user, machine) = user_of(text);
    let (host, behind) = host_of(machine, ':')?;
    let path = behind.strip_prefix(':').ok_or(("it names no folder", FORMS))?;
    if path.starts_with(':') {
        return Err(("two colons are rsync's own way", "write one colon: it goes by SSH"));
    }
    if path.contains(':') {
        return Err(("it holds two colons", "write sftp://host/folder if both are meant"));
    }
    let path = path.strip_prefix("~/").unwrap_or(path).to_owned();
    Ok(RemotePlace { user, host, port: None, path })
}

/// A name in front of an `@` that comes before all else, and the rest.
fn user_of(text: &str) -> (Option<String>, &str) {
    match text.split_once('@') {
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user.to_owned()), rest),
        _ => (None, text),
    }
}

/// The host in front of `end`, and what follows it, `end` included. An address with colons stands
/// in brackets.
fn host_of(text: &str, end: char) -> Result<(String, &str), Wrong> {
    if let Some(inside) = text.strip_prefix('[') {
        let (host, rest) = inside.split_once(']').ok_or(("its bracket is not closed", FORMS))?;
        return Ok((host.to_owned(), rest));
    }
    let (host, rest) = text.split_at(text.find(end).unwrap_or(text.len()));
    Ok((host.to_owned(), rest))
}

/// The text that percent signs with two digits stand for.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

impl RemotePlace {
    /// A command of its own for each of these would be somebody else's wish, not the user's.
    fn checked(mut self) -> Result<Self, Wrong> {
        // No name of a machine or user, hence never taken for an option by ssh.
        let plain = |text: &str| {
            !text.starts_with('-')
                && text.chars().all(|c| c.is_alphanumeric() || "-._+%:".contains(c))
        };
        if self.host.is_empty() {
            return Err(("it names no machine", FORMS));
        }
        if !plain(&self.host) {
            return Err(("no machine has such a name", FORMS));
        }
        if self.user.as_ref().is_some_and(|user| user.is_empty() || !plain(user)) {
            return Err(("no user has such a name", FORMS));
        }
        let below: Vec<&str> =
            self.path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if below.is_empty() {
            return Err(("it names no folder", FORMS));
        }
        if below.contains(&"..") || self.path.contains(char::is_control) {
            return Err(("its folder holds what it must not", "write the path without .."));
        }
        if self.path.starts_with('~') {
            return Err((
                "~ means nothing there",
                "write the path from the root, or from your home",
            ));
        }
        let start = if self.path.starts_with('/') { "/" } else { "" };
        self.path = format!("{start}{}", below.join("/"));
        Ok(self)
    }

    /// The name there, if one is given.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one is given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The folder there: absolute, or relative to the user's home.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for RemotePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let machine = format!("{user}{open}{}{close}", self.host);
        if self.port.is_none() && !self.path.contains(':') {
            return write!(f, "{machine}:{}", self.path);
        }
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = self.path.replace('%', "%25");
        match path.strip_prefix('/') {
            Some(path) => write!(f, "sftp://{machine}{port}/{path}"),
            None => write!(f, "sftp://{machine}{port}/~/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemotePlace {
        match Place::parse(text.as_ref()) {
            Ok(Place::Remote(place)) => place,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn folders_stay_folders() {
        for text in ["/mnt/backup", "r", "./a:b", "../a:b", "/a:b/c", "a/b:c", "x@y", ".", "-r"] {
            let place = Place::parse(text.as_ref()).unwrap();
            assert_eq!(place, Place::Folder(text.into()), "{text}");
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn other_machines_are_known_by_a_colon() {
        type Parts<'a> = (Option<&'a str>, &'a str, Option<u16>, &'a str);
        let cases: [(&str, Parts, &str); 12] = [
            ("host:dir", (None, "host", None, "dir"), "host:dir"),
            ("me@host:/srv/a b", (Some("me"), "host", None, "/srv/a b"), "me@host:/srv/a b"),
            ("host:~/dir/", (None, "host", None, "dir"), "host:dir"),
            ("host:./dir//x", (None, "host", None, "dir/x"), "host:dir/x"),
            ("a.b-c_d:/x@y", (None, "a.b-c_d", None, "/x@y"), "a.b-c_d:/x@y"),
            ("[::1]:dir", (None, "::1", None, "dir"), "[::1]:dir"),
            (
                "me@[fe80::1%eth0]:/d",
                (Some("me"), "fe80::1%eth0", None, "/d"),
                "me@[fe80::1%eth0]:/d",
            ),
            ("sftp://host/srv/r", (None, "host", None, "/srv/r"), "host:/srv/r"),
            (
                "sftp://me@host:2222/srv",
                (Some("me"), "host", Some(2222), "/srv"),
                "sftp://me@host:2222/srv",
            ),
            ("sftp://[::1]:22/~/r", (None, "::1", Some(22), "r"), "sftp://[::1]:22/~/r"),
            ("sftp://host/a:b%20%25", (None, "host", None, "/a:b %"), "sftp://host/a:b %25"),
            ("sftp://host//srv//r/", (None, "host", None, "/srv/r"), "host:/srv/r"),
        ];
        for (text, (user, host, port, path), shown) in cases {
            let place = remote(text);
            assert_eq!((place.user(), place.host()), (user, host), "{text}");
            assert_eq!((place.port(), place.path()), (port, path), "{text}");
            assert_eq!(place.to_string(), shown, "{text}");
            assert_eq!(remote(shown), place, "{shown}");
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        let bad = [
            ("", "empty"),
            (":dir", "names no machine"),
            ("@host:dir", "no user"),
            ("host:", "names no folder"),
            ("host:/", "names no folder"),
            ("host:.", "names no folder"),
            ("host::dir", "rsync"),
            ("host:a:b", "two colons"),
            ("-oProxyCommand=x:dir", "no machine"),
            ("-l@host:dir", "no user"),
            ("ho st:dir", "no machine"),
            ("host:../dir", "must not"),
            ("host:a\nb", "must not"),
            ("host:~other/dir", "~ means nothing"),
            ("[::1:dir", "not closed"),
            ("[::1]dir:x", "names no folder"),
            ("sftp://host", "names no folder"),
            ("sftp://host/", "names no folder"),
            ("sftp:///dir", "names no machine"),
            ("sftp://host:x/dir", "port"),
            ("sftp://host:70000/dir", "port"),
            ("sftp://host/%zz", "%"),
            ("sftp://-x/dir", "no machine"),
            ("s3://bucket/dir", "sftp://"),
        ];
        for (text, reason) in bad {
            let error = Place::parse(text.as_ref()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert_eq!(error.lines().count().max(1), 1 + text.matches('\n').count(), "{error}");
        }
    }
}
