//! AES-256-GCM as a stream (NIST SP 800-38D), so that a v1 archive need never be in memory whole.
//! Built from RustCrypto's `aes`, `ctr` and `ghash`, the parts of `aes-gcm`, and tested against it.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherSeek};
use ctr::{Ctr32BE, CtrCore};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{ArchiveKey, CryptoError};

const BLOCK: usize = 16;

/// The longest ciphertext under one nonce, in bytes: 2^39 − 256 bits.
pub const GCM_MAX_LEN: u64 = (1 << 36) - 32;

/// GHASH over ciphertext that comes in pieces of any length, then the tag.
struct Authenticator {
    ghash: GHash,
    /// Ciphertext that does not fill a block yet.
    rest: [u8; BLOCK],
    rest_len: usize,
    total: u64,
    /// The encrypted first counter block, which masks the hash.
    mask: Zeroizing<[u8; BLOCK]>,
}

impl Authenticator {
    fn update(&mut self, mut data: &[u8]) {
        self.total += data.len() as u64;
        if self.rest_len > 0 {
            let taken = data.len().min(BLOCK - self.rest_len);
            self.rest[self.rest_len..self.rest_len + taken].copy_from_slice(&data[..taken]);
            self.rest_len += taken;
            data = &data[taken..];
            if self.rest_len < BLOCK {
                return;
            }
            self.ghash.update_padded(&self.rest);
            self.rest_len = 0;
        }
        let whole = data.len() - data.len() % BLOCK;
        self.ghash.update_padded(&data[..whole]);
        let tail = &data[whole..];
        self.rest[..tail.len()].copy_from_slice(tail);
        self.rest_len = tail.len();
    }

    fn tag(mut self) -> [u8; BLOCK] {
        self.ghash.update_padded(&self.rest[..self.rest_len]);
        let mut lengths = [0; BLOCK];
        lengths[8..].copy_from_slice(&(self.total * 8).to_be_bytes());
        self.ghash.update_padded(&lengths);
        let hash = self.ghash.finalize();
        std::array::from_fn(|index| hash[index] ^ self.mask[index])
    }

    fn verify(self, tag: &[u8; BLOCK]) -> Result<(), CryptoError> {
        if bool::from(self.tag().ct_eq(tag)) { Ok(()) } else { Err(CryptoError::Authentication) }
    }
}

/// The key stream, standing after the block that masks the tag, and the authenticator of the same key and nonce.
fn start(key: &ArchiveKey, nonce: &[u8; 12]) -> (Ctr32BE<Aes256>, Authenticator) {
    let key = key.expose().try_into().expect("an archive's key has 32 bytes");
    let cipher = Aes256::new(key);
    let mut hash_key = ghash::Key::default();
    cipher.encrypt_block(&mut hash_key);
    let ghash = GHash::new(&hash_key);
    hash_key.zeroize();
    let mut counter = [0; BLOCK];
    counter[..12].copy_from_slice(nonce);
    counter[15] = 1;
    let mut stream = Ctr32BE::from_core(CtrCore::inner_iv_init(cipher, &counter.into()));
    let mut mask = Zeroizing::new([0; BLOCK]);
    stream.apply_keystream(&mut *mask);
    debug_assert_eq!(stream.current_pos::<u64>(), BLOCK as u64);
    (stream, Authenticator { ghash, rest: [0; BLOCK], rest_len: 0, total: 0, mask })
}

/// Checks the tag over ciphertext without decrypting anything.
pub struct GcmVerifier(Authenticator);

