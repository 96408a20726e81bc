//! A folder of the disk as the source of a tar: what `tazpod import FOLDER` sends. Knows no archive and no agent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vaultfs::entry::{Attributes, Entry, EntryKind, EntryPath, Timestamp, Xattr};
use vaultfs::format::EntrySource;

/// Walks a folder, folders before what they hold. Mounts below it are walked too; a file that is growing is cut at the size
/// that it had.
pub struct FolderSource {
    /// Still to be looked at, the next one last.
    pending: Vec<(PathBuf, EntryPath)>,
    /// Files with several names: where the first one is.
    linked: HashMap<(u64, u64), EntryPath>,
    file: Option<(File, u64)>,
}

impl FolderSource {
    /// Starts at a folder, or at a single file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(root: &Path) -> io::Result<Self> {
        let mut source = Self { pending: Vec::new(), linked: HashMap::new(), file: None };
        let metadata = std::fs::metadata(root)?;
        if metadata.is_dir() {
            source.push_names(root, &EntryPath::root())?;
        } else {
            let name = root.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            source.pending.push((root.to_owned(), path_below(&EntryPath::root(), name)?));
        }
        Ok(source)
    }

    fn push_names(&mut self, folder: &Path, path: &EntryPath) -> io::Result<()> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| at(folder, &error))? {
            names.push(entry.map_err(|error| at(folder, &error))?.file_name());
        }
        names.sort_unstable_by(|left, right| right.cmp(left));
        for name in names {
            self.pending.push((folder.join(&name), path_below(path, &name)?));
        }
        Ok(())
    }

    fn entry(&mut self, place: &Path, path: EntryPath) -> io::Result<Entry> {
        let metadata = std::fs::symlink_metadata(place)?;
        let file_type = metadata.file_type();
        let key = (metadata.dev(), metadata.ino());
        let kind = if file_type.is_dir() {
            self.push_names(place, &path)?;
            EntryKind::Folder
        } else if let (true, Some(first)) = (metadata.nlink() > 1, self.linked.get(&key)) {
            EntryKind::HardLink { target: first.clone() }
        } else if file_type.is_file() {
            // A file that was replaced by a FIFO meanwhile must not block.
            let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
            let file = File::options().read(true).custom_flags(flags.cast_signed()).open(place)?;
            self.file = Some((file, metadata.size()));
            EntryKind::File { size: metadata.size() }
        } else if file_type.is_symlink() {
            EntryKind::Symlink { target: std::fs::read_link(place)?.into_os_string().into_vec() }
        } else if file_type.is_fifo() {
            EntryKind::Fifo
        } else if file_type.is_socket() {
            EntryKind::Socket
        } else if file_type.is_char_device() {
            EntryKind::CharDevice { rdev: metadata.rdev() }
        } else {
            EntryKind::BlockDevice { rdev: metadata.rdev() }
        };
        if metadata.nlink() > 1 && !file_type.is_dir() {
            self.linked.entry(key).or_insert_with(|| path.clone());
        }
        let time = |secs, nanos| Timestamp { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
        let attributes = Attributes {
            mode: metadata.mode() & 0o7777,
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime: time(metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok(Entry { path, kind, attributes, xattrs: user_xattrs(place) })
    }
}

impl EntrySource for FolderSource {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.file = None;
        let Some((place, path)) = self.pending.pop() else { return Ok(None) };
        self.entry(&place, path).map(Some).map_err(|error| at(&place, &error))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((file, left)) = &mut self.file else { return Ok(0) };
        let wanted = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match file.read(&mut buffer[..wanted])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was read")),
            read => {
                *left -= read as u64;
                Ok(read)
            }
        }
    }
}

fn path_below(folder: &EntryPath, name: &std::ffi::OsStr) -> io::Result<EntryPath> {
    let mut bytes = folder.as_bytes().to_vec();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name.as_bytes());
    EntryPath::parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
}

/// The `user.*` attributes; where the file system has none there are none.
fn user_xattrs(place: &Path) -> Vec<Xattr> {
    let mut names = vec![0; 64 * 1024];
    let len = rustix::fs::llistxattr(place, names.as_mut_slice()).unwrap_or(0);
    let names = names[..len].split(|&byte| byte == 0).filter(|name| name.starts_with(b"user."));
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 * 1024];
        let len = rustix::fs::lgetxattr(place, name, value.as_mut_slice()).ok()?;
        value.truncate(len);
        Some((name.to_vec(), value))
    };
    names.filter_map(value).collect()
}

fn at(place: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", place.display()))
}
