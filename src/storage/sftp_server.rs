//! What is asked of a server over SFTP, and how its answers are understood. Requests are sent by
//! one call and waited for by another, so that many can be under way.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use openssh_sftp_client_lowlevel as protocol;
use protocol::{
    AwaitableAttrsFuture, AwaitableDataFuture, AwaitableHandleFuture, AwaitableNameEntriesFuture,
    AwaitableStatusFuture, CreateFlags, Data, FileAttrs, HandleOwned, OpenOptions, Permissions,
};
use rustix::fs::FileType;

use super::StorageErrorKind;
use super::name::Folder;
use super::sftp_connection::Connection;
use super::sftp_fault::Fault;

type Buffer = Vec<u8>;
/// An answer that says whether something was done.
pub(super) type Done = AwaitableStatusFuture<Buffer>;
/// An answer with the handle of an open file or folder.
pub(super) type Opening = AwaitableHandleFuture<Buffer>;
/// An answer with facts about a file or folder.
pub(super) type Asking = AwaitableAttrsFuture<Buffer>;
/// An answer with bytes of a file.
pub(super) type Reading = AwaitableDataFuture<Buffer>;
/// An answer with names in a folder.
pub(super) type Naming = AwaitableNameEntriesFuture<Buffer>;

/// Bytes that are read or written by one request: what every server takes.
pub(super) const PIECE: usize = 32 << 10;

/// With less space than this, in bytes, a refused write is put down to lack of space.
const LITTLE_SPACE: u64 = 1 << 20;

/// What is known about a file or folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) file_type: FileType,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

impl Facts {
    /// What `attrs` says; none when the server leaves out what is needed.
    pub(super) fn of(attrs: &FileAttrs) -> Option<Self> {
        let file_type = match attrs.get_filetype()? {
            protocol::FileType::RegularFile => FileType::RegularFile,
            protocol::FileType::Directory => FileType::Directory,
            protocol::FileType::Symlink => FileType::Symlink,
            protocol::FileType::FIFO => FileType::Fifo,
            protocol::FileType::Socket => FileType::Socket,
            protocol::FileType::BlockDevice => FileType::BlockDevice,
            protocol::FileType::CharacterDevice => FileType::CharacterDevice,
        };
        let (_, modified) = attrs.get_time()?;
        Some(Self { file_type, len: attrs.get_size()?, modified: modified.as_system_time() })
    }
}

/// A folder of a server, and the connection that leads to it.
#[derive(Debug)]
pub(super) struct Server {
    connection: Connection,
    /// The repository's folder.
    top: String,
}

/// A file or folder that is open on the server; closed when it is dropped.
pub(super) struct Held {
    server: Arc<Server>,
    handle: HandleOwned,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody waits for the answer: nothing that was not synced before depends on it.
        let handle = Cow::Borrowed(&*self.handle);
        let _ = self.server.connection.send(|to, number| to.send_close_request(number, handle));
    }
}

/// The permissions with these bits.
fn only_owner(mode: u32) -> FileAttrs {
    let mut attrs = FileAttrs::new();
    attrs.set_permissions(Permissions::from_bits_truncate(mode));
    attrs
}

fn path(text: &str) -> Cow<'_, Path> {
    Cow::Borrowed(Path::new(text))
}

impl Server {
    /// The folder `top` of the server at the other end.
    pub(super) fn new(connection: Connection, top: &str) -> Self {
        Self { connection, top: top.to_owned() }
    }

    /// The connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The path of a folder of the repository.
    pub(super) fn folder(&self, folder: Folder) -> String {
        match folder {
            Folder::Top => self.top.clone(),
            _ => format!("{}/{}", self.top, folder.path()),
        }
    }

    /// The path of what is called `name` in a folder of the repository.
    pub(super) fn path(&self, folder: Folder, name: &str) -> String {
        format!("{}/{}", self.top, folder.path_of(name))
    }

