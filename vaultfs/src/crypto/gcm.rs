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
        assert!(self.total <= GCM_MAX_LEN, "callers keep a message below the limit of the mode");
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

    /// Takes more ciphertext, in pieces of any length. The caller keeps the whole within [`GCM_MAX_LEN`].
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

    /// Decrypts the next bytes in place. The caller keeps the whole within [`GCM_MAX_LEN`].
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

    /// Encrypts the next bytes in place. The caller keeps the whole within [`GCM_MAX_LEN`].
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

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_vectors_of_the_specification_come_out() {
        // McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 to 15 (256-bit key, no associated data).
        let (zero_key, key) = ([0; 32], bytes(&"feffe9928665731c6d6a8f9467308308".repeat(2)));
        let nonce = bytes("cafebabefacedbaddecaf888");
        let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                     b16aedf5aa0de657ba637b391aafd255";
        let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                      c5f61e6393ba7a0abcc9f662898015ad";
        let cases = [
            (&zero_key[..], &[0; 12][..], "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
            (
                &zero_key,
                &[0; 12],
                "00000000000000000000000000000000",
                "cea7403d4d606b6e074ec5d3baf39d18",
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (&key, &nonce, plain, sealed, "b094dac5d93471bdec1a502270e3cc6c"),
        ];
        for (key, nonce, plain, sealed, tag) in cases {
            let key = ArchiveKey::from_bytes(key.try_into().unwrap());
            let mut encryptor = GcmEncryptor::new(&key, nonce.try_into().unwrap());
            let mut data = bytes(plain);
            encryptor.update(&mut data);
            assert_eq!(data, bytes(sealed));
            assert_eq!(encryptor.finish().as_slice(), bytes(tag));
        }
    }

    #[test]
    fn long_messages_in_large_pieces_are_what_the_one_shot_cipher_makes() {
        let key = key();
        for len in [65_535, 65_536, 65_537, 300_000] {
            let plain: Vec<u8> = (0..len).map(|at| ((at * 31) >> 3) as u8).collect();
            let (ciphertext, tag) = reference(&key, [5; 12], &plain);
            let mut data = plain.clone();
            let mut encryptor = GcmEncryptor::new(&key, &[5; 12]);
            in_pieces(&mut data, &[65_536, 1, 4096], |piece| encryptor.update(piece));
            assert!(data == ciphertext && encryptor.finish() == tag, "{len} bytes");
        }
    }

    #[test]
    fn a_counter_block_is_never_used_twice_within_the_limit() {
        // The counter of 32 bits begins at 2, after the block that masks the tag, and may not come back to 1.
        assert_eq!(GCM_MAX_LEN / BLOCK as u64, (1 << 32) - 2);
    }
}
