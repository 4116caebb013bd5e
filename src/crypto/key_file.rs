//! Key files: a random secret in a file of its own, for machines on which nobody types.

use std::fmt;

use zeroize::Zeroizing;

use super::text::{from_hex, to_hex};
use crate::format::DecodeError;
use crate::id::fill_random;

const FIRST_LINE: &str = "gabion key file 1";

/// The secret of a key file.
pub struct KeyFile(Zeroizing<[u8; 32]>);

impl KeyFile {
    /// A new secret from the operating system's random source.
    pub fn generate() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        fill_random(&mut *secret);
        Self(secret)
    }

    /// What the file holds: two lines of text.
    pub fn encode(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(to_hex(&*self.0));
        Zeroizing::new(format!("{FIRST_LINE}\n{}\n", *digits))
    }

    /// Reads the file. The end of its last line may be missing, as some editors leave it.
    ///
    /// # Errors
    /// When it is no key file; the error does not repeat what the file holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bad = |reason| DecodeError::new("key file", reason);
        let rest = bytes
            .strip_prefix(FIRST_LINE.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"\n"))
            .ok_or_else(|| bad(format!("its first line is not {FIRST_LINE:?}")))?;
        let digits = rest.strip_suffix(b"\n").unwrap_or(rest);
        std::str::from_utf8(digits)
            .ok()
            .and_then(from_hex)
            .map(|secret| Self(Zeroizing::new(secret)))
            .ok_or_else(|| bad("its second line is not 64 hexadecimal digits".to_owned()))
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_file_is_read_back() {
        let key = KeyFile::generate();
        let text = key.encode();
        assert_eq!(text.len(), FIRST_LINE.len() + 66);
        assert_eq!(KeyFile::parse(text.as_bytes()).unwrap().secret(), key.secret());
        assert_eq!(KeyFile::parse(text.trim_end().as_bytes()).unwrap().secret(), key.secret());
        assert_ne!(KeyFile::generate().secret(), key.secret());
        assert_eq!(format!("{key:?}"), "KeyFile(..)");
    }

    #[test]
    fn anything_else_is_refused_without_showing_it() {
        let digits = "5a".repeat(32);
        for bad in [
            String::new(),
            digits.clone(),
            format!("gabion key file 2\n{digits}\n"),
            format!("gabion key file 1\r\n{digits}\r\n"),
            format!("gabion key file 1\n{digits}\n\n"),
            format!("gabion key file 1\n{digits} \n"),
            format!("gabion key file 1\n{}\n", digits.to_uppercase()),
            format!("gabion key file 1\n{}\n", &digits[..62]),
            format!("gabion key file 1\n{digits}5a\n"),
        ] {
            let error = KeyFile::parse(bad.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("5a5a"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(tail in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = KeyFile::parse(&tail);
            let _ = KeyFile::parse(&[FIRST_LINE.as_bytes(), b"\n", &tail].concat());
        }
    }
}
