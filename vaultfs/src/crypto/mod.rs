//! Bytes only: secret memory, passphrases, key derivation, sealing. Knows no files, no formats, no trees.

mod error;
mod gcm;
mod keys;
mod secret;
mod session;

pub use error::CryptoError;
pub use gcm::{GcmDecryptor, GcmEncryptor, GcmVerifier};
pub use keys::{ArchiveKey, Passphrase};
pub use secret::{SecretMemory, SecretMemoryKind};
pub use session::{PAGE_SIZE, SealedPage, SessionSealer};
