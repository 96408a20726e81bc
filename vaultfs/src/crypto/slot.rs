//! The passphrase slot of a version 2 archive: Argon2id (RFC 9106) makes a key of the passphrase, which wraps the master under
//! XChaCha20-Poly1305. Costs that a file asks for are capped before any memory is spent.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroize;

use super::available::available_kib;
use super::master::{KEY_LEN, MasterKey};
use super::{CryptoError, Passphrase, SecretMemory, random, wiping_stack};

/// Bytes of the master as a slot holds it: ciphertext and tag.
pub const WRAPPED_LEN: usize = KEY_LEN + 16;

/// Bytes of stack that Argon2id and the wrapping use at most.
const STACK_OF_A_SLOT: usize = 32 * 1024;

/// Memory that no slot may ask for more of, in KiB (2 GiB).
const MEMORY_MAX: u32 = 2 * 1024 * 1024;
/// Lanes that no slot may ask for more of.
const LANES_MAX: u32 = 16;
/// Memory times passes that no slot may ask for more of, in KiB (4 GiB).
const WORK_MAX: u64 = 4 * 1024 * 1024;

/// What OWASP asks for at least: 19 MiB and 2 passes.
const FLOOR: KdfCost = KdfCost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
/// The most that calibration picks, in KiB (1 GiB).
const CEILING: u32 = 1024 * 1024;
/// What calibration aims at.
const TARGET: Duration = Duration::from_millis(500);
/// Passes that calibration picks (RFC 9106, section 4, second choice).
const PASSES: u32 = 3;

/// What a guess at a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB, at least 8 a lane.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Independent lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// Picks a cost of about half a second on this machine, between 19 MiB with 2 passes and 1 GiB with 3, and half of the memory that
    /// can be had at most. Measures a small derivation, which takes some 50 ms.
    ///
    /// # Errors
    /// [`CryptoError::KdfMemory`].
    pub fn calibrate() -> Result<Self, CryptoError> {
        let probe = Self { passes: PASSES, ..FLOOR };
        let begun = Instant::now();
        probe.derive(&[0; 16], &[0; 32], &mut [0; KEY_LEN])?;
        let ratio = TARGET.as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-4);
        // Whole MiB, so that the number says nothing more of the machine than it must.
        let mebibytes = (f64::from(probe.memory_kib) * ratio / 1024.0) as u32;
        let half = available_kib().map_or(CEILING, |kib| u32::try_from(kib / 2).unwrap_or(CEILING));
        let memory_kib = mebibytes.min(half / 1024).saturating_mul(1024).min(CEILING);
        Ok(if memory_kib < FLOOR.memory_kib { FLOOR } else { Self { memory_kib, ..probe } })
    }

    /// Refuses what would cost more than any honest slot.
    ///
    /// # Errors
    /// [`CryptoError::KdfCost`].
    pub fn check(self) -> Result<Self, CryptoError> {
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        let sane = self.lanes >= 1
            && self.passes >= 1
            && self.lanes <= LANES_MAX
            && self.memory_kib >= 8 * self.lanes
            && self.memory_kib <= MEMORY_MAX
            && work <= WORK_MAX;
        if sane { Ok(self) } else { Err(CryptoError::KdfCost(self)) }
    }

    /// Refuses what would have the kernel end programs, this one perhaps: memory is given on credit.
    fn check_memory(self, available_kib: Option<u64>) -> Result<(), CryptoError> {
        match available_kib {
            Some(available_kib) if available_kib < u64::from(self.memory_kib) => {
                Err(CryptoError::KdfMemory { needed_kib: self.memory_kib, available_kib })
            }
            _ => Ok(()),
        }
    }

    fn derive(self, passphrase: &[u8], salt: &[u8; 32], out: &mut [u8]) -> Result<(), CryptoError> {
        let Self { memory_kib, passes, lanes } = self.check()?;
        let params = Params::new(memory_kib, passes, lanes, Some(KEY_LEN)).map_err(|_| CryptoError::KdfCost(self))?;
        self.check_memory(available_kib())?;
        let mut blocks: Vec<Block> = Vec::new();
        let refused = |_| CryptoError::KdfMemory { needed_kib: memory_kib, available_kib: 0 };
        blocks.try_reserve_exact(params.block_count()).map_err(refused)?;
        blocks.resize(params.block_count(), Block::default());
        let outcome = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
            passphrase,
            salt,
            out,
            &mut blocks,
        );
        blocks.iter_mut().for_each(Zeroize::zeroize);
        outcome.map_err(|_| CryptoError::KdfCost(self))
    }
}

/// A passphrase slot as the archive holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassphraseSlot {
    /// What a guess costs.
    pub cost: KdfCost,
    /// Of the derivation.
    pub salt: [u8; 32],
    /// Of the wrapping.
    pub nonce: [u8; 24],
    /// The master, sealed.
    pub wrapped: [u8; WRAPPED_LEN],
}

