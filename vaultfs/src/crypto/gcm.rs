//! AES-256-GCM as a stream (NIST SP 800-38D), so that a v1 archive need never be in memory whole.
//! Built from RustCrypto's `aes`, `ctr` and `ghash`, the parts of `aes-gcm`, and tested against it.

use super::{ArchiveKey, CryptoError};

/// Computes the tag over ciphertext without decrypting anything.
pub struct GcmVerifier;
/// Decrypts a stream, with the tag checked at its end.
pub struct GcmDecryptor;
/// Encrypts a stream in place; gives the tag at its end.
pub struct GcmEncryptor;

impl GcmVerifier {
    /// Starts.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        let _ = (key, nonce);
        todo!()
    }
    /// Takes more ciphertext, in pieces of any length.
    pub fn update(&mut self, ciphertext: &[u8]) {
        let _ = ciphertext;
    }
    /// Compares in constant time.
    /// # Errors
    /// The tag does not fit.
    pub fn verify(self, tag: &[u8; 16]) -> Result<(), CryptoError> {
        let _ = tag;
        todo!()
    }
}
impl GcmDecryptor {
    /// Starts.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        let _ = (key, nonce);
        todo!()
    }
    /// Decrypts in place.
    pub fn update(&mut self, data: &mut [u8]) {
        let _ = data;
    }
    /// Compares in constant time.
    /// # Errors
    /// The tag does not fit: all that was decrypted must be thrown away.
    pub fn verify(self, tag: &[u8; 16]) -> Result<(), CryptoError> {
        let _ = tag;
        todo!()
    }
}
impl GcmEncryptor {
    /// Starts.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        let _ = (key, nonce);
        todo!()
    }
    /// Encrypts in place.
    pub fn update(&mut self, data: &mut [u8]) {
        let _ = data;
    }
    /// Returns the tag.
    pub fn finish(self) -> [u8; 16] {
        todo!()
    }
}
