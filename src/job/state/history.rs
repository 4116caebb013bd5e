//! The past of a job: a line for each run and each drill, the newest last.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{DrillRecord, RunRecord, StateError, StateFolder, replace};

/// Of a longer file the newer half stays.
const MAX_LEN: u64 = 2 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Past {
    /// A run.
    Run(RunRecord),
    /// A drill.
    Drill(PastDrill),
}

/// A drill, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PastDrill {
    /// When it began.
    pub started: i64,
    /// When it ended.
    pub ended: i64,
    /// Whether everything was as it should be.
    pub ok: bool,
    /// How it ended, in a few words.
    pub message: String,
    /// Plain bytes of the streams that were restored.
    pub bytes: u64,
    /// Rows that were counted.
    pub rows: u64,
    /// Files that were restored.
    pub files: u64,
}

impl From<&DrillRecord> for PastDrill {
    fn from(drill: &DrillRecord) -> Self {
        Self {
            started: drill.started,
            ended: drill.ended,
            ok: drill.ok,
            message: drill.verdict(),
            bytes: drill.streams.iter().map(|stream| stream.bytes).sum(),
            rows: drill.streams.iter().map(|stream| stream.rows).sum(),
            files: drill.files.restored,
        }
    }
}

impl Past {
    /// When it ended.
    pub fn ended(&self) -> i64 {
        match self {
            Self::Run(run) => run.ended,
            Self::Drill(drill) => drill.ended,
        }
    }
}

impl StateFolder {
    /// Adds to the past of `job`. What is too long ago is forgotten.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_to_past(&self, job: &str, item: &Past) -> Result<(), StateError> {
        self.make()?;
        let path = self.file(job, "past");
        let failed = |source: io::Error| self.error("write", &path, source);
        // A run and a drill of a job may end at the same time; the file itself may be replaced.
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(self.file(job, "past-lock")).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut line = serde_json::to_vec(item).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let mut options = File::options();
        options.read(true).append(true).create(true).mode(0o644);
        let mut file = options.open(&path).map_err(failed)?;
        // A crash or a full disk may have cut the last line: this record must not become a part
        // of it.
        if !ends_a_line(&mut file).map_err(failed)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > MAX_LEN {
            let bytes = std::fs::read(&path).map_err(failed)?;
            let from = bytes.len() / 2;
            let line = bytes[from..].iter().position(|&byte| byte == b'\n').unwrap_or(0);
            replace(&path, &bytes[from + line..]).map_err(failed)?;
        }
        Ok(())
    }

    /// The past of `job`, oldest first. Lines that make no sense, as a crash may leave one, are
    /// passed over.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn past(&self, job: &str) -> Result<Vec<Past>, StateError> {
        let path = self.file(job, "past");
        let failed = |source: io::Error| self.error("read", &path, source);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(2 * MAX_LEN).read_to_end(&mut bytes).map_err(failed)?;
        let lines = bytes.split(|&byte| byte == b'\n');
        Ok(lines.filter_map(parse_line).collect())
    }
}

/// Whether what is appended to `file` begins a line.
fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last == [b'\n'])
}

/// The record of a line. Earlier versions appended to a line that was cut, so the record may
/// follow such a beginning; inside of a record its quotes would be escaped.
fn parse_line(line: &[u8]) -> Option<Past> {
    const BEGINNING: &[u8] = b"{\"what\":";
    serde_json::from_slice(line).ok().or_else(|| {
        let at = line.windows(BEGINNING.len()).rposition(|part| part == BEGINNING)?;
        serde_json::from_slice(&line[at..]).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drill(number: i64) -> Past {
        let message = "m".repeat(2000);
        let (started, ended) = (number, number);
        Past::Drill(PastDrill { started, ended, ok: true, message, bytes: 0, rows: 0, files: 0 })
    }

    #[test]
    fn the_past_is_kept_in_order_and_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::new(dir.path().to_owned());
        assert_eq!(state.past("x").unwrap(), []);
        for number in 0..1200 {
            state.add_to_past("x", &drill(number)).unwrap();
        }
        // A line that a crash cut.
        let mut file = File::options().append(true).open(dir.path().join("x.past")).unwrap();
        file.write_all(b"{\"what\":\"ru\n").unwrap();
        let past = state.past("x").unwrap();
        assert_eq!(past.last().map(Past::ended), Some(1199));
        assert!(past.is_sorted_by_key(Past::ended) && past.len() > 500, "{}", past.len());
        assert!(std::fs::metadata(dir.path().join("x.past")).unwrap().len() < MAX_LEN + 10_000);
        assert_eq!(state.jobs().unwrap(), Vec::<String>::new());
    }
    #[test]
    fn a_record_that_was_cut_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::new(dir.path().to_owned());
        let cut = |bytes: &[u8]| {
            let mut file = File::options().append(true).open(dir.path().join("x.past")).unwrap();
            file.write_all(bytes).unwrap();
        };
        for number in 0..3 {
            state.add_to_past("x", &drill(number)).unwrap();
            cut(b"{\"what\":\"run\",\"started\":1");
        }
        // As earlier versions appended to it.
        cut(&serde_json::to_vec(&drill(3)).unwrap());
        state.add_to_past("x", &drill(4)).unwrap();
        let ended: Vec<i64> = state.past("x").unwrap().iter().map(Past::ended).collect();
        assert_eq!(ended, [0, 1, 2, 3, 4]);
    }
}
