//! Bringing the index up to date with what the repository holds now.

use std::collections::{HashMap, HashSet};

use super::index::{NewPack, UnusableIndex};
use super::{PackReader, Repository, RepositoryError};
use crate::event::{Event, Problem};
use crate::format::pack::Footer;
use crate::id::{PackId, SegmentId};
use crate::storage::{ObjectKind, ObjectName};

impl Repository {
    /// One pass over marks, segments and packs.
    ///
    /// Marks are listed before packs: a pack that is listed afterwards and not marked before was
    /// not condemned when this process announced itself (see FORMAT.md, "Writers and pruners").
    pub(super) fn refresh_index_once(&self) -> Result<(), RepositoryError> {
        let marks = self.marks()?;
        let segments = self.storage.list(ObjectKind::Segment)?.objects;
        let segments = segments.into_iter().map(|(name, _)| SegmentId(name.id)).collect();
        let packs = self.storage.list(ObjectKind::Pack)?.objects;
        let packs: HashMap<PackId, u64> =
            packs.into_iter().map(|(name, len)| (PackId(name.id), len)).collect();
        for segment in self.drop_what_is_gone(&packs, &segments)? {
            self.take_in_segment(segment, &packs)?;
        }
        self.adopt_packs(&packs)?;
        let condemned: Vec<PackId> = marks.into_iter().flat_map(|mark| mark.packs).collect();
        self.index_mut().condemn(&condemned);
        Ok(())
    }

    /// Drops what the repository no longer has, and returns the segments that are new.
    fn drop_what_is_gone(
        &self,
        packs: &HashMap<PackId, u64>,
        segments: &HashSet<SegmentId>,
    ) -> Result<Vec<SegmentId>, UnusableIndex> {
        let mut index = self.index_mut();
        let known: HashSet<SegmentId> = index.segments()?.into_iter().collect();
        let gone: Vec<PackId> = index
            .packs()
            .filter(|(id, len)| packs.get(id) != Some(len))
            .map(|(id, _)| id)
            .collect();
        let old: Vec<SegmentId> = known.difference(segments).copied().collect();
        if !gone.is_empty() || !old.is_empty() {
            index.forget(&gone, &old)?;
        }
        let mut new: Vec<SegmentId> = segments.difference(&known).copied().collect();
        new.sort_unstable();
        Ok(new)
    }

    fn take_in_segment(
        &self,
        id: SegmentId,
        packs: &HashMap<PackId, u64>,
    ) -> Result<(), RepositoryError> {
        let listed = match self.read_segment(id) {
            Ok(listed) => listed,
            Err(error) if error.is_damage() => {
                // Its packs are adopted from their own footers instead.
                self.report(ObjectName::segment(id), &error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let present: Vec<NewPack> = listed
            .into_iter()
            .filter(|pack| packs.get(&pack.id) == Some(&pack.len))
            .filter_map(|pack| {
                let footer = Footer::decode(&pack.footer).ok()?;
                Some(NewPack { id: pack.id, len: pack.len, encoded: pack.footer, footer })
            })
            .collect();
        Ok(self.index_mut().add(Some(id), &present)?)
    }

    /// Takes in packs that no segment lists: an interrupted run left them, and nothing that was
    /// packed is lost.
    fn adopt_packs(&self, packs: &HashMap<PackId, u64>) -> Result<(), RepositoryError> {
        let mut unknown: Vec<(PackId, u64)> = {
            let index = self.index();
            let known = |pack: &PackId| index.pack_len(pack).is_some();
            packs.iter().filter(|(id, _)| !known(id)).map(|(id, len)| (*id, *len)).collect()
        };
        unknown.sort_unstable();
        for (id, len) in unknown {
            match PackReader::new(self).footer(id, len) {
                Ok((encoded, footer)) => {
                    self.index_mut().add(None, &[NewPack { id, len, encoded, footer }])?;
                }
                Err(error) if error.is_damage() => self.report(ObjectName::pack(id), &error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn report(&self, object: ObjectName, error: &RepositoryError) {
        let subject = object.to_string().into();
        let problem = Problem { subject, message: error.to_string() };
        self.observer.event(Event::Problem(problem));
    }
}
