//! Speed of what a snapshot and a restore do with whole repositories and trees: taking chunks into
//! the index and looking them up, claiming them, walking, reading files, building a tree anew and
//! from an old one, and writing files.

mod support;

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gabion::crypto::ChunkKind;
use gabion::crypto::keys::{Keys, MasterKey};
use gabion::crypto::passphrase::KdfCosts;
use gabion::format::entry::{Content, Entry, EntryKind, Metadata, Timestamp};
use gabion::id::{ChunkId, RepositoryId};
use gabion::repo::index::{CacheFolder, Index};
use gabion::repo::{InitOptions, PackClass, Repository, Unlock, Writer};
use gabion::source::open::Roots;
use gabion::source::scan::{Scan, ScanOptions, Scanned};
use gabion::storage::MemoryStorage;
use gabion::target::{MetadataPolicy, TargetFolder};
use gabion::tree::{PageReader, TreeBuilder};
use support::{CHUNKS_OF_A_PACK, chunk_id, pack};
use tempfile::TempDir;

/// In memory where that is possible: the disk is not what is measured.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn index(c: &mut Criterion) {
    let (place, keys) = (folder(), Keys::derive(&MasterKey::random()));
    let id = RepositoryId::random();
    let cache = CacheFolder::new(place.path(), id);
    let mut index = Index::open(Some(cache), id, keys.cache_check()).expect("a new index");
    for number in 0..1_000_000 / CHUNKS_OF_A_PACK {
        index.add(None, &[pack(number)]).expect("room for a million chunks");
    }
    assert_eq!(index.chunk_count(), 1_000_000);
    let mut group = c.benchmark_group("index of 1 M chunks");
    group.throughput(Throughput::Elements(1000));
    for (name, first) in [("hit", 0), ("miss", 1_000_000)] {
        // Neighbours in a tree are neighbours in packs, most of the time.
        let ids: Vec<ChunkId> = (0..1000).map(|n| chunk_id(first + n * 10 % 1_000_000)).collect();
        group.bench_function(format!("is it new, {name}"), |b| {
            b.iter(|| {
                for id in &ids {
                    black_box(index.holder(id).expect("a whole index"));
                }
            });
        });
        group.bench_function(format!("where is it, {name}"), |b| {
            b.iter(|| {
                for id in &ids {
                    black_box(index.locate(id).expect("a whole index"));
                }
            });
        });
    }
    let mut next = 1_000_000 / CHUNKS_OF_A_PACK;
    let mut another = || {
        next += 1;
        pack(next)
    };
    group.sample_size(20).throughput(Throughput::Elements(CHUNKS_OF_A_PACK));
    group.bench_function("take in a pack", |b| {
        let take_in = |pack| index.add(None, &[pack]).expect("room for a pack");
        b.iter_batched(&mut another, take_in, BatchSize::PerIteration);
    });
    group.finish();
}

/// Hashing a small file's bytes and asking whether somebody stored, or is about to store, them.
fn claims(c: &mut Criterion) {
    let writer = Writer::new(&repository(), 1);
    let mut worker = writer.worker(PackClass::Content).expect("a worker");
    let mut bytes = [0; 2200];
    let mut group = c.benchmark_group("claims");
    group.throughput(Throughput::Elements(1));
    for (name, step) in [("new", 1u64), ("known", 0)] {
        let mut number = 0u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                number += step;
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                worker.claim(ChunkKind::Content, &bytes).expect("an index")
            });
        });
    }
    group.finish();
}

fn metadata(kind: EntryKind) -> Metadata {
    let time = Timestamp { seconds: 1_700_000_000, nanos: 5 };
    Metadata { inode: 1, filesystem: 1, ..Metadata::bare(kind, 0o644, time) }
}

fn small_file(n: u64) -> Entry {
    let mut meta = metadata(EntryKind::File);
    (meta.size, meta.inode) = (16, 5_000_000 + n);
    let content = Content::Inline(n.to_le_bytes().repeat(2).into());
    Entry { path: format!("node/{:03}/{n:06}", n / 1000).into_bytes().into(), meta, content }
}

