//! What psql reads of a dump.
//!
//! A dump comes from a server, and a server can put lines into it: the text of a view, a name. psql
//! runs commands of its own (`\!`, `\copy`, `\o |…`) wherever they stand outside of data. So psql
//! is put into its restricted mode with a random key that nobody else knows, and before that the
//! dump is read here as psql reads it: a backslash outside of data, and statements that no dump of
//! one database holds, are refused. All or nothing needs the same reading: around large objects
//! `pg_dump` writes `BEGIN` and `COMMIT` of its own, which would end the transaction around the
//! dump.

use std::io::{self, Write};

use memchr::memchr;

use super::psql_statement::{Ended, Statement, is_word};
use crate::ops::cat_into::Feed;
use crate::ops::restrict_key::random_key;

/// Letters of the key, as many as `pg_dump` uses.
const KEY_LEN: usize = 63;
const RESTRICT: &[u8] = b"\\restrict ";
const UNRESTRICT: &[u8] = b"\\unrestrict ";
/// Longest line with a key.
const MAX_KEY_LINE: usize = 300;
/// Reads a dump as psql does, and passes on what psql may read.
#[derive(Debug)]
pub struct PsqlScript {
    /// Whether it is one transaction.
    all_or_nothing: bool,
    place: Lexed,
    /// Whether a backslash in ordinary quotes escapes, as in dumps of old servers.
    backslash_escapes: bool,
    statement: Statement,
    /// The byte before.
    before: u8,
    /// A line that may be one of those that are dropped.
    held: Vec<u8>,
    key: Key,
    in_large_objects: bool,
    offset: u64,
    out: Vec<u8>,
    refusal: Option<String>,
}

/// Where psql is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lexed {
    /// At the beginning of a line, before any statement.
    LineStart,
    /// In a line that may be dropped as a whole.
    Held,
    /// Outside of quotes.
    Code,
    Quote {
        escapes: bool,
        after_backslash: bool,
    },
    /// After a quote, which may go on.
    QuoteEnd {
        escapes: bool,
    },
    Name,
    /// After `$` and this much of a tag.
    DollarTag(Vec<u8>),
    /// Until this is read; the number of bytes that fit so far.
    Dollar {
        tag: Vec<u8>,
        found: usize,
    },
    LineComment,
    /// With the byte before, unless it is a part of a mark.
    BlockComment {
        depth: u32,
        last: u8,
    },
    /// After a `COPY`, which must end its line.
    DataNext,
    /// In data, at the beginning of a line with so many bytes of the end mark.
    Data {
        mark: Option<usize>,
    },
}

/// The key that the dump has itself.
#[derive(Debug)]
enum Key {
    NotYet,
    Open(Vec<u8>),
    /// Nothing but comments may follow.
    Closed,
}

impl PsqlScript {
    /// For psql that does all or nothing: in one transaction that nothing in the dump can end.
    pub fn all_or_nothing() -> Self {
        Self { all_or_nothing: true, ..Self::statement_by_statement() }
    }

    /// For psql that does what it can.
    pub fn statement_by_statement() -> Self {
        Self {
            all_or_nothing: false,
            place: Lexed::LineStart,
            backslash_escapes: false,
            statement: Statement::default(),
            before: b'\n',
            held: Vec::new(),
            key: Key::NotYet,
            in_large_objects: false,
            offset: 0,
            out: Vec::new(),
            refusal: None,
        }
    }

    fn refuse<T>(&mut self, what: &str) -> io::Result<T> {
        let reason = format!(
            "the dump holds {what} near its byte {}, which pg_dump never writes: the server that \
             it was made on is not to be trusted (look at it with `gabion cat`; --into-command \
             takes it as it is)",
            self.offset
        );
        self.refusal = Some(reason);
        Err(io::Error::other("refused"))
    }

    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            if let Lexed::Data { mark: None } = self.place {
                // Most bytes of a dump are these.
                let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |found| at + found + 1);
                self.out.extend_from_slice(&bytes[at..end]);
                if bytes[end - 1] == b'\n' {
                    self.place = Lexed::Data { mark: Some(0) };
                }
                self.offset += (end - at) as u64;
                at = end;
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.offset += 1;
            self.byte(byte)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> io::Result<()> {
        if byte == 0 {
            return self.refuse("a byte 0");
        }
        if self.place == Lexed::LineStart && matches!(byte, b'B' | b'C' | b'\\') {
            self.place = Lexed::Held;
        }
        if self.place == Lexed::Held {
            return self.hold(byte);
        }
        self.take(byte)
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        self.out.push(byte);
        self.lex(byte)?;
        self.before = byte;
        Ok(())
    }

