//! What the repository holds and what of it is needed, as seen at one moment and brought up to date.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Prune;
use crate::event::{Event, Problem};
use crate::format::snapshot::Root;
use crate::id::{ChunkId, PackId, SessionId, SnapshotId};
use crate::ops::OpError;
use crate::repo::{Damaged, RepositoryError};
use crate::storage::ObjectName;
use crate::tree::{Live, Reach};

/// Looks after which a prune gives up: others upload and delete packs all the time.
const MAX_LOOKS: usize = 20;

/// A tree that must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tree {
    /// Of the snapshot, or of what may become one.
    id: SnapshotId,
    root: ChunkId,
    confirmed: bool,
}

/// See the module.
pub(super) struct View<'r> {
    reach: Reach<'r>,
    walked: BTreeSet<Tree>,
    /// All packs that are there, with their lengths.
    pub(super) packs: BTreeMap<PackId, u64>,
    /// All packs that were marked, as far as they are there.
    marked: HashSet<PackId>,
    /// Sessions at work, this one too: what they uploaded may be needed soon.
    sessions: Vec<SessionId>,
}

impl<'r> View<'r> {
    /// Lists sessions, marks, packs and roots, in this order, and walks all trees. Sessions are
    /// listed again after the packs: what a writer that came in between has uploaded is its own.
    pub(super) fn take(prune: &Prune<'r>) -> Result<Self, OpError> {
        let mut view = View {
            reach: Reach::new(prune.repository),
            walked: BTreeSet::new(),
            packs: BTreeMap::new(),
            marked: HashSet::new(),
            sessions: prune.all_sessions()?,
        };
        view.look_afresh(prune)?;
        Ok(view)
    }

    /// Lists marks, packs and roots again and walks what is new. Everything is walked anew when
    /// something that was counted on is condemned by somebody else, or gone.
    pub(super) fn look_again(&mut self, prune: &Prune<'r>) -> Result<(), OpError> {
        let marked = marked_packs(prune)?;
        let packs = prune.repository.list_packs()?;
        let shaken = self.reach.counted_on().any(|pack| {
            marked.contains(pack) && !self.marked.contains(pack) || !packs.contains_key(pack)
        });
        if shaken {
            return self.look_afresh(prune);
        }
        // Packs that were listed meanwhile for another reason may be unknown to the index, too.
        let unknown = {
            let index = prune.repository.index();
            packs.keys().any(|id| index.pack_len(id).is_none())
        };
        if unknown {
            prune.repository.load_index()?;
        }
        self.packs = packs;
        self.condemn(prune, marked);
        let trees = trees(prune)?;
        // What only a forgotten snapshot needs may be gone, and need not be saved.
        let in_vain = !self.reach.is_safe() && !self.walked.is_subset(&trees);
        if in_vain || !self.walk(prune, &trees)? {
            return self.look_afresh(prune);
        }
        Ok(())
    }

    /// Lists all and walks everything, until no packs come while it does: a tree that was confirmed
    /// after the packs had been listed may need one that was not among them.
    pub(super) fn look_afresh(&mut self, prune: &Prune<'r>) -> Result<(), OpError> {
        for _ in 0..MAX_LOOKS {
            let marked = marked_packs(prune)?;
            // The index may know of more by then; what it does not know of is found at once.
            self.packs = prune.repository.list_packs()?;
            prune.repository.load_index()?;
            self.sessions.extend(prune.all_sessions()?);
            self.condemn(prune, marked);
            let trees = trees(prune)?;
            self.walked.clear();
            self.reach = Reach::new(prune.repository);
            if self.walk(prune, &trees)? {
                return Ok(());
            }
        }
        Err(OpError::Refused(
            "packs came and went all the time; nothing more was deleted, and the next prune goes \
             on from here"
                .to_owned(),
        ))
    }

    /// From now on these packs, and all that were condemned before, count as condemned.
    fn condemn(&mut self, prune: &Prune<'r>, marked: HashSet<PackId>) {
        self.marked.extend(marked);
        let marked: Vec<PackId> = self.marked.iter().copied().collect();
        prune.repository.condemn(&marked);
    }