fn repository() -> Arc<Repository> {
    let storage = MemoryStorage::new();
    let options = InitOptions {
        unlock: Unlock::Nothing,
        costs: KdfCosts::default(),
        label: String::new(),
        now: "2026-11-22T00:00:00Z".to_owned(),
        parity_per_mille: None,
        delta: false,
    };
    Repository::init(&storage, "memory", &options).expect("a repository");
    let opened =
        Repository::open(Arc::new(storage), "memory", &Unlock::Nothing, None, Arc::new(()));
    let repository = Arc::new(opened.expect("a repository"));
    repository.load_index().expect("an index");
    repository
}

/// A tree of 20 000 entries: built from entries, and again from its own pages with one entry of a
/// thousand changed, as a snapshot does.
fn trees(c: &mut Criterion) {
    const ENTRIES: u64 = 20_000;
    let repository = repository();
    let writer = Writer::new(&repository, 1);
    let build = || {
        let mut builder = TreeBuilder::new(&writer).expect("a builder");
        (0..ENTRIES).for_each(|n| builder.push(small_file(n)).expect("in order"));
        builder.finish().expect("room for pages").0
    };
    let root = build();
    writer.checkpoint().expect("room for pages");
    let mut group = c.benchmark_group("tree of 20 k entries");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES));
    group.bench_function("build", |b| b.iter(build));
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut cursor = PageReader::new(&repository).cursor(root);
            while let Some(entry) = cursor.next_entry().expect("whole pages") {
                black_box(entry);
            }
        });
    });
    group.bench_function("merge", |b| {
        b.iter(|| {
            let mut cursor = PageReader::new(&repository).cursor(root);
            let mut builder = TreeBuilder::new(&writer).expect("a builder");
            let mut n = 0;
            while let Some((page, at)) = cursor.peek().expect("whole pages") {
                if n % 1000 == 0 {
                    let mut entry = page.leaf.entry(at);
                    entry.meta.mtime.nanos += 1;
                    builder.push(entry).expect("in order");
                } else {
                    builder.push_same(page, at).expect("in order");
                }
                cursor.skip();
                n += 1;
            }
            builder.finish().expect("room for pages")
        });
    });
    group.finish();
}

/// Fills `place` with folders of a hundred files each.
fn fill(place: &Path, files: u64) {
    let target = TargetFolder::open(place).expect("it is there");
    let (meta, policy) = (metadata(EntryKind::File), MetadataPolicy::default());
    for n in 0..files {
        let folder = format!("{:04}", n / 100).into_bytes();
        if n % 100 == 0 {
            target.make_folder(&folder).expect("room for a folder");
        }
        let path = [&folder[..], format!("/{n:06}").as_bytes()].concat();
        let written = target.write_small(&path, &meta, b"what it holds", &policy, false);
        let _ = written.expect("room for a file");
    }
}

fn files(c: &mut Criterion) {
    const FILES: u64 = 5000;
    let place = folder();
    fill(place.path(), FILES);
    let mut group = c.benchmark_group("5000 files");
    group.sample_size(20).throughput(Throughput::Elements(FILES));
    group.bench_function("walk", |b| {
        b.iter(|| {
            let options = ScanOptions::new(vec![place.path().to_owned()]);
            let mut scan = Scan::start(options).expect("a folder");
            let mut found = 0;
            while let Some(step) = scan.next() {
                found += u64::from(matches!(step, Scanned::Entry { .. }));
            }
            assert!(found > FILES);
        });
    });
    let roots = Roots::open(&[place.path().to_owned()]).expect("a folder");
    let top = place.path().to_str().expect("a plain path").trim_start_matches('/');
    group.bench_function("read", |b| {
        let mut bytes = Vec::new();
        b.iter(|| {
            for n in 0..FILES {
                let path = format!("{top}/{:04}/{n:06}", n / 100);
                let file = roots.open_file(path.as_bytes()).expect("it is there");
                bytes.clear();
                File::from(file).read_to_end(&mut bytes).expect("a readable file");
                assert_eq!(bytes.len(), b"what it holds".len());
            }
        });
    });
    group.bench_function("restore", |b| {
        b.iter_batched(folder, |place| (fill(place.path(), FILES), place), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(whole, index, claims, trees, files);
criterion_main!(whole);
