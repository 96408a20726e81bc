//! The header of an archive: which vault, which cipher, and the ways to its master.

use crate::crypto::{
    CryptoError, Hasher, Identity, KdfCost, MacPurpose, MasterKey, Passphrase, PassphraseSlot, Suite, WRAPPED_LEN,
};
use crate::format::FormatError;

use super::cursor::Cursor;
use super::recipients::{self, RECIPIENTS_MAX, RecipientSlot};

/// The first bytes of every archive that is not v1.
pub const MAGIC: &[u8; 8] = b"TAZVAULT";
/// The longest header, in bytes.
pub const HEADER_MAX: usize = 64 * 1024;

const VERSION: u16 = 2;
/// Bytes before the slots.
const FIXED: usize = 32;
/// Where the body of the first slot begins.
const FIRST_BODY: usize = FIXED + 1 + 3;
const MAC_LEN: usize = 32;
const PASSPHRASE_KIND: u8 = 1;
const RECIPIENT_KIND: u8 = 2;
const PASSPHRASE_BODY: usize = 44 + 24 + WRAPPED_LEN;

/// Names a vault for its life: 16 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

/// A header with its bytes, parsed or made. Only [`Header::verify`] says that nobody changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    suite: Suite,
    vault_id: VaultId,
    passphrase: Option<PassphraseSlot>,
    recipients: Vec<RecipientSlot>,
    bytes: Vec<u8>,
}

impl Header {
    /// Wraps a master for a passphrase and makes the header around it.
    ///
    /// # Errors
    /// Those of [`PassphraseSlot::wrap`].
    pub fn with_passphrase(
        vault_id: VaultId,
        suite: Suite,
        master: &MasterKey,
        passphrase: &Passphrase,
        cost: KdfCost,
    ) -> Result<Self, CryptoError> {
        let slot = PassphraseSlot::wrap(master, passphrase, cost, &context(suite, &vault_id))?;
        let header = Self { suite, vault_id, passphrase: Some(slot), recipients: Vec::new(), bytes: Vec::new() };
        header.seal(master)
    }

    /// Makes the header of an archive that opens for recipients alone.
    ///
    /// # Errors
    /// As for [`Header::with_recipients`].
    pub fn for_recipients(
        vault_id: VaultId,
        suite: Suite,
        master: &MasterKey,
        recipients: Vec<RecipientSlot>,
    ) -> Result<Self, FormatError> {
        let header = Self { suite, vault_id, passphrase: None, recipients: Vec::new(), bytes: Vec::new() };
        header.with_recipients(recipients, master)
    }

    /// The same header with other recipients.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`], [`FormatError::Crypto`].
    pub fn with_recipients(&self, recipients: Vec<RecipientSlot>, master: &MasterKey) -> Result<Self, FormatError> {
        let header = Self { recipients, ..self.clone() };
        if header.recipients.len() > RECIPIENTS_MAX {
            return Err(FormatError::TooLarge { limit: RECIPIENTS_MAX as u64, unit: "recipients" });
        }
        if header.body().len() + MAC_LEN > HEADER_MAX {
            return Err(FormatError::TooLarge { limit: HEADER_MAX as u64, unit: "bytes of recipients" });
        }
        header.seal(master).map_err(FormatError::Crypto)
    }

    /// The same header without a way for a passphrase; there must be recipients.
    ///
    /// # Errors
    /// As for [`Header::with_recipients`].
    pub fn without_passphrase(&self, recipients: Vec<RecipientSlot>, master: &MasterKey) -> Result<Self, FormatError> {
        Self { passphrase: None, ..self.clone() }.with_recipients(recipients, master)
    }

