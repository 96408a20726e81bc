//! Sealing of file content at rest in memory, with a key that lives as long as the process.

use super::CryptoError;

/// The unit of sealing, in bytes: a write never seals more than the pages it touches.
pub const PAGE_SIZE: usize = 4096;

/// One sealed piece of content: nonce, ciphertext, tag. Its plaintext has 1 to [`PAGE_SIZE`] bytes.
pub struct SealedPage;

/// Seals and opens pages with a random key of this process, kept in secret memory. Shared by all threads.
pub struct SessionSealer;

impl SessionSealer {
    /// Draws a key.
    /// # Errors
    /// No secret memory or no randomness can be had.
    pub fn new() -> Result<Self, CryptoError> {
        todo!()
    }
    /// Seals 1 to [`PAGE_SIZE`] bytes under a nonce never used before in this session.
    pub fn seal(&self, plaintext: &[u8]) -> SealedPage {
        let _ = plaintext;
        todo!()
    }
    /// Opens a page into `out`, which must have exactly the plaintext's length. A wrong tag (memory corruption) is an error.
    /// # Errors
    /// The tag is wrong.
    pub fn open(&self, page: &SealedPage, out: &mut [u8]) -> Result<(), CryptoError> {
        let _ = (page, out);
        todo!()
    }
    /// Tells which kind of memory holds the key.
    pub fn memory_kind(&self) -> super::SecretMemoryKind {
        todo!()
    }
}
impl SealedPage {
    /// Length of the plaintext in bytes.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether the plaintext is empty; it never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
