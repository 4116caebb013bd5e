//! Sorted id runs: files that map chunk ids to pack and position, looked at through a memory map,
//! so that a lookup among a hundred million chunks takes no heap and about 0.1 µs.
//!
//! A run is derived and not trusted: its header and length are checked when it is opened, and what
//! it says about a chunk is compared with the pack's authenticated footer before it is used.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use memmap2::Mmap;

use crate::id::ChunkId;

const MAGIC: [u8; 8] = *b"gabidrun";
const HEADER_LEN: usize = 24;
const ENTRY_LEN: usize = 24;
const PREFIX_LEN: usize = 16;
/// Entries that share a slot of the table of starts: few enough for a short binary search, enough
/// to keep the table small beside the entries.
const ENTRIES_PER_SLOT: u64 = 16;

/// Where a run says a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The catalogue's number of the pack.
    pub(super) pack: u32,
    /// The position of the chunk in the pack's footer.
    pub(super) chunk: u32,
}

/// An id prefix with its place: what runs hold, sorted.
pub(super) type RunEntry = ([u8; PREFIX_LEN], Place);

/// The part of an id that runs keep.
pub(super) fn prefix(id: &ChunkId) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes.copy_from_slice(&id.0[..PREFIX_LEN]);
    bytes
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    map: Mmap,
    count: u64,
    bits: u32,
}

fn leading(prefix: &[u8], bits: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&prefix[..8]);
    // Ids are read as numbers with the first byte highest, so that number order is byte order.
    bytes.reverse();
    if bits == 0 { 0 } else { u64::from_le_bytes(bytes) >> (64 - bits) }
}

impl Run {
    /// Writes the run of `count` entries (sorted by prefix, then place) to the new file at `path`.
    pub(super) fn write(
        path: &Path,
        count: u64,
        entries: impl IntoIterator<Item = RunEntry>,
    ) -> io::Result<()> {
        let bits = (count / ENTRIES_PER_SLOT).max(1).ilog2();
        let mut out = BufWriter::new(File::create_new(path)?);
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_le_bytes())?;
        out.write_all(&u64::from(bits).to_le_bytes())?;
        let slots = usize::try_from(1u64 << bits).map_err(io::Error::other)?;
        let mut starts: Vec<u32> = Vec::with_capacity(slots + 1);
        let mut written = 0u32;
        for (prefix, place) in entries {
            while starts.len() as u64 <= leading(&prefix, bits) {
                starts.push(written);
            }
            out.write_all(&prefix)?;
            out.write_all(&place.pack.to_le_bytes())?;
            out.write_all(&place.chunk.to_le_bytes())?;
            written = written.checked_add(1).ok_or_else(|| io::Error::other("too many chunks"))?;
        }
        starts.resize(slots + 1, written);
        for start in starts {
            out.write_all(&start.to_le_bytes())?;
        }
        out.flush()
    }

    /// Opens the run at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
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
        let bits = u32::try_from(bits).ok().filter(|bits| *bits < 40).ok_or_else(bad)?;
        let expected = (HEADER_LEN as u64)
            .checked_add(((1u64 << bits) + 1) * 4)
            .and_then(|sum| count.checked_mul(ENTRY_LEN as u64)?.checked_add(sum));
        if map[..8] != MAGIC || expected != Some(map.len() as u64) {
            return Err(bad());
        }
        Ok(Self { map, count, bits })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    fn slot(&self, slot: u64) -> u64 {
        let slots = HEADER_LEN as u64 + self.count * ENTRY_LEN as u64;
        let at = usize::try_from(slots + slot * 4).unwrap_or(usize::MAX);
        let bytes = self.map[at..at + 4].try_into().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes)).min(self.count)
    }

    fn raw(&self, at: u64) -> &[u8] {
        let start = HEADER_LEN as u64 + at * ENTRY_LEN as u64;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        &self.map[start..start + ENTRY_LEN]
    }

    /// The entry at position `at`, below [`Self::len`].
    pub(super) fn entry(&self, at: u64) -> RunEntry {
        let raw = self.raw(at);
        let number = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap_or_default());
        let mut prefix = [0; PREFIX_LEN];
        prefix.copy_from_slice(&raw[..PREFIX_LEN]);
        (prefix, Place { pack: number(PREFIX_LEN), chunk: number(PREFIX_LEN + 4) })
    }

    /// All places the run has for `id`'s prefix.
    pub(super) fn places<'a>(&'a self, id: &ChunkId) -> impl Iterator<Item = Place> + use<'a> {
        let wanted = prefix(id);
        let slot = leading(&wanted, self.bits);
        let (mut low, end) = (self.slot(slot), self.slot(slot + 1));
        let mut high = end;
        while low < high {
            let middle = low.midpoint(high);
            if self.raw(middle)[..PREFIX_LEN] < wanted[..] {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..end).map(|at| self.entry(at)).take_while(move |e| e.0 == wanted).map(|e| e.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn written(folder: &Path, name: &str, count: u32) -> Run {
        let mut entries: Vec<RunEntry> = (0..count)
            .map(|n| (prefix(&id(u64::from(n))), Place { pack: n / 10, chunk: n }))
            .collect();
        entries.sort_unstable();
        let path = folder.join(name);
        Run::write(&path, u64::from(count), entries).unwrap();
        Run::open(&path).unwrap()
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, 7, 8, 100, 10_000] {
            let run = written(folder.path(), &count.to_string(), count);
            assert_eq!(run.len(), u64::from(count));
            for n in 0..count {
                let places: Vec<Place> = run.places(&id(u64::from(n))).collect();
                assert_eq!(places, [Place { pack: n / 10, chunk: n }]);
            }
            assert!((100_000..100_100).all(|n| run.places(&id(n)).next().is_none()));
        }
    }

    #[test]
    fn every_place_of_a_duplicate_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = |pack| Place { pack, chunk: 0 };
        let entries = [(prefix(&id(1)), place(1)), (prefix(&id(1)), place(2))];
        Run::write(&folder.path().join("r"), 2, entries).unwrap();
        let run = Run::open(&folder.path().join("r")).unwrap();
        assert_eq!(run.places(&id(1)).collect::<Vec<_>>(), [place(1), place(2)]);
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused_and_damage_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        drop(written(folder.path(), "good", 100));
        let good = std::fs::read(folder.path().join("good")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "plants damage")]
        let open = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            Run::open(&folder.path().join(name))
        };
        assert!(open("cut", &good[..good.len() - 1]).is_err());
        assert!(open("foreign", b"SQLite format 3\0").is_err());
        assert!(open("empty", b"").is_err());
        for at in HEADER_LEN..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let run = open("bad", &bad).unwrap();
            for n in 0..100 {
                let _ = run.places(&id(n)).count();
            }
        }
    }
}
