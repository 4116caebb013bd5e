//! Sorted id runs: files that map chunk ids to pack and position, looked at through a memory map,
//! so that a lookup among a hundred million chunks takes no heap.
//!
//! A run is derived and not trusted: its header and length are checked when it is opened, and what
//! it says about a chunk is either compared with the pack's authenticated footer before it is used,
//! or lies in a block of entries whose keyed checksum was found right.
//!
//! What a lookup costs is the memory that it has to wait for. Most ids are in no run, or in one of
//! many. So behind the entries lies a table of those whose ids begin alike: where they are, and one
//! byte of each, all in one line of the processor's cache. A run that does not have an id says so
//! after one look, and entries are looked at only where the byte fits.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use zeroize::Zeroizing;

use crate::id::ChunkId;

const MAGIC: [u8; 8] = *b"gabidru4";
const HEADER_LEN: u64 = 24;
const ID_LEN: usize = 32;
const ENTRY_LEN: usize = ID_LEN + 8;
/// Entries that share a slot of the table, on average: so many at least, and less than twice as
/// many, which hardly ever are more than have room in it.
const ENTRIES_PER_SLOT: u64 = 8;
/// Bytes of a slot: where its entries begin, how many they are, a byte of each.
const SLOT_LEN: usize = 32;
/// Entries whose bytes have room in a slot.
const MAX_HINTS: usize = SLOT_LEN - 5;
/// In the place of how many: too many, all of which are to be looked at.
const OVERFULL: u8 = u8::MAX;
/// Bytes that the processor fetches at once: slots do not lie across.
const CACHE_LINE: u64 = 64;
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

/// The slot of a run in which an id may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    number: u64,
    /// The position of the first of its entries.
    start: u64,
    /// How many they are, or [`OVERFULL`].
    count: u8,
}

/// Where the parts of a run of so many entries begin, in bytes. Behind the header come the
/// entries, the slots, the checksums of blocks.
#[derive(Debug, Clone, Copy)]
struct Layout {
    count: u64,
    /// Bits of an id that choose its slot.
    bits: u32,
    slots: u64,
    checks: u64,
    end: u64,
}

