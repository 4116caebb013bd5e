//! When each pack was last verified whole, as this client remembers it. Only a help: what is
//! forgotten counts as not verified.

use std::collections::HashMap;

use super::picture::Picture;
use crate::format::entry::Timestamp;
use crate::id::PackId;
use crate::repo::Repository;
use crate::repo::index::CacheFolder;
use crate::storage::ObjectName;

/// The file in the client's cache. A line: the pack's id, and seconds since 1970.
const FILE: &str = "packs-verified";
/// The file that says how many problems the last check found, when it found some.
const FINDINGS: &str = "check-findings";

/// How many problems the last check by this client found, as text, if it found some.
pub(in crate::ops) fn findings(repository: &Repository) -> Option<String> {
    std::fs::read_to_string(repository.cache_folder()?.path().join(FINDINGS)).ok()
}

/// When each pack was last read whole and nothing was found.
#[derive(Debug)]
pub struct Verified {
    when: HashMap<PackId, i64>,
    folder: Option<CacheFolder>,
    clock: fn() -> Timestamp,
    /// When to begin no other pack.
    pub until: Option<Timestamp>,
    /// Since when, at least, every pack has been known to be whole: the earliest of the times at
    /// which they were last verified or, if they never were, stored. Known after a check; nothing
    /// when there are no packs.
    pub oldest: Option<i64>,
}

fn parse(line: &str) -> Option<(PackId, i64)> {
    let (id, seconds) = line.split_once(' ')?;
    Some((id.parse().ok()?, seconds.parse().ok()?))
}

impl Verified {
    /// What this client remembers of the packs of `repository`.
    pub fn recall(repository: &Repository, clock: fn() -> Timestamp) -> Self {
        let folder = repository.cache_folder();
        let path = folder.as_ref().map(|folder| folder.path().join(FILE));
        let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let now = clock().seconds;
        // A time that is yet to come says nothing.
        let past = |(_, seconds): &(PackId, i64)| *seconds <= now;
        let when = text.lines().filter_map(parse).filter(past).collect();
        Self { when, folder, clock, until: None, oldest: None }
    }

    /// Nothing is known, and nothing will be remembered.
    pub(super) fn unknown() -> Self {
        let (when, clock) = (HashMap::new(), Timestamp::default as fn() -> Timestamp);
        Self { when, folder: None, clock, until: None, oldest: None }
    }

    /// When a pack was last verified; nothing when that is not known.
    pub(super) fn last(&self, pack: &PackId) -> Option<i64> {
        self.when.get(pack).copied()
    }

    /// Notes what came of reading a pack whole.
    pub(super) fn note(&mut self, pack: PackId, is_whole: bool) {
        if is_whole {
            self.when.insert(pack, (self.clock)().seconds);
        } else {
            self.when.remove(&pack);
        }
    }

    /// Whether no other pack should be begun.
    pub(super) fn is_late(&self) -> bool {
        self.until.is_some_and(|until| (self.clock)() >= until)
    }

    /// Remembers how many problems a check found: whoever takes a snapshot looks more closely then.
    #[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
    pub(super) fn remember_findings(&self, problems: u64) {
        let Some(folder) = &self.folder else { return };
        let findings = folder.path().join(FINDINGS);
        // That it is not remembered must not hide what was found.
        let _ = match problems {
            0 => std::fs::remove_file(findings),
            _ => folder.make().and_then(|()| std::fs::write(findings, problems.to_string())),
        };
    }

    /// Remembers it for the next time, as far as the packs are still there.
    #[expect(clippy::disallowed_methods, reason = "the cache is no part of the repository")]
    pub(super) fn remember(&mut self, repository: &Repository, picture: &Picture) {
        let Some(folder) = &self.folder else { return };
        let mut text = String::new();
        let mut oldest = None;
        for pack in &picture.packs {
            let stored = || {
                let stored = repository.storage().modified(ObjectName::pack(pack.id)).ok()?;
                let since = stored.duration_since(std::time::UNIX_EPOCH).ok()?;
                i64::try_from(since.as_secs()).ok()
            };
            let last = self.last(&pack.id);
            if let Some(seconds) = last {
                text += &format!("{} {seconds}\n", pack.id);
            }
            let since = last.or_else(stored).unwrap_or(0);
            oldest = Some(oldest.map_or(since, |oldest: i64| oldest.min(since)));
        }
        self.oldest = oldest;
        // That it is not remembered must not hide what was found.
        let _ = folder.make().and_then(|()| std::fs::write(folder.path().join(FILE), text));
    }
}

#[cfg(test)]
impl Verified {
    pub(super) fn set_for_tests(&mut self, when: impl Iterator<Item = (PackId, i64)>) {
        self.when = when.collect();
    }
}
