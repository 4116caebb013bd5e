//! Chunks of packs that no run covers, in memory.

use super::IdMap;
use super::run::{Place, RunEntry};
use crate::id::ChunkId;

/// Where these chunks are.
#[derive(Debug, Default)]
pub(super) struct Recent {
    one: IdMap<Place>,
    /// Further copies of the chunks in `one`: two writers stored them, and any may go one day.
    others: IdMap<Vec<Place>>,
}

impl Recent {
    /// How many chunks there are.
    pub(super) fn len(&self) -> usize {
        self.one.len()
    }

    /// Adds a copy of a chunk that was not added before.
    pub(super) fn add(&mut self, id: ChunkId, place: Place) {
        if let Some(other) = self.one.insert(id, place) {
            self.others.entry(id).or_default().push(other);
        }
    }

    /// One place of a chunk.
    pub(super) fn place(&self, id: &ChunkId) -> Option<Place> {
        self.one.get(id).copied()
    }

    /// All places of a chunk.
    pub(super) fn places<'a>(&'a self, id: &ChunkId) -> impl Iterator<Item = Place> + use<'a> {
        self.one.get(id).into_iter().chain(self.others.get(id).into_iter().flatten()).copied()
    }

    /// Drops what lies in other packs than those that `stays` holds of.
    pub(super) fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        let others = &mut self.others;
        others.retain(|_, places| {
            places.retain(|place| stays(place.pack));
            !places.is_empty()
        });
        self.one.retain(|id, place| {
            if stays(place.pack) {
                return true;
            }
            let other = others.get_mut(id).and_then(Vec::pop);
            other.inspect(|other| *place = *other).is_some()
        });
    }

    /// All places, unsorted.
    pub(super) fn entries(&self) -> Vec<RunEntry> {
        let others =
            self.others.iter().flat_map(|(id, places)| places.iter().map(move |p| (id, p)));
        self.one.iter().chain(others).map(|(id, place)| (*id, *place)).collect()
    }
}
