//! The sources of a snapshot as the user named them: made absolute, and kept apart from gabion's
//! own folders.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use gabion::format::path::printable;
use gabion::source::pattern::literal;

use crate::console::Console;
use crate::errors::Failure;
use crate::session::Session;

/// The absolute path that `path` means, without `.`, `..` and double slashes. Links are followed
/// only where a `..` comes after them, since only the file system knows what lies above.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::io(format!("cannot find {}", path.display()), &error);
    if path.as_os_str().is_empty() {
        return Err(Failure::usage("a PATH is empty"));
    }
    // As everywhere, a slash after a link means the directory that it leads to.
    let bytes = path.as_os_str().as_bytes();
    if (bytes.ends_with(b"/") || bytes.ends_with(b"/.")) && is_link(path) {
        return path.canonicalize().map_err(failed);
    }
    let mut clean = PathBuf::from("/");
    for component in std::path::absolute(path).map_err(failed)?.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                if clean.is_symlink() {
                    clean = clean.canonicalize().map_err(failed)?;
                }
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Whether a path is a link, whatever slashes and dots follow its name.
fn is_link(path: &Path) -> bool {
    // The components of a path have neither a slash nor a dot at the end.
    path.components().collect::<PathBuf>().is_symlink()
}

/// Says that a link among the sources is kept as a link, which is rarely what was meant.
pub(crate) fn mention_links(paths: &[PathBuf], console: &Console) {
    for path in paths.iter().filter(|path| path.is_symlink()) {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let shown = |path: &Path| printable(path.as_os_str().as_bytes());
        let (path, real) = (shown(path), shown(&real));
        console.warning(&format!(
            "{path} is a link: it is stored, but not what it points to; name {real} for that"
        ));
    }
}

/// Patterns that leave out gabion's own folders, the repository and the cache, where they lie in a
/// source: they change while they are read, and a snapshot of the repository in itself would only
/// grow.
pub(crate) fn patterns_against_own(
    session: &Session,
    paths: &[PathBuf],
) -> Result<Vec<OsString>, Failure> {
    let cache = session.cache_folder();
    let place = session.place()?;
    // One on another machine lies in no source.
    let mut own: Vec<_> = place.folder().map(|path| ("the repository", path)).into_iter().collect();
    own.extend(cache.as_deref().map(|cache| ("gabion's cache folder", cache)));
    patterns_against(&own, paths, &session.console)
}

fn patterns_against(
    own: &[(&str, &Path)],
    paths: &[PathBuf],
    console: &Console,
) -> Result<Vec<OsString>, Failure> {
    let mut patterns = Vec::new();
    for (what, folder) in own {
        // What cannot be found lies in no source either.
        let Ok(folder) = folder.canonicalize() else { continue };
        for path in paths.iter().filter(|path| !path.is_symlink()) {
            let Ok(real) = path.canonicalize() else { continue };
            let Ok(below) = folder.strip_prefix(&real) else { continue };
            if below.as_os_str().is_empty() {
                let path = path.display();
                return Err(Failure::usage(format!("{path} is {what} itself: name other sources")));
            }
            let inside = path.join(below);
            let shown = printable(inside.as_os_str().as_bytes());
            console.note(&format!("{what} lies in a source and is left out: {shown}"));
            patterns.push(literal(inside));
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_clean() {
        let clean = |path: &str| absolute(Path::new(path)).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(clean("."), here);
        assert_eq!(clean("./a/./b/"), here.join("a/b"));
        assert_eq!(clean("/no-such//folder/../x"), Path::new("/no-such/x"));
        assert_eq!(clean("/../.."), Path::new("/"));
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn what_lies_above_a_link_is_what_the_system_says() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", top.join("link")).unwrap();
        assert_eq!(absolute(&top.join("link/../c")).unwrap(), top.join("a/c"));
        assert_eq!(absolute(&top.join("link")).unwrap(), top.join("link"));
        assert_eq!(absolute(&top.join("link/")).unwrap(), top.join("a/b"));
        assert_eq!(absolute(&top.join("link/.")).unwrap(), top.join("a/b"));
        assert_eq!(absolute(&top.join("a/b/")).unwrap(), top.join("a/b"));
    }
}
