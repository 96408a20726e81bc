//! Looking at an archive without its lock and without changing anything: who can open it, and whether somebody can.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::crypto::Identity;
use crate::format::v2::{Archive as Segments, Header, RecipientSlot};

use super::archive::has_magic;
use super::{VaultError, v2};

/// Reads the recipients of an archive. Nothing proves that they are those whom its owners put there.
///
/// # Errors
/// [`VaultError::NoArchive`], [`VaultError::Version1`], [`VaultError::Format`], [`VaultError::Io`].
pub fn read_recipients(archive: &Path) -> Result<Vec<RecipientSlot>, VaultError> {
    read_header(archive).map(|(_, header)| header.recipients().to_vec())
}

/// Proves that an identity opens an archive, by the header and the first segment; returns its recipient.
///
/// # Errors
/// [`VaultError::WrongIdentity`], and those of [`read_recipients`].
pub fn prove_identity(archive: &Path, identity: &Identity) -> Result<RecipientSlot, VaultError> {
    let (file, header) = read_header(archive)?;
    let failed = VaultError::reading(archive);
    let proved = || {
        let master = header.unlock_with_identity(identity)?;
        let segments = Segments::new(&file, header.suite(), &master, header.vault_id())?;
        let first = segments.next(header.bytes().len() as u64, None)?.map_err(crate::format::FormatError::from)?;
        segments.read(&first, &mut |_| Ok(()))
    };
    proved().map_err(failed)?;
    let is_ours = |slot: &&RecipientSlot| identity.recipients().contains(&slot.recipient);
    Ok(header.recipients().iter().find(is_ours).cloned().expect("its slot was opened"))
}

fn read_header(archive: &Path) -> Result<(File, Header), VaultError> {
    // NONBLOCK: a FIFO in its place must not hang us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(archive, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(VaultError::NoArchive(archive.to_owned())),
        Err(error) => return Err(VaultError::io("open", archive)(error)),
    };
    if !has_magic(&file).map_err(VaultError::io("read", archive))? {
        return Err(VaultError::Version1(archive.to_owned()));
    }
    let header = v2::read_header(&file).map_err(VaultError::reading(archive))?;
    Ok((file, header))
}
