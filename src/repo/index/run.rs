//! Sorted id runs: files that map chunk ids to pack and position, looked at through a memory map,
//! so that a lookup among a hundred million chunks takes no heap.
//!
//! A run is derived and not trusted: its header and length are checked when it is opened, and what
//! it says about a chunk is either compared with the pack's authenticated footer before it is used,
//! or lies in a block of entries whose keyed checksum was found right.
//!
//! What a lookup costs is the memory that it has to wait for. Most ids are in no run, or in one of
//! many. So behind the entries lies one byte of each, and behind these a table of where the entries
//! begin whose ids begin alike: a run that does not have an id says so after a look at each of the
//! two, and entries are looked at only where the byte fits.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use zeroize::Zeroizing;

use crate::id::ChunkId;

const MAGIC: [u8; 8] = *b"gabidru3";
const HEADER_LEN: u64 = 24;
const ID_LEN: usize = 32;
const ENTRY_LEN: usize = ID_LEN + 8;
/// Entries that share a slot of the table of starts, about: few enough for their bytes to lie in
/// one or two lines of the processor's cache.
const ENTRIES_PER_SLOT: u64 = 8;
/// Entries that share a checksum: about as much as a page of memory.
const ENTRIES_PER_BLOCK: u64 = 128;
const CHECK_LEN: usize = 32;
/// What the key makes checksums of here, and of nothing else.
const DOMAIN: &[u8] = b"gabion block of an id run";
/// Bytes that are read or written at once when a run is made.
const BUFFER: usize = 1 << 18;

/// Where a run says a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The catalogue's number of the pack.
    pub(super) pack: u32,
    /// The position of the chunk in the pack's footer.
    pub(super) chunk: u32,
}

/// An id with its place: what runs hold, sorted.
pub(super) type RunEntry = (ChunkId, Place);

/// Positions of a run at which an id may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Range {
    start: u64,
    end: u64,
}

/// Where the parts of a run of so many entries begin, in bytes. Behind the header come the
/// entries, the byte of each, the table of starts, the checksums of blocks.
#[derive(Debug, Clone, Copy)]
struct Layout {
    count: u64,
    /// Bits of an id that choose its slot.
    bits: u32,
    hints: u64,
    starts: u64,
    checks: u64,
    end: u64,
}

impl Layout {
    /// Nothing where no file can be so long.
    fn new(count: u64, bits: u32) -> Option<Self> {
        let hints = count.checked_mul(ENTRY_LEN as u64)?.checked_add(HEADER_LEN)?;
        let starts = hints.checked_add(count.checked_next_multiple_of(8)?)?;
        let slots = 1u64.checked_shl(bits).filter(|slots| *slots < 1 << 40)?;
        let checks = starts.checked_add((slots + 1) * 4)?.checked_next_multiple_of(8)?;
        let blocks = count.div_ceil(ENTRIES_PER_BLOCK);
        let end = blocks.checked_mul(CHECK_LEN as u64)?.checked_add(checks)?;
        Some(Self { count, bits, hints, starts, checks, end })
    }

    fn slot(&self, id: &[u8; ID_LEN]) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&id[..8]);
        // Ids are read as numbers with the first byte highest, so that number order is byte order.
        bytes.reverse();
        if self.bits == 0 { 0 } else { u64::from_le_bytes(bytes) >> (64 - self.bits) }
    }
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    map: Mmap,
    layout: Layout,
    key: Zeroizing<[u8; 32]>,
    /// A bit for each block whose checksum was found right.
    sound: Box<[AtomicU64]>,
}

/// The byte of an id that is looked at first; the slot says nothing about it.
fn hint(id: &[u8; ID_LEN]) -> u8 {
    id[ID_LEN - 1]
}

/// The checksum of a block of entries.
fn check(key: &[u8; 32], block: u64, entries: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(DOMAIN).update(&block.to_le_bytes()).update(entries).finalize()
}

/// The bytes of some entries of a run that is being written, up to a block.
#[derive(Default)]
struct Block {
    number: u64,
    entries: Vec<u8>,
}

impl Block {
    fn is_full(&self) -> bool {
        self.entries.len() as u64 == ENTRIES_PER_BLOCK * ENTRY_LEN as u64
    }

