//! Counting the rows of a plain dump while it passes: as exact as the dump itself, and of the same
//! moment. A restore is compared with these counts.

use std::collections::BTreeMap;

use memchr::{memchr, memchr2};

use crate::format::snapshot::StreamRecord;

/// Most bytes of a line that are looked at. What is longer is data, not a beginning of it.
const LINE_LEN: usize = 4096;
/// Most bytes of names of tables that a snapshot's record takes; it has a limit of its own.
const MAX_NAMES_LEN: usize = 256 << 10;
/// What each count costs in a record beside its name.
const COUNT_LEN: usize = 24;

/// The rows of each table of a dump.
pub(super) type Rows = BTreeMap<String, u64>;

/// Counts the rows of a dump in a known format.
#[derive(Debug)]
pub(super) struct RowCounter {
    reader: Reader,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    rows: Rows,
    /// The table whose rows come, or would come now.
    table: Option<String>,
}

#[derive(Debug)]
enum Reader {
    /// `COPY` and a line for each row. Rows are announced by a comment; a function may hold a line
    /// that only looks as if they came.
    Copy { announced: bool, in_rows: bool },
    /// `INSERT` with any number of rows.
    Insert { statement: Option<Statement>, foreign_delimiter: bool },
}

/// Where in an `INSERT` statement the reader is.
#[derive(Debug, Default)]
struct Statement {
    /// Inside of this kind of quotes.
    quote: Option<u8>,
    /// Behind a backslash.
    escaped: bool,
    /// Open parentheses.
    depth: u32,
    /// Behind the list of columns.
    in_values: bool,
}

const INSERT: &[u8] = b"INSERT INTO `";

impl RowCounter {
    /// A counter for a dump in the format `name`, if that is one whose rows can be counted.
    pub(super) fn for_format(name: &str) -> Option<Self> {
        let reader = match name {
            "pg_dump" => Reader::Copy { announced: false, in_rows: false },
            "mariadb-dump" | "mysqldump" => {
                Reader::Insert { statement: None, foreign_delimiter: false }
            }
            _ => return None,
        };
        Some(Self { reader, line: Vec::new(), rows: Rows::new(), table: None })
    }

    /// Takes the next bytes in.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Reader::Insert { statement: Some(statement), .. } = &mut self.reader {
                let (read, rows, ended) = statement.read(bytes);
                bytes = &bytes[read..];
                if let Some(count) = self.table.as_ref().and_then(|table| self.rows.get_mut(table))
                {
                    *count += rows;
                }
                if ended {
                    self.reader = Reader::Insert { statement: None, foreign_delimiter: false };
                }
                continue;
            }
            bytes = self.take_line(bytes);
        }
    }

    /// Takes bytes up to the end of the line, or to where a statement begins; returns the rest.
    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let end = memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if let Reader::Insert { statement, foreign_delimiter: false } = &mut self.reader
            && self.table.is_some()
            && self.line.len() < INSERT.len()
        {
            let wanted = (INSERT.len() - self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..wanted]);
            if self.line == INSERT {
                self.line.clear();
                *statement = Some(Statement { quote: Some(b'`'), ..Statement::default() });
                return &bytes[wanted..];
            }
            if wanted < part.len() {
                return &bytes[wanted..];
            }
        } else if end.is_some() && self.line.is_empty() {
            // The usual case: a whole line, which need not be copied.
            self.whole_line(part);
        } else {
            let room = LINE_LEN.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
        }
        match end {
            Some(end) => {
                if !self.line.is_empty() {
                    let line = std::mem::take(&mut self.line);
                    self.whole_line(&line);
                }
                &bytes[end + 1..]
            }
            None => &[],
        }
    }

    fn whole_line(&mut self, line: &[u8]) {
        match &mut self.reader {
            Reader::Copy { in_rows: true, .. } if line == b"\\." => {
                self.reader = Reader::Copy { announced: false, in_rows: false };
                self.table = None;
            }
            Reader::Copy { in_rows: true, .. } => {
                if let Some(count) = self.table.as_ref().and_then(|table| self.rows.get_mut(table))
                {
                    *count += 1;
                }
            }
            Reader::Copy { announced, in_rows } => {
                if let Some(table) = copied_table(line).filter(|_| *announced) {
                    *in_rows = true;
                    self.begin(table);
                } else {
                    *announced &= matches!(line, b"" | b"--");
                    *announced |= line.starts_with(b"-- Data for Name: ");
                }
            }
            Reader::Insert { foreign_delimiter, .. } => {
                if let Some(delimiter) = line.strip_prefix(b"DELIMITER ") {
                    *foreign_delimiter = delimiter != b";";
                } else if line.starts_with(b"-- ") {
                    self.table = None;
                    if let Some(table) = dumped_table(line) {
                        self.begin(table);
                    }
                }
            }
        }
    }

    fn begin(&mut self, table: String) {
        self.rows.entry(table.clone()).or_insert(0);
        self.table = Some(table);
    }

    /// What was counted.
    pub(super) fn finish(self) -> Rows {
        self.rows
    }
}

