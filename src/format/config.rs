//! Config: what a repository is and how its data is cut. Readable by anyone, authenticated with a
//! key, so that nobody without it can change a parameter.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::crypto::header::Sealing;
use crate::crypto::keys::{Keys, MasterKey};
use crate::crypto::text;
use crate::format::DecodeError;
use crate::format::parity::{MAX_PARITY_LEN, MAX_PER_MILLE};
use crate::id::RepositoryId;

/// The newest format of a repository that is written and read.
pub const FORMAT_VERSION: u32 = 1;

/// Every pack has a parity object beside it.
const PARITY: &str = "parity";
/// Blocks may be encoded against chunks of other blocks.
const DELTA: &str = "delta";

/// The features that a repository may require of its readers.
const SUPPORTED_FEATURES: &[&str] = &[PARITY, DELTA];

const WHAT: &str = "config";

/// Why a config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not what was written. The repository's second copy may be whole.
    #[error("the config is damaged")]
    Damaged(#[source] DecodeError),
    /// A later gabion made the repository.
    #[error("the repository has format version {found}, this gabion knows up to {supported}")]
    NewerFormat {
        /// The repository's version.
        found: u32,
        /// The newest version that can be used.
        supported: u32,
    },
    /// The repository needs something that this gabion does not have.
    #[error("the repository requires the feature {0:?}, which this gabion does not know")]
    UnknownFeature(String),
    /// It was not written with the repository's key: somebody forged it, or the key is that of
    /// another repository.
    #[error("the config is not authentic")]
    NotAuthentic,
}

/// Bounds of the chunks of one kind of source, in bytes. All are even, for the chunker's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSizes {
    /// No chunk but the last of a file is shorter.
    pub min: u32,
    /// What the chunker aims at.
    pub avg: u32,
    /// No chunk is longer.
    pub max: u32,
}

/// Where content is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// Files of a tree.
    pub files: ChunkSizes,
    /// Streams: database dumps, standard input.
    pub streams: ChunkSizes,
}

/// Where pages are cut: after one in two to the power of so many members, on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PageParameters {
    /// Pages of entries and the pages above them.
    pub fan_out_bits: u8,
    /// Pages of long lists of content items.
    pub content_fan_out_bits: u8,
}

/// All that is fixed at `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Format of the whole repository.
    pub format_version: u32,
    /// Names the repository for ever.
    pub repository_id: RepositoryId,
    /// When it was made, as RFC 3339 text. Shown, never computed with.
    pub created: String,
    /// How objects are protected.
    pub sealing: Sealing,
    /// Where content is cut.
    pub chunker: ChunkerParameters,
    /// Where pages are cut.
    pub pages: PageParameters,
    /// A pack is closed when it has about so many bytes.
    pub pack_size: u32,
    /// So many plain bytes of content are gathered into a block.
    pub block_size: u32,
    /// So many plain bytes of pages are gathered into a block.
    pub page_block_size: u32,
    /// Files of up to so many bytes sit in their entry.
    pub inline_size: u32,
    /// Parity shards for every thousand data shards of a pack, exactly when packs have parity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity_per_mille: Option<u32>,
    /// Who does not know one of these must not touch the repository.
    pub required_features: Vec<String>,
    /// Who does not know one of these may ignore it.
    pub optional_features: Vec<String>,
    /// The master key in the open, exactly when nothing is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "plaintext_key")]
    pub plaintext_key: Option<MasterKey>,
}

/// What has to be known before the rest may be looked at: it stays in every later format.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Preamble {
    format_version: u32,
    #[serde(default)]
    required_features: Vec<String>,
}

