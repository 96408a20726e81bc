//! What can go wrong with an archive file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::FormatError;

/// An error of opening or committing a vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No archive there.
    #[error("there is no archive at {}", .0.display())]
    NoArchive(PathBuf),
    /// `create` over an existing file.
    #[error("{} exists already", .0.display())]
    ArchiveExists(PathBuf),
    /// Another process holds `<archive>.lock`.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The archive cannot be read.
    #[error("{} cannot be opened", path.display())]
    Format {
        /// Archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// Not the present passphrase.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase is wrong, unless the header is: it is not the one that this machine knows.
    #[error("the passphrase is wrong, or the archive's header was changed or damaged since this machine saw it")]
    WrongPassphraseOrHeader,
    /// The identity is none of the recipients, who are named.
    #[error("this identity is none of the archive's recipients, which are: {}", .0.join(", "))]
    WrongIdentity(Vec<String>),
    /// Version 1 knows a passphrase only.
    #[error("{} is of version 1 of the format, which knows a passphrase and nothing else", .0.display())]
    Version1(PathBuf),
    /// The recipient, or its label, is there already.
    #[error("the archive has the recipient {0} already")]
    RecipientExists(String),
    /// The header is full.
    #[error("the archive has no room for another recipient: there are 32 at most, in 64 KiB together")]
    TooManyRecipients,
    /// Nobody has this label or name.
    #[error("the archive has no recipient '{0}'")]
    NoRecipient(String),
    /// A new key has to be wrapped for the passphrase.
    #[error("this makes a new key, which has to be wrapped for the passphrase too: an identity is not enough")]
    PassphraseNeeded,
    /// The only way into the archive.
    #[error("{0} is the only one who can open the archive")]
    LastWay(String),
    /// Somebody else replaced or changed the archive while it was open.
    #[error("{} was changed by somebody else; their file is left as it is, and the changes made here are kept in memory", .0.display())]
    ChangedElsewhere(PathBuf),
    /// Two archives that both went on, and no state that both began with.
    #[error("{} and this vault both changed, and there is no copy of the state that both began with", .0.display())]
    NoCommonState(PathBuf),
    /// The tree refused something.
    #[error("{path}: {source}")]
    Tree {
        /// Path within the vault.
        path: String,
        /// Why.
        #[source]
        source: crate::tree::TreeError,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The medium is read-only, or modes say so.
    #[error("{} cannot be written: it, its folder or the medium is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// Secret memory or randomness failed.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::CryptoError),
    /// What was asked of the history is not in it.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What was to be saved before could not be.
    #[error("what is in memory cannot be saved")]
    NotSaved(#[source] Arc<VaultError>),
    /// A tar that is to be imported cannot be read.
    #[error("the tar cannot be imported")]
    Import(#[source] FormatError),
    /// The output of an export cannot be written.
    #[error("the vault cannot be exported")]
    Export(#[source] FormatError),
    /// The vault was closed or discarded before the change could be written.
    #[error("{} is closed", .0.display())]
    Closed(PathBuf),
    /// The writer of the archive stopped at a bug; what was to be written is still in memory.
    #[error("writing {} stopped at an internal error: {message}", path.display())]
    Internal {
        /// Archive.
        path: PathBuf,
        /// What the panic said.
        message: String,
    },
}

/// What a history does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// An archive that holds the last state only.
    #[error("{} is of version 1, which keeps no history", .0.display())]
    NoHistory(PathBuf),
    /// No such commit, or none any more.
    #[error("there is no commit {number}: the oldest that the archive holds is {oldest}, the newest {newest}")]
    NoSuchCommit {
        /// What was asked for.
        number: u64,
        /// The first that there is.
        oldest: u64,
        /// The last.
        newest: u64,
    },
    /// Nothing of that name then.
    #[error("there was no {path} after commit {number}")]
    NotInCommit {
        /// Path within the vault.
        path: String,
        /// The commit.
        number: u64,
    },
    /// Something whose content cannot be shown.
    #[error("{0} is neither a file, nor a folder, nor a symbolic link")]
    NoContent(String),
}

impl VaultError {
    /// Makes the error of a file operation, for `map_err`.
    pub(super) fn io<E: Into<std::io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source: source.into() }
    }

    /// Makes the error of reading an archive, for `map_err`.
    pub(super) fn reading(path: &Path) -> impl FnOnce(FormatError) -> Self {
        move |source| match source {
            FormatError::Io(source) => Self::Io { operation: "read", path: path.to_owned(), source },
            FormatError::WrongPassphrase => Self::WrongPassphrase,
            FormatError::WrongPassphraseOrHeader => Self::WrongPassphraseOrHeader,
            FormatError::WrongIdentity(recipients) => Self::WrongIdentity(recipients),
            FormatError::Crypto(source) => Self::Crypto(source),
            source => Self::Format { path: path.to_owned(), source },
        }
    }

    /// Makes the error of writing an archive, for `map_err`.
    pub(super) fn writing(path: &Path) -> impl FnOnce(FormatError) -> Self {
        move |source| match source {
            FormatError::Io(source) => Self::Io { operation: "write", path: path.to_owned(), source },
            FormatError::Crypto(source) => Self::Crypto(source),
            source => Self::Format { path: path.to_owned(), source },
        }
    }
}
