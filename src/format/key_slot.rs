//! Key slot: the master key, wrapped with what a user knows (a passphrase) or has (a key file).

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::aead::{Cipher, TAG_LEN};
pub use crate::crypto::key_file::KeyFile;
use crate::crypto::keys::{KEY_LEN, MasterKey};
use crate::crypto::passphrase::{KdfCosts, KdfError, Passphrase};
use crate::crypto::seal::equal_in_constant_time;
use crate::crypto::text;
use crate::format::DecodeError;
use crate::id::{RepositoryId, SlotId, fill_random};

/// The newest format of a key slot that is written and read.
pub const FORMAT_VERSION: u32 = 1;

const WHAT: &str = "key slot";

// Part of the format, like the contexts of all other keys.
const KEY_FILE: &str = "gabion 2026-11 key file";
const SLOT_WRAPPING: &str = "gabion 2026-11 slot wrapping";
const SLOT_CHECK: &str = "gabion 2026-11 slot check";

/// Why the text of a key slot was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// It is not what was written.
    #[error("the key slot is damaged")]
    Damaged(#[source] DecodeError),
    /// A later gabion wrote it.
    #[error("the key slot has format version {found}, this gabion knows up to {supported}")]
    NewerFormat {
        /// The slot's version.
        found: u32,
        /// The newest version that can be used.
        supported: u32,
    },
}