    /// Reads a line that may be dropped: the key's, and the transaction's around large objects.
    fn hold(&mut self, byte: u8) -> io::Result<()> {
        const FRAMES: [&[u8]; 2] = [b"BEGIN;\n", b"COMMIT;\n"];
        self.held.push(byte);
        if self.held[0] == b'\\' {
            if byte == b'\n' {
                return self.key_line();
            }
            if self.held.len() > MAX_KEY_LINE {
                return self.refuse("a command of psql");
            }
            return Ok(());
        }
        if FRAMES.iter().any(|frame| *frame == self.held) {
            let begins = self.held[0] == b'B';
            if begins == self.in_large_objects {
                return self.refuse("the end of a transaction");
            }
            self.in_large_objects = begins;
            match self.all_or_nothing {
                true => self.out.push(b'\n'),
                false => self.out.extend_from_slice(&self.held),
            }
            self.held.clear();
            self.place = Lexed::LineStart;
            self.before = b'\n';
            return Ok(());
        }
        if FRAMES.iter().any(|frame| frame.starts_with(&self.held)) {
            return Ok(());
        }
        self.place = Lexed::Code;
        let held = std::mem::take(&mut self.held);
        held.into_iter().try_for_each(|byte| self.take(byte))
    }

    fn key_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.held);
        let line = &line[..line.len() - 1];
        let is_key = |key: &[u8]| !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric);
        self.key = match (&self.key, line.strip_prefix(RESTRICT), line.strip_prefix(UNRESTRICT)) {
            (Key::NotYet, Some(key), _) if is_key(key) => Key::Open(key.to_owned()),
            (Key::Open(known), _, Some(key)) if key == known => Key::Closed,
            _ => return self.refuse("a command of psql"),
        };
        self.out.push(b'\n');
        self.place = Lexed::LineStart;
        self.before = b'\n';
        Ok(())
    }

    fn lex(&mut self, byte: u8) -> io::Result<()> {
        match std::mem::replace(&mut self.place, Lexed::Code) {
            Lexed::LineStart | Lexed::Code => return self.code(byte),
            Lexed::Held => {}
            Lexed::Quote { escapes, after_backslash } => {
                self.place = match byte {
                    _ if after_backslash => Lexed::Quote { escapes, after_backslash: false },
                    b'\\' if escapes => Lexed::Quote { escapes, after_backslash: true },
                    b'\'' => Lexed::QuoteEnd { escapes },
                    _ => Lexed::Quote { escapes, after_backslash: false },
                };
            }
            Lexed::QuoteEnd { escapes } => match byte {
                // Doubled, or a text that goes on in the next line.
                b'\'' if matches!(self.before, b'\'' | b'\n') => {
                    self.place = Lexed::Quote { escapes, after_backslash: false };
                }
                b' ' | b'\t' | b'\r' | b'\n' if escapes => {
                    self.place = Lexed::QuoteEnd { escapes };
                }
                _ => return self.code(byte),
            },
            Lexed::Name => {
                self.place = if byte == b'"' { Lexed::Code } else { Lexed::Name };
            }
            Lexed::DollarTag(mut tag) => {
                tag.push(byte);
                let first = tag.len() == 2;
                match byte {
                    b'$' => self.place = Lexed::Dollar { tag, found: 0 },
                    _ if is_word(byte) && !(first && byte.is_ascii_digit()) => {
                        self.place = Lexed::DollarTag(tag);
                    }
                    _ => return self.code(byte),
                }
            }
            Lexed::Dollar { tag, found } => {
                // A tag holds `$` at its ends only, so what does not fit begins again there.
                let found = if tag[found] == byte { found + 1 } else { usize::from(byte == b'$') };
                if found < tag.len() {
                    self.place = Lexed::Dollar { tag, found };
                }
            }
            Lexed::LineComment => match byte {
                b'\n' => self.place = self.between(),
                _ => self.place = Lexed::LineComment,
            },
            Lexed::BlockComment { depth, last } => {
                let (depth, last) = match (last, byte) {
                    (b'/', b'*') => (depth + 1, 0),
                    (b'*', b'/') => (depth - 1, 0),
                    _ => (depth, byte),
                };
                if depth > 0 {
                    self.place = Lexed::BlockComment { depth, last };
                }
            }
            Lexed::DataNext => {
                if byte != b'\n' {
                    return self.refuse("a statement after COPY");
                }
                self.place = Lexed::Data { mark: Some(0) };
            }
            Lexed::Data { mark } => self.data(mark, byte),
        }
        Ok(())
    }

    /// Reads data, up to its end mark, which may have a carriage return.
    fn data(&mut self, mark: Option<usize>, byte: u8) {
        let mark = match (mark, byte) {
            (Some(0), b'\\') => Some(1),
            (Some(1), b'.') => Some(2),
            (Some(2), b'\r') => Some(3),
            (Some(2 | 3), b'\n') => {
                self.place = Lexed::LineStart;
                return;
            }
            (_, b'\n') => Some(0),
            _ => None,
        };
        self.place = Lexed::Data { mark };
    }

    /// Outside of everything, within a statement or before it.
    fn between(&self) -> Lexed {
        match self.statement.is_empty() {
            true => Lexed::LineStart,
            false => Lexed::Code,
        }
    }

    fn code(&mut self, byte: u8) -> io::Result<()> {
        let word_before = is_word(self.before) || self.before == b'$';
        if !is_word(byte) {
            self.statement.end_of_word();
        }
        match byte {
            b'\\' => return self.refuse("a command of psql"),
            b'-' if self.before == b'-' => {
                self.statement.forget_comment_mark();
                self.place = Lexed::LineComment;
                return Ok(());
            }
            b'*' if self.before == b'/' => {
                self.statement.forget_comment_mark();
                self.place = Lexed::BlockComment { depth: 1, last: 0 };
                return Ok(());
            }
            b';' if self.statement.can_end() => return self.end_statement(),
            b'\n' | b' ' | b'\t' | b'\r' if self.statement.is_empty() => {
                self.place = if byte == b'\n' { Lexed::LineStart } else { Lexed::Code };
                return Ok(());
            }
            b'\'' => {
                let marked =
                    matches!(self.before, b'E' | b'e') && self.statement.ends_with_one_letter();
                let escapes = marked || self.backslash_escapes;
                self.place = Lexed::Quote { escapes, after_backslash: false };
            }
            b'"' => self.place = Lexed::Name,
            b'$' if !word_before => self.place = Lexed::DollarTag(vec![b'$']),
            _ => {}
        }
        self.statement.remember(byte);
        Ok(())
    }

    fn end_statement(&mut self) -> io::Result<()> {
        if matches!(self.key, Key::Closed) {
            return self.refuse("a statement after \\unrestrict");
        }
        match std::mem::take(&mut self.statement).end() {
            Ended::Known => {}
            Ended::Copy => self.place = Lexed::DataNext,
            Ended::BackslashEscapes(escapes) => self.backslash_escapes = escapes,
            Ended::NeverDumped(what) => return self.refuse(&what),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let at_end = match self.place {
            Lexed::LineStart | Lexed::LineComment => true,
            Lexed::Code => self.statement.is_empty(),
            _ => false,
        };
        if !at_end || matches!(self.key, Key::Open(_)) || self.in_large_objects {
            return self.refuse("no end of a statement, of data or of its key at its end");
        }
        Ok(())
    }
}

impl Feed for PsqlScript {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(RESTRICT)?;
        out.write_all(&random_key(KEY_LEN))?;
        out.write_all(if self.all_or_nothing { b"\nBEGIN;\n" } else { b"\n" })
    }

    fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.read(bytes)?;
        out.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.end()?;
        out.write_all(if self.all_or_nothing { b"\nCOMMIT;\n" } else { b"\n" })
    }

    fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

#[cfg(test)]
#[path = "psql_script_tests.rs"]
mod tests;
