//! What an index of very many chunks costs: memory, room in the cache folder, and lookups.
//!
//! `cargo bench --bench index_scale -- 1000000 100000000` makes an index of each of these numbers
//! of chunks in $TMPDIR (about 80 bytes each), as packs of a repository would fill it, and prints a
//! line for it. Without numbers it takes a hundred thousand. Memory is that of a process which only
//! opens the index and looks chunks up; what is shared with the page cache is not counted.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

mod support;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gabion::id::{ChunkId, RepositoryId};
use gabion::repo::index::{CacheFolder, Index};
use support::{CHUNKS_OF_A_PACK, chunk_id, pack};

const ID: RepositoryId = RepositoryId([7; 16]);
const CHECK_KEY: [u8; 32] = [3; 32];
const LOOKUPS: u64 = 1_000_000;
/// How the program calls itself to look chunks up in a fresh process.
const LOOK_UP: &str = "look-up-in";

fn open(folder: &Path) -> Index {
    Index::open(Some(CacheFolder::new(folder, ID)), ID, &CHECK_KEY).expect("an index")
}

/// A figure of this process's memory, in megabytes.
fn memory(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's own status");
    let line = status.lines().find(|line| line.starts_with(figure)).expect("the figure");
    let kilobytes: u64 =
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kilobytes / 1024
}

fn size(folder: &Path) -> u64 {
    let items = walkdir::WalkDir::new(folder).into_iter();
    items.map(|item| item.expect("readable").metadata().expect("there").len()).sum()
}

/// Nanoseconds that this process had a processor so far.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("the process's own times");
    stat.split(' ').next().and_then(|text| text.parse().ok()).expect("a number")
}

/// Nanoseconds of a processor for one lookup of those that `ids` gives.
fn lookup(index: &Index, found: bool, ids: impl Fn(u64) -> u64) -> u64 {
    let ids: Vec<ChunkId> = (0..LOOKUPS).map(|n| chunk_id(ids(n))).collect();
    let started = processor_time();
    for id in &ids {
        assert_eq!(black_box(index.holder(id)).expect("a whole index").is_some(), found);
    }
    (processor_time() - started) / LOOKUPS
}

fn look_up(folder: &Path, count: u64) {
    let started = Instant::now();
    let index = open(folder);
    let opened = started.elapsed();
    assert_eq!(index.chunk_count(), count);
    // Ids that are not there, then neighbours, then any. What the first has brought into memory
    // serves the others, as in a long run.
    let new = lookup(&index, false, |n| count + n);
    let before = memory("RssAnon");
    let next = lookup(&index, true, |n| n % count);
    let any = lookup(&index, true, |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count);
    println!(
        "open {:.0} ms; a new chunk {new} ns, one in the order of packs {next} ns, any {any} ns; \
         {before} MB of memory for new ones, {} MB for all",
        opened.as_secs_f64() * 1e3,
        memory("RssAnon"),
    );
}

fn make(count: u64) {
    let place = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let (mut index, mut most) = (open(place.path()), 0);
    for number in 0..count / CHUNKS_OF_A_PACK {
        index.add(None, &[pack(number)]).expect("room");
        if number % 10 == 0 {
            most = memory("RssAnon").max(most);
        }
    }
    let made = started.elapsed().as_secs_f64();
    drop(index);
    println!(
        "{count} chunks: made in {made:.1} s with {most} MB of memory, {} MB in the cache folder",
        size(place.path()) / 1_000_000,
    );
    let own = std::env::current_exe().expect("this program");
    let mut child = Command::new(own);
    let status = child.arg(LOOK_UP).arg(place.path()).arg(count.to_string()).status();
    assert!(status.expect("a process").success());
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |text: &String| text.parse::<u64>().expect("a number of chunks");
    match &args[..] {
        [command, folder, count] if command == LOOK_UP => {
            look_up(Path::new(folder), number(count));
        }
        [] => make(100_000),
        counts => counts.iter().map(number).for_each(make),
    }
}
