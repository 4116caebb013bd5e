//! Streams: the output of commands that gabion starts itself, and standard input.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dump_format::{DumpFormat, Ends, HEAD_LEN, compressed_hint};
use super::pipeline::{Message, Shared};
use super::rows::{RowCounter, Rows};
use super::slabs::{Slabs, send};
use super::{SnapshotOptions, StreamInput, StreamSource};
use crate::event::Event;
use crate::format::entry::{Content, Entry, EntryKind, Metadata, Owner, Timestamp};
use crate::format::path;
use crate::format::snapshot::StreamRecord;
use crate::ops::program::{STDERR_LINES, describe, end_group, for_each_line, shell};
use crate::ops::restrict_key::KeySwap;
use crate::ops::{OpError, StreamFailure};
use crate::repo::RepositoryError;
use crate::threads::{Panicked, caught, start};
use crate::tree::OldContent;

/// Bytes read from a stream at once, and how many such pieces may wait.
const PIECE_LEN: usize = 1 << 20;
const PIECES: usize = 4;
/// How long nothing may come before it is looked whether the user wants to stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long to wait for the rest of standard error once the command itself has ended.
const STDERR_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a stream, whose content was `basis` before, to its end and sends its content and entry. Its success is part of what is sent:
/// nothing follows a failure.
pub(super) fn run_stream(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    options: &SnapshotOptions,
    source: StreamSource,
    basis: Option<Arc<OldContent>>,
) -> Result<StreamRecord, OpError> {
    let gone = |_| OpError::Interrupted;
    let (name, mut origin, census) = (source.name, source.origin, source.census);
    let allow_empty = options.allow_empty || source.allow_empty;
    shared.observer.event(Event::Working((&name).into()));
    let started = (options.clock)();
    let before = census.as_ref().map(|census| census.0());
    let mut running = Running::start(shared, &name, source.input)?;
    send(out, Message::Begin(basis.clone())).map_err(gone)?;
    if origin.as_ref().is_some_and(|origin| origin.kind == "postgresql") {
        running.swap = Some(KeySwap::into_repository(shared.repository.keys()));
    }
    let (ends, rows) = pump(shared, out, &mut running, &name, basis)?;
    running.succeed(shared, &name)?;
    if !running.key_is_closed {
        let reason = "it is not complete: it begins with \\restrict and does not end with \
                      \\unrestrict and the same key";
        return Err(failure(&name, reason).into());
    }
    if let (Some(origin), Some(census), Some(mut before)) = (&mut origin, &census, before) {
        // What changed meanwhile need not be in the dump.
        let after = census.0();
        before.retain(|what, count| after.get(what) == Some(count));
        origin.counted = before;
    }
    let format = judge(shared, &name, &ends, allow_empty)?;
    let ended = (options.clock)();
    let entry = stream_entry(shared, &name, ends.len, ended);
    send(out, Message::EndAlone(Box::new(entry))).map_err(gone)?;
    Ok(StreamRecord {
        name,
        started: started.into(),
        ended: ended.into(),
        bytes: ends.len,
        format: format.map(str::to_owned),
        origin,
        rows,
    })
}

fn failure(name: &str, reason: impl Into<String>) -> StreamFailure {
    StreamFailure { name: name.to_owned(), reason: reason.into(), stderr_tail: Vec::new() }
}

/// Chunks what comes until its end.
fn pump(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    running: &mut Running,
    name: &str,
    basis: Option<Arc<OldContent>>,
) -> Result<(Ends, Option<Rows>), OpError> {
    let gone = |_| OpError::Interrupted;
    let mut ends = Ends::default();
    let (mut slabs, mut rows) = (None, None);
    loop {
        let piece = match running.next(shared, name)? {
            Some(piece) if piece.is_empty() => continue,
            Some(piece) => piece,
            None => break,
        };
        if shared.is_interrupted() {
            return Err(OpError::Interrupted);
        }
        ends.push(&piece);
        let slabs = slabs.get_or_insert_with(|| {
            // Small chunks find what did not change in a dump; compressed bytes never repeat.
            let compressed = compressed_hint(&piece).is_some();
            let chunker = if compressed { &shared.files } else { &shared.streams };
            let format = DumpFormat::of(&piece[..piece.len().min(HEAD_LEN)]);
            rows = format.and_then(|format| RowCounter::for_format(format.name));
            Slabs::new(shared, out, chunker.clone(), basis.clone())
        });
        slabs.push(&piece).map_err(gone)?;
        if let Some(rows) = &mut rows {
            rows.push(&piece);
        }
        shared.count_read(piece.len() as u64);
    }
    if let Some(mut slabs) = slabs {
        slabs.finish().map_err(gone)?;
    }
    Ok((ends, rows.map(RowCounter::finish)))
}