impl Statement {
    /// Reads on: how many bytes, how many rows began in them, and whether the statement ended.
    fn read(&mut self, bytes: &[u8]) -> (usize, u64, bool) {
        let (mut at, mut rows) = (0, 0);
        while at < bytes.len() {
            if let Some(quote) = self.quote {
                at += self.read_quoted(&bytes[at..], quote);
                continue;
            }
            match bytes[at] {
                quote @ (b'\'' | b'"' | b'`') => self.quote = Some(quote),
                b'(' => {
                    rows += u64::from(self.in_values && self.depth == 0);
                    self.depth += 1;
                }
                b')' => self.depth = self.depth.saturating_sub(1),
                b'V' if self.depth == 0 => self.in_values = true,
                b';' if self.depth == 0 => return (at + 1, rows, true),
                _ => {}
            }
            at += 1;
        }
        (at, rows, false)
    }

    /// Reads what stands in quotes; a doubled quote is the end of one text and the begin of another.
    fn read_quoted(&mut self, bytes: &[u8], quote: u8) -> usize {
        if self.escaped {
            self.escaped = false;
            return 1;
        }
        let Some(found) = memchr2(quote, b'\\', bytes) else { return bytes.len() };
        if bytes[found] == quote {
            self.quote = None;
        } else {
            // A backslash means nothing in the name of a column.
            self.escaped = quote != b'`';
        }
        found + 1
    }
}

/// The table of `COPY schema.table (columns) FROM stdin;`, as it is written there.
fn copied_table(line: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(line.strip_prefix(b"COPY ")?).ok()?;
    let len = qualified_name_len(rest)?;
    let tail = &rest[len..];
    let is_copy = tail.ends_with(" FROM stdin;") && (tail.starts_with(" (") || tail.len() == 12);
    is_copy.then(|| rest[..len].to_owned())
}

/// The table of `` -- Dumping data for table `name` ``, without its quotes.
fn dumped_table(line: &[u8]) -> Option<String> {
    let name = line.strip_prefix(b"-- Dumping data for table `")?.strip_suffix(b"`")?;
    Some(std::str::from_utf8(name).ok()?.replace("``", "`"))
}

/// How long the qualified name is that `text` begins with, as PostgreSQL writes and reads it:
/// parts with dots between them, each of plain letters or in quotes.
pub fn qualified_name_len(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += identifier_len(&text[at..])?;
        match text[at..].strip_prefix('.') {
            Some(_) => at += 1,
            None => return Some(at),
        }
    }
}

fn identifier_len(text: &str) -> Option<usize> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let len = text.find(|c| !plain(c)).unwrap_or(text.len());
        return (len > 0).then_some(len);
    };
    let mut len = 1;
    loop {
        let end = rest.find('"')? + 1;
        len += end;
        rest = &rest[end..];
        match rest.strip_prefix('"') {
            Some(more) => (rest, len) = (more, len + 1),
            None => return Some(len),
        }
    }
}

/// Leaves out the counts of whole streams, the largest first, until all fit into a record.
pub(super) fn fit(streams: &mut [StreamRecord]) {
    let len = |rows: &Rows| rows.keys().map(|name| name.len() + COUNT_LEN).sum::<usize>();
    let size = |stream: &StreamRecord| {
        let counted = stream.origin.as_ref().map_or(0, |origin| len(&origin.counted));
        stream.rows.as_ref().map_or(0, len) + counted
    };
    while streams.iter().map(size).sum::<usize>() > MAX_NAMES_LEN {
        if let Some(largest) = streams.iter_mut().max_by_key(|stream| size(stream)) {
            largest.rows = None;
            if let Some(origin) = &mut largest.origin {
                origin.counted.clear();
            }
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
