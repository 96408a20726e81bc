//! The file that an archive is: its lock, how it is known again, and how it is replaced without ever destroying what
//! somebody else put there. Knows nothing of what is in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::VaultError;
use super::identity::{Identity, Known};
use super::lock::{Access, ArchiveLock, may_write};
use super::replacement::{Replacement, remove_stale};
use super::v2::Presence;

/// How often a swap is tried when the archive appears and vanishes meanwhile.
const SWAP_TRIES: usize = 8;

/// Names that are tried for what is kept aside.
const ASIDE_TRIES: u32 = 100;

/// An archive file with its lock held. Names are looked up in the folder that was opened, wherever that is moved.
pub(super) struct ArchiveFile {
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
    lock: ArchiveLock,
    /// What was last read or written here; `None` before the first.
    known: Option<Known>,
}

impl ArchiveFile {
    /// Locks an existing archive; a symbolic link stands for its target.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let canonical = path.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => VaultError::NoArchive(path.to_owned()),
            _ => VaultError::Io { operation: "find", path: path.to_owned(), source },
        })?;
        let mut file = Self::lock(canonical)?;
        // Whoever took away the right to write it wants it as it is, also where it could be replaced.
        if !may_write(file.folder.as_fd(), &file.name).map_err(VaultError::io("look at", &file.path))? {
            file.lock.access = Access::ReadOnly;
        }
        if file.access() == Access::ReadWrite {
            remove_stale(file.folder.as_fd(), &file.name, &file.path);
        }
        Ok(file)
    }

    /// Locks the place of an archive that does not exist yet.
    pub fn reserve(path: &Path) -> Result<Self, VaultError> {
        let name = path.file_name().ok_or_else(|| VaultError::NoArchive(path.to_owned()))?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize().map_err(VaultError::io("find the folder of", path))?;
        if path.symlink_metadata().is_ok() {
            return Err(VaultError::ArchiveExists(path.to_owned()));
        }
        let file = Self::lock(folder.join(name))?;
        match file.access() {
            Access::ReadWrite => Ok(file),
            Access::ReadOnly => Err(VaultError::ReadOnly(file.path)),
        }
    }

    fn lock(path: PathBuf) -> Result<Self, VaultError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(VaultError::NoArchive(path));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(VaultError::io("open the folder of", &path))?;
        let lock = ArchiveLock::take(folder.as_fd(), name, &path)?;
        Ok(Self { folder, name: name.to_owned(), lock, known: None, path })
    }

    /// The canonical path at the time of opening, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn access(&self) -> Access {
        self.lock.access
    }

    /// Size of what was last read or written.
    pub fn bytes(&self) -> u64 {
        self.known.as_ref().map_or(0, Known::bytes)
    }

    /// Opens the archive; [`ArchiveFile::finish_reading`] follows.
    pub fn open_for_reading(&mut self) -> Result<File, VaultError> {
        // NONBLOCK: a FIFO in its place must not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(VaultError::NoArchive(self.path.clone())),
            Err(error) => return Err(VaultError::io("open", &self.path)(error)),
        };
        self.known = Some(Known::of(&file).map_err(VaultError::io("read", &self.path))?);
        Ok(file)
    }

    /// Checks that nobody changed the file while it was read.
    pub fn finish_reading(&mut self, file: &File) -> Result<(), VaultError> {
        let now = Identity::of(file).map_err(VaultError::io("read", &self.path))?;
        match &self.known {
            Some(known) if known.identity == now => Ok(()),
            _ => Err(VaultError::ChangedElsewhere(self.path.clone())),
        }
    }

    /// Opens for writing what was opened for reading.
    pub fn open_for_writing(&self, reader: &File) -> Result<File, VaultError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())
            .map(File::from)
            .map_err(VaultError::io("open", &self.path))?;
        let same = Identity::of(&file).and_then(|now| Ok(now.is_same_inode(&Identity::of(reader)?)));
        match same.map_err(VaultError::io("look at", &self.path))? {
            true => Ok(file),
            false => Err(VaultError::ChangedElsewhere(self.path.clone())),
        }
    }

    /// Takes what the opened archive is now for what was last written here.
    pub fn settle(&mut self, file: &File) -> Result<(), VaultError> {
        self.known = Some(Known::of(file).map_err(VaultError::io("read", &self.path))?);
        Ok(())
    }

    /// Whether an opened file is what lies under the archive's name.
    pub fn is_named(&self, file: &File) -> Result<bool, VaultError> {
        let found = match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Identity::from(&stat),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(VaultError::io("look at", &self.path)(error)),
        };
        let opened = Identity::of(file).map_err(VaultError::io("look at", &self.path))?;
        Ok(found.is_same_inode(&opened))
    }

    /// Bytes that are free on the archive's file system for this user; where that cannot be told, endless.
    pub fn room(&self) -> u64 {
        rustix::fs::fstatvfs(&self.folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Copies the bytes of the opened archive from an offset on into a new file beside it, `NAME.WORD-TIME`, durably.
    pub fn keep_aside(&self, file: &File, offset: u64, word: &str) -> Result<String, VaultError> {
        let seconds = crate::entry::Timestamp::now().secs;
        let mut last = Errno::EXIST;
        for number in 0..ASIDE_TRIES {
            let suffix = if number == 0 { String::new() } else { format!("-{number}") };
            let name = format!("{}.{word}-{seconds}{suffix}", self.name.to_string_lossy());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&self.folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(aside) => {
                    let copied =
                        copy_from(file, offset, &File::from(aside)).and_then(|()| Ok(rustix::fs::fsync(&self.folder)?));
                    if copied.is_err() {
                        // Half a copy is of no use, and takes up room that is missing perhaps.
                        let _ = rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty());
                    }
                    return copied.map(|()| name).map_err(VaultError::io("keep the torn end of", &self.path));
                }
                Err(error) => last = error,
            }
        }
        Err(VaultError::io("keep the torn end of", &self.path)(last))
    }

    /// Gives the present archive a second name beside it, durably; never over another file.
    pub fn keep_as(&self, suffix: &str) -> Result<PathBuf, VaultError> {
        let mut name = self.name.clone();
        name.push(suffix);
        let kept = self.path.with_file_name(&name);
        match rustix::fs::linkat(&self.folder, &self.name, &self.folder, &name, AtFlags::empty()) {
            Ok(()) => {}
            // A try before this one got no further.
            Err(Errno::EXIST) if self.is_same(&name).unwrap_or(false) => {}
            Err(Errno::EXIST) => return Err(VaultError::ArchiveExists(kept)),
            Err(error) => return Err(VaultError::io("keep the old archive as", &kept)(error)),
        }
        // Before anything takes the first name: a loss of power may keep one change of a folder and lose the one before.
        rustix::fs::fsync(&self.folder).map_err(VaultError::io("sync the folder of", &kept))?;
        Ok(kept)
    }

    /// Whether another name leads to the archive too.
    fn is_same(&self, name: &OsStr) -> std::io::Result<bool> {
        let [archive, other] =
            [self.name.as_os_str(), name].map(|name| self.open_named(name).and_then(|file| Identity::of(&file)));
        Ok(archive?.is_same_inode(&other?))
    }

    /// Starts a file that will replace the archive; not when it is clear already that it may not.
    pub fn begin_replacement(&mut self) -> Result<Replacement, VaultError> {
        if self.access() == Access::ReadOnly {
            return Err(VaultError::ReadOnly(self.path.clone()));
        }
        if let Presence::Theirs = self.presence()? {
            return Err(self.taken());
        }
        let folder = self.folder.try_clone().map_err(VaultError::io("open the folder of", &self.path))?;
        Replacement::begin(folder, &self.name, self.known.as_ref())
            .map_err(VaultError::io("write a new file beside", &self.path))
    }

    /// Puts a written file in the archive's place, durably. Nothing but what was last read or written here is ever
    /// overwritten: the two files are exchanged, and exchanged back when the one that came out is not the expected one.
    ///
    /// # Errors
    /// [`VaultError::ChangedElsewhere`], [`VaultError::ArchiveExists`] (when it was to be a new archive).
    pub fn replace(&mut self, mut replacement: Replacement) -> Result<(), VaultError> {
        replacement.sync().map_err(VaultError::io("sync the new file beside", &self.path))?;
        let written = Known::of(replacement.file()).map_err(VaultError::io("write", &self.path))?;
        for _ in 0..SWAP_TRIES {
            let swapped = match self.presence()? {
                Presence::Theirs => return Err(self.taken()),
                Presence::Ours | Presence::Copy => self.rename(&replacement, RenameFlags::EXCHANGE),
                Presence::Gone => self.rename(&replacement, RenameFlags::NOREPLACE),
            };
            match swapped {
                Ok(RenameFlags::EXCHANGE) => return self.finish_exchange(replacement, written),
                Ok(done) => {
                    if done == RenameFlags::NOREPLACE && self.known.is_some() {
                        tracing::warn!(path = %self.path.display(), "somebody had removed the archive; it is there again");
                    }
                    replacement.forget();
                    return self.finish(replacement.file(), written);
                }
                Err(Errno::NOENT | Errno::EXIST) => continue,
                Err(error) => return Err(VaultError::io("replace", &self.path)(error)),
            }
        }
        Err(self.taken())
    }

    /// Renames in one step if the file system can; the caller has just looked, and elsewhere that has to do.
    /// Returns what was done; empty flags stand for a plain rename.
    fn rename(&self, replacement: &Replacement, flags: RenameFlags) -> Result<RenameFlags, Errno> {
        match rustix::fs::renameat_with(&self.folder, replacement.name(), &self.folder, &self.name, flags) {
            Ok(()) => Ok(flags),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::renameat(&self.folder, replacement.name(), &self.folder, &self.name)?;
                Ok(RenameFlags::empty())
            }
            Err(error) => Err(error),
        }
    }

    /// The archive is in place and the replacement's name holds what was there before.
    fn finish_exchange(&mut self, mut replacement: Replacement, written: Known) -> Result<(), VaultError> {
        // A rename may change the ctime of what it moves, so that does not count here.
        let expected = self.known.as_ref().is_some_and(|known| {
            self.open_named(replacement.name()).is_ok_and(|file| known.matches_moved(&file).unwrap_or(false))
        });
        if expected {
            // The old archive goes only when the new one is durable: its name is removed when `replacement` drops.
            return self.finish(replacement.file(), written);
        }
        self.rename(&replacement, RenameFlags::EXCHANGE).map_err(VaultError::io("restore", &self.path))?;
        let came_back = self.open_named(replacement.name()).and_then(|file| Identity::of(&file));
        if !came_back.is_ok_and(|identity| identity.is_same_inode(&written.identity)) {
            // Somebody replaced ours too, within these microseconds: theirs stays, under a name that nobody sweeps away.
            let kept = replacement.keep(&self.name);
            tracing::error!(?kept, "the archive was replaced twice during a commit; one of the files is kept");
        }
        Err(self.taken())
    }

    fn finish(&mut self, file: &File, written: Known) -> Result<(), VaultError> {
        let moved = Identity::of(file).map_err(VaultError::io("read", &self.path))?;
        self.known = Some(written.after_move(&moved));
        rustix::fs::fsync(&self.folder).map_err(VaultError::io("sync the folder of", &self.path))
    }

    /// Looks what lies under the archive's name.
    pub fn presence(&mut self) -> Result<Presence, VaultError> {
        let stat = match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Presence::Gone),
            Err(error) => return Err(VaultError::io("look at", &self.path)(error)),
        };
        let Some(known) = &self.known else { return Ok(Presence::Theirs) };
        if known.identity == Identity::from(&stat) {
            return Ok(Presence::Ours);
        }
        // Touched, copied back or given other rights: what counts is whether it is still the same archive.
        match self.open_named(&self.name).and_then(|file| Known::of(&file)) {
            Ok(found) if found.same_content(known) => {
                self.known = Some(found);
                Ok(Presence::Ours)
            }
            _ => Ok(Presence::Theirs),
        }
    }

    fn open_named(&self, name: &OsStr) -> std::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, name, flags, Mode::empty())?.into())
    }

    fn taken(&self) -> VaultError {
        match self.known {
            Some(_) => VaultError::ChangedElsewhere(self.path.clone()),
            None => VaultError::ArchiveExists(self.path.clone()),
        }
    }
}

