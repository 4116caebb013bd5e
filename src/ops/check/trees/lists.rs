//! Pages of long content lists.

use super::super::reader::Reader;
use super::{Walk, lock};
use crate::crypto::ChunkKind;
use crate::format::page::ContentPage;
use crate::id::ChunkId;
use crate::ops::OpError;

/// A content page and all below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListFacts {
    height: u8,
    /// Plain bytes that it lists.
    pub(super) len: u64,
    /// Whether everything that it lists is in some pack.
    pub(super) whole: bool,
}

impl<'c> Walk<'c> {
    /// Checks a content page of `height` and all below it; nothing when it cannot be read.
    pub(super) fn list(
        &self,
        reader: &mut Reader<'c>,
        id: &ChunkId,
        height: u8,
    ) -> Result<Option<ListFacts>, OpError> {
        self.report.go_on()?;
        let known = lock(&self.lists).get(id).copied();
        let facts = match known {
            Some(known) => known,
            None => {
                let made = self.read_list(reader, id, height)?;
                lock(&self.lists).insert(*id, made);
                made
            }
        };
        if facts.is_some_and(|facts| facts.height != height) {
            let text = "it is not of the height that was said";
            self.problem(format!("content page {id}"), text);
            return Ok(None);
        }
        Ok(facts)
    }

    fn read_list(
        &self,
        reader: &mut Reader<'c>,
        id: &ChunkId,
        wanted: u8,
    ) -> Result<Option<ListFacts>, OpError> {
        let bytes = reader.chunk(ChunkKind::ContentPage, id)?;
        let name = || format!("content page {id}");
        let page = match bytes.map(|bytes| ContentPage::decode(&bytes)) {
            None => {
                self.problem(name(), self.why_lost(id));
                return Ok(None);
            }
            Some(Err(error)) => {
                self.problem(name(), error.to_string());
                return Ok(None);
            }
            Some(Ok(page)) => page,
        };
        // A page that decodes has a length.
        let len = page.len().unwrap_or(0);
        Ok(Some(match page {
            ContentPage::Items(items) => ListFacts { height: 0, len, whole: self.items(&items) },
            // Not gone into: whoever refers to it says that its height is another.
            ContentPage::Children { height, .. } if height != wanted => {
                ListFacts { height, len, whole: false }
            }
            ContentPage::Children { height, children } => {
                let mut whole = true;
                for child in children {
                    let below = self.list(reader, &child.id, height - 1)?;
                    if below.is_some_and(|below| below.len != child.len) {
                        let text = "a page below it lists another length than it says";
                        self.problem(name(), text);
                    }
                    whole &= below.is_some_and(|below| below.whole && below.len == child.len);
                }
                ListFacts { height, len, whole }
            }
        }))
    }
}
