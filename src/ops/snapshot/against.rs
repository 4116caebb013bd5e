//! Storing what changed within a large content against what stood in the same place before.
//!
//! Chunks that did not change show where the old and the new content agree; what lies between two
//! such places in the one is likely to resemble what lies between them in the other.

use std::collections::HashMap;
use std::ops::Range;

use super::pipeline::Context;
use crate::crypto::ChunkKind;
use crate::format::entry::ContentItem;
use crate::format::pack::FooterChunk;
use crate::id::ChunkId;
use crate::repo::RepositoryError;
use crate::tree::{OldContent, PageReader};

/// Plain bytes that are encoded together: little, since whoever wants one byte of it needs all of
/// its bases, which may lie in as many blocks.
const GROUP_LEN: usize = 64 << 10;
/// Most bases of a group.
const MAX_BASES: usize = 48;
/// How far around the place where it should be the old content is looked at.
const AROUND: u64 = 1 << 20;
/// After so many groups in a row that were no good, the rest of a slab is stored by itself.
const PATIENCE: usize = 3;

/// Stores the chunks of a slab that begins at `offset` of the new content; gives its items.
pub(super) fn store_slab(
    context: &mut Context,
    slab: &[u8],
    lens: &[usize],
    offset: u64,
    basis: &OldContent,
) -> Result<Vec<ContentItem>, RepositoryError> {
    let mut chunks = Vec::with_capacity(lens.len());
    let mut rest = slab;
    for len in lens {
        let (bytes, tail) = rest.split_at(*len);
        rest = tail;
        let (chunk, is_new) = context.worker.claim(ChunkKind::Content, bytes)?;
        chunks.push((chunk, is_new, bytes));
    }
    if chunks.iter().any(|(_, is_new, _)| *is_new) {
        store_new(context, &chunks, offset, basis)?;
    }
    let item = |chunk: &FooterChunk| ContentItem::Chunk { id: chunk.id, len: chunk.len };
    Ok(chunks.iter().map(|(chunk, _, _)| item(chunk)).collect())
}

type Chunk<'a> = (FooterChunk, bool, &'a [u8]);

fn store_new(
    context: &mut Context,
    chunks: &[Chunk<'_>],
    offset: u64,
    basis: &OldContent,
) -> Result<(), RepositoryError> {
    let repository = std::sync::Arc::clone(context.worker.repository());
    let mut reader = PageReader::new(&repository);
    let len: u64 = chunks.iter().map(|(chunk, _, _)| u64::from(chunk.len)).sum();
    let old = match old_items(&mut reader, basis, offset, len) {
        Err(error) if error.is_damage() => Vec::new(),
        old => old?,
    };
    let ids: Vec<ChunkId> = chunks.iter().map(|(chunk, _, _)| chunk.id).collect();
    let old_ids: Vec<Option<ChunkId>> = old.iter().map(|(_, item)| id_of(item)).collect();
    let start = old.partition_point(|(at, _)| *at < basis.place(offset));
    let alignment = align(&old_ids, &ids, start);
    note_places(basis, chunks, offset, &old, &alignment);
    let mut group = Group::default();
    for ((chunk, is_new, bytes), place) in chunks.iter().zip(&alignment) {
        if !is_new {
            continue;
        }
        let mut bases = Vec::new();
        if let (Place::Instead(range), true) = (place, group.misses < PATIENCE) {
            for id in old_ids[range.clone()].iter().flatten() {
                bases.extend(repository.base_for(id)?);
            }
        }
        if bases.is_empty() {
            context.worker.store_claimed(*chunk, bytes)?;
            continue;
        }
        group.add(*chunk, bytes, &bases);
        if group.plain.len() >= GROUP_LEN || group.bases.len() >= MAX_BASES {
            group.store(context, &mut reader)?;
        }
    }
    group.store(context, &mut reader)
}

fn id_of(item: &ContentItem) -> Option<ChunkId> {
    match item {
        ContentItem::Chunk { id, .. } => Some(*id),
        ContentItem::Hole { .. } => None,
    }
}

/// The old items around the place where the slab should be: once as far as the last place goes at
/// which both agreed, once as if nothing had come in between, and once as if all of it had.
fn old_items(
    reader: &mut PageReader<'_>,
    basis: &OldContent,
    offset: u64,
    len: u64,
) -> Result<Vec<(u64, ContentItem)>, RepositoryError> {
    let (_, agreed) = basis.agreed(offset);
    let there = basis.place(offset);
    let window = |from: u64| from.saturating_sub(AROUND)..from.saturating_add(len + AROUND);
    let (near, far) = (window(agreed), window(there));
    let mut found = basis.items(reader, &near)?;
    let more = basis.items(reader, &far)?;
    let last = found.last().map(|(at, _)| *at);
    found.extend(more.into_iter().filter(|(at, _)| last.is_none_or(|last| *at > last)));
    Ok(found)
}

/// What stood in the place of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The chunk itself.
    Same(usize),
    /// Others.
    Instead(Range<usize>),
}

