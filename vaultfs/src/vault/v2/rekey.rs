//! Changes of who can open an archive: each writes the file anew under another header, most under another master too.

use std::sync::Arc;

use crate::crypto::{KdfCost, MasterKey, Passphrase};
use crate::format::FormatError;
use crate::format::v2::{Header, RecipientSlot};
use crate::tree::Snapshot;
use crate::vault::VaultError;
use crate::vault::archive::Rekey;
use crate::vault::keys::{KeyChange, Secret};
use crate::vault::lock::Access;

use super::store::{Presence, Store};
use super::whole::News;
use super::{Trust, V2Archive};

impl<S: Store> V2Archive<S> {
    /// Changes who can open the archive, for whoever proves that they can; commits what is not committed yet.
    pub(super) fn rekey(
        &mut self,
        proof: &Secret,
        change: KeyChange,
        snapshot: &Arc<Snapshot>,
    ) -> Result<(), VaultError> {
        if self.store.access() == Access::ReadOnly {
            return Err(VaultError::ReadOnly(self.store.path().to_owned()));
        }
        if self.store.presence()? == Presence::Theirs {
            return Err(VaultError::ChangedElsewhere(self.store.path().to_owned()));
        }
        let master = proof.unlock(&self.header).map_err(VaultError::reading(self.store.path()))?;
        let other = match change {
            KeyChange::Passphrase { new, rekey: Rekey::KeepMaster } => {
                let recipients = self.header.recipients().to_vec();
                (self.header_for(Some(&new), recipients, &master)?, master)
            }
            KeyChange::Passphrase { new, rekey: Rekey::NewMaster } => {
                self.under_new_master(Some(&new), self.header.recipients())?
            }
            KeyChange::AddRecipient(added) => {
                let slot = added.slot(self.header.recipients(), &master)?;
                let recipients = [self.header.recipients(), &[slot]].concat();
                let header = self.header.with_recipients(recipients, &master);
                (header.map_err(|error| self.refused(error))?, master)
            }
            KeyChange::RemoveRecipient(name) => self.without_recipient(proof, &name)?,
        };
        if self.trust == Trust::Torn {
            self.keep_torn_end()?;
        }
        self.rewrite(snapshot, News::Header, Some(other))
    }

    /// Who is left gets a new master: the one who is removed knows the present one.
    fn without_recipient(&self, proof: &Secret, name: &str) -> Result<(Header, MasterKey), VaultError> {
        let slots = self.header.recipients();
        let found = slots.iter().find(|slot| slot.recipient == name).or(slots.iter().find(|slot| slot.label == name));
        let removed = found.ok_or_else(|| VaultError::NoRecipient(name.to_owned()))?;
        // All slots of theirs, should another program have made more than one.
        let left: Vec<_> = slots.iter().filter(|slot| slot.recipient != removed.recipient).cloned().collect();
        match (proof, self.header.kdf_cost()) {
            (Secret::Passphrase(passphrase), _) => self.under_new_master(Some(passphrase), &left),
            (_, Some(_)) => Err(VaultError::PassphraseNeeded),
            (_, None) if left.is_empty() => Err(VaultError::LastWay(removed.to_string())),
            (_, None) => self.under_new_master(None, &left),
        }
    }

    fn under_new_master(
        &self,
        passphrase: Option<&Passphrase>,
        recipients: &[RecipientSlot],
    ) -> Result<(Header, MasterKey), VaultError> {
        let master = MasterKey::generate()?;
        let recipients = recipients.iter().map(|slot| slot.rewrap(&master)).collect::<Result<Vec<_>, _>>()?;
        Ok((self.header_for(passphrase, recipients, &master)?, master))
    }

    fn header_for(
        &self,
        passphrase: Option<&Passphrase>,
        recipients: Vec<RecipientSlot>,
        master: &MasterKey,
    ) -> Result<Header, VaultError> {
        let (vault_id, suite) = (*self.header.vault_id(), self.header.suite());
        let header = match passphrase {
            Some(passphrase) => {
                let cost = self.header.kdf_cost().map_or_else(KdfCost::calibrate, Ok)?;
                Header::with_passphrase(vault_id, suite, master, passphrase, cost)?.with_recipients(recipients, master)
            }
            None => self.header.without_passphrase(recipients, master),
        };
        header.map_err(|error| self.refused(error))
    }

    fn refused(&self, error: FormatError) -> VaultError {
        match error {
            FormatError::TooLarge { .. } => VaultError::TooManyRecipients,
            error => VaultError::writing(self.store.path())(error),
        }
    }
}
