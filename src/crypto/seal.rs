//! Sealing: every object of a repository is encrypted and authenticated under a key of its own.
//!
//! The object's key follows from the data key, the repository's id and the whole header with its
//! random salt. So nonces may be plain counters, and an object that was swapped, renamed, retyped
//! or brought from another repository opens to nothing.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::aead::{self, Cipher};
pub use super::header::{FORMAT_VERSION, HEADER_LEN, ObjectHeader, ObjectType, Sealing};
use super::keys::{KEY_LEN, Keys};
use crate::format::DecodeError;
use crate::id::RepositoryId;

/// Bytes that sealing adds to a part.
pub const TAG_LEN: usize = aead::TAG_LEN;

/// The slot of a pack's footer. Blocks count up from 0 and never reach it.
pub const FOOTER_SLOT: u32 = u32::MAX;

/// The slot of a body, the only part of its object.
pub const BODY_SLOT: u32 = 0;

/// Why a sealed object did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is too short, or its header is not one.
    #[error("not a sealed object")]
    Malformed(#[source] DecodeError),
    /// A later gabion wrote it.
    #[error("format version {found} is newer than {supported}, the newest this gabion knows")]
    NewerFormat {
        /// The object's version.
        found: u16,
        /// The newest version that can be read.
        supported: u16,
    },
    /// It says of itself that it is another object than the one asked for: its "type", "sealing"
    /// or "id" differs.
    #[error("another object lies in its place: its {0} differs")]
    Misplaced(&'static str),
    /// Its bytes were changed, or it was sealed with another key.
    #[error("damaged or forged")]
    NotAuthentic,
}

/// Which part of an object is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PartKind {
    /// A block of a pack.
    Block = 1,
    /// The footer of a pack.
    Footer = 2,
    /// All of any other object.
    Body = 3,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct TagKey([u8; KEY_LEN]);

enum Protection {
    Encrypted(Box<Cipher>),
    TagOnly(TagKey),
}

/// Seals and opens the parts of one object; may be shared between threads.
pub struct ObjectSealer {
    protection: Protection,
    object_type: ObjectType,
    #[cfg(debug_assertions)]
    used_slots: std::sync::Mutex<std::collections::HashSet<u32>>,
}

impl ObjectSealer {
    /// The sealer of the object with this `header`, in the given repository.
    ///
    /// Whoever opens an object that was read from storage uses [`Self::for_opening`] instead,
    /// which also compares the header with what was asked for.
    pub fn new(keys: &Keys, repository: RepositoryId, header: &ObjectHeader) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(keys.data_sealing());
        hasher.update(repository.as_bytes()).update(&header.encode());
        let mut hash = hasher.finalize();
        let key = Zeroizing::new(*hash.as_bytes());
        hash.zeroize();
        hasher.zeroize();
        Self {
            protection: match header.sealing {
                Sealing::Aes256Gcm => Protection::Encrypted(Box::new(Cipher::new(&key))),
                Sealing::None => Protection::TagOnly(TagKey(*key)),
            },
            object_type: header.object_type,
            #[cfg(debug_assertions)]
            used_slots: std::sync::Mutex::default(),
        }
    }

    /// The sealer of an object whose first bytes were read from storage.
    ///
    /// # Errors
    /// When its header is malformed, newer, or that of another object than expected.
    pub fn for_opening(
        keys: &Keys,
        repository: RepositoryId,
        sealing: Sealing,
        object_type: ObjectType,
        object_id: &[u8; 16],
        bytes: &[u8],
    ) -> Result<Self, OpenError> {
        let header = ObjectHeader::decode(bytes)?;
        header.expect(object_type, sealing, object_id)?;
        Ok(Self::new(keys, repository, &header))
    }

    /// Seals `buffer` in place and appends [`TAG_LEN`] bytes to it.
    ///
    /// Slots make the nonces: the caller gives every slot of an object to one part only.
    ///
    /// # Panics
    /// When `part` does not belong to this type of object or into this slot (packs have blocks and
    /// a footer in [`FOOTER_SLOT`], all others a body in [`BODY_SLOT`]), when `buffer` has 4 GiB
    /// or more; and, where debug assertions are on, when a slot is used twice.
    pub fn seal(&self, part: PartKind, slot: u32, buffer: &mut Vec<u8>) {
        let tag = self.seal_slice(part, slot, buffer);
        buffer.extend_from_slice(&tag);
    }

    fn seal_slice(&self, part: PartKind, slot: u32, buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let fits = match part {
            PartKind::Block => self.object_type == ObjectType::Pack && slot != FOOTER_SLOT,
            PartKind::Footer => self.object_type == ObjectType::Pack && slot == FOOTER_SLOT,
            PartKind::Body => self.object_type != ObjectType::Pack && slot == BODY_SLOT,
        };
        assert!(fits, "no {part:?} in slot {slot} of a {:?}", self.object_type);
        #[cfg(debug_assertions)]
        {
            let mut used =
                self.used_slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            assert!(used.insert(slot), "slot {slot} is sealed for the second time");
        }
        let len = u32::try_from(buffer.len()).expect("a part is shorter than 4 GiB");
        let bound = self.bound(part, slot, len);
        match &self.protection {
            Protection::Encrypted(cipher) => cipher.seal(&nonce(slot), &bound, buffer),
            Protection::TagOnly(key) => key.tag(&bound, buffer),
        }
    }

    /// Verifies `buffer`, opens it in place and takes its tag off.
    ///
    /// # Errors
    /// [`OpenError::Malformed`] when it is too short or long to be a part, and
    /// [`OpenError::NotAuthentic`] when it is not what was sealed as this part in this slot;
    /// `buffer` is left as it was.
    pub fn open(&self, part: PartKind, slot: u32, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let bad = || {
            let reason = format!("{} bytes", buffer.len());
            OpenError::Malformed(DecodeError::new("sealed part", reason))
        };
        let plain_len = buffer.len().checked_sub(TAG_LEN).ok_or_else(bad)?;
        let bound = self.bound(part, slot, u32::try_from(plain_len).map_err(|_| bad())?);
        let (plain, tag) =
            buffer.split_last_chunk_mut().expect("the length was checked to hold a tag");
        match &self.protection {
            Protection::Encrypted(cipher) => cipher
                .open(&nonce(slot), &bound, plain, tag)
                .map_err(|aead::Forged| OpenError::NotAuthentic)?,
            Protection::TagOnly(key) => {
                if !equal_in_constant_time(&key.tag(&bound, plain), tag) {
                    return Err(OpenError::NotAuthentic);
                }
            }
        }
        buffer.truncate(plain_len);
        Ok(())
    }

    /// What a tag binds beside the bytes; the key binds all the rest.
    fn bound(&self, part: PartKind, slot: u32, plain_len: u32) -> [u8; 10] {
        let mut bound = [0; 10];
        bound[0] = self.object_type as u8;
        bound[1] = part as u8;
        bound[2..6].copy_from_slice(&slot.to_le_bytes());
        bound[6..].copy_from_slice(&plain_len.to_le_bytes());
        bound
    }
}