impl Layout {
    /// Nothing where no file can be so long.
    fn new(count: u64, bits: u32) -> Option<Self> {
        let entries = count.checked_mul(ENTRY_LEN as u64)?.checked_add(HEADER_LEN)?;
        let slots = entries.checked_next_multiple_of(CACHE_LINE)?;
        // And one behind the last, which says where its entries end.
        let slot_count = 1u64.checked_shl(bits).filter(|slots| *slots < 1 << 40)? + 1;
        let checks = slots.checked_add(slot_count * SLOT_LEN as u64)?;
        let blocks = count.div_ceil(ENTRIES_PER_BLOCK);
        let end = blocks.checked_mul(CHECK_LEN as u64)?.checked_add(checks)?;
        Some(Self { count, bits, slots, checks, end })
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

/// The slot that is being written.
#[derive(Default)]
struct OpenSlot {
    number: u64,
    start: u32,
    hints: Vec<u8>,
}

impl OpenSlot {
    /// Writes it and begins the next one, whose entries begin behind so many.
    fn end(&mut self, written: u32, slots: &mut impl Write) -> io::Result<()> {
        let mut slot = [0; SLOT_LEN];
        slot[..4].copy_from_slice(&self.start.to_le_bytes());
        slot[4] = OVERFULL;
        if let Some(room) = slot[5..].get_mut(..self.hints.len()) {
            room.copy_from_slice(&self.hints);
            slot[4] = u8::try_from(self.hints.len()).unwrap_or(OVERFULL);
        }
        (self.number, self.start) = (self.number + 1, written);
        self.hints.clear();
        slots.write_all(&slot)
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
        let [mut out, mut slots] = [part(0)?, part(layout.slots)?];
        let mut checks = part(layout.checks)?;
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_le_bytes())?;
        out.write_all(&u64::from(bits).to_le_bytes())?;
        let (mut block, mut slot, mut written) = (Block::default(), OpenSlot::default(), 0u32);
        for entry in entries {
            while slot.number < layout.slot(&entry.0.0) {
                slot.end(written, &mut slots)?;
            }
            slot.hints.push(hint(&entry.0.0));
            block.push(entry);
            if block.is_full() {
                block.end(key, &mut out, &mut checks)?;
            }
            written = written.checked_add(1).ok_or_else(too_many)?;
        }
        if !block.entries.is_empty() {
            block.end(key, &mut out, &mut checks)?;
        }
        while slot.number <= 1 << bits {
            slot.end(written, &mut slots)?;
        }
        if u64::from(written) != count {
            return Err(io::Error::other("the entries were miscounted"));
        }
        [out, slots, checks].iter_mut().try_for_each(Write::flush)
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

    /// The bytes of slot `number`.
    fn raw_slot(&self, number: u64) -> &[u8] {
        self.bytes(self.layout.slots + number * SLOT_LEN as u64, SLOT_LEN as u64)
    }

    /// Where the entries of slot `number` begin.
    fn start(&self, number: u64) -> u64 {
        let bytes = self.raw_slot(number)[..4].try_into().unwrap_or_default();
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
    pub(super) fn slot(&self, id: &ChunkId) -> Slot {
        let number = self.layout.slot(&id.0);
        Slot { number, start: self.start(number), count: self.raw_slot(number)[4] }
    }

    /// All places the run has for `id`, whose slot this is, each with its position.
    pub(super) fn places<'a>(
        &'a self,
        id: &ChunkId,
        slot: Slot,
    ) -> impl Iterator<Item = (u64, Place)> + use<'a> {
        let id = *id;
        let (end, hints) = match usize::from(slot.count) {
            0..=MAX_HINTS => {
                let hints = &self.raw_slot(slot.number)[5..5 + usize::from(slot.count)];
                (slot.start + u64::from(slot.count), hints)
            }
            _ => (self.start(slot.number + 1), &[][..]),
        };
        let hint = hint(&id.0);
        let mut hints = hints.iter();
        let fitting = (slot.start..end.min(self.layout.count))
            .filter(move |_| hints.next().is_none_or(|byte| *byte == hint));
        let entries = fitting.map(|at| (at, self.entry(at)));
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
        let found = run.places(id, run.slot(id));
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

    /// Ids are keyed hashes, which nobody can choose; what lies in a cache may have been made up.
    #[test]
    fn ids_that_begin_alike_are_found_however_many_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for count in [MAX_HINTS, MAX_HINTS + 1, 254, 255, 256, 600] {
            let alike = |n: usize| {
                let mut id = [7; ID_LEN];
                let bytes = [n / 256, n % 256, n % 3].map(|byte| u8::try_from(byte).unwrap());
                [id[8], id[9], id[ID_LEN - 1]] = bytes;
                ChunkId(id)
            };
            let place = |n: usize| Place { pack: 1, chunk: u32::try_from(n).unwrap() };
            let entries: Vec<RunEntry> = (0..count).map(|n| (alike(n), place(n))).collect();
            let path = folder.path().join(count.to_string());
            Run::write(&path, &KEY, count as u64, entries).unwrap();
            let run = Run::open(&path, &KEY).unwrap();
            assert!((0..count).all(|n| places(&run, &alike(n)) == [place(n)]), "{count}");
            assert!((count..count + 9).all(|n| places(&run, &alike(n)).is_empty()), "{count}");
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
                for (at, place) in run.places(&id, run.slot(&id)) {
                    assert!(!run.is_sound(at) || place == true_place(n), "byte {at}");
                }
            }
        }
        let foreign = Run::open(&folder.path().join("good"), &[6; 32]).unwrap();
        assert!((0..100).all(|at| !foreign.is_sound(at)));
    }
}