/// Looks at the ends of a stream whose command said that it succeeded.
fn judge(
    shared: &Shared,
    name: &str,
    ends: &Ends,
    allow_empty: bool,
) -> Result<Option<&'static str>, StreamFailure> {
    if ends.len == 0 && !allow_empty {
        return Err(failure(name, "it is empty (say --allow-empty if that is right)"));
    }
    if let Some(hint) = compressed_hint(&ends.head) {
        shared.note(format!("stream {name}: {hint}"));
    }
    let Some(format) = DumpFormat::of(&ends.head[..ends.head.len().min(HEAD_LEN)]) else {
        return Ok(None);
    };
    if format.is_complete(&ends.tail) {
        return Ok(Some(format.name));
    }
    let reason = format!(
        "it is not complete: it begins like the output of {} but does not end with {:?}",
        format.name,
        format.mark()
    );
    Err(failure(name, reason))
}

fn stream_entry(shared: &Shared, name: &str, size: u64, time: Timestamp) -> Entry {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let owner: Arc<Owner> = shared.owners.owner(uid, gid);
    let meta = Metadata { owner, size, ..Metadata::bare(EntryKind::Stream, 0o600, time) };
    Entry { path: name.as_bytes().into(), meta, content: Content::Empty }
}

/// Whether `name` can be a stream's: one component of a path, of printable text.
pub(super) fn check_name(name: &str) -> Result<(), OpError> {
    let bad = |why: &str| OpError::Refused(format!("{name:?} cannot name a stream: {why}"));
    if name.contains('/') {
        return Err(bad("it holds a slash"));
    }
    if name.chars().any(char::is_control) {
        return Err(bad("it holds a control character"));
    }
    path::problem(name.as_bytes()).map_or(Ok(()), |problem| Err(bad(problem)))
}

/// A stream under way. Its command and everything that the command started is ended when this is
/// dropped before the command ended by itself.
struct Running {
    /// Ends with an empty piece or an error.
    pieces: Receiver<io::Result<Vec<u8>>>,
    command: Option<Started>,
    /// Replaces the key of a dump.
    swap: Option<KeySwap>,
    /// Whether the key at the end was the one at the beginning.
    key_is_closed: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(started) = &mut self.command
            && !started.has_ended
        {
            end_group(&mut started.child);
        }
    }
}

struct Started {
    child: Child,
    /// It was waited for: its process id may be that of another process.
    has_ended: bool,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_ended: Option<Receiver<Result<(), Panicked>>>,
}

impl Running {
    fn of(pieces: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { pieces, command: None, swap: None, key_is_closed: true }
    }

    /// The next bytes, which may be none yet, or nothing at the end.
    fn next(&mut self, shared: &Shared, name: &str) -> Result<Option<Vec<u8>>, OpError> {
        match self.pieces.recv_timeout(PATIENCE) {
            Ok(Ok(piece)) if piece.is_empty() => {
                let Some(swap) = self.swap.take() else { return Ok(None) };
                let (rest, closed) = swap.finish();
                self.key_is_closed = closed;
                if rest.is_empty() {
                    return Ok(None);
                }
                // These bytes come first, and the end after them.
                let (sender, pieces) = sync_channel(1);
                let _ = sender.send(Ok(Vec::new()));
                self.pieces = pieces;
                Ok(Some(rest))
            }
            Ok(Ok(piece)) => Ok(Some(match &mut self.swap {
                Some(swap) => swap.push(&piece),
                None => piece,
            })),
            Ok(Err(error)) => Err(failure(name, format!("cannot read: {error}")).into()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(failure(name, "cannot read: the reading thread ended early").into())
            }
            Err(RecvTimeoutError::Timeout) if shared.is_interrupted() => Err(OpError::Interrupted),
            Err(RecvTimeoutError::Timeout) => {
                self.messages_go_on()?;
                Ok(Some(Vec::new()))
            }
        }
    }

