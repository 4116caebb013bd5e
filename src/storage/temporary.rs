//! The names of unfinished objects.

use super::name::hex;
use crate::id;

/// What the name of every unfinished object begins with.
const PREFIX: &str = "tmp-";

/// A process that writes to another machine, where no lock says that it lives.
pub(super) type Owner = [u8; 16];

/// A new name for an unfinished object that its writer holds a lock on.
pub(super) fn new_name() -> String {
    format!("{PREFIX}{}", hex(&random()))
}

/// A new name for an unfinished object of a writer on another machine. Those that hold locks leave
/// it alone.
pub(super) fn new_name_of(owner: &Owner) -> String {
    format!("{PREFIX}{}-{}", hex(&random()), hex(owner))
}

/// `name` is one that [`new_name`] or [`new_name_of`] gives.
pub(super) fn is_temporary(name: &str) -> bool {
    is_of_lock_holder(name) || owner(name).is_some()
}

/// `name` is one that [`new_name`] gives.
pub(super) fn is_of_lock_holder(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| parse(rest).is_some())
}

/// Whose unfinished object this is, if [`new_name_of`] gave the name.
pub(super) fn owner(name: &str) -> Option<Owner> {
    let (random, owner) = name.strip_prefix(PREFIX)?.split_once('-')?;
    parse(random)?;
    parse(owner)
}

fn random() -> [u8; 16] {
    let mut random = [0; 16];
    id::fill_random(&mut random);
    random
}

fn parse(digits: &str) -> Option<[u8; 16]> {
    digits.parse::<id::PackId>().ok().map(|id| id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_again() {
        let (local, remote) = (new_name(), new_name_of(&[0xab; 16]));
        assert!(is_temporary(&local) && is_of_lock_holder(&local));
        assert!(is_temporary(&remote) && !is_of_lock_holder(&remote));
        assert_eq!((owner(&local), owner(&remote)), (None, Some([0xab; 16])));
        for strange in ["tmp-", "tmp-short", "config", &remote[..40], &format!("{remote}0")] {
            assert!(!is_temporary(strange), "{strange}");
        }
    }
}
