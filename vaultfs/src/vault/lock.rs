//! The lock that one process at a time holds on an archive: `<archive>.lock`, never the archive, which is replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::VaultError;

/// Whether commits can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The folder can be written.
    ReadWrite,
    /// A read-only medium, or a folder or an archive that is not ours to write.
    ReadOnly,
}

/// A held lock; the kernel releases it when the process ends, however it ends.
pub(super) struct ArchiveLock {
    /// `None` where there is no lock file and none can be made: then nobody can write there, and no lock is needed.
    file: Option<File>,
    pub access: Access,
}

impl ArchiveLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`VaultError::Locked`]: another process, or another vault of this one, holds it.
    pub fn take(folder: BorrowedFd<'_>, archive_name: &OsStr, archive: &Path) -> Result<Self, VaultError> {
        let mut name = OsString::from(archive_name);
        name.push(".lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match lock_file(folder, &name, archive, flags) {
            Ok(file) => Ok(Self { file: Some(file), access: folder_access(folder, archive)? }),
            Err(VaultError::Io { source, .. }) if is_read_only(&source) => Self::take_read_only(folder, &name, archive),
            Err(error) => Err(error),
        }
    }

    fn take_read_only(folder: BorrowedFd<'_>, name: &OsStr, archive: &Path) -> Result<Self, VaultError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match lock_file(folder, name, archive, flags) {
            Ok(file) => Some(file),
            Err(VaultError::Io { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, access: Access::ReadOnly })
    }
}

impl Drop for ArchiveLock {
    /// Closing alone would not do at once: a child that was just forked shares the lock until it executes its program.
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = rustix::fs::flock(file, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "the lock of an archive could not be released");
        }
    }
}

/// Opens and locks, again when somebody removed the file in between: a lock on a nameless file keeps nobody out.
fn lock_file(folder: BorrowedFd<'_>, name: &OsStr, archive: &Path, flags: OFlags) -> Result<File, VaultError> {
    loop {
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(folder, name, flags, mode).map_err(VaultError::io("lock", archive))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(VaultError::Locked(archive.to_owned())),
            Err(error) => return Err(VaultError::io("lock", archive)(error)),
        }
        let held = rustix::fs::fstat(file.as_fd()).map_err(VaultError::io("lock", archive))?;
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => return Ok(file.into()),
            _ => continue,
        }
    }
}

fn folder_access(folder: BorrowedFd<'_>, archive: &Path) -> Result<Access, VaultError> {
    match may_write(folder, OsStr::new(".")).map_err(VaultError::io("look at the folder of", archive))? {
        true => Ok(Access::ReadWrite),
        false => Ok(Access::ReadOnly),
    }
}

/// Whether this user may write something of a folder.
pub(super) fn may_write(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<bool> {
    match rustix::fs::accessat(folder, name, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}
