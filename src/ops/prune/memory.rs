//! What one prune remembers for the next, in the client's cache. Only a help: without it a dead
//! session of another machine is given up later, and a list that shrank is not noticed.

use std::collections::{BTreeMap, HashSet};

use super::Prune;
use super::view::View;
use crate::id::{SessionId, SnapshotId};
use crate::ops::OpError;

/// A session of another machine that did nothing for so long, by this machine's clock and in the
/// eyes of two prunes at least, is given up. If it lives, it notices and looks again.
const GIVEN_UP_AFTER_SECONDS: i64 = 24 * 60 * 60;
const SNAPSHOTS: &str = "snapshots-seen";
const SESSIONS: &str = "sessions-seen";

/// Since when a session did not move. A line of the file: its id, seconds, packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    since: i64,
    /// Packs of the session that were there.
    packs: u64,
}

fn watched(line: &str) -> Option<(&str, Watched)> {
    let mut words = line.split(' ');
    let id = words.next()?;
    let watched =
        Watched { since: words.next()?.parse().ok()?, packs: words.next()?.parse().ok()? };
    words.next().is_none().then_some((id, watched))
}

impl Prune<'_> {
    fn recall(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.repository.cache_folder()?.path().join(name)).ok()
    }

    #[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
    fn remember(&self, name: &str, text: &str) {
        if let Some(folder) = self.repository.cache_folder() {
            let _ = folder.make().and_then(|()| std::fs::write(folder.path().join(name), text));
        }
    }

    /// Refuses when most of the snapshots are gone that were there when this client last looked: a
    /// list that is not whole would make everything garbage.
    pub(super) fn compare_with_last_time(&self, view: &View<'_>) -> Result<(), OpError> {
        let seen = self.recall(SNAPSHOTS).unwrap_or_default();
        let seen: Vec<&str> = seen.lines().collect();
        let mut gone: Vec<&str> = seen.clone();
        let present: HashSet<SnapshotId> = view.snapshot_ids().collect();
        gone.retain(|id| !id.parse().is_ok_and(|id| present.contains(&id)));
        let are_few = |gone: &[&str]| gone.len() < 3 || gone.len() * 2 <= seen.len();
        if self.options.accept_fewer || are_few(&gone) {
            return Ok(());
        }
        // A change of tags gives a snapshot another id.
        let (records, _) = self.repository.snapshots()?;
        let former = records.iter().flat_map(|record| &record.formerly);
        let former: HashSet<String> = former.map(ToString::to_string).collect();
        gone.retain(|id| !former.contains(*id));
        if are_few(&gone) {
            return Ok(());
        }
        let gone = gone.len();
        Err(OpError::Refused(format!(
            "{gone} of the {} snapshots that were here when this machine last pruned are gone, and \
             it did not forget them; if that was done elsewhere, say --accept-fewer",
            seen.len()
        )))
    }

    /// Remembers which snapshots there are.
    pub(super) fn remember_snapshots(&self, view: &View<'_>) {
        let lines: String = view.snapshot_ids().map(|id| format!("{id}\n")).collect();
        self.remember(SNAPSHOTS, &lines);
    }

    /// Which sessions have stood still for very long.
    pub(super) fn watch(
        &self,
        ids: impl Iterator<Item = SessionId>,
    ) -> Result<Vec<SessionId>, OpError> {
        let text = self.recall(SESSIONS).unwrap_or_default();
        let before: BTreeMap<&str, Watched> = text.lines().filter_map(watched).collect();
        let uploaded = self.repository.list_packs()?;
        let now = (self.options.clock)().seconds;
        let mut seen = String::new();
        let mut still = Vec::new();
        for id in ids {
            // While it works there are ever more.
            let packs = uploaded.keys().filter(|pack| pack.is_of_session(id)).count() as u64;
            let known = before.get(&*id.to_string()).filter(|known| known.packs == packs);
            let since = known.map_or(now, |known| known.since.min(now));
            if now - since >= GIVEN_UP_AFTER_SECONDS {
                still.push(id);
            }
            seen += &format!("{id} {since} {packs}\n");
        }
        self.remember(SESSIONS, &seen);
        Ok(still)
    }
}

/// Tells the memory of prunes that snapshots were forgotten on purpose by this client.
#[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
pub(in crate::ops) fn forgotten(repository: &crate::repo::Repository, snapshots: &[SnapshotId]) {
    let Some(folder) = repository.cache_folder() else { return };
    let path = folder.path().join(SNAPSHOTS);
    let Ok(seen) = std::fs::read_to_string(&path) else { return };
    let snapshots: HashSet<&SnapshotId> = snapshots.iter().collect();
    let is_forgotten =
        |line: &str| line.parse().is_ok_and(|id: SnapshotId| snapshots.contains(&id));
    let kept: String =
        seen.lines().filter(|line| !is_forgotten(line)).map(|line| format!("{line}\n")).collect();
    let _ = std::fs::write(path, kept);
}
