//! From version 1 to version 2, with the old file kept.

use std::path::PathBuf;

use crate::crypto::{KdfCost, Passphrase, Suite};
use crate::format::FormatError;

use super::archive::has_magic;
use super::archive_file::ArchiveFile;
use super::v1::V1Archive;
use super::{VaultError, VaultOptions, new_tree, v2};

pub(super) fn upgrade(
    mut file: ArchiveFile,
    passphrase: Passphrase,
    suite: Suite,
    cost: KdfCost,
    options: &VaultOptions,
) -> Result<PathBuf, VaultError> {
    let path = file.path().to_owned();
    let reader = file.open_for_reading()?;
    if has_magic(&reader).map_err(VaultError::io("read", &path))? {
        let source = FormatError::Unsupported("it is of version 2 already".to_owned());
        return Err(VaultError::Format { path, source });
    }
    v2::check_unwitnessed(&path, options)?;
    let mut tree = new_tree(options)?;
    let secret = passphrase.duplicate()?;
    let read = reader.try_clone().map_err(VaultError::io("read", &path))?;
    let (archive, _) = V1Archive::load(file, reader, passphrase, &options.read_limits(), &mut tree)?;
    let store = v2::FileStore::new(archive.into_file(), read, None)?;
    v2::replace_old(store, &secret, suite, cost, &options.machine, &tree.snapshot())
}
