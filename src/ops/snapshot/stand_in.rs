//! Files that are stored as copies of one moment, because they change while they are used and name
//! what lies in files beside them, which only grow.
//!
//! An index that is read before the files that it names may lack what was moved into them
//! meanwhile; one that is read after them may name what was not yet there when they were read. So
//! the copy is made in between: when all that sorts before the folder of those files was read, and
//! before anybody looks into that folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::SystemTime;

use super::pipeline::{Message, Shared};
use super::read::entry;
use super::slabs::{Slabs, send};
use crate::format::entry::Content;
use crate::format::path;
use crate::ops::{OpError, StreamFailure};
use crate::source::metadata::read_metadata;
use crate::source::{SourceError, Stat, is_at_or_below, system_time};
use crate::tree::OldContent;

/// Bytes read at once.
const READ_LEN: usize = 1 << 20;

/// A file that is stored as a copy made at the right moment.
pub struct StandIn {
    /// The file, absolute.
    pub path: PathBuf,
    /// The folder of the files that it names, absolute. They only grow; that one was replaced
    /// while the snapshot was taken is an error.
    pub before: PathBuf,
    /// Which of them, by their names, it may name. Others there, such as locks, come and go.
    pub names: fn(&OsStr) -> bool,
    /// Makes the copy.
    pub make: Box<dyn FnMut() -> io::Result<File> + Send>,
}

impl std::fmt::Debug for StandIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandIn").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The stand-ins of a snapshot, as the feeder comes by them.
#[derive(Debug, Default)]
pub(super) struct StandIns(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    source: StandIn,
    /// In the scan's form.
    path: Box<[u8]>,
    before: Box<[u8]>,
    copy: Option<File>,
    /// The files in that directory when the copy was made, until each came by.
    named: BTreeMap<Vec<u8>, Named>,
}

/// Which file it was that a copy may name.
#[derive(Debug)]
struct Named {
    dev: u64,
    inode: u64,
    /// When it was created, if the file system keeps that: an inode number is given out again.
    born: Option<SystemTime>,
    size: u64,
}

impl Named {
    fn of(metadata: &Metadata) -> Self {
        let (dev, inode, size) = (metadata.dev(), metadata.ino(), metadata.len());
        Self { dev, inode, born: metadata.created().ok(), size }
    }

    /// Whether it is still that file, which may only have become longer.
    fn is_still(&self, stat: &Stat) -> bool {
        let same_birth = self.born.is_none_or(|born| system_time(born) == stat.born);
        self.dev == stat.dev && self.inode == stat.inode && same_birth && stat.size >= self.size
    }
}

fn form(path: &Path) -> Box<[u8]> {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).into()
}

impl StandIns {
    pub(super) fn new(sources: Vec<StandIn>) -> Self {
        let waiting = |source: StandIn| Waiting {
            path: form(&source.path),
            before: form(&source.before),
            source,
            copy: None,
            named: BTreeMap::new(),
        };
        Self(sources.into_iter().map(waiting).collect())
    }

    /// The walk begins anew: copies are made anew, too.
    pub(super) fn start_over(&mut self) {
        for waiting in &mut self.0 {
            waiting.copy = None;
            waiting.named.clear();
        }
    }

    /// Whether a copy must be made before the walk goes on to `path`.
    pub(super) fn due(&self, path: &[u8]) -> bool {
        let passed = |waiting: &Waiting| !path::compare(path, &waiting.before).is_lt();
        self.0.iter().any(|waiting| waiting.copy.is_none() && passed(waiting))
    }

    /// Makes the copies that are due, once all that was sent so far has been read.
    pub(super) fn make(&mut self, out: &SyncSender<Message>, next: &[u8]) -> Result<(), OpError> {
        let (reached, told) = sync_channel(1);
        send(out, Message::Reached(reached)).map_err(|_| OpError::Interrupted)?;
        told.recv().map_err(|_| OpError::Interrupted)?;
        for waiting in &mut self.0 {
            if waiting.copy.is_none() && !path::compare(next, &waiting.before).is_lt() {
                waiting.named = waiting.look().map_err(|error| waiting.failure(&error))?;
                let made = (waiting.source.make)().map_err(|error| waiting.failure(&error))?;
                waiting.copy = Some(made);
            }
        }
        Ok(())
    }

