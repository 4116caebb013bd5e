//! Reading pages by way of the check's own picture.

use std::collections::VecDeque;
use std::sync::Arc;

use super::picture::{Copy, Picture};
use super::report::Report;
use crate::crypto::ChunkKind;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::PackReader;
use crate::repo::index::PackFooter;

/// Plain blocks that a reader keeps: neighbouring pages share theirs.
const BLOCKS_KEPT: usize = 4;

/// A plain block, with the pack and number that it has.
type HeldBlock = ((u32, u32), Arc<Vec<u8>>);

/// Reads chunks. One for each thread.
pub(super) struct Reader<'c> {
    report: &'c Report<'c>,
    picture: &'c Picture,
    packs: PackReader<'c>,
    held: VecDeque<HeldBlock>,
}

impl<'c> Reader<'c> {
    pub(super) fn new(report: &'c Report<'c>, picture: &'c Picture) -> Self {
        let packs = PackReader::new(report.repository);
        Self { report, picture, packs, held: VecDeque::new() }
    }

    /// The bytes of a chunk, from any copy that is whole; nothing when there is none.
    pub(super) fn chunk(
        &mut self,
        kind: ChunkKind,
        id: &ChunkId,
    ) -> Result<Option<Vec<u8>>, OpError> {
        let picture = self.picture;
        for copy in picture.copies_of(id) {
            if picture.is_known_bad(copy) {
                continue;
            }
            let Some(pack) = picture.footer(self.report, &mut self.packs, copy.pack)? else {
                continue;
            };
            let listed = &pack.footer.chunks[copy.chunk as usize];
            if listed.id != *id || listed.kind != kind {
                continue;
            }
            if let Some(bytes) = self.read(copy, &pack)? {
                if self.report.repository.keys().chunk_id(kind, &bytes) == *id {
                    return Ok(Some(bytes));
                }
                picture.mark_chunk(copy.pack, copy.chunk);
                let name = crate::storage::ObjectName::pack(pack.id);
                self.report.problem(name, format!("chunk {id} is not what its id says"));
            }
        }
        Ok(None)
    }

    fn read(&mut self, copy: &Copy, pack: &PackFooter) -> Result<Option<Vec<u8>>, OpError> {
        let place = pack.location(copy.chunk);
        let key = (copy.pack, place.block);
        let held = self.held.iter().find(|(held, _)| *held == key).map(|held| Arc::clone(&held.1));
        let block = match held {
            Some(block) => block,
            None => {
                let mut plain = Vec::new();
                let (report, reader) = (self.report, &mut self.packs);
                let no = copy.pack;
                if !self.picture.read_block(report, reader, no, pack, &place, &mut plain)? {
                    return Ok(None);
                }
                let plain = Arc::new(plain);
                self.held.push_back((key, Arc::clone(&plain)));
                if self.held.len() > BLOCKS_KEPT {
                    self.held.pop_front();
                }
                plain
            }
        };
        let start = place.offset as usize;
        Ok(block.get(start..start + place.len as usize).map(<[u8]>::to_vec))
    }
}
