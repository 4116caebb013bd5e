//! How users name a snapshot and what is in it: `latest`, `latest~2`, an id or its beginning,
//! `SNAP:PATH`.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use super::OpError;
use crate::event::Event;
use crate::format::path;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::repo::Repository;

/// Fewest digits of an id that name a snapshot.
const MIN_PREFIX: usize = 4;

/// A snapshot, and a path in it, as a user wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// `latest`, `latest~N`, an id, or the beginning of one.
    pub snapshot: String,
    /// The path after the colon, as stored: no leading or trailing slash, empty for the top.
    /// Nothing when there was no colon.
    pub path: Option<Vec<u8>>,
}

impl SnapshotSpec {
    /// Reads `SNAP` or `SNAP:PATH`; the path may be any bytes.
    ///
    /// # Errors
    /// When the path is not one that a snapshot can hold, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let (snapshot, rest) = match text.iter().position(|&byte| byte == b':') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let snapshot = String::from_utf8_lossy(snapshot).into_owned();
        let path = rest.map(|rest| {
            let components: Vec<&[u8]> = rest
                .split(|&byte| byte == b'/')
                .filter(|component| !component.is_empty() && *component != b".")
                .collect();
            let joined = components.join(&b'/');
            match path::problem(&joined) {
                Some(problem) if !joined.is_empty() => Err(problem.to_owned()),
                _ => Ok(joined),
            }
        });
        Ok(Self { snapshot, path: path.transpose()? })
    }
}

impl FromStr for SnapshotSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_bytes())
    }
}

/// The records that are there although another one [stands in their place](Snapshot::replaces),
/// each with the id of the one that does and is not replaced itself. There are some only after an
/// interruption.
pub fn replaced<'s>(
    snapshots: impl IntoIterator<Item = &'s Snapshot>,
) -> HashMap<SnapshotId, SnapshotId> {
    let by_id: HashMap<SnapshotId, &Snapshot> =
        snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    let mut pairs = Vec::new();
    for new in by_id.values() {
        let there = new.formerly.iter().filter_map(|id| by_id.get(id));
        pairs.extend(there.filter(|old| new.replaces(old)).map(|old| (old.id, new.id)));
    }
    let gone: HashSet<SnapshotId> = pairs.iter().map(|(old, _)| *old).collect();
    // What replaces a successor replaces what that one replaced, too, so a last one is always found;
    // of several, it is the same one each time.
    pairs.retain(|(_, new)| !gone.contains(new));
    pairs.sort_unstable();
    pairs.into_iter().collect()
}

/// The snapshots that are not [`replaced`], in the order given.
pub fn current(mut snapshots: Vec<Snapshot>) -> Vec<Snapshot> {
    let replaced = replaced(&snapshots);
    snapshots.retain(|snapshot| !replaced.contains_key(&snapshot.id));
    snapshots
}

/// The snapshot that `wanted` names: `latest` is the newest by [trusted](crate::repo::times::trusted)
/// time, partial ones aside, and
/// `latest~2` the second one before it; an id, or the beginning of one, may also be one that the snapshot had before its tags or its pin were
/// changed.
///
/// # Errors
/// When there is none, or `wanted` could be several.
pub fn find_snapshot(repository: &Repository, wanted: &str) -> Result<Snapshot, OpError> {
    let (snapshots, _) = repository.snapshots()?;
    let snapshots = current(snapshots);
    let found = find_among(&snapshots, wanted)?;
    if back_from_latest(wanted).is_some() {
        warn_of_passed_over(repository, &snapshots, &found);
    }
    Ok(found)
}

/// Says when a snapshot that claims to be newer was not taken for the newest.
fn warn_of_passed_over(repository: &Repository, snapshots: &[Snapshot], found: &Snapshot) {
    let older = snapshots.iter().take_while(|snapshot| snapshot.id != found.id);
    if let Some(claims) = older.filter(|one| one.time > found.time).last() {
        repository.observer().event(Event::Warning(format!(
            "snapshot {} is dated long after it was stored, so its time is not believed and it does \
             not count as the latest",
            claims.id
        )));
    }
}

/// As [`find_snapshot`], among the current snapshots of a repository, oldest first.
pub(super) fn find_among(snapshots: &[Snapshot], wanted: &str) -> Result<Snapshot, OpError> {
    if let Some(back) = back_from_latest(wanted) {
        // Whoever wants all of the sources must not get a part of them.
        let some_are_whole = snapshots.iter().any(|snapshot| snapshot.window.is_none());
        let counts = |one: &&Snapshot| !some_are_whole || one.window.is_none();
        let unknown = match snapshots.len() {
            0 => "(it has none yet)",
            _ => wanted,
        };
        let found = snapshots.iter().rev().filter(counts).nth(back).cloned();
        return found.ok_or_else(|| OpError::UnknownSnapshot(unknown.to_owned()));
    }
    // Whatever another one claims to have been: a whole id names the snapshot that has it.
    let whole = wanted.parse::<SnapshotId>().ok();
    if let Some(found) = snapshots.iter().find(|snapshot| Some(snapshot.id) == whole) {
        return Ok(found.clone());
    }
    let fits = |id: &SnapshotId| begins_with(id, wanted);
    let named = |one: &&Snapshot| fits(&one.id) || one.formerly.iter().any(fits);
    let found: Vec<&Snapshot> = snapshots.iter().filter(named).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        [] => Err(OpError::UnknownSnapshot(wanted.to_owned())),
        _ => Err(OpError::AmbiguousSnapshot {
            wanted: wanted.to_owned(),
            candidates: found.iter().map(|snapshot| snapshot.id.to_string()).collect(),
        }),
    }
}

