//! Passphrases and every key derivation, on one page.

use super::CryptoError;

/// A passphrase in secret memory. No Clone, Debug or Serialize.
pub struct Passphrase;

impl Passphrase {
    /// The longest passphrase taken, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Takes a passphrase over and wipes the source. Nothing is trimmed here.
    /// # Errors
    /// Empty, too long, or no secret memory.
    pub fn new(bytes: zeroize::Zeroizing<Vec<u8>>) -> Result<Self, CryptoError> {
        let _ = bytes;
        todo!()
    }
    /// Copies it, into secret memory again (an agent keeps one, a key derivation thread another).
    /// # Errors
    /// No secret memory.
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        todo!()
    }
    /// Compares in constant time.
    pub fn matches(&self, other: &Passphrase) -> bool {
        let _ = other;
        todo!()
    }
    /// Gives the bytes to one function: for handing them over a pipe, and for a strength estimate.
    pub fn expose<R>(&self, function: impl FnOnce(&[u8]) -> R) -> R {
        let _ = function;
        todo!()
    }
}

/// The 32-byte key of a v1 archive with the salt that it was derived with.
pub struct ArchiveKey;

impl ArchiveKey {
    /// Derives the key: PBKDF2-HMAC-SHA256 (RFC 8018), 100,000 iterations, 32 bytes. Takes about 15 ms.
    /// # Errors
    /// No secret memory.
    pub fn derive(passphrase: &Passphrase, salt: [u8; 32]) -> Result<Self, CryptoError> {
        let _ = (passphrase, salt);
        todo!()
    }
    /// Derives a key with a fresh random salt.
    /// # Errors
    /// No randomness or no secret memory.
    pub fn derive_fresh(passphrase: &Passphrase) -> Result<Self, CryptoError> {
        let _ = passphrase;
        todo!()
    }
    /// The salt.
    pub fn salt(&self) -> &[u8; 32] {
        todo!()
    }
}
