//! What lies where something was looked for in vain: most often a name was mistyped, or a disk is
//! not mounted.

use std::cmp::Reverse;
use std::path::Path;

use gabion::format::path::printable;

/// Names that are shown.
const SHOWN: usize = 3;
/// Names that are looked at: a hint is not worth reading a huge folder.
const LOOKED_AT: usize = 10_000;

/// The nearest folder above `missing` that exists, and what in it is most like the missing name.
pub(crate) fn nearby(missing: &Path) -> Option<String> {
    let mut wanted = missing;
    let folder = loop {
        let above = wanted.parent()?;
        if above.is_dir() {
            break above;
        }
        wanted = above;
    };
    let wanted = wanted.file_name()?.as_encoded_bytes();
    let found = std::fs::read_dir(folder).ok()?.take(LOOKED_AT).flatten();
    let mut names: Vec<Vec<u8>> = found.map(|item| item.file_name().into_encoded_bytes()).collect();
    names.sort_by_cached_key(|name| (Reverse(likeness(name, wanted)), name.clone()));
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| printable(name)).collect();
    let folder = folder.display();
    Some(match names.len() {
        0 => format!("{folder} exists and is empty: is its disk mounted?"),
        len if len > SHOWN => {
            let more = len - SHOWN;
            format!("{folder} exists and holds: {} (and {more} more)", shown.join(", "))
        }
        _ => format!("{folder} exists and holds: {}", shown.join(", ")),
    })
}

/// How many bytes two names have in common at their beginnings and ends.
fn likeness(a: &[u8], b: &[u8]) -> usize {
    let same = |pair: &(&u8, &u8)| pair.0.eq_ignore_ascii_case(pair.1);
    let start = a.iter().zip(b).take_while(same).count();
    start + a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_names_of_the_nearest_folder_come_first() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let hint = |name: &str| nearby(&at(name)).unwrap();
        assert!(hint("a/b").ends_with(" exists and is empty: is its disk mounted?"));
        for name in ["zero", "repository", "one", "Repo"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let expected = " exists and holds: repository, Repo, one (and 1 more)";
        assert!(hint("reposiotry/x/y").ends_with(expected), "{}", hint("reposiotry/x/y"));
        assert!(hint("zero/x").contains("/zero exists"));
    }
}
