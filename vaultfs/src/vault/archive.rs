//! What every version of the archive can do, and which version a file is. Knows no threads.

use std::any::Any;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::format::ReadReport;
use crate::format::v2::{Head, MAGIC, Outline, RecipientSlot};
use crate::tree::{Merged, Snapshot, Tree};

use super::archive_file::ArchiveFile;
use super::copy::{ArchiveCopy, Relation};
use super::keys::{KeyChange, Secret};
use super::v1::V1Archive;
use super::v2::{Kept, Log, V2Archive, check_unwitnessed};
use super::{VaultError, VaultOptions};

/// An archive that is open for writing. One thread at a time uses it.
pub(super) trait Archive: Send {
    /// Makes a snapshot durable. On an error the archive holds what it held before, or the snapshot, but not durably.
    fn commit(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError>;

    /// Does ahead of time what the next commit can be spared, while nobody waits.
    fn prepare(&mut self) {}

    /// Commits, and changes who can open the archive, when `proof` opens it. On an error all stays as it is.
    fn change_keys(&mut self, proof: &Secret, change: KeyChange, snapshot: &Arc<Snapshot>) -> Result<(), VaultError>;

    /// The recipients, where the format knows such.
    fn recipients(&self) -> Option<Vec<RecipientSlot>> {
        None
    }

    /// Tells the size of the archive file in bytes.
    fn bytes(&self) -> u64;

    /// Work that makes the archive smaller or faster to open, when it is due: to be run on another thread while commits go on,
    /// and its outcome given to [`Archive::end_rewrite`].
    fn begin_rewrite(&mut self) -> Option<Rewrite> {
        None
    }

    /// Commits, and begins to write the whole archive anew, so that nothing that was deleted is left in it: work as above, for who
    /// waits for it. `None`: that is done.
    fn begin_compaction(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<Rewrite>, VaultError> {
        self.commit(snapshot).map(|()| None)
    }

    /// Takes the outcome of such work.
    ///
    /// # Errors
    /// Why it failed, when somebody waits for it.
    fn end_rewrite(&mut self, _outcome: RewriteOutcome) -> Result<(), VaultError> {
        Ok(())
    }

    /// Where the last commit stands, where the format knows that.
    fn head(&self) -> Option<Head> {
        None
    }

    /// What opens another copy of the archive as it opened this one.
    fn secret(&self) -> Result<Secret, VaultError>;

    /// How another copy stands to this one.
    fn relation(&self, theirs: &ArchiveCopy) -> Result<Relation, VaultError>;

    /// The same without opening it, where that can be told.
    fn relation_to_outline(&self, _theirs: &Outline) -> Option<Relation> {
        None
    }

    /// Whether a commit is the last one here or an ancestor of it, where the format knows that.
    fn knows(&self, _head: &Head) -> bool {
        false
    }

    /// A state that was kept when this archive was opened, where a copy begins with the same bytes up to it.
    fn kept(&self, _theirs: &File) -> Option<Kept> {
        None
    }

    /// What the header is known by, where the format has one.
    fn header_digest(&self) -> Option<[u8; 32]> {
        None
    }

    /// Makes tree and archive what this and another copy come to, which began with `base`; returns what was done and the state that
    /// the archive holds now.
    fn join(
        &mut self,
        tree: &Tree,
        theirs: &ArchiveCopy,
        base: Option<&ArchiveCopy>,
    ) -> Result<(Merged, Arc<Snapshot>), VaultError>;

    /// Notes that other machines may know a head: it stays an ancestor for a year.
    fn note_shared(&mut self, _head: Head) {}

    /// The number of the last commit, where the format counts them.
    fn sequence(&self) -> Option<u64> {
        self.head().map(|head| head.sequence.0)
    }

    /// A way to the commits up to the last one, where the format keeps them.
    fn log(&mut self, _options: &VaultOptions) -> Result<Option<Log>, VaultError> {
        Ok(None)
    }

    /// Sees to it that for some time no rewriting that nobody asked for loses commits.
    fn keep_history(&mut self, _time: Duration) {}
}

/// Work for another thread.
pub(super) type Rewrite = Box<dyn FnOnce() -> RewriteOutcome + Send>;

/// What came of it; only the archive knows its type.
pub(super) type RewriteOutcome = Box<dyn Any + Send>;

/// What a change of passphrase does with the key that content is sealed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekey {
    /// Draws a new one: who knows the old passphrase and an old copy learns nothing of what is written from now on.
    NewMaster,
    /// Wraps the same one anew. Version 1 has no such key.
    KeepMaster,
}

/// Which version an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// The old tool's.
    V1,
    /// The append-only one.
    V2,
}

impl ArchiveFormat {
    /// Tells it from the first bytes of an archive, without opening it.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn of(archive: &Path) -> Result<Self, VaultError> {
        let is_v2 = File::open(archive).and_then(|file| has_magic(&file)).map_err(VaultError::io("read", archive))?;
        Ok(if is_v2 { Self::V2 } else { Self::V1 })
    }

    /// The name that status shows and flags take.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Reads an archive into an empty tree and returns it ready for commits. `fits` is called when the secret is known to open it, with
/// version 2 before the content is read.
pub(super) fn load(
    mut file: ArchiveFile,
    secret: Secret,
    options: &VaultOptions,
    tree: &mut Tree,
    fits: &dyn Fn(),
) -> Result<(Box<dyn Archive>, ArchiveFormat, ReadReport), VaultError> {
    let reader = file.open_for_reading()?;
    if has_magic(&reader).map_err(VaultError::io("read", file.path()))? {
        let (archive, report) = V2Archive::load(file, reader, secret, options, tree, fits)?;
        return Ok((Box::new(archive), ArchiveFormat::V2, report));
    }
    let Secret::Passphrase(passphrase) = secret else { return Err(VaultError::Version1(file.path().to_owned())) };
    check_unwitnessed(file.path(), options)?;
    let (archive, report) = V1Archive::load(file, reader, passphrase, &options.read_limits(), tree)?;
    fits();
    Ok((Box::new(archive), ArchiveFormat::V1, report))
}

pub(super) fn has_magic(file: &File) -> std::io::Result<bool> {
    let mut first = [0; MAGIC.len()];
    match file.read_exact_at(&mut first, 0) {
        Ok(()) => Ok(&first == MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
