//! Compression of blocks: zstd, or as it is where zstd gains too little.

use std::fmt;

use crate::format::DecodeError;

/// How the bytes of a block are stored, before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    Raw = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

impl Encoding {
    /// The encoding that is written as `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a block could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The encoder reported an error.
    #[error("zstd could not compress a block: {0}")]
    Encoder(String),
    /// What was encoded does not decode to the same bytes: bad memory, or a bug in the encoder.
    #[error(
        "a compressed block does not decode to what was put in; the memory of this machine may be \
         faulty (nothing was stored from it)"
    )]
    NotReversible,
}

/// Compresses and decompresses with contexts that are made once and used again: a new context for
/// each small input costs a third of the speed.
pub struct Codec {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl Codec {
    /// A codec that compresses with zstd `level` (1 to 22).
    ///
    /// # Errors
    /// When zstd cannot make its contexts (no memory) or does not know the level.
    pub fn new(level: i32) -> Result<Self, EncodeError> {
        let failed = |error: std::io::Error| EncodeError::Encoder(error.to_string());
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(level).map_err(failed)?,
            decompressor: zstd::bulk::Decompressor::new().map_err(failed)?,
            scratch: Vec::new(),
        })
    }

    /// Puts the stored form of `plain` into `out` (replacing what it held), decodes it again and
    /// compares: a block that would not come back is an error here and now, not at a restore.
    ///
    /// # Errors
    /// When the encoder fails or its output does not decode to `plain`.
    pub fn encode(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
        let failed = |error: std::io::Error| EncodeError::Encoder(error.to_string());
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor.compress_to_buffer(plain, out).map_err(failed)?;
        if out.len() >= plain.len() - plain.len() / 32 {
            // Under three per cent gained is not worth a decompression at each read.
            out.clear();
            out.extend_from_slice(plain);
            return if out == plain { Ok(Encoding::Raw) } else { Err(EncodeError::NotReversible) };
        }
        let mut again = std::mem::take(&mut self.scratch);
        let decoded = self.decode(Encoding::Zstd, out, plain.len(), &mut again);
        let same = decoded.is_ok() && again == plain;
        self.scratch = again;
        if same { Ok(Encoding::Zstd) } else { Err(EncodeError::NotReversible) }
    }

    /// Puts the plain form of `stored` into `out` (replacing what it held). Never allocates more
    /// than `plain_len`, which the caller has checked against its limit.
    ///
    /// # Errors
    /// When `stored` does not decode to exactly `plain_len` bytes.
    pub fn decode(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        plain_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        out.clear();
        match encoding {
            Encoding::Raw => out.extend_from_slice(stored),
            Encoding::Zstd => {
                out.reserve_exact(plain_len);
                self.decompressor
                    .decompress_to_buffer(stored, out)
                    .map_err(|error| DecodeError::new("compressed block", error.to_string()))?;
            }
        }
        if out.len() == plain_len {
            return Ok(());
        }
        let reason = format!("{} bytes where {plain_len} were announced", out.len());
        Err(DecodeError::new("compressed block", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(plain: &[u8]) -> (Encoding, usize) {
        let mut codec = Codec::new(1).unwrap();
        let (mut stored, mut again) = (Vec::new(), Vec::new());
        let encoding = codec.encode(plain, &mut stored).unwrap();
        codec.decode(encoding, &stored, plain.len(), &mut again).unwrap();
        assert_eq!(again, plain);
        (encoding, stored.len())
    }

    #[test]
    fn compressible_shrinks_and_noise_is_kept_as_it_is() {
        let mut noise = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(round_trip(&noise), (Encoding::Raw, noise.len()));
        let (encoding, len) = round_trip(&vec![7; 100_000]);
        assert!(encoding == Encoding::Zstd && len < 100);
        round_trip(b"");
        round_trip(b"x");
    }

    #[test]
    fn a_bomb_is_refused_at_the_announced_length() {
        let mut codec = Codec::new(1).unwrap();
        let mut stored = Vec::new();
        codec.encode(&vec![0; 10_000_000], &mut stored).unwrap();
        let mut out = Vec::new();
        assert!(codec.decode(Encoding::Zstd, &stored, 1000, &mut out).is_err());
        assert!(out.capacity() <= 1024);
        assert!(codec.decode(Encoding::Zstd, &stored, 10_000_001, &mut out).is_err());
        assert!(codec.decode(Encoding::Raw, &stored, 3, &mut out).is_err());
    }
}
