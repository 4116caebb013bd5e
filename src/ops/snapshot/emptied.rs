//! Sources that are empty and were not: most likely a disk that is not mounted.

use std::path::Path;

use super::pipeline::Shared;
use super::previous::Earlier;
use super::{OpError, SnapshotOptions};
use crate::format::path::is_within;
use crate::repo::Repository;
use crate::tree::PageReader;

/// Reports each source that is an empty directory although the last complete snapshot of the same
/// sources holds files of it. A snapshot that was incomplete for this reason does not count, so
/// the problem stays until the files are back or the caller accepts their absence.
pub(super) fn report(
    shared: &Shared,
    options: &SnapshotOptions,
    earlier: &Earlier,
) -> Result<(), OpError> {
    let Some(complete) = earlier.complete.as_ref().filter(|_| !options.allow_empty_source) else {
        return Ok(());
    };
    for path in options.paths.iter().filter(|path| is_empty(path)) {
        let stored = path.as_os_str().as_encoded_bytes();
        let stored = stored.strip_prefix(b"/").unwrap_or(stored);
        if held_files(&shared.repository, complete.root, stored)? {
            let message = format!(
                "it is empty, but snapshot {} holds files of it: is its disk mounted? (accept it \
                 with --allow-empty-source)",
                complete.id
            );
            shared.problem(stored, message);
        }
    }
    Ok(())
}

fn is_empty(path: &Path) -> bool {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    is_directory && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether the tree holds something below `path`. A tree that cannot be read says nothing.
fn held_files(
    repository: &Repository,
    root: crate::id::ChunkId,
    path: &[u8],
) -> Result<bool, OpError> {
    let mut cursor = PageReader::new(repository).cursor(root);
    let mut below = || -> Result<bool, crate::repo::RepositoryError> {
        cursor.seek(path)?;
        while let Some(entry) = cursor.next_entry()? {
            if !is_within(&entry.path, path) {
                break;
            }
            if *entry.path != *path {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match below() {
        Err(error) if error.is_damage() => Ok(false),
        found => Ok(found?),
    }
}