    /// The path of the folder that the repository's folder lies in.
    pub(super) fn above_top(&self) -> &str {
        match self.top.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((above, _)) => above,
            None => ".",
        }
    }

    /// Asks for facts; a link is a link.
    pub(super) fn ask(&self, at: &str) -> Result<Asking, Fault> {
        self.connection.send(|to, number| Ok(to.send_lstat_request(number, path(at))?.wait()))
    }

    /// Asks for facts about what is called so, links followed.
    pub(super) fn ask_behind(&self, at: &str) -> Result<Asking, Fault> {
        self.connection.send(|to, number| Ok(to.send_stat_request(number, path(at))?.wait()))
    }

    /// Asks for facts about a folder of the repository. Links on the way to the repository are the
    /// user's own; in it there must not be any.
    pub(super) fn ask_folder(&self, folder: Folder) -> Result<Asking, Fault> {
        let at = self.folder(folder);
        if folder == Folder::Top { self.ask_behind(&at) } else { self.ask(&at) }
    }

    /// Waits for facts.
    pub(super) fn facts(&self, asking: Asking) -> Result<Facts, Fault> {
        let attrs = self.connection.wait(asking)?;
        Facts::of(&attrs).ok_or(Fault::Strange("the server does not say what this is"))
    }

    /// Opens a file or folder for reading.
    pub(super) fn open(&self, at: &str) -> Result<Opening, Fault> {
        let options = OpenOptions::new().read(true).open(path(at));
        self.connection.send(|to, number| Ok(to.send_open_file_request(number, options)?.wait()))
    }

    /// Makes a file that must not be there yet, for its owner only.
    pub(super) fn make(&self, at: &str) -> Result<Opening, Fault> {
        let options = OpenOptions::new().read(true).write(true);
        let options = options.create(path(at), CreateFlags::Excl, only_owner(0o600));
        self.connection.send(|to, number| Ok(to.send_open_file_request(number, options)?.wait()))
    }

    /// Makes a folder, for its owner only.
    pub(super) fn make_folder(&self, at: &str) -> Result<Done, Fault> {
        self.connection.send(|to, number| {
            Ok(to.send_mkdir_request(number, path(at), only_owner(0o700))?.wait())
        })
    }

    /// Opens a folder for its names.
    pub(super) fn open_names(&self, at: &str) -> Result<Opening, Fault> {
        self.connection.send(|to, number| Ok(to.send_opendir_request(number, path(at))?.wait()))
    }

    /// Gives `old` a second name, which must not be there.
    pub(super) fn link(&self, old: &str, new: &str) -> Result<Done, Fault> {
        self.connection
            .send(|to, number| Ok(to.send_hardlink_request(number, path(old), path(new))?.wait()))
    }

    /// Renames `old`, in place of what is called `new`.
    pub(super) fn replace(&self, old: &str, new: &str) -> Result<Done, Fault> {
        self.connection.send(|to, number| {
            Ok(to.send_posix_rename_request(number, path(old), path(new))?.wait())
        })
    }

    /// Removes a file.
    pub(super) fn remove(&self, at: &str) -> Result<Done, Fault> {
        self.connection.send(|to, number| Ok(to.send_remove_request(number, path(at))?.wait()))
    }

    /// Waits until something is done.
    pub(super) fn done(&self, doing: Done) -> Result<(), Fault> {
        self.connection.wait(doing)
    }

    /// Waits until something is open.
    pub(super) fn held(self: &Arc<Self>, opening: Opening) -> Result<Held, Fault> {
        let handle = self.connection.wait(opening)?;
        Ok(Held { server: Arc::clone(self), handle })
    }

    /// Whether a folder of the repository is one.
    pub(super) fn is_folder(&self, folder: Folder) -> Result<bool, Fault> {
        Ok(self.facts(self.ask_folder(folder)?)?.file_type == FileType::Directory)
    }

    /// Whether the repository's folder lies in a folder.
    pub(super) fn is_folder_above(&self) -> Result<bool, Fault> {
        let facts = self.facts(self.ask_behind(self.above_top())?)?;
        Ok(facts.file_type == FileType::Directory)
    }

    /// A better reason for a vague refusal to write at `at`, if the server's file system has one.
    pub(super) fn explain(&self, fault: Fault, at: &str) -> Fault {
        if !fault.is_vague() || !self.connection.extensions.contains(protocol::Extensions::STATVFS)
        {
            return fault;
        }
        let asked = self
            .connection
            .send(|to, number| Ok(to.send_statvfs_request(number, path(at))?.wait()))
            .and_then(|asking| self.connection.wait(asking));
        let Ok(about) = asked else { return fault };
        if about.flag & 1 != 0 {
            return Fault::Known(StorageErrorKind::ReadOnly);
        }
        let no_names = about.files > 0 && about.favail == 0;
        if no_names || about.bavail.saturating_mul(about.frsize) < LITTLE_SPACE {
            return Fault::Known(StorageErrorKind::NoSpace);
        }
        fault
    }
}

