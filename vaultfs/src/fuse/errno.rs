//! Tree and commit errors and their errno.

use fuser::Errno;

use crate::tree::TreeError;
use crate::vault::VaultError;

/// Maps what the tree refuses.
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

/// Maps a failed commit: what the archive's file system said, where it said something, else EIO.
pub(super) fn of_commit(error: &VaultError) -> Errno {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(code) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Errno::from_i32(code);
        }
        source = error.source();
    }
    Errno::EIO
}
