//! What a snapshot's record keeps of the rules by which files were left out of it.

use serde::{Deserialize, Serialize};

use super::snapshot::RawBytes;

/// Most bytes of rules that a record keeps. Longer rules are not kept at all.
pub const MAX_EXCLUDES_LEN: u64 = 128 << 10;

/// The exclude rules that were in force when a snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExcludeRecord {
    /// Patterns that were given singly, which count more than those of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<RawBytes>,
    /// Patterns from pattern files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_patterns: Vec<RawBytes>,
    /// Whether `.gabionignore` files of the source were followed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_files: bool,
    /// Whether the contents of directories with a valid `CACHEDIR.TAG` were left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub caches: bool,
    /// The contents of directories that hold a file of such a name were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub if_present: Vec<RawBytes>,
    /// Files of more bytes were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larger_than: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl ExcludeRecord {
    /// The record, unless it is longer than a snapshot keeps.
    pub fn if_short(self) -> Option<Self> {
        let bytes = super::snapshot::encode(&self).len();
        u64::try_from(bytes).is_ok_and(|len| len <= MAX_EXCLUDES_LEN).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::{decode, encode};

    #[test]
    fn rules_round_trip_and_rules_that_are_too_long_are_not_kept() {
        let rules = ExcludeRecord {
            patterns: vec![RawBytes(b"*.tmp".to_vec()), RawBytes(b"\xff".to_vec())],
            file_patterns: vec![RawBytes(b"!a b\\ ".to_vec())],
            ignore_files: true,
            caches: true,
            if_present: vec![RawBytes(b".nobackup".to_vec())],
            larger_than: Some(u64::MAX),
        };
        assert_eq!(decode::<ExcludeRecord>("rules", &encode(&rules)).unwrap(), rules);
        assert_eq!(encode(&ExcludeRecord::default()), b"{}");
        assert_eq!(rules.clone().if_short(), Some(rules.clone()));
        let many = vec![RawBytes(vec![b'x'; 1024]); 128];
        assert_eq!(ExcludeRecord { patterns: many, ..rules }.if_short(), None);
    }
}
