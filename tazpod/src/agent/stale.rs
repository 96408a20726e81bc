//! What killed processes leave behind: dead mounts, sockets, notes. Finds it and removes it; never touches a living agent's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::paths::{NotedEnd, UnlockedNote, VaultKey};
use super::{covered, fusermount, mountinfo, paths};

/// Shows that no keeper and no start of one has an archive: nobody else will touch its socket and its note.
pub struct Claim {
    key: VaultKey,
    file: File,
}

impl Claim {
    /// Takes the claim; `None` while somebody else has it.
    ///
    /// # Errors
    /// The state folder cannot be used.
    pub fn take(archive: &Path) -> io::Result<Option<Self>> {
        let key = VaultKey::of(archive);
        let path = key.state_folder()?.join("agent.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { key, file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the locked file, for the keeper to hold.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Tells whether the last agent of the archive saved and locked before it ended.
    pub fn was_locked_in_order(&self) -> bool {
        let note = self.key.note().ok().filter(|note| note.exists());
        note.is_none_or(|note| UnlockedNote::read(&note).is_some_and(|note| note.end == NotedEnd::SavedWithoutKeeper))
    }

    /// Removes what killed processes of the archive left; returns the mounts that were taken away, and what was noted of the end.
    ///
    /// # Errors
    /// In words for the user: a mount does not go.
    pub fn clean_up(&self) -> Result<(Vec<PathBuf>, NotedEnd), String> {
        let Ok(note) = self.key.note() else { return Ok((Vec::new(), NotedEnd::None)) };
        let (mut detached, mut end) = (Vec::new(), NotedEnd::None);
        if let Some(note) = UnlockedNote::read(&note) {
            for dir in note.mounts {
                if detach_if_dead(&dir)? {
                    detached.push(dir);
                }
            }
            covered::remove_made(&note.made);
            end = note.end;
            paths::note_change();
        }
        for file in [Ok(note), self.key.socket()].into_iter().flatten() {
            // Mostly there is none.
            let _ = std::fs::remove_file(file);
        }
        Ok((detached, end))
    }
}

/// What has a place already.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Taken {
    /// The vault of an archive.
    #[error("{} is where the vault {} is mounted already", .0.display(), .1.display())]
    ByVault(PathBuf, PathBuf),
    /// Somebody else's mount.
    #[error("{} is a mount point already", .0.display())]
    ByOther(PathBuf),
}

/// Tells what is mounted at a canonical place.
pub fn taken(place: &Path) -> Option<Taken> {
    let mount = mountinfo::at(place).ok()??;
    Some(match paths::all_notes().into_iter().find(|note| mount.is_of(note.keeper_pid)) {
        Some(note) => Taken::ByVault(place.to_owned(), note.archive),
        None => Taken::ByOther(place.to_owned()),
    })
}

/// Takes a dead mount of ours away; does nothing to any other.
///
/// # Errors
/// In words for the user.
pub fn detach_if_dead(dir: &Path) -> Result<bool, String> {
    // The last component cannot be looked at when it is a dead mount.
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(false) };
    let Ok(parent) = parent.canonicalize() else { return Ok(false) };
    let dir = parent.join(name);
    if !mountinfo::is_dead(&dir) {
        return Ok(false);
    }
    match fusermount::unmount(&dir) {
        Ok(()) => Ok(true),
        // Its keeper was quicker.
        Err(_) if !mountinfo::is_dead(&dir) => Ok(false),
        Err(reason) => Err(reason),
    }
}
