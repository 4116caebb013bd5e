//! What an index knows of segments and packs: in the catalogue of a cache folder, or, for a client
//! without one, for as long as it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::catalogue::{Catalogue, CatalogueError, PackRow};
use crate::id::{ChunkId, PackId, RepositoryId, SegmentId};

/// A pack that is to be known: its id, its stored length in bytes, how many chunks it holds, its
/// encoded footer.
pub(super) type PackToKnow<'a> = (PackId, u64, u32, &'a [u8]);

/// See the module.
#[derive(Debug)]
pub(super) enum Known {
    /// In a cache folder.
    Kept(Catalogue),
    /// In memory.
    Passing(Passing),
}

/// What is in memory; no row can be damaged, and nobody else adds any.
#[derive(Debug, Default)]
pub(super) struct Passing {
    packs: BTreeMap<u32, (PackRow, Vec<u8>)>,
    numbers: BTreeMap<PackId, u32>,
    /// The number that was given last.
    last: u32,
    segments: BTreeMap<SegmentId, BTreeSet<PackId>>,
}

impl Known {
    /// Opens the catalogue at `path`, or makes it; without a path nothing is known.
    pub(super) fn open(
        path: Option<&Path>,
        repository: RepositoryId,
        check_key: &[u8; 32],
    ) -> Result<Self, CatalogueError> {
        Ok(match path {
            Some(path) => Self::Kept(Catalogue::open(path, repository, check_key)?),
            None => Self::Passing(Passing::default()),
        })
    }

    /// All packs, by number.
    pub(super) fn packs(&self) -> Result<Vec<PackRow>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.packs(),
            Self::Passing(known) => Ok(known.packs.values().map(|(row, _)| *row).collect()),
        }
    }

    /// All segments that were taken in.
    pub(super) fn segments(&self) -> Result<Vec<SegmentId>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.segments(),
            Self::Passing(known) => Ok(known.segments.keys().copied().collect()),
        }
    }

    /// All packs that segments list, whether they are there or not.
    pub(super) fn listed(&self) -> Result<Vec<PackId>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.listed(),
            Self::Passing(known) => {
                let listed: BTreeSet<_> = known.segments.values().flatten().copied().collect();
                Ok(listed.into_iter().collect())
            }
        }
    }

    /// The encoded footer of a pack.
    pub(super) fn footer(&self, pack: &PackRow) -> Result<Vec<u8>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.footer(pack),
            Self::Passing(known) => {
                let found = known.packs.get(&pack.no).ok_or(CatalogueError::Damaged)?;
                Ok(found.1.clone())
            }
        }
    }

    /// Takes packs in; see [`Catalogue::add`].
    pub(super) fn add(
        &mut self,
        segment: Option<(SegmentId, &[PackId])>,
        packs: &[PackToKnow<'_>],
    ) -> Result<Vec<PackRow>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.add(segment, packs),
            Self::Passing(known) => {
                if let Some((segment, listed)) = segment {
                    known.segments.entry(segment).or_default().extend(listed);
                }
                Ok(packs.iter().map(|pack| known.add(pack)).collect())
            }
        }
    }

    /// See [`Catalogue::seen_folders`].
    pub(super) fn seen_folders(&self, root: &ChunkId) -> Result<Option<Vec<u8>>, CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.seen_folders(root),
            Self::Passing(_) => Ok(None),
        }
    }

    /// See [`Catalogue::keep_seen_folders`]. In memory there would be nobody to use it.
    pub(super) fn keep_seen_folders(
        &self,
        root: &ChunkId,
        folders: &[u8],
    ) -> Result<(), CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.keep_seen_folders(root, folders),
            Self::Passing(_) => Ok(()),
        }
    }

    /// Drops what the repository no longer has.
    pub(super) fn forget(
        &mut self,
        packs: &[u32],
        segments: &[SegmentId],
    ) -> Result<(), CatalogueError> {
        match self {
            Self::Kept(catalogue) => catalogue.forget(packs, segments),
            Self::Passing(known) => {
                for (row, _) in packs.iter().filter_map(|no| known.packs.remove(no)) {
                    known.numbers.remove(&row.id);
                }
                known.segments.retain(|segment, _| !segments.contains(segment));
                Ok(())
            }
        }
    }
}

