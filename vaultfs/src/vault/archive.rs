//! What every version of the archive can do, and which version a file is. Knows no threads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::crypto::Passphrase;
use crate::format::{FormatError, ReadLimits, ReadReport};
use crate::tree::{Snapshot, Tree};

use super::VaultError;
use super::archive_file::ArchiveFile;
use super::v1::V1Archive;

/// An archive that is open for writing. One thread at a time uses it.
pub(super) trait Archive: Send {
    /// Makes a snapshot durable. On an error the archive holds what it held before, or the snapshot, but not durably.
    fn commit(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError>;

    /// Does ahead of time what the next commit can be spared, while nobody waits.
    fn prepare(&mut self) {}

    /// Commits under another passphrase, when `old` is the present one. On an error the present one stays.
    fn change_passphrase(
        &mut self,
        old: &Passphrase,
        new: Passphrase,
        snapshot: &Arc<Snapshot>,
    ) -> Result<(), VaultError>;

    /// Tells the size of the archive file in bytes.
    fn bytes(&self) -> u64;
}

/// The first bytes of every archive that is not v1.
const MAGIC: &[u8; 8] = b"TAZVAULT";

/// Reads an archive into an empty tree and returns it ready for commits.
pub(super) fn load(
    mut file: ArchiveFile,
    passphrase: Passphrase,
    limits: &ReadLimits,
    tree: &mut Tree,
) -> Result<(Box<dyn Archive>, ReadReport), VaultError> {
    let reader = file.open_for_reading()?;
    if has_magic(&reader).map_err(VaultError::io("read", file.path()))? {
        let source = FormatError::Unsupported("a newer release made this archive".to_owned());
        return Err(VaultError::Format { path: file.path().to_owned(), source });
    }
    let (archive, report) = V1Archive::load(file, reader, passphrase, limits, tree)?;
    Ok((Box::new(archive), report))
}

fn has_magic(file: &File) -> std::io::Result<bool> {
    let mut first = [0; MAGIC.len()];
    match file.read_exact_at(&mut first, 0) {
        Ok(()) => Ok(&first == MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
