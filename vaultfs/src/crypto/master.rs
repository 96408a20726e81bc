//! The master key of a version 2 archive and every key derived from it, on one page. Labels are those of docs/FORMAT.md.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{CryptoError, SecretMemory, wiping_stack};

/// Bytes of the master, of every key and of every MAC.
pub const KEY_LEN: usize = 32;

const HEADER: &[u8] = b"tazpod/v2/header";
const WITNESS: &[u8] = b"tazpod/v2/witness";
const FINGERPRINT: &[u8] = b"tazpod/v2/fingerprint";
const SEGMENT: &[u8] = b"tazpod/v2/segment";

/// Bytes of stack that HKDF and HMAC use at most.
const STACK_OF_A_DERIVATION: usize = 8 * 1024;

/// The 32 random bytes that everything in an archive is sealed under. No Clone, Debug or Serialize.
pub struct MasterKey(SecretMemory);

/// The key of one segment's payload.
pub struct SegmentKey(SecretMemory);

/// What is authenticated with a key of its own outside of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPurpose {
    /// The archive's header.
    Header,
    /// What a machine remembers of an archive.
    Witness,
}

impl MasterKey {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`], [`CryptoError::Randomness`].
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self(SecretMemory::random(KEY_LEN)?))
    }

    /// Has it written by a function, as unwrapping does; the function sees 32 zeros.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`], and what the function returns.
    pub fn fill(fill: impl FnOnce(&mut [u8]) -> Result<(), CryptoError>) -> Result<Self, CryptoError> {
        let mut memory = SecretMemory::new(KEY_LEN)?;
        fill(memory.bytes_mut())?;
        Ok(Self(memory))
    }

    /// Copies it into a second piece of secret memory.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        Self::fill(|bytes| {
            bytes.copy_from_slice(self.0.bytes());
            Ok(())
        })
    }

    /// Names the master without telling it: equal for equal masters of one vault.
    pub fn fingerprint(&self, vault_id: &[u8; 16]) -> [u8; 16] {
        let mut fingerprint = [0; 16];
        self.derive(vault_id, &[FINGERPRINT], &mut fingerprint);
        fingerprint
    }

    /// Computes HMAC-SHA-256 (RFC 2104) with the key of a purpose.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn mac(&self, purpose: MacPurpose, vault_id: &[u8; 16], message: &[u8]) -> Result<[u8; KEY_LEN], CryptoError> {
        let label = match purpose {
            MacPurpose::Header => HEADER,
            MacPurpose::Witness => WITNESS,
        };
        let mut key = SecretMemory::new(KEY_LEN)?;
        self.derive(vault_id, &[label], key.bytes_mut());
        Ok(wiping_stack::<STACK_OF_A_DERIVATION, _>(|| {
            let mut mac =
                <Hmac<Sha256> as KeyInit>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
            mac.update(message);
            mac.finalize().into_bytes().into()
        }))
    }

    /// Checks a MAC in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`], [`CryptoError::SecretMemory`].
    pub fn verify_mac(
        &self,
        purpose: MacPurpose,
        vault_id: &[u8; 16],
        message: &[u8],
        mac: &[u8],
    ) -> Result<(), CryptoError> {
        let expected = self.mac(purpose, vault_id, message)?;
        if expected.ct_eq(mac).into() { Ok(()) } else { Err(CryptoError::Authentication) }
    }

    /// Derives the key of a segment from its salt and the authenticated part of its header.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn segment_key(&self, salt: &[u8; 32], header: &[u8]) -> Result<SegmentKey, CryptoError> {
        let mut key = SecretMemory::new(KEY_LEN)?;
        self.derive(salt, &[SEGMENT, header], key.bytes_mut());
        Ok(SegmentKey(key))
    }

    /// HKDF-SHA-256 (RFC 5869).
    fn derive(&self, salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
        wiping_stack::<STACK_OF_A_DERIVATION, _>(|| {
            Hkdf::<Sha256>::new(Some(salt), self.0.bytes())
                .expand_multi_info(info, out)
                .expect("HKDF gives up to 255 blocks");
        });
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl SegmentKey {
    pub(super) fn expose(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Computes SHA-256 (FIPS 180-4) over pieces that follow each other.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// Hashes some pieces as one.
    pub fn hash(pieces: &[&[u8]]) -> [u8; 32] {
        let mut hasher = Self::default();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::fill(|bytes| {
            bytes.fill(byte);
            Ok(())
        })
        .unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn derivations_are_those_of_the_format() {
        // Computed with Python's hmac and hashlib: HKDF-SHA-256 with IKM 32 × 01.
        let id = [2; 16];
        assert_eq!(hex(&master(1).fingerprint(&id)), FINGERPRINT_OF_ONES);
        let key = master(1).segment_key(&[3; 32], &[4; 80]).unwrap();
        assert_eq!(hex(key.expose()), SEGMENT_KEY_OF_ONES);
        let mac = master(1).mac(MacPurpose::Header, &id, b"message").unwrap();
        assert_eq!(hex(&mac), HEADER_MAC_OF_ONES);
    }

    const FINGERPRINT_OF_ONES: &str = "a9757241ee98ec71cc8b7968fa8a37df";
    const SEGMENT_KEY_OF_ONES: &str = "b564eee696dc4deb91f7f403bab35e687364310ac4287bffb0dfb3df7a3e432f";
    const HEADER_MAC_OF_ONES: &str = "866ce295546e2677af91ada9c6f97e00035eb98f3e191dda9a8d5d1d2e8b710b";

    #[test]
    fn macs_tell_apart_purposes_vaults_and_masters() {
        let id = [2; 16];
        let mac = master(1).mac(MacPurpose::Header, &id, b"m").unwrap();
        assert!(master(1).verify_mac(MacPurpose::Header, &id, b"m", &mac).is_ok());
        assert!(master(1).verify_mac(MacPurpose::Witness, &id, b"m", &mac).is_err());
        assert!(master(1).verify_mac(MacPurpose::Header, &[3; 16], b"m", &mac).is_err());
        assert!(master(2).verify_mac(MacPurpose::Header, &id, b"m", &mac).is_err());
        assert!(master(1).verify_mac(MacPurpose::Header, &id, b"m", &mac[..31]).is_err());
    }
}
