//! Condemning packs and deleting them, and storing again what is needed of them before.

use std::collections::{BTreeSet, HashSet};

use super::choose::Usage;
use super::view::View;
use super::{Prune, PruneSummary, rewrite};
use crate::event::Event;
use crate::format::snapshot::Mark;
use crate::id::{PackId, SessionId};
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::ObjectName;

/// Packs of one mark: its record must stay far below the longest that is read.
const PACKS_OF_MARK: usize = 8192;
/// Looks at the roots after which a prune gives up: others condemn and snapshot all the time.
const MAX_LOOKS: usize = 20;

pub(super) struct Round<'p, 'v, 'r> {
    prune: &'p Prune<'r>,
    view: &'v mut View<'r>,
    summary: &'p mut PruneSummary,
}

impl<'p, 'v, 'r> Round<'p, 'v, 'r> {
    pub(super) fn new(
        prune: &'p Prune<'r>,
        view: &'v mut View<'r>,
        summary: &'p mut PruneSummary,
    ) -> Self {
        Self { prune, view, summary }
    }

    /// Condemns `packs`, and deletes those of them that no session at work may rely on.
    pub(super) fn condemn_and_delete(&mut self, packs: &BTreeSet<PackId>) -> Result<(), OpError> {
        if packs.is_empty() {
            return Ok(());
        }
        let repository = self.prune.repository;
        let ids: Vec<PackId> = packs.iter().copied().collect();
        repository.condemn(&ids);
        self.view.count_elsewhere(&ids)?;
        let deletable = self.mark(&ids)?;
        // The sessions were listed after the marks were visible, and the roots are after that: who
        // confirmed before is seen here, who did not yet will see the marks.
        self.settle()?;
        let total = deletable.len() as u64;
        repository.observer().event(Event::Total { items: total, bytes: 0 });
        for id in deletable {
            self.prune.go_on()?;
            self.prune.delete_pack(id)?;
            repository.drop_from_index(&[id])?;
            self.view.packs.remove(&id);
            self.summary.packs_deleted += 1;
            repository.observer().event(Event::Progress { items: 1, bytes: 0 });
        }
        Ok(())
    }

    /// Publishes marks for the packs that have none; returns the packs that may be deleted as far
    /// as sessions are concerned.
    fn mark(&mut self, packs: &[PackId]) -> Result<Vec<PackId>, OpError> {
        let repository = self.prune.repository;
        let known = repository.marks()?;
        let marked: HashSet<PackId> =
            known.iter().flat_map(|mark| mark.packs.iter().copied()).collect();
        let new: Vec<PackId> = packs.iter().filter(|id| !marked.contains(id)).copied().collect();
        let mut published = Vec::new();
        for packs in new.chunks(PACKS_OF_MARK) {
            published.push(self.publish(packs, None)?);
        }
        let writers = self.prune.writers()?;
        if writers.is_empty() {
            return Ok(packs.to_vec());
        }
        let at_work: HashSet<SessionId> = writers.iter().copied().collect();
        let over = |mark: &&Mark| {
            mark.waits_for.as_ref().is_some_and(|ids| !ids.iter().any(|id| at_work.contains(id)))
        };
        let settled: HashSet<PackId> =
            known.iter().filter(over).flat_map(|mark| mark.packs.iter().copied()).collect();
        let waiting: HashSet<PackId> = known
            .iter()
            .filter(|mark| mark.waits_for.is_some())
            .flat_map(|mark| mark.packs.iter().copied())
            .collect();
        let (deletable, rest): (Vec<PackId>, Vec<PackId>) =
            packs.iter().partition(|id| settled.contains(id));
        let unsaid: Vec<PackId> = rest.iter().filter(|id| !waiting.contains(id)).copied().collect();
        for packs in unsaid.chunks(PACKS_OF_MARK) {
            self.publish(packs, Some(writers.clone()))?;
        }
        // Said again, with the sessions that it waits for.
        for mark in published {
            self.prune.delete(ObjectName::mark(mark))?;
        }
        self.summary.packs_waiting = rest.len() as u64;
        self.summary.sessions = writers.len() as u64;
        Ok(deletable)
    }

