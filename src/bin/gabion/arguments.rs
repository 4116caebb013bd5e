//! Arguments that several commands take.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use gabion::ops::SnapshotSpec;

use crate::errors::Failure;

/// Reads `SNAP` or `SNAP:PATH`; the path may be any bytes.
pub(crate) fn snapshot_spec(text: &OsStr) -> Result<SnapshotSpec, Failure> {
    SnapshotSpec::parse(text.as_bytes())
        .map_err(|reason| Failure::usage(format!("{}: {reason}", text.display())))
}
