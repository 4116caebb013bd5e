//! Passphrases, and what it costs to try one.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// What a user knows and a key slot is opened with. Its bytes are taken as they come: no trimming
/// and no Unicode normalisation.
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// An empty passphrase protects nothing; most often an unset variable stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the passphrase is empty")]
pub struct EmptyPassphrase;

impl Passphrase {
    /// Takes over `bytes`, which are wiped when the passphrase is dropped.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, EmptyPassphrase> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.is_empty() { Err(EmptyPassphrase) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What Argon2id takes to turn a passphrase into a key, and so what every guess costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KdfCosts {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// How often the memory is gone through.
    pub passes: u32,
    /// How many parts of the memory could be worked on at once.
    pub lanes: u32,
}

impl Default for KdfCosts {
    /// The second recommended option of RFC 9106. Not more memory, because a snapshot is promised
    /// to stay below 80 MB in all.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// Why no key was made from a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// A repository may not ask for any amount of memory or time.
    #[error("the key derivation asks for {found} {what}, at most {limit} are allowed")]
    CostTooHigh {
        /// "KiB of memory", "passes" or "lanes".
        what: &'static str,
        /// How much it asks for.
        found: u32,
        /// How much it may ask for.
        limit: u32,
    },
    /// Argon2 is not defined for so little.
    #[error("the key derivation asks for {found} {what}, at least {limit} are needed")]
    CostTooLow {
        /// "KiB of memory", "passes" or "lanes".
        what: &'static str,
        /// How much it asks for.
        found: u32,
        /// How much it must ask for.
        limit: u32,
    },
    /// The memory is not to be had.
    #[error("not enough memory: the key derivation needs {memory_kib} KiB")]
    OutOfMemory {
        /// Memory in KiB.
        memory_kib: u32,
    },
}

impl KdfCosts {
    /// The most that a key slot may ask for.
    pub const LIMITS: Self = Self { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

    /// Whether these costs are within [`Self::LIMITS`] and defined.
    ///
    /// # Errors
    /// [`KdfError::CostTooHigh`] or [`KdfError::CostTooLow`].
    pub fn check(&self) -> Result<(), KdfError> {
        let costs = [
            ("passes", self.passes, 1, Self::LIMITS.passes),
            ("lanes", self.lanes, 1, Self::LIMITS.lanes),
            ("KiB of memory", self.memory_kib, 8, Self::LIMITS.memory_kib),
        ];
        for (what, found, low, high) in costs {
            if found > high {
                return Err(KdfError::CostTooHigh { what, found, limit: high });
            }
            if found < low {
                return Err(KdfError::CostTooLow { what, found, limit: low });
            }
        }
        let (what, found, limit) = ("KiB of memory", self.memory_kib, 8 * self.lanes);
        if found < limit { Err(KdfError::CostTooLow { what, found, limit }) } else { Ok(()) }
    }

    /// How much there is to do: KiB of memory times passes.
    pub fn work(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Argon2id (version 1.3) of `passphrase`.
    ///
    /// # Errors
    /// When the costs are out of bounds, which is found before memory is taken, or when the memory
    /// is not to be had.
    pub(crate) fn derive(
        &self,
        passphrase: &Passphrase,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, KdfError> {
        self.check()?;
        let out_of_memory = || KdfError::OutOfMemory { memory_kib: self.memory_kib };
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .expect("the costs were checked");
        // Not left to the crate, which would give the memory back with what the key follows from.
        let mut memory: Vec<Block> = Vec::new();
        memory.try_reserve_exact(params.block_count()).map_err(|_| out_of_memory())?;
        memory.resize(params.block_count(), Block::new());
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(&passphrase.0, salt, &mut *key, &mut memory[..])
            .expect("passphrase, salt and key have lengths that Argon2 allows");
        memory.iter_mut().for_each(Zeroize::zeroize);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::text::to_hex;

    const SMALL: KdfCosts = KdfCosts { memory_kib: 32, passes: 1, lanes: 4 };

    fn derive(costs: KdfCosts, text: &str, salt: u8) -> String {
        let passphrase = Passphrase::new(text).unwrap();
        to_hex(&*costs.derive(&passphrase, &[salt; 32]).unwrap())
    }

    #[test]
    fn the_derived_key_is_that_of_the_format() {
        assert_eq!(
            derive(KdfCosts::default(), "open sesame", 1),
            "1c6da23262b6a44bfce0f144ab57eb2f01a207a250ebb6f0b5bd07c7d13397df"
        );
    }

    #[test]
    fn everything_changes_the_key() {
        let key = derive(SMALL, "one", 1);
        assert_eq!(derive(SMALL, "one", 1), key);
        assert_ne!(derive(SMALL, "One", 1), key);
        assert_ne!(derive(SMALL, "one", 2), key);
        assert_ne!(derive(KdfCosts { passes: 2, ..SMALL }, "one", 1), key);
        assert_ne!(derive(KdfCosts { lanes: 2, ..SMALL }, "one", 1), key);
        assert_ne!(derive(KdfCosts { memory_kib: 64, ..SMALL }, "one", 1), key);
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_memory_is_taken() {
        let passphrase = Passphrase::new("x").unwrap();
        let limits = KdfCosts::LIMITS;
        assert_eq!(limits.check(), Ok(()));
        for costs in [
            KdfCosts { memory_kib: limits.memory_kib + 1, ..SMALL },
            KdfCosts { memory_kib: u32::MAX, ..SMALL },
            KdfCosts { passes: limits.passes + 1, ..SMALL },
            KdfCosts { lanes: limits.lanes + 1, ..SMALL },
            KdfCosts { lanes: u32::MAX, ..SMALL },
        ] {
            let result = costs.derive(&passphrase, &[0; 32]);
            assert!(matches!(result, Err(KdfError::CostTooHigh { .. })), "{costs:?}");
        }
        for costs in [
            KdfCosts { memory_kib: 31, ..SMALL },
            KdfCosts { memory_kib: 0, ..SMALL },
            KdfCosts { passes: 0, ..SMALL },
            KdfCosts { lanes: 0, ..SMALL },
        ] {
            let result = costs.derive(&passphrase, &[0; 32]);
            assert!(matches!(result, Err(KdfError::CostTooLow { .. })), "{costs:?}");
        }
    }

    #[test]
    fn a_passphrase_is_neither_empty_nor_shown() {
        assert_eq!(Passphrase::new("").unwrap_err(), EmptyPassphrase);
        assert_eq!(format!("{:?}", Passphrase::new("sesame").unwrap()), "Passphrase(..)");
    }
}