/// How many before the newest: 0 for `latest`, N for `latest~N`.
fn back_from_latest(wanted: &str) -> Option<usize> {
    match wanted.strip_prefix("latest")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

/// Whether `wanted` is the id or a beginning of it that is long enough.
pub(super) fn begins_with(id: &SnapshotId, wanted: &str) -> bool {
    let digit = |at: usize| match at % 2 {
        0 => id.0[at / 2] >> 4,
        _ => id.0[at / 2] & 15,
    };
    let is_next = |(at, digit_of): (usize, char)| digit_of.to_digit(16) == Some(digit(at).into());
    let len = wanted.len();
    (MIN_PREFIX..=2 * id.0.len()).contains(&len) && wanted.chars().enumerate().all(is_next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test_support::bare_snapshot;

    fn id(first: u8) -> SnapshotId {
        SnapshotId([first; 16])
    }

    #[test]
    fn a_snapshot_is_found_by_the_ids_it_had() {
        let old = Snapshot { id: id(0x11), ..bare_snapshot() };
        let new = Snapshot { id: id(0x22), formerly: vec![id(0x44), id(0x11)], ..bare_snapshot() };
        let other = Snapshot { id: id(0x33), ..bare_snapshot() };
        let found = |wanted: &str| find_among(&[new.clone(), other.clone()], wanted);
        for wanted in ["1111", "2222", "44444", &id(0x11).to_string()] {
            assert_eq!(found(wanted).unwrap(), new, "{wanted}");
        }
        assert!(matches!(found("111"), Err(OpError::UnknownSnapshot(_))), "too short");
        assert_eq!(current(vec![old.clone(), new.clone()]), std::slice::from_ref(&new));
        // Both a present id and a former one of another: the user has to say more.
        let mut close = other;
        close.id.0[..4].fill(0x11);
        let both = find_among(&[new, close], "1111");
        assert!(matches!(both, Err(OpError::AmbiguousSnapshot { .. })));
    }

    #[test]
    fn the_newest_ones_are_counted_back_and_partial_ones_passed_over() {
        use crate::format::snapshot::Window;
        let all = [1, 2, 3].map(|n| Snapshot { id: id(n), ..bare_snapshot() });
        let part = Snapshot {
            id: id(4),
            window: Some(Window { since: None, until: None }),
            ..bare_snapshot()
        };
        let every: Vec<Snapshot> = all.iter().cloned().chain([part]).collect();
        let found = |wanted: &str| find_among(&every, wanted);
        for (wanted, expected) in [("latest", 2), ("latest~0", 2), ("latest~1", 1), ("latest~2", 0)]
        {
            assert_eq!(found(wanted).unwrap(), all[expected], "{wanted}");
        }
        for wanted in ["latest~3", "latest~", "latest~x", "latest1", "latest~-1"] {
            assert!(matches!(found(wanted), Err(OpError::UnknownSnapshot(_))), "{wanted}");
        }
        assert!(matches!(find_among(&[], "latest~1"), Err(OpError::UnknownSnapshot(_))));
    }

    #[test]
    fn of_a_chain_the_last_one_is_current_and_a_false_claim_replaces_nothing() {
        let a = Snapshot { id: id(1), ..bare_snapshot() };
        let b = Snapshot { id: id(2), formerly: vec![id(1)], ..bare_snapshot() };
        let c = Snapshot { id: id(3), formerly: vec![id(1), id(2)], ..bare_snapshot() };
        let claim = Snapshot { id: id(4), host: "other".to_owned(), ..c.clone() };
        let all = [&c, &a, &claim, &b];
        assert_eq!(replaced(all), HashMap::from([(id(1), id(3)), (id(2), id(3))]));
        let current = current(all.map(Snapshot::clone).to_vec());
        assert_eq!(current, [c, claim]);
    }

    #[test]
    fn paths_are_cleaned_and_checked() {
        let parse = |text: &str| SnapshotSpec::parse(text.as_bytes());
        let spec = |snapshot: &str, path: Option<&str>| {
            let path = path.map(|path| path.as_bytes().to_vec());
            Ok(SnapshotSpec { snapshot: snapshot.to_owned(), path })
        };
        assert_eq!(parse("latest"), spec("latest", None));
        assert_eq!(parse("1a2b:/usr//bin/"), spec("1a2b", Some("usr/bin")));
        assert_eq!(parse("1a2b:/"), spec("1a2b", Some("")));
        assert_eq!(parse("1a2b:./db:x.sql"), spec("1a2b", Some("db:x.sql")));
        assert!(parse("1a2b:/a/../b").is_err());
    }
}