    /// Parses the bytes at the beginning of an archive; what comes after the header is ignored.
    ///
    /// # Errors
    /// [`FormatError::Truncated`], [`FormatError::Header`], [`FormatError::Unsupported`].
    pub fn parse(start: &[u8]) -> Result<Self, FormatError> {
        let truncated = |expected| FormatError::Truncated { expected, found: start.len() as u64 };
        let mut cursor = Cursor(start);
        let fixed = (cursor.array::<8>(), cursor.u16(), cursor.u16(), cursor.u32(), cursor.array::<16>());
        let (Some(magic), Some(version), Some(suite), Some(length), Some(vault_id)) = fixed else {
            return Err(truncated(FIXED as u64));
        };
        if &magic != MAGIC {
            return Err(FormatError::Header("it does not begin with TAZVAULT"));
        }
        if version != VERSION {
            return Err(FormatError::Unsupported(format!("version {version} of the archive is not known")));
        }
        let suite = parse_suite(suite)?;
        let length = length as usize;
        if !(FIXED + 1 + MAC_LEN..=HEADER_MAX).contains(&length) {
            return Err(FormatError::Header("its length is impossible"));
        }
        let bytes = start.get(..length).ok_or_else(|| truncated(length as u64))?;
        let (passphrase, recipients) = parse_slots(&bytes[FIXED..length - MAC_LEN])?;
        Ok(Self { suite, vault_id: VaultId(vault_id), passphrase, recipients, bytes: bytes.to_vec() })
    }

    /// Checks that this is the header which holders of the master made.
    ///
    /// # Errors
    /// [`FormatError::Header`], [`FormatError::Crypto`].
    pub fn verify(&self, master: &MasterKey) -> Result<(), FormatError> {
        let (body, mac) = self.bytes.split_at(self.bytes.len() - MAC_LEN);
        match master.verify_mac(MacPurpose::Header, &self.vault_id.0, body, mac) {
            Err(CryptoError::Authentication) => Err(FormatError::Header("it was changed")),
            outcome => outcome.map_err(FormatError::Crypto),
        }
    }

    /// Unwraps the master with a passphrase and checks the header with it.
    ///
    /// # Errors
    /// [`FormatError::WrongPassphrase`], [`FormatError::NoSlot`], [`FormatError::Header`], [`FormatError::Crypto`].
    pub fn unlock(&self, passphrase: &Passphrase) -> Result<MasterKey, FormatError> {
        let slot = self.passphrase.as_ref().ok_or(FormatError::NoSlot("passphrase"))?;
        let master = match slot.unwrap(passphrase, &context(self.suite, &self.vault_id)) {
            Err(CryptoError::Authentication) => return Err(FormatError::WrongPassphrase),
            outcome => outcome.map_err(FormatError::Crypto)?,
        };
        self.verify(&master)?;
        Ok(master)
    }

    /// Unwraps the master with an identity and checks the header with it.
    ///
    /// # Errors
    /// [`FormatError::WrongIdentity`], [`FormatError::NoSlot`], [`FormatError::Header`], [`FormatError::Crypto`].
    pub fn unlock_with_identity(&self, identity: &Identity) -> Result<MasterKey, FormatError> {
        let master = recipients::unlock(&self.recipients, identity)?;
        self.verify(&master)?;
        Ok(master)
    }

