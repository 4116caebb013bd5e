//! What changed, by epoch, and which snapshots remember which epoch. Pure: it knows no kernel.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{FileSystemId, Item};
use crate::id::SnapshotId;

/// Names that are kept, in all epochs together. Beyond it everything is forgotten.
const MAX_NAMES: usize = 2_000_000;
/// Series of snapshots that are remembered.
const MAX_SERIES: usize = 256;
/// Epochs that were begun for snapshots of which nothing has been heard since.
const MAX_OPEN: usize = 64;

/// A folder as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Folder {
    pub(super) filesystem: FileSystemId,
    pub(super) kind: i32,
    pub(super) handle: Box<[u8]>,
}

/// Names in one folder.
pub(super) type NameSet = HashSet<Box<[u8]>>;

/// Names by folder.
type Names = HashMap<Folder, NameSet>;

/// A snapshot that was confirmed, and what it was told.
#[derive(Debug, Clone)]
struct Known {
    snapshot: SnapshotId,
    epoch: u64,
    /// What was mounted where, in the words of the client.
    mounts: String,
    /// Counts confirmations, to know the oldest.
    turn: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By the number of the epoch; changes go to the last one.
    epochs: BTreeMap<u64, Names>,
    /// The number that was given out last.
    current: u64,
    /// All of these are in `epochs` and may still be confirmed.
    open: Vec<u64>,
    known: HashMap<String, Known>,
    names: usize,
    turn: u64,
    max_names: usize,
    /// Why everything was forgotten, the last time.
    forgot_because: Option<String>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            epochs: BTreeMap::new(),
            current: 0,
            open: Vec::new(),
            known: HashMap::new(),
            names: 0,
            turn: 0,
            max_names: MAX_NAMES,
            forgot_because: None,
        }
    }

    /// Something changed. Where nobody can ask for it, it is not kept.
    pub(super) fn note(&mut self, item: &Item<'_>) {
        let Some(mut last) = self.epochs.last_entry() else { return };
        let folder =
            Folder { filesystem: item.filesystem, kind: item.kind, handle: item.handle.into() };
        let names = last.get_mut().entry(folder).or_default();
        if !names.contains(item.name) {
            names.insert(item.name.into());
            self.names += 1;
            if self.names > self.max_names {
                self.forget(&format!("more than {} items changed", self.max_names));
            }
        }
    }

    /// Something changed that is not known: what was before now says nothing any more.
    pub(super) fn forget(&mut self, why: &str) {
        self.epochs.clear();
        self.open.clear();
        self.known.clear();
        self.names = 0;
        self.forgot_because = Some(why.to_owned());
    }

    /// Begins an epoch.
    pub(super) fn begin(&mut self) -> u64 {
        self.current += 1;
        self.epochs.insert(self.current, Names::new());
        self.open.push(self.current);
        if self.open.len() > MAX_OPEN {
            self.open.remove(0);
        }
        self.tidy();
        self.current
    }

    /// From now on the next snapshot of the series may ask for the changes since this one. Says
    /// whether the epoch is still known.
    pub(super) fn confirm(
        &mut self,
        series: &str,
        snapshot: SnapshotId,
        epoch: u64,
        mounts: String,
    ) -> bool {
        let Some(at) = self.open.iter().position(|&open| open == epoch) else {
            return false;
        };
        self.open.remove(at);
        self.turn += 1;
        self.known.insert(series.to_owned(), Known { snapshot, epoch, mounts, turn: self.turn });
        if self.known.len() > MAX_SERIES {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.turn);
            let oldest = oldest.map(|(series, _)| series.clone());
            oldest.and_then(|series| self.known.remove(&series));
        }
        self.tidy();
        true
    }

    /// All changes since the walk of a snapshot began, and what was mounted then.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn since(
        &self,
        series: &str,
        snapshot: SnapshotId,
    ) -> Result<(impl Iterator<Item = (&Folder, &NameSet)> + Clone, &str), String> {
        let known = self.known.get(series).filter(|known| known.snapshot == snapshot);
        let Some(known) = known else {
            return Err(match &self.forgot_because {
                Some(why) => format!("`gabion watch` does not know what changed: {why}"),
                None => "`gabion watch` has not seen the parent being taken".to_owned(),
            });
        };
        Ok((self.epochs.range(known.epoch..).flat_map(|(_, names)| names), &known.mounts))
    }

    /// How many names are kept, and for how many series of snapshots.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.names, self.known.len())
    }

    /// An epoch at which nothing begins any more is one with the epoch before it, and what came
    /// before the first that is needed is dropped.
    fn tidy(&mut self) {
        let is_needed = |epoch: &u64| {
            self.open.contains(epoch) || self.known.values().any(|known| known.epoch == *epoch)
        };
        let mut kept: BTreeMap<u64, Names> = BTreeMap::new();
        for (epoch, names) in std::mem::take(&mut self.epochs) {
            if is_needed(&epoch) {
                kept.insert(epoch, names);
            } else if let Some(mut before) = kept.last_entry() {
                for (folder, names) in names {
                    before.get_mut().entry(folder).or_default().extend(names);
                }
            }
        }
        self.names = kept.values().flat_map(Names::values).map(NameSet::len).sum();
        self.epochs = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &[u8]) -> Item<'_> {
        Item { filesystem: [1; 8], kind: 1, handle: &[2], name }
    }

    fn id(number: u8) -> SnapshotId {
        SnapshotId([number; 16])
    }

    fn since(ledger: &Ledger, series: &str, snapshot: SnapshotId) -> Result<Vec<String>, String> {
        let (changes, mounts) = ledger.since(series, snapshot)?;
        assert_eq!(mounts, "mounts");
        let names = changes.flat_map(|(_, names)| names);
        let mut names: Vec<_> =
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn confirm(ledger: &mut Ledger, series: &str, snapshot: SnapshotId, epoch: u64) -> bool {
        ledger.confirm(series, snapshot, epoch, "mounts".to_owned())
    }

    #[test]
    fn each_series_is_told_what_changed_since_its_own_snapshot() {
        let mut ledger = Ledger::new();
        ledger.note(&item(b"before"));
        let first = ledger.begin();
        assert_eq!(ledger.sizes(), (0, 0), "nobody can ask for what was before");
        ledger.note(&item(b"a"));
        assert!(confirm(&mut ledger, "one", id(1), first));
        ledger.note(&item(b"b"));
        let other = ledger.begin();
        ledger.note(&item(b"c"));
        assert!(confirm(&mut ledger, "two", id(2), other));
        assert_eq!(since(&ledger, "one", id(1)).unwrap(), ["a", "b", "c"]);
        assert_eq!(since(&ledger, "two", id(2)).unwrap(), ["c"]);
        assert!(since(&ledger, "two", id(1)).is_err() && since(&ledger, "three", id(1)).is_err());

        // A run that came to nothing, and one that did.
        ledger.begin();
        let next = ledger.begin();
        ledger.note(&item(b"d"));
        assert!(confirm(&mut ledger, "one", id(3), next));
        assert_eq!(since(&ledger, "one", id(3)).unwrap(), ["d"]);
        assert_eq!(since(&ledger, "two", id(2)).unwrap(), ["c", "d"]);
        assert!(since(&ledger, "one", id(1)).is_err());
        assert!(!confirm(&mut ledger, "one", id(4), next), "an epoch is confirmed once");
    }

    #[test]
    fn after_a_gap_nothing_is_known_and_what_was_begun_before_cannot_be_confirmed() {
        let mut ledger = Ledger::new();
        let first = ledger.begin();
        confirm(&mut ledger, "one", id(1), first);
        let begun = ledger.begin();
        ledger.forget("the queue was full");
        assert!(since(&ledger, "one", id(1)).unwrap_err().contains("the queue was full"));
        assert!(!confirm(&mut ledger, "one", id(2), begun));
        let after = ledger.begin();
        ledger.note(&item(b"a"));
        assert!(confirm(&mut ledger, "one", id(3), after));
        assert_eq!(since(&ledger, "one", id(3)).unwrap(), ["a"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut ledger = Ledger { max_names: 100, ..Ledger::new() };
        let first = ledger.begin();
        confirm(&mut ledger, "one", id(1), first);
        for number in 0..100u32 {
            ledger.note(&item(&number.to_le_bytes()));
            ledger.note(&item(&number.to_le_bytes()));
        }
        assert_eq!(since(&ledger, "one", id(1)).unwrap().len(), 100);
        ledger.note(&item(b"one more"));
        assert!(since(&ledger, "one", id(1)).unwrap_err().contains("more than 100"));
        for _ in 0..10 * MAX_OPEN {
            ledger.begin();
        }
        assert!(ledger.epochs.len() <= MAX_OPEN + 1, "{}", ledger.epochs.len());
        for number in 0..2 * MAX_SERIES {
            let epoch = ledger.begin();
            confirm(&mut ledger, &number.to_string(), id(1), epoch);
        }
        assert_eq!(ledger.sizes().1, MAX_SERIES);
        assert!(since(&ledger, "0", id(1)).is_err());
    }
}
