//! Bits of every byte of every object of a small repository, flipped one at a time: either the
//! check reports it or everything reads back exactly. Never a panic, never a wrong byte.
//!
//! An ordinary run flips one bit of each byte, another one in each kind of repository; with
//! `GABION_EVERY_BIT=1 cargo test --release --test it bit_flips` it is every single bit.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use gabion::event::Recorder;
use gabion::ops::check::ReadData;
use gabion::repo::{RepositoryError, Unlock};
use gabion::storage::{MemoryStorage, ObjectKind};

use crate::small::{copy, key_file, open, problems, read_back};
use crate::specimen::{Specimen, checked, specimen};

/// Whether the check found the damage; panics when something wrong came back, or when something
/// did not come back that the check did not miss.
fn found(unlock: &Unlock, specimen: &Specimen, storage: &MemoryStorage, what: &str) -> bool {
    let recorder = Arc::new(Recorder::default());
    // No single bit keeps a repository from opening: what is needed for that is kept twice.
    let repository = open(storage, unlock, None, recorder.clone());
    let repository = repository.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let summary = checked(&repository, ReadData::All);
    let found = summary.problems > 0;
    assert!(problems(&recorder).len() as u64 >= summary.problems);
    let (snapshots, _) = repository.snapshots().unwrap();
    for (snapshot, files) in &specimen.taken {
        let Some(read) = snapshots.iter().find(|read| read.id == snapshot.id) else {
            assert!(found, "{what}: a snapshot is gone unnoticed");
            continue;
        };
        assert_eq!(read, snapshot, "{what}");
        match read_back(&repository, read) {
            Ok(read) => assert_eq!(read, *files, "{what}"),
            Err(
                RepositoryError::Damaged { .. }
                | RepositoryError::MissingChunk(_)
                | RepositoryError::NewerFormat { .. },
            ) => assert!(found, "{what}: damage went unnoticed"),
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
    found
}

/// Flips the bits of all bytes; of each byte only one, `shift` away from its position, unless
/// every bit is asked for.
fn flip_bits(unlock: &Unlock, shift: usize) {
    let every = std::env::var_os("GABION_EVERY_BIT").is_some();
    let per_byte = if every { 8 } else { 1 };
    let specimen = specimen(unlock);
    assert!(!found(unlock, &specimen, &specimen.storage, "nothing flipped"));
    let kinds: std::collections::BTreeSet<ObjectKind> =
        specimen.storage.names().into_iter().map(|name| name.kind).collect();
    let expected = if matches!(unlock, Unlock::Nothing) { 9 } else { 11 };
    assert_eq!(kinds.len(), expected, "{kinds:?}");
    let harmless = AtomicU64::new(0);
    let mut flips = 0;
    for name in specimen.storage.names() {
        let good = specimen.storage.get(name).unwrap();
        flips += good.len() * per_byte;
        // Plain threads: a check has a pool of its own, and must not run in another's.
        on_all_threads(good.len() * per_byte, |turn| {
            let bit = if every { turn } else { turn * 8 + (turn + shift) % 8 };
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let storage = copy(&specimen.storage);
            storage.put(name, bytes);
            let what = format!("bit {} of byte {} of {name}", bit % 8, bit / 8);
            if !found(unlock, &specimen, &storage, &what) {
                harmless.fetch_add(1, Relaxed);
            }
        });
    }
    // Nothing in a repository is without meaning: no flip at all is harmless.
    assert_eq!(harmless.into_inner(), 0);
    assert!(flips > 5_000 * per_byte, "{flips} flips");
}

fn on_all_threads(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|at| *at < count) {
                    work(at);
                }
            });
        }
    });
}

#[test]
fn of_a_sealed_repository() {
    flip_bits(&key_file(), 0);
}

#[test]
fn of_a_plaintext_repository() {
    flip_bits(&Unlock::Nothing, 3);
}
