//! What is remembered of a page that was checked: enough to compare it with whatever else refers
//! to it.

use crate::format::page::PageRef;
use crate::format::path;

/// Lost entries that are named.
const EXAMPLES: usize = 3;

/// Entries that cannot be given back.
#[derive(Debug, Clone, Default)]
pub(super) struct Loss {
    pub(super) entries: u64,
    /// The paths of the first few.
    pub(super) examples: Vec<Box<[u8]>>,
}

/// A page and all below it.
#[derive(Debug)]
pub(super) struct PageFacts {
    height: u8,
    entries: u64,
    bytes: u64,
    first: Box<[u8]>,
    /// The last path; nothing when it is not known, because a page below is lost.
    last: Option<Box<[u8]>>,
    pub(super) loss: Option<Box<Loss>>,
}

impl PageFacts {
    pub(super) fn new(height: u8, first: Box<[u8]>) -> Self {
        Self { height, entries: 0, bytes: 0, first, last: None, loss: None }
    }

    /// Counts an entry of a leaf.
    pub(super) fn count(&mut self, path: &[u8], size: u64) {
        self.entries += 1;
        self.bytes = self.bytes.wrapping_add(size);
        self.last = Some(path.into());
    }

    /// Notes that an entry cannot be given back.
    pub(super) fn lose_entry(&mut self, path: &[u8]) {
        let loss = self.loss.get_or_insert_default();
        loss.entries += 1;
        if loss.examples.len() < EXAMPLES {
            loss.examples.push(path.into());
        }
    }

    /// Counts a page below, as the page that refers to it says.
    fn count_page(&mut self, page: &PageRef) {
        self.entries = self.entries.wrapping_add(page.entries);
        self.bytes = self.bytes.wrapping_add(page.bytes);
    }

    /// Notes that a whole page below cannot be read.
    pub(super) fn lose_page(&mut self, page: &PageRef) {
        self.count_page(page);
        self.last = None;
        self.lose_entry(&page.first_path);
        if let Some(loss) = &mut self.loss {
            loss.entries = loss.entries.saturating_add(page.entries.saturating_sub(1));
        }
    }

    /// Counts a page below, and what it has lost.
    pub(super) fn add(&mut self, page: &PageRef, below: &Self) {
        self.count_page(page);
        self.last.clone_from(&below.last);
        if let Some(lost) = &below.loss {
            let loss = self.loss.get_or_insert_default();
            loss.entries = loss.entries.saturating_add(lost.entries);
            let room = EXAMPLES.saturating_sub(loss.examples.len());
            loss.examples.extend(lost.examples.iter().take(room).cloned());
        }
    }

    /// What `page`, in a parent of `height`, says otherwise of this page; `next` is where the page
    /// after it begins.
    pub(super) fn contradiction(
        &self,
        page: &PageRef,
        height: u8,
        next: Option<&[u8]>,
    ) -> Option<&'static str> {
        let overlaps = || {
            let (last, next) = (self.last.as_deref()?, next?);
            path::compare(last, next).is_ge().then_some(())
        };
        if self.height.checked_add(1) != Some(height) {
            Some("it is of another height")
        } else if self.first != page.first_path {
            Some("it begins with another path")
        } else if self.entries != page.entries {
            Some("it has another number of entries")
        } else if self.bytes != page.bytes {
            Some("its entries have another number of bytes")
        } else if overlaps().is_some() {
            Some("it ends behind the beginning of the next")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    fn reference(first: &str, entries: u64, bytes: u64) -> PageRef {
        PageRef { first_path: first.as_bytes().into(), id: ChunkId([0; 32]), entries, bytes }
    }

    fn leaf() -> PageFacts {
        let mut facts = PageFacts::new(0, b"a"[..].into());
        facts.count(b"a", 1);
        facts.count(b"b", 2);
        facts
    }

    #[test]
    fn every_contradiction_is_seen() {
        let (leaf, right) = (leaf(), reference("a", 2, 3));
        assert_eq!(leaf.contradiction(&right, 1, Some(b"c")), None);
        assert_eq!(leaf.contradiction(&right, 1, None), None);
        for (page, height, next) in [
            (&right, 2, None),
            (&right, 0, None),
            (&reference("b", 2, 3), 1, None),
            (&reference("a", 3, 3), 1, None),
            (&reference("a", 2, 4), 1, None),
            (&right, 1, Some(&b"b"[..])),
        ] {
            assert!(leaf.contradiction(page, height, next).is_some(), "{page:?} {height} {next:?}");
        }
    }

    #[test]
    fn losses_add_up_and_name_the_first() {
        let (mut one, mut above) = (leaf(), PageFacts::new(1, b"a"[..].into()));
        one.lose_entry(b"b");
        above.add(&reference("a", 2, 3), &one);
        above.lose_page(&reference("c", 100, 5));
        assert_eq!((above.entries, above.bytes), (102, 8));
        let loss = above.loss.unwrap();
        assert_eq!(loss.entries, 101);
        assert_eq!(loss.to_string(), "101 entries cannot be restored: /b, /c (and 99 more)");
    }
}
