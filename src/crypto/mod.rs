//! Keys and sealing: bytes to bytes, pure.

pub(crate) mod aead;
pub mod header;
pub mod key_file;
pub mod keys;
pub mod passphrase;
pub mod seal;
pub(crate) mod text;

/// What a chunk holds. Every kind has an id key of its own, so a file whose bytes equal those of
/// a page gets another id and can never pass for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// Bytes of a file or stream.
    Content = 1,
    /// A page of the sorted map from path to entry.
    Page = 2,
    /// A page of a long list of content items.
    ContentPage = 3,
}

/// A byte that names no kind of chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown chunk kind {0}")]
pub struct UnknownChunkKind(pub u8);

impl TryFrom<u8> for ChunkKind {
    type Error = UnknownChunkKind;

    fn try_from(byte: u8) -> Result<Self, UnknownChunkKind> {
        [Self::Content, Self::Page, Self::ContentPage]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
            .ok_or(UnknownChunkKind(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_its_own_kind_or_none() {
        let known: Vec<u8> = (0..=u8::MAX)
            .filter_map(|byte| {
                let kind = ChunkKind::try_from(byte).ok()?;
                assert_eq!(kind as u8, byte);
                Some(byte)
            })
            .collect();
        assert_eq!(known, [1, 2, 3]);
    }
}
