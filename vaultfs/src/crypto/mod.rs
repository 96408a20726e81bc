//! Bytes only: secret memory, passphrases, key derivation, sealing. Knows no files but the kernel's own, no formats, no trees.

mod available;
mod error;
mod gcm;
mod identity;
mod keys;
mod master;
mod page_room;
mod recipient;
mod secret;
mod session;
mod slot;
mod stack;
mod stream;
#[cfg(test)]
mod traces;
mod wiped;

pub use available::TOLD_IN as MEMORY_TOLD_IN;
pub use error::CryptoError;
pub use gcm::{GCM_MAX_LEN, GcmDecryptor, GcmEncryptor, GcmVerifier};
pub use identity::Identity;
pub use keys::{ArchiveKey, Passphrase, random};
pub use master::{Hasher, KEY_LEN, MacPurpose, MasterKey, SegmentKey};
pub use page_room::give_back_free_pages;
pub use recipient::{AGE_FILE_MAX, RECIPIENT_MAX, Recipient};
pub use secret::{SecretMemory, SecretMemoryKind};
pub use session::{PAGE_SIZE, PageCipher, SealedPage, SessionSealer};
pub use slot::{KdfCost, PassphraseSlot, WRAPPED_LEN};
pub use stack::wiping_stack;
pub use stream::{CHUNK_LEN, Position, StreamCipher, Suite, TAG_LEN};
pub use wiped::WipedBytes;
