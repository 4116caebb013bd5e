//! Asking, from a snapshot.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::sources::{Changes, Sources};
use super::wire::{Answer, FolderLine, Request, Status, Watched, connect, read_line, write_line};
use super::{WatchError, words};
use crate::id::{RepositoryId, SessionId, SnapshotId};

/// The part of a snapshot in which changes are told, from before its walk until it is confirmed.
#[derive(Debug)]
pub struct Begun {
    socket: PathBuf,
    instance: SessionId,
    epoch: u64,
    watched: Vec<Watched>,
    series: String,
    sources: Sources,
    /// What was mounted when it began, or why that cannot be used.
    mounts: Result<String, String>,
}

/// Begins, before a walk of `sources` (absolute and lexically clean) for a snapshot into a
/// repository: what changes from now on is told to the next one.
///
/// # Errors
/// When nothing listens at `socket`, or something else does.
pub fn begin(
    socket: &Path,
    repository: RepositoryId,
    sources: &[PathBuf],
    one_file_system: bool,
) -> Result<Begun, WatchError> {
    let (answer, _) = ask(socket, &Request::Begin)?;
    let Answer::Begun { instance, epoch, watched } = answer else {
        return Err(WatchError::NotUnderstood(socket.to_owned()));
    };
    let sources = Sources::new(sources, one_file_system)?;
    let mounts = sources.look(&watched).map(|places| places.fingerprint);
    let series = sources.series(repository);
    let socket = socket.to_owned();
    Ok(Begun { socket, instance, epoch, watched, series, sources, mounts })
}

impl Begun {
    /// All paths at or below which something changed since the walk of `parent` began.
    ///
    /// # Errors
    /// In words, when that is not known.
    pub fn changes(&self, parent: SnapshotId) -> Result<Vec<PathBuf>, String> {
        let before = self.mounts.clone()?;
        let mut changes = Changes::default();
        let places = self.sources.look(&self.watched)?;
        // Before the kernel's queue is looked at: it has what ceases to be mapped meanwhile.
        self.sources.add_unseen(&places, &mut changes)?;
        let request = Request::Since { series: self.series.clone(), snapshot: parent };
        let (answer, mut rest) = ask(&self.socket, &request).map_err(words)?;
        let (mounts, lines) = match answer {
            Answer::Changes { mounts, lines } => (mounts, lines),
            Answer::Unknown { why } => return Err(why),
            _ => return Err(words(WatchError::NotUnderstood(self.socket.clone()))),
        };
        if mounts != places.fingerprint || mounts != before {
            return Err("other file systems are mounted than at the parent's time".to_owned());
        }
        for _ in 0..lines {
            let line: Option<FolderLine> =
                read_line(&mut rest).map_err(|error| error.to_string())?;
            let line = line.ok_or("the answer of `gabion watch` is cut")?;
            self.sources.resolve(line, &places, &mut changes)?;
        }
        changes.into_paths()
    }

    /// Says that the snapshot is confirmed: the next one may ask for the changes since then.
    ///
    /// # Errors
    /// In words, why the next one will look at everything.
    pub fn confirm(&self, snapshot: SnapshotId) -> Result<(), String> {
        let mounts = self.mounts.clone()?;
        if self.sources.look(&self.watched)?.fingerprint != mounts {
            return Err("something was mounted or unmounted meanwhile".to_owned());
        }
        let (instance, epoch, series) = (self.instance, self.epoch, self.series.clone());
        let request = Request::Confirm { instance, epoch, series, snapshot, mounts };
        match ask(&self.socket, &request).map_err(words)?.0 {
            Answer::Confirmed => Ok(()),
            Answer::Unknown { why } => Err(why),
            _ => Err(words(WatchError::NotUnderstood(self.socket.clone()))),
        }
    }
}

/// How what listens at `socket` is.
///
/// # Errors
/// When nothing listens there, or something else does.
pub fn status(socket: &Path) -> Result<Status, WatchError> {
    match ask(socket, &Request::Status)?.0 {
        Answer::Status(status) => Ok(status),
        _ => Err(WatchError::NotUnderstood(socket.to_owned())),
    }
}

fn ask(socket: &Path, request: &Request) -> Result<(Answer, BufReader<UnixStream>), WatchError> {
    let io = |error| WatchError::io("talk to `gabion watch` at", socket, error);
    let mut stream = connect(socket)?;
    write_line(&mut stream, request).map_err(io)?;
    let mut from = BufReader::new(stream);
    let answer = read_line(&mut from).map_err(io)?;
    answer.map(|answer| (answer, from)).ok_or_else(|| WatchError::NotUnderstood(socket.to_owned()))
}
