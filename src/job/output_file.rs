//! Files that the user named to be written: complete or not there, and never in the place of a
//! device, a pipe or a link.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid, fchown};
use tempfile::{Builder, NamedTempFile};

/// How many links may lead from one to the next.
const MAX_LINKS: usize = 40;

/// A file that is being written. Until [`OutputFile::finish`], a regular file that exists keeps
/// its content, whatever happens; a device or a pipe is written to at once.
#[derive(Debug)]
pub struct OutputFile(Kind);

#[derive(Debug)]
enum Kind {
    /// What will stand in the place of the file at this path.
    Beside { temporary: NamedTempFile, path: PathBuf, replaced: Option<Box<Metadata>>, mode: u32 },
    /// A device, a pipe or a terminal.
    Into(File),
}

impl OutputFile {
    /// Begins to write the file at `path`. Links are followed. A new file gets `mode`; one that
    /// is replaced passes on its mode and, where the system allows it, its owner.
    ///
    /// # Errors
    /// When the directory or the file cannot be written to.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Ok(found) if found.is_file() => {
                Self::beside(path.canonicalize()?, Some(Box::new(found)), mode)
            }
            Ok(_) => Ok(Self(Kind::Into(File::options().write(true).open(path)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::beside(end_of_links(path)?, None, mode)
            }
            Err(error) => Err(error),
        }
    }

    fn beside(path: PathBuf, replaced: Option<Box<Metadata>>, mode: u32) -> io::Result<Self> {
        let mut builder = Builder::new();
        // Nobody else reads it before it has its own mode.
        builder.prefix(".gabion-").permissions(Permissions::from_mode(0o600));
        let temporary = builder.tempfile_in(directory_of(&path))?;
        Ok(Self(Kind::Beside { temporary, path, replaced, mode }))
    }

    /// Makes what was written durable, and puts it in its place.
    ///
    /// # Errors
    /// When that fails; a file that existed is as it was then.
    pub fn finish(self) -> io::Result<()> {
        let (temporary, path, replaced, mode) = match self.0 {
            Kind::Into(mut file) => return file.flush(),
            Kind::Beside { temporary, path, replaced, mode } => (temporary, path, replaced, mode),
        };
        let file = temporary.as_file();
        let mut mode = mode;
        if let Some(replaced) = replaced {
            mode = replaced.mode() & 0o7777;
            let mine = file.metadata()?;
            if (mine.uid(), mine.gid()) != (replaced.uid(), replaced.gid()) {
                let (uid, gid) = (Uid::from_raw(replaced.uid()), Gid::from_raw(replaced.gid()));
                // The system lets only root give files away; a set-user-id bit is for one owner.
                if fchown(file, Some(uid), Some(gid)).is_err() {
                    mode &= 0o777;
                }
            }
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        temporary.persist(&path).map_err(|error| error.error)?;
        File::open(directory_of(&path))?.sync_all()
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Beside { temporary, .. } => temporary.write(bytes),
            Kind::Into(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Beside { temporary, .. } => temporary.flush(),
            Kind::Into(file) => file.flush(),
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where links lead that end at nothing.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

/// Puts `bytes` in the place of the file `path`, durably and at once.
///
/// # Errors
/// As [`OutputFile`]; what was there stays then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with_mode(path, bytes, 0o644)
}

/// As [`replace`]; a new file gets `mode`.
///
/// # Errors
/// As [`replace`].
pub fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OutputFile::create(path, mode)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Makes a file that must not exist yet, for its owner alone, durably and at once: a secret is
/// never there in part.
///
/// # Errors
/// When something has that name, or the file cannot be written.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = Builder::new();
    builder.prefix(".gabion-").permissions(Permissions::from_mode(0o600));
    let mut temporary = builder.tempfile_in(directory_of(path))?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_modes_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode() & 0o7777;
        std::fs::create_dir(at("d")).unwrap();
        symlink("d/real", at("link")).unwrap();
        symlink("link", at("further")).unwrap();
        replace_with_mode(&at("further"), b"1", 0o640).unwrap();
        assert_eq!((std::fs::read(at("d/real")).unwrap(), mode("d/real")), (b"1".to_vec(), 0o640));
        std::fs::set_permissions(at("d/real"), Permissions::from_mode(0o604)).unwrap();
        replace(&at("link"), b"2").unwrap();
        assert_eq!((std::fs::read(at("d/real")).unwrap(), mode("d/real")), (b"2".to_vec(), 0o604));
        assert!(at("link").is_symlink() && at("further").is_symlink());
        symlink("a", at("b")).unwrap();
        symlink("b", at("a")).unwrap();
        assert!(replace(&at("a"), b"").is_err() && replace(&at("d"), b"").is_err());
        assert!(create_private(&at("link"), b"").is_err());
        create_private(&at("key"), b"k").unwrap();
        assert_eq!((mode("key"), create_private(&at("key"), b"").is_err()), (0o600, true));
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }
}
