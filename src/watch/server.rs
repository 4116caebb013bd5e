//! The process that watches.

use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::event::Change;
use super::group::Group;
use super::ledger::Ledger;
use super::wire::{
    Answer, FolderLine, PATIENCE, Request, Status, Watched, is_trusted, read_line, write_line,
};
use super::{WatchError, mounts};
use crate::format::snapshot::RawBytes;
use crate::id::SessionId;

/// How often it is looked whether to stop, at least.
const HEARTBEAT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// The rights of the socket and its lock.
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);
/// Connections that may wait to be answered.
const QUEUE: i32 = 128;

/// What is watched, and where it is told.
#[derive(Debug)]
pub struct ServeOptions {
    /// Anything on the file systems to watch; those that are mounted below belong to it.
    pub paths: Vec<PathBuf>,
    /// Where snapshots ask; its folder is made if it is missing.
    pub socket: PathBuf,
    /// Set by the caller to end it.
    pub interrupted: Arc<AtomicBool>,
}

/// Watches until it is interrupted. `ready` is called once, as soon as it can be asked, with all
/// paths whose file systems are watched.
///
/// # Errors
/// When watching is not possible or comes to an end.
pub fn serve(options: &ServeOptions, ready: impl FnOnce(&[PathBuf])) -> Result<(), WatchError> {
    let group = Group::new(&with_mounts_below(&options.paths)?)?;
    let (listener, _socket) = listen(&options.socket)?;
    ready(&group.paths().map(Path::to_owned).collect::<Vec<_>>());
    let mut server = Server { group, ledger: Ledger::new(), instance: SessionId::random() };
    let io = |error: std::io::Error| WatchError::io("listen at", &options.socket, error);
    while !options.interrupted.load(Ordering::Relaxed) {
        let mut waited_for = [
            PollFd::from_borrowed_fd(server.group.as_fd(), PollFlags::IN),
            PollFd::new(&listener, PollFlags::IN),
        ];
        match poll(&mut waited_for, Some(&HEARTBEAT)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io(error.into())),
        }
        server.catch_up()?;
        match listener.accept() {
            Ok((stream, _)) => server.answer(&stream)?,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(io(error)),
        }
    }
    Ok(())
}

/// The paths, and where something local is mounted below them.
fn with_mounts_below(paths: &[PathBuf]) -> Result<Vec<PathBuf>, WatchError> {
    let table = mounts::all()?;
    let mut all = Vec::new();
    for path in paths {
        let path =
            std::fs::canonicalize(path).map_err(|error| WatchError::io("find", path, error))?;
        let below = mounts::of(&table, &path).into_iter().skip(1);
        let is_local = |at: &PathBuf| {
            let opened = std::fs::File::open(at).ok();
            opened.and_then(|file| mounts::file_system(&file).ok()).is_some_and(|f| f.kind.is_ok())
        };
        let below: Vec<PathBuf> = below.map(|mount| mount.at.clone()).filter(is_local).collect();
        all.push(path);
        all.extend(below);
    }
    Ok(all)
}

/// A socket's name, which goes with it, and the lock that keeps others from it.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// Listens at `socket`, which from its first moment has no rights for other users.
fn listen(socket: &Path) -> Result<(UnixListener, Socket), WatchError> {
    let io = |error: Errno| WatchError::io("listen at", socket, error.into());
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| WatchError::io("make the folder", folder, error))?;
    }
    let lock = lock(socket)?;
    if UnixStream::connect(socket).is_ok() {
        return Err(WatchError::Taken(socket.to_owned()));
    }
    // What nobody listens at was left behind by a process that was killed.
    let is_socket = rustix::fs::lstat(socket)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_socket());
    if is_socket {
        rustix::fs::unlink(socket).map_err(io)?;
    }
    let listener = bind(socket).map_err(io)?;
    Ok((listener, Socket { path: socket.to_owned(), _lock: lock }))
}

/// Keeps other processes from listening at `socket`, up to the end of this one: looking whether one
/// listens and taking its place are not one step.
fn lock(socket: &Path) -> Result<OwnedFd, WatchError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let io = |error: Errno| WatchError::io("lock", &path, error.into());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, OWNER_ONLY).map_err(io)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(WatchError::Taken(socket.to_owned())),
        Err(error) => Err(io(error)),
    }
}

/// Linux gives the name the rights that the socket has before; and nobody can connect before
/// `listen`.
fn bind(path: &Path) -> Result<UnixListener, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, OWNER_ONLY)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let rights = Mode::from_raw_mode(rustix::fs::lstat(path)?.st_mode);
    if !OWNER_ONLY.contains(rights & (Mode::RWXU | Mode::RWXG | Mode::RWXO)) {
        rustix::fs::unlink(path)?;
        return Err(Errno::PERM);
    }
    rustix::net::listen(&socket, QUEUE)?;
    Ok(socket.into())
}

struct Server {
    group: Group,
    ledger: Ledger,
    instance: SessionId,
}

impl Server {
    /// Learns of everything that happened before this call.
    fn catch_up(&mut self) -> Result<(), WatchError> {
        let ledger = &mut self.ledger;
        self.group.drain(|change| match change {
            Change::Of(item) => ledger.note(&item),
            Change::Lost(why) => ledger.forget(why),
        })
    }

    /// Answers one request. Whoever asks and does not listen is left alone.
    fn answer(&mut self, stream: &UnixStream) -> Result<(), WatchError> {
        if !is_trusted(stream) {
            return Ok(());
        }
        let patient = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        let request = patient.and_then(|()| read_line(&mut BufReader::new(stream)));
        let Ok(Some(request)) = request else { return Ok(()) };
        // What was done before the request was made is in the queue by now.
        self.catch_up()?;
        let mut to = BufWriter::new(stream);
        let answered = match request {
            Request::Begin => {
                let watched = self.group.watched()?;
                let watched =
                    watched.into_iter().map(|(id, device)| Watched { id, device }).collect();
                let (instance, epoch) = (self.instance, self.ledger.begin());
                write_line(&mut to, &Answer::Begun { instance, epoch, watched })
            }
            Request::Since { series, snapshot } => match self.ledger.since(&series, snapshot) {
                Err(why) => write_line(&mut to, &Answer::Unknown { why }),
                Ok((mut folders, mounts)) => {
                    let lines = folders.clone().map(|(_, names)| FolderLine::count(names.len()));
                    let answer = Answer::Changes { mounts: mounts.to_owned(), lines: lines.sum() };
                    write_line(&mut to, &answer).and_then(|()| {
                        folders.try_for_each(|(folder, names)| {
                            FolderLine::write_all(&mut to, folder, names)
                        })
                    })
                }
            },
            Request::Confirm { instance, epoch, series, snapshot, mounts } => {
                let known = instance == self.instance
                    && self.ledger.confirm(&series, snapshot, epoch, mounts);
                let why = "it was started, or lost changes, since the snapshot began".to_owned();
                write_line(
                    &mut to,
                    &if known { Answer::Confirmed } else { Answer::Unknown { why } },
                )
            }
            Request::Status => {
                let paths = self.group.paths();
                let paths = paths.map(|path| RawBytes(path.as_os_str().as_bytes().to_vec()));
                let (changes, series) = self.ledger.sizes();
                let status = Status { paths: paths.collect(), changes, series };
                write_line(&mut to, &Answer::Status(status))
            }
        };
        let _ = answered.and_then(|()| to.flush());
        Ok(())
    }
}
