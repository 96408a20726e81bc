//! Passphrases and every key derivation, on one page.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CryptoError, SecretMemory, wiping_stack};

/// Iterations of PBKDF2 in a v1 archive, fixed by the format.
const V1_ITERATIONS: u32 = 100_000;

/// Bytes of the salt of a v1 archive.
const V1_SALT_LEN: usize = 32;

/// Bytes of stack that a derivation uses at most.
const STACK_OF_DERIVATION: usize = 16 * 1024;

/// A passphrase in secret memory. No Clone, Debug or Serialize.
pub struct Passphrase(SecretMemory);

impl Passphrase {
    /// The longest passphrase taken, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Takes a passphrase over and wipes the source. Nothing is trimmed here.
    ///
    /// # Errors
    /// [`CryptoError::EmptyPassphrase`], [`CryptoError::PassphraseTooLong`], [`CryptoError::SecretMemory`].
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, CryptoError> {
        Self::copy(&bytes)
    }

    /// Copies it into a second piece of secret memory.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        Self::copy(self.0.bytes())
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, other: &Passphrase) -> bool {
        self.0.bytes().ct_eq(other.0.bytes()).into()
    }

    /// Gives the bytes to one function, which must not keep them.
    pub fn expose<R>(&self, function: impl FnOnce(&[u8]) -> R) -> R {
        function(self.0.bytes())
    }

    fn copy(bytes: &[u8]) -> Result<Self, CryptoError> {
        match bytes.len() {
            0 => return Err(CryptoError::EmptyPassphrase),
            len if len > Self::MAX_LEN => return Err(CryptoError::PassphraseTooLong(Self::MAX_LEN)),
            _ => {}
        }
        let mut memory = SecretMemory::new(bytes.len())?;
        memory.bytes_mut().copy_from_slice(bytes);
        Ok(Self(memory))
    }
}

/// The 32-byte key of a v1 archive, with the salt that it was derived with.
pub struct ArchiveKey {
    key: SecretMemory,
    salt: [u8; V1_SALT_LEN],
}

impl ArchiveKey {
    /// Derives the key: PBKDF2-HMAC-SHA-256 (RFC 8018), 100,000 iterations, 32 bytes. Takes about 15 ms.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn derive(passphrase: &Passphrase, salt: [u8; V1_SALT_LEN]) -> Result<Self, CryptoError> {
        let mut key = SecretMemory::new(32)?;
        wiping_stack::<STACK_OF_DERIVATION, _>(|| {
            pbkdf2::pbkdf2_hmac::<sha2::Sha256>(passphrase.0.bytes(), &salt, V1_ITERATIONS, key.bytes_mut());
        });
        Ok(Self { key, salt })
    }

    /// Derives a key with a fresh random salt, for one archive to be written.
    ///
    /// # Errors
    /// [`CryptoError::Randomness`], [`CryptoError::SecretMemory`].
    pub fn derive_fresh(passphrase: &Passphrase) -> Result<Self, CryptoError> {
        Self::derive(passphrase, random()?)
    }

    /// Returns the salt.
    pub fn salt(&self) -> &[u8; V1_SALT_LEN] {
        &self.salt
    }

    /// A key that was not derived, for test vectors.
    #[cfg(test)]
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut key = SecretMemory::new(32).unwrap();
        key.bytes_mut().copy_from_slice(bytes);
        Self { key, salt: [0; V1_SALT_LEN] }
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> super::SecretMemoryKind {
        self.key.kind()
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.key.bytes()
    }
}

/// Draws random bytes from the kernel.
///
/// # Errors
/// [`CryptoError::Randomness`].
pub fn random<const LEN: usize>() -> Result<[u8; LEN], CryptoError> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(|error| CryptoError::Randomness(error.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn the_derivation_is_that_of_the_standard() {
        // Computed with Python: hashlib.pbkdf2_hmac("sha256", b"password", b"s" * 32, 100000).
        let key = ArchiveKey::derive(&passphrase("password"), [b's'; 32]).unwrap();
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e65321b44c45661407b70d4d7cafa3796cac198b347bb879c7952c6defd9dc33");
    }

    #[test]
    fn empty_and_overlong_passphrases_are_refused() {
        let make = |len| Passphrase::new(Zeroizing::new(vec![b'x'; len])).map(|_| ());
        assert!(matches!(make(0), Err(CryptoError::EmptyPassphrase)));
        assert!(make(1024).is_ok());
        assert!(matches!(make(1025), Err(CryptoError::PassphraseTooLong(1024))));
    }

    #[test]
    fn comparison_tells_apart() {
        assert!(passphrase("a").matches(&passphrase("a")));
        assert!(!passphrase("a").matches(&passphrase("b")));
        assert!(!passphrase("a").matches(&passphrase("ab")));
    }
}
