//! The v1 archive as a file: each commit writes it anew under a key of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use crate::crypto::{ArchiveKey, Passphrase};
use crate::format::{self, ReadLimits, ReadReport};
use crate::tree::{Snapshot, Tree};

use super::VaultError;
use super::archive::Archive;
use super::archive_file::ArchiveFile;
use super::bridge::{LoaderSink, SnapshotSource};
use super::keys::{KeyChange, Secret};

/// Bytes of ciphertext gathered before a system call.
const WRITE_BUFFER: usize = 256 * 1024;

/// A v1 archive. It keeps the passphrase (in secret memory), because every commit needs a new key.
pub(super) struct V1Archive {
    file: ArchiveFile,
    passphrase: Passphrase,
    /// Derived ahead of time; used for one try only, whether it works or not.
    next_key: Option<ArchiveKey>,
}

impl V1Archive {
    /// Reads the archive into `tree`.
    pub fn load(
        mut file: ArchiveFile,
        mut reader: File,
        passphrase: Passphrase,
        limits: &ReadLimits,
        tree: &mut Tree,
    ) -> Result<(Self, ReadReport), VaultError> {
        let mut sink = LoaderSink::new(tree.loader());
        let report =
            format::v1::read(&mut reader, &passphrase, limits, &mut sink).map_err(VaultError::reading(file.path()))?;
        drop(sink);
        file.finish_reading(&reader)?;
        Ok((Self { file, passphrase, next_key: None }, report))
    }

    /// Gives the file back.
    pub fn into_file(self) -> ArchiveFile {
        self.file
    }

    /// Makes an archive that does not exist yet.
    pub fn create(mut file: ArchiveFile, passphrase: &Passphrase, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        write(&mut file, ArchiveKey::derive_fresh(passphrase)?, snapshot)
    }
}

impl Archive for V1Archive {
    fn commit(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        let key = match self.next_key.take() {
            Some(key) => key,
            None => ArchiveKey::derive_fresh(&self.passphrase)?,
        };
        write(&mut self.file, key, snapshot)
    }

    fn prepare(&mut self) {
        if self.next_key.is_none() {
            self.next_key = ArchiveKey::derive_fresh(&self.passphrase)
                .inspect_err(|error| tracing::warn!(%error, "the next key could not be derived ahead of time"))
                .ok();
        }
    }

    fn change_keys(&mut self, proof: &Secret, change: KeyChange, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        let (Secret::Passphrase(old), KeyChange::Passphrase { new, .. }) = (proof, change) else {
            return Err(VaultError::Version1(self.file.path().to_owned()));
        };
        if !self.passphrase.matches(old) {
            return Err(VaultError::WrongPassphrase);
        }
        write(&mut self.file, ArchiveKey::derive_fresh(&new)?, snapshot)?;
        self.passphrase = new;
        self.next_key = None;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
}

/// Takes the key by value: no key is used for two archives.
fn write(file: &mut ArchiveFile, key: ArchiveKey, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
    let replacement = file.begin_replacement()?;
    let mut output = BufWriter::with_capacity(WRITE_BUFFER, replacement.file());
    format::v1::write(&mut output, &key, &mut SnapshotSource::new(snapshot))
        .map_err(VaultError::writing(file.path()))?;
    output.flush().map_err(VaultError::io("write", file.path()))?;
    drop(output);
    file.replace(replacement)
}
