//! What can be wrong with an archive.

use crate::crypto::CryptoError;
use crate::entry::PathError;

use super::SinkError;

/// An error of reading or writing an archive. Offsets count bytes of the plain tar.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// v1 cannot tell a wrong passphrase from damage.
    #[error("the passphrase is wrong, or the archive is damaged")]
    WrongPassphraseOrDamaged,
    /// Shorter than the smallest archive, or it ends within something.
    #[error("the archive is cut short: {found} bytes, expected at least {expected}")]
    Truncated {
        /// Bytes needed.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The compressed stream is damaged or goes on after its end.
    #[error("the compressed data are damaged")]
    Compression(#[source] std::io::Error),
    /// A tar header is wrong.
    #[error("the tar is damaged at byte {offset}: {reason}")]
    Tar {
        /// Where.
        offset: u64,
        /// What.
        reason: String,
    },
    /// An unsafe or overlong path.
    #[error("an entry has an unsafe name at byte {offset} of the tar ({name}): {source}")]
    Path {
        /// Where.
        offset: u64,
        /// The name, made printable.
        name: String,
        /// Why.
        source: PathError,
    },
    /// A cap was reached.
    #[error("the archive holds more than the allowed {limit} {unit}")]
    TooLarge {
        /// The cap.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The receiver refused an entry.
    #[error("an entry cannot be taken")]
    Rejected(#[from] SinkError),
    /// A version or kind that this release does not know.
    #[error("{0}")]
    Unsupported(String),
    /// Reading or writing failed.
    #[error("reading or writing failed")]
    Io(#[from] std::io::Error),
    /// A cipher or secret memory failed.
    #[error(transparent)]
    Crypto(CryptoError),
}
