//! Columns that leaf and upper pages share: front-coded paths, and dictionaries.

use std::collections::HashMap;
use std::hash::Hash;

use crate::format::DecodeError;
use crate::format::path;
use crate::format::wire::{Reader, put_bytes, put_varint};

/// Most bytes that the paths of one page may have together, spelled out.
const MAX_PATHS_LEN: usize = 1 << 26;

/// Sorted paths in one buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Paths {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.range(at)]
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        start..self.ends[at] as usize
    }

    fn push(&mut self, shared: usize, suffix: &[u8]) -> Result<(), &'static str> {
        let previous = if self.ends.is_empty() { 0..0 } else { self.range(self.ends.len() - 1) };
        if shared > previous.len() {
            return Err("more shared bytes than the path before has");
        }
        if self.bytes.len() + shared + suffix.len() > MAX_PATHS_LEN {
            return Err("paths too long together");
        }
        let start = self.bytes.len();
        self.bytes.extend_from_within(previous.start..previous.start + shared);
        self.bytes.extend_from_slice(suffix);
        let path = &self.bytes[start..];
        // The whole components that it shares with the path before were looked at there.
        let known = path[..shared].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let problem = path::problem(&path[known..]);
        if let Some(problem) = problem.or_else(|| path::too_long(path)) {
            return Err(problem);
        }
        let differs_from = previous.start + shared..previous.end;
        if !previous.is_empty() && path::compare(&self.bytes[differs_from], &path[shared..]).is_ge()
        {
            return Err("paths out of order");
        }
        self.ends.push(u32::try_from(self.bytes.len()).map_err(|_| "paths too long together")?);
        Ok(())
    }

    /// Decodes `count` paths, all valid and in strictly ascending order.
    pub(super) fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Self, DecodeError> {
        let mut column = column(reader)?;
        let mut paths = Self::default();
        paths.ends.reserve(count.min(column.remaining()));
        for _ in 0..count {
            let shared = column.count(path::MAX_PATH_LEN)?;
            let suffix = column.bytes(path::MAX_PATH_LEN)?;
            paths.push(shared, suffix).map_err(|reason| column.error(reason))?;
        }
        column.finish()?;
        Ok(paths)
    }
}

/// Front-codes `paths`: for each, how many bytes it shares with the one before, and the rest.
pub(super) fn put_paths<'a>(out: &mut Vec<u8>, paths: impl Iterator<Item = &'a [u8]>) {
    let mut previous: &[u8] = b"";
    put_column(out, |out| {
        for path in paths {
            let shared = previous.iter().zip(path).take_while(|(a, b)| a == b).count();
            put_varint(out, shared as u64);
            put_bytes(out, &path[shared..]);
            previous = path;
        }
    });
}

/// Appends a column: its length, then what `fill` writes.
pub(super) fn put_column(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut column = Vec::new();
    fill(&mut column);
    put_bytes(out, &column);
}

/// A reader of the next column.
pub(super) fn column<'a>(reader: &mut Reader<'a>) -> Result<Reader<'a>, DecodeError> {
    Ok(Reader::new("page column", reader.bytes(super::MAX_PAGE_LEN)?))
}

/// Numbers values in the order of their first use.
pub(super) struct Dictionary<T> {
    numbers: HashMap<T, u64>,
    values: Vec<T>,
    /// The number that was asked for last: neighbours are mostly alike.
    last: u64,
}

impl<T: Hash + Eq + Clone> Dictionary<T> {
    pub(super) fn new() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new(), last: 0 }
    }

    pub(super) fn number(&mut self, value: &T) -> u64 {
        let last = usize::try_from(self.last).ok().and_then(|last| self.values.get(last));
        if last == Some(value) {
            return self.last;
        }
        if let Some(&number) = self.numbers.get(value) {
            self.last = number;
            return number;
        }
        let number = self.values.len() as u64;
        self.last = number;
        self.numbers.insert(value.clone(), number);
        self.values.push(value.clone());
        number
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_is_judged_as_if_nothing_was_known_of_the_one_before(
            first in "[-.a]{1,2}(/[-.a]{1,2}){0,2}", keep in 0usize..8, suffix in "[-./a\0]{0,4}",
        ) {
            let mut paths = Paths::default();
            prop_assume!(paths.push(0, first.as_bytes()).is_ok());
            let shared = keep.min(first.len());
            let whole = format!("{}{suffix}", &first[..shared]);
            let is_valid = path::problem(whole.as_bytes()).is_none()
                && path::compare(first.as_bytes(), whole.as_bytes()).is_lt();
            prop_assert_eq!(paths.push(shared, suffix.as_bytes()).is_ok(), is_valid);
            if is_valid {
                prop_assert_eq!(paths.get(1), whole.as_bytes());
            }
        }
    }
}
