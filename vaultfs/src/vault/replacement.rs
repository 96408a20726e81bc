//! The temporary file beside an archive that is going to replace it, and what is left of such files after a crash.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, AtFlags, Mode, OFlags, RenameFlags};

use super::identity::Known;

/// Bytes after which the system is asked to begin with writing them to the disk.
const WRITE_BEHIND: u64 = 4 * 1024 * 1024;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A new file beside the archive, `.NAME.tmp-PID-N`, 0600. Whatever bears its name is removed on drop.
pub(super) struct Replacement {
    folder: OwnedFd,
    name: OsString,
    file: File,
    /// Up to where the system was asked to write to the disk.
    behind: u64,
    /// Nothing was written since the last sync.
    is_synced: bool,
    remove: bool,
}

impl Replacement {
    /// Makes an empty file; it gets the owner of the archive that it replaces, where that is allowed.
    pub fn begin(folder: OwnedFd, archive: &OsStr, replaced: Option<&Known>) -> io::Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = prefix(archive);
        name.push(format!("{}-{number}", std::process::id()));
        // Readable too: its last bytes are looked at before it replaces anything.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)?);
        if replaced.is_some() {
            keep_owner(&folder, archive, &file);
        }
        Ok(Self { folder, name, file, behind: 0, is_synced: false, remove: true })
    }

    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The file. What is written to it without this type's help is written before the first sync.
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.is_synced = false;
        self.file.write_all_at(bytes, offset)?;
        self.write_behind(offset + bytes.len() as u64);
        Ok(())
    }

    /// Has the system write what there is by and by. Else it is all still to be written at the sync, and a commit into the archive, which
    /// goes to the same disk, waits behind it.
    fn write_behind(&mut self, end: u64) {
        let Some(len) = NonZeroU64::new(end.saturating_sub(self.behind)).filter(|len| len.get() >= WRITE_BEHIND) else {
            return;
        };
        // The advice lets go of what is on the disk and begins to write what is not; it may well not be taken.
        let _ = rustix::fs::fadvise(&self.file, self.behind, Some(len), Advice::DontNeed);
        self.behind = end;
    }

    /// Makes what was written durable. A disk takes its time for that even where there is nothing.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.file.sync_all()?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Gives whatever bears the name a lasting one, and returns it.
    pub fn keep(&mut self, archive: &OsStr) -> OsString {
        self.remove = false;
        let mut kept = archive.to_owned();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        kept.push(format!(".kept-{}-{number}", std::process::id()));
        match rustix::fs::renameat_with(&self.folder, &self.name, &self.folder, &kept, RenameFlags::NOREPLACE) {
            Ok(()) => kept,
            Err(_) => self.name.clone(),
        }
    }

    /// Leaves whatever bears the name.
    pub fn forget(&mut self) {
        self.remove = false;
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty())
        {
            tracing::warn!(name = ?self.name, %error, "a temporary file could not be removed");
        }
    }
}

/// Root working on a user's vault must not take it away from that user.
fn keep_owner(folder: &OwnedFd, archive: &OsStr, file: &File) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Ok(stat) = rustix::fs::statat(folder, archive, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    if let Err(error) = rustix::fs::fchown(file, Some(uid), Some(gid)) {
        tracing::warn!(%error, "the new archive could not be given its owner");
    }
}

/// Removes what crashed processes left. The caller holds the lock, so nobody is writing such a file; whether its process is
/// there tells nothing, since numbers are used again.
pub(super) fn remove_stale(folder: BorrowedFd<'_>, archive: &OsStr, path: &Path) {
    if let Err(error) = try_remove_stale(folder, archive) {
        tracing::warn!(archive = %path.display(), %error, "old temporary files could not be looked for");
    }
}

fn try_remove_stale(folder: BorrowedFd<'_>, archive: &OsStr) -> io::Result<()> {
    let prefix = prefix(archive);
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if let Some(rest) = name.strip_prefix(prefix.as_bytes())
            && is_made_here(rest)
        {
            rustix::fs::unlinkat(folder, entry.file_name(), AtFlags::empty())?;
            tracing::info!(name = %String::from_utf8_lossy(name), "a temporary file of a crashed process was removed");
        }
    }
    Ok(())
}

/// Whether it reads `PID-N`.
fn is_made_here(rest: &[u8]) -> bool {
    let Some((pid, number)) = std::str::from_utf8(rest).ok().and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    pid.parse::<u32>().is_ok() && number.parse::<u64>().is_ok()
}

fn prefix(archive: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(archive);
    prefix.push(".tmp-");
    prefix
}
