//! Storing chunks again that lie only in packs which are to go.

use crate::crypto::ChunkKind;
use crate::id::ChunkId;
use crate::repo::{ChunkReader, PackClass, RepositoryError, Writer};

/// Reads `chunks` from wherever they still can be read, and stores them in new packs, durably.
pub(super) fn store_again(
    writer: &Writer,
    chunks: impl Iterator<Item = (ChunkKind, ChunkId)>,
) -> Result<(), RepositoryError> {
    let mut reader = ChunkReader::new(writer.repository());
    let mut content = writer.worker(PackClass::Content)?;
    let mut pages = writer.worker(PackClass::Pages)?;
    let mut bytes = Vec::new();
    for (kind, id) in chunks {
        bytes.clear();
        reader.read(kind, &id, &mut bytes)?;
        match kind {
            ChunkKind::Content => content.store(kind, &bytes)?,
            ChunkKind::Page | ChunkKind::ContentPage => pages.store(kind, &bytes)?,
        };
    }
    content.flush()?;
    pages.flush()?;
    writer.checkpoint()
}
