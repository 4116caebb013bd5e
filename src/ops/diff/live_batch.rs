//! Comparing the contents of many live files at once: what differs is gathered in path order, and
//! files that have to be read for it are read by all threads before it is given on.

use std::fs::File;

use rayon::prelude::*;

use super::{Aspect, Aspects, Change, DiffItem, live_content};
use crate::format::entry::Entry;
use crate::ops::OpError;
use crate::ops::pool::pool;
use crate::repo::{Repository, RepositoryError};
use crate::source::SourceError;
use crate::source::open::Roots;
use crate::tree::PageReader;

/// Items that are gathered, and bytes of the files among them that have to be read.
const MAX_ITEMS: usize = 4096;
const MAX_BYTES: u64 = 256 << 20;

/// Why a live item could not be compared.
pub(super) enum Unread {
    /// Because of the item.
    Source(SourceError),
    /// Because of the repository.
    Repository(RepositoryError),
}

/// Two files of the same size whose contents may differ.
pub(super) struct Doubt {
    pub(super) old: Entry,
    pub(super) new: Entry,
    /// Where the live one is, without leading slash.
    pub(super) place: Vec<u8>,
    /// How they differ beside that.
    pub(super) aspects: Aspects,
}

/// A path that differs, or may.
pub(super) enum Found {
    Item(DiffItem),
    Doubt(Doubt),
}

/// A path that differs, or why that could not be told.
pub(super) type Told = Result<DiffItem, SourceError>;

/// What was found since it was last given on.
pub(super) struct Batch<'r> {
    repository: &'r Repository,
    pool: rayon::ThreadPool,
    found: Vec<Found>,
    bytes: u64,
}

impl<'r> Batch<'r> {
    /// An empty one whose files will be read by so many threads.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub(super) fn new(repository: &'r Repository, threads: usize) -> Result<Self, OpError> {
        Ok(Self { repository, pool: pool(threads)?, found: Vec::new(), bytes: 0 })
    }

    pub(super) fn push(&mut self, found: Found) {
        if let Found::Doubt(doubt) = &found {
            self.bytes = self.bytes.saturating_add(doubt.old.meta.size);
        }
        self.found.push(found);
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MAX_ITEMS || self.bytes >= MAX_BYTES
    }

    /// Reads what has to be read, and gives what differs in the order in which it came.
    pub(super) fn finish(&mut self, roots: Option<&Roots>) -> Result<Vec<Told>, RepositoryError> {
        self.bytes = 0;
        let found = std::mem::take(&mut self.found);
        let reader = || (PageReader::new(self.repository), Vec::new());
        let told: Vec<Option<Told>> = self.pool.install(|| {
            let steps = found.into_par_iter().with_max_len(8);
            let steps = steps.map_init(reader, |(pages, buffer), found| match (found, roots) {
                (Found::Item(item), _) => Ok(Some(Ok(item))),
                (Found::Doubt(_), None) => Ok(None),
                (Found::Doubt(doubt), Some(roots)) => tell(roots, doubt, pages, buffer),
            });
            steps.collect::<Result<_, RepositoryError>>()
        })?;
        Ok(told.into_iter().flatten().collect())
    }
}

fn tell(
    roots: &Roots,
    doubt: Doubt,
    pages: &mut PageReader<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Told>, RepositoryError> {
    let same = has_content(roots, &doubt, pages, buffer);
    let Doubt { old, new, mut aspects, .. } = doubt;
    match same {
        Ok(true) => {}
        Ok(false) => aspects.insert(Aspect::Content),
        Err(Unread::Repository(error)) => return Err(error),
        // It went away meanwhile.
        Err(Unread::Source(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(Ok(DiffItem::removed(old))));
        }
        Err(Unread::Source(error)) => return Ok(Some(Err(error))),
    }
    let change = (!aspects.is_empty()).then_some(Change::Changed(aspects));
    Ok(change.map(|change| {
        Ok(DiffItem { path: new.path.clone(), change, old: Some(old), new: Some(new) })
    }))
}

fn has_content(
    roots: &Roots,
    doubt: &Doubt,
    pages: &mut PageReader<'_>,
    buffer: &mut Vec<u8>,
) -> Result<bool, Unread> {
    let file = File::from(roots.open_file(&doubt.place).map_err(Unread::Source)?);
    let (content, size) = (&doubt.old.content, doubt.old.meta.size);
    live_content::has_content(pages, content, size, &file, buffer)
        .map_err(Unread::Repository)?
        .map_err(|error| Unread::Source(SourceError::at(&doubt.place, "read", error)))
}
