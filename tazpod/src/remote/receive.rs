//! Takes an archive in: into a temporary file of the user alone beside the target, verified, and only then in its place.
//! Whether it has to be on the disk is for whoever fetches it to know.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::Digest as _;
use tempfile::NamedTempFile;

use super::folder::remove_left;
use super::transfer::{Direction, Moving, Transfers};
use super::{Description, Digest, RemoteError, State};

/// What names of temporary files begin with.
const START: &str = ".tazpod-fetched-";
/// What stays free on a disk, in bytes; a twentieth of a small one.
const RESERVE: u64 = 64 << 20;
/// How often it is looked whether there still is room, in bytes.
const LOOK: u64 = 16 << 20;

/// What a place told of an archive before it was fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Size.
    pub bytes: Option<u64>,
    /// Hash of all bytes.
    pub sha256: Option<Digest>,
    /// State; a vault that is not told is not compared.
    pub state: Option<State>,
}

/// An archive that is coming in. Dropping it leaves nothing behind.
pub struct Receiver {
    target: PathBuf,
    temporary: NamedTempFile,
    hasher: sha2::Sha256,
    bytes: u64,
    transfers: Transfers,
    moving: Option<Moving>,
}

impl Receiver {
    /// Makes the temporary file.
    ///
    /// # Errors
    /// [`RemoteError::File`].
    pub fn new(target: &Path, transfers: &Transfers) -> Result<Self, RemoteError> {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // What killed fetches left.
        remove_left(folder, SystemTime::now(), |name| name.starts_with(START));
        let temporary = temporary_in(folder).map_err(RemoteError::file("write into", folder))?;
        let (hasher, target) = (sha2::Sha256::new(), target.to_owned());
        Ok(Self { target, temporary, hasher, bytes: 0, transfers: transfers.clone(), moving: None })
    }

    /// Says how many bytes come in all together, before they do.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`], [`RemoteError::NoRoom`].
    pub fn expect(&mut self, place: &str, bytes: u64) -> Result<(), RemoteError> {
        self.transfers.require_bound(place, bytes)?;
        self.require_room(bytes.saturating_sub(self.bytes))?;
        if self.moving.is_none() {
            self.moving = Some(self.transfers.begin(Direction::In, bytes));
        }
        Ok(())
    }

    /// Bytes that came in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes, and tells who watches of them.
    ///
    /// # Errors
    /// [`RemoteError::File`], [`RemoteError::TooLarge`], [`RemoteError::NoRoom`].
    pub fn take(&mut self, place: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.store(place, bytes)?;
        self.transfers.add(bytes.len() as u64);
        Ok(())
    }

    /// Takes the next bytes, of which it was told when they came.
    ///
    /// # Errors
    /// As for [`Receiver::take`].
    pub fn store(&mut self, place: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let after = self.bytes + bytes.len() as u64;
        self.transfers.require_bound(place, after)?;
        if after / LOOK > self.bytes / LOOK {
            self.require_room(bytes.len() as u64)?;
        }
        self.temporary.write_all(bytes).map_err(RemoteError::file("write", &self.target))?;
        self.hasher.update(bytes);
        self.bytes = after;
        Ok(())
    }

    fn require_room(&self, more: u64) -> Result<(), RemoteError> {
        let found = rustix::fs::fstatvfs(&self.temporary);
        let disk = found.map_err(|error| RemoteError::file("write", &self.target)(error.into()))?;
        let (free, size) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
        // Some file systems do not tell.
        match size == 0 || free >= more.saturating_add(RESERVE.min(size / 20)) {
            true => Ok(()),
            false => Err(RemoteError::NoRoom { path: self.target.clone(), more, free }),
        }
    }

    /// Verifies what came in and puts it in the target's place. Whoever keeps it there syncs it: [`sync_file`].
    ///
    /// # Errors
    /// [`RemoteError::Damaged`], [`RemoteError::File`].
    pub fn finish(self, place: &str, expected: &Expected) -> Result<Description, RemoteError> {
        let damaged = |reason: &str| RemoteError::Damaged { place: place.to_owned(), reason: reason.to_owned() };
        let sha256 = Digest(self.hasher.finalize().into());
        if expected.bytes.is_some_and(|bytes| bytes != self.bytes) {
            return Err(damaged("it has not the size that it was put with"));
        }
        if expected.sha256.is_some_and(|told| told != sha256) {
            return Err(damaged("its checksum is not the one that it was put with"));
        }
        let found = Description::of_hashed(self.temporary.as_file(), self.temporary.path(), self.bytes, sha256);
        let description = found.map_err(|error| match error {
            RemoteError::Damaged { reason, .. } => damaged(&reason),
            other => other,
        })?;
        if !expected.state.is_none_or(|told| is_same(&told, &description.state)) {
            return Err(damaged("it is not the state that it was put as"));
        }
        self.temporary.persist(&self.target).map_err(|error| RemoteError::file("write", &self.target)(error.error))?;
        Ok(description)
    }
}

fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // The mode is tempfile's default too; here it is a promise.
    builder.prefix(START).permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).tempfile_in(folder)
}

fn is_same(told: &State, found: &State) -> bool {
    State { vault: told.vault.or(found.vault), ..*told } == *found
}

/// Makes what is in a file durable.
///
/// # Errors
/// [`RemoteError::File`].
pub fn sync_file(file: &Path) -> Result<(), RemoteError> {
    File::open(file).and_then(|file| file.sync_all()).map_err(RemoteError::file("sync", file))
}

/// Makes the name of a file durable. Some file systems of other systems cannot, and need not.
///
/// # Errors
/// [`RemoteError::File`].
pub fn sync_folder(file: &Path) -> Result<(), RemoteError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let outcome = File::open(folder).and_then(|folder| folder.sync_all());
    match outcome {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::ENOSYS)) => Ok(()),
        outcome => outcome.map_err(RemoteError::file("sync", folder)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_after_a_day_and_what_is_coming_in_stays() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, age: u64| {
            let path = folder.path().join(name);
            std::fs::write(&path, "a half").unwrap();
            let at = SystemTime::now() - Duration::from_secs(age * 3600);
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
            path
        };
        let left = make(".tazpod-fetched-gone", 25);
        let kept = [make(".tazpod-fetched-here", 23), make(".fetched-notes", 99)];
        let link = folder.path().join(".tazpod-fetched-link");
        std::os::unix::fs::symlink(&kept[1], &link).unwrap();
        let receiver = Receiver::new(&folder.path().join("archive"), &Transfers::default()).unwrap();
        assert!(!left.exists() && kept.iter().all(|path| path.exists()) && link.exists());
        let coming = receiver.temporary.path().to_owned();
        drop(receiver);
        assert!(!coming.exists());
    }
}