    /// Looks for a master in what may be a damaged header, where the passphrase slot is still whole at its usual place; returns
    /// what is authenticated with it, and what the slot cost. Nothing else in the header counts.
    ///
    /// # Errors
    /// [`FormatError::WrongPassphrase`]: that, or the slot or the vault id is damaged. [`FormatError::Crypto`].
    pub fn salvage(start: &[u8], passphrase: &Passphrase) -> Result<(Suite, VaultId, MasterKey, KdfCost), FormatError> {
        let field = |from: usize, len: usize| start.get(from..from + len).ok_or(FormatError::WrongPassphrase);
        let vault_id = VaultId(field(16, 16)?.try_into().expect("it has 16 bytes"));
        let slot = parse_passphrase(field(FIRST_BODY, PASSPHRASE_BODY)?).ok_or(FormatError::WrongPassphrase)?;
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            match slot.unwrap(passphrase, &context(suite, &vault_id)) {
                Ok(master) => return Ok((suite, vault_id, master, slot.cost)),
                Err(CryptoError::Authentication | CryptoError::KdfCost(_)) => {}
                Err(error) => return Err(FormatError::Crypto(error)),
            }
        }
        Err(FormatError::WrongPassphrase)
    }

    /// The same for an identity, whose slot may lie anywhere; returns that too. Nothing says yet that the vault id is the one that
    /// the segments are of.
    ///
    /// # Errors
    /// [`FormatError::WrongIdentity`]; [`FormatError::Header`]: its slot is damaged, or there is none. [`FormatError::Crypto`].
    pub fn salvage_with_identity(
        start: &[u8],
        identity: &Identity,
    ) -> Result<(VaultId, MasterKey, RecipientSlot), FormatError> {
        let vault_id = start.get(16..32).and_then(|bytes| bytes.try_into().ok()).map(VaultId);
        let vault_id = vault_id.ok_or(FormatError::Header("it is cut off"))?;
        let (master, slot) = recipients::salvage(start, RECIPIENT_KIND, identity)?;
        Ok((vault_id, master, slot))
    }

    /// The suite that segments are sealed with.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The vault that the archive belongs to.
    pub fn vault_id(&self) -> &VaultId {
        &self.vault_id
    }

    /// What a guess at the passphrase costs; `None` without a passphrase slot.
    pub fn kdf_cost(&self) -> Option<KdfCost> {
        self.passphrase.as_ref().map(|slot| slot.cost)
    }

    /// The recipients.
    pub fn recipients(&self) -> &[RecipientSlot] {
        &self.recipients
    }

    /// All bytes of the header.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> [u8; 32] {
        Hasher::hash(&[&self.bytes])
    }

    fn seal(mut self, master: &MasterKey) -> Result<Self, CryptoError> {
        let mut bytes = self.body();
        let mac = master.mac(MacPurpose::Header, &self.vault_id.0, &bytes)?;
        bytes.extend_from_slice(&mac);
        self.bytes = bytes;
        Ok(self)
    }

    fn body(&self) -> Vec<u8> {
        let mut slots = vec![(usize::from(self.passphrase.is_some()) + self.recipients.len()) as u8];
        if let Some(slot) = &self.passphrase {
            let body = [&slot.parameters()[..], &slot.nonce, &slot.wrapped].concat();
            put_slot(&mut slots, PASSPHRASE_KIND, &body);
        }
        for slot in &self.recipients {
            put_slot(&mut slots, RECIPIENT_KIND, &slot.encode());
        }
        let length = (FIXED + slots.len() + MAC_LEN) as u32;
        let mut bytes = Vec::with_capacity(length as usize);
        bytes.extend_from_slice(&start(self.suite));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.vault_id.0);
        bytes.extend_from_slice(&slots);
        bytes
    }
}

/// Magic, version and suite.
fn start(suite: Suite) -> [u8; 12] {
    let suite: u16 = match suite {
        Suite::Aes256Gcm => 1,
        Suite::ChaCha20Poly1305 => 2,
    };
    let mut start = [0; 12];
    start[..8].copy_from_slice(MAGIC);
    start[8..10].copy_from_slice(&VERSION.to_le_bytes());
    start[10..].copy_from_slice(&suite.to_le_bytes());
    start
}

/// What of the header a passphrase slot authenticates: all that never changes while the slot stays.
fn context(suite: Suite, vault_id: &VaultId) -> Vec<u8> {
    [&start(suite)[..], &vault_id.0, &[PASSPHRASE_KIND]].concat()
}

fn put_slot(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u16).to_le_bytes());
    out.extend_from_slice(body);
}

fn parse_suite(suite: u16) -> Result<Suite, FormatError> {
    match suite {
        1 => Ok(Suite::Aes256Gcm),
        2 => Ok(Suite::ChaCha20Poly1305),
        _ => Err(FormatError::Unsupported(format!("cipher suite {suite} is not known"))),
    }
}

type Slots = (Option<PassphraseSlot>, Vec<RecipientSlot>);

