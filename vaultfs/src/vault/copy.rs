//! Archive files that are only read: the state that two machines began with, and what was fetched. Takes no lock, writes nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::{Hasher, Passphrase};
use crate::format::v2::{Head, Source};
use crate::format::{self, FormatError};
use crate::tree::{Snapshot, Tree};

use super::archive::{ArchiveFormat, has_magic};
use super::bridge::LoaderSink;
use super::keys::Secret;
use super::v2::{ArchiveRead, Kept, Wanted, read_copy};
use super::{VaultError, VaultOptions, new_tree};

/// How two archives of one vault stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They hold the same.
    Same,
    /// Theirs is an earlier state of ours.
    OursAhead,
    /// Ours is an earlier state of theirs.
    TheirsAhead,
    /// Both went on.
    Diverged {
        /// The newest state that both know they come from.
        common: Option<Head>,
    },
}

/// An archive file that was read.
pub struct ArchiveCopy {
    path: PathBuf,
    file: File,
    snapshot: Arc<Snapshot>,
    /// What only version 2 has.
    read: Option<ArchiveRead>,
    /// A state on the way to it that was looked for.
    earlier: Option<Box<ArchiveCopy>>,
    /// What opened it, in version 1.
    passphrase: Option<Passphrase>,
}

impl ArchiveCopy {
    /// Reads an archive of either version; of version 2 perhaps only up to one of its commits.
    ///
    /// # Errors
    /// As for opening a vault, without anything about this machine; nothing cut off is accepted.
    pub fn open(path: &Path, secret: Secret, until: Option<Head>, options: &VaultOptions) -> Result<Self, VaultError> {
        Self::open_wanted(path, secret, until.map_or(Wanted::All, Wanted::At), options)
    }

    /// The same, with what else is wanted.
    pub(super) fn open_wanted(
        path: &Path,
        secret: Secret,
        wanted: Wanted<'_>,
        options: &VaultOptions,
    ) -> Result<Self, VaultError> {
        let mut file = File::open(path).map_err(VaultError::io("open", path))?;
        let (from, mut tree) = match wanted.kept(&file) {
            Some(Kept { place, tree }) => (Some(place), tree),
            None => (None, new_tree(options)?),
        };
        let (mut read, mut passphrase, mut earlier) = (None, None, None);
        if has_magic(&file).map_err(VaultError::io("read", path))? {
            let found = read_copy(&file, secret, wanted, from, &mut tree).map_err(VaultError::reading(path))?;
            read = Some(found.read);
            earlier = found.earlier;
        } else {
            let Secret::Passphrase(secret) = secret else {
                let source = FormatError::NoSlot("key slot");
                return Err(VaultError::Format { path: path.to_owned(), source });
            };
            read_v1(&mut file, &secret, options, &mut tree).map_err(VaultError::reading(path))?;
            passphrase = Some(secret);
        }
        let at = |file, snapshot, read| {
            let (path, snapshot) = (path.to_owned(), Arc::new(snapshot));
            Self { path, file, snapshot, read, earlier: None, passphrase: None }
        };
        let earlier = match earlier {
            Some((read, snapshot)) => {
                let file = file.try_clone().map_err(VaultError::io("open", path))?;
                Some(Box::new(at(file, snapshot, Some(read))))
            }
            None => None,
        };
        Ok(Self { earlier, passphrase, ..at(file, tree.snapshot(), read) })
    }

    /// The state on the way to it that it was opened with, where there is one.
    pub fn earlier(&self) -> Option<&ArchiveCopy> {
        self.earlier.as_deref()
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn format(&self) -> ArchiveFormat {
        if self.read.is_some() { ArchiveFormat::V2 } else { ArchiveFormat::V1 }
    }

    /// The last commit that was read, in version 2.
    pub fn head(&self) -> Option<Head> {
        self.read.as_ref().map(|read| read.head)
    }

    /// Whether a commit is an ancestor of its head, in version 2.
    pub fn descends_from(&self, head: Head) -> bool {
        self.read.as_ref().is_some_and(|read| read.history.holds(&head))
    }

    /// The state that it holds.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Forgets the earlier state unless it may stand for the one that another header was changed from. A file that was written
    /// anew under another header tells of that one at its earlier commits too.
    pub(super) fn under_header(mut self, digest: Option<[u8; 32]>) -> Self {
        let own = self.read.as_ref().map(|read| read.header.digest());
        self.earlier = self.earlier.take().filter(|_| own == digest);
        self
    }

    pub(super) fn read(&self) -> Option<&ArchiveRead> {
        self.read.as_ref()
    }

    pub(super) fn source(&self) -> &File {
        &self.file
    }

    pub(super) fn passphrase(&self) -> Option<&Passphrase> {
        self.passphrase.as_ref()
    }
}

fn read_v1(
    file: &mut File,
    passphrase: &Passphrase,
    options: &VaultOptions,
    tree: &mut Tree,
) -> Result<(), FormatError> {
    let mut sink = LoaderSink::new(tree.loader());
    format::v1::read(file, passphrase, &options.read_limits(), &mut sink).map(drop)
}

/// SHA-256 of a whole file, by which archives of version 1 are compared.
///
/// # Errors
/// [`VaultError::Io`].
pub fn file_hash(path: &Path) -> Result<[u8; 32], VaultError> {
    let file = File::open(path).map_err(VaultError::io("open", path))?;
    let (mut hasher, mut piece, mut at) = (Hasher::default(), vec![0; 256 * 1024], 0);
    let length = file.length().map_err(VaultError::io("read", path))?;
    while at < length {
        let len = piece.len().min((length - at) as usize);
        Source::read_exact_at(&file, &mut piece[..len], at).map_err(VaultError::io("read", path))?;
        hasher.update(&piece[..len]);
        at += len as u64;
    }
    Ok(hasher.finish())
}
