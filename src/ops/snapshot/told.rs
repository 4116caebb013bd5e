//! Reading the list of what has changed, as a program writes it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The paths in `list`, each ended by a zero byte. Relative ones are below `source`, if there is
/// only one.
///
/// # Errors
/// In words, when it cannot be a whole list of paths.
pub fn changed_paths(list: &[u8], source: Option<&Path>) -> Result<Vec<PathBuf>, String> {
    let Some(list) = list.strip_suffix(b"\0") else {
        return match list {
            b"" => Ok(Vec::new()),
            _ => Err("the list of changes does not end with a zero byte: it is cut, or its paths \
                      are not each ended by one"
                .to_owned()),
        };
    };
    list.split(|&byte| byte == 0).map(|path| changed_path(path, source)).collect()
}

fn changed_path(path: &[u8], source: Option<&Path>) -> Result<PathBuf, String> {
    let written = Path::new(OsStr::from_bytes(path));
    let shown = || crate::format::path::printable(path);
    if path.is_empty() || written.components().any(|part| part.as_os_str() == "..") {
        return Err(format!("{:?} in the list of changes is no path below a source", shown()));
    }
    if written.is_absolute() {
        return Ok(written.components().collect());
    }
    let source = source.ok_or_else(|| {
        format!("{:?} in the list of changes is relative, and there are several sources", shown())
    })?;
    // Without "." and double slashes.
    let parts = written.components().filter(|part| part.as_os_str() != ".");
    Ok(parts.fold(source.to_owned(), |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let source = Some(Path::new("/s"));
        let read = |list: &[u8]| changed_paths(list, source);
        assert_eq!(read(b"").unwrap(), [""; 0].map(PathBuf::from));
        let paths = ["/a/b", "/s/c/d", "/s", "/s/e\nf"].map(PathBuf::from);
        assert_eq!(read(b"/a//b/\0./c/./d\0.\0e\nf\0").unwrap(), paths);
        assert!(changed_paths(b"/a\0", None).is_ok() && changed_paths(b"a\0", None).is_err());
        for bad in [&b"/a"[..], b"/a\0b", b"a\n", b"\0", b"a\0\0", b"../a\0", b"/s/../a\0"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
