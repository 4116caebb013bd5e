//! The connection to a server over SFTP: the program `ssh` with its two pipes. One thread writes
//! requests, one reads answers; whoever asks sends as many requests as it likes and then waits for
//! the answers one by one. There is no runtime: a future is only ever waited for by the thread that
//! wants its answer.

use std::fmt;
use std::future::Future;
use std::io::{self, Read, Write as _};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use openssh_sftp_client_lowlevel as protocol;
use protocol::{Error, Extensions, Id, Queue, ReadEnd, SharedData, WriteEnd};

use super::sftp_fault::{Fault, printable};
use super::sftp_packets::{MAX_PACKET, Packets};
use crate::threads::{Panicked, caught};

/// What the crate would put bytes of files in; it is never given one.
type Buffer = Vec<u8>;
/// Where requests are handed in.
pub(super) type Requests = WriteEnd<Buffer, Outgoing>;
/// The number of a request.
pub(super) type Number = Id<Buffer>;

/// How often somebody who waits for an answer looks whether there is still a connection.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long to wait for the last words of a program that closed its pipe.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// So much of what the program says is remembered, in bytes.
const MAX_WORDS: usize = 4 << 10;

/// An open connection. Dropped, it lets go of the program, which then ends by itself.
pub(super) struct Connection {
    requests: Mutex<Requests>,
    state: Arc<State>,
    /// What the server can do beside the protocol.
    pub(super) extensions: Extensions,
}

/// What the threads of a connection tell each other.
#[derive(Default)]
struct State {
    /// Why there is no connection any more.
    ended: OnceLock<String>,
    /// Requests sent.
    sent: AtomicU64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.state.sent.load(Ordering::Relaxed);
        f.debug_struct("Connection").field("sent", &sent).finish_non_exhaustive()
    }
}

impl Connection {
    /// Starts `program` and greets the server at its other end.
    ///
    /// # Errors
    /// When it cannot be started, or nobody answers; with what the program said about it.
    pub(super) fn open(program: &mut Command) -> Result<Self, Fault> {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: io::Error| Fault::Lost(error.to_string());
        let mut child = program.spawn().map_err(failed)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Fault::Lost("the program has no pipes".to_owned()));
        };
        let (sender, receiver) = mpsc::channel();
        // This hands the greeting in.
        let requests = protocol::connect(Outgoing(Mutex::new(Some(sender))), ());
        let requests: Requests = requests.map_err(|error| Fault::Lost(error.to_string()))?;
        let state = Arc::new(State::default());
        let (greeted, greeting) = mpsc::channel();
        let reader = Reader {
            child,
            stdout,
            words: collect_words(stderr)?,
            shared: SharedData::clone(&requests),
            state: Arc::clone(&state),
        };
        spawn("sftp-write", move || write_requests(stdin, &receiver))?;
        spawn("sftp-read", move || reader.run(&greeted))?;
        let mut connection =
            Self { requests: Mutex::new(requests), state, extensions: Extensions::empty() };
        // The other end of the channel goes when the reader ends.
        connection.extensions = greeting.recv().map_err(|_| connection.lost())?;
        Ok(connection)
    }

    /// Hands a request in. It goes to the server whether or not somebody waits for its answer.
    pub(super) fn send<A>(
        &self,
        request: impl FnOnce(&mut Requests, Number) -> Result<A, Error>,
    ) -> Result<A, Fault> {
        if !self.is_open() {
            return Err(self.lost());
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let number = requests.create_response_id();
        self.state.sent.fetch_add(1, Ordering::Relaxed);
        request(&mut requests, number).map_err(Fault::from)
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(
        &self,
        answer: impl Future<Output = Result<(Number, T), Error>>,
    ) -> Result<T, Fault> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut answer = pin!(answer);
        loop {
            // Asked first: what was answered before the end counts.
            let ended = self.state.ended.get().is_some();
            match answer.as_mut().poll(&mut context) {
                Poll::Ready(answer) => return answer.map(|(_, value)| value).map_err(Fault::from),
                Poll::Pending if ended => return Err(self.lost()),
                Poll::Pending => thread::park_timeout(LOOK_AGAIN),
            }
        }
    }

    /// Whether it still holds, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.state.ended.get().is_none()
    }

    /// Takes the connection for lost: who still waits for an answer gets an error.
    pub(super) fn give_up(&self, why: &str) {
        let _ = self.state.ended.set(why.to_owned());
        self.close();
    }

    fn lost(&self) -> Fault {
        Fault::Lost(self.state.ended.get().cloned().unwrap_or_default())
    }

    fn close(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).queue().close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Wakes the thread that waits for an answer.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Requests on their way to the thread that writes them; none are taken after the end.
