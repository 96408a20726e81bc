//! How an archive file is known again: by what the system says of it, and by its first and last bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes compared at the start. In v1 these hold the salt and the nonce, drawn anew for each archive.
const HEAD: u64 = 64;
/// Bytes compared at the end. In v1 these are the tag, which depends on every byte and on the key.
const TAIL: u64 = 16;

/// What stat(2) tells of a file that changes when the file is changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Identity {
    pub fn of(file: &File) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self::from(&stat))
    }

    pub fn is_same_inode(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn is_same_but_ctime(&self, other: &Self) -> bool {
        self.is_same_inode(other) && (self.length, self.mtime) == (other.length, other.mtime)
    }
}

impl From<&rustix::fs::Stat> for Identity {
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            length: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }
}

/// A file as it was last read or written.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub identity: Identity,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Known {
    pub fn of(file: &File) -> io::Result<Self> {
        let identity = Identity::of(file)?;
        let mut head = vec![0; identity.length.min(HEAD) as usize];
        let mut tail = vec![0; identity.length.min(TAIL) as usize];
        file.read_exact_at(&mut head, 0)?;
        let tail_offset = identity.length - tail.len() as u64;
        file.read_exact_at(&mut tail, tail_offset)?;
        Ok(Self { identity, head, tail })
    }

    pub fn bytes(&self) -> u64 {
        self.identity.length
    }

    /// Whether two files are the same archive, wherever they lie. Damage in the middle is not noticed; a file that
    /// somebody meant to write is.
    pub fn same_content(&self, other: &Self) -> bool {
        self.identity.length == other.identity.length && self.head == other.head && self.tail == other.tail
    }

    /// Whether `file` is this one after a rename, or has its content.
    pub fn matches_moved(&self, file: &File) -> io::Result<bool> {
        let found = Self::of(file)?;
        Ok(self.identity.is_same_but_ctime(&found.identity) || self.same_content(&found))
    }

    /// Takes over the ctime that a rename gave the file, and nothing that somebody else may have done since.
    pub fn after_move(mut self, moved: &Identity) -> Self {
        self.identity.ctime = moved.ctime;
        self
    }
}
