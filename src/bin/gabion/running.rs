//! Whether a server runs: its port is open, its socket answers, or the process of its PID file is
//! there.

use std::ffi::OsStr;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::errors::{Exit, Failure};

/// How long a port may take to answer: a server that is there accepts at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// The machine itself, by both of its addresses.
const HERE: [&str; 2] = ["127.0.0.1", "::1"];

/// Refuses when `what` is there: a port, alone or behind a host, or a file.
pub(crate) fn must_be_stopped(what: &OsStr) -> Result<(), Failure> {
    let text = what.to_str().unwrap_or_default();
    let found = if let Ok(port) = text.parse::<u16>() {
        HERE.iter().find(|host| accepts(host, port)).map(|_| format!("port {port} is open"))
    } else if let Some((host, port)) = host_and_port(text) {
        accepts(host, port).then(|| format!("{host} accepts at port {port}"))
    } else {
        by_file(Path::new(what))?
    };
    match found {
        None => Ok(()),
        Some(found) => {
            let message = format!("what must be stopped is running: {found}");
            Err(Failure::new(Exit::Failed, message).hint("stop it, and say the same again"))
        }
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains('/')).then_some((host, port.parse().ok()?))
}

fn accepts(host: &str, port: u16) -> bool {
    let Ok(addresses) = (host, port).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

/// What shows by a file that something runs; a file that is not there shows that nothing does.
fn by_file(path: &Path) -> Result<Option<String>, Failure> {
    let shown = path.display();
    let unusable = |why: &str| {
        Failure::usage(format!("--require-stopped {shown}: {why}"))
            .hint("name a port, a socket, or a file that holds the number of a process")
    };
    let about = match path.metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.is_absolute() => {
            return Ok(None);
        }
        Err(error) => return Err(unusable(&error.to_string())),
    };
    if about.file_type().is_socket() {
        return Ok(UnixStream::connect(path).is_ok().then(|| format!("{shown} answers")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    let process = number.and_then(Pid::from_raw).ok_or_else(|| unusable("it holds no number"))?;
    // One that may not be signalled is there, too.
    let there = test_kill_process(process) != Err(Errno::SRCH);
    Ok(there.then(|| format!("process {} of {shown}", process.as_raw_nonzero())))
}
