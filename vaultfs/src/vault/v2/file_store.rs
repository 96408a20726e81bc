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
    witness: WitnessFile,
}

/// What this machine knows of an archive, as far as the system lets it.
enum WitnessFile {
    /// This machine keeps no witness.
    Unwanted,
    /// It can be read and written.
    Open(File),
    /// It can be read at most: why it cannot be written.
    Flawed(Option<File>, String),
}

impl WitnessFile {
    /// Makes the file when it is missing. What cannot be read or written is lost, and keeps nobody from the vault.
    fn open(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW).mode(0o600);
        let flaw = match options.clone().write(true).create(true).truncate(false).open(path) {
            Ok(file) => match read_witness(&file) {
                Ok(_) => return Self::Open(file),
                Err(flaw) => flaw,
            },
            Err(flaw) => flaw,
        };
        let readable = options.open(path).ok().filter(|file| read_witness(file).is_ok());
        Self::Flawed(readable, flaw.to_string())
    }

    fn file(&self) -> io::Result<Option<&File>> {
        match self {
            Self::Unwanted => Ok(None),
            Self::Open(file) => Ok(Some(file)),
            Self::Flawed(_, reason) => Err(io::Error::other(reason.clone())),
        }
    }
}

fn read_witness(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; WITNESS_LEN.min(file.metadata()?.len() as usize)];
    FileExt::read_exact_at(file, &mut bytes, 0)?;
    Ok(bytes)
}

impl FileStore {
    /// Takes an archive that was just opened for reading.
    pub fn new(archive: ArchiveFile, reader: File, witness: Option<&PathBuf>) -> Result<Self, VaultError> {
        let file = match archive.access() {
            Access::ReadWrite => archive.open_for_writing(&reader)?,
            Access::ReadOnly => reader,
        };
        let witness = witness.map_or(WitnessFile::Unwanted, |path| WitnessFile::open(path));
        Ok(Self { archive, file, is_unsettled: false, witness })
    }
}

/// Refuses an archive that has no witness where this machine has one of another archive. Where that is accepted, forgets it.
pub(in crate::vault) fn check_unwitnessed(archive: &Path, options: &VaultOptions) -> Result<(), VaultError> {
    let Some(path) = &options.witness else { return Ok(()) };
    // One that cannot be read is lost.
    let is_any = std::fs::read(path).is_ok_and(|bytes| Witness::is_any(&bytes));
    match (is_any, options.acceptance.rollback) {
        (false, _) => Ok(()),
        (true, true) => {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, "what was known of the archive before cannot be forgotten");
            }
            Ok(())
        }
        (true, false) => Err(VaultError::Format { path: archive.to_owned(), source: FormatError::OtherVault }),
    }
}

/// Closes a file that has no name any more: the system frees all of it then, a tenth of a second for some hundred MiB, and a commit may
/// be waiting.
fn close_aside(file: File) {
    // Where there is no thread it is closed here, with the closure.
    let _ = std::thread::Builder::new().name("closer".to_owned()).spawn(move || drop(file));
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

    fn reader(&self) -> io::Result<Box<dyn Source + Send>> {
        Ok(Box::new(self.file.try_clone()?))
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

    fn keep_as(&mut self, suffix: &str) -> Result<PathBuf, VaultError> {
        self.archive.keep_as(suffix)
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
            self.is_unsettled = false;
            close_aside(std::mem::replace(&mut self.file, file));
        }
        outcome
    }

    fn read_witness(&self) -> io::Result<Vec<u8>> {
        match &self.witness {
            WitnessFile::Open(file) | WitnessFile::Flawed(Some(file), _) => read_witness(file),
            WitnessFile::Unwanted | WitnessFile::Flawed(None, _) => Ok(Vec::new()),
        }
    }

    fn write_witness(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.witness.file()?.map_or(Ok(()), |file| file.write_all_at(bytes, offset))
    }

    fn sync_witness(&mut self) -> io::Result<()> {
        self.witness.file()?.map_or(Ok(()), File::sync_data)
    }
}

impl Output for Replacement {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Replacement::write_all_at(self, bytes, offset)
    }
}

impl Draft for Replacement {
    fn sync(&mut self) -> io::Result<()> {
        Replacement::sync(self)
    }
}
