//! Bytes <-> entries: the archives of both versions and tar. Knows no files and no trees.

mod error;
mod noise;
pub mod tar;
#[cfg(test)]
mod tests;
pub mod v1;
pub mod v2;

use std::io;

use crate::entry::{Entry, EntryPath};

pub use error::FormatError;

/// Takes entries as a reader finds them: a folder before what it holds, a file before its hard links.
pub trait EntrySink {
    /// Takes the next entry. The content of a file follows through [`EntrySink::content`].
    /// # Errors
    /// The receiver cannot take it: a duplicate, a missing or wrong parent, no room. The reader stops with `FormatError::Rejected`.
    fn entry(&mut self, entry: Entry) -> Result<(), SinkError>;
    /// Takes the next bytes of the last file, in order; all together exactly its size.
    /// # Errors
    /// As for [`EntrySink::entry`].
    fn content(&mut self, bytes: &[u8]) -> Result<(), SinkError>;
}

/// Why a sink refused an entry.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct SinkError {
    /// The entry.
    pub path: EntryPath,
    /// In plain words.
    pub reason: String,
}

/// Gives entries to a writer, in an order that a sink can take.
pub trait EntrySource {
    /// Returns the next entry, skipping what was not read of the last one's content.
    /// # Errors
    /// The source cannot be read.
    fn next_entry(&mut self) -> io::Result<Option<Entry>>;
    /// Reads the next bytes of the last file's content; 0 at its end. All together exactly its size.
    /// # Errors
    /// The source cannot be read.
    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Caps that a reader checks before it allocates or hands anything on.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Bytes of all files together, holes included: a decompression bomb ends here.
    pub total_bytes: u64,
    /// Number of entries.
    pub entries: u64,
}

/// What a reader noticed besides the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// How many entries there were, folders that only other names tell of included.
    pub entries: u64,
    /// Things the user is told.
    pub warnings: Vec<ReadWarning>,
}

/// A thing that the user is told after reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadWarning {
    /// The old tool's plaintext passphrase at `.vault_pass` was dropped.
    DroppedPassphraseFile,
    /// There is a `.vault_pass` that is not this archive's passphrase; it was kept.
    KeptPassphraseFile,
    /// A symbolic link whose target is its own path, a bug of the old tool; it was kept.
    SelfSymlink(EntryPath),
    /// The end of the archive was cut off while it was written; what was acknowledged is all there.
    TornEnd {
        /// Bytes behind the last whole commit.
        bytes: u64,
        /// The file beside the archive that they were moved to; `None` on a read-only medium.
        kept: Option<String>,
    },
    /// The archive does not follow from what this machine has seen, which was accepted.
    RollbackAccepted,
    /// An identity opened an archive of which this machine knows nothing. Whoever knows the public half can make such an archive.
    UnprovenMaker,
    /// What this machine knows of the archive cannot be written down: no rollback will be noticed, nothing taken for torn.
    NoWitness {
        /// Why.
        reason: String,
    },
}
