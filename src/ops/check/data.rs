//! Reading packs whole: every block opened and decoded, every chunk compared with its id.

use rayon::prelude::*;

use super::parity;
use super::picture::Picture;
use super::report::Report;
use super::verified::Verified;
use crate::format::pack::Footer;
use crate::ops::OpError;
use crate::repo::index::PackFooter;
use crate::repo::{PackReader, check_block};
use crate::storage::ObjectName;

/// Reads the packs with these numbers; returns how many stored bytes of blocks that were.
pub(super) fn check(
    report: &Report<'_>,
    picture: &Picture,
    chosen: &[u32],
    verified: &mut Verified,
) -> Result<u64, OpError> {
    let bytes = chosen.iter().map(|no| picture.packs[*no as usize].len).sum();
    if !chosen.is_empty() {
        report.total(chosen.len() as u64, bytes);
    }
    let mut reader = PackReader::new(report.repository);
    let mut bytes_read = 0;
    for &no in chosen {
        report.go_on()?;
        if verified.is_late() {
            break;
        }
        let len = picture.packs[no as usize].len;
        let mut done = 0;
        if let Some(pack) = picture.footer(report, &mut reader, no)? {
            done = check_pack(report, picture, no, &pack)?;
        }
        // Directly after its blocks, while the system still has its bytes in memory.
        parity::check_shards(report, &picture.packs[no as usize])?;
        verified.note(picture.packs[no as usize].id, done > 0 && !picture.is_damaged(no));
        bytes_read += done;
        report.progress(1, len.saturating_sub(done));
    }
    Ok(bytes_read)
}

/// Reads one pack, its blocks on all threads: a block is all the memory that each takes.
fn check_pack(
    report: &Report<'_>,
    picture: &Picture,
    no: u32,
    pack: &PackFooter,
) -> Result<u64, OpError> {
    let blocks = 0..u32::try_from(pack.footer.blocks.len()).unwrap_or(u32::MAX);
    let lens = blocks.into_par_iter().map_init(
        || (PackReader::new(report.repository), Vec::new()),
        |(reader, plain), block| {
            report.go_on()?;
            check_one(report, picture, no, pack, block, reader, plain)?;
            let len = u64::from(pack.footer.blocks[block as usize].stored_len);
            report.progress(0, len);
            Ok(len)
        },
    );
    lens.try_reduce(|| 0, |a, b| Ok(a + b))
}

fn check_one(
    report: &Report<'_>,
    picture: &Picture,
    no: u32,
    pack: &PackFooter,
    block: u32,
    reader: &mut PackReader<'_>,
    plain: &mut Vec<u8>,
) -> Result<(), OpError> {
    let listed = &pack.footer.blocks[block as usize];
    let place = pack.location(listed.first_chunk);
    if !picture.read_block(report, reader, no, pack, &place, plain)? {
        return Ok(());
    }
    let chunks = pack.footer.chunks_of(listed);
    let wrong = check_block(report.repository, plain, chunks);
    if wrong.is_empty() {
        return Ok(());
    }
    for (chunk, at) in chunks.iter().zip(listed.first_chunk..) {
        if wrong.contains(&(chunk.kind, chunk.id)) {
            picture.mark_chunk(no, at);
        }
    }
    let (count, name) = (wrong.len(), ObjectName::pack(pack.id));
    report.problem(name, format!("{count} chunks of block {block} are not what their ids say"));
    Ok(())
}

/// Notes and reports, once, that a block cannot be read.
pub(super) fn block_is_bad(
    report: &Report<'_>,
    picture: &Picture,
    no: u32,
    pack: &PackFooter,
    block: u32,
    reason: String,
) -> Result<(), OpError> {
    let is_new = picture.mark_block(no, block, &pack.footer);
    if is_new && !report.is_gone(ObjectName::pack(pack.id)) {
        let what = cost(&pack.footer, block);
        let reason = if reason.contains(&format!("block {block}")) {
            reason
        } else {
            format!("block {block}: {reason}")
        };
        report.problem(ObjectName::pack(pack.id), format!("{reason} ({what})"));
    }
    Ok(())
}

fn cost(footer: &Footer, block: u32) -> String {
    let block = &footer.blocks[block as usize];
    format!("{} chunks with {} plain bytes", block.chunk_count, block.plain_len)
}