impl fmt::Debug for ObjectSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSealer")
            .field("object_type", &self.object_type)
            .finish_non_exhaustive()
    }
}

impl TagKey {
    fn tag(&self, bound: &[u8], plain: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let hash = hasher.update(bound).update(plain).finalize();
        hasher.zeroize();
        *hash.as_bytes().first_chunk().expect("32 bytes hold 16")
    }
}

fn nonce(slot: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&slot.to_le_bytes());
    nonce
}

/// Compares by way of BLAKE3's hash type, whose equality takes the same time wherever two differ.
pub(crate) fn equal_in_constant_time(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let widen = |half: &[u8; 16]| {
        let mut whole = [0; 32];
        whole[..16].copy_from_slice(half);
        blake3::Hash::from_bytes(whole)
    };
    widen(one) == widen(other)
}

/// Seals a small object: its header, then `body` as its only part.
///
/// # Panics
/// When `object_type` is a pack, which has no body, or when `body` has 4 GiB or more.
pub fn seal_object(
    keys: &Keys,
    repository: RepositoryId,
    sealing: Sealing,
    object_type: ObjectType,
    object_id: [u8; 16],
    body: &[u8],
) -> Vec<u8> {
    let header = ObjectHeader::new(object_type, sealing, object_id);
    seal_object_with(keys, repository, &header, body)
}

pub(crate) fn seal_object_with(
    keys: &Keys,
    repository: RepositoryId,
    header: &ObjectHeader,
    body: &[u8],
) -> Vec<u8> {
    let mut object = Vec::with_capacity(HEADER_LEN + body.len() + TAG_LEN);
    object.extend_from_slice(&header.encode());
    object.extend_from_slice(body);
    let sealer = ObjectSealer::new(keys, repository, header);
    let tag = sealer.seal_slice(PartKind::Body, BODY_SLOT, &mut object[HEADER_LEN..]);
    object.extend_from_slice(&tag);
    object
}

/// Opens what [`seal_object`] sealed and gives its body.
///
/// # Errors
/// When `bytes` are damaged, from a later gabion, or any other object than the expected one.
pub fn open_object(
    keys: &Keys,
    repository: RepositoryId,
    sealing: Sealing,
    object_type: ObjectType,
    object_id: &[u8; 16],
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, OpenError> {
    let sealer =
        ObjectSealer::for_opening(keys, repository, sealing, object_type, object_id, &bytes)?;
    // In place: there is memory for one of these at a time.
    bytes.drain(..HEADER_LEN);
    sealer.open(PartKind::Body, BODY_SLOT, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
