//! The store on a real file system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::format::FormatError;
use crate::format::v2::{Output, Source, WITNESS_LEN, Witness};
use crate::vault::archive_file::ArchiveFile;
use crate::vault::lock::Access;
use crate::vault::replacement::Replacement;
use crate::vault::{VaultError, VaultOptions};

use super::store::{Draft, Presence, Store};

/// An archive file with the file of its witness.
pub(in crate::vault) struct FileStore {
    archive: ArchiveFile,
    /// The archive, for reading, and for writing where that is possible.
    file: File,
    /// It was written to, and not looked at since: that it has changed is our doing.
    is_unsettled: bool,
    /// `None` where this machine keeps no witness.
    witness: Option<File>,
}

impl FileStore {
    /// Takes an archive that was just opened for reading. The witness's file is made when it is missing and can be.
    pub fn new(archive: ArchiveFile, reader: File, witness: Option<&PathBuf>) -> Result<Self, VaultError> {
        let file = match archive.access() {
            Access::ReadWrite => archive.open_for_writing(&reader)?,
            Access::ReadOnly => reader,
        };
        let witness = witness.map(|path| open_witness(path)).transpose()?;
        Ok(Self { archive, file, is_unsettled: false, witness })
    }
}

/// Refuses an archive that has no witness where this machine has one of another archive. Where that is accepted, forgets it.
pub(in crate::vault) fn check_unwitnessed(archive: &Path, options: &VaultOptions) -> Result<(), VaultError> {
    let Some(path) = &options.witness else { return Ok(()) };
    let is_any = match std::fs::read(path) {
        Ok(bytes) => Witness::is_any(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(VaultError::io("read", path)(error)),
    };
    match (is_any, options.acceptance.rollback) {
        (false, _) => Ok(()),
        (true, true) => std::fs::remove_file(path).map_err(VaultError::io("forget", path)),
        (true, false) => Err(VaultError::Format { path: archive.to_owned(), source: FormatError::OtherVault }),
    }
}

fn open_witness(path: &Path) -> Result<File, VaultError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(VaultError::io("open", path))
}

impl Source for FileStore {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

impl Store for FileStore {
    type Draft = Replacement;

    fn path(&self) -> &Path {
        self.archive.path()
    }

    fn access(&self) -> Access {
        self.archive.access()
    }

    fn presence(&mut self) -> Result<Presence, VaultError> {
        if self.is_unsettled {
            self.archive.settle(&self.file)?;
            self.is_unsettled = false;
        }
        match self.archive.presence()? {
            Presence::Ours if !self.archive.is_named(&self.file)? => Ok(Presence::Copy),
            presence => Ok(presence),
        }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.is_unsettled = true;
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.is_unsettled = true;
        self.file.set_len(length)
    }

    fn settle(&mut self) -> Result<(), VaultError> {
        match self.archive.settle(&self.file) {
            Ok(()) => self.is_unsettled = false,
            Err(error) => tracing::warn!(%error, "what was written cannot be looked at yet"),
        }
        match self.archive.is_named(&self.file) {
            Ok(false) => Err(VaultError::ChangedElsewhere(self.archive.path().to_owned())),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    fn keep_aside(&mut self, offset: u64) -> Result<String, VaultError> {
        self.archive.keep_aside(&self.file, offset, "torn")
    }

    fn room(&self) -> u64 {
        self.archive.room()
    }

    fn draft(&mut self) -> Result<Replacement, VaultError> {
        self.archive.begin_replacement()
    }

    fn replace(&mut self, draft: Replacement) -> Result<(), VaultError> {
        let file = draft.file().try_clone().map_err(VaultError::io("keep open", self.archive.path()))?;
        let outcome = self.archive.replace(draft);
        // After an error it may be in place, only not durably.
        if outcome.is_ok() || self.archive.is_named(&file).unwrap_or(false) {
            (self.file, self.is_unsettled) = (file, false);
        }
        outcome
    }

    fn read_witness(&self) -> io::Result<Vec<u8>> {
        let Some(witness) = &self.witness else { return Ok(Vec::new()) };
        let mut bytes = vec![0; WITNESS_LEN.min(witness.metadata()?.len() as usize)];
        FileExt::read_exact_at(witness, &mut bytes, 0)?;
        Ok(bytes)
    }

    fn write_witness(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.witness.as_ref().map_or(Ok(()), |witness| witness.write_all_at(bytes, offset))
    }

    fn sync_witness(&mut self) -> io::Result<()> {
        self.witness.as_ref().map_or(Ok(()), File::sync_data)
    }
}

impl Output for Replacement {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self.file(), bytes, offset)
    }
}

impl Draft for Replacement {
    fn sync(&mut self) -> io::Result<()> {
        self.file().sync_all()
    }
}
