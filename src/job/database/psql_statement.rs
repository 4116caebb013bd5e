//! A statement of a dump, as far as psql and gabion look at it.

/// Bytes of a statement that are remembered.
const HEAD_LEN: usize = 64;
/// How a statement ends after which data comes.
const FROM_STDIN: &[u8] = b" FROM stdin";

/// How statements begin that no dump of one database holds, and that would run programs or read
/// files of the server, or end the transaction. `COPY` is looked at by itself.
const NEVER_DUMPED: [&str; 15] = [
    "DO",
    "LOAD",
    "CALL",
    "PREPARE",
    "EXECUTE",
    "ROLLBACK",
    "ABORT",
    "START",
    "COMMIT",
    "END",
    "BEGIN",
    "SAVEPOINT",
    "RELEASE",
    "CHECKPOINT",
    "ALTER SYSTEM",
];

/// A statement, without what is in quotes and comments.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// Its beginning, without comments and leading space.
    head: Vec<u8>,
    /// Its last bytes.
    tail: Vec<u8>,
    /// Open parentheses.
    depth: u32,
    /// Open `BEGIN ATOMIC` and `CASE` in the body of a function.
    blocks: u32,
    /// The word that is being read.
    word: Vec<u8>,
}

/// What a statement was.
#[derive(Debug)]
pub(super) enum Ended {
    /// One that a dump may hold.
    Known,
    /// One that data follows.
    Copy,
    /// Whether backslashes in ordinary quotes escape from now on.
    BackslashEscapes(bool),
    /// One that no dump holds, in words.
    NeverDumped(String),
}

impl Statement {
    /// Whether nothing of it has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Whether a semicolon ends it here.
    pub(super) fn can_end(&self) -> bool {
        self.depth == 0 && self.blocks == 0
    }

    /// Whether the last letter is a token of its own.
    pub(super) fn ends_with_one_letter(&self) -> bool {
        let before = self.tail.len().checked_sub(2).and_then(|at| self.tail.get(at));
        before.is_none_or(|&byte| !is_word(byte) && byte != b'$')
    }

    /// Takes a byte outside of quotes and comments; all space is alike.
    pub(super) fn remember(&mut self, byte: u8) {
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            _ if is_word(byte) && self.word.len() < HEAD_LEN => self.word.push(byte),
            _ => {}
        }
        let byte = if byte.is_ascii_whitespace() { b' ' } else { byte };
        if byte == b' ' && self.tail.last() == Some(&b' ') {
            return;
        }
        if self.head.len() < HEAD_LEN {
            self.head.push(byte);
        }
        if self.tail.len() >= 2 * HEAD_LEN {
            self.tail.drain(..HEAD_LEN);
        }
        self.tail.push(byte);
    }

    /// The first byte of a comment was taken for a part of the statement; a comment is space.
    pub(super) fn forget_comment_mark(&mut self) {
        if self.head.len() < HEAD_LEN {
            self.head.pop();
        }
        self.tail.pop();
        if !self.head.is_empty() {
            self.remember(b' ');
        }
    }

    /// Follows the blocks of a function's body in SQL, in which semicolons end no statement. psql
    /// does the same.
    pub(super) fn end_of_word(&mut self) {
        let word = std::mem::take(&mut self.word).to_ascii_uppercase();
        match &word[..] {
            _ if self.depth > 0 => {}
            b"BEGIN" if self.makes_a_function() => self.blocks += 1,
            b"CASE" if self.blocks > 0 => self.blocks += 1,
            b"END" => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
    }

    fn makes_a_function(&self) -> bool {
        let head = self.head.to_ascii_uppercase();
        let made = ["CREATE OR REPLACE ", "CREATE "]
            .iter()
            .find_map(|begin| head.strip_prefix(begin.as_bytes()));
        made.is_some_and(|what| what.starts_with(b"FUNCTION ") || what.starts_with(b"PROCEDURE "))
    }

    /// Judges it at its end.
    pub(super) fn end(self) -> Ended {
        let head = String::from_utf8_lossy(&self.head);
        let words = head.to_ascii_uppercase();
        let begins = |with: &&str| {
            let rest = words.strip_prefix(*with);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        if begins(&"COPY") {
            return match head.starts_with("COPY ") && self.tail.ends_with(FROM_STDIN) {
                true => Ended::Copy,
                false => Ended::NeverDumped("a COPY that does not read from the dump".to_owned()),
            };
        }
        if let Some(never) = NEVER_DUMPED.iter().find(|never| begins(never)) {
            return Ended::NeverDumped(format!("a statement {never}"));
        }
        match &*head {
            "SET standard_conforming_strings = off" => Ended::BackslashEscapes(true),
            "SET standard_conforming_strings = on" => Ended::BackslashEscapes(false),
            _ => Ended::Known,
        }
    }
}

/// Whether a byte may be a part of a word.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
