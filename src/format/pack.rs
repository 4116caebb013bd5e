//! Packs: the sealed footer that says which blocks and chunks a pack holds, and the trailer that
//! says where the footer is.

use super::DecodeError;
use super::wire::{Reader, put_bytes, put_varint};
use crate::codec::Encoding;
use crate::crypto::ChunkKind;
use crate::crypto::header::HEADER_LEN;
use crate::id::ChunkId;

/// Version byte that begins every footer.
const VERSION: u8 = 1;
/// Length of the plain trailer that ends every pack.
pub const TRAILER_LEN: usize = 16;
const TRAILER_MAGIC: [u8; 8] = *b"\nNOIBAG\n";

/// Most blocks of a pack, most chunks of a block, longest block and longest sealed footer. Writers
/// stay far below; the limits bound what a hostile repository can make a reader allocate.
pub const MAX_BLOCKS: usize = 1 << 16;
/// Most chunks of one block.
pub const MAX_BLOCK_CHUNKS: usize = 1 << 16;
/// Longest plain block, in bytes.
pub const MAX_BLOCK_LEN: u32 = 1 << 26;
/// Most chunks of one pack.
pub const MAX_PACK_CHUNKS: usize = 1 << 22;
/// Longest sealed footer, in bytes.
pub const MAX_FOOTER_LEN: u64 = 1 << 26;
/// Most base chunks of one block.
pub const MAX_BASES: usize = 1 << 10;
/// Most plain bytes of all base chunks of one block together.
pub const MAX_BASE_LEN: u32 = 1 << 24;

/// The end of a pack: where the sealed footer begins follows from its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Stored length of the footer, in bytes.
    pub footer_len: u32,
}

impl Trailer {
    /// The trailer's bytes.
    pub fn encode(self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..4].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[8..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Decodes the last bytes of a pack.
    ///
    /// # Errors
    /// When they are no trailer: the pack was cut short or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("pack trailer", bytes);
        let footer_len = reader.u32()?;
        if reader.array()? != [0; 4] || reader.array()? != TRAILER_MAGIC {
            return Err(reader.error("not the end of a pack"));
        }
        reader.finish()?;
        if u64::from(footer_len) > MAX_FOOTER_LEN {
            return Err(DecodeError::new("pack trailer", "footer too long"));
        }
        Ok(Self { footer_len })
    }
}

/// One chunk in a block. Chunks lie one behind the other, so lengths give the offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterChunk {
    /// What the chunk belongs to.
    pub kind: ChunkKind,
    /// Which chunk.
    pub id: ChunkId,
    /// Plain length in bytes.
    pub len: u32,
}

/// One block of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterBlock {
    /// Offset in the pack, in bytes.
    pub offset: u64,
    /// Stored length (compressed and sealed), in bytes.
    pub stored_len: u32,
    /// Plain length, in bytes: that of its chunks together.
    pub plain_len: u32,
    /// How the bytes are encoded before sealing.
    pub encoding: Encoding,
    /// The position of its first chunk in [`Footer::chunks`].
    pub first_chunk: u32,
    /// How many chunks it holds.
    pub chunk_count: u32,
    /// The position of its first base chunk in [`Footer::bases`].
    pub first_base: u32,
    /// How many base chunks it has: some when it is encoded as [`Encoding::Delta`], else none.
    pub base_count: u32,
}

/// What a pack holds. A footer that was decoded is consistent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footer {
    /// The blocks in the order in which they lie.
    pub blocks: Vec<FooterBlock>,
    /// The chunks of all blocks in the order in which they lie.
    pub chunks: Vec<FooterChunk>,
    /// The base chunks of all blocks, in order.
    pub bases: Vec<ChunkId>,
}

