//! Compression of blocks: zstd, alone or against a base; or as it is where zstd gains too little.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_error_name};

use crate::format::DecodeError;

/// How the bytes of a block are stored, before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    Raw = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
    /// One zstd frame whose matches may also lie in the base: chunks of other blocks.
    Delta = 2,
}

/// The least zstd level against a base: the tables of lower ones do not reach back far enough.
const DELTA_LEVEL: i32 = 3;

impl Encoding {
    /// The encoding that is written as `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Delta),
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
    level: i32,
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
            level,
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

    /// Puts the form that `plain` has against `base` into `out` (replacing what it held), with the
    /// same look back as [`Self::encode`].
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_delta(
        &mut self,
        base: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let failed = |code| EncodeError::Encoder(get_error_name(code).to_owned());
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        // A context holds on to its base, so it cannot be kept.
        let mut context = CCtx::create();
        let level = CParameter::CompressionLevel(self.level.max(DELTA_LEVEL));
        context.set_parameter(level).map_err(failed)?;
        context.ref_prefix(base).map_err(failed)?;
        context.compress2(out, plain).map_err(failed)?;
        let mut again = std::mem::take(&mut self.scratch);
        let decoded = self.decode_delta(base, out, plain.len(), &mut again);
        let same = decoded.is_ok() && again == plain;
        self.scratch = again;
        if same { Ok(()) } else { Err(EncodeError::NotReversible) }
    }

    /// As [`Self::decode`], of what was encoded against `base`.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_delta(
        &mut self,
        base: &[u8],
        stored: &[u8],
        plain_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let failed = |code| DecodeError::new("compressed block", get_error_name(code));
        out.clear();
        out.reserve_exact(plain_len);
        let mut context = DCtx::create();
        context.ref_prefix(base).map_err(failed)?;
        context.decompress(out, stored).map_err(failed)?;
        check_len(out, plain_len)
    }

    /// Puts the plain form of `stored` into `out` (replacing what it held). Never allocates more
    /// than `plain_len`, which the caller has checked against its limit.
    ///
    /// # Errors
    /// When `stored` does not decode to exactly `plain_len` bytes, or needs a base.
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
            Encoding::Delta => {
                return Err(DecodeError::new("compressed block", "its base is not given"));
            }
        }
        check_len(out, plain_len)
    }
}

fn check_len(plain: &[u8], announced: usize) -> Result<(), DecodeError> {
    if plain.len() == announced {
        return Ok(());
    }
    let reason = format!("{} bytes where {announced} were announced", plain.len());
    Err(DecodeError::new("compressed block", reason))
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
        codec.encode_delta(&[0; 1000], &vec![0; 10_000_000], &mut stored).unwrap();
        let mut out = Vec::new();
        assert!(codec.decode_delta(&[0; 1000], &stored, 1000, &mut out).is_err());
        assert!(out.capacity() <= 1024);
    }

    #[test]
    fn what_the_base_has_costs_nothing_however_far_back_it_is() {
        let mut base = vec![0; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut base);
        let plain = [&base[..100_000], b"something new", &base[200_000..350_000]].concat();
        let mut codec = Codec::new(1).unwrap();
        let (mut stored, mut again) = (Vec::new(), Vec::new());
        codec.encode_delta(&base, &plain, &mut stored).unwrap();
        assert!(stored.len() < 1000, "{}", stored.len());
        codec.decode_delta(&base, &stored, plain.len(), &mut again).unwrap();
        assert_eq!(again, plain);
        assert!(codec.decode(Encoding::Delta, &stored, plain.len(), &mut again).is_err());
        assert!(codec.decode(Encoding::Zstd, &stored, plain.len(), &mut again).is_err());
        base[50_000] ^= 1;
        let other = codec.decode_delta(&base, &stored, plain.len(), &mut again);
        assert!(other.is_err() || again != plain, "another base gives something else");
    }
}
