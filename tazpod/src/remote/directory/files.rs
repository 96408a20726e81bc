//! Files in a folder that others read at the same time: written under a temporary name, synced, renamed.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use sha2::Digest as _;
use tempfile::NamedTempFile;
use vaultfs::format::v2::MAGIC;

use crate::remote::description::{Digest, Format};
use crate::remote::folder;
use crate::remote::receive::{Expected, Receiver, sync_folder};
use crate::remote::transfer::{Direction, Transfers};
use crate::remote::{Description, RemoteError};

/// What temporary files begin with; nobody takes them for archives.
const TEMPORARY: &str = ".tazpod-";
/// What their names end in.
const TEMPORARY_ENDS: [&str; 3] = [".tmp", ".probe", ".renamed"];
/// Where the vault's id lies in an archive of version 2.
const VAULT_ID_OFFSET: u64 = 16;
/// How long somebody else may write.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Keeps others on the same file system from putting at the same moment, where it has locks.
pub struct FolderLock {
    _folder: Option<File>,
}

impl FolderLock {
    /// Waits for the lock, but not for ever.
    pub fn take(folder: &Path) -> Result<Self, RemoteError> {
        let file = File::open(folder).map_err(RemoteError::file("use", folder))?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _folder: Some(file) }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_PAUSE)
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(RemoteError::TimedOut(format!("another program that writes to {}", folder.display())));
                }
                Err(_) => return Ok(Self { _folder: None }),
            }
        }
    }
}

/// Opens a file of the folder for reading, which others may have put there: no FIFO, whose opening has no end, no device, no symbolic
/// link to either.
pub fn open_regular(path: &Path) -> std::io::Result<File> {
    let other = || std::io::Error::new(ErrorKind::InvalidData, "it is no regular file");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A symbolic link; a socket or a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(other()),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// A copy of an archive that is not in its place yet. Dropping it removes it.
pub struct TemporaryFile {
    file: NamedTempFile,
    target: PathBuf,
}

impl TemporaryFile {
    /// Copies an archive beside a target, makes it durable, and reads it back.
    pub fn copy_of(
        archive: &Path,
        description: &Description,
        target: &Path,
        transfers: &Transfers,
    ) -> Result<Self, RemoteError> {
        let folder = target.parent().expect("it lies in the remote's folder");
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY).suffix(".tmp");
        let mut file = builder.tempfile_in(folder).map_err(RemoteError::file("write into", folder))?;
        let mut source = File::open(archive).map_err(RemoteError::file("read", archive))?;
        let _moving = transfers.begin(Direction::Out, description.bytes);
        if copy(&mut source, archive, file.as_file_mut(), target, transfers)? != description.sha256 {
            return Err(RemoteError::ArchiveChanged(archive.to_owned()));
        }
        file.as_file().sync_all().map_err(RemoteError::file("write", target))?;
        Ok(Self { file, target: target.to_owned() })
    }

    /// When it was written, by the clock of the folder.
    pub fn modified(&self) -> SystemTime {
        self.file.as_file().metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Renames it to its place and makes the name durable.
    pub fn into_place(self) -> Result<(), RemoteError> {
        let error = RemoteError::file("write", &self.target);
        self.file.persist(&self.target).map_err(|failed| error(failed.error))?;
        sync_folder(&self.target)
    }

    /// The same where no file may be replaced; says whether the place was free.
    pub fn into_free_place(self) -> Result<bool, RemoteError> {
        let failed = match self.file.persist_noclobber(&self.target) {
            Ok(_) => return sync_folder(&self.target).map(|()| true),
            Err(failed) => failed,
        };
        if failed.error.kind() == ErrorKind::AlreadyExists || self.target.exists() {
            return Ok(false);
        }
        // Some file systems can neither link nor rename so.
        Self { file: failed.file, target: self.target }.into_place().map(|()| true)
    }
}

fn copy(
    source: &mut File,
    from: &Path,
    target: &mut File,
    to: &Path,
    transfers: &Transfers,
) -> Result<Digest, RemoteError> {
    let (mut hasher, mut piece) = (sha2::Sha256::new(), vec![0; PIECE]);
    loop {
        let len = source.read(&mut piece).map_err(RemoteError::file("read", from))?;
        if len == 0 {
            return Ok(Digest(hasher.finalize().into()));
        }
        target.write_all(&piece[..len]).map_err(RemoteError::file("write", to))?;
        hasher.update(&piece[..len]);
        transfers.add(len as u64);
    }
}

/// Fetches an open file; what is written to it from now on does not count.
pub fn receive(
    mut file: File,
    path: &Path,
    target: &Path,
    mut expected: Expected,
    transfers: &Transfers,
) -> Result<Description, RemoteError> {
    let error = || RemoteError::file("read", path);
    let (place, bytes) = (path.display().to_string(), file.metadata().map_err(error())?.len());
    expected.bytes = Some(bytes);
    let (mut receiver, mut piece) = (Receiver::new(target, transfers)?, vec![0; PIECE]);
    receiver.expect(&place, bytes)?;
    let mut file = (&mut file).take(bytes);
    loop {
        match file.read(&mut piece).map_err(error())? {
            0 => return receiver.finish(&place, &expected),
            len => receiver.take(&place, &piece[..len])?,
        }
    }
}

/// Version and vault of an archive.
pub type Kind = (Format, Option<[u8; 16]>);

/// Tells the kind of an archive from its first bytes; `None`: it is gone.
pub fn format_of(path: &Path) -> Result<Option<Kind>, RemoteError> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RemoteError::file("read", path)(error)),
    };
    let (mut magic, mut vault) = ([0; MAGIC.len()], [0; 16]);
    let is_v2 = file.read_exact_at(&mut magic, 0).is_ok() && &magic == MAGIC;
    if is_v2 && file.read_exact_at(&mut vault, VAULT_ID_OFFSET).is_ok() {
        return Ok(Some((Format::V2, Some(vault))));
    }
    Ok(Some((Format::V1, None)))
}

/// Makes a folder of the user alone, unless it is there.
pub fn make_folder(folder: &Path) -> Result<(), RemoteError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(RemoteError::file("make", folder))
}

/// Removes temporary files that killed machines left.
pub fn remove_left(folder: &Path, now: SystemTime) {
    let is_temporary = |name: &str| name.starts_with(TEMPORARY) && TEMPORARY_ENDS.iter().any(|end| name.ends_with(end));
    folder::remove_left(folder, now, is_temporary);
}

/// Tries out what writing an archive needs: a file is made, renamed, read back and removed.
pub fn try_out(folder: &Path) -> Result<(), RemoteError> {
    const TEXT: &[u8] = b"tazpod tries out whether it can write here";
    let error = || RemoteError::file("write into", folder);
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).suffix(".probe").tempfile_in(folder).map_err(error())?;
    file.write_all(TEXT).and_then(|()| file.as_file().sync_all()).map_err(error())?;
    let renamed = file.path().with_extension("renamed");
    let file = file.persist(&renamed).map_err(|failed| error()(failed.error))?;
    drop(file);
    let read = std::fs::read(&renamed);
    std::fs::remove_file(&renamed).map_err(error())?;
    match read.map_err(error())? == TEXT {
        true => Ok(()),
        false => Err(error()(std::io::Error::other("what was written is not what is read"))),
    }
}
