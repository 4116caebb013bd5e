//! Pages: runs of neighbouring entries of a snapshot's sorted map, and of references to pages.
//!
//! Both kinds are columnar: all paths, then all kinds, then all modes, and so on, because columns
//! of like values compress better and decode faster than records. FORMAT.md has the byte map.

mod columns;
mod content;
mod leaf;
mod leaf_decode;
mod leaf_encode;
mod references;
mod upper;

pub use content::{ContentChild, ContentPage};
pub use leaf::{EntryRef, EntryStat, Leaf};
pub use references::references;
pub use upper::{PageRef, Upper};

use super::DecodeError;
use super::wire::Reader;

/// Version byte that begins every page.
const VERSION: u8 = 1;

/// Most entries, references or items that a page may hold.
pub const MAX_ITEMS: usize = 1 << 16;

/// Most bytes of a page before compression. Writers cut far earlier; the limit bounds what a
/// hostile repository can make a reader allocate.
pub const MAX_PAGE_LEN: usize = 1 << 26;

/// Greatest height of a tree of pages.
pub const MAX_HEIGHT: u8 = 16;

/// Reads the two bytes that begin a page and returns the height.
fn read_head(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.error(format!("version {version}, this program knows {VERSION}")));
    }
    let height = reader.u8()?;
    if height > MAX_HEIGHT {
        return Err(reader.error(format!("height {height} where at most {MAX_HEIGHT} may be")));
    }
    Ok(height)
}

/// A decoded page of a snapshot's map.
#[derive(Debug, Clone)]
pub enum Page {
    /// Height 0: entries.
    Leaf(Leaf),
    /// Greater heights: references to pages one lower.
    Upper(Upper),
}

impl Page {
    /// Decodes a page of a snapshot's map.
    ///
    /// # Errors
    /// When `bytes` are not exactly one valid page.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PAGE_LEN {
            return Err(DecodeError::new("page", format!("{} bytes are too many", bytes.len())));
        }
        match read_head(&mut Reader::new("page", &bytes))? {
            0 => Leaf::decode(bytes).map(Self::Leaf),
            height => Upper::decode(height, &bytes).map(Self::Upper),
        }
    }
}
