//! The master key of a repository and the keys that follow from it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::ChunkKind;
use crate::id::{ChunkId, fill_random};

/// Length of every key in bytes.
pub const KEY_LEN: usize = 32;

// The contexts are part of the format: a changed letter gives other keys.
const CONTENT_ID: &str = "gabion 2026-11 content id";
const PAGE_ID: &str = "gabion 2026-11 page id";
const CONTENT_PAGE_ID: &str = "gabion 2026-11 content page id";
const DATA_SEALING: &str = "gabion 2026-11 data sealing";
const CONFIG_MAC: &str = "gabion 2026-11 config mac";
const PAGE_CUT: &str = "gabion 2026-11 page cut";
const CHUNKER_GEAR: &str = "gabion 2026-11 chunker gear";
const CACHE_CHECK: &str = "gabion 2026-11 cache check";

/// The one secret of a repository, from which all its other keys follow. Drawn once at `init`,
/// kept only wrapped in key slots (or, when nothing is sealed, in the open in the config).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; KEY_LEN]);

impl MasterKey {
    /// A new key from the operating system's random source.
    pub fn random() -> Self {
        let mut key = Self([0; KEY_LEN]);
        fill_random(&mut key.0);
        key
    }

    pub(crate) fn from_bytes(bytes: &[u8; KEY_LEN]) -> Self {
        Self(*bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        // The comparison of BLAKE3 hashes takes the same time wherever they differ.
        blake3::Hash::from_bytes(self.0) == other.0
    }
}

impl Eq for MasterKey {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// The keys that a program works with, each for one purpose.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    content_id: [u8; KEY_LEN],
    page_id: [u8; KEY_LEN],
    content_page_id: [u8; KEY_LEN],
    data_sealing: [u8; KEY_LEN],
    config_mac: [u8; KEY_LEN],
    page_cut: [u8; KEY_LEN],
    chunker_gear: [u8; KEY_LEN],
    cache_check: [u8; KEY_LEN],
}

impl Keys {
    /// All keys that follow from `master`.
    pub fn derive(master: &MasterKey) -> Self {
        let key = |context| blake3::derive_key(context, &master.0);
        Self {
            content_id: key(CONTENT_ID),
            page_id: key(PAGE_ID),
            content_page_id: key(CONTENT_PAGE_ID),
            data_sealing: key(DATA_SEALING),
            config_mac: key(CONFIG_MAC),
            page_cut: key(PAGE_CUT),
            chunker_gear: key(CHUNKER_GEAR),
            cache_check: key(CACHE_CHECK),
        }
    }

    /// The id of the chunk of `kind` that holds the bytes `plain`.
    pub fn chunk_id(&self, kind: ChunkKind, plain: &[u8]) -> ChunkId {
        let key = match kind {
            ChunkKind::Content => &self.content_id,
            ChunkKind::Page => &self.page_id,
            ChunkKind::ContentPage => &self.content_page_id,
        };
        ChunkId(*blake3::keyed_hash(key, plain).as_bytes())
    }

    /// A number that decides whether a page ends at `path`. It depends on the path alone, so the
    /// same set of paths is always cut at the same places.
    pub fn page_cut_hash(&self, path: &[u8]) -> u64 {
        first_u64(blake3::keyed_hash(&self.page_cut, path).as_bytes())
    }

    /// The chunker's gear table: 256 numbers of 64 bits, little-endian, from the key's extended
    /// output (BLAKE3 as an extendable-output function over nothing).
    pub fn chunker_gear(&self) -> Zeroizing<[u64; 256]> {
        let mut output = blake3::Hasher::new_keyed(&self.chunker_gear).finalize_xof();
        let mut table = Zeroizing::new([0; 256]);
        for number in table.iter_mut() {
            let mut bytes = [0; 8];
            output.fill(&mut bytes);
            *number = u64::from_le_bytes(bytes);
        }
        table
    }

    /// What rows of the client's cached catalogue are checked with.
    pub fn cache_check(&self) -> &[u8; KEY_LEN] {
        &self.cache_check
    }

    /// Authenticates the config's `bytes`.
    pub fn config_mac(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.config_mac, bytes).as_bytes()
    }

    /// Whether `mac` is [`Self::config_mac`] of `bytes`, decided in constant time.
    pub fn config_mac_matches(&self, bytes: &[u8], mac: &[u8; 32]) -> bool {
        blake3::keyed_hash(&self.config_mac, bytes) == *mac
    }

