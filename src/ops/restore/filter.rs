//! Which entries a restore is about.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::format::path;
use crate::ops::OpError;

/// Includes and excludes of a restore, relative to the target.
#[derive(Debug)]
pub(super) struct Filter {
    include: Option<Gitignore>,
    exclude: Gitignore,
    /// The last folder that was included or excluded as a whole, with everything in it.
    decided: Option<(Box<[u8]>, bool)>,
}

fn matcher(patterns: &[String]) -> Result<Gitignore, OpError> {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder
            .add_line(None, pattern)
            .map_err(|error| OpError::Refused(format!("pattern {pattern:?}: {error}")))?;
    }
    builder.build().map_err(|error| OpError::Refused(format!("patterns: {error}")))
}

impl Filter {
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, OpError> {
        let include = if include.is_empty() { None } else { Some(matcher(include)?) };
        Ok(Self { include, exclude: matcher(exclude)?, decided: None })
    }

    /// Whether the entry at `below` (relative to the target) is to be restored; to be asked in
    /// path order. Folders above an included entry are made when they are needed.
    pub(super) fn wants(&mut self, below: &[u8], is_folder: bool) -> bool {
        if let Some((folder, wanted)) = &self.decided
            && path::is_within(below, folder)
            && !wanted
        {
            return false;
        }
        let inherited = match &self.decided {
            Some((folder, true)) => path::is_within(below, folder),
            _ => false,
        };
        let name = Path::new(OsStr::from_bytes(below));
        if self.exclude.matched(name, is_folder).is_ignore() {
            if is_folder {
                self.decided = Some((below.into(), false));
            }
            return false;
        }
        let Some(include) = &self.include else { return true };
        if inherited {
            return true;
        }
        let included = include.matched(name, is_folder).is_ignore();
        if included && is_folder {
            self.decided = Some((below.into(), true));
        }
        included
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let list = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let mut filter = Filter::new(&list(include), &list(exclude)).unwrap();
        ["a/", "a/b/", "a/b/c.txt", "a/b/d.log", "a/e.txt", "f.txt", "g/", "g/h.log"]
            .into_iter()
            .filter(|path| {
                let bare = path.trim_end_matches('/');
                filter.wants(bare.as_bytes(), bare.len() != path.len())
            })
            .collect()
    }

    #[test]
    fn includes_and_excludes_combine() {
        assert_eq!(wanted(&[], &[]).len(), 8);
        assert_eq!(wanted(&["*.txt"], &[]), ["a/b/c.txt", "a/e.txt", "f.txt"]);
        assert_eq!(wanted(&["/a/b"], &[]), ["a/b/", "a/b/c.txt", "a/b/d.log"]);
        assert_eq!(wanted(&["/a"], &["*.log"]), ["a/", "a/b/", "a/b/c.txt", "a/e.txt"]);
        assert_eq!(wanted(&[], &["b/"]), ["a/", "a/e.txt", "f.txt", "g/", "g/h.log"]);
        assert!(Filter::new(&["[z-a]".to_owned()], &[]).is_err());
    }
}