impl Footer {
    /// Adds a block behind the ones that are there; `bases` are the chunks that it is encoded
    /// against, none unless that is its encoding.
    ///
    /// # Panics
    /// When a limit of the format is passed; writers close their packs long before.
    pub fn push(
        &mut self,
        stored_len: u32,
        encoding: Encoding,
        chunks: &[FooterChunk],
        bases: &[ChunkId],
    ) {
        let fits = |count: usize| u32::try_from(count).expect("a pack has under 2^32 chunks");
        assert!(self.blocks.len() < MAX_BLOCKS && chunks.len() <= MAX_BLOCK_CHUNKS);
        assert!(bases.len() <= MAX_BASES && (encoding == Encoding::Delta) != bases.is_empty());
        self.blocks.push(FooterBlock {
            offset: self.end(),
            stored_len,
            plain_len: chunks.iter().map(|chunk| chunk.len).sum(),
            encoding,
            first_chunk: fits(self.chunks.len()),
            chunk_count: fits(chunks.len()),
            first_base: fits(self.bases.len()),
            base_count: fits(bases.len()),
        });
        self.chunks.extend_from_slice(chunks);
        self.bases.extend_from_slice(bases);
    }

    /// Where the blocks end in the pack: the offset of the sealed footer.
    pub fn end(&self) -> u64 {
        let header = HEADER_LEN as u64;
        self.blocks.last().map_or(header, |block| block.offset + u64::from(block.stored_len))
    }

    /// The number of the block that holds the chunk at position `chunk`.
    pub fn block_of(&self, chunk: u32) -> usize {
        self.blocks.partition_point(|block| block.first_chunk <= chunk).saturating_sub(1)
    }

    /// The chunks of `block`.
    pub fn chunks_of(&self, block: &FooterBlock) -> &[FooterChunk] {
        &self.chunks[block.first_chunk as usize..][..block.chunk_count as usize]
    }

    /// The chunks that `block` is encoded against.
    pub fn bases_of(&self, block: &FooterBlock) -> &[ChunkId] {
        &self.bases[block.first_base as usize..][..block.base_count as usize]
    }

    /// At least as many bytes as the encoded footer takes.
    pub fn encoded_bound(&self) -> usize {
        64 + self.blocks.len() * 16 + self.chunks.len() * 38 + self.bases.len() * 32
    }

    /// Encodes the footer; the same footer always gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_varint(&mut out, u64::from(block.stored_len));
            out.push(block.encoding as u8);
            put_varint(&mut out, u64::from(block.chunk_count));
            if block.encoding == Encoding::Delta {
                put_varint(&mut out, u64::from(block.base_count));
            }
        }
        let mut columns = [const { Vec::new() }; 3];
        for chunk in &self.chunks {
            columns[0].push(chunk.kind as u8);
            put_varint(&mut columns[1], u64::from(chunk.len));
            columns[2].extend_from_slice(&chunk.id.0);
        }
        for column in &columns {
            put_bytes(&mut out, column);
        }
        if !self.bases.is_empty() {
            let column: Vec<u8> = self.bases.iter().flat_map(|id| id.0).collect();
            put_bytes(&mut out, &column);
        }
        out
    }

    /// Decodes a footer.
    ///
    /// # Errors
    /// When `bytes` are not exactly one valid footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("pack footer", bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.error(format!("version {version}, this program knows {VERSION}")));
        }
        let blocks = read_blocks(&mut reader)?;
        let limit = bytes.len();
        let [kinds, lens, ids] = [reader.bytes(limit)?, reader.bytes(limit)?, reader.bytes(limit)?];
        let has_bases = blocks.iter().any(|block| block.encoding == Encoding::Delta);
        let bases = if has_bases { reader.bytes(limit)? } else { &[] };
        reader.finish()?;
        let chunks = read_chunks(kinds, lens, ids)?;
        Self { blocks, chunks, bases: read_bases(bases)? }.checked()
    }

    /// Fills in what follows from the rest (plain lengths, first chunks) and checks it.
    fn checked(mut self) -> Result<Self, DecodeError> {
        let bad = |reason: &str| DecodeError::new("pack footer", reason);
        let (mut first, mut bases) = (0usize, 0u32);
        for block in &mut self.blocks {
            let count = block.chunk_count as usize;
            let chunks = self.chunks.get(first..first + count);
            let chunks = chunks.ok_or_else(|| bad("blocks with more chunks than are listed"))?;
            let plain = chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
            block.plain_len = u32::try_from(plain)
                .ok()
                .filter(|len| *len <= MAX_BLOCK_LEN)
                .ok_or_else(|| bad("a block that is too long"))?;
            block.first_chunk = u32::try_from(first).map_err(|_| bad("too many chunks"))?;
            first += count;
            block.first_base = bases;
            // At most 2^16 blocks with 2^10 bases each.
            bases += block.base_count;
        }
        if first != self.chunks.len() {
            return Err(bad("chunks that no block holds"));
        }
        if bases as usize != self.bases.len() {
            return Err(bad("more or fewer base chunks than its blocks have"));
        }
        Ok(self)
    }
}

