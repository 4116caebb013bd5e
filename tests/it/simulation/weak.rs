//! Ways to break the protocol, put between a client and the storage: what the model's weakened
//! variants leave out is kept from the client, or from everybody else.

use std::collections::HashMap;

use gabion::storage::{Listing, ObjectKind, ObjectName};

/// What a client does not do, as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Weakness {
    #[default]
    None,
    /// A pruner that announces no marks and asks for no sessions: one-phase deletion.
    OnePhase,
    /// A pruner that takes every session for over: marks and a time of grace.
    Grace,
    /// A writer that does not look again before it confirms.
    NoLastLook,
    /// A writer that publishes no tentative root.
    NoRoot,
    /// A pruner that does not look at the marks of others. One in two comes just when somebody
    /// replaces the index segments, as any prune may: so they do not all count on the same copies.
    OwnMarksOnly,
    /// A pruner that does not list roots and snapshots again before it deletes.
    NoSecondLook,
    /// A pruner that drops what sessions that are over left unfinished, and leaves its name free.
    NameLeftFree,
}

/// What a client of a weakness has seen so far in its operation.
#[derive(Debug, Default)]
pub(super) struct Memory {
    weakness: Weakness,
    client: usize,
    /// The last lists of each kind, as long as it looked.
    seen: HashMap<ObjectKind, Listing>,
    /// Objects that it published.
    own: Vec<ObjectName>,
    /// A writer: it has published its root.
    root_published: bool,
    /// Times that it listed marks.
    marks_listed: u32,
}

/// Looks at the marks of which the third comes after all marks of a prune were published.
const LOOKS_BEFORE_MARKS_ARE_OUT: u32 = 3;

impl Memory {
    pub(super) fn new(weakness: Weakness, client: usize) -> Self {
        Self { weakness, client, ..Self::default() }
    }

    /// Whether an object is really published.
    pub(super) fn publishes(&mut self, name: ObjectName) -> bool {
        self.own.push(name);
        self.root_published |= name.kind == ObjectKind::Root;
        !matches!(
            (self.weakness, name.kind),
            (Weakness::OnePhase, ObjectKind::Mark)
                | (Weakness::NoRoot, ObjectKind::Root)
                | (Weakness::NameLeftFree, ObjectKind::Snapshot)
        )
    }

    /// Whether a session is taken to be there, whatever is true.
    pub(super) fn believes_in(&self, name: ObjectName) -> bool {
        name.kind == ObjectKind::Session && self.looks_no_more()
    }

    fn looks_no_more(&self) -> bool {
        self.weakness == Weakness::NoLastLook && self.root_published
    }

    /// What the client sees of a list.
    pub(super) fn sees(&mut self, kind: ObjectKind, mut listing: Listing) -> Listing {
        use ObjectKind::{Mark, Pack, Root, Session, Snapshot, SnapshotCopy};
        self.marks_listed += u32::from(kind == Mark);
        match (self.weakness, kind) {
            (Weakness::OnePhase | Weakness::Grace, Session) | (Weakness::OwnMarksOnly, Mark) => {
                listing.objects.retain(|(name, _)| self.own.contains(name));
            }
            (Weakness::OwnMarksOnly, ObjectKind::Segment) if self.client % 2 == 1 => {
                listing.objects.clear();
            }
            (Weakness::NoLastLook, Mark) if self.looks_no_more() => {
                return self.seen.get(&kind).cloned().unwrap_or_default();
            }
            (Weakness::NoLastLook, Pack) if self.looks_no_more() => {
                // What was there is taken to be there still.
                listing.objects.extend(self.seen.get(&kind).iter().flat_map(|old| &old.objects));
                listing.objects.sort_unstable();
                listing.objects.dedup();
            }
            (Weakness::NoSecondLook, Root | Snapshot | SnapshotCopy)
                if self.marks_listed >= LOOKS_BEFORE_MARKS_ARE_OUT =>
            {
                return self.seen.get(&kind).cloned().unwrap_or_default();
            }
            _ => {}
        }
        self.seen.insert(kind, listing.clone());
        listing
    }
}
