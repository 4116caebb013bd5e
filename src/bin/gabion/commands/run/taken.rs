//! What a run came to, in words.

use gabion::job::links::LinkOut;
use gabion::job::state::Checked;
use gabion::ops::snapshot::SnapshotSummary;

use crate::commands::snapshot::in_words;
use crate::console::Console;
use crate::errors::{Exit, Failure};
use crate::render::values::counted;

/// Links that are named one by one.
const LINKS_NAMED: usize = 20;

/// What a run came to.
pub(super) struct Taken {
    pub(super) summary: SnapshotSummary,
    /// What went wrong behind the snapshot.
    pub(super) trouble: Vec<Failure>,
    /// What was read back, if anything.
    pub(super) checked: Option<Checked>,
    /// Since when, at least, each pack has been known to be whole, if any was verified.
    pub(super) verified_from: Option<i64>,
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

/// What a check behind the snapshot found.
pub(super) fn damaged(checked: Checked) -> Failure {
    let problems = counted(checked.problems, "problem", "problems");
    Failure::new(Exit::Damage, format!("the repository is damaged: {problems}"))
        .hint("`gabion check --read-data` tells what is damaged")
}
