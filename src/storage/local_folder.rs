//! What a local repository does with one folder handle: opening, listing, syncing, sweeping.
//! Every name is resolved relative to a handle and no symbolic link is ever followed.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{Gid, Uid};
use rustix::io::{Errno, retry_on_intr};

use super::listing::{Item, too_many};
use super::name::MAX_NAMES;
use super::temporary;

/// Only the repository's owner may list or enter its folders.
pub(super) const FOLDER_MODE: Mode = Mode::RWXU;
/// Only the repository's owner may read its objects.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A leftover younger than this is not swept: its owner may be between making and locking it.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The error of something that is no regular file where an object belongs.
fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Opens the folder `name` in `parent`.
pub(super) fn open_folder(parent: &File, name: &str) -> io::Result<File> {
    // O_DIRECTORY with O_NOFOLLOW: a link that somebody planted must not lead out of the
    // repository. O_RDONLY, not O_PATH: the handle is also listed and synced.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty()))?;
    Ok(File::from(folder))
}

/// Opens the folder `name` in `parent` to list it.
pub(super) fn open_listing(parent: &File, name: &str) -> io::Result<Dir> {
    Ok(Dir::new(open_folder(parent, name)?)?)
}

/// Makes the folder `name` in `parent`; one that exists already is fine.
pub(super) fn make_folder(parent: &File, name: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, FOLDER_MODE) {
        Ok(()) => give_to_owner(parent, &open_folder(parent, name)?),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives what root just made in `parent` to the owner of `parent`: that user must be able to use the
/// repository afterwards.
pub(super) fn give_to_owner(parent: &File, made: &File) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (wanted, has) = (parent.metadata()?, made.metadata()?);
    if (wanted.uid(), wanted.gid()) == (has.uid(), has.gid()) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(wanted.uid()), Gid::from_raw(wanted.gid()));
    match rustix::fs::fchown(made, Some(uid), Some(gid)) {
        // Where owners are decided elsewhere, they may be right although they cannot be set.
        Err(_) if made.metadata()?.uid() != wanted.uid() => Err(io::Error::other(format!(
            "root cannot give new files to the owner of the repository, user {}: run gabion as \
             that user",
            wanted.uid()
        ))),
        _ => Ok(()),
    }
}

/// Makes the names in `folder` durable: without it a new name, or the loss of one, may be forgotten
/// in a power failure although the file itself was synced.
pub(super) fn sync_folder(folder: &File) -> io::Result<()> {
    match rustix::fs::fsync(folder) {
        // Some file systems cannot sync folders, and have nothing to sync in them either.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the object `name` of `folder` for reading; returns its length in bytes with it.
pub(super) fn open_object(folder: &File, name: &str) -> io::Result<(File, u64)> {
    // O_NOFOLLOW: an object is never a link. O_NONBLOCK: opening a planted pipe must not wait for
    // its other end; on a regular file it has no effect.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty())) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP | Errno::NXIO) => return Err(not_a_file()),
        Err(error) => return Err(error.into()),
    };
    // Asked of the open file, so that nothing can be put in its place after the question.
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(not_a_file());
    }
    Ok((file, facts.len()))
}

/// The length in bytes of the object `name` of `folder`.
pub(super) fn object_len(folder: &File, name: &str) -> io::Result<u64> {
    let stat = retry_on_intr(|| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).map_err(io::Error::other),
        _ => Err(not_a_file()),
    }
}

/// When the content of the object `name` of `folder` was last written, which is before it became
/// visible and never again.
pub(super) fn object_modified(folder: &File, name: &str) -> io::Result<SystemTime> {
    open_object(folder, name)?.0.metadata()?.modified()
}

/// Everything in a folder, unsorted, without the unfinished objects; and whether there are any of
/// those.
/// More than `limit` names are an error.
pub(super) fn items(folder: Dir, limit: usize) -> io::Result<(Vec<Item>, bool)> {
    let (mut items, mut has_unfinished) = (Vec::new(), false);
    let (names, folder) = names(folder, limit)?;
    for name in names {
        let text = name.to_string_lossy();
        if temporary::is_temporary(&text) {
            has_unfinished = true;
            continue;
        }
        let handle = folder.fd()?;
        let stat =
            match retry_on_intr(|| rustix::fs::statat(handle, &name, AtFlags::SYMLINK_NOFOLLOW)) {
                Ok(stat) => stat,
                // Deleted since the folder was read: as good as deleted before.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
        items.push(Item {
            name: text.into_owned(),
            file_type: FileType::from_raw_mode(stat.st_mode),
            len: u64::try_from(stat.st_size).map_err(io::Error::other)?,
            modified: modified(&stat),
        });
    }
    Ok((items, has_unfinished))
}

/// `folder`, to be listed through a handle of its own: the position in a folder belongs to the
/// handle, and several threads may be listing this one.
pub(super) fn listed_apart(folder: &File) -> io::Result<Dir> {
    Ok(retry_on_intr(|| Dir::read_from(folder))?)
}

/// The time of the last change, by the file system's clock.
fn modified(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let whole = match stat.st_mtime < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        false => SystemTime::UNIX_EPOCH.checked_add(seconds),
    };
    let nanos = Duration::from_nanos(u64::from(u32::try_from(stat.st_mtime_nsec).unwrap_or(0)));
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn names(mut folder: Dir, limit: usize) -> io::Result<(Vec<CString>, Dir)> {
    let mut names = Vec::new();
    while let Some(item) = folder.read() {
        let name = item?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        if names.len() == limit {
            return Err(too_many(limit));
        }
        names.push(name);
    }
    Ok((names, folder))
}

/// Unlinks the unfinished objects in `folder` whose owners are dead; returns how many.
pub(super) fn sweep(folder: &File) -> io::Result<u64> {
    let (mut leftovers, _) = names(listed_apart(folder)?, MAX_NAMES)?;
    leftovers.retain(|name| temporary::is_of_lock_holder(&name.to_string_lossy()));
    if leftovers.is_empty() {
        return Ok(0);
    }
    let now = file_system_time(folder)?;
    let mut swept = 0;
    for name in leftovers {
        // O_WRONLY: network file systems turn an exclusive flock into a write lock, which needs it.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(folder, &name, flags, Mode::empty()) else {
            continue; // Published or dropped meanwhile, or not ours to touch.
        };
        let file = File::from(file);
        let facts = file.metadata()?;
        // A time in the future gives no age, hence counts as young.
        let age = now.duration_since(facts.modified()?).unwrap_or_default();
        if !facts.is_file() || age < ABANDONED_AFTER {
            continue;
        }
        // The kernel drops a lock with its owner's last handle, however the owner died. A lock
        // that cannot be had, for whatever reason, means that the owner may live.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
            Ok(()) => swept += 1,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(swept)
}

/// What the file system that holds `folder` takes for the time: that of a file made just now. The
/// clock of this machine may differ from that of the machine that serves the files.
fn file_system_time(folder: &File) -> io::Result<SystemTime> {
    let name = temporary::new_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let probe = retry_on_intr(|| rustix::fs::openat(folder, name.as_str(), flags, FILE_MODE))?;
    let probe = File::from(probe);
    let time = probe.metadata().and_then(|facts| facts.modified());
    rustix::fs::unlinkat(folder, name.as_str(), AtFlags::empty())?;
    time
}