    pub(crate) fn data_sealing(&self) -> &[u8; KEY_LEN] {
        &self.data_sealing
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

fn first_u64(bytes: &[u8; 32]) -> u64 {
    let (first, _) = bytes.split_first_chunk().expect("32 bytes hold 8");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::crypto::text::to_hex;

    fn master() -> MasterKey {
        MasterKey::from_bytes(&std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    #[test]
    fn derived_keys_and_ids_are_those_of_the_format() {
        let keys = Keys::derive(&master());
        let golden = [
            (
                to_hex(&keys.content_id),
                "a45a2704eb5e66a36a91b1fc2cdb2b71d5d7270744a53c8856bddd06a3eca4b4",
            ),
            (
                to_hex(&keys.page_id),
                "33b70912ef9d7de8d46ed745c2c3307db66cbd160a390c098307f196c234e79c",
            ),
            (
                to_hex(&keys.content_page_id),
                "900232d11811222f8a4d7e787745c5458a2c0623510b294c29715dfc05fce175",
            ),
            (
                to_hex(&keys.data_sealing),
                "3ef957737522114bdc0973f65d957b49d96ad8a40af45c2c943cd549d7b11f4a",
            ),
            (
                to_hex(&keys.config_mac),
                "4360c93e5e39adedbbb093116b29f87bf173ca63139e4d41c908a65d140e7974",
            ),
            (
                to_hex(&keys.page_cut),
                "b8276a6993388d8bff26f9500b5d5a56a749fb29dc9dc78de7c25142854cda94",
            ),
            (
                keys.chunk_id(ChunkKind::Content, b"gabion").to_string(),
                "6a70aa956c52552adcf03a99e3b9aacd8241ed202838aeb6f23642c649f1cfad",
            ),
            (
                keys.chunk_id(ChunkKind::Page, b"gabion").to_string(),
                "2c6b12911df53ee82ab96cfd80c0d1143c4a09e916b61fa7cea4a3b997de9fe1",
            ),
            (
                keys.chunk_id(ChunkKind::ContentPage, b"gabion").to_string(),
                "5bbfcac5d26da2d2b94d7386bf4dd9556de407d445312f8768462b6372ace30b",
            ),
            (
                to_hex(&keys.config_mac(b"gabion")),
                "999e917f9aeca7a17932c8335790ea66d81d57d162638c98fa8a54ee275b925e",
            ),
            (
                format!("{:016x}{:016x}", keys.chunker_gear()[0], keys.chunker_gear()[255]),
                "07e158f3e941dd0627058d451d4cd444",
            ),
            (
                to_hex(&keys.cache_check),
                "a1ab01e30f343f259d6aa24df0aca3ef4888816f4793b585b1aff41f01e12878",
            ),
            (format!("{:016x}", keys.page_cut_hash(b"a/b")), "7d5f9cfc5876521d"),
        ];
        for (found, expected) in golden {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let keys = Keys::derive(&master());
        let all = HashSet::from([
            keys.content_id,
            keys.page_id,
            keys.content_page_id,
            keys.data_sealing,
            keys.config_mac,
            keys.page_cut,
            master().0,
        ]);
        assert_eq!(all.len(), 7);
        let kinds = [ChunkKind::Content, ChunkKind::Page, ChunkKind::ContentPage];
        assert_eq!(HashSet::from(kinds.map(|kind| keys.chunk_id(kind, b""))).len(), 3);
    }

    #[test]
    fn two_repositories_share_nothing() {
        let (one, two) = (MasterKey::random(), MasterKey::random());
        assert_ne!(one, two);
        let (one, two) = (Keys::derive(&one), Keys::derive(&two));
        assert_ne!(one.chunk_id(ChunkKind::Content, b"x"), two.chunk_id(ChunkKind::Content, b"x"));
        assert_ne!(one.chunker_gear(), two.chunker_gear());
        assert_ne!(one.page_cut_hash(b"x"), two.page_cut_hash(b"x"));
    }

    #[test]
    fn a_mac_matches_only_its_own_bytes() {
        let keys = Keys::derive(&master());
        let mut mac = keys.config_mac(b"text");
        assert!(keys.config_mac_matches(b"text", &mac));
        assert!(!keys.config_mac_matches(b"Text", &mac));
        mac[31] ^= 1;
        assert!(!keys.config_mac_matches(b"text", &mac));
    }

    #[test]
    fn debug_output_holds_no_key_bytes() {
        assert_eq!(format!("{:?}", master()), "MasterKey(..)");
        assert_eq!(format!("{:?}", Keys::derive(&master())), "Keys(..)");
    }
}
