//! Speed of the single stages that a snapshot is made of, on made-up data.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gabion::chunk::Chunker;
use gabion::codec::Codec;
use gabion::crypto::ChunkKind;
use gabion::crypto::keys::{Keys, MasterKey};
use gabion::crypto::seal::{ObjectHeader, ObjectSealer, ObjectType, PartKind, Sealing};
use gabion::format::config::Config;
use gabion::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata, Owner, Timestamp};
use gabion::format::page::Leaf;
use gabion::id::{ChunkId, RepositoryId};

const MIB: usize = 1 << 20;

/// Lines of numbers: compresses about as well as the output of a simulation.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = state >> 44;
        bytes
            .extend_from_slice(format!("   {:>12}.{:06}  energy\n", value % 997, value).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn bytes(c: &mut Criterion) {
    let keys = Keys::derive(&MasterKey::random());
    let config = Config::new(RepositoryId::random(), Sealing::None, String::new());
    let data = text(8 * MIB);
    let mut group = c.benchmark_group("bytes");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for (name, sizes) in [("files", config.chunker.files), ("streams", config.chunker.streams)] {
        let chunker = Chunker::new(sizes, &keys.chunker_gear());
        group.bench_function(format!("chunk {name}"), |b| {
            b.iter(|| {
                let mut rest = &data[..];
                while !rest.is_empty() {
                    rest = &rest[chunker.cut(rest)..];
                }
            });
        });
    }
    group.bench_function("hash in 64 KiB", |b| {
        b.iter(|| {
            for chunk in data.chunks(64 << 10) {
                black_box(keys.chunk_id(ChunkKind::Content, chunk));
            }
        });
    });
    let mut codec = Codec::new(1).expect("memory for a context");
    let mut stored = Vec::new();
    group.bench_function("compress and verify in 1 MiB", |b| {
        b.iter(|| {
            for block in data.chunks(MIB) {
                black_box(codec.encode(block, &mut stored).expect("zstd works"));
            }
        });
    });
    group.bench_function("seal in 1 MiB", |b| {
        b.iter(|| {
            let header = ObjectHeader::new(ObjectType::Pack, Sealing::Aes256Gcm, [1; 16]);
            let sealer = ObjectSealer::new(&keys, config.repository_id, &header);
            for (slot, block) in (0..).zip(data.chunks(MIB)) {
                stored.clear();
                stored.extend_from_slice(block);
                sealer.seal(PartKind::Block, slot, &mut stored);
            }
        });
    });
    group.finish();
}

fn entries(count: u64) -> Vec<Entry> {
    let owner = Arc::new(Owner { uid: 1000, gid: 1000, ..Owner::default() });
    let entry = |n: u64| {
        let nanos = u32::try_from(n * 977).unwrap_or(0);
        let time = Timestamp { seconds: 1_700_000_000, nanos };
        let meta = Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            owner: Arc::clone(&owner),
            mtime: time,
            ctime: time,
            inode: 5_000_000 + n,
            filesystem: 1,
            links: 1,
            size: 1700,
            device: 0,
            xattrs: [].into(),
            target: Box::default(),
            unsettled: false,
        };
        let id = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let content = Content::Items(vec![ContentItem::Chunk { id, len: 1700 }]);
        Entry { path: format!("node/{n:06}/path/aiida.out").into_bytes().into(), meta, content }
    };
    (0..count).map(entry).collect()
}

fn pages(c: &mut Criterion) {
    let entries = entries(256);
    let encoded = Leaf::encode(&entries);
    let mut group = c.benchmark_group("pages");
    group.throughput(Throughput::Elements(entries.len() as u64));
    group.bench_function("encode a leaf", |b| b.iter(|| Leaf::encode(black_box(&entries))));
    group.bench_function("decode a leaf", |b| {
        b.iter(|| Leaf::decode(black_box(encoded.clone())).expect("it was encoded just now"));
    });
    group.finish();
}

criterion_group!(stages, bytes, pages);
criterion_main!(stages);
