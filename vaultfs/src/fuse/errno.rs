//! Errors of the tree and of commits as errno.

use fuser::Errno;

use crate::tree::TreeError;
use crate::vault::VaultError;

/// Translates an error of the tree.
pub(super) fn of_tree(error: TreeError) -> Errno {
    match error {
        TreeError::NotFound => Errno::ENOENT,
        TreeError::Exists => Errno::EEXIST,
        TreeError::NotFolder => Errno::ENOTDIR,
        TreeError::IsFolder => Errno::EISDIR,
        TreeError::NotEmpty => Errno::ENOTEMPTY,
        TreeError::Invalid => Errno::EINVAL,
        TreeError::NameTooLong => Errno::ENAMETOOLONG,
        TreeError::NoSpace => Errno::ENOSPC,
        TreeError::FileTooLarge => Errno::EFBIG,
        TreeError::TooManyLinks => Errno::EMLINK,
        TreeError::NotPermitted => Errno::EPERM,
        TreeError::CrossesBorder => Errno::EXDEV,
        TreeError::NoAttribute => Errno::ENODATA,
        TreeError::AttributesTooLarge => Errno::E2BIG,
        TreeError::NoData => Errno::ENXIO,
        TreeError::NotSupported => Errno::EOPNOTSUPP,
        TreeError::Sealing => Errno::EIO,
    }
}

/// Translates why a commit failed, for who waits for it: what the disk said where it said something, else EIO.
pub(super) fn of_commit(error: &VaultError) -> Errno {
    match error {
        VaultError::Io { source, .. } => Errno::from_i32(source.raw_os_error().unwrap_or(libc::EIO)),
        VaultError::ReadOnly(_) => Errno::EROFS,
        VaultError::NoArchive(_)
        | VaultError::ArchiveExists(_)
        | VaultError::Locked(_)
        | VaultError::Format { .. }
        | VaultError::WrongPassphrase
        | VaultError::WrongPassphraseOrHeader
        | VaultError::WrongIdentity(_)
        | VaultError::Version1(_)
        | VaultError::RecipientExists(_)
        | VaultError::TooManyRecipients
        | VaultError::NoRecipient(_)
        | VaultError::PassphraseNeeded
        | VaultError::LastWay(_)
        | VaultError::ChangedElsewhere(_)
        | VaultError::NoCommonState(_)
        | VaultError::Tree { .. }
        | VaultError::Crypto(_)
        | VaultError::History(_)
        | VaultError::NotSaved(_)
        | VaultError::Import(_)
        | VaultError::Export(_)
        | VaultError::Closed(_)
        | VaultError::Internal { .. } => Errno::EIO,
    }
}
