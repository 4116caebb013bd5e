//! Which snapshots are judged together.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::format::path::printable;
use crate::format::snapshot::{RawBytes, Snapshot};

/// What the snapshots of a group have in common. With nothing set, all are one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The machine.
    pub host: bool,
    /// The sources: paths, in whatever order, and names of streams. Without the latter, the dumps
    /// of two databases would take each other's slots.
    pub paths: bool,
    /// The job.
    pub job: bool,
    /// The tags, in whatever order.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, job: true, tags: false }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    /// Reads words with commas between them, such as `host,paths`; no word is no grouping.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut by = Self { host: false, paths: false, job: false, tags: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let field = match word {
                "host" => &mut by.host,
                "paths" => &mut by.paths,
                "job" => &mut by.job,
                "tags" => &mut by.tags,
                _ => return Err(format!("{word:?} is not one of host, paths, job and tags")),
            };
            *field = true;
        }
        Ok(by)
    }
}

/// What the snapshots of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The machine, where it counts.
    pub host: Option<String>,
    /// The paths, where the sources count.
    pub paths: Option<BTreeSet<RawBytes>>,
    /// The names of the streams, where the sources count.
    pub streams: Option<BTreeSet<String>>,
    /// The job, or that there was none, where it counts.
    pub job: Option<Option<String>>,
    /// The tags, where they count.
    pub tags: Option<BTreeSet<String>>,
}

impl GroupKey {
    /// The key of the group that a snapshot belongs to.
    pub fn of(snapshot: &Snapshot, by: GroupBy) -> Self {
        let streams = || snapshot.streams.iter().map(|stream| stream.name.clone()).collect();
        Self {
            host: by.host.then(|| snapshot.host.clone()),
            paths: by.paths.then(|| snapshot.paths.iter().cloned().collect()),
            streams: by.paths.then(streams),
            job: by.job.then(|| snapshot.job.clone()),
            tags: by.tags.then(|| snapshot.tags.iter().cloned().collect()),
        }
    }
}

impl fmt::Display for GroupKey {
    /// For people, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.host.as_ref().map(|host| format!("host {}", printable(host.as_bytes()))));
        words.extend(self.paths.iter().flatten().map(|path| printable(&path.0)));
        words.extend(self.streams.iter().flatten().map(|name| printable(name.as_bytes())));
        words.extend(
            self.job.iter().flatten().map(|job| format!("job {}", printable(job.as_bytes()))),
        );
        words.extend(
            self.tags.iter().flatten().map(|tag| format!("tag {}", printable(tag.as_bytes()))),
        );
        if words.is_empty() {
            return f.write_str("all snapshots");
        }
        f.write_str(&words.join(", "))
    }
}
