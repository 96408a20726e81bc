//! Sorts errors of the library, once, for whoever has to tell them.

use std::error::Error;

use vaultfs::crypto::CryptoError;
use vaultfs::format::FormatError;
use vaultfs::vault::{HistoryError, VaultError};

use super::protocol::Failure;

impl From<&VaultError> for Failure {
    fn from(error: &VaultError) -> Self {
        let words = || causes(Some(error)).join(": ");
        match error {
            VaultError::NoArchive(path) => Self::NoArchive(path.clone()),
            VaultError::Locked(path) => Self::InUse(path.clone()),
            VaultError::WrongPassphrase
            | VaultError::WrongPassphraseOrHeader
            | VaultError::Crypto(CryptoError::IdentityPassphrase) => Self::WrongPassphrase(words()),
            VaultError::Format { source: source @ FormatError::WrongPassphraseOrDamaged, .. } => {
                Self::WrongPassphrase(source.to_string())
            }
            VaultError::Crypto(CryptoError::KdfMemory { .. }) => Self::LittleMemory(words()),
            VaultError::WrongIdentity(_) | VaultError::Format { source: FormatError::NoSlot(_), .. } => {
                Self::WrongIdentity(words())
            }
            VaultError::Version1(_) => Self::Version1(words()),
            VaultError::PassphraseNeeded => Self::PassphraseNeeded(words()),
            VaultError::Format { source: FormatError::RolledBack { .. } | FormatError::OtherVault, .. } => {
                Self::RolledBack(words())
            }
            VaultError::Format { source: FormatError::UnknownMaster, .. } => Self::UnknownKey(words()),
            VaultError::Format { source: FormatError::Io(_) | FormatError::Crypto(_), .. } => Self::Other(words()),
            VaultError::Format { .. } => Self::Damaged(words()),
            VaultError::History(HistoryError::NoHistory(_)) => Self::NoHistory(words()),
            VaultError::History(_) => Self::NotInHistory(words()),
            VaultError::NotSaved(source) => match Self::from(&**source) {
                changed @ Self::ChangedElsewhere(_) => changed,
                _ => Self::NotCommitted(words()),
            },
            VaultError::NoCommonState(_) => Self::NoCommonState(words()),
            VaultError::ChangedElsewhere(_) => Self::ChangedElsewhere(words()),
            _ => Self::Other(words()),
        }
    }
}

/// An error and its sources, leaving out those that the one before says already.
pub fn causes(mut error: Option<&dyn Error>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    while let Some(current) = error {
        let text = current.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        error = current.source();
    }
    texts
}
