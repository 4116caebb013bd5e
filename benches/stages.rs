//! Speed of the single stages that a snapshot is made of, on made-up data.

use std::convert::Infallible;
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
use gabion::format::parity::Layout;
use gabion::id::{ChunkId, PackId, RepositoryId};
use gabion::parity::{Lost, encode, rebuild};

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

/// Of a pack of the usual length, in memory: what the finisher of packs and a repair compute.
fn parity(c: &mut Criterion) {
    let pack = text(64 * MIB);
    let read = |offset: u64, bytes: &mut [u8]| -> Result<(), Infallible> {
        let start = usize::try_from(offset).expect("an offset in memory");
        bytes.copy_from_slice(&pack[start..start + bytes.len()]);
        Ok(())
    };
    let mut group = c.benchmark_group("parity");
    group.throughput(Throughput::Bytes(pack.len() as u64)).sample_size(10);
    for per_mille in [10, 30, 100, 250] {
        let layout = Layout::for_pack(pack.len() as u64, per_mille).expect("within the limits");
        let id = PackId([1; 16]);
        group.bench_function(format!("encode at {per_mille} per mille"), |b| {
            b.iter(|| encode(id, layout, read));
        });
        let Ok(parity) = encode(id, layout, read);
        let lost =
            Lost::new((0..layout.parity_shards()).map(|n| n * 3 % layout.data_shards()).collect());
        let len = layout.shard_len() as usize;
        let read = |shard: u32, at: usize, bytes: &mut [u8]| -> Result<(), Infallible> {
            let (from, start) = match shard.checked_sub(layout.data_shards()) {
                None => (&pack, shard as usize * len + at),
                Some(shard) => (&parity.shards, shard as usize * len + at),
            };
            bytes.copy_from_slice(&from[start..start + bytes.len()]);
            Ok(())
        };
        group.bench_function(format!("rebuild at {per_mille} per mille"), |b| {
            b.iter(|| rebuild(&parity.head, &lost, read, |_| Ok(())).expect("it can be found"));
        });
    }
    group.finish();
}

criterion_group!(stages, bytes, pages, parity);
criterion_main!(stages);
