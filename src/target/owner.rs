//! Which numbers here stand for an owner recorded elsewhere.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use nix::unistd::{Group, User};

use crate::format::entry::Owner;

/// How the owner of an entry is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerPolicy {
    /// The user and the group with the recorded names; the recorded number where this machine does
    /// not know the name.
    #[default]
    Names,
    /// The recorded numbers.
    Numbers,
    /// Whoever restores.
    Leave,
}

/// The owners met so far: the machine is asked once for each.
#[derive(Debug, Default)]
pub(super) struct OwnerNumbers(RwLock<HashMap<Owner, (u32, u32)>>);

impl OwnerNumbers {
    /// User id and group id of `owner` under `policy`; with [`OwnerPolicy::Leave`] those that it
    /// would have by name.
    pub(super) fn of(&self, owner: &Owner, policy: OwnerPolicy) -> (u32, u32) {
        match policy {
            OwnerPolicy::Numbers => (owner.uid, owner.gid),
            OwnerPolicy::Names | OwnerPolicy::Leave => self.by_name(owner),
        }
    }

    fn by_name(&self, owner: &Owner) -> (u32, u32) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(&numbers) = known.get(owner) {
            return numbers;
        }
        drop(known);
        // A failed look-up counts as a name that is not known here.
        let uid = lookup(&owner.user, |name| Some(User::from_name(name).ok()??.uid.as_raw()));
        let gid = lookup(&owner.group, |name| Some(Group::from_name(name).ok()??.gid.as_raw()));
        let numbers = (uid.unwrap_or(owner.uid), gid.unwrap_or(owner.gid));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(owner.clone(), numbers);
        numbers
    }
}

/// Longest name that the machine is asked for; no system allows longer ones.
const MAX_NAME_LEN: usize = 256;

fn lookup(name: &[u8], ask: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return None;
    }
    ask(std::str::from_utf8(name).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &[u8], group: &[u8]) -> Owner {
        Owner { uid: 4711, gid: 4712, user: user.into(), group: group.into() }
    }

    #[test]
    fn a_known_name_wins_over_the_number() {
        let numbers = OwnerNumbers::default();
        for _ in 0..2 {
            assert_eq!(numbers.of(&owner(b"root", b""), OwnerPolicy::Names), (0, 4712));
        }
        assert_eq!(numbers.of(&owner(b"root", b"root"), OwnerPolicy::Numbers), (4711, 4712));
    }

    #[test]
    fn an_unknown_or_impossible_name_leaves_the_number() {
        let numbers = OwnerNumbers::default();
        let long = vec![b'r'; 1 << 20];
        for name in [&b"no such user here"[..], b"", b"ro\0ot", b"\xff", &long] {
            assert_eq!(numbers.of(&owner(name, name), OwnerPolicy::Names), (4711, 4712));
        }
    }
}
