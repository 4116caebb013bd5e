//! Programs that gabion starts: database tools, commands of the user's. Each gets a process group
//! of its own, so that all it started can be ended with it, and no standard input that it could
//! wait for.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::format::path::harmless;
use crate::threads::start;

/// Lines of standard error that are kept for a message.
pub(super) const STDERR_LINES: usize = 20;
/// Bytes that are kept of each of these lines.
const MAX_STDERR_LINE: usize = 1000;
/// Longest standard output that [`run_to_end`] takes, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;
/// How often it is looked whether a program has ended.
const TICK: Duration = Duration::from_millis(5);
/// How long to wait for the rest of the output of a program that has ended: something that it left
/// behind may hold the pipe open.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// A program, its arguments and what is added to its environment; started without a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name, looked up in the search path, or its path.
    pub program: OsString,
    /// Its arguments. Every user of the machine can read them.
    pub args: Vec<OsString>,
    /// Variables that are set for it.
    pub env: Vec<(OsString, OsString)>,
}

impl std::fmt::Debug for Program {
    /// Without the variables: they may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entry(&self.program).entries(&self.args).finish()
    }
}

impl Program {
    /// A program without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// The same with another argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The same with more arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same with another variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A shell that runs `line`. Where there is bash, every stage of a pipeline must succeed: the
/// status of `pg_dump | sed` is that of `sed` elsewhere, which hides a failed dump.
pub fn shell(line: &str) -> Command {
    for bash in ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"] {
        if Path::new(bash).exists() {
            let mut command = Command::new(bash);
            command.args(["-o", "pipefail", "-c", line]);
            return command;
        }
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Whether that is all: it was not too much, and nothing that the program left behind can
    /// write more.
    pub stdout_is_whole: bool,
    /// The last lines that it wrote to standard error, printable.
    pub stderr_tail: Vec<String>,
}

/// A program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot start it: {0}")]
    Start(io::Error),
    /// It took too long and was ended.
    #[error("it did not end in time and was ended")]
    TimedOut,
    /// The caller wished to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Runs `command` to its end, which must come within `limit`.
///
/// # Errors
/// When it cannot be started, takes too long, or the caller interrupts. How it ended is for the
/// caller to judge.
pub fn run_to_end(
    mut command: Command,
    limit: Option<Duration>,
    interrupted: &AtomicBool,
) -> Result<Finished, ProgramError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(ProgramError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = in_background(move || stdout.map(all_of).unwrap_or_default());
    let stderr = in_background(move || stderr.map(last_lines).unwrap_or_default());
    let (stdout, stderr) = match (stdout, stderr) {
        (Ok(stdout), Ok(stderr)) => (stdout, stderr),
        (Err(error), _) | (_, Err(error)) => {
            end_group(&mut child);
            return Err(ProgramError::Start(error));
        }
    };
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if interrupted.load(Ordering::Relaxed) => {
                end_group(&mut child);
                return Err(ProgramError::Interrupted);
            }
            Ok(None) if until.is_some_and(|until| Instant::now() >= until) => {
                end_group(&mut child);
                return Err(ProgramError::TimedOut);
            }
            Ok(None) => std::thread::sleep(TICK),
            Err(error) => return Err(ProgramError::Start(error)),
        }
    };
    let stdout = stdout.recv_timeout(OUTPUT_PATIENCE).ok();
    Ok(Finished {
        status,
        stdout_is_whole: stdout.as_ref().is_some_and(|bytes| (bytes.len() as u64) < MAX_OUTPUT),
        stdout: stdout.unwrap_or_default(),
        stderr_tail: stderr.recv_timeout(OUTPUT_PATIENCE).unwrap_or_default(),
    })
}

/// Ends a program and everything that it started.
pub(super) fn end_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

/// How a program ended, after "it" or "its command".
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended with {status}"),
    }
}

fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Receiver<T>> {
    let (sender, receiver) = sync_channel(1);
    start("output", move || {
        // Nobody waits any more: the program was ended.
        let _ = sender.send(work());
    })?;
    Ok(receiver)
}

