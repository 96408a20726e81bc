//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over the two suites of a version 2 archive: chunks of
//! 64 KiB, each with its number and whether it is the last in its nonce. The ciphers are ring's: `aes-gcm` opens 1.4 GB/s where
//! ring opens 4.8.

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::master::SegmentKey;
use super::{CryptoError, wiping_stack};

/// Bytes of plaintext in every chunk but the last, which has 1 to as many.
pub const CHUNK_LEN: usize = 64 * 1024;
/// Bytes that follow the ciphertext of a chunk.
pub const TAG_LEN: usize = 16;

/// Bytes of stack that a cipher with its key schedule uses at most for a chunk.
const STACK_OF_A_CHUNK: usize = 32 * 1024;

/// The ciphers that segments may be sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl Suite {
    /// The one that this processor does fast: AES where it has instructions for it.
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_aes = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// Whether a chunk ends its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Others follow.
    Inner,
    /// None follows.
    Last,
}

/// Seals or opens the chunks of one payload, in order.
pub struct StreamCipher {
    suite: Suite,
    key: SegmentKey,
    next: u64,
}

impl StreamCipher {
    /// Begins with chunk 0. The key must not have been used for another payload when this seals.
    pub fn new(suite: Suite, key: SegmentKey) -> Self {
        Self { suite, key, next: 0 }
    }

    /// Seals the next chunk behind what a buffer holds: ciphertext and tag.
    pub fn seal(&mut self, chunk: &[u8], out: &mut Vec<u8>, position: Position) {
        debug_assert!((1..=CHUNK_LEN).contains(&chunk.len()));
        let (nonce, start) = (self.nonce(position), out.len());
        // At once, so that no plaintext is left where a buffer was that grew.
        out.reserve(chunk.len() + TAG_LEN);
        out.extend_from_slice(chunk);
        let tag = self.with_cipher(|cipher| cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..]));
        out.extend_from_slice(tag.expect("a chunk is far below the ciphers' limits").as_ref());
    }

    /// Opens the next chunk, ciphertext and tag, in place; returns how many bytes of plaintext it begins with.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]: what the chunk holds then is not to be used.
    pub fn open(&mut self, chunk: &mut [u8], position: Position) -> Result<usize, CryptoError> {
        let len = chunk.len().checked_sub(TAG_LEN).ok_or(CryptoError::Authentication)?;
        let nonce = self.nonce(position);
        self.with_cipher(|cipher| cipher.open_in_place(nonce, Aad::empty(), chunk).map(drop))
            .map_err(|_| CryptoError::Authentication)?;
        Ok(len)
    }

    /// Gives the cipher to a function, then wipes the stack of what was expanded from the key.
    fn with_cipher<R>(&self, function: impl FnOnce(&LessSafeKey) -> R) -> R {
        wiping_stack::<STACK_OF_A_CHUNK, _>(|| {
            let key = UnboundKey::new(self.suite.algorithm(), self.key.expose()).expect("a segment key has 32 bytes");
            function(&LessSafeKey::new(key))
        })
    }

    fn nonce(&mut self, position: Position) -> Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(position == Position::Last);
        self.next = self.next.checked_add(1).expect("2^64 chunks are more than any file");
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MasterKey;

    fn key() -> SegmentKey {
        let master = MasterKey::fill(|bytes| {
            bytes.fill(7);
            Ok(())
        });
        master.unwrap().segment_key(&[1; 32], b"header").unwrap()
    }

    fn sealed(suite: Suite) -> Vec<Vec<u8>> {
        let mut cipher = StreamCipher::new(suite, key());
        let chunks = [vec![1; CHUNK_LEN], vec![2; CHUNK_LEN], vec![3; 100]];
        let seal = |(index, chunk): (usize, Vec<u8>)| {
            let mut sealed = Vec::new();
            cipher.seal(&chunk, &mut sealed, if index == 2 { Position::Last } else { Position::Inner });
            sealed
        };
        chunks.into_iter().enumerate().map(seal).collect()
    }

    #[test]
    fn chunks_open_in_their_order_only() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let open = |order: &[usize]| {
                let (mut chunks, mut cipher) = (sealed(suite), StreamCipher::new(suite, key()));
                order.iter().enumerate().try_for_each(|(at, &index)| {
                    let position = if at + 1 == order.len() { Position::Last } else { Position::Inner };
                    cipher.open(&mut chunks[index], position).map(drop)
                })
            };
            assert!(open(&[0, 1, 2]).is_ok());
            for wrong in [&[0, 1][..], &[0, 2], &[1, 0, 2], &[1, 2], &[2], &[0, 0, 2], &[0, 1, 2, 2]] {
                assert!(open(wrong).is_err(), "{suite:?} {wrong:?}");
            }
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let last = sealed(suite).remove(2);
            for byte in 0..last.len() {
                let mut changed = last.clone();
                changed[byte] ^= 0x40;
                let mut cipher = StreamCipher { suite, key: key(), next: 2 };
                assert!(cipher.open(&mut changed, Position::Last).is_err(), "{suite:?} {byte}");
            }
        }
    }
}