impl PassphraseSlot {
    /// Wraps a master; `context` is authenticated with it.
    ///
    /// # Errors
    /// [`CryptoError::KdfCost`], [`CryptoError::KdfMemory`], [`CryptoError::Randomness`], [`CryptoError::SecretMemory`].
    pub fn wrap(
        master: &MasterKey,
        passphrase: &Passphrase,
        cost: KdfCost,
        context: &[u8],
    ) -> Result<Self, CryptoError> {
        let (salt, nonce) = (random()?, random()?);
        let mut slot = Self { cost, salt, nonce, wrapped: [0; WRAPPED_LEN] };
        let key = slot.key(passphrase)?;
        let associated = slot.associated(context);
        let mut sealed = SecretMemory::new(KEY_LEN)?;
        sealed.bytes_mut().copy_from_slice(master.expose());
        let tag = wiping_stack::<STACK_OF_A_SLOT, _>(|| {
            cipher(&key).encrypt_inout_detached(&XNonce::from(nonce), &associated, sealed.bytes_mut().into())
        });
        let tag = tag.expect("a key is far below the cipher's limit");
        slot.wrapped[..KEY_LEN].copy_from_slice(sealed.bytes());
        slot.wrapped[KEY_LEN..].copy_from_slice(&tag);
        Ok(slot)
    }

    /// Unwraps the master.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]: the passphrase is wrong, or the slot or its context was changed. Else as for
    /// [`PassphraseSlot::wrap`].
    pub fn unwrap(&self, passphrase: &Passphrase, context: &[u8]) -> Result<MasterKey, CryptoError> {
        let key = self.key(passphrase)?;
        let associated = self.associated(context);
        let (body, tag) = self.wrapped.split_at(KEY_LEN);
        let tag = Tag::try_from(tag).expect("a wrapped key ends with its tag");
        MasterKey::fill(|bytes| {
            bytes.copy_from_slice(body);
            wiping_stack::<STACK_OF_A_SLOT, _>(|| {
                cipher(&key)
                    .decrypt_inout_detached(&XNonce::from(self.nonce), &associated, bytes.into(), &tag)
                    .map_err(|_| CryptoError::Authentication)
            })
        })
    }

    /// The parameters as the archive holds them, which the wrapping authenticates.
    pub fn parameters(&self) -> [u8; 44] {
        let mut bytes = [0; 44];
        bytes[..4].copy_from_slice(&self.cost.memory_kib.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.cost.passes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.cost.lanes.to_le_bytes());
        bytes[12..].copy_from_slice(&self.salt);
        bytes
    }

    fn associated(&self, context: &[u8]) -> Vec<u8> {
        [context, &self.parameters()].concat()
    }

    fn key(&self, passphrase: &Passphrase) -> Result<SecretMemory, CryptoError> {
        let mut key = SecretMemory::new(KEY_LEN)?;
        wiping_stack::<STACK_OF_A_SLOT, _>(|| {
            passphrase.expose(|bytes| self.cost.derive(bytes, &self.salt, key.bytes_mut()))
        })?;
        Ok(key)
    }
}

fn cipher(key: &SecretMemory) -> XChaCha20Poly1305 {
    let key: &Key = key.bytes().try_into().expect("the key has 32 bytes");
    XChaCha20Poly1305::new(key)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn only_the_passphrase_in_its_context_unwraps() {
        let master = MasterKey::generate().unwrap();
        let slot = PassphraseSlot::wrap(&master, &passphrase("a"), CHEAP, b"context").unwrap();
        assert_eq!(slot.unwrap(&passphrase("a"), b"context").unwrap().expose(), master.expose());
        assert!(matches!(slot.unwrap(&passphrase("b"), b"context"), Err(CryptoError::Authentication)));
        assert!(matches!(slot.unwrap(&passphrase("a"), b"contexT"), Err(CryptoError::Authentication)));
        for byte in 0..WRAPPED_LEN {
            let mut changed = slot.clone();
            changed.wrapped[byte] ^= 1;
            assert!(changed.unwrap(&passphrase("a"), b"context").is_err());
        }
        let cheaper = PassphraseSlot { cost: KdfCost { memory_kib: 32, ..CHEAP }, ..slot };
        assert!(cheaper.unwrap(&passphrase("a"), b"context").is_err());
    }

    #[test]
    fn excessive_costs_are_refused_unspent() {
        let begun = Instant::now();
        for (memory_kib, passes, lanes) in [
            (MEMORY_MAX + 1, 1, 1),
            (MEMORY_MAX, 3, 1),
            (64, 1, 17),
            (64, 0, 1),
            (64, 1, 0),
            (7, 1, 1),
            (64, u32::MAX, 1),
        ] {
            let cost = KdfCost { memory_kib, passes, lanes };
            assert!(matches!(cost.check(), Err(CryptoError::KdfCost(refused)) if refused == cost));
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn more_memory_than_can_be_had_is_refused() {
        let cost = KdfCost { memory_kib: 2048, passes: 1, lanes: 1 };
        cost.check_memory(None).unwrap();
        cost.check_memory(Some(2048)).unwrap();
        let refused = cost.check_memory(Some(2047)).unwrap_err();
        assert_eq!(refused.to_string(), "the key derivation needs 2 MiB of memory, and there are 1 MiB to be had");
    }

    #[test]
    fn calibration_stays_within_its_bounds() {
        let cost = KdfCost::calibrate().unwrap();
        assert!(cost.memory_kib >= FLOOR.memory_kib && cost.memory_kib <= CEILING && cost.passes >= FLOOR.passes);
        assert_eq!(cost.memory_kib % 1024, 0);
        cost.check().unwrap();
    }

    #[test]
    fn the_derivation_is_argon2id() {
        // Computed with Python's argon2-cffi: hash_secret_raw(b"password", b"s"*32, 2, 256, 1, 32, Type.ID).
        let mut key = [0; KEY_LEN];
        KdfCost { memory_kib: 256, passes: 2, lanes: 1 }.derive(b"password", &[b's'; 32], &mut key).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bf45b10df1c10bea08f52f60008fd3ec90401c292823429cd78ca523a8100f63");
    }
}
