//! Comparing two trees: pages that both share are skipped unseen.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Cursor, LeafPage, Node};
use crate::format::entry::Entry;
use crate::format::path;
use crate::repo::RepositoryError;

/// A path that two trees do not have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new tree has it.
    Added(Entry),
    /// Only the old tree has it.
    Removed(Entry),
    /// Both have it, but not equal in everything.
    Changed {
        /// As the old tree has it.
        old: Box<Entry>,
        /// As the new tree has it.
        new: Box<Entry>,
    },
}

/// Walks two trees at once and gives what differs, in path order.
#[derive(Debug)]
pub struct Diff<'r> {
    old: Cursor<'r>,
    new: Cursor<'r>,
}

/// An entry, by its leaf and its position there.
type Place = (Arc<LeafPage>, usize);

enum Step {
    SkipBoth,
    DescendOld,
    DescendNew,
    Compare,
}

impl<'r> Diff<'r> {
    /// Compares the trees of two cursors, from where they are.
    pub fn new(old: Cursor<'r>, new: Cursor<'r>) -> Self {
        Self { old, new }
    }

    fn step(&self) -> Step {
        match (self.old.node(), self.new.node()) {
            (
                Some(Node::Page { page: old, height: old_height }),
                Some(Node::Page { page: new, height: new_height }),
            ) => {
                if old.id == new.id {
                    Step::SkipBoth
                } else if old_height >= new_height {
                    Step::DescendOld
                } else {
                    Step::DescendNew
                }
            }
            (Some(Node::Page { .. }), _) => Step::DescendOld,
            (_, Some(Node::Page { .. })) => Step::DescendNew,
            _ => Step::Compare,
        }
    }

    /// The next change; nothing at the end of both trees.
    ///
    /// # Errors
    /// When a page is missing or damaged.
    pub fn next_change(&mut self) -> Result<Option<Change>, RepositoryError> {
        loop {
            match self.step() {
                Step::SkipBoth => {
                    self.old.skip();
                    self.new.skip();
                }
                Step::DescendOld => self.old.descend()?,
                Step::DescendNew => self.new.descend()?,
                Step::Compare => {
                    let entry = |cursor: &Cursor<'_>| match cursor.node() {
                        Some(Node::Entry { page, at }) => Some((Arc::clone(page), at)),
                        _ => None,
                    };
                    let change = match (entry(&self.old), entry(&self.new)) {
                        (None, None) => return Ok(None),
                        (old, new) => self.compare(old, new),
                    };
                    if change.is_some() {
                        return Ok(change);
                    }
                }
            }
        }
    }

    fn compare(&mut self, old: Option<Place>, new: Option<Place>) -> Option<Change> {
        let order = match (&old, &new) {
            (Some((old, old_at)), Some((new, new_at))) => {
                path::compare(old.leaf.path(*old_at), new.leaf.path(*new_at))
            }
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        if order.is_le() {
            self.old.skip();
        }
        if order.is_ge() {
            self.new.skip();
        }
        match (order, old, new) {
            (Ordering::Less, Some((old, at)), _) => Some(Change::Removed(old.leaf.entry(at))),
            (Ordering::Greater, _, Some((new, at))) => Some(Change::Added(new.leaf.entry(at))),
            (Ordering::Equal, Some((old, old_at)), Some((new, new_at)))
                if old.leaf.entry_ref(old_at) != new.leaf.entry_ref(new_at) =>
            {
                Some(Change::Changed {
                    old: Box::new(old.leaf.entry(old_at)),
                    new: Box::new(new.leaf.entry(new_at)),
                })
            }
            _ => None,
        }
    }
}
