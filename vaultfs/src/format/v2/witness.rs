//! What a machine remembers of an archive, as the bytes of two slots that are written in turn.

use crate::crypto::{CryptoError, Hasher, MacPurpose, MasterKey};
use crate::format::FormatError;

use super::cursor::Cursor;
use super::{Chain, Head, Sequence, VaultId};

/// Bytes of one slot: a sector, which disks write whole.
pub const WITNESS_SLOT_LEN: usize = 512;
/// Bytes of both.
pub const WITNESS_LEN: usize = 2 * WITNESS_SLOT_LEN;

const MAGIC: &[u8; 8] = b"TAZWITN2";
const BODY_LEN: usize = 8 + 8 + 16 + 8 + 8 + 32 + 32 + 16 + 1;
/// Bytes of body and MAC, before the hash that tells a torn slot from one of another master.
const CHECKED_LEN: usize = BODY_LEN + 32;

/// Whether the archive is known to be in the state that a witness tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessPhase {
    /// It was, and that was acknowledged.
    Confirmed,
    /// It is about to be put in place, under another master: until that is confirmed, the state before is as good.
    Pending,
}

/// The newest state of an archive that this machine knows was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Counts the writes; its lowest bit picks the slot.
    pub number: u64,
    /// The vault.
    pub vault_id: VaultId,
    /// The last segment.
    pub head: Head,
    /// Bytes of the archive.
    pub length: u64,
    /// SHA-256 of the header.
    pub header: [u8; 32],
    /// Names the master.
    pub fingerprint: [u8; 16],
    /// Whether it was reached.
    pub phase: WitnessPhase,
}

impl Witness {
    /// Where in the file it is written.
    pub fn offset(&self) -> u64 {
        (self.number % 2) * WITNESS_SLOT_LEN as u64
    }

    /// Returns the bytes of its slot.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn encode(&self, master: &MasterKey) -> Result<[u8; WITNESS_SLOT_LEN], CryptoError> {
        let mut body = Vec::with_capacity(BODY_LEN);
        body.extend_from_slice(MAGIC);
        body.extend_from_slice(&self.number.to_le_bytes());
        body.extend_from_slice(&self.vault_id.0);
        body.extend_from_slice(&self.head.sequence.0.to_le_bytes());
        body.extend_from_slice(&self.length.to_le_bytes());
        body.extend_from_slice(&self.head.chain.0);
        body.extend_from_slice(&self.header);
        body.extend_from_slice(&self.fingerprint);
        body.push(u8::from(self.phase == WitnessPhase::Pending));
        let mac = master.mac(MacPurpose::Witness, &self.vault_id.0, &body)?;
        let mut slot = [0; WITNESS_SLOT_LEN];
        slot[..BODY_LEN].copy_from_slice(&body);
        slot[BODY_LEN..CHECKED_LEN].copy_from_slice(&mac);
        let check = Hasher::hash(&[&slot[..CHECKED_LEN]]);
        slot[CHECKED_LEN..CHECKED_LEN + check.len()].copy_from_slice(&check);
        Ok(slot)
    }

    /// Whether there is a witness of any vault.
    pub fn is_any(file: &[u8]) -> bool {
        file.chunks(WITNESS_SLOT_LEN).any(|slot| parse(slot).is_some())
    }

    /// The confirmed witnesses of a vault, under whatever master: nothing proves them.
    pub fn of_vault(file: &[u8], vault_id: &VaultId) -> Vec<Self> {
        let parsed = file.chunks(WITNESS_SLOT_LEN).filter_map(parse).map(|(witness, ..)| witness);
        parsed.filter(|witness| witness.vault_id == *vault_id && witness.phase == WitnessPhase::Confirmed).collect()
    }

    /// Finds the newest witness of a vault, a pending one only where none is confirmed; `None` where there is none of it.
    ///
    /// # Errors
    /// [`FormatError::UnknownMaster`]: the newest is of another master. [`FormatError::Crypto`].
    pub fn newest(file: &[u8], vault_id: &VaultId, master: &MasterKey) -> Result<Option<Self>, FormatError> {
        let (mut ours, mut strange): (Vec<Self>, Option<u64>) = (Vec::new(), None);
        let fingerprint = master.fingerprint(&vault_id.0);
        for slot in file.chunks(WITNESS_SLOT_LEN) {
            let Some((witness, body, mac)) = parse(slot).filter(|(witness, ..)| witness.vault_id == *vault_id) else {
                continue;
            };
            match master.verify_mac(MacPurpose::Witness, &vault_id.0, body, mac) {
                Ok(()) => ours.push(witness),
                // Changed by somebody, and not by another master.
                Err(CryptoError::Authentication) if witness.fingerprint == fingerprint => {}
                Err(CryptoError::Authentication) if witness.phase == WitnessPhase::Pending => {}
                Err(CryptoError::Authentication) => strange = strange.max(Some(witness.number)),
                Err(error) => return Err(FormatError::Crypto(error)),
            }
        }
        if strange > ours.iter().map(|witness| witness.number).max() {
            return Err(FormatError::UnknownMaster);
        }
        Ok(ours.into_iter().max_by_key(|witness| (witness.phase == WitnessPhase::Confirmed, witness.number)))
    }
}