/// Finds for each chunk of `new` what stands in its place in `old`, where the first of them should
/// be at `start`.
fn align(old: &[Option<ChunkId>], new: &[ChunkId], start: usize) -> Vec<Place> {
    let mut positions: HashMap<ChunkId, usize> = HashMap::with_capacity(old.len());
    for (at, id) in old.iter().enumerate() {
        if let Some(id) = id {
            positions.entry(*id).or_insert(at);
        }
    }
    let mut places = Vec::with_capacity(new.len());
    // Behind the last chunk that was found, once there is one.
    let mut found: Option<usize> = None;
    let mut at = 0;
    while at < new.len() {
        let next = |at: usize| {
            positions.get(&new[at]).copied().filter(|old| found.is_none_or(|found| *old >= found))
        };
        if let Some(same) = next(at) {
            found = Some(same + 1);
            places.push(Place::Same(same));
            at += 1;
            continue;
        }
        let end = (at..new.len()).find(|at| next(*at).is_some());
        let count = end.unwrap_or(new.len()) - at;
        let until = end.and_then(next);
        let from = found.unwrap_or_else(|| {
            // Right before what follows, or where it should be.
            until.map_or(start, |until| until.saturating_sub(count))
        });
        let until = until.unwrap_or_else(|| (from + count).min(old.len())).max(from);
        places.extend((0..count).map(|number| Place::Instead(share(from..until, number, count))));
        at += count;
    }
    places
}

/// The part of `old` in the place of number `number` of `count` new ones.
fn share(old: Range<usize>, number: usize, count: usize) -> Range<usize> {
    let there = old.len();
    if there > 2 * count {
        // Much was left out. Something may have come in its place at either end.
        return old.start + number..old.start + number + 2;
    }
    let start = old.start + number * there / count;
    let end = old.start + ((number + 1) * there).div_ceil(count);
    start..end
}

/// Remembers where old and new agree, as far as that was not to be expected.
fn note_places(
    basis: &OldContent,
    chunks: &[Chunk<'_>],
    offset: u64,
    old: &[(u64, ContentItem)],
    alignment: &[Place],
) {
    let mut at = offset;
    let mut last = None;
    for ((chunk, _, _), place) in chunks.iter().zip(alignment) {
        if let Place::Same(position) = place {
            let there = old[*position].0;
            if basis.place(at) != there {
                basis.agree(at, there);
            }
            let len = u64::from(chunk.len);
            last = Some((at + len, there + len));
        }
        at += u64::from(chunk.len);
    }
    if let Some((new, old)) = last {
        basis.agree(new, old);
    }
}

/// Chunks that will be encoded together.
#[derive(Default)]
struct Group {
    chunks: Vec<FooterChunk>,
    plain: Vec<u8>,
    bases: Vec<(ChunkKind, ChunkId)>,
    /// Groups in a row that were no good.
    misses: usize,
}

impl Group {
    fn add(&mut self, chunk: FooterChunk, bytes: &[u8], bases: &[ChunkId]) {
        self.chunks.push(chunk);
        self.plain.extend_from_slice(bytes);
        for id in bases {
            let base = (ChunkKind::Content, *id);
            if self.bases.len() < MAX_BASES && !self.bases.contains(&base) {
                self.bases.push(base);
            }
        }
    }

    fn store(
        &mut self,
        context: &mut Context,
        reader: &mut PageReader<'_>,
    ) -> Result<(), RepositoryError> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let worker = &mut context.worker;
        if worker.store_against(reader.chunks(), &self.bases, &self.chunks, &self.plain)? {
            self.misses = 0;
        } else {
            self.misses += 1;
            let mut rest = &self.plain[..];
            for chunk in &self.chunks {
                let (bytes, tail) = rest.split_at(chunk.len as usize);
                rest = tail;
                worker.store_claimed(*chunk, bytes)?;
            }
        }
        self.chunks.clear();
        self.plain.clear();
        self.bases.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<ChunkId> {
        text.bytes().map(|byte| ChunkId([byte; 32])).collect()
    }

    /// What stands in the place of each chunk of `new`, spelled.
    fn aligned(old: &str, new: &str, start: usize) -> Vec<String> {
        let items: Vec<Option<ChunkId>> =
            old.bytes().map(|b| (b != b'_').then_some(ChunkId([b; 32]))).collect();
        let places = align(&items, &ids(new), start);
        let spelled = |place: Place| match place {
            Place::Same(at) => format!("={}", &old[at..=at]),
            Place::Instead(range) => old[range].to_owned(),
        };
        places.into_iter().map(spelled).collect()
    }

    #[test]
    fn between_what_did_not_change_lies_what_did() {
        assert_eq!(aligned("abcde", "abXde", 0), ["=a", "=b", "c", "=d", "=e"]);
        assert_eq!(aligned("abcde", "abXYde", 0), ["=a", "=b", "c", "c", "=d", "=e"]);
        assert_eq!(aligned("abcde", "aXe", 0), ["=a", "bc", "=e"]);
        assert_eq!(aligned("abcde", "aXYe", 0), ["=a", "bc", "cd", "=e"]);
        assert_eq!(aligned("abcde", "abXcde", 0), ["=a", "=b", "", "=c", "=d", "=e"]);
    }

    #[test]
    fn the_ends_follow_from_where_the_slab_should_be_and_from_what_was_found() {
        assert_eq!(aligned("abcdef", "XYef", 0), ["c", "d", "=e", "=f"]);
        assert_eq!(aligned("abcdef", "abXY", 0), ["=a", "=b", "c", "d"]);
        assert_eq!(aligned("abcdef", "XYZ", 2), ["c", "d", "e"]);
        assert_eq!(aligned("abcdef", "XYZ", 5), ["f", "f", "f"]);
        assert_eq!(aligned("", "XY", 0), ["", ""]);
    }

    #[test]
    fn nothing_is_found_before_what_was_found() {
        assert_eq!(aligned("abcab", "cab", 0), ["=c", "a", "b"]);
        assert_eq!(aligned("a_b", "aXb", 0), ["=a", "_", "=b"]);
    }
}