    /// Whether `path` lies among files that only grow, and is still the file that it was when the
    /// copy was made.
    pub(super) fn may_grow(&mut self, path: &[u8], stat: &Stat) -> Result<bool, OpError> {
        let of = |waiting: &&mut Waiting| is_at_or_below(path, &waiting.before);
        let Some(waiting) = self.0.iter_mut().find(of) else { return Ok(false) };
        match waiting.named.remove(path) {
            Some(named) if !named.is_still(stat) => Err(waiting.replaced(path)),
            _ => Ok(true),
        }
    }

    /// At the end of the walk: all that the copies name must have come by.
    pub(super) fn finish(&self) -> Result<(), OpError> {
        for waiting in &self.0 {
            if let Some(gone) = waiting.named.keys().next() {
                return Err(waiting.replaced(gone));
            }
        }
        Ok(())
    }

    /// Whether a copy is stored in the place of the file `path`.
    pub(super) fn replaces(&self, path: &[u8]) -> bool {
        self.0.iter().any(|waiting| *waiting.path == *path)
    }

    /// Stores the copy in the place of the file `path`, whose content was `basis` before.
    pub(super) fn put(
        &mut self,
        shared: &Arc<Shared>,
        out: &SyncSender<Message>,
        path: &[u8],
        stat: &Stat,
        basis: Option<Arc<OldContent>>,
    ) -> Result<(), OpError> {
        let gone = |_| OpError::Interrupted;
        let Some(waiting) = self.0.iter_mut().find(|waiting| *waiting.path == *path) else {
            return Ok(());
        };
        let Some(mut copy) = waiting.copy.take() else { return Ok(()) };
        let failed = |error: &io::Error| waiting.failure(error);
        let unread = |error: SourceError| waiting.failure(&error.source);
        let (mut meta, problems) =
            read_metadata(shared.roots(), path, stat, &shared.owners).map_err(unread)?;
        problems.iter().for_each(|problem| shared.source_problem(path, problem));
        send(out, Message::Begin(basis.clone())).map_err(gone)?;
        let mut slabs = Slabs::new(shared, out, shared.streams.clone(), basis);
        let (mut buffer, mut len) = (vec![0; READ_LEN], 0);
        loop {
            if shared.is_interrupted() {
                return Err(OpError::Interrupted);
            }
            match copy.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => {
                    slabs.push(&buffer[..got]).map_err(gone)?;
                    len += got as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        slabs.finish().map_err(gone)?;
        shared.read_bytes.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
        (meta.size, meta.links) = (len, 1);
        waiting.copy = Some(copy);
        let entry = entry(shared, path.into(), meta, Content::Empty);
        send(out, Message::EndAlone(Box::new(entry))).map_err(gone)
    }
}

impl Waiting {
    fn look(&self) -> io::Result<BTreeMap<Vec<u8>, Named>> {
        let mut found = BTreeMap::new();
        for item in std::fs::read_dir(&self.source.before)? {
            let item = item?;
            if !(self.source.names)(&item.file_name()) {
                continue;
            }
            let name = [&self.before, &b"/"[..], item.file_name().as_bytes()].concat();
            found.insert(name, Named::of(&item.metadata()?));
        }
        Ok(found)
    }

    fn failure(&self, error: &io::Error) -> OpError {
        let (name, reason) = (path::display(&self.path), format!("cannot copy it: {error}"));
        StreamFailure { name, reason, stderr_tail: Vec::new() }.into()
    }

    fn replaced(&self, path: &[u8]) -> OpError {
        let place = path::display(path);
        let reason = format!("{place} was replaced while the snapshot was taken: run it again");
        StreamFailure { name: path::display(&self.path), reason, stderr_tail: Vec::new() }.into()
    }
}