pub(super) struct Outgoing(Mutex<Option<Sender<Bytes>>>);

impl Outgoing {
    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Queue for Outgoing {
    fn push(&self, bytes: Bytes) {
        self.extend(bytes, &[]);
    }

    fn extend(&self, header: Bytes, body: &[&[Bytes]]) {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*guard else { return };
        // Whoever waits for the answer learns that nobody writes any more.
        let _ = sender.send(header);
        for bytes in body.iter().flat_map(|bytes| bytes.iter()) {
            let _ = sender.send(bytes.clone());
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop).map_err(|error| Fault::Lost(error.to_string()))
}

/// Writes until there are no more requests, or nobody to take them: the reader finds out why.
fn write_requests(mut stdin: ChildStdin, requests: &Receiver<Bytes>) {
    while let Ok(first) = requests.recv() {
        let mut together = first.to_vec();
        // Small requests that came meanwhile go in one piece.
        while together.len() < MAX_PACKET
            && let Ok(next) = requests.try_recv()
        {
            together.extend_from_slice(&next);
        }
        if stdin.write_all(&together).is_err() {
            return;
        }
    }
}

/// Reads what the program says about its own troubles, of which the end is sent when it ends.
fn collect_words(mut stderr: ChildStderr) -> Result<Receiver<String>, Fault> {
    let (sender, receiver) = mpsc::channel();
    spawn("sftp-words", move || {
        let mut words = Vec::new();
        let mut piece = [0; 1024];
        while let Ok(len @ 1..) = stderr.read(&mut piece) {
            words.extend_from_slice(&piece[..len]);
            let excess = words.len().saturating_sub(MAX_WORDS);
            words.drain(..excess);
        }
        let _ = sender.send(last_line(&String::from_utf8_lossy(&words)));
    })?;
    Ok(receiver)
}

/// The last line that says something, fit for a terminal.
fn last_line(words: &str) -> String {
    let last = words.lines().map(str::trim).rfind(|line| !line.is_empty());
    printable(last.unwrap_or_default())
}

/// The thread that reads answers, and what it needs to say why there are no more.
struct Reader {
    child: Child,
    stdout: ChildStdout,
    words: Receiver<String>,
    shared: SharedData<Buffer, Outgoing>,
    state: Arc<State>,
}

impl Reader {
    fn run(mut self, greeted: &Sender<Extensions>) {
        let buffer = NonZeroUsize::MIN.saturating_add(MAX_PACKET);
        let packets = Packets::new(&mut self.stdout);
        let mut answers = ReadEnd::new(packets, buffer, self.shared.clone());
        // Whoever waits for an answer must learn that there are no more, whatever happens here.
        let read = caught(|| Ok(read_answers(&mut answers, greeted)));
        drop(answers);
        let why = match read {
            Ok(error) => self.reason(&error),
            Err::<_, Panicked>(panicked) => panicked.to_string(),
        };
        let _ = self.state.ended.set(why);
        self.shared.queue().close();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Why the connection ended, in one line: the program's own words are the best.
    fn reason(&mut self, error: &Error) -> String {
        let ended = matches!(error, Error::IOError(error)
            if error.kind() == io::ErrorKind::UnexpectedEof);
        match error {
            _ if ended => {}
            Error::IOError(error) => return printable(&error.to_string()),
            error => return printable(&error.to_string()),
        }
        let words = self.words.recv_timeout(LAST_WORDS).unwrap_or_default();
        if words.is_empty() { "the other end hung up".to_owned() } else { words }
    }
}

/// Hands answers to those who wait for them until that is not possible any more.
fn read_answers<R: Read + Unpin>(
    answers: &mut ReadEnd<Packets<R>, Buffer, Outgoing>,
    greeted: &Sender<Extensions>,
) -> Error {
    match at_once(answers.receive_server_hello()) {
        Ok(extensions) => drop(greeted.send(extensions)),
        Err(error) => return error,
    }
    loop {
        match at_once(answers.read_in_one_packet()) {
            // An answer that nobody waits for any more.
            Ok(()) | Err(Error::InvalidResponseId { .. }) => {}
            Err(error) => return error,
        }
    }
}

/// The value of a future that reads from [`Packets`] only.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
