//! The v1 archive as a file: each commit writes it anew under a key of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::crypto::{ArchiveKey, Passphrase};
use crate::entry::{EntryPath, Timestamp};
use crate::format::{self, FormatError, ReadLimits, ReadReport};
use crate::tree::{Matching, MergeLabel, MergeWith, Merged, Snapshot, Tree};

use super::VaultError;
use super::archive::Archive;
use super::archive_file::ArchiveFile;
use super::bridge::{LoaderSink, SnapshotSource};
use super::copy::{ArchiveCopy, Relation, file_hash};
use super::keys::{KeyChange, Secret};
use super::v2::Difference;

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

    fn secret(&self) -> Result<Secret, VaultError> {
        Ok(Secret::Passphrase(self.passphrase.duplicate()?))
    }

    /// Without ids and chains all that can be told is whether the bytes are the same.
    fn relation(&self, theirs: &ArchiveCopy) -> Result<Relation, VaultError> {
        let is_same = file_hash(self.file.path())? == file_hash(theirs.path())?;
        Ok(if is_same { Relation::Same } else { Relation::Diverged { common: None } })
    }

    fn join(
        &mut self,
        tree: &Tree,
        theirs: &ArchiveCopy,
        base: Option<&ArchiveCopy>,
    ) -> Result<(Merged, Arc<Snapshot>), VaultError> {
        let Some(passphrase) = theirs.passphrase() else {
            let source = FormatError::Unsupported("it is of version 2, and this vault is of version 1".to_owned());
            return Err(VaultError::Format { path: theirs.path().to_owned(), source });
        };
        let base = base.ok_or_else(|| VaultError::NoCommonState(theirs.path().to_owned()))?;
        let seed = file_hash(self.file.path())?;
        let label = MergeLabel { time: Timestamp::now(), host: String::new(), seed };
        let with =
            MergeWith { matching: Matching::Paths, base: base.snapshot(), remote: theirs.snapshot(), label: &label };
        let merged = tree.merge(&with).map_err(|error| super::tree_error(&EntryPath::root(), error))?;
        let snapshot = Arc::new(tree.snapshot());
        // A change of passphrase is an edit too.
        let keeps_own = base.passphrase().is_some_and(|before| !self.passphrase.matches(before));
        let passphrase = if keeps_own { &self.passphrase } else { passphrase }.duplicate()?;
        if keeps_own || Difference::Between(theirs.snapshot(), &snapshot).is_any() {
            write(&mut self.file, ArchiveKey::derive_fresh(&passphrase)?, &snapshot)?;
        } else {
            // Nothing was changed here: the same bytes tell that.
            let replacement = self.file.begin_replacement()?;
            std::io::copy(&mut Whole(theirs, 0), &mut replacement.file())
                .map_err(VaultError::io("copy to", self.file.path()))?;
            self.file.replace(replacement)?;
        }
        (self.passphrase, self.next_key) = (passphrase, None);
        Ok((merged, snapshot))
    }
}

/// Reads a copy from its beginning, whatever was read of its file before.
struct Whole<'a>(&'a ArchiveCopy, u64);

impl std::io::Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.0.source().read_at(buffer, self.1)?;
        self.1 += len as u64;
        Ok(len)
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