/// Why no key slot was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The label or date cannot be kept.
    #[error("the key slot cannot be described so")]
    Description(#[source] DecodeError),
    /// The costs are out of bounds, or the memory for them is not to be had.
    #[error("no key was made from the passphrase")]
    Kdf(#[source] KdfError),
}

/// Why a key slot did not give the master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The slot is whole, but another passphrase or key file opens it.
    #[error("the passphrase or key file does not fit")]
    WrongKey,
    /// A passphrase was tried on a slot for a key file, or the other way round.
    #[error("the slot takes the other kind of key")]
    WrongKind,
    /// The passphrase or key file fits, but the slot does not hold what was wrapped with it.
    #[error("the key slot is damaged or forged")]
    Damaged,
    /// The slot asks for more memory or time than any repository may.
    #[error("deriving this key exceeds the allowed cost")]
    CostTooHigh(#[source] KdfError),
    /// The memory is not to be had.
    #[error("the passphrase cannot be tried")]
    OutOfMemory(#[source] KdfError),
}

/// What opens a key slot.
#[derive(Debug, Clone, Copy)]
pub enum Secret<'a> {
    /// What a user knows.
    Passphrase(&'a Passphrase),
    /// What a machine has.
    KeyFile(&'a KeyFile),
}

/// What kind of secret opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum SlotKind {
    /// A passphrase, by way of Argon2id.
    Passphrase = 1,
    /// A key file, which needs no such thing: its secret is random.
    KeyFile = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum KdfName {
    #[serde(rename = "argon2id")]
    Argon2id,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kdf {
    name: KdfName,
    #[serde(flatten)]
    costs: KdfCosts,
}

/// One way to the master key. It is named after its id in the repository's `keys` folder; who
/// reads it compares both ids with where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeySlot {
    format_version: u32,
    repository_id: RepositoryId,
    slot_id: SlotId,
    label: String,
    created: String,
    kind: SlotKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kdf: Option<Kdf>,
    #[serde(with = "text::hex_bytes")]
    salt: [u8; 32],
    #[serde(with = "text::hex_bytes")]
    check: [u8; 16],
    #[serde(with = "text::hex_bytes")]
    wrapped: [u8; KEY_LEN + TAG_LEN],
}

/// What has to be known before the rest may be looked at: it stays in every later format.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Preamble {
    format_version: u32,
}

impl KeySlot {
    /// Wraps `master` for `secret` into a new slot. `label` says whose or what for it is; `created`
    /// is RFC 3339 text. `costs` count for passphrases only. Every call draws a new id and salt, so
    /// no wrapping key is ever used twice (which is why its nonce may be constant).
    ///
    /// # Errors
    /// When label or date are too long or hold control characters, when the costs are out of
    /// bounds, or when there is not enough memory for them.
    pub fn wrap(
        master: &MasterKey,
        repository_id: RepositoryId,
        label: &str,
        created: &str,
        secret: Secret<'_>,
        costs: KdfCosts,
    ) -> Result<Self, WrapError> {
        let mut salt = [0; 32];
        fill_random(&mut salt);
        Self::with_salt(repository_id, SlotId::random(), salt, secret, costs)
            .described(label, created)?
            .filled(master, secret)
    }

    /// A slot that holds nothing yet.
    pub(crate) fn with_salt(
        repository_id: RepositoryId,
        slot_id: SlotId,
        salt: [u8; 32],
        secret: Secret<'_>,
        costs: KdfCosts,
    ) -> Self {
        let (kind, kdf) = match secret {
            Secret::Passphrase(_) => {
                (SlotKind::Passphrase, Some(Kdf { name: KdfName::Argon2id, costs }))
            }
            Secret::KeyFile(_) => (SlotKind::KeyFile, None),
        };
        Self {
            format_version: FORMAT_VERSION,
            repository_id,
            slot_id,
            label: String::new(),
            created: String::new(),
            kind,
            kdf,
            salt,
            check: [0; 16],
            wrapped: [0; KEY_LEN + TAG_LEN],
        }
    }

    pub(crate) fn described(mut self, label: &str, created: &str) -> Result<Self, WrapError> {
        label.clone_into(&mut self.label);
        created.clone_into(&mut self.created);
        self.check_texts().map_err(WrapError::Description)?;
        Ok(self)
    }

    pub(crate) fn filled(
        mut self,
        master: &MasterKey,
        secret: Secret<'_>,
    ) -> Result<Self, WrapError> {
        let keys = self.slot_keys(secret).map_err(WrapError::Kdf)?;
        let bound = self.bound();
        let (plain, tag) = self.wrapped.split_at_mut(KEY_LEN);
        plain.copy_from_slice(master.as_bytes());
        tag.copy_from_slice(&Cipher::new(&keys.wrapping).seal(&[0; 12], &bound, plain));
        self.check = keys.check;
        Ok(self)
    }

    /// The repository whose master key this is.
    pub fn repository_id(&self) -> RepositoryId {
        self.repository_id
    }

    /// The slot's id; equal to its name in the repository.
    pub fn slot_id(&self) -> SlotId {
        self.slot_id
    }

    /// Whose or what for it is. Not authenticated.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When it was made, as RFC 3339 text. Not authenticated.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// What kind of secret opens it.
    pub fn kind(&self) -> SlotKind {
        self.kind
    }

    /// What every guess costs, for a passphrase.
    pub fn costs(&self) -> Option<KdfCosts> {
        self.kdf.as_ref().map(|kdf| kdf.costs)
    }

    /// The slot's text: a line of JSON and its hash.
    pub fn encode(&self) -> Vec<u8> {
        text::with_hash_line(&text::json_line(self))
    }

    /// Reads a slot's text. Its costs may be beyond all bounds: only [`Self::unwrap_master`]
    /// refuses them, so that such a slot can still be listed and removed.
    ///
    /// # Errors
    /// When the text is damaged or from a later gabion.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        use SlotError::Damaged;
        let bad = |reason: &str| Damaged(DecodeError::new(WHAT, reason));
        let (line, rest) = text::split_hash_line(WHAT, bytes).map_err(Damaged)?;
        let preamble: Preamble = text::from_json(WHAT, line).map_err(Damaged)?;
        if preamble.format_version > FORMAT_VERSION {
            let found = preamble.format_version;
            return Err(SlotError::NewerFormat { found, supported: FORMAT_VERSION });
        }
        if !rest.is_empty() {
            return Err(bad("more follows its last line"));
        }
        let slot: Self = text::from_json(WHAT, line).map_err(Damaged)?;
        if slot.format_version != FORMAT_VERSION {
            return Err(bad("format-version is not 1"));
        }
        if slot.kdf.is_some() != (slot.kind == SlotKind::Passphrase) {
            return Err(bad("only a slot for a passphrase has a kdf"));
        }
        if let Some(Err(KdfError::CostTooLow { .. })) = slot.costs().map(|costs| costs.check()) {
            return Err(bad("the costs are below what the kdf is defined for"));
        }
        slot.check_texts().map_err(Damaged)?;
        Ok(slot)
    }

    /// Whether the slot takes this kind of secret.
    pub fn fits(&self, secret: Secret<'_>) -> bool {
        match secret {
            Secret::Passphrase(_) => self.kind == SlotKind::Passphrase,
            Secret::KeyFile(_) => self.kind == SlotKind::KeyFile,
        }
    }

    /// The master key.
    ///
    /// # Errors
    /// See [`UnwrapError`].
    pub fn unwrap_master(&self, secret: Secret<'_>) -> Result<MasterKey, UnwrapError> {
        if !self.fits(secret) {
            return Err(UnwrapError::WrongKind);
        }
        let keys = self.slot_keys(secret).map_err(|error| match error {
            KdfError::CostTooHigh { .. } => UnwrapError::CostTooHigh(error),
            KdfError::CostTooLow { .. } => UnwrapError::Damaged,
            KdfError::OutOfMemory { .. } => UnwrapError::OutOfMemory(error),
        })?;
        if !equal_in_constant_time(&keys.check, &self.check) {
            return Err(UnwrapError::WrongKey);
        }
        let mut wrapped = Zeroizing::new(self.wrapped);
        let (plain, tag) = wrapped.split_last_chunk_mut().expect("a wrapped key ends in its tag");
        Cipher::new(&keys.wrapping)
            .open(&[0; 12], &self.bound(), plain, tag)
            .map_err(|_| UnwrapError::Damaged)?;
        let master = plain.first_chunk().expect("a wrapped key is as long as a key");
        Ok(MasterKey::from_bytes(master))
    }

    fn slot_keys(&self, secret: Secret<'_>) -> Result<SlotKeys, KdfError> {
        let root = match secret {
            Secret::Passphrase(passphrase) => {
                self.costs().unwrap_or_default().derive(passphrase, &self.salt)?
            }
            Secret::KeyFile(key_file) => {
                let material = Zeroizing::new([self.salt, *key_file.secret()].concat());
                Zeroizing::new(blake3::derive_key(KEY_FILE, &material))
            }
        };
        let mut whole = blake3::derive_key(SLOT_CHECK, &*root);
        let check = *whole.first_chunk().expect("32 bytes hold 16");
        whole.zeroize();
        let wrapping = Zeroizing::new(blake3::derive_key(SLOT_WRAPPING, &*root));
        Ok(SlotKeys { wrapping, check })
    }

    /// What the wrapping binds beside the key: a slot can be neither moved nor made cheaper.
    fn bound(&self) -> Vec<u8> {
        let costs = self.costs().map_or([0; 3], |c| [c.memory_kib, c.passes, c.lanes]);
        let mut bound = Vec::with_capacity(16 + 16 + 32 + 1 + 12);
        bound.extend_from_slice(self.repository_id.as_bytes());
        bound.extend_from_slice(self.slot_id.as_bytes());
        bound.extend_from_slice(&self.salt);
        bound.push(self.kind as u8);
        costs.iter().for_each(|cost| bound.extend_from_slice(&cost.to_le_bytes()));
        bound
    }

    fn check_texts(&self) -> Result<(), DecodeError> {
        text::check_name(WHAT, "label", &self.label)?;
        text::check_name(WHAT, "created", &self.created)
    }
}

struct SlotKeys {
    wrapping: Zeroizing<[u8; KEY_LEN]>,
    check: [u8; 16],
}

#[cfg(test)]
mod tests;
