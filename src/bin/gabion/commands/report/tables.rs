//! The tables of the report.

use gabion::job::state::{PastDrill, RunRecord};

use super::{minute, of_outcome, seconds};
use crate::render::html::Page;
use crate::render::values::{count, short, size};

/// Rows of a table; the page says how many more there were.
const ROWS: usize = 100;

/// All runs, the newest first.
pub(super) fn runs(page: &mut Page, runs: &[RunRecord]) {
    table(page, "Runs", runs.len(), true, |page| {
        page.row(
            "th",
            &[
                ("", "Time"),
                ("", "Outcome"),
                ("n", "Took"),
                ("n", "Size"),
                ("n", "Added"),
                ("", "Snapshot"),
                ("", "Said"),
            ],
        );
        for run in runs.iter().rev().take(ROWS) {
            let (class, word) = of_outcome(run.outcome);
            let took = seconds(u64::try_from(run.ended - run.started).unwrap_or(0));
            let (bytes, added, id) = match &run.snapshot {
                Some(id) => (size(run.bytes), size(run.added_bytes), short(id)),
                None => Default::default(),
            };
            let said = [std::slice::from_ref(&run.message), &run.details].concat().join(" | ");
            page.row(
                "td",
                &[
                    ("t", &minute(run.ended)),
                    (class, word),
                    ("n", &took),
                    ("n", &bytes),
                    ("n", &added),
                    ("t", &id),
                    ("m", &said),
                ],
            );
        }
    });
}

/// All drills, the newest first.
pub(super) fn drills(page: &mut Page, drills: &[PastDrill]) {
    table(page, "Drills", drills.len(), true, |page| {
        page.row(
            "th",
            &[
                ("", "Time"),
                ("", "Outcome"),
                ("n", "Took"),
                ("n", "Databases"),
                ("n", "Rows"),
                ("n", "Files"),
                ("", "Said"),
            ],
        );
        for drill in drills.iter().rev().take(ROWS) {
            let (class, word) = if drill.ok { ("ok", "passed") } else { ("bad", "FAILED") };
            let took = seconds(u64::try_from(drill.ended - drill.started).unwrap_or(0));
            page.row(
                "td",
                &[
                    ("t", &minute(drill.ended)),
                    (class, word),
                    ("n", &took),
                    ("n", &size(drill.bytes)),
                    ("n", &count(drill.rows)),
                    ("n", &count(drill.files)),
                    ("m", &drill.message),
                ],
            );
        }
    });
}

/// What was checked behind runs, the newest first.
pub(super) fn checks(page: &mut Page, runs: &[&RunRecord]) {
    table(page, "Checks", runs.len(), false, |page| {
        page.row("th", &[("", "Time"), ("n", "Verified"), ("n", "Problems")]);
        for check in runs.iter().rev().take(ROWS).filter_map(|run| run.checked) {
            let class = if check.problems == 0 { "n ok" } else { "n bad" };
            page.row(
                "td",
                &[
                    ("t", &minute(check.ended)),
                    ("n", &size(check.bytes)),
                    (class, &count(check.problems)),
                ],
            );
        }
    });
}

/// A table that can be folded away.
fn table(page: &mut Page, title: &str, rows: usize, open: bool, fill: impl FnOnce(&mut Page)) {
    page.raw(if open { "<details open>" } else { "<details>" });
    let more = match rows > ROWS {
        true => format!("{title}: the last {ROWS} of {rows}"),
        false => format!("{title}: {rows}"),
    };
    page.element("summary", "", &more);
    page.raw("<div class=\"scroll\"><table>\n");
    fill(page);
    page.raw("</table></div></details>\n");
}
