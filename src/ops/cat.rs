//! Writing the bytes of one file or stream to an output.

use std::io::Write;

use super::OpError;
use super::list::find_entry;
use super::read_content::{Part, read_content};
use super::restrict_key::KeySwap;
use crate::format::entry::{Entry, EntryKind};
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::repo::Repository;

/// Writes the content of the file or stream at `path` to `out`, holes as zeros, and returns its
/// length in bytes. An error means that what was written is only the beginning; nothing wrong was
/// written. A dump of PostgreSQL that gabion made gets another random key for psql's restricted mode
/// each time; everything else is as it was stored.
///
/// # Errors
/// `NoSuchPath`; `Refused` for what has no content; `Output` when `out` fails; damage, naming the
/// path.
pub fn cat(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<u64, OpError> {
    let entry = find_entry(repository, snapshot, path)?;
    if let Some(refusal) = refusal(&entry) {
        return Err(OpError::Refused(format!("{} {refusal}", path::display(path))));
    }
    let mut swap = match entry.meta.kind {
        EntryKind::Stream => KeySwap::out_of_repository(snapshot, path),
        _ => None,
    };
    let len = read_content(repository, &entry, &mut |part| {
        let written = match (part, &mut swap) {
            (Part::Bytes(bytes), Some(swap)) => out.write_all(&swap.push(bytes)),
            (Part::Bytes(bytes), None) => out.write_all(bytes),
            (Part::Zeros(len), Some(swap)) => write_zeros(&mut Swapped { swap, out }, len),
            (Part::Zeros(len), None) => write_zeros(out, len),
        };
        written.map_err(OpError::Output)
    })?;
    if let Some(swap) = swap {
        out.write_all(&swap.finish().0).map_err(OpError::Output)?;
    }
    out.flush().map_err(OpError::Output)?;
    Ok(len)
}

/// Why an entry has no bytes to write, if so.
fn refusal(entry: &Entry) -> Option<String> {
    let what = match entry.meta.kind {
        EntryKind::File | EntryKind::Stream => return None,
        EntryKind::Directory => "is a folder".to_owned(),
        EntryKind::Symlink => {
            format!("is a symbolic link to {}", path::printable(&entry.meta.target))
        }
        EntryKind::Fifo => "is a named pipe".to_owned(),
        EntryKind::Socket => "is a socket".to_owned(),
        EntryKind::CharDevice | EntryKind::BlockDevice => "is a device".to_owned(),
    };
    Some(format!("{what}, not a file or stream"))
}

/// Writes what a swap passes on.
struct Swapped<'a> {
    swap: &'a mut KeySwap,
    out: &'a mut dyn Write,
}

impl Write for Swapped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write_all(&self.swap.push(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn write_zeros(out: &mut dyn Write, mut len: u64) -> std::io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while len > 0 {
        let step = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        out.write_all(&ZEROS[..step])?;
        len -= step as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "cat_tests.rs"]
mod tests;