    fn start(shared: &Arc<Shared>, name: &str, input: StreamInput) -> Result<Self, OpError> {
        match input {
            StreamInput::Reader(reader) => {
                let (sender, pieces) = sync_channel(PIECES);
                read_in_background(reader, sender)?;
                Ok(Self::of(pieces))
            }
            StreamInput::Command(line) => Self::start_command(shared, name, shell(&line)),
            StreamInput::Program(program) => Self::start_command(shared, name, program.command()),
        }
    }

    fn start_command(
        shared: &Arc<Shared>,
        name: &str,
        mut command: Command,
    ) -> Result<Self, OpError> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that all it started can be ended with it.
            .process_group(0)
            .spawn()
            .map_err(|error| failure(name, format!("cannot start it: {error}")))?;
        let tail = Arc::default();
        let mut started =
            Started { child, has_ended: false, stderr: Arc::clone(&tail), stderr_ended: None };
        let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
        // From here on whatever fails ends the command.
        let (sender, pieces) = sync_channel(PIECES);
        let mut running = Self::of(pieces);
        let command = running.command.insert(started);
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(failure(name, "cannot start it: no pipes").into());
        };
        // A large pipe saves waking up; a small one is no error.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIECE_LEN);
        command.stderr_ended = Some(pass_on_stderr(shared, name, stderr, &tail)?);
        read_in_background(Box::new(stdout), sender)?;
        Ok(running)
    }

    /// Fails when nobody passes on any more what the command says.
    fn messages_go_on(&mut self) -> Result<(), Panicked> {
        let Some(started) = &mut self.command else { return Ok(()) };
        match started.stderr_ended.as_ref().map(Receiver::try_recv) {
            Some(Ok(passed_on)) => {
                started.stderr_ended = None;
                passed_on
            }
            _ => Ok(()),
        }
    }

    /// Waits for the command and makes sure that it succeeded.
    fn succeed(&mut self, shared: &Shared, name: &str) -> Result<(), OpError> {
        let status = loop {
            let Some(started) = &mut self.command else { return Ok(()) };
            match started.child.try_wait() {
                Ok(Some(status)) => {
                    started.has_ended = true;
                    break status;
                }
                Ok(None) if shared.is_interrupted() => return Err(OpError::Interrupted),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(failure(name, format!("lost it: {error}")).into()),
            }
        };
        // A command that left something running that holds its standard error is not waited for.
        let stderr_ended = self.command.as_mut().and_then(|started| started.stderr_ended.take());
        let patience = if status.success() { Duration::ZERO } else { STDERR_PATIENCE };
        if let Some(Ok(passed_on)) = stderr_ended.map(|ended| ended.recv_timeout(patience)) {
            passed_on?;
        }
        if status.success() {
            return Ok(());
        }
        let mut failure = failure(name, format!("its command {}", describe(status)));
        if let Some(started) = &self.command {
            let tail = started.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            failure.stderr_tail = tail.iter().cloned().collect();
        }
        Err(failure.into())
    }
}

/// Sends what `reader` gives, and at its end an empty piece or an error: a thread that ends
/// otherwise must not look like the end of the stream.
fn read_in_background(
    mut reader: Box<dyn Read + Send>,
    pieces: SyncSender<io::Result<Vec<u8>>>,
) -> Result<(), RepositoryError> {
    let read = move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE_LEN);
            let read = (&mut reader).take(PIECE_LEN as u64).read_to_end(&mut piece);
            let is_last = !matches!(read, Ok(1..));
            if pieces.send(read.map(|_| piece)).is_err() || is_last {
                break;
            }
        }
    };
    start("stream", read).map(drop).map_err(RepositoryError::Thread)
}

/// Passes standard error on line by line and keeps the last lines.
fn pass_on_stderr(
    shared: &Arc<Shared>,
    name: &str,
    stderr: impl Read + Send + 'static,
    tail: &Arc<Mutex<VecDeque<String>>>,
) -> Result<Receiver<Result<(), Panicked>>, RepositoryError> {
    let (done, ended) = sync_channel(1);
    let (shared, name, tail) = (Arc::clone(shared), name.to_owned(), Arc::clone(tail));
    let pass_on = move || {
        for_each_line(stderr, |line| {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.push_back(line.clone());
            if tail.len() > STDERR_LINES {
                tail.pop_front();
            }
            drop(tail);
            shared.observer.event(Event::CommandOutput { stream: name.clone(), line });
        });
        Ok(())
    };
    let thread = start("messages", move || {
        // Nobody may be waiting any more.
        let _ = done.send(caught(pass_on));
    });
    thread.map_err(RepositoryError::Thread)?;
    Ok(ended)
}
