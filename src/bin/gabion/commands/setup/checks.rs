//! Whether answers can be what they are meant to be, looked at before anything is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gabion::storage::{self, LocalStorage, RemotePlace, SftpStorage, Ssh, StorageErrorKind};

use crate::errors::{Exit, Failure};
use crate::nearby::nearby;
use crate::session::parse_place;
use crate::sources;

/// Where the repository goes.
pub(super) struct Place {
    /// Where it is.
    pub(super) at: storage::Place,
    /// Whether there is a repository already.
    pub(super) exists: bool,
    /// A source that lies on the same disk.
    pub(super) on_disk_of: Option<PathBuf>,
}

/// An absolute path that a configuration can hold.
pub(super) fn absolute_text(path: &Path) -> Result<PathBuf, Failure> {
    let path = sources::absolute(path)?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(Failure::usage(format!("{} is no UTF-8", path.display()))
            .hint("name the folder above it, and exclude what is not wanted")),
    }
}

/// A source: it must be there.
pub(super) fn source(path: &Path) -> Result<PathBuf, Failure> {
    let path = absolute_text(path)?;
    match path.symlink_metadata() {
        Ok(about) if about.is_symlink() => {
            let message = format!("{} is a link, of which only the link is kept", path.display());
            Err(Failure::usage(message).hint("name what it points to"))
        }
        Ok(_) => Ok(path),
        Err(error) => {
            let failure = Failure::io(format!("cannot find {}", path.display()), &error);
            let hint = nearby(&path).unwrap_or_else(|| "is its disk mounted?".to_owned());
            Err(failure.with_exit(Exit::Usage).hint(hint))
        }
    }
}

/// Where the repository is: apart from the sources, and a repository or a place for one.
pub(super) fn repository(text: &str, sources: &[PathBuf], ssh: &Ssh) -> Result<Place, Failure> {
    match parse_place(text.as_ref())? {
        storage::Place::Folder(path) => folder(&path, sources),
        storage::Place::Remote(remote) => elsewhere(remote, ssh),
    }
}

/// Another machine, hence another disk and no source.
fn elsewhere(remote: RemotePlace, ssh: &Ssh) -> Result<Place, Failure> {
    let exists = match SftpStorage::has_repository(&remote, ssh) {
        Ok(exists) => exists,
        Err(error) => {
            let shown = remote.to_string();
            let usage = match error.kind {
                StorageErrorKind::AlreadyExists => {
                    format!("{shown} is neither a repository nor an empty folder")
                }
                StorageErrorKind::NotFound => {
                    format!("the folder that {shown} should lie in is not there")
                }
                _ => return Err(error.into()),
            };
            return Err(Failure::usage(usage).hint("name a folder that does not exist yet"));
        }
    };
    Ok(Place { at: storage::Place::Remote(remote), exists, on_disk_of: None })
}

fn folder(path: &Path, sources: &[PathBuf]) -> Result<Place, Failure> {
    let path = absolute_text(path)?;
    let Some(above) = path.parent() else {
        return Err(Failure::usage("/ cannot hold a repository").hint("name a folder in it"));
    };
    let shown = path.display();
    let real = match above.canonicalize() {
        Ok(above) => above.join(path.file_name().unwrap_or_default()),
        Err(error) => {
            let failure = Failure::io(format!("cannot find {}", above.display()), &error);
            let hint = nearby(above).unwrap_or_else(|| "is its disk mounted?".to_owned());
            return Err(failure.with_exit(Exit::Usage).hint(hint));
        }
    };
    let real = real.canonicalize().unwrap_or(real);
    for source in sources {
        let source_real = source.canonicalize().unwrap_or_else(|_| source.clone());
        let source = source.display();
        if real.starts_with(&source_real) {
            let message = format!("{shown} lies in the source {source}: it would save itself");
            return Err(Failure::usage(message).hint("name a folder outside, on another disk"));
        }
        if source_real.starts_with(&real) {
            let message = format!("the source {source} lies in {shown}");
            return Err(Failure::usage(message).hint("name another folder for the repository"));
        }
    }
    let exists = LocalStorage::open(&real).is_ok();
    let taken = |mut items: std::fs::ReadDir| items.next().is_some();
    if !exists && real.exists() && std::fs::read_dir(&real).map_or(true, taken) {
        let message = format!("{shown} is neither a repository nor an empty folder");
        return Err(Failure::usage(message).hint("name a folder that does not exist yet"));
    }
    let folder = if real.is_dir() { &real } else { above };
    can_write(folder)?;
    let disk = |path: &Path| path.metadata().map(|about| about.dev()).ok();
    let own = disk(folder);
    let on_disk_of = sources.iter().find(|source| own.is_some() && disk(source) == own).cloned();
    Ok(Place { at: storage::Place::Folder(path), exists, on_disk_of })
}

/// Makes a file in `folder` and removes it again.
fn can_write(folder: &Path) -> Result<(), Failure> {
    let probe = folder.join(format!(".gabion-setup-{}", std::process::id()));
    let made = File::options().write(true).create_new(true).open(&probe);
    #[expect(clippy::disallowed_methods, reason = "no object of a repository")]
    let tried = made.and_then(|_| std::fs::remove_file(&probe));
    tried.map_err(|error| {
        let failure = Failure::io(format!("cannot write in {}", folder.display()), &error);
        let owner = folder.metadata().map(|about| about.uid()).ok();
        let failure = failure.with_exit(Exit::Usage);
        match (error.kind(), owner) {
            (io::ErrorKind::PermissionDenied, Some(owner)) => failure.hint(format!(
                "it belongs to user {owner}, and you are {}",
                crate::machine::user()
            )),
            (io::ErrorKind::ReadOnlyFilesystem, _) => {
                failure.hint("is its disk mounted read-only?")
            }
            _ => failure,
        }
    })
}

/// A file for a passphrase: not there yet, in a folder that is, and not beside what it opens.
pub(super) fn new_password_file(path: &Path, place: &Place) -> Result<PathBuf, Failure> {
    let path = absolute_text(path)?;
    let shown = path.display();
    if place.at.folder().is_some_and(|repository| path.starts_with(repository)) {
        let message = format!("{shown} lies in the repository that it opens");
        return Err(Failure::usage(message).hint("name a file on another disk"));
    }
    if path.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{shown} is there already"))
            .hint("say --password-file to use it as it is, or name another file"));
    }
    Ok(path)
}