impl Held {
    /// Writes `bytes` from `offset` on; they fit into one request.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<Done, Fault> {
        let handle = Cow::Borrowed(&*self.handle);
        self.server.connection.send(|to, number| {
            let bytes = Cow::Borrowed(bytes);
            Ok(to.send_write_request_buffered(number, handle, offset, bytes)?.wait())
        })
    }

    /// Asks for facts about what is open.
    pub(super) fn ask(&self) -> Result<Asking, Fault> {
        let handle = Cow::Borrowed(&*self.handle);
        let connection = &self.server.connection;
        connection.send(|to, number| Ok(to.send_fstat_request(number, handle)?.wait()))
    }

    /// Makes what is open durable; of a folder, the names in it.
    pub(super) fn sync(&self) -> Result<Done, Fault> {
        let handle = Cow::Borrowed(&*self.handle);
        let connection = &self.server.connection;
        connection.send(|to, number| Ok(to.send_fsync_request(number, handle)?.wait()))
    }

    /// Asks for some more names.
    pub(super) fn names(&self) -> Result<Naming, Fault> {
        let handle = Cow::Borrowed(&*self.handle);
        let connection = &self.server.connection;
        connection.send(|to, number| Ok(to.send_readdir_request(number, handle)?.wait()))
    }

    fn start_reading(&self, offset: u64, len: usize) -> Result<Reading, Fault> {
        let handle = Cow::Borrowed(&*self.handle);
        let len = u32::try_from(len).map_err(|_| Fault::Strange("a piece is too long"))?;
        self.server
            .connection
            .send(|to, number| Ok(to.send_read_request(number, handle, offset, len, None)?.wait()))
    }

    /// Fills `buffer` with the bytes from `offset` on, and says whether there were enough.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Fault> {
        let mut at = offset;
        // So many requests are under way at once, whatever the length.
        for stretch in buffer.chunks_mut(64 * PIECE) {
            let mut under_way = Vec::with_capacity(stretch.len().div_ceil(PIECE));
            for piece in stretch.chunks_mut(PIECE) {
                under_way.push((at, self.start_reading(at, piece.len())?, piece));
                at = after(at, PIECE);
            }
            for (start, reading, piece) in under_way {
                if !self.finish_reading(start, reading, piece)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Waits for one piece. A server may give less than it was asked for.
    fn finish_reading(
        &self,
        start: u64,
        mut reading: Reading,
        piece: &mut [u8],
    ) -> Result<bool, Fault> {
        let mut filled = 0;
        loop {
            let bytes = match self.server.connection.wait(reading)? {
                Data::AllocatedBox(bytes) => bytes,
                Data::Buffer(bytes) => bytes.into_boxed_slice(),
                Data::Eof => return Ok(false),
            };
            let rest = &mut piece[filled..];
            if bytes.is_empty() || bytes.len() > rest.len() {
                return Err(Fault::Strange("the server gives more or less than it was asked for"));
            }
            rest[..bytes.len()].copy_from_slice(&bytes);
            filled += bytes.len();
            if filled == piece.len() {
                return Ok(true);
            }
            reading = self.start_reading(after(start, filled), piece.len() - filled)?;
        }
    }
}

fn after(offset: u64, len: usize) -> u64 {
    offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
}
