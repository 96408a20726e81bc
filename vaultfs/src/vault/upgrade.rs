//! From version 1 to version 2, with the old file kept: an upgrade made here, or one that another machine made of the same vault.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::crypto::{KdfCost, Passphrase, Suite};
use crate::entry::{EntryPath, Timestamp};
use crate::format::FormatError;
use crate::tree::{Matching, MergeLabel, MergeWith, Merged, Tree};

use super::archive::{ArchiveFormat, has_magic};
use super::archive_file::ArchiveFile;
use super::copy::{ArchiveCopy, file_hash};
use super::v1::V1Archive;
use super::{VaultError, VaultOptions, new_tree, tree_error, v2};

/// What came of taking over an upgrade.
#[derive(Debug)]
pub struct TakenUpgrade {
    /// What was merged into it.
    pub merged: Merged,
    /// Whether the archive is the other machine's byte for byte.
    pub is_forward: bool,
    /// Where the archive of version 1 is now.
    pub kept: PathBuf,
}

pub(super) fn upgrade(
    file: ArchiveFile,
    passphrase: Passphrase,
    suite: Suite,
    cost: KdfCost,
    options: &VaultOptions,
) -> Result<PathBuf, VaultError> {
    let secret = passphrase.duplicate()?;
    let Old { archive, reader, tree } = Old::open(file, passphrase, options)?;
    let store = v2::FileStore::new(archive.into_file(), reader, None)?;
    v2::replace_old(store, &secret, suite, cost, &options.machine, &tree.snapshot())
}

pub(super) fn take(
    file: ArchiveFile,
    passphrase: Passphrase,
    theirs: &ArchiveCopy,
    base: &ArchiveCopy,
    options: &VaultOptions,
) -> Result<TakenUpgrade, VaultError> {
    if base.format() != ArchiveFormat::V1 {
        return Err(VaultError::NoCommonState(theirs.path().to_owned()));
    }
    let path = file.path().to_owned();
    let Old { archive, reader, tree } = Old::open(file, passphrase, options)?;
    let seed = file_hash(&path)?;
    let is_changed = seed != file_hash(base.path())?;
    let merged = if is_changed {
        let label = MergeLabel { time: Timestamp::now(), host: options.machine.host.clone(), seed };
        let with =
            MergeWith { matching: Matching::Paths, base: base.snapshot(), remote: theirs.snapshot(), label: &label };
        tree.merge(&with).map_err(|error| tree_error(&EntryPath::root(), error))?
    } else {
        Merged::default()
    };
    let snapshot = if is_changed { Arc::new(tree.snapshot()) } else { theirs.snapshot().clone() };
    let store = v2::FileStore::new(archive.into_file(), reader, None)?;
    let (kept, is_forward) = v2::replace_old_by_copy(store, theirs, &options.machine, &snapshot)?;
    Ok(TakenUpgrade { merged, is_forward, kept })
}

/// An archive of version 1 that was read to be replaced.
struct Old {
    archive: V1Archive,
    reader: File,
    tree: Tree,
}

impl Old {
    fn open(mut file: ArchiveFile, passphrase: Passphrase, options: &VaultOptions) -> Result<Self, VaultError> {
        let path = file.path().to_owned();
        let reader = file.open_for_reading()?;
        if has_magic(&reader).map_err(VaultError::io("read", &path))? {
            let source = FormatError::Unsupported("it is of version 2 already".to_owned());
            return Err(VaultError::Format { path, source });
        }
        v2::check_unwitnessed(&path, options)?;
        let mut tree = new_tree(options)?;
        let read = reader.try_clone().map_err(VaultError::io("read", &path))?;
        let (archive, _) = V1Archive::load(file, reader, passphrase, &options.read_limits(), &mut tree)?;
        Ok(Self { archive, reader: read, tree })
    }
}
