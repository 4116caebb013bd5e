//! The small pieces every binary format is made of: little-endian integers, variable-length
//! integers (LEB128) and length-prefixed bytes. The reader never trusts a length.

use super::DecodeError;

/// Bytes of the longest integer.
const LONGEST_VARINT: usize = 10;

/// Appends `value` in LEB128: seven bits a byte, lowest first, the top bit set on all but the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends `value` zigzag-coded (0, -1, 1, -2, ... become 0, 1, 2, 3, ...) in LEB128.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends the length of `bytes` and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads forward through untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` names them in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// An error about what is being read.
    pub fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::new(self.what, reason)
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.rest.len() {
            return Err(self.too_few(len));
        }
        let (head, tail) = self.rest.split_at(len);
        self.rest = tail;
        Ok(head)
    }

    #[cold]
    fn too_few(&self, len: usize) -> DecodeError {
        self.error(format!("{len} bytes wanted, {} left", self.rest.len()))
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes, little-endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A LEB128 integer in its shortest form (a second spelling of one value would let two
    /// different byte strings mean the same).
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        if let Some((&byte, tail)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = tail;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(LONGEST_VARINT).enumerate() {
            let (shift, bits) = (7 * at, u64::from(byte & 0x7f));
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && at > 0 {
                    return Err(self.error("integer not in its shortest form"));
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        match self.rest.len() {
            len @ ..LONGEST_VARINT => Err(self.too_few(len + 1)),
            _ => Err(self.error("integer larger than 64 bits")),
        }
    }

    /// A LEB128 integer that fits 32 bits.
    #[inline]
    pub fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.error("integer larger than 32 bits"))
    }

    /// A zigzag-coded LEB128 integer.
    #[inline]
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// Length-prefixed bytes of at most `limit`.
    #[inline]
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.count(limit)?;
        self.take(len)
    }

    /// A number of items that must not exceed `limit`. Callers may allocate for so many.
    #[inline]
    pub fn count(&mut self, limit: usize) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(self.too_many(value, limit)),
        }
    }

    #[cold]
    fn too_many(&self, value: u64, limit: usize) -> DecodeError {
        self.error(format!("{value} items or bytes where at most {limit} may be"))
    }

    /// Succeeds when nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.error(format!("{} bytes too many", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_signed(&mut out, signed);
            let mut reader = Reader::new("test", &out);
            prop_assert_eq!(reader.varint().unwrap(), value);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            reader.finish().unwrap();
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: [u8; 11]) {
            let mut reader = Reader::new("test", &bytes);
            if let Ok(value) = reader.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn what_is_no_integer_says_why() {
        let max = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(Reader::new("test", &max).varint(), Ok(u64::MAX));
        for (bytes, why) in [
            (&[][..], "1 bytes wanted, 0 left"),
            (&[0xff; 9], "10 bytes wanted, 9 left"),
            (&[0xff; 10], "larger than 64 bits"),
            (&[[0xff; 9].as_slice(), &[2]].concat(), "larger than 64 bits"),
            (&[0x81, 0], "not in its shortest form"),
            (&[0x80, 0x80, 0], "not in its shortest form"),
        ] {
            let error = Reader::new("test", bytes).varint().unwrap_err();
            assert!(error.to_string().contains(why), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn lengths_are_not_trusted() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        out.push(7);
        assert!(Reader::new("test", &out).bytes(usize::MAX).is_err());
        assert!(Reader::new("test", &[5, 1, 2]).bytes(10).is_err());
        assert!(Reader::new("test", &[2, 1, 2]).bytes(1).is_err());
    }
}
