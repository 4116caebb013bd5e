//! What a page refers to, with nothing else decoded: whoever marks what is needed reads every page
//! there is, and wants no more of it.

use super::columns::column;
use super::leaf::{CONTENT_EMPTY, CONTENT_INLINE, CONTENT_LIST, CONTENT_PAGED};
use super::{MAX_HEIGHT, MAX_ITEMS, MAX_PAGE_LEN, read_head};
use crate::crypto::ChunkKind;
use crate::format::DecodeError;
use crate::format::wire::Reader;
use crate::id::ChunkId;

/// Columns of a leaf before those of contents.
const COLUMNS_BEFORE_CONTENTS: usize = 18;
/// Columns of an upper page before the ids.
const COLUMNS_BEFORE_IDS: usize = 3;

/// Appends the chunks to `found` that a page of a snapshot's map refers to, in order. Of a page that
/// [`super::Page::decode`] accepts these are all; one that it does not accept may pass.
///
/// # Errors
/// When the references cannot be told from `bytes`.
pub fn references(bytes: &[u8], found: &mut Vec<(ChunkKind, ChunkId)>) -> Result<(), DecodeError> {
    let mut reader = Reader::new("page", bytes);
    if bytes.len() > MAX_PAGE_LEN {
        return Err(reader.error(format!("{} bytes are too many", bytes.len())));
    }
    let height = read_head(&mut reader)?;
    let count = reader.count(MAX_ITEMS)?;
    if height == 0 {
        return of_leaf(reader, found);
    }
    for _ in 0..COLUMNS_BEFORE_IDS {
        column(&mut reader)?;
    }
    let mut ids = column(&mut reader)?;
    for _ in 0..count {
        found.push((ChunkKind::Page, ChunkId(ids.array()?)));
    }
    [ids, reader].into_iter().try_for_each(Reader::finish)
}

fn of_leaf(
    mut reader: Reader<'_>,
    found: &mut Vec<(ChunkKind, ChunkId)>,
) -> Result<(), DecodeError> {
    for _ in 0..COLUMNS_BEFORE_CONTENTS {
        column(&mut reader)?;
    }
    let [mut forms, mut lens] = [column(&mut reader)?, column(&mut reader)?];
    let [_inline, mut ids] = [column(&mut reader)?, column(&mut reader)?];
    while forms.remaining() > 0 {
        match forms.varint()? {
            CONTENT_EMPTY | CONTENT_INLINE => {}
            CONTENT_PAGED => {
                if lens.u8()? > MAX_HEIGHT {
                    return Err(lens.error("content pages too high"));
                }
                found.push((ChunkKind::ContentPage, ChunkId(ids.array()?)));
            }
            form => {
                for _ in CONTENT_LIST..form {
                    let is_hole = lens.varint()? & 1 == 1;
                    if !is_hole {
                        found.push((ChunkKind::Content, ChunkId(ids.array()?)));
                    }
                }
            }
        }
    }
    [lens, ids, reader].into_iter().try_for_each(Reader::finish)
}