fn parse_slots(bytes: &[u8]) -> Result<Slots, FormatError> {
    const DAMAGED: FormatError = FormatError::Header("its key slots are damaged");
    let mut cursor = Cursor(bytes);
    let count = cursor.u8().ok_or(DAMAGED)?;
    let (mut passphrase, mut recipients) = (None, Vec::new());
    for _ in 0..count {
        let kind = cursor.u8().ok_or(DAMAGED)?;
        let length = cursor.u16().ok_or(DAMAGED)?;
        let body = cursor.take(length.into()).ok_or(DAMAGED)?;
        match kind {
            PASSPHRASE_KIND if passphrase.is_none() => passphrase = Some(parse_passphrase(body).ok_or(DAMAGED)?),
            PASSPHRASE_KIND => return Err(FormatError::Header("it has two passphrase slots")),
            RECIPIENT_KIND => recipients.push(RecipientSlot::parse(body).ok_or(DAMAGED)?),
            _ => return Err(FormatError::Unsupported(format!("key slot of kind {kind} is not known"))),
        }
    }
    if count == 0 || recipients.len() > RECIPIENTS_MAX {
        return Err(FormatError::Header("its number of key slots is impossible"));
    }
    cursor.end((passphrase, recipients)).ok_or(DAMAGED)
}

fn parse_passphrase(body: &[u8]) -> Option<PassphraseSlot> {
    if body.len() != PASSPHRASE_BODY {
        return None;
    }
    let mut cursor = Cursor(body);
    let cost = KdfCost { memory_kib: cursor.u32()?, passes: cursor.u32()?, lanes: cursor.u32()? };
    let slot = PassphraseSlot { cost, salt: cursor.array()?, nonce: cursor.array()?, wrapped: cursor.array()? };
    cursor.end(slot)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase() -> Passphrase {
        Passphrase::new(Zeroizing::new(b"a".to_vec())).unwrap()
    }

    fn header(master: &MasterKey) -> Header {
        Header::with_passphrase(VaultId([5; 16]), Suite::Aes256Gcm, master, &passphrase(), CHEAP).unwrap()
    }

    #[test]
    fn what_is_made_is_parsed_and_unlocked() {
        let master = MasterKey::generate().unwrap();
        let slot = RecipientSlot { label: "laptop".into(), recipient: "age1x".into(), wrapped: vec![1; 300] };
        let made = header(&master).with_recipients(vec![slot.clone(), slot], &master).unwrap();
        let parsed = Header::parse(&[made.bytes(), b"TSEG"].concat()).unwrap();
        assert_eq!(parsed, made);
        parsed.verify(&master).unwrap();
        let unlocked = parsed.unlock(&passphrase()).unwrap();
        assert_eq!(unlocked.fingerprint(&[5; 16]), master.fingerprint(&[5; 16]));
    }

    #[test]
    fn a_flip_anywhere_and_a_cut_anywhere_are_refused() {
        let master = MasterKey::generate().unwrap();
        let made = header(&master);
        let open = |bytes: &[u8]| Header::parse(bytes).and_then(|header| header.verify(&master));
        open(made.bytes()).unwrap();
        for at in 0..made.bytes().len() {
            assert!(open(&made.bytes()[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = made.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(open(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_into_a_header_is_not_made() {
        let master = MasterKey::generate().unwrap();
        let slot = |bytes| RecipientSlot { label: "l".into(), recipient: "age1x".into(), wrapped: vec![1; bytes] };
        let with = |count, bytes| header(&master).with_recipients(vec![slot(bytes); count], &master);
        assert!(with(32, 2000).unwrap().bytes().len() <= HEADER_MAX);
        for (count, bytes) in [(33, 100), (32, 2100), (17, 4096)] {
            assert!(matches!(with(count, bytes), Err(FormatError::TooLarge { .. })), "{count} of {bytes}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let master = MasterKey::generate().unwrap();
        for (at, value, told) in [(8, 3, "version 3"), (10, 7, "suite 7"), (33, 9, "kind 9")] {
            let mut bytes = header(&master).bytes().to_vec();
            bytes[at] = value;
            let error = Header::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
