//! Sorted id runs: files that map chunk ids to pack and position, looked at through a memory map,
//! so that a lookup among a hundred million chunks takes no heap.
//!
//! A run is derived and not trusted: its header and length are checked when it is opened, and what
//! it says about a chunk is compared with the pack's authenticated footer before it is used.
//!
//! What a lookup costs is the memory that it has to wait for. Most ids are in no run, or in one of
//! many. So behind the entries lies one byte of each, and behind these a table of where the entries
//! begin whose ids begin alike: a run that does not have an id says so after a look at each of the
//! two, and entries are looked at only where the byte fits.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use memmap2::Mmap;

use crate::id::ChunkId;

const MAGIC: [u8; 8] = *b"gabidru2";
const HEADER_LEN: usize = 24;
const ENTRY_LEN: usize = 24;
const PREFIX_LEN: usize = 16;
/// Entries that share a slot of the table of starts, about: few enough for their bytes to lie in
/// one or two lines of the processor's cache.
const ENTRIES_PER_SLOT: u64 = 8;
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

/// An id prefix with its place: what runs hold, sorted.
pub(super) type RunEntry = ([u8; PREFIX_LEN], Place);

/// The part of an id that runs keep.
pub(super) fn prefix(id: &ChunkId) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes.copy_from_slice(&id.0[..PREFIX_LEN]);
    bytes
}

/// Positions of a run at which an id may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Range {
    start: u64,
    end: u64,
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    map: Mmap,
    count: u64,
    bits: u32,
}

/// The byte of a prefix that is looked at first; the slot says nothing about it.
fn hint(prefix: &[u8; PREFIX_LEN]) -> u8 {
    prefix[PREFIX_LEN - 1]
}

/// Length in bytes of what lies before the table of starts.
fn starts_offset(count: u64) -> Option<u64> {
    let entries = count.checked_mul(ENTRY_LEN as u64)?.checked_add(HEADER_LEN as u64)?;
    entries.checked_add(count.checked_next_multiple_of(8)?)
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
    /// They are read back twice for what lies behind them, so that it takes no memory.
    pub(super) fn write(
        path: &Path,
        count: u64,
        entries: impl IntoIterator<Item = RunEntry>,
    ) -> io::Result<()> {
        let bits = (count / ENTRIES_PER_SLOT).max(1).ilog2();
        let mut out = BufWriter::with_capacity(BUFFER, File::create_new(path)?);
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_le_bytes())?;
        out.write_all(&u64::from(bits).to_le_bytes())?;
        let mut written = 0u32;
        for (prefix, place) in entries {
            out.write_all(&prefix)?;
            out.write_all(&place.pack.to_le_bytes())?;
            out.write_all(&place.chunk.to_le_bytes())?;
            written = written.checked_add(1).ok_or_else(|| io::Error::other("too many chunks"))?;
        }
        if u64::from(written) != count {
            return Err(io::Error::other("the entries were miscounted"));
        }
        out.flush()?;
        for_each_prefix(path, count, |prefix| out.write_all(&[hint(prefix)]))?;
        let padding = count.next_multiple_of(8) - count;
        (0..padding).try_for_each(|_| out.write_all(&[0]))?;
        let (mut slots, mut at) = (0, 0u32);
        for_each_prefix(path, count, |prefix| {
            while slots <= leading(prefix, bits) {
                out.write_all(&at.to_le_bytes())?;
                slots += 1;
            }
            at += 1;
            Ok(())
        })?;
        (slots..=1 << bits).try_for_each(|_| out.write_all(&at.to_le_bytes()))?;
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
        let starts = ((1u64 << bits) + 1) * 4;
        let expected = starts_offset(count).and_then(|before| before.checked_add(starts));
        if map[..8] != MAGIC || expected != Some(map.len() as u64) {
            return Err(bad());
        }
        Ok(Self { map, count, bits })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Where entries begin whose ids begin with `slot`.
    fn start(&self, slot: u64) -> u64 {
        let at = starts_offset(self.count).unwrap_or(u64::MAX).saturating_add(slot * 4);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.map[at..at + 4].try_into().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes)).min(self.count)
    }

    /// The byte of each entry in `range`.
    fn hints(&self, range: Range) -> &[u8] {
        let hints = HEADER_LEN as u64 + self.count * ENTRY_LEN as u64;
        let at = |position| usize::try_from(hints + position).unwrap_or(usize::MAX);
        &self.map[at(range.start)..at(range.end)]
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

    /// Where `wanted` is if it is here.
    pub(super) fn range(&self, wanted: &[u8; PREFIX_LEN]) -> Range {
        let slot = leading(wanted, self.bits);
        let end = self.start(slot + 1);
        Range { start: self.start(slot).min(end), end }
    }

    /// All places the run has for `wanted`, whose range this is.
    pub(super) fn places<'a>(
        &'a self,
        wanted: &[u8; PREFIX_LEN],
        range: Range,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let wanted = *wanted;
        let fitting = (range.start..).zip(self.hints(range));
        let fitting = fitting.filter(move |(_, byte)| **byte == hint(&wanted));
        let entries = fitting.map(|(at, _)| self.entry(at));
        entries.filter(move |entry| entry.0 == wanted).map(|entry| entry.1)
    }
}

/// Reads the prefixes of the `count` entries of the unfinished run at `path`.
fn for_each_prefix(
    path: &Path,
    count: u64,
    mut take: impl FnMut(&[u8; PREFIX_LEN]) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(HEADER_LEN as u64))?;
    let mut entries = BufReader::with_capacity(BUFFER, file);
    let mut prefix = [0; PREFIX_LEN];
    let mut place = [0; ENTRY_LEN - PREFIX_LEN];
    for _ in 0..count {
        entries.read_exact(&mut prefix)?;
        entries.read_exact(&mut place)?;
        take(&prefix)?;
    }
    Ok(())
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

    fn places(run: &Run, id: &ChunkId) -> Vec<Place> {
        let wanted = prefix(id);
        run.places(&wanted, run.range(&wanted)).collect()
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
        let entries = [(prefix(&id(1)), place(1)), (prefix(&id(1)), place(2))];
        Run::write(&folder.path().join("r"), 2, entries).unwrap();
        let run = Run::open(&folder.path().join("r")).unwrap();
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
                let _ = places(&run, &id(n));
            }
        }
    }
}