fn all_of(mut output: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = (&mut output).take(MAX_OUTPUT).read_to_end(&mut bytes);
    // The rest is read and forgotten, so that the program is not stopped by a full pipe.
    let _ = io::copy(&mut output, &mut io::sink());
    bytes
}

/// The last lines of a program's standard error.
pub(crate) fn last_lines(output: impl Read) -> Vec<String> {
    let mut tail = VecDeque::new();
    for_each_line(output, |line| {
        tail.push_back(line);
        if tail.len() > STDERR_LINES {
            tail.pop_front();
        }
    });
    tail.into()
}

/// Calls `act` with each line of `output` that is not empty, printable and cut after
/// [`MAX_STDERR_LINE`] bytes: memory does not grow with what a program writes. A carriage return
/// ends a line too, as programs that show progress use it.
pub(super) fn for_each_line(mut output: impl Read, mut act: impl FnMut(String)) {
    let mut piece = vec![0; 16 << 10];
    let mut line = Vec::with_capacity(MAX_STDERR_LINE);
    let mut is_cut = false;
    let mut end = |line: &mut Vec<u8>, is_cut: &mut bool| {
        if !line.is_empty() {
            let mark = if *is_cut { " [cut]" } else { "" };
            act(harmless(line) + mark);
        }
        line.clear();
        *is_cut = false;
    };
    loop {
        let len = match output.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut parts = piece[..len].split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
        while let Some(part) = parts.next() {
            let room = MAX_STDERR_LINE - line.len();
            is_cut |= part.len() > room;
            let kept = part.iter().take(room);
            // A tab would be shown as an escape.
            line.extend(kept.map(|&byte| if byte == b'\t' { b' ' } else { byte }));
            if parts.peek().is_some() {
                end(&mut line, &mut is_cut);
            }
        }
    }
    end(&mut line, &mut is_cut);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, limit: Option<Duration>, stop: bool) -> Result<Finished, ProgramError> {
        run_to_end(shell(line), limit, &AtomicBool::new(stop))
    }

    #[test]
    fn output_and_status_come_back() {
        let done = run("echo out; echo bad >&2; exit 3", None, false).unwrap();
        assert_eq!((done.stdout, done.stdout_is_whole), (b"out\n".to_vec(), true));
        assert_eq!(done.stderr_tail, ["bad"]);
        assert_eq!(describe(done.status), "ended with exit status 3");
        let killed = run("kill -9 $$", None, false).unwrap();
        assert_eq!(describe(killed.status), "was ended by signal 9");
        let missing =
            run_to_end(Program::new("/no/such/program").command(), None, &AtomicBool::new(false));
        assert!(matches!(missing, Err(ProgramError::Start(_))));
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_all_it_started() {
        let soon = Some(Duration::from_millis(50));
        assert!(matches!(run("sleep 600 | sleep 600", soon, false), Err(ProgramError::TimedOut)));
        assert!(matches!(run("sleep 600", None, true), Err(ProgramError::Interrupted)));
    }

    #[test]
    fn what_is_left_behind_does_not_hold_up_the_end() {
        let done = run("sleep 5 & exit 0", None, false).unwrap();
        assert!(done.status.success() && !done.stdout_is_whole);
        let much = run("head -c 17000000 /dev/zero", None, false).unwrap();
        assert!(much.status.success() && !much.stdout_is_whole);
    }

    #[test]
    fn what_is_kept_of_standard_error_has_a_limit() {
        let lines = last_lines(&b"a\tb\r\n\n10%\r20%\rlast"[..]);
        assert_eq!(lines, ["a b", "10%", "20%", "last"]);
        let endless = io::repeat(b'.').take(10_000_000);
        let lines = last_lines(io::Cursor::new(b"first\n").chain(endless));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], format!("{} [cut]", ".".repeat(MAX_STDERR_LINE)));
        let many = "line\n".repeat(STDERR_LINES + 5);
        assert_eq!(last_lines(many.as_bytes()).len(), STDERR_LINES);
    }
}
