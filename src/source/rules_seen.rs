//! What tells that two scans leave out the same: the rules as they were given, and the files of the
//! tree that hold further ones.

use std::os::unix::ffi::OsStrExt as _;

use super::exclude::{CACHE_TAG, Excludes, IGNORE_FILE};
use crate::format::snapshot::Window;

impl Excludes {
    /// What is kept by the time of its last change alone, if that counts.
    pub fn window(&self) -> Option<Window> {
        self.0.window
    }

    /// All that was given, in bytes that are equal for equal rules only.
    pub fn fingerprint(&self) -> Vec<u8> {
        let rules = &self.0;
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(bytes.len().to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(bytes);
        };
        for patterns in [&rules.strong, &rules.weak] {
            put(patterns.len().to_string().as_bytes());
            patterns.iter().for_each(|pattern| put(pattern.text()));
        }
        rules.if_present.iter().for_each(|name| put(name.as_bytes()));
        let limit = rules.larger_than.map_or_else(String::new, |limit| limit.to_string());
        put(limit.as_bytes());
        if let Some(window) = rules.window {
            put(format!("{:?} {:?}", window.since, window.until).as_bytes());
        }
        put(&[u8::from(rules.use_ignore_files), u8::from(rules.caches)]);
        out
    }

    /// Whether what is left out of a folder depends on a file of this name in it.
    pub(crate) fn depend_on(&self, name: &[u8]) -> bool {
        self.rule_files().any(|file| file == name)
    }

    /// The names of the files that decide what is left out of the folder that they are in.
    pub(crate) fn rule_files(&self) -> impl Iterator<Item = &[u8]> {
        let rules = &self.0;
        let ignore_file = rules.use_ignore_files.then_some(IGNORE_FILE.as_bytes());
        let cache_tag = rules.caches.then_some(CACHE_TAG.as_bytes());
        let markers = rules.if_present.iter().map(|name| name.as_bytes());
        ignore_file.into_iter().chain(cache_tag).chain(markers)
    }
}

#[cfg(test)]
mod tests {
    use crate::format::snapshot::{Moment, Window};
    use crate::source::exclude::ExcludesBuilder;

    #[test]
    fn every_rule_counts() {
        let of = |builder: ExcludesBuilder| builder.build().unwrap().fingerprint();
        let patterns = |list: &[&str]| ExcludesBuilder {
            patterns: list.iter().map(|&text| text.into()).collect(),
            ..ExcludesBuilder::default()
        };
        let moment = Some(Moment { seconds: 1, nanos: 0 });
        let since = Window { since: moment, until: None };
        let until = Window { since: None, until: moment };
        let different = [
            patterns(&[]),
            patterns(&["a"]),
            patterns(&["a", "b"]),
            patterns(&["b", "a"]),
            ExcludesBuilder { use_ignore_files: true, ..ExcludesBuilder::default() },
            ExcludesBuilder { caches: true, ..ExcludesBuilder::default() },
            ExcludesBuilder { if_present: vec!["a".into()], ..ExcludesBuilder::default() },
            ExcludesBuilder { larger_than: Some(1), ..ExcludesBuilder::default() },
            ExcludesBuilder { larger_than: Some(11), ..ExcludesBuilder::default() },
            ExcludesBuilder { window: Some(since), ..ExcludesBuilder::default() },
            ExcludesBuilder { window: Some(until), ..ExcludesBuilder::default() },
        ];
        let all: std::collections::HashSet<_> = different.into_iter().map(of).collect();
        assert_eq!(all.len(), 11);
        assert_eq!(of(patterns(&["a"])), of(patterns(&["a"])));
    }
}
