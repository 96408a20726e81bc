//! The way into a damaged archive, and what of it leads into the new one.

use crate::crypto::{Identity, KdfCost, MasterKey, Passphrase, Suite};
use crate::format::FormatError;
use crate::format::v2::{Archive as Segments, HEADER_MAX, Header, RecipientSlot, Source, VaultId};
use crate::vault::keys::Secret;

use super::{Damaged, Forgiving};

/// What opened the damaged archive, and opens the new one.
pub(super) enum Opener {
    /// A passphrase, with what a guess at it costs.
    Passphrase(KdfCost),
    /// An identity, by the slot of its recipient.
    Recipient(RecipientSlot),
}

impl Opener {
    /// Wraps a new master for whoever opened the old archive, and for nobody else.
    pub fn header(
        &self,
        secret: &Secret,
        vault_id: VaultId,
        suite: Suite,
        master: &MasterKey,
    ) -> Result<Header, FormatError> {
        match (self, secret) {
            (Self::Passphrase(cost), Secret::Passphrase(passphrase)) => {
                Header::with_passphrase(vault_id, suite, master, passphrase, *cost).map_err(FormatError::Crypto)
            }
            (Self::Recipient(slot), _) => {
                let slot = slot.rewrap(master).map_err(FormatError::Crypto)?;
                Header::for_recipients(vault_id, suite, master, vec![slot])
            }
            (Self::Passphrase(_), _) => Err(FormatError::NoSlot("passphrase")),
        }
    }
}

/// Opens by the header where that is whole, else by what is left of its slots.
pub(super) fn open<'a>(source: &'a Forgiving<'a>, secret: &Secret) -> Result<Damaged<'a>, FormatError> {
    let mut start = vec![0; source.length()?.min(HEADER_MAX as u64) as usize];
    source.read_exact_at(&mut start, 0)?;
    if let Ok(header) = Header::parse(&start)
        && let Ok(master) = secret.unlock(&header)
    {
        let opener = opener(secret, &header)?;
        let (suite, vault_id) = (header.suite(), *header.vault_id());
        return Ok(Damaged { source, suite, vault_id, master, opener, header: Some(header) });
    }
    match secret {
        Secret::Passphrase(passphrase) => salvage_with_passphrase(source, &start, passphrase),
        Secret::Identity(identity) => salvage_with_identity(source, &start, identity),
        Secret::Master(_) => Err(FormatError::NoSlot("passphrase or identity")),
    }
}

fn opener(secret: &Secret, header: &Header) -> Result<Opener, FormatError> {
    let of_identity = |identity: &Identity| {
        let is_ours = |slot: &&RecipientSlot| identity.recipients().contains(&slot.recipient);
        header.recipients().iter().find(is_ours).cloned().map(Opener::Recipient)
    };
    match secret {
        Secret::Passphrase(_) => header.kdf_cost().map(Opener::Passphrase),
        Secret::Identity(identity) => of_identity(identity),
        Secret::Master(_) => None,
    }
    .ok_or(FormatError::NoSlot("passphrase or identity"))
}

fn salvage_with_passphrase<'a>(
    source: &'a Forgiving<'a>,
    start: &[u8],
    passphrase: &Passphrase,
) -> Result<Damaged<'a>, FormatError> {
    let (suite, vault_id, master, cost) = Header::salvage(start, passphrase)?;
    Ok(Damaged { source, suite, vault_id, master, opener: Opener::Passphrase(cost), header: None })
}

/// A recipient's slot says neither the suite nor the vault: a segment that opens proves both.
fn salvage_with_identity<'a>(
    source: &'a Forgiving<'a>,
    start: &[u8],
    identity: &Identity,
) -> Result<Damaged<'a>, FormatError> {
    let (vault_id, master, slot) = Header::salvage_with_identity(start, identity)?;
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        if Segments::new(source, suite, &master, &vault_id)?.find(0)?.is_some() {
            let opener = Opener::Recipient(slot);
            return Ok(Damaged { source, suite, vault_id, master, opener, header: None });
        }
    }
    Err(FormatError::Header("nothing in the archive is of the vault that it names"))
}
