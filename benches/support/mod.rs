//! What several benches make.

use gabion::codec::Encoding;
use gabion::crypto::ChunkKind;
use gabion::format::pack::{Footer, FooterChunk};
use gabion::id::{ChunkId, PackId};
use gabion::repo::index::NewPack;

/// Chunks of a [`pack`].
pub(crate) const CHUNKS_OF_A_PACK: u64 = 10_000;
const CHUNKS_OF_A_BLOCK: u64 = 100;

/// The id of the chunk with this number.
pub(crate) fn chunk_id(n: u64) -> ChunkId {
    ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// The pack with this number, as an index takes it in: its chunks have the numbers that follow
/// those of the pack before.
pub(crate) fn pack(number: u64) -> NewPack {
    let mut footer = Footer::default();
    for block in 0..CHUNKS_OF_A_PACK / CHUNKS_OF_A_BLOCK {
        let first = number * CHUNKS_OF_A_PACK + block * CHUNKS_OF_A_BLOCK;
        let chunk = |n| FooterChunk { kind: ChunkKind::Content, id: chunk_id(n), len: 10_000 };
        let chunks: Vec<FooterChunk> = (first..first + CHUNKS_OF_A_BLOCK).map(chunk).collect();
        footer.push(400_000, Encoding::Zstd, &chunks, &[]);
    }
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let encoded = footer.encode();
    let len = footer.end() + encoded.len() as u64;
    NewPack { id: PackId(id), len, encoded, footer }
}