impl GcmVerifier {
    /// Starts with a key and a nonce.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        Self(start(key, nonce).1)
    }

    /// Takes more ciphertext, in pieces of any length.
    pub fn update(&mut self, ciphertext: &[u8]) {
        self.0.update(ciphertext);
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`].
    pub fn verify(self, tag: &[u8; 16]) -> Result<(), CryptoError> {
        self.0.verify(tag)
    }
}

/// Decrypts a stream, with the tag checked at its end.
pub struct GcmDecryptor {
    stream: Ctr32BE<Aes256>,
    authenticator: Authenticator,
}

impl GcmDecryptor {
    /// Starts with a key and a nonce.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        let (stream, authenticator) = start(key, nonce);
        Self { stream, authenticator }
    }

    /// Decrypts the next bytes in place. The caller keeps the whole below [`GCM_MAX_LEN`].
    pub fn update(&mut self, data: &mut [u8]) {
        self.authenticator.update(data);
        self.stream.apply_keystream(data);
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]: all that was decrypted must be thrown away.
    pub fn verify(self, tag: &[u8; 16]) -> Result<(), CryptoError> {
        self.authenticator.verify(tag)
    }
}

/// Encrypts a stream in place and gives the tag at its end.
pub struct GcmEncryptor {
    stream: Ctr32BE<Aes256>,
    authenticator: Authenticator,
}

impl GcmEncryptor {
    /// Starts with a key and a nonce that were never together before.
    pub fn new(key: &ArchiveKey, nonce: &[u8; 12]) -> Self {
        let (stream, authenticator) = start(key, nonce);
        Self { stream, authenticator }
    }

    /// Encrypts the next bytes in place. The caller keeps the whole below [`GCM_MAX_LEN`].
    pub fn update(&mut self, data: &mut [u8]) {
        self.stream.apply_keystream(data);
        self.authenticator.update(data);
    }

    /// Returns the tag.
    pub fn finish(self) -> [u8; 16] {
        self.authenticator.tag()
    }
}

#[cfg(test)]
mod tests {
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::AeadInOut;
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Passphrase;

    fn key() -> ArchiveKey {
        let passphrase = Passphrase::new(Zeroizing::new(b"gcm".to_vec())).unwrap();
        ArchiveKey::derive(&passphrase, [3; 32]).unwrap()
    }

    /// Encrypts with the `aes-gcm` crate.
    fn reference(key: &ArchiveKey, nonce: [u8; 12], plain: &[u8]) -> (Vec<u8>, [u8; 16]) {
        let cipher = Aes256Gcm::new(key.expose().try_into().unwrap());
        let mut data = plain.to_vec();
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &[], data.as_mut_slice().into()).unwrap();
        (data, tag.into())
    }

    fn in_pieces(mut data: &mut [u8], pieces: &[usize], mut step: impl FnMut(&mut [u8])) {
        for &piece in pieces.iter().cycle() {
            let (head, rest) = data.split_at_mut(piece.min(data.len()));
            step(head);
            data = rest;
            if data.is_empty() {
                break;
            }
        }
    }

    #[test]
    fn any_length_in_any_pieces_is_what_the_one_shot_cipher_makes() {
        let key = key();
        let strategy = (
            proptest::collection::vec(any::<u8>(), 0..400),
            proptest::collection::vec(1_usize..70, 1..6),
            any::<[u8; 12]>(),
        );
        proptest!(|((plain, pieces, nonce) in strategy)| {
            let (ciphertext, tag) = reference(&key, nonce, &plain);
            let mut data = plain.clone();
            let mut encryptor = GcmEncryptor::new(&key, &nonce);
            in_pieces(&mut data, &pieces, |piece| encryptor.update(piece));
            prop_assert_eq!(&data, &ciphertext);
            prop_assert_eq!(encryptor.finish(), tag);

            let mut verifier = GcmVerifier::new(&key, &nonce);
            in_pieces(&mut data, &pieces, |piece| verifier.update(piece));
            prop_assert!(verifier.verify(&tag).is_ok());

            let mut decryptor = GcmDecryptor::new(&key, &nonce);
            in_pieces(&mut data, &pieces, |piece| decryptor.update(piece));
            prop_assert_eq!(&data, &plain);
            prop_assert!(decryptor.verify(&tag).is_ok());

            let mut wrong = tag;
            wrong[0] ^= 1;
            prop_assert!(GcmVerifier::new(&key, &nonce).verify(&wrong).is_err());
        });
    }
}