impl Passing {
    fn add(&mut self, (id, len, chunks, footer): &PackToKnow<'_>) -> PackRow {
        if let Some(no) = self.numbers.get(id) {
            return self.packs[no].0;
        }
        self.last += 1;
        let row = PackRow { no: self.last, id: *id, len: *len, chunks: *chunks };
        self.numbers.insert(*id, row.no);
        self.packs.insert(row.no, (row, footer.to_vec()));
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A change; ids are small so that they meet.
    #[derive(Debug, Clone)]
    enum Change {
        Add { segment: Option<u8>, listed: Vec<u8>, packs: Vec<u8> },
        Forget { packs: Vec<u8>, segments: Vec<u8> },
    }

    fn change() -> impl Strategy<Value = Change> {
        let few = || prop::collection::vec(0u8..6, 0..4);
        let add = (prop::option::of(0u8..4), few(), few())
            .prop_map(|(segment, listed, packs)| Change::Add { segment, listed, packs });
        let forget =
            (few(), few()).prop_map(|(packs, segments)| Change::Forget { packs, segments });
        prop_oneof![2 => add, 1 => forget]
    }

    fn segment(number: u8) -> SegmentId {
        SegmentId([number; 16])
    }

    fn pack(number: u8) -> PackId {
        PackId([number; 16])
    }

    /// Numbers may differ: a catalogue leaves some out.
    fn without_numbers(rows: &[PackRow]) -> Vec<(PackId, u64, u32)> {
        rows.iter().map(|row| (row.id, row.len, row.chunks)).collect()
    }

    fn make(known: &mut Known, change: &Change) -> Vec<(PackId, u64, u32)> {
        match change {
            Change::Add { segment: taken, listed, packs } => {
                let listed: Vec<PackId> = listed.iter().copied().map(pack).collect();
                let taken = taken.map(|number| (segment(number), &listed[..]));
                let footers: Vec<[u8; 3]> = packs.iter().map(|id| [*id; 3]).collect();
                let new = packs.iter().zip(&footers);
                let new: Vec<PackToKnow<'_>> =
                    new.map(|(id, footer)| (pack(*id), 9, u32::from(*id), &footer[..])).collect();
                without_numbers(&known.add(taken, &new).unwrap())
            }
            Change::Forget { packs, segments } => {
                let gone: Vec<PackId> = packs.iter().copied().map(pack).collect();
                let rows = known.packs().unwrap();
                let numbers = rows.iter().filter(|row| gone.contains(&row.id)).map(|row| row.no);
                let segments: Vec<SegmentId> = segments.iter().copied().map(segment).collect();
                known.forget(&numbers.collect::<Vec<_>>(), &segments).unwrap();
                Vec::new()
            }
        }
    }

    /// Everything that can be asked.
    fn told(known: &Known) -> impl PartialEq + std::fmt::Debug + use<> {
        let rows = known.packs().unwrap();
        let footers: Vec<Vec<u8>> = rows.iter().map(|row| known.footer(row).unwrap()).collect();
        let (mut segments, mut listed) = (known.segments().unwrap(), known.listed().unwrap());
        segments.sort_unstable();
        listed.sort_unstable();
        (without_numbers(&rows), footers, segments, listed)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn what_is_known_in_passing_is_what_a_catalogue_would_have_kept(
            changes in prop::collection::vec(change(), 0..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index.sqlite");
            let open = |path| Known::open(path, RepositoryId([1; 16]), &[2; 32]).unwrap();
            let (mut kept, mut passing) = (open(Some(&path)), open(None));
            for change in &changes {
                prop_assert_eq!(make(&mut kept, change), make(&mut passing, change));
                prop_assert_eq!(told(&kept), told(&passing));
            }
        }
    }
}