    fn publish(
        &self,
        packs: &[PackId],
        waits_for: Option<Vec<SessionId>>,
    ) -> Result<[u8; 16], RepositoryError> {
        let session = self.prune.session;
        let mark = Mark { session, packs: packs.to_vec(), waits_for };
        self.prune.with_room(|| self.prune.repository.publish_mark(&mark))
    }

    /// Looks at marks, packs and roots until nothing that is needed lies in condemned packs alone.
    fn settle(&mut self) -> Result<(), OpError> {
        for _ in 0..MAX_LOOKS {
            self.view.look_again(self.prune)?;
            if self.view.reach().is_safe() {
                return Ok(());
            }
            match rewrite::stranded(self.prune, self.view.reach().stranded()) {
                Ok(bytes) => {
                    self.summary.bytes_rewritten += bytes;
                    self.view.stranded_were_stored(self.prune)?;
                }
                Err(error) if self.is_overtaken(&error)? => self.view.look_afresh(self.prune)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(others_are_faster())
    }

    /// Whether what could not be read may not be needed any more: it is looked for because of a
    /// snapshot that somebody else has forgotten since, and pruned.
    fn is_overtaken(&self, error: &RepositoryError) -> Result<bool, OpError> {
        Ok(error.is_damage() && self.view.is_outdated(self.prune)?)
    }

    /// Stores again what is needed of `packs`.
    fn rewrite(&mut self, packs: &BTreeSet<PackId>) -> Result<(), OpError> {
        for _ in 0..MAX_LOOKS {
            match rewrite::packs(self.prune, self.view, packs) {
                Ok(bytes) => {
                    self.summary.bytes_rewritten += bytes;
                    return self.view.stranded_were_stored(self.prune);
                }
                Err(OpError::Repository(error)) if self.is_overtaken(&error)? => {
                    self.view.look_afresh(self.prune)?;
                }
                Err(OpError::Repository(error)) if error.is_damage() => {
                    return Err(OpError::Refused(format!(
                        "what is needed of a pack cannot be read, so the pack stays ({error}); \
                         `gabion check --read-data` tells what is lost"
                    )));
                }
                Err(error) => return Err(error),
            }
        }
        Err(others_are_faster())
    }

    /// Stores again what is needed of `packs`, one new pack at a time, and deletes them.
    pub(super) fn rewrite_all(&mut self, packs: &[Usage]) -> Result<(), OpError> {
        let room = u64::from(self.prune.repository.config().pack_size);
        let mut rest = packs;
        // Beside a writer the old packs could not go yet: the new ones would only take room.
        while !rest.is_empty() && self.prune.writers()?.is_empty() && !self.is_late() {
            self.prune.go_on()?;
            let mut live = 0;
            let fits = rest.iter().take_while(|usage| {
                live += usage.live;
                live <= room
            });
            let count = fits.count().max(1);
            let (batch, later) = rest.split_at(count);
            rest = later;
            let ids: BTreeSet<PackId> = batch.iter().map(|usage| usage.id).collect();
            self.rewrite(&ids)?;
            self.summary.packs_rewritten += ids.len() as u64;
            self.condemn_and_delete(&ids)?;
        }
        self.summary.bytes_unused +=
            rest.iter().map(|usage| usage.len - usage.live.min(usage.len)).sum::<u64>();
        Ok(())
    }

    fn is_late(&self) -> bool {
        let options = self.prune.options;
        options.late_at.is_some_and(|late| (options.clock)() >= late)
    }
}

fn others_are_faster() -> OpError {
    OpError::Refused(
        "other processes kept condemning what is needed; nothing more was deleted, and the next \
         prune goes on from here"
            .to_owned(),
    )
}