fn read_blocks(reader: &mut Reader<'_>) -> Result<Vec<FooterBlock>, DecodeError> {
    let count = reader.count(MAX_BLOCKS)?;
    let mut blocks = Vec::with_capacity(count.min(reader.remaining()));
    let mut offset = HEADER_LEN as u64;
    for _ in 0..count {
        let stored_len = reader.varint_u32()?;
        let encoding = reader.u8()?;
        let encoding = Encoding::from_byte(encoding)
            .ok_or_else(|| reader.error(format!("unknown block encoding {encoding}")))?;
        let chunk_count = reader.count(MAX_BLOCK_CHUNKS)?;
        let base_count = match encoding {
            Encoding::Delta => reader.count(MAX_BASES)?,
            Encoding::Raw | Encoding::Zstd => 0,
        };
        if encoding == Encoding::Delta && base_count == 0 {
            return Err(reader.error("a block that is encoded against nothing"));
        }
        if stored_len == 0 || stored_len > 2 * MAX_BLOCK_LEN || chunk_count == 0 {
            return Err(reader.error("a block without bytes or chunks, or too long"));
        }
        blocks.push(FooterBlock {
            offset,
            stored_len,
            plain_len: 0,
            encoding,
            first_chunk: 0,
            chunk_count: u32::try_from(chunk_count).unwrap_or(u32::MAX),
            first_base: 0,
            base_count: u32::try_from(base_count).unwrap_or(u32::MAX),
        });
        offset += u64::from(stored_len);
    }
    Ok(blocks)
}

fn read_chunks(kinds: &[u8], lens: &[u8], ids: &[u8]) -> Result<Vec<FooterChunk>, DecodeError> {
    let bad = |reason: &str| DecodeError::new("pack footer", reason);
    let mut lens = Reader::new("pack footer", lens);
    if kinds.len() > MAX_PACK_CHUNKS || ids.len() != kinds.len() * ChunkId::LEN {
        return Err(bad("columns of different length, or too many chunks"));
    }
    let mut chunks = Vec::with_capacity(kinds.len());
    for (&kind, id) in kinds.iter().zip(ids.chunks_exact(ChunkId::LEN)) {
        chunks.push(FooterChunk {
            kind: ChunkKind::try_from(kind).map_err(|_| bad("unknown chunk kind"))?,
            id: chunk_id(id),
            len: lens.varint_u32()?,
        });
    }
    lens.finish()?;
    Ok(chunks)
}

fn read_bases(ids: &[u8]) -> Result<Vec<ChunkId>, DecodeError> {
    if !ids.len().is_multiple_of(ChunkId::LEN) {
        return Err(DecodeError::new("pack footer", "a base chunk's id is cut short"));
    }
    Ok(ids.chunks_exact(ChunkId::LEN).map(chunk_id).collect())
}

