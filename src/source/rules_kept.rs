//! Exclude rules as a snapshot's record keeps them, and back.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::exclude::{ExcludeError, Excludes, ExcludesBuilder, patterns};
use super::pattern::Pattern;
use crate::format::left_out::ExcludeRecord;
use crate::format::snapshot::RawBytes;

impl Excludes {
    /// The rules for the record of a snapshot; without the window of a partial snapshot, which the
    /// record holds by itself.
    pub fn record(&self) -> ExcludeRecord {
        let rules = &self.0;
        let texts = |patterns: &[Pattern]| {
            patterns.iter().map(|pattern| RawBytes(pattern.text().to_vec())).collect()
        };
        let names = rules.if_present.iter().map(|name| RawBytes(name.as_bytes().to_vec()));
        ExcludeRecord {
            patterns: texts(&rules.strong),
            file_patterns: texts(&rules.weak),
            ignore_files: rules.use_ignore_files,
            caches: rules.caches,
            if_present: names.collect(),
            larger_than: rules.larger_than,
        }
    }

    /// The rules that a snapshot was taken with.
    ///
    /// # Errors
    /// When a pattern of the record cannot be used.
    pub fn of_record(record: &ExcludeRecord) -> Result<Self, ExcludeError> {
        let texts =
            |raw: &[RawBytes]| raw.iter().map(|text| OsString::from_vec(text.0.clone())).collect();
        let builder = ExcludesBuilder {
            patterns: texts(&record.patterns),
            use_ignore_files: record.ignore_files,
            caches: record.caches,
            if_present: texts(&record.if_present),
            larger_than: record.larger_than,
            ..ExcludesBuilder::default()
        };
        builder.with_weak(patterns(record.file_patterns.iter().map(|text| &text.0[..]))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes a pattern file")]
    fn the_rules_of_a_record_are_those_that_it_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patterns");
        std::fs::write(&file, "# comment\n*.log  \r\n!keep.log\n\\#odd\nend\\ \n\n").unwrap();
        let excludes = ExcludesBuilder {
            patterns: ["*.tmp", "/a/", "!b", "#no comment", "c "].map(OsString::from).to_vec(),
            pattern_files: vec![file],
            use_ignore_files: true,
            caches: true,
            if_present: vec![OsString::from_vec(b".nobackup\xff".to_vec())],
            larger_than: Some(7),
            window: None,
        };
        let excludes = excludes.build().unwrap();
        let again = Excludes::of_record(&excludes.record()).unwrap();
        assert_eq!(again.fingerprint(), excludes.fingerprint());
        assert_eq!(again.record(), excludes.record());
        assert_eq!(excludes.record().file_patterns.len(), 4);
        let bad =
            ExcludeRecord { patterns: vec![RawBytes(b"[z-".to_vec())], ..ExcludeRecord::default() };
        assert!(Excludes::of_record(&bad).is_err());
    }
}
