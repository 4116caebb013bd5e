//! How an entry of the parent is recognised as unchanged.

use crate::format::entry::{EntryKind, Timestamp};
use crate::format::page::EntryStat;
use crate::source::{Stat, Upkeep};

/// Times of files are as coarse as the kernel's tick, 10 ms at most, and taken a little before the
/// change. What changed so shortly before a walk began may change again without a new time.
pub(super) const RACY_NANOS: u32 = 20_000_000;

/// Unchanged: same size, times and inode on the same file system, settled when it was read, and
/// not changed so shortly before that walk that a later change could bear the same time. A file
/// system that is not known cannot be known to be the same, and of a file that the kernel makes up
/// none of this tells anything.
pub(super) fn unchanged(old: &EntryStat, new: &Stat, racy_from: Timestamp) -> bool {
    old.kind == new.kind
        && old.size == new.size
        && old.mtime == new.mtime
        && old.ctime == new.ctime
        && old.inode == new.inode
        && old.filesystem == new.filesystem
        && old.filesystem != 0
        && !(new.upkeep == Upkeep::MadeUp && new.kind == EntryKind::File)
        && !old.unsettled
        && is_before(old.ctime, racy_from)
}

/// Whether what changes from `from` on is certain to bear another time than `time`. Whole seconds
/// are a sign of a file system that keeps no others; FAT keeps every second one.
pub(super) fn is_before(time: Timestamp, from: Timestamp) -> bool {
    let grain = if time.nanos == 0 { 2 } else { 0 };
    Timestamp { seconds: time.seconds.saturating_add(grain), ..time } < from
}

pub(super) fn before(time: Timestamp, nanos: u32) -> Timestamp {
    match time.nanos.checked_sub(nanos) {
        Some(nanos) => Timestamp { nanos, ..time },
        None => Timestamp { seconds: time.seconds - 1, nanos: time.nanos + 1_000_000_000 - nanos },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_or_doubt_means_reading_again() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let new = Stat { mtime: at(100), ctime: at(200), ..crate::source::test_stat() };
        let old = EntryStat {
            kind: EntryKind::File,
            unsettled: false,
            mtime: at(100),
            ctime: at(200),
            inode: new.inode,
            filesystem: new.filesystem,
            size: new.size,
        };
        let late = at(1000);
        assert!(unchanged(&old, &new, late));
        for changed in [
            EntryStat { kind: EntryKind::Stream, ..old },
            EntryStat { unsettled: true, ..old },
            EntryStat { mtime: at(101), ..old },
            EntryStat { ctime: at(199), ..old },
            EntryStat { inode: 80, ..old },
            EntryStat { filesystem: 80, ..old },
            EntryStat { size: 60, ..old },
        ] {
            assert!(!unchanged(&changed, &new, late), "{changed:?}");
        }
        let fine = Timestamp { seconds: 200, nanos: 1 };
        let (fine_old, fine_new) = (EntryStat { ctime: fine, ..old }, Stat { ctime: fine, ..new });
        assert!(!unchanged(&fine_old, &fine_new, fine), "it may have changed within the same tick");
        assert!(unchanged(&fine_old, &fine_new, at(201)));
        assert!(!unchanged(&old, &new, at(202)), "or within the same two seconds");
        assert!(unchanged(&old, &new, at(203)));
        let unknown = (EntryStat { filesystem: 0, ..old }, Stat { filesystem: 0, ..new });
        assert!(!unchanged(&unknown.0, &unknown.1, late), "two unknown file systems");
        let made_up = Stat { upkeep: Upkeep::MadeUp, ..new };
        assert!(!unchanged(&old, &made_up, late), "a file that the kernel makes up");
        assert_eq!(before(at(5), 20_000_000), Timestamp { seconds: 4, nanos: 980_000_000 });
    }
}