fn copy_from(file: &File, offset: u64, aside: &File) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut piece, offset + at)? {
            0 => return aside.sync_all(),
            len => {
                aside.write_all_at(&piece[..len], at)?;
                at += len as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        file: ArchiveFile,
    }

    /// An archive that was read, and a replacement that is written but not in place.
    fn scene() -> (Scene, Replacement, Known) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, vec![1; 200]).unwrap();
        let mut file = ArchiveFile::open(&path).unwrap();
        file.open_for_reading().unwrap();
        let replacement = file.begin_replacement().unwrap();
        replacement.file().write_all(&[2; 300]).unwrap();
        let written = Known::of(replacement.file()).unwrap();
        (Scene { folder, file }, replacement, written)
    }

    impl Scene {
        fn put(&self, content: u8) {
            let beside = self.folder.path().join("beside");
            std::fs::write(&beside, vec![content; 250]).unwrap();
            std::fs::rename(&beside, &self.file.path).unwrap();
        }

        /// The first byte of each file.
        fn files(&self) -> Vec<(String, u8)> {
            let entries = std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap);
            let mut files: Vec<_> = entries
                .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
                .filter_map(|(name, content)| content.first().map(|first| (name, *first)))
                .collect();
            files.sort();
            files
        }
    }

    #[test]
    fn what_came_between_the_look_and_the_exchange_is_put_back() {
        let (mut scene, replacement, written) = scene();
        scene.put(9);
        assert_eq!(scene.file.rename(&replacement, RenameFlags::EXCHANGE), Ok(RenameFlags::EXCHANGE));
        let refused = scene.file.finish_exchange(replacement, written);
        assert!(matches!(refused, Err(VaultError::ChangedElsewhere(_))), "{refused:?}");
        assert_eq!(scene.files(), [("archive".to_owned(), 9)]);
    }

    #[test]
    fn of_two_strangers_both_stay() {
        let (mut scene, replacement, written) = scene();
        scene.put(8);
        assert_eq!(scene.file.rename(&replacement, RenameFlags::EXCHANGE), Ok(RenameFlags::EXCHANGE));
        scene.put(9);
        assert!(scene.file.finish_exchange(replacement, written).is_err());
        let files = scene.files();
        assert_eq!((files.len(), files[0].1, files[1].1), (2, 8, 9), "{files:?}");
        assert!(files[1].0.starts_with("archive.kept-"), "{files:?}");
    }

    #[test]
    fn what_appears_where_nothing_was_is_not_overwritten() {
        let (scene, replacement, _) = scene();
        assert_eq!(scene.file.rename(&replacement, RenameFlags::NOREPLACE), Err(Errno::EXIST));
        let Scene { folder, mut file } = scene;
        file.replace(replacement).unwrap();
        assert_eq!(std::fs::read(folder.path().join("archive")).unwrap(), [2; 300]);
        assert_eq!(file.bytes(), 300);
    }
}
