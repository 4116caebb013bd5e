//! Decoded footers that were used lately.

use std::collections::HashMap;
use std::sync::Arc;

use super::Location;
use crate::format::pack::Footer;
use crate::id::PackId;

/// Most bytes of footers that are kept decoded.
const CAPACITY: usize = 16 << 20;

/// A pack that is to be taken in: its id, its whole length in bytes, its footer.
#[derive(Debug, Clone)]
pub struct NewPack {
    /// The pack.
    pub id: PackId,
    /// Its stored length, in bytes.
    pub len: u64,
    /// Its footer, encoded.
    pub encoded: Vec<u8>,
    /// Its footer.
    pub footer: Footer,
}

/// The footer of one pack, with the offsets that follow from it.
#[derive(Debug)]
pub struct PackFooter {
    /// The pack.
    pub id: PackId,
    /// Its stored length, in bytes.
    pub len: u64,
    /// What it holds.
    pub footer: Footer,
}

impl PackFooter {
    pub(super) fn new(id: PackId, len: u64, footer: Footer) -> Self {
        Self { id, len, footer }
    }

    /// Where the chunk at position `chunk` lies.
    pub fn location(&self, chunk: u32) -> Location {
        let number = self.footer.block_of(chunk);
        let block = &self.footer.blocks[number];
        let before = &self.footer.chunks[block.first_chunk as usize..chunk as usize];
        let found = &self.footer.chunks[chunk as usize];
        Location {
            pack: self.id,
            block: u32::try_from(number).unwrap_or(u32::MAX),
            block_offset: block.offset,
            block_stored_len: block.stored_len,
            block_plain_len: block.plain_len,
            encoding: block.encoding,
            offset: before.iter().map(|chunk| chunk.len).sum(),
            len: found.len,
            kind: found.kind,
        }
    }

    fn weight(&self) -> usize {
        size_of_val(&self.footer.chunks[..]) + size_of_val(&self.footer.blocks[..])
    }
}

/// Keeps the footers used last, up to a fixed number of bytes.
#[derive(Debug, Default)]
pub(super) struct FooterCache {
    held: HashMap<u32, (u64, Arc<PackFooter>)>,
    bytes: usize,
    clock: u64,
}

impl FooterCache {
    pub(super) fn get(&mut self, pack: u32) -> Option<Arc<PackFooter>> {
        self.clock += 1;
        let (used, footer) = self.held.get_mut(&pack)?;
        *used = self.clock;
        Some(Arc::clone(footer))
    }

    pub(super) fn put(&mut self, pack: u32, footer: Arc<PackFooter>) {
        self.clock += 1;
        self.bytes += footer.weight();
        if let Some((_, old)) = self.held.insert(pack, (self.clock, footer)) {
            self.bytes -= old.weight();
        }
        while self.bytes > CAPACITY && self.held.len() > 1 {
            let oldest = self.held.iter().min_by_key(|(_, (used, _))| *used).map(|(no, _)| *no);
            let Some((_, old)) = oldest.and_then(|no| self.held.remove(&no)) else { break };
            self.bytes -= old.weight();
        }
    }
}
