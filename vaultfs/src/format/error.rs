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
    /// The header of a v2 archive is wrong.
    #[error("the header of the archive is damaged: {0}")]
    Header(&'static str),
    /// The passphrase does not open the archive.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase does not open it, and the header is not the one that this machine knows.
    #[error("the passphrase is wrong, or the archive's header was changed or damaged since this machine saw it")]
    WrongPassphraseOrHeader,
    /// The identity is none of the archive's recipients; they are named.
    #[error("this identity is none of the archive's recipients, which are: {}", .0.join(", "))]
    WrongIdentity(Vec<String>),
    /// The archive cannot be unlocked this way.
    #[error("the archive has no {0} to unlock it with")]
    NoSlot(&'static str),
    /// A segment of a v2 archive is wrong.
    #[error("the archive is damaged at byte {offset}, commit {sequence}: {reason}")]
    Damaged {
        /// Where the segment begins in the file.
        offset: u64,
        /// The number of the commit that should be there.
        sequence: u64,
        /// What.
        reason: &'static str,
    },
    /// This machine knows a newer state of the vault.
    #[error(
        "the archive was rolled back: this machine has seen commit {seen} of the vault, and the archive ends with commit {found}, which does not follow from it"
    )]
    RolledBack {
        /// The number that this machine knows.
        seen: u64,
        /// The number that the archive ends with.
        found: u64,
    },
    /// This machine knows another vault under the archive's name, or this one in a newer version of the format.
    #[error("this machine has seen another archive under this name, and this one does not follow from it")]
    OtherVault,
    /// This machine knows the vault under another master key.
    #[error("the archive has another master key than this machine has seen with this vault")]
    UnknownMaster,
    /// Reading or writing failed.
    #[error("reading or writing failed")]
    Io(#[from] std::io::Error),
    /// A cipher or secret memory failed.
    #[error(transparent)]
    Crypto(CryptoError),
}
