//! Files with several names (hard links): which names that a walk finds are one file, so that it is
//! read once.
//!
//! An inode number alone proves little: another file system may use the same one, and while a walk
//! runs a file may be deleted and its number given to a new one. Two names are one file when the
//! kernel keeps the numbers itself, both were found in the same state, and that state is older than
//! the walk: a file that got the number during the walk bears a later time. Any other name is read
//! like a file of its own; its chunks are found to be stored already.

use std::collections::HashMap;

use super::unchanged::is_before;
use crate::format::entry::{EntryKind, Timestamp};
use crate::source::{Stat, Upkeep};

/// Files that are remembered until all of their names were found. Names of further ones are read
/// again.
pub(super) const MAX_LINKS: usize = 1 << 20;

/// What a name is among those of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Read by itself.
    Alone,
    /// The first name of the file with this number: the content is read through it.
    First(u64),
    /// A later name of it, which takes the content of the first.
    Further(u64),
}

/// The state in which a file was found.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FileState {
    dev: u64,
    inode: u64,
    size: u64,
    times: [Timestamp; 3],
}

impl FileState {
    fn of(stat: &Stat) -> Self {
        let Stat { dev, inode, size, mtime, ctime, born, .. } = *stat;
        Self { dev, inode, size, times: [mtime, ctime, born] }
    }
}

/// The files with several names that a walk has found.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The number of each and how many of its names are still to come.
    known: HashMap<FileState, (u64, u32)>,
    /// Numbers given out.
    count: u64,
}

impl Links {
    /// What the name is at which `stat` was found, by a walk that can tell changes from
    /// `racy_from` on.
    pub(super) fn role(&mut self, stat: &Stat, racy_from: Option<Timestamp>) -> Role {
        let is_certain = stat.kind == EntryKind::File
            && stat.links > 1
            && stat.upkeep == Upkeep::Kernel
            && racy_from.is_some_and(|from| is_before(stat.ctime, from));
        if !is_certain {
            return Role::Alone;
        }
        let state = FileState::of(stat);
        if let Some((number, left)) = self.known.get_mut(&state) {
            let number = *number;
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.known.remove(&state);
            }
            return Role::Further(number);
        }
        if self.known.len() >= MAX_LINKS {
            return Role::Alone;
        }
        self.count += 1;
        self.known.insert(state, (self.count, stat.links - 1));
        Role::First(self.count)
    }

    /// The walk begins again; numbers are not given out twice.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::test_stat;

    #[test]
    fn only_the_same_state_of_the_same_file_is_another_name() {
        let walk = Some(Timestamp { seconds: 1000, nanos: 0 });
        let one = Stat { links: 2, ..test_stat() };
        let role = |second: Stat, walk| {
            let mut links = Links::default();
            (links.role(&one, walk), links.role(&second, walk))
        };
        assert_eq!(role(one, walk), (Role::First(1), Role::Further(1)));
        let later = Timestamp { seconds: 500, nanos: 1 };
        for other in [
            Stat { dev: one.dev + 1, ..one },
            Stat { inode: one.inode + 1, ..one },
            Stat { size: one.size + 1, ..one },
            Stat { mtime: later, ..one },
            Stat { ctime: later, ..one },
            Stat { born: later, ..one },
        ] {
            assert_eq!(role(other, walk), (Role::First(1), Role::First(2)), "{other:?}");
        }
        // Identities that outlive the run may be the same for two file systems, and are not asked.
        assert_eq!(role(Stat { filesystem: 7, ..one }, walk).1, Role::Further(1));
    }

    #[test]
    fn names_that_may_be_of_a_number_given_out_again_are_read() {
        let walk = Timestamp { seconds: 1000, nanos: 0 };
        let one = Stat { links: 2, ..test_stat() };
        let recent = Stat { ctime: Timestamp { seconds: 1000, nanos: 5 }, ..one };
        let foreign = Stat { upkeep: Upkeep::Foreign, ..one };
        let single = Stat { links: 1, ..one };
        for stat in [recent, foreign, single, Stat { kind: EntryKind::Fifo, ..one }] {
            let mut links = Links::default();
            assert_eq!(
                [links.role(&stat, Some(walk)), links.role(&stat, Some(walk))],
                [Role::Alone; 2]
            );
        }
        assert_eq!(Links::default().role(&one, None), Role::Alone);
    }

    #[test]
    fn a_file_is_forgotten_when_all_of_its_names_were_found() {
        let walk = Some(Timestamp { seconds: 1000, nanos: 0 });
        let one = Stat { links: 3, ..test_stat() };
        let mut links = Links::default();
        let roles: Vec<Role> = (0..4).map(|_| links.role(&one, walk)).collect();
        let want = [Role::First(1), Role::Further(1), Role::Further(1), Role::First(2)];
        assert_eq!(roles, want);
    }
}
