//! Identifiers: one type each, so that a pack can never be looked up as a snapshot.

use std::fmt;
use std::str::FromStr;

/// Text that should have been the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: {0:?}")]
pub struct ParseIdError(pub String);

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let bad = || ParseIdError(text.to_owned());
    if text.len() != 2 * N {
        return Err(bad());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(bad()),
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id's bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Ids that are drawn at random when an object is made; nothing about them follows from the
/// object's content, so a late delete can never hit a second upload of the same bytes.
macro_rules! random_id_type {
    ($(#[$doc:meta])* $name:ident) => {
        id_type!($(#[$doc])* $name, 16);

        impl $name {
            /// A new id from the operating system's random source.
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                fill_random(&mut bytes);
                Self(bytes)
            }
        }
    };
}

/// Fills `bytes` from the operating system's random source.
///
/// # Panics
/// When the operating system has no random source: nothing secret could be made then.
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system provides random bytes");
}

id_type!(
    /// Names a chunk by what it holds: keyed BLAKE3 over (kind, plain bytes).
    ChunkId,
    32
);
random_id_type!(
    /// Names a repository for ever, from its `init` on.
    RepositoryId
);
random_id_type!(
    /// Names one upload of a pack. Its second half is the first half of the id of the session that
    /// uploads it, so that a listing shows which packs belong to a session that is still at work.
    PackId
);
random_id_type!(
    /// Names a snapshot.
    SnapshotId
);
random_id_type!(
    /// Names an index segment.
    SegmentId
);
random_id_type!(
    /// Names a writer's or pruner's announced presence.
    SessionId
);
random_id_type!(
    /// Names a key slot.
    SlotId
);

impl PackId {
    const SESSION_AT: usize = 8;

    /// A new id for a pack that `session` uploads.
    pub fn of_session(session: SessionId) -> Self {
        let mut id = Self::random();
        id.0[Self::SESSION_AT..].copy_from_slice(&session.0[..Self::LEN - Self::SESSION_AT]);
        id
    }

    /// Whether `session` may have uploaded this pack.
    pub fn is_of_session(&self, session: SessionId) -> bool {
        self.0[Self::SESSION_AT..] == session.0[..Self::LEN - Self::SESSION_AT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_shows_its_session_and_is_still_unique() {
        let (session, other) = (SessionId::random(), SessionId::random());
        let (a, b) = (PackId::of_session(session), PackId::of_session(session));
        assert!(a.is_of_session(session) && b.is_of_session(session));
        assert!(!a.is_of_session(other));
        assert_ne!(a, b);
    }

    #[test]
    fn hex_round_trips_and_bad_text_is_refused() {
        let id = PackId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "00", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert!(bad.parse::<PackId>().is_err(), "{bad:?} must not parse");
        }
    }
}
