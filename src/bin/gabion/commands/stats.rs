//! `gabion stats`: what snapshots hold and what the repository stores for it.

use gabion::ops::stats::{Stats, stats};
use gabion::repo::PackClass;
use serde::Serialize;

use crate::commands::find::chosen;
use crate::errors::{Exit, Failure};
use crate::output::{Output, one_json};
use crate::render::values::{count, size};
use crate::session::Session;

/// Show how much snapshots hold and how much is stored for it
///
/// What cannot be counted because of damage is named, and the program ends with 13.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion stats
  gabion stats latest
  gabion stats --json")]
pub(crate) struct Args {
    /// Count these snapshots [default: all]
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StatsDocument {
    snapshots: u64,
    entries: u64,
    bytes: u64,
    unique_chunks: u64,
    unique_bytes: u64,
    pages: u64,
    page_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    stored_content_bytes: u64,
    plain_content_bytes: u64,
    stored_page_bytes: u64,
    plain_page_bytes: u64,
    segments: u64,
    segment_bytes: u64,
    other_bytes: u64,
    stored_bytes: u64,
    compression_ratio: Option<f64>,
    dedup_ratio: Option<f64>,
    problems: u64,
}

/// Counts and prints.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let repository = session.open_with_index()?.repository;
    let (snapshots, damaged) = chosen(session, &repository, &args.snapshots)?;
    let mut stats = stats(&repository, &snapshots)?;
    stats.problems += damaged;
    let exit = if stats.problems > 0 { Exit::Damage } else { Exit::Done };
    session.console.finish();
    if session.json() {
        one_json(&StatsDocument::from(stats))?;
        return Ok(exit);
    }
    let mut output = Output::new();
    for (name, value) in lines(&stats) {
        output.line(format!("{name:<18} {value:>12}"))?;
    }
    output.finish()?;
    Ok(exit)
}

fn lines(stats: &Stats) -> Vec<(&'static str, String)> {
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut lines = vec![
        ("snapshots", count(stats.snapshots)),
        ("entries", count(stats.entries)),
        ("size as restored", size(stats.bytes)),
        ("different chunks", count(stats.unique_chunks)),
        ("size of these", size(stats.unique_bytes)),
        ("deduplication", ratio(stats.dedup_ratio())),
        ("compression", ratio(stats.compression_ratio())),
        ("packs", count(stats.packs)),
        ("stored contents", size(stats.stored_blocks[PackClass::Content as usize])),
        ("stored pages", size(stats.stored_blocks[PackClass::Pages as usize])),
        ("stored otherwise", size(stats.overhead())),
        ("stored in all", size(stats.stored_bytes())),
    ];
    if stats.problems > 0 {
        lines.push(("PROBLEMS", count(stats.problems)));
    }
    lines
}

impl From<Stats> for StatsDocument {
    fn from(stats: Stats) -> Self {
        let (content, pages) = (PackClass::Content as usize, PackClass::Pages as usize);
        Self {
            snapshots: stats.snapshots,
            entries: stats.entries,
            bytes: stats.bytes,
            unique_chunks: stats.unique_chunks,
            unique_bytes: stats.unique_bytes,
            pages: stats.pages,
            page_bytes: stats.page_bytes,
            packs: stats.packs,
            pack_bytes: stats.pack_bytes,
            stored_content_bytes: stats.stored_blocks[content],
            plain_content_bytes: stats.plain_blocks[content],
            stored_page_bytes: stats.stored_blocks[pages],
            plain_page_bytes: stats.plain_blocks[pages],
            segments: stats.segments,
            segment_bytes: stats.segment_bytes,
            other_bytes: stats.other_bytes,
            stored_bytes: stats.stored_bytes(),
            compression_ratio: stats.compression_ratio(),
            dedup_ratio: stats.dedup_ratio(),
            problems: stats.problems,
        }
    }
}
