//! Arguments that several commands take.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use gabion::format::snapshot::{RawBytes, Snapshot};
use gabion::ops::SnapshotSpec;

use crate::errors::Failure;
use crate::sources;

/// Reads `SNAP` or `SNAP:PATH`; the path may be any bytes.
pub(crate) fn snapshot_spec(text: &OsStr) -> Result<SnapshotSpec, Failure> {
    SnapshotSpec::parse(text.as_bytes())
        .map_err(|reason| Failure::usage(format!("{}: {reason}", text.display())))
}

/// Which snapshots a command is about
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Only snapshots with this tag; given several times: with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only snapshots of this machine
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only snapshots with this source; given several times: with all of them
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Only snapshots of this job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

impl Selection {
    /// Whether nothing was said: all snapshots.
    pub(crate) fn is_all(&self) -> bool {
        self.tag.is_empty() && self.host.is_none() && self.path.is_empty() && self.job.is_none()
    }

    /// Tells which snapshots are meant.
    pub(crate) fn filter(&self) -> Result<impl Fn(&Snapshot) -> bool, Failure> {
        let raw = |path: PathBuf| RawBytes(path.into_os_string().as_encoded_bytes().to_vec());
        let paths: Vec<RawBytes> = self
            .path
            .iter()
            .map(|path| sources::absolute(path).map(raw))
            .collect::<Result<_, _>>()?;
        Ok(move |snapshot: &Snapshot| {
            self.tag.iter().all(|tag| snapshot.tags.contains(tag))
                && self.host.as_ref().is_none_or(|host| *host == snapshot.host)
                && paths.iter().all(|path| snapshot.paths.contains(path))
                && (self.job.is_none() || self.job == snapshot.job)
        })
    }
}

/// NAME=COMMAND, for a stream.
pub(crate) fn parse_stream(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
            Ok((name.to_owned(), command.to_owned()))
        }
        _ => Err("it is not of the form NAME=COMMAND".to_owned()),
    }
}
