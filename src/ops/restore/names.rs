//! Names that a target may not distinguish: file systems that ignore upper and lower case, or in
//! which spelling an accented letter is written.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use unicode_normalization::UnicodeNormalization as _;

/// What two names of one directory have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alike {
    /// They are equal but for upper and lower case.
    Case,
    /// They are equal but for case and Unicode normal form.
    Form,
}

/// The names of one directory that came, in eight bytes each.
#[derive(Debug, Default)]
pub(super) struct NamesSeen {
    by_case: HashSet<u64>,
    /// Only of names that are not ASCII: the others have one form.
    by_form: HashSet<u64>,
}

impl NamesSeen {
    /// Adds a name; tells when one came that is like it.
    pub(super) fn add(&mut self, name: &[u8], state: &RandomState) -> Option<Alike> {
        if name.is_ascii() {
            let new = self.by_case.insert(state.hash_one(name.to_ascii_lowercase()));
            return (!new).then_some(Alike::Case);
        }
        let Ok(text) = std::str::from_utf8(name) else { return None };
        let fold = |text: &str| text.to_uppercase().to_lowercase();
        let new_case = self.by_case.insert(state.hash_one(fold(text).as_bytes()));
        let decomposed: String = fold(&text.nfd().collect::<String>()).nfd().collect();
        let new_form = self.by_form.insert(state.hash_one(decomposed.as_bytes()));
        match (new_case, new_form) {
            (false, _) => Some(Alike::Case),
            (_, false) => Some(Alike::Form),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_only_in_case_or_form_are_alike() {
        let state = RandomState::new();
        let alike = |one: &str, other: &str| {
            let mut seen = NamesSeen::default();
            assert_eq!(seen.add(one.as_bytes(), &state), None);
            seen.add(other.as_bytes(), &state)
        };
        assert_eq!(alike("a.TXT", "A.txt"), Some(Alike::Case));
        assert_eq!(alike("\u{c4}pfel", "\u{e4}pfel"), Some(Alike::Case));
        assert_eq!(alike("Stra\u{df}e", "STRASSE"), Some(Alike::Case));
        assert_eq!(alike("e\u{301}", "\u{e9}"), Some(Alike::Form));
        assert_eq!(alike("E\u{301}", "\u{e9}"), Some(Alike::Form));
        assert_eq!(alike("a", "b"), None);
        let mut seen = NamesSeen::default();
        assert_eq!(seen.add(b"\xff", &state), None);
        assert_eq!(seen.add(b"\xff", &state), None, "it is not text");
    }
}