    fn push(&mut self, (id, place): RunEntry) {
        self.entries.extend_from_slice(&id.0);
        self.entries.extend_from_slice(&place.pack.to_le_bytes());
        self.entries.extend_from_slice(&place.chunk.to_le_bytes());
    }

    /// Writes it and its checksum, and begins the next one.
    fn end(
        &mut self,
        key: &[u8; 32],
        entries: &mut impl Write,
        checks: &mut impl Write,
    ) -> io::Result<()> {
        entries.write_all(&self.entries)?;
        checks.write_all(check(key, self.number, &self.entries).as_bytes())?;
        self.number += 1;
        self.entries.clear();
        Ok(())
    }
}

impl Run {
    /// Writes the run of `count` entries (sorted) to the new file at `path`. All parts are written
    /// at once, so that it takes no memory.
    pub(super) fn write(
        path: &Path,
        key: &[u8; 32],
        count: u64,
        entries: impl IntoIterator<Item = RunEntry>,
    ) -> io::Result<()> {
        let bits = (count / ENTRIES_PER_SLOT).max(1).ilog2();
        let too_many = || io::Error::other("too many chunks");
        let layout = Layout::new(count, bits).ok_or_else(too_many)?;
        File::create_new(path)?.set_len(layout.end)?;
        let part = |offset| {
            let mut file = File::options().write(true).open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok::<_, io::Error>(BufWriter::with_capacity(BUFFER, file))
        };
        let (mut out, mut hints) = (part(0)?, part(layout.hints)?);
        let (mut starts, mut checks) = (part(layout.starts)?, part(layout.checks)?);
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_le_bytes())?;
        out.write_all(&u64::from(bits).to_le_bytes())?;
        let (mut block, mut slots, mut written) = (Block::default(), 0, 0u32);
        for entry in entries {
            while slots <= layout.slot(&entry.0.0) {
                starts.write_all(&written.to_le_bytes())?;
                slots += 1;
            }
            hints.write_all(&[hint(&entry.0.0)])?;
            block.push(entry);
            if block.is_full() {
                block.end(key, &mut out, &mut checks)?;
            }
            written = written.checked_add(1).ok_or_else(too_many)?;
        }
        if !block.entries.is_empty() {
            block.end(key, &mut out, &mut checks)?;
        }
        (slots..=1 << bits).try_for_each(|_| starts.write_all(&written.to_le_bytes()))?;
        if u64::from(written) != count {
            return Err(io::Error::other("the entries were miscounted"));
        }
        [out, hints, starts, checks].iter_mut().try_for_each(Write::flush)
    }

    /// Opens the run at `path`.
    pub(super) fn open(path: &Path, key: &[u8; 32]) -> io::Result<Self> {
        let file = File::open(path)?;
        #[expect(unsafe_code, reason = "memory maps need it")]
        // SAFETY: the file is in this user's private cache and written once, under a name that is
        // never used again; nobody shortens it.
        let map = unsafe { Mmap::map(&file)? };
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an id run");
        let number = |at: usize| {
            let bytes = map.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(bad)
        };
        let (count, bits) = (number(8)?, number(16)?);
        let bits = u32::try_from(bits).map_err(|_| bad())?;
        let layout = Layout::new(count, bits).ok_or_else(bad)?;
        if map[..8] != MAGIC || layout.end != map.len() as u64 {
            return Err(bad());
        }
        let words = usize::try_from(count.div_ceil(ENTRIES_PER_BLOCK).div_ceil(64));
        let words = words.map_err(|_| bad())?;
        let sound = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { map, layout, key: Zeroizing::new(*key), sound })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> u64 {
        self.layout.count
    }

    fn bytes(&self, start: u64, len: u64) -> &[u8] {
        let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        &self.map[at(start)..at(start.saturating_add(len))]
    }

    /// Where entries begin whose ids begin with `slot`.
    fn start(&self, slot: u64) -> u64 {
        let bytes = self.bytes(self.layout.starts + slot * 4, 4).try_into().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes)).min(self.layout.count)
    }

    /// `count` entries from position `at` on, as they are stored.
    fn raw(&self, at: u64, count: u64) -> &[u8] {
        self.bytes(HEADER_LEN + at * ENTRY_LEN as u64, count * ENTRY_LEN as u64)
    }

    /// The entry at position `at`, below [`Self::len`].
    pub(super) fn entry(&self, at: u64) -> RunEntry {
        let raw = self.raw(at, 1);
        let number = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap_or_default());
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&raw[..ID_LEN]);
        (ChunkId(id), Place { pack: number(ID_LEN), chunk: number(ID_LEN + 4) })
    }

    /// Where `id` is if it is here.
    pub(super) fn range(&self, id: &ChunkId) -> Range {
        let slot = self.layout.slot(&id.0);
        let end = self.start(slot + 1);
        Range { start: self.start(slot).min(end), end }
    }

    /// All places the run has for `id`, whose range this is, each with its position.
    pub(super) fn places<'a>(
        &'a self,
        id: &ChunkId,
        range: Range,
    ) -> impl Iterator<Item = (u64, Place)> + use<'a> {
        let id = *id;
        let hints = self.bytes(self.layout.hints + range.start, range.end - range.start);
        let fitting = (range.start..).zip(hints).filter(move |(_, byte)| **byte == hint(&id.0));
        let entries = fitting.map(|(at, _)| (at, self.entry(at)));
        entries.filter(move |(_, entry)| entry.0 == id).map(|(at, entry)| (at, entry.1))
    }

    /// Whether the entry at position `at` is as it was written. Each block is hashed once.
    pub(super) fn is_sound(&self, at: u64) -> bool {
        let block = at / ENTRIES_PER_BLOCK;
        let word = usize::try_from(block / 64).ok().and_then(|word| self.sound.get(word));
        let Some(word) = word else { return false };
        let bit = 1 << (block % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return true;
        }
        let first = block * ENTRIES_PER_BLOCK;
        let entries = self.raw(first, ENTRIES_PER_BLOCK.min(self.layout.count - first));
        let due = self.bytes(self.layout.checks + block * CHECK_LEN as u64, CHECK_LEN as u64);
        let sound = check(&self.key, block, entries).as_bytes()[..] == *due;
        if sound {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [5; 32];

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn written(folder: &Path, name: &str, count: u32) -> Run {
        let mut entries: Vec<RunEntry> =
            (0..count).map(|n| (id(u64::from(n)), Place { pack: n / 10, chunk: n })).collect();
        entries.sort_unstable();
        let path = folder.join(name);
        Run::write(&path, &KEY, u64::from(count), entries).unwrap();
        Run::open(&path, &KEY).unwrap()
    }

    fn places(run: &Run, id: &ChunkId) -> Vec<Place> {
        let found = run.places(id, run.range(id));
        found.map(|(at, place)| run.is_sound(at).then_some(place)).map(Option::unwrap).collect()
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, 7, 8, 100, 10_000] {
            let run = written(folder.path(), &count.to_string(), count);
            assert_eq!(run.len(), u64::from(count));
            for n in 0..count {
                let found = places(&run, &id(u64::from(n)));
                assert_eq!(found, [Place { pack: n / 10, chunk: n }]);
            }
            assert!((100_000..100_100).all(|n| places(&run, &id(n)).is_empty()));
        }
    }

    #[test]
    fn every_place_of_a_duplicate_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = |pack| Place { pack, chunk: 0 };
        let entries = [(id(1), place(1)), (id(1), place(2))];
        Run::write(&folder.path().join("r"), &KEY, 2, entries).unwrap();
        let run = Run::open(&folder.path().join("r"), &KEY).unwrap();
        assert_eq!(places(&run, &id(1)), [place(1), place(2)]);
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused_and_damage_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        drop(written(folder.path(), "good", 100));
        let good = std::fs::read(folder.path().join("good")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "plants damage")]
        let open = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            Run::open(&folder.path().join(name), &KEY)
        };
        assert!(open("cut", &good[..good.len() - 1]).is_err());
        assert!(open("foreign", b"SQLite format 3\0").is_err());
        assert!(open("empty", b"").is_err());
        let true_place = |n: u32| Place { pack: n / 10, chunk: n };
        for at in 24..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let run = open("bad", &bad).unwrap();
            for n in 0..100 {
                let id = id(u64::from(n));
                for (at, place) in run.places(&id, run.range(&id)) {
                    assert!(!run.is_sound(at) || place == true_place(n), "byte {at}");
                }
            }
        }
        let foreign = Run::open(&folder.path().join("good"), &[6; 32]).unwrap();
        assert!((0..100).all(|at| !foreign.is_sound(at)));
    }
}
