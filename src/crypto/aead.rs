//! AES-256-GCM, the only cipher of the format: the one place that names its crate.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};

use super::keys::KEY_LEN;

/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;

/// The bytes are not what was sealed with this key, nonce and additional data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged;

/// A cipher with its key schedule, which is wiped when it is dropped.
pub(crate) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Encrypts `buffer` in place. The caller never uses a nonce twice with one key.
    ///
    /// # Panics
    /// When `buffer` is longer than the 64 GiB that AES-GCM allows.
    pub(crate) fn seal(&self, nonce: &[u8; 12], bound: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        self.0
            .encrypt_inout_detached(nonce.into(), bound, buffer.into())
            .expect("a part is shorter than 64 GiB")
            .into()
    }

    /// Decrypts `buffer` in place, after its tag was verified; a forged one stays as it is.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        bound: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.0
            .decrypt_inout_detached(nonce.into(), bound, buffer.into(), tag.into())
            .map_err(|_| Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::text::{from_hex, to_hex};

    /// Test case 16 of the GCM specification (McGrew and Viega), with its additional data.
    #[test]
    fn agrees_with_the_published_test_vector() {
        let key = from_hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let nonce = from_hex("cafebabefacedbaddecaf888").unwrap();
        let bound: [u8; 20] = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
        let mut text: [u8; 60] = from_hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532f\
             cf0e2449a6b525b16aedf5aa0de657ba637b39",
        )
        .unwrap();
        let plain = text;
        let cipher = Cipher::new(&key.unwrap());
        let tag = cipher.seal(&nonce, &bound, &mut text);
        assert_eq!(to_hex(&tag), "76fc6ece0f4e1768cddf8853bb2d551b");
        assert_eq!(
            to_hex(&text),
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7\
             b08b1056828838c5f61e6393ba7a0abcc9f662"
        );
        let sealed = text;
        assert_eq!(cipher.open(&nonce, b"other", &mut text, &tag), Err(Forged));
        assert_eq!(text, sealed, "a forged text is never decrypted");
        assert_eq!(cipher.open(&nonce, &bound, &mut text, &tag), Ok(()));
        assert_eq!(text, plain);
    }
}
