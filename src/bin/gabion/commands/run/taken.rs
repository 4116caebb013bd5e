//! What a run came to, in words.

use gabion::job::links::LinkOut;
use gabion::job::state::Checked;
use gabion::ops::snapshot::SnapshotSummary;

use crate::commands::snapshot::in_words;
use crate::console::Console;
use crate::errors::Failure;

/// Links that are named one by one.
const LINKS_NAMED: usize = 20;

/// What a run came to.
pub(super) struct Taken {
    pub(super) summary: SnapshotSummary,
    /// What went wrong behind the snapshot.
    pub(super) trouble: Vec<Failure>,
    /// What was read back, if anything.
    pub(super) checked: Option<Checked>,
    /// Links to what is not contained.
    pub(super) links_out: usize,
}

impl Taken {
    pub(super) fn in_words(&self) -> String {
        let words = in_words(&self.summary);
        match self.links_out {
            0 => words,
            1 => words + "; 1 link leads to what is not contained",
            links => format!("{words}; {links} links lead to what is not contained"),
        }
    }
}

/// Names links to what is not contained.
pub(super) fn name(links: &[LinkOut], console: &Console) {
    for link in links.iter().take(LINKS_NAMED) {
        console.notice(&format!("not contained: {link}"));
    }
}
