//! Bytes only: secret memory, passphrases, key derivation, sealing. Knows no files, no formats, no trees.

mod error;
mod gcm;
mod keys;
mod master;
mod secret;
mod session;
mod slot;
mod stack;
mod stream;
#[cfg(test)]
mod traces;

pub use error::CryptoError;
pub use gcm::{GCM_MAX_LEN, GcmDecryptor, GcmEncryptor, GcmVerifier};
pub use keys::{ArchiveKey, Passphrase, random};
pub use master::{Hasher, KEY_LEN, MacPurpose, MasterKey, SegmentKey};
pub use secret::{SecretMemory, SecretMemoryKind};
pub use session::{PAGE_SIZE, PageCipher, SealedPage, SessionSealer};
pub use slot::{KdfCost, PassphraseSlot, WRAPPED_LEN};
pub use stack::wiping_stack;
pub use stream::{CHUNK_LEN, Position, StreamCipher, Suite, TAG_LEN};