impl Config {
    /// A config with the default parameters. A plaintext repository also gets its
    /// `plaintext_key`; the caller then derives all keys from it.
    pub fn new(repository_id: RepositoryId, sealing: Sealing, created: String) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            repository_id,
            created,
            sealing,
            chunker: ChunkerParameters {
                files: ChunkSizes { min: 32 << 10, avg: 64 << 10, max: 256 << 10 },
                streams: ChunkSizes { min: 2 << 10, avg: 4 << 10, max: 16 << 10 },
            },
            pages: PageParameters { fan_out_bits: 8, content_fan_out_bits: 6 },
            pack_size: 64 << 20,
            block_size: 1 << 20,
            page_block_size: 256 << 10,
            inline_size: 64,
            parity_per_mille: None,
            required_features: Vec::new(),
            optional_features: Vec::new(),
            plaintext_key: (sealing == Sealing::None).then(MasterKey::random),
        }
    }

    /// Gives every pack so many parity shards for every thousand data shards.
    ///
    /// # Errors
    /// When that is outside the limits.
    pub fn add_parity(&mut self, per_mille: u32) -> Result<(), DecodeError> {
        self.parity_per_mille = Some(per_mille);
        if !self.required_features.iter().any(|name| name == PARITY) {
            self.required_features.push(PARITY.to_owned());
        }
        self.check_parity()
    }

    /// Lets blocks be encoded against chunks of other blocks.
    pub fn add_delta(&mut self) {
        if !self.has_delta() {
            self.required_features.push(DELTA.to_owned());
        }
    }

    /// Whether blocks may be encoded against chunks of other blocks.
    pub fn has_delta(&self) -> bool {
        self.required_features.iter().any(|name| name == DELTA)
    }

    /// The config object: a line of JSON, its hash, and its MAC.
    ///
    /// # Panics
    /// When [`Self::check`] fails: such a config could not be read again.
    pub fn encode(&self, keys: &Keys) -> Vec<u8> {
        if let Err(error) = self.check() {
            panic!("only a valid config is written: {error}");
        }
        let line = text::json_line(self);
        let mut bytes = text::with_hash_line(&line);
        bytes.extend_from_slice(b"mac ");
        bytes.extend_from_slice(text::to_hex(&keys.config_mac(&line)).as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Reads a config, whose key is not known yet.
    ///
    /// # Errors
    /// All of [`ConfigError`] except [`ConfigError::NotAuthentic`].
    pub fn decode(bytes: &[u8]) -> Result<UnverifiedConfig, ConfigError> {
        use ConfigError::Damaged;
        let (line, rest) = text::split_hash_line(WHAT, bytes).map_err(Damaged)?;
        let preamble: Preamble = text::from_json(WHAT, line).map_err(Damaged)?;
        if preamble.format_version > FORMAT_VERSION {
            let found = preamble.format_version;
            return Err(ConfigError::NewerFormat { found, supported: FORMAT_VERSION });
        }
        let unknown = |name: &String| !SUPPORTED_FEATURES.contains(&name.as_str());
        if let Some(name) = preamble.required_features.into_iter().find(unknown) {
            text::check_name(WHAT, "a feature's name", &name).map_err(Damaged)?;
            return Err(ConfigError::UnknownFeature(name));
        }
        let (mac, rest) = text::take_hex_line(WHAT, "mac", rest).map_err(Damaged)?;
        if !rest.is_empty() {
            return Err(Damaged(DecodeError::new(WHAT, "more follows its last line")));
        }
        let config: Self = text::from_json(WHAT, line).map_err(Damaged)?;
        config.check().map_err(Damaged)?;
        Ok(UnverifiedConfig { config, line: line.to_vec(), mac })
    }

    /// Whether every parameter is one that the rest of gabion can work with.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), DecodeError> {
        let bad = |reason: &str| Err(DecodeError::new(WHAT, reason));
        if self.format_version != FORMAT_VERSION {
            return bad("format-version is not 1");
        }
        self.chunker.files.check("chunker files")?;
        self.chunker.streams.check("chunker streams")?;
        in_range("fan-out-bits", self.pages.fan_out_bits.into(), 4..=12)?;
        in_range("content-fan-out-bits", self.pages.content_fan_out_bits.into(), 4..=12)?;
        in_range("pack-size", self.pack_size, 1 << 20..=1 << 30)?;
        in_range("block-size", self.block_size, 64 << 10..=8 << 20)?;
        in_range("page-block-size", self.page_block_size, 64 << 10..=8 << 20)?;
        in_range("inline-size", self.inline_size, 0..=4096)?;
        if self.block_size.max(self.page_block_size) > self.pack_size {
            return bad("a block does not fit into a pack");
        }
        self.check_parity()?;
        text::check_name(WHAT, "created", &self.created)?;
        for feature in self.required_features.iter().chain(&self.optional_features) {
            text::check_name(WHAT, "a feature's name", feature)?;
        }
        match (self.sealing, &self.plaintext_key) {
            (Sealing::None, None) => bad("plaintext-key is missing, though nothing is sealed"),
            (Sealing::Aes256Gcm, Some(_)) => bad("plaintext-key gives away what is sealed"),
            (Sealing::None, Some(_)) | (Sealing::Aes256Gcm, None) => Ok(()),
        }
    }

    /// The parity of a pack is held in memory.
    fn check_parity(&self) -> Result<(), DecodeError> {
        let is_required = self.required_features.iter().any(|name| name == PARITY);
        match self.parity_per_mille {
            Some(_) if !is_required => {
                Err(DecodeError::new(WHAT, "parity-per-mille, but parity is not required"))
            }
            None if is_required => Err(DecodeError::new(
                WHAT,
                "parity-per-mille is missing, though parity is required",
            )),
            None => Ok(()),
            Some(per_mille) => {
                in_range("parity-per-mille", per_mille, 1..=MAX_PER_MILLE)?;
                let len = u64::from(self.pack_size) * u64::from(per_mille) / 1000;
                if len > MAX_PARITY_LEN {
                    return Err(DecodeError::new(WHAT, "the parity of a pack is too long"));
                }
                Ok(())
            }
        }
    }
}

