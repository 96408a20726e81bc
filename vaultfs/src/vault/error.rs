//! What can go wrong with an archive file.

use std::path::PathBuf;

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
        source: crate::format::FormatError,
    },
    /// Not the present passphrase.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// Somebody else replaced or changed the archive while it was open.
    #[error("{} was changed by somebody else", .0.display())]
    ChangedElsewhere(PathBuf),
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
    /// The medium is read-only.
    #[error("{} is on a read-only medium", .0.display())]
    ReadOnly(PathBuf),
    /// Secret memory or randomness failed.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::CryptoError),
}
