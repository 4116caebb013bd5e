//! The programs of database servers: found, asked, and told where the password is.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::format::path::printable;
use crate::ops::program::{Finished, Program, ProgramError, describe, run_to_end};
use crate::ops::{OpError, StreamFailure};

/// How long a question to a server may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A failure of the stream or group of streams `stream`.
pub(super) fn failure(stream: &str, reason: impl Into<String>) -> OpError {
    let (name, reason) = (stream.to_owned(), reason.into());
    StreamFailure { name, reason, stderr_tail: Vec::new() }.into()
}

/// A program of a server's: in `folder`, or wherever the search path finds it.
pub(super) fn program(folder: Option<&Path>, name: &str) -> Program {
    Program::new(folder.map_or_else(|| name.into(), |folder| folder.join(name).into_os_string()))
}

/// What `program` prints, which must succeed.
pub(super) fn ask(
    stream: &str,
    program: &Program,
    interrupted: &AtomicBool,
) -> Result<Vec<u8>, OpError> {
    let name = printable(program.program.as_encoded_bytes());
    match run_to_end(program.command(), Some(PATIENCE), interrupted) {
        Ok(Finished { status, stdout, .. }) if status.success() => Ok(stdout),
        Ok(Finished { status, stderr_tail, .. }) => {
            let (stream, reason) = (stream.to_owned(), format!("{name} {}", describe(status)));
            Err(StreamFailure { name: stream, reason, stderr_tail }.into())
        }
        Err(ProgramError::Interrupted) => Err(OpError::Interrupted),
        Err(ProgramError::Start(error)) => {
            let cure = "install it, or say with `programs` in which folder it is";
            Err(failure(stream, format!("cannot start {name}: {error} ({cure})")))
        }
        Err(error) => Err(failure(stream, format!("{name}: {error}"))),
    }
}

/// The first line of what `program` prints, or nothing when it does not answer.
pub(super) fn first_line(
    stream: &str,
    program: &Program,
    interrupted: &AtomicBool,
) -> Result<Option<String>, OpError> {
    match ask(stream, program, interrupted) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.lines().next().unwrap_or_default().trim();
            Ok(Some(line.chars().filter(|c| !c.is_control()).take(200).collect()))
        }
        Err(OpError::Interrupted) => Err(OpError::Interrupted),
        Err(_) => Ok(None),
    }
}

/// The parts of a list that ends or separates them with `separator`, empty ones left out.
pub(super) fn names(stream: &str, bytes: Vec<u8>, separator: char) -> Result<Vec<String>, OpError> {
    let text = String::from_utf8(bytes)
        .map_err(|_| failure(stream, "the name of a database is not UTF-8: name the others"))?;
    let trimmed = |name: &str| name.trim_end_matches('\n').to_owned();
    Ok(text.split(separator).map(trimmed).filter(|name| !name.is_empty()).collect())
}

/// Refuses a file with a password that others can read; the servers' programs ignore it or warn.
pub(super) fn check_secret(stream: &str, file: Option<&Path>, key: &str) -> Result<(), OpError> {
    let Some(file) = file else { return Ok(()) };
    let shown = printable(file.as_os_str().as_encoded_bytes());
    match file.metadata() {
        Err(error) => {
            Err(failure(stream, format!("`{key}` names {shown}, which cannot be read: {error}")))
        }
        Ok(about) if about.mode() & 0o077 != 0 => {
            Err(failure(stream, format!("others can read {shown}, the `{key}`: `chmod 600` it")))
        }
        Ok(_) => Ok(()),
    }
}
