//! The 64 plain bytes at the start of every sealed object: what it is, and its salt.

use serde::{Deserialize, Serialize};

use super::seal::OpenError;
use crate::format::DecodeError;
use crate::id::fill_random;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;

/// The newest format of sealed objects that is written and read.
pub const FORMAT_VERSION: u16 = 1;

// The line ends show at once when a transfer "translated" them, as in PNG.
const MAGIC: &[u8; 8] = b"GABION\r\n";

const WHAT: &str = "object header";

/// What a sealed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// Blocks and a footer.
    Pack = 1,
    /// The footers of many packs.
    Segment = 2,
    /// A confirmed snapshot.
    Snapshot = 3,
    /// A tentative root.
    Root = 4,
    /// A writer's or pruner's announced presence.
    Session = 5,
    /// The announced condemnation of packs.
    Mark = 6,
}

impl ObjectType {
    const ALL: [Self; 6] =
        [Self::Pack, Self::Segment, Self::Snapshot, Self::Root, Self::Session, Self::Mark];
}

/// How a repository protects its objects; fixed at `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Sealing {
    /// Damage is found, but whoever can read the repository can read what it holds.
    #[serde(rename = "none")]
    None = 0,
    /// Encrypted and authenticated.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm = 1,
}

/// What a sealed object says about itself in the open. All of it goes into the object's key, so a
/// changed header opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHeader {
    /// What the object is.
    pub object_type: ObjectType,
    /// How its parts are sealed.
    pub sealing: Sealing,
    /// The object's id; equal to its name in the repository.
    pub object_id: [u8; 16],
    salt: [u8; 32],
}

impl ObjectHeader {
    /// The header of a new object, with a fresh random salt. One header serves one object.
    pub fn new(object_type: ObjectType, sealing: Sealing, object_id: [u8; 16]) -> Self {
        let mut salt = [0; 32];
        fill_random(&mut salt);
        Self::with_salt(object_type, sealing, object_id, salt)
    }

    pub(crate) fn with_salt(
        object_type: ObjectType,
        sealing: Sealing,
        object_id: [u8; 16],
        salt: [u8; 32],
    ) -> Self {
        Self { object_type, sealing, object_id, salt }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.object_type as u8;
        bytes[11] = self.sealing as u8;
        // Bytes 12 to 15 are reserved and zero.
        bytes[16..32].copy_from_slice(&self.object_id);
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads the header at the start of an object's `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// [`OpenError::NewerFormat`] when a later gabion wrote the object, [`OpenError::Malformed`]
    /// when it is no sealed object.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let bad = |reason: String| OpenError::Malformed(DecodeError::new(WHAT, reason));
        let bytes: &[u8; HEADER_LEN] = bytes
            .first_chunk()
            .ok_or_else(|| bad(format!("{} of {HEADER_LEN} bytes", bytes.len())))?;
        if !bytes.starts_with(MAGIC) {
            return Err(bad("it does not start like a sealed object".to_owned()));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version > FORMAT_VERSION {
            return Err(OpenError::NewerFormat { found: version, supported: FORMAT_VERSION });
        }
        if version == 0 {
            return Err(bad("format version 0".to_owned()));
        }
        let object_type = ObjectType::ALL.into_iter().find(|&known| known as u8 == bytes[10]);
        let sealing = [Sealing::None, Sealing::Aes256Gcm];
        let sealing = sealing.into_iter().find(|&known| known as u8 == bytes[11]);
        if bytes[12..16] != [0; 4] {
            return Err(bad("reserved bytes are not zero".to_owned()));
        }
        let (mut object_id, mut salt) = ([0; 16], [0; 32]);
        object_id.copy_from_slice(&bytes[16..32]);
        salt.copy_from_slice(&bytes[32..]);
        Ok(Self {
            object_type: object_type.ok_or_else(|| bad(format!("object type {}", bytes[10])))?,
            sealing: sealing.ok_or_else(|| bad(format!("sealing {}", bytes[11])))?,
            object_id,
            salt,
        })
    }

    /// Refuses the header of any other object than the expected one.
    ///
    /// # Errors
    /// [`OpenError::Misplaced`] naming the first thing that differs.
    pub fn expect(
        &self,
        object_type: ObjectType,
        sealing: Sealing,
        object_id: &[u8; 16],
    ) -> Result<(), OpenError> {
        if self.object_type != object_type {
            Err(OpenError::Misplaced("type"))
        } else if self.sealing != sealing {
            Err(OpenError::Misplaced("sealing"))
        } else if self.object_id != *object_id {
            Err(OpenError::Misplaced("id"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> ObjectHeader {
        ObjectHeader::with_salt(ObjectType::Snapshot, Sealing::Aes256Gcm, [0xab; 16], [0xcd; 32])
    }

    #[test]
    fn every_byte_is_where_the_format_says() {
        let bytes = header().encode();
        assert_eq!(&bytes[..16], b"GABION\r\n\x01\x00\x03\x01\x00\x00\x00\x00");
        assert_eq!((&bytes[16..32], &bytes[32..]), (&[0xab; 16][..], &[0xcd; 32][..]));
        for object_type in ObjectType::ALL {
            for sealing in [Sealing::None, Sealing::Aes256Gcm] {
                let header = ObjectHeader::new(object_type, sealing, [7; 16]);
                assert_eq!(ObjectHeader::decode(&header.encode()), Ok(header));
            }
        }
    }

    #[test]
    fn salts_are_never_the_same() {
        let new = || ObjectHeader::new(ObjectType::Pack, Sealing::None, [0; 16]).salt;
        assert_ne!(new(), new());
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = header().encode();
        for len in 0..HEADER_LEN {
            assert!(matches!(ObjectHeader::decode(&good[..len]), Err(OpenError::Malformed(_))));
        }
        for (at, byte) in
            [(0, b'g'), (7, b'\r'), (8, 0), (10, 0), (10, 7), (11, 2), (12, 1), (15, 1)]
        {
            let mut bad = good;
            bad[at] = byte;
            let result = ObjectHeader::decode(&bad);
            assert!(matches!(result, Err(OpenError::Malformed(_))), "byte {at}: {result:?}");
        }
    }

    #[test]
    fn a_newer_version_is_not_called_damage() {
        let mut newer = header().encode();
        newer[9] = 1;
        let expected = OpenError::NewerFormat { found: 257, supported: 1 };
        assert_eq!(ObjectHeader::decode(&newer), Err(expected));
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_has_one_form(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = bytes;
            let _ = ObjectHeader::decode(&bytes);
            for (byte, good) in bytes.iter_mut().zip(&header().encode()[..10]) {
                *byte = *good;
            }
            if let Ok(header) = ObjectHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_LEN]);
            }
        }
    }
}
