//! Bringing a stream back: its bytes go into a command, which must read all of them and succeed.

use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::cat::cat;
use super::program::{describe, end_group};
use super::{OpError, StreamFailure};
use crate::format::path::printable;
use crate::format::snapshot::Snapshot;
use crate::repo::Repository;
use crate::threads::caught;

/// How long the command may not read before it is looked whether the caller wishes to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What a command reads of a content. A command that is to do all or nothing is told to do it by
/// what comes last: when this program is killed, too, its input ends without that.
pub trait Feed {
    /// Gives the command what comes before the content.
    ///
    /// # Errors
    /// When `out` fails.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Gives the command what it is to read of these bytes.
    ///
    /// # Errors
    /// When `out` fails, or the content must not be read by the command.
    fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()>;

    /// Gives the command what comes last, when every byte of the content was verified and passed.
    ///
    /// # Errors
    /// As [`Self::pass`].
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Why the content must not be read by the command, if that is why there was an error.
    fn refusal(&self) -> Option<&str>;
}

/// The content as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unchanged;

impl Feed for Unchanged {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(bytes)
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn refusal(&self) -> Option<&str> {
        None
    }
}

/// Writes what a feed makes of the bytes.
struct Fed<'a> {
    feed: &'a mut dyn Feed,
    out: &'a mut dyn Write,
}

impl Write for Fed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed.pass(bytes, self.out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the content of the file or stream at `path`, as `feed` makes it, to the standard input of
/// `command` and returns its length in bytes. If not every byte can be verified and written, the
/// command is ended before it could take the end of its input for the end of the content.
///
/// # Errors
/// As [`cat`]; `Stream` when the command cannot be started, does not read all, or fails, or the
/// feed refuses the content; `Interrupted` when the caller wished to stop.
pub fn cat_into(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    feed: &mut dyn Feed,
    mut command: Command,
    interrupted: &AtomicBool,
) -> Result<u64, OpError> {
    let name = printable(path);
    let failed = |reason: String| {
        OpError::Stream(StreamFailure { name: name.clone(), reason, stderr_tail: Vec::new() })
    };
    let mut child = command
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("cannot start the command: {error}")))?;
    let stdin = child.stdin.take().ok_or_else(|| failed("the command has no input".into()))?;
    let mut pipe = Pipe::new(stdin, interrupted)
        .map_err(|error| failed(format!("the command's input cannot be used: {error}")))?;
    // A panic must not close the command's input either.
    let written = caught(|| {
        feed.begin(&mut pipe).map_err(OpError::Output)?;
        let mut fed = Fed { feed: &mut *feed, out: &mut pipe };
        let len = cat(repository, snapshot, path, &mut fed)?;
        feed.finish(&mut pipe).map_err(OpError::Output)?;
        Ok(len)
    });
    let len = match written {
        Ok(len) => len,
        Err(OpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            drop(pipe);
            let how = child.wait().map_or_else(|error| error.to_string(), describe);
            return Err(failed(format!("the command {how} before it had read everything")));
        }
        Err(error) => {
            // Ended while its input is still open: it must not commit the beginning.
            end_group(&mut child);
            if interrupted.load(Ordering::Relaxed) {
                return Err(OpError::Interrupted);
            }
            return Err(feed.refusal().map_or(error, |reason| failed(reason.to_owned())));
        }
    };
    drop(pipe);
    wait(&mut child, interrupted, &failed)?;
    Ok(len)
}

fn wait(
    child: &mut Child,
    interrupted: &AtomicBool,
    failed: &dyn Fn(String) -> OpError,
) -> Result<(), OpError> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("the command {}", describe(status)))),
            Ok(None) if interrupted.load(Ordering::Relaxed) => {
                end_group(child);
                return Err(OpError::Interrupted);
            }
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(5)),
            Err(error) => return Err(failed(format!("the command was lost: {error}"))),
        }
    }
}

/// The command's input; writing ends when the caller wishes to stop, even while the command does
/// not read.
struct Pipe<'a> {
    stdin: std::process::ChildStdin,
    interrupted: &'a AtomicBool,
}

impl<'a> Pipe<'a> {
    fn new(stdin: std::process::ChildStdin, interrupted: &'a AtomicBool) -> io::Result<Self> {
        // Only this end: the command's own is not changed by it.
        let flags = rustix::fs::fcntl_getfl(&stdin)?;
        rustix::fs::fcntl_setfl(&stdin, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self { stdin, interrupted })
    }

    /// Waits a moment for room in the pipe.
    fn wait(&self) -> io::Result<()> {
        let mut room = [PollFd::new(&self.stdin, PollFlags::OUT)];
        match rustix::event::poll(&mut room, Some(&PATIENCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            match self.stdin.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.flush()
    }
}
