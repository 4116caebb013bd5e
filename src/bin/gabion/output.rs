//! Standard output: what the user asked for. A reader that has enough (`| head`) is no error.

use std::fmt;
use std::io::{self, BufWriter, Stdout, Write};

use gabion::format::entry::EntryKind;
use gabion::format::path;
use serde::Serialize;

use crate::errors::Failure;
use crate::render::names::{PathText, leading_slash};

/// Buffered standard output.
pub(crate) struct Output(BufWriter<Stdout>);

impl Output {
    /// This process's standard output. Not locked: problems may be printed meanwhile.
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    /// One line of text.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), OutputError> {
        writeln!(self.0, "{line}").map_err(OutputError)
    }

    /// The path of an entry, as [`PathText`] shows it to people.
    pub(crate) fn path(&mut self, path: &[u8], kind: EntryKind) -> Result<(), OutputError> {
        match path::plain(path) {
            // Nearly every one, of millions: nothing is copied.
            Some(text) => {
                let pieces = [leading_slash(kind), text, "\n"];
                pieces.iter().try_for_each(|piece| self.0.write_all(piece.as_bytes()))
            }
            None => writeln!(self.0, "{}", PathText::of_stored(path, kind).printable()),
        }
        .map_err(OutputError)
    }

    /// One value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| OutputError(error.into()))?;
        self.0.write_all(b"\n").map_err(OutputError)
    }

    /// Hands over what is still in the buffer.
    pub(crate) fn finish(mut self) -> Result<(), OutputError> {
        self.0.flush().map_err(OutputError)
    }
}

/// Standard output could not be written to.
#[derive(Debug)]
pub(crate) struct OutputError(pub(crate) io::Error);

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::output(error.0)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One line of text, at once.
pub(crate) fn one_line(line: impl fmt::Display) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(line)?;
    Ok(output.finish()?)
}

/// One value as one line of JSON, at once.
pub(crate) fn one_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut output = Output::new();
    output.json(value)?;
    Ok(output.finish()?)
}
