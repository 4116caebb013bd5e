//! Storing again what is needed of packs that are to go.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use super::Prune;
use super::view::View;
use crate::codec::Encoding;
use crate::crypto::ChunkKind;
use crate::event::Event;
use crate::format::pack::Footer;
use crate::id::{ChunkId, PackId};
use crate::ops::OpError;
use crate::repo::index::Location;
use crate::repo::{
    ChunkReader, PackClass, PackReader, Repository, RepositoryError, Worker, Writer,
};
use crate::threads::{caught, joined, start_in};
use crate::tree::Live;

/// Whether a pack holds content or pages: writers never mix them.
pub(super) fn class_of(footer: &Footer) -> PackClass {
    match footer.chunks.first().map(|chunk| chunk.kind) {
        Some(ChunkKind::Page | ChunkKind::ContentPage) => PackClass::Pages,
        Some(ChunkKind::Content) | None => PackClass::Content,
    }
}

/// A block of which something is needed.
struct Block {
    location: Location,
    pack: PackId,
    number: usize,
}

fn writer(prune: &Prune<'_>) -> Writer {
    prune.touch();
    let writer = Writer::new(prune.repository, prune.options.compression);
    writer.announce(prune.session);
    writer
}

/// Stores again what is counted on in `packs`, and nothing that lies elsewhere, too. Returns how
/// many bytes that took. Blocks of which everything is needed are sealed again as they are. What
/// cannot be read there is read elsewhere; if it lies nowhere else, that is an error of damage.
pub(super) fn packs(
    prune: &Prune<'_>,
    view: &View<'_>,
    packs: &BTreeSet<PackId>,
) -> Result<u64, OpError> {
    let repository = prune.repository;
    let ids: Vec<PackId> = packs.iter().copied().collect();
    let blocks = [PackClass::Content, PackClass::Pages]
        .map(|class| needed_blocks(repository, view, &ids, class));
    // From here on their chunks are not to be found where they are.
    repository.condemn(&ids);
    let writer = writer(prune);
    for (class, blocks) in [PackClass::Content, PackClass::Pages].into_iter().zip(blocks) {
        let blocks = blocks?;
        let bytes = blocks.iter().map(|block| u64::from(block.location.block_plain_len)).sum();
        repository.observer().event(Event::Total { items: blocks.len() as u64, bytes });
        copy(prune, view, &writer, class, &blocks)?;
    }
    writer.checkpoint()?;
    Ok(writer.totals().repository_bytes)
}

/// Stores chunks again, wherever they can still be read. Returns how many bytes that took.
pub(super) fn stranded(
    prune: &Prune<'_>,
    chunks: impl Iterator<Item = (ChunkKind, ChunkId)>,
) -> Result<u64, RepositoryError> {
    let writer = writer(prune);
    crate::ops::store_again::store_again(&writer, chunks)?;
    Ok(writer.totals().repository_bytes)
}

fn needed_blocks(
    repository: &Repository,
    view: &View<'_>,
    packs: &[PackId],
    class: PackClass,
) -> Result<Vec<Block>, RepositoryError> {
    let mut blocks = Vec::new();
    for id in packs {
        let Some(pack) = repository.pack_footer(id)? else { continue };
        if class_of(&pack.footer) != class {
            continue;
        }
        let Some(live) = view.live(id) else { continue };
        for (number, block) in pack.footer.blocks.iter().enumerate() {
            let mut chunks = block.first_chunk..block.first_chunk + block.chunk_count;
            if chunks.any(|at| live.contains(at)) {
                let location = pack.location(block.first_chunk);
                blocks.push(Block { location, pack: *id, number });
            }
        }
    }
    Ok(blocks)
}

/// Copies blocks on all threads. The first error ends all of them.
fn copy(
    prune: &Prune<'_>,
    view: &View<'_>,
    writer: &Writer,
    class: PackClass,
    blocks: &[Block],
) -> Result<(), OpError> {
    let next = AtomicUsize::new(0);
    let threads = prune.options.threads.clamp(1, blocks.len().max(1));
    let results: Vec<Result<(), OpError>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                start_in(scope, "copy", || {
                    let result = caught(|| copy_some(prune, view, writer, class, blocks, &next));
                    if result.is_err() {
                        next.store(blocks.len(), Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let some_runs = running.iter().any(Result::is_ok);
        let wait = |thread: io::Result<_>| match thread {
            Ok(thread) => Some(joined(ScopedJoinHandle::join(thread))),
            // The others do its part.
            Err(_) if some_runs => None,
            Err(error) => Some(Err(RepositoryError::Thread(error).into())),
        };
        running.into_iter().filter_map(wait).collect()
    });
    results.into_iter().collect()
}

fn copy_some(
    prune: &Prune<'_>,
    view: &View<'_>,
    writer: &Writer,
    class: PackClass,
    blocks: &[Block],
    next: &AtomicUsize,
) -> Result<(), OpError> {
    let repository = prune.repository;
    let mut reader = PackReader::new(repository);
    let mut worker = writer.worker(class)?;
    let (mut encoded, mut plain) = (Vec::new(), Vec::new());
    while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
        prune.go_on()?;
        let Some(live) = view.live(&block.pack) else { continue };
        match reader.encoded_block(&block.location, &mut encoded, &mut plain) {
            Ok(()) => copy_block(repository, &mut worker, block, live, &mut encoded, &plain)?,
            Err(error) if error.is_damage() => {
                copy_elsewhere(repository, &mut worker, block, live, error)?;
            }
            Err(error) => return Err(error.into()),
        }
        let bytes = u64::from(block.location.block_plain_len);
        repository.observer().event(Event::Progress { items: 1, bytes });
    }
    Ok(worker.flush()?)
}

fn copy_block(
    repository: &Repository,
    worker: &mut Worker,
    block: &Block,
    live: Live<'_>,
    encoded: &mut Vec<u8>,
    plain: &[u8],
) -> Result<(), RepositoryError> {
    let Some(pack) = repository.pack_footer(&block.pack)? else { return Ok(()) };
    let described = &pack.footer.blocks[block.number];
    let chunks = pack.footer.chunks_of(described);
    let wanted =
        |at: usize| u32::try_from(at).is_ok_and(|at| live.contains(described.first_chunk + at));
    let how = (block.location.encoding, pack.footer.bases_of(described));
    worker.store_block(how, encoded, plain, chunks, wanted)
}

/// The block is damaged: what is needed of it may lie elsewhere, too.
fn copy_elsewhere(
    repository: &Repository,
    worker: &mut Worker,
    block: &Block,
    live: Live<'_>,
    damage: RepositoryError,
) -> Result<(), RepositoryError> {
    let Some(pack) = repository.pack_footer(&block.pack)? else { return Ok(()) };
    let described = &pack.footer.blocks[block.number];
    let mut reader = ChunkReader::new(repository);
    let mut bytes = Vec::new();
    for (chunk, at) in pack.footer.chunks_of(described).iter().zip(described.first_chunk..) {
        if !live.contains(at) {
            continue;
        }
        bytes.clear();
        match reader.read(chunk.kind, &chunk.id, &mut bytes) {
            // What is not encoded against other chunks may be a base.
            Ok(()) if described.encoding != Encoding::Delta => {
                worker.store_plain(chunk.kind, &bytes)?;
            }
            Ok(()) => drop(worker.store(chunk.kind, &bytes)?),
            Err(error) if error.is_damage() => return Err(damage),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
