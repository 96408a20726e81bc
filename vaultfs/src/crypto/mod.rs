//! Bytes only: secret memory, passphrases, key derivation, sealing. Knows no files, no formats, no trees.

mod error;
mod gcm;
mod keys;
mod secret;
mod session;
mod stack;
#[cfg(test)]
mod traces;

pub use error::CryptoError;
pub use gcm::{GCM_MAX_LEN, GcmDecryptor, GcmEncryptor, GcmVerifier};
pub use keys::{ArchiveKey, Passphrase, random};
pub use secret::{SecretMemory, SecretMemoryKind};
pub use session::{PAGE_SIZE, SealedPage, SessionSealer};
pub use stack::wiping_stack;