fn chunk_id(id: &[u8]) -> ChunkId {
    let mut bytes = [0; ChunkId::LEN];
    bytes.copy_from_slice(id);
    ChunkId(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn footer() -> Footer {
        let chunk =
            |n: u8, len| FooterChunk { kind: ChunkKind::Content, id: ChunkId([n; 32]), len };
        let page = FooterChunk { kind: ChunkKind::Page, id: ChunkId([9; 32]), len: 0 };
        let mut footer = Footer::default();
        footer.push(1000, Encoding::Zstd, &[chunk(1, 500), chunk(2, 70_000)], &[]);
        footer.push(16, Encoding::Raw, &[page], &[]);
        footer.push(77, Encoding::Raw, &[chunk(3, 61), chunk(1, 500)], &[]);
        footer
    }

    /// As [`footer`], with two blocks that are encoded against others.
    fn with_bases() -> Footer {
        let chunk = FooterChunk { kind: ChunkKind::Content, id: ChunkId([5; 32]), len: 300 };
        let (a, b) = (ChunkId([7; 32]), ChunkId([8; 32]));
        let mut footer = footer();
        footer.push(40, Encoding::Delta, &[chunk], &[a, b]);
        footer.push(90, Encoding::Zstd, &[chunk], &[]);
        footer.push(41, Encoding::Delta, &[chunk], &[b]);
        footer
    }

    #[test]
    fn round_trip_and_places() {
        let footer = footer();
        assert_eq!(Footer::decode(&footer.encode()), Ok(footer.clone()));
        assert_eq!(Footer::decode(&Footer::default().encode()), Ok(Footer::default()));
        let blocks: Vec<usize> = (0..5).map(|chunk| footer.block_of(chunk)).collect();
        assert_eq!(blocks, [0, 0, 1, 2, 2]);
        assert_eq!(footer.blocks[2].offset, 64 + 1016);
        assert_eq!(footer.end(), 64 + 1016 + 77);
        assert_eq!(footer.chunks_of(&footer.blocks[2])[1].id, ChunkId([1; 32]));
    }

    #[test]
    fn truncation_and_extra_bytes_are_refused() {
        for bytes in [footer().encode(), with_bases().encode()] {
            for len in 0..bytes.len() {
                assert!(Footer::decode(&bytes[..len]).is_err(), "cut at {len}");
            }
            assert!(Footer::decode(&[&bytes[..], b"\0"].concat()).is_err());
        }
    }

    #[test]
    fn bases_belong_to_their_blocks_and_their_number_is_limited() {
        let footer = with_bases();
        let bytes = footer.encode();
        assert_eq!(Footer::decode(&bytes), Ok(footer.clone()));
        let bases: Vec<usize> =
            footer.blocks.iter().map(|block| footer.bases_of(block).len()).collect();
        assert_eq!(bases, [0, 0, 0, 2, 0, 1]);
        assert_eq!(footer.bases_of(&footer.blocks[5]), [ChunkId([8; 32])]);
        // One base taken from a block, none left, and one too many than the column has.
        let at = bytes.windows(5).position(|part| part == [40, 2, 1, 2, 90]).unwrap() + 3;
        for count in [0, 1, 3] {
            let mut wrong = bytes.clone();
            wrong[at] = count;
            assert!(Footer::decode(&wrong).is_err(), "{count} bases");
        }
        let mut many = with_bases();
        let count = u32::try_from(MAX_BASES).unwrap() + 1;
        many.blocks[5].base_count = count;
        many.bases.resize(2 + count as usize, ChunkId([1; 32]));
        assert!(Footer::decode(&many.encode()).is_err(), "more bases than allowed");
        many.blocks[5].base_count = count - 1;
        many.bases.pop();
        assert!(Footer::decode(&many.encode()).is_ok());
    }

    #[test]
    fn every_flipped_bit_of_a_trailer_is_noticed_or_changes_the_length() {
        let good = Trailer { footer_len: 4711 };
        for bit in 0..8 * TRAILER_LEN {
            let mut bytes = good.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Trailer::decode(&bytes), Ok(good));
        }
        assert_eq!(Trailer::decode(&good.encode()), Ok(good));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_decodes_is_canonical(
            at: usize, with: u8, bytes: Vec<u8>,
        ) {
            let _ = Footer::decode(&bytes);
            for mut near in [footer().encode(), with_bases().encode()] {
                let at = at % near.len();
                near[at] = with;
                if let Ok(footer) = Footer::decode(&near) {
                    prop_assert_eq!(footer.encode(), near);
                }
            }
        }
    }
}
