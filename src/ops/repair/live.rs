//! Lost content that the live sources still have: files are read and cut as a snapshot would cut
//! them, and every piece whose id is wanted is given on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use super::Repair;
use crate::chunk::Chunker;
use crate::crypto::ChunkKind;
use crate::event::{Event, Problem};
use crate::format::entry::EntryKind;
use crate::format::path;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::source::scan::{Scan, ScanOptions, Scanned};
use crate::source::sparse::data_regions;

/// Bytes of a file that are held at once.
const WINDOW: usize = 4 << 20;

type Give<'a> = dyn FnMut(&[u8]) -> Result<(), OpError> + 'a;

/// Looks for the `wanted` chunks in all files below the folders that were named, and gives their
/// bytes to `give`. Ends early when all were found.
pub(super) fn search(
    repair: &Repair<'_>,
    wanted: BTreeMap<ChunkId, u32>,
    give: &mut Give<'_>,
) -> Result<(), OpError> {
    let config = repair.repository.config();
    let gear = repair.repository.keys().chunker_gear();
    let chunkers =
        [config.chunker.files, config.chunker.streams].map(|sizes| Chunker::new(sizes, &gear));
    let mut search = Search {
        repair,
        wanted,
        whole: config.chunker.files.avg,
        chunkers,
        bytes: Vec::new(),
        give,
    };
    let mut scan = Scan::start(ScanOptions::new(repair.options.from.clone()))?;
    let roots = scan.roots();
    while let Some(step) = scan.next() {
        repair.go_on()?;
        let (place, size) = match step {
            Scanned::Entry { path, stat } if stat.kind == EntryKind::File => (path, stat.size),
            Scanned::Problem(error) => {
                search.tell(&error.to_string());
                continue;
            }
            Scanned::Entry { .. } | Scanned::Excluded { .. } | Scanned::Deferred(_) => continue,
        };
        match roots.open_file(place) {
            Ok(file) => {
                let read = search.file(&File::from(file), size)?;
                if let Err(error) = read {
                    search.tell(&format!("{}: {error}", path::display(place)));
                }
            }
            Err(error) => search.tell(&error.to_string()),
        }
        if search.wanted.is_empty() {
            break;
        }
    }
    Ok(())
}

struct Search<'a, 'r> {
    repair: &'a Repair<'r>,
    wanted: BTreeMap<ChunkId, u32>,
    /// Data up to this length is one chunk.
    whole: u32,
    chunkers: [Chunker; 2],
    bytes: Vec<u8>,
    give: &'a mut Give<'a>,
}

impl Search<'_, '_> {
    fn tell(&self, message: &str) {
        let problem = Problem { subject: "--from".into(), message: message.to_owned() };
        self.repair.repository.observer().event(Event::Problem(problem));
    }

    /// Looks through a file. The inner error is the file's.
    fn file(&mut self, file: &File, size: u64) -> Result<io::Result<()>, OpError> {
        let regions = match data_regions(file.as_fd(), size) {
            Ok(regions) => regions,
            Err(error) => return Ok(Err(error)),
        };
        for region in regions.into_iter().filter(|region| !region.is_hole) {
            if region.len <= u64::from(self.whole) {
                let read = self.fill(file, region.offset, region.len);
                match read {
                    Ok(()) => self.piece(0, self.bytes.len())?,
                    Err(error) => return Ok(Err(error)),
                }
            }
            for chunker in self.chunkers.clone() {
                if let Err(error) = self.cut(file, region.offset, region.len, &chunker)? {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Cuts a run of data.
    fn cut(
        &mut self,
        file: &File,
        mut offset: u64,
        mut left: u64,
        chunker: &Chunker,
    ) -> Result<io::Result<()>, OpError> {
        while left > 0 {
            self.repair.go_on()?;
            if let Err(error) = self.fill(file, offset, left.min(WINDOW as u64)) {
                return Ok(Err(error));
            }
            let ends = self.bytes.len() as u64 == left;
            let mut at = 0;
            // A cut holds when enough bytes follow, or the data end.
            while at < self.bytes.len() && (ends || self.bytes.len() - at >= chunker.max()) {
                let len = chunker.cut(&self.bytes[at..]);
                self.piece(at, at + len)?;
                at += len;
            }
            offset += at as u64;
            left -= at as u64;
        }
        Ok(Ok(()))
    }

    fn fill(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        file.read_exact_at(&mut self.bytes, offset)
    }

    fn piece(&mut self, from: usize, to: usize) -> Result<(), OpError> {
        let bytes = &self.bytes[from..to];
        let id = self.repair.repository.keys().chunk_id(ChunkKind::Content, bytes);
        match self.wanted.remove(&id) {
            Some(_) => (self.give)(bytes),
            None => Ok(()),
        }
    }
}
