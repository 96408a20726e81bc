//! Who can open the vault, as the agent tells and changes it. Whoever wants a change proves that they can open it themselves: that a
//! program of the user's reaches the socket is not enough.

use std::io::{self, Read};

use vaultfs::crypto::{CryptoError, Recipient};
use vaultfs::vault::{KeyChange, NewRecipient, Rekey, Secret};

use super::protocol::{Answer, Failure, KeyRequest, RecipientEntry};
use super::secrets;
use super::server::Server;

impl Server {
    pub(super) fn recipients(&self) -> Result<Answer, Failure> {
        let slots = self.vault.recipients().map_err(|error| Failure::from(&error))?;
        Ok(Answer::Recipients(slots.into_iter().map(RecipientEntry::from).collect()))
    }

    /// Reads the secrets that follow a request off the stream, and does what it asks.
    pub(super) fn change_keys(
        &self,
        request: KeyRequest,
        stream: &mut impl Read,
    ) -> io::Result<Result<Answer, Failure>> {
        let proof = secrets::read(stream)?;
        let change = match request {
            KeyRequest::ChangePassphrase { keep_key } => {
                let rekey = if keep_key { Rekey::KeepMaster } else { Rekey::NewMaster };
                secrets::read_passphrase(stream)?.map(|new| KeyChange::Passphrase { new, rekey })
            }
            KeyRequest::AddRecipient { label, recipient } => new_recipient(&label, &recipient),
            KeyRequest::RemoveRecipient { name } => Ok(KeyChange::RemoveRecipient(name)),
        };
        Ok(self.try_change(proof, change).map(|()| Answer::Done))
    }

    fn try_change(
        &self,
        proof: Result<Secret, CryptoError>,
        change: Result<KeyChange, CryptoError>,
    ) -> Result<(), Failure> {
        let proof = proof.map_err(|error| Failure::WrongPassphrase(error.to_string()))?;
        let change = change.map_err(|error| Failure::Other(error.to_string()))?;
        self.vault.change_keys(&proof, change).map_err(|error| Failure::from(&error))
    }
}

fn new_recipient(label: &str, recipient: &str) -> Result<KeyChange, CryptoError> {
    NewRecipient::new(label, Recipient::parse(recipient)?).map(KeyChange::AddRecipient)
}
