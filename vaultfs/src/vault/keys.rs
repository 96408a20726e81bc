//! Who can open a vault: what they prove it with, and what may be changed about them.

use crate::crypto::{CryptoError, Identity, MasterKey, Passphrase, Recipient};
use crate::format::FormatError;
use crate::format::v2::{Header, LABEL_MAX, RecipientSlot};

use super::{Rekey, VaultError};

/// What opens a vault.
pub enum Secret {
    /// Its passphrase.
    Passphrase(Passphrase),
    /// An identity of one of its recipients, of a version 2 archive.
    Identity(Identity),
    /// Its master, of a version 2 archive.
    Master(MasterKey),
}

/// A change of who can open a vault.
pub enum KeyChange {
    /// Another passphrase.
    Passphrase {
        /// The new one.
        new: Passphrase,
        /// What becomes of the key that content is sealed under.
        rekey: Rekey,
    },
    /// One more recipient, with a label that no other has.
    AddRecipient(NewRecipient),
    /// A new key, which is not wrapped for the recipient of this label or name.
    RemoveRecipient(String),
}

/// A recipient to be added.
pub struct NewRecipient {
    label: String,
    recipient: Recipient,
}

impl Secret {
    /// Copies it into further pieces of secret memory.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        Ok(match self {
            Self::Passphrase(passphrase) => Self::Passphrase(passphrase.duplicate()?),
            Self::Identity(identity) => Self::Identity(identity.duplicate()?),
            Self::Master(master) => Self::Master(master.duplicate()?),
        })
    }

    /// Gets the master out of a header, and checks the header with it.
    pub(super) fn unlock(&self, header: &Header) -> Result<MasterKey, FormatError> {
        match self {
            Self::Passphrase(passphrase) => header.unlock(passphrase),
            Self::Identity(identity) => header.unlock_with_identity(identity),
            Self::Master(master) => {
                header.verify(master)?;
                master.duplicate().map_err(FormatError::Crypto)
            }
        }
    }
}

impl NewRecipient {
    /// Names a recipient.
    ///
    /// # Errors
    /// [`CryptoError::Recipient`]: the label is empty, longer than 255 bytes, or has control characters.
    pub fn new(label: &str, recipient: Recipient) -> Result<Self, CryptoError> {
        if label.is_empty() || label.len() > LABEL_MAX || label.contains(char::is_control) {
            let reason = format!("its label must have 1 to {LABEL_MAX} bytes and no control characters");
            return Err(CryptoError::Recipient(reason));
        }
        Ok(Self { label: label.to_owned(), recipient })
    }

    /// Wraps the master for it, unless it is among `slots`.
    pub(super) fn slot(&self, slots: &[RecipientSlot], master: &MasterKey) -> Result<RecipientSlot, VaultError> {
        let same = |slot: &&RecipientSlot| slot.recipient == self.recipient.as_str() || slot.label == self.label;
        match slots.iter().find(same) {
            Some(slot) => Err(VaultError::RecipientExists(slot.to_string())),
            None => Ok(RecipientSlot::wrap(&self.label, &self.recipient, master)?),
        }
    }
}