impl ChunkSizes {
    /// The bounds are those of the chunker, which is not defined outside of them.
    fn check(&self, name: &str) -> Result<(), DecodeError> {
        let Self { min, avg, max } = *self;
        in_range(&format!("{name} min"), min, 64..=1 << 20)?;
        in_range(&format!("{name} avg"), avg, 256..=4 << 20)?;
        in_range(&format!("{name} max"), max, 1024..=16 << 20)?;
        if !(min < avg && avg < max) {
            return Err(DecodeError::new(WHAT, format!("{name}: not min < avg < max")));
        }
        if [min, avg, max].iter().any(|size| size % 2 != 0) {
            return Err(DecodeError::new(WHAT, format!("{name}: an odd size")));
        }
        Ok(())
    }
}

fn in_range(name: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), DecodeError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(DecodeError::new(WHAT, format!("{name} is {value}, not {low} to {high}")))
}

/// A config that is whole, but may have been forged.
pub struct UnverifiedConfig {
    config: Config,
    line: Vec<u8>,
    mac: [u8; 32],
}

impl UnverifiedConfig {
    /// The repository that it claims to belong to.
    pub fn repository_id(&self) -> RepositoryId {
        self.config.repository_id
    }

    /// Parity shards for every thousand data shards, as it claims.
    pub fn parity_per_mille(&self) -> Option<u32> {
        self.config.parity_per_mille
    }

    /// How it claims that objects are protected. Whoever expects an encrypted repository must not
    /// go on when this says otherwise: then the MAC is made with a key that lies open.
    pub fn sealing(&self) -> Sealing {
        self.config.sealing
    }

    /// The master key of a plaintext repository.
    pub fn plaintext_key(&self) -> Option<&MasterKey> {
        self.config.plaintext_key.as_ref()
    }

    /// Checks its MAC.
    ///
    /// # Errors
    /// [`ConfigError::NotAuthentic`].
    pub fn verify(self, keys: &Keys) -> Result<Config, ConfigError> {
        if keys.config_mac_matches(&self.line, &self.mac) {
            Ok(self.config)
        } else {
            Err(ConfigError::NotAuthentic)
        }
    }
}

impl fmt::Debug for UnverifiedConfig {
    // The line is left out: a plaintext repository's holds the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedConfig").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The one place where a master key is written in the open.
mod plaintext_key {
    use serde::{Deserializer, Serializer};

    use crate::crypto::keys::MasterKey;
    use crate::crypto::text::hex_bytes;

    pub(super) fn serialize<S: Serializer>(
        key: &Option<MasterKey>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => hex_bytes::serialize(key.as_bytes(), out),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<MasterKey>, D::Error> {
        hex_bytes::deserialize(input).map(|bytes| Some(MasterKey::from_bytes(&bytes)))
    }
}

#[cfg(test)]
mod tests;
