//! Whether a file still has the bytes that a snapshot holds, told by ids alone: nothing of the
//! stored content is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};

use crate::crypto::ChunkKind;
use crate::format::entry::{Content, ContentItem};
use crate::format::pack::MAX_BLOCK_LEN;
use crate::id::ChunkId;
use crate::repo::RepositoryError;
use crate::tree::{ContentItems, PageReader};

/// Bytes that are read at a time where zeros are expected.
const PIECE: u64 = 1 << 20;

/// Compares `file` with a content of `size` bytes. The inner error is the file's.
pub(super) fn has_content(
    pages: &mut PageReader<'_>,
    content: &Content,
    size: u64,
    file: &File,
    buffer: &mut Vec<u8>,
) -> Result<io::Result<bool>, RepositoryError> {
    if let Content::Inline(bytes) = content {
        return Ok(read_at(file, 0, bytes.len(), buffer).map(|whole| whole && *buffer == **bytes));
    }
    let mut items = ContentItems::new(content, size);
    let mut at = 0;
    while let Some(item) = items.next(pages)? {
        let same = match item {
            ContentItem::Hole { len } => has_zeros(file, at, len, buffer),
            ContentItem::Chunk { id, len } => has_chunk(pages, file, at, len, &id, buffer),
        };
        match same {
            Ok(true) => at += item.len(),
            other => return Ok(other),
        }
    }
    Ok(Ok(at == size))
}

fn has_chunk(
    pages: &mut PageReader<'_>,
    file: &File,
    at: u64,
    len: u32,
    id: &ChunkId,
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
    // No chunk is longer than a block; a forged list shall not make us take memory for one.
    if len > MAX_BLOCK_LEN || !read_at(file, at, len as usize, buffer)? {
        return Ok(false);
    }
    Ok(pages.chunks().repository().keys().chunk_id(ChunkKind::Content, buffer) == *id)
}

/// Fills `buffer` with the `len` bytes at `at`; false when the file ends before.
fn read_at(file: &File, at: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.resize(len, 0);
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `file` reads as zeros; what is a hole there too is not read.
fn has_zeros(file: &File, start: u64, len: u64, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let Some(end) = start.checked_add(len).filter(|&end| i64::try_from(end).is_ok()) else {
        return Ok(false);
    };
    if file.metadata()?.len() < end {
        return Ok(false);
    }
    let mut at = start;
    while at < end {
        at = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            // Nothing but a hole from here on.
            Err(rustix::io::Errno::NXIO) => return Ok(true),
            // A file system that knows no holes: everything is data.
            Err(_) => at,
        };
        let step = end.saturating_sub(at).min(PIECE);
        let step_len = usize::try_from(step).map_err(io::Error::other)?;
        if !read_at(file, at, step_len, buffer)? || buffer.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += step;
    }
    Ok(true)
}