    /// Walks those of `trees` that were not walked. False when one is not whole as far as is known,
    /// but packs came or went since they were listed.
    fn walk(&mut self, prune: &Prune<'r>, trees: &BTreeSet<Tree>) -> Result<bool, OpError> {
        let new: Vec<Tree> = trees.difference(&self.walked).copied().collect();
        let total = new.len() as u64;
        prune.repository.observer().event(Event::Total { items: total, bytes: 0 });
        for tree in new {
            prune.go_on()?;
            match self.reach.walk(&tree.root) {
                Ok(()) => {}
                Err(error) if error.is_damage() && self.is_outdated(prune)? => return Ok(false),
                // Confirmed or given up meanwhile: as a snapshot it is walked by the next look.
                Err(error)
                    if error.is_damage()
                        && !tree.confirmed
                        && !prune.repository.root_exists(tree.id)? => {}
                // What may become a snapshot checks for itself, before it does.
                Err(error) if !tree.confirmed && error.is_damage() => {
                    let subject = ObjectName::root(tree.id).to_string().into();
                    let message = format!("this unfinished snapshot is not whole: {error}");
                    let problem = Problem { subject, message };
                    prune.repository.observer().event(Event::Problem(problem));
                }
                // Forgotten meanwhile, and pruned by somebody else.
                Err(error)
                    if error.is_damage() && !prune.repository.snapshot_exists(tree.id)? => {}
                Err(error) if error.is_damage() => return Err(not_known(tree.id, &error)),
                Err(error) => return Err(error.into()),
            }
            prune.repository.observer().event(Event::Progress { items: 1, bytes: 0 });
        }
        self.walked.clone_from(trees);
        Ok(true)
    }

    /// Whether packs came or went since they were listed.
    pub(super) fn is_outdated(&self, prune: &Prune<'_>) -> Result<bool, OpError> {
        let packs = prune.repository.list_packs()?;
        Ok(!packs.keys().eq(self.packs.keys()))
    }

    /// What is needed of a pack; nothing when none of it is.
    pub(super) fn live(&self, pack: &PackId) -> Option<Live<'_>> {
        self.reach.live(pack)
    }

    /// The trees walked so far.
    pub(super) fn reach(&self) -> &Reach<'r> {
        &self.reach
    }

    /// Moves what is counted on in `packs`, which are condemned now, to where else it lies.
    pub(super) fn count_elsewhere(&mut self, packs: &[PackId]) -> Result<(), RepositoryError> {
        self.marked.extend(packs);
        self.reach.count_elsewhere(packs)
    }

    /// Takes in packs that this process added, and that stranded chunks lie in them now.
    pub(super) fn stranded_were_stored(&mut self, prune: &Prune<'r>) -> Result<(), OpError> {
        self.packs = prune.repository.list_packs()?;
        Ok(self.reach.stranded_were_stored()?)
    }

    pub(super) fn belongs_to_somebody(&self, pack: &PackId) -> bool {
        self.sessions.iter().any(|session| pack.is_of_session(*session))
    }

    pub(super) fn pack_bytes(&self) -> u64 {
        self.packs.values().sum()
    }

    pub(super) fn snapshot_count(&self) -> u64 {
        self.snapshot_ids().count() as u64
    }

    pub(super) fn snapshot_ids(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.walked.iter().filter(|tree| tree.confirmed).map(|tree| tree.id)
    }
}

fn marked_packs(prune: &Prune<'_>) -> Result<HashSet<PackId>, OpError> {
    Ok(prune.repository.marks()?.into_iter().flat_map(|mark| mark.packs).collect())
}

/// The trees of all snapshots, and of all that may become one.
fn trees(prune: &Prune<'_>) -> Result<BTreeSet<Tree>, OpError> {
    let repository = prune.repository;
    // Roots before snapshots: one that is confirmed in between is a snapshot by then. And snapshots
    // before roots: one that is forgotten in between may have a root by then that a change of its
    // labels will confirm.
    let (mut snapshots, _) = repository.snapshots()?;
    let (roots, damaged_roots) = repository.roots()?;
    let (later, damaged) = repository.snapshots()?;
    snapshots.extend(later);
    if prune.options.dry_run {
        snapshots.retain(|snapshot| !prune.options.without.contains(&snapshot.id));
    }
    if let Some(Damaged { object, error }) = damaged.first().or(damaged_roots.first()) {
        return Err(OpError::Refused(format!(
            "{object} cannot be read, so it is not known what it needs, and nothing was deleted \
             ({error}); `gabion check` tells more, `gabion forget` removes a snapshot for good"
        )));
    }
    let confirmed = |id: SnapshotId, root| Tree { id, root, confirmed: true };
    let mut trees: BTreeSet<Tree> =
        snapshots.iter().map(|snapshot| confirmed(snapshot.id, snapshot.root)).collect();
    for (id, root) in roots {
        let root = match root {
            Root::Tentative { snapshot, .. } => snapshot.root,
            Root::Checkpoint { root, .. } => root,
        };
        trees.insert(Tree { id, root, confirmed: false });
    }
    Ok(trees)
}

fn not_known(id: SnapshotId, error: &RepositoryError) -> OpError {
    OpError::Refused(format!(
        "snapshot {id} is not whole, so it is not known what it needs, and nothing was deleted \
         ({error}); `gabion check` tells more, `gabion forget` removes a snapshot for good"
    ))
}