fn parse(slot: &[u8]) -> Option<(Witness, &[u8], &[u8])> {
    let (checked, rest) = slot.split_at_checked(CHECKED_LEN)?;
    // A slot that was torn while it was written is none.
    if Hasher::hash(&[checked]) != *rest.first_chunk()? {
        return None;
    }
    let (body, mac) = checked.split_at(BODY_LEN);
    let mut cursor = Cursor(body);
    if &cursor.array::<8>()? != MAGIC {
        return None;
    }
    let (number, vault_id) = (cursor.u64()?, VaultId(cursor.array()?));
    let (sequence, length) = (Sequence(cursor.u64()?), cursor.u64()?);
    let head = Head { sequence, chain: Chain(cursor.array()?) };
    let (header, fingerprint) = (cursor.array()?, cursor.array()?);
    let phase = if cursor.u8()? == 0 { WitnessPhase::Confirmed } else { WitnessPhase::Pending };
    let witness = Witness { number, vault_id, head, length, header, fingerprint, phase };
    Some((witness, body, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([6; 16]);

    fn witness(number: u64, master: &MasterKey) -> Witness {
        let head = Head { sequence: Sequence(number), chain: Chain([number as u8; 32]) };
        let fingerprint = master.fingerprint(&VAULT.0);
        let phase = WitnessPhase::Confirmed;
        Witness { number, vault_id: VAULT, head, length: 7, header: [8; 32], fingerprint, phase }
    }

    fn file(witnesses: &[Witness], master: &MasterKey) -> Vec<u8> {
        let mut file = vec![0; WITNESS_LEN];
        for witness in witnesses {
            let at = witness.offset() as usize;
            file[at..at + WITNESS_SLOT_LEN].copy_from_slice(&witness.encode(master).unwrap());
        }
        file
    }

    #[test]
    fn the_newest_that_is_whole_counts() {
        let master = MasterKey::generate().unwrap();
        let mut bytes = file(&[witness(4, &master), witness(5, &master)], &master);
        assert_eq!(Witness::newest(&bytes, &VAULT, &master).unwrap(), Some(witness(5, &master)));
        // A torn write of 5: 4 is still there.
        bytes[WITNESS_SLOT_LEN + 60] ^= 1;
        assert_eq!(Witness::newest(&bytes, &VAULT, &master).unwrap(), Some(witness(4, &master)));
        assert_eq!(Witness::newest(&bytes, &VaultId([7; 16]), &master).unwrap(), None);
        assert_eq!(Witness::newest(&[], &VAULT, &master).unwrap(), None);
    }

    #[test]
    fn another_master_is_told() {
        let (master, other) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let bytes = file(&[witness(4, &master)], &master);
        assert!(matches!(Witness::newest(&bytes, &VAULT, &other), Err(FormatError::UnknownMaster)));
        // After a change of passphrase the newer slot is of the new master; the archive from before is a rollback.
        let mut both = file(&[witness(5, &other)], &other);
        both[..WITNESS_SLOT_LEN].copy_from_slice(&bytes[..WITNESS_SLOT_LEN]);
        assert_eq!(Witness::newest(&both, &VAULT, &other).unwrap(), Some(witness(5, &other)));
        assert!(matches!(Witness::newest(&both, &VAULT, &master), Err(FormatError::UnknownMaster)));
        // While the new one is not in place yet, both are as good.
        let pending = Witness { phase: WitnessPhase::Pending, ..witness(5, &other) };
        both[WITNESS_SLOT_LEN..].copy_from_slice(&pending.encode(&other).unwrap());
        assert_eq!(Witness::newest(&both, &VAULT, &other).unwrap(), Some(pending));
        assert_eq!(Witness::newest(&both, &VAULT, &master).unwrap(), Some(witness(4, &master)));
    }
}
