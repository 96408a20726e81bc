//! The vocabulary shared by all layers: what a file system entry is, apart from where it is kept.
//! Knows neither archives nor inodes.

mod change;

use std::fmt;

pub use change::{Change, DATA_MAX, InodeKind};

/// The longest name of one entry, in bytes (NAME_MAX of Linux).
pub const NAME_MAX: usize = 255;

/// The longest path within a vault, in bytes (PATH_MAX of Linux).
pub const PATH_MAX: usize = 4096;

/// Further names of files (hard links) that a vault holds for each entry that it may hold: names are cheaper than files.
pub const LINKS_PER_ENTRY: u64 = 8;

/// A moment with nanoseconds, counted from the Unix epoch; negative seconds lie before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub secs: i64,
    /// Nanoseconds past `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// Returns the present time of the system clock.
    pub fn now() -> Self {
        Self::from(std::time::SystemTime::now())
    }

    /// Returns the next moment that a nanosecond clock can tell from this one.
    pub fn successor(self) -> Self {
        if self.nanos >= 999_999_999 {
            Self { secs: self.secs.saturating_add(1), nanos: 0 }
        } else {
            Self { secs: self.secs, nanos: self.nanos + 1 }
        }
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self { secs: after.as_secs() as i64, nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self { secs: -(before.as_secs() as i64), nanos: 0 },
                    nanos => Self { secs: -(before.as_secs() as i64) - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

/// Names an inode for the life of a vault, on every machine: 16 random bytes, all zero for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub [u8; 16]);

impl InodeId {
    /// The root folder of every vault.
    pub const ROOT: InodeId = InodeId([0; 16]);
}

/// What is kept of every entry besides its kind and content. Owners are not: a vault belongs to whoever unlocks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The permission bits with set-uid, set-gid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the content or the attributes.
    pub ctime: Timestamp,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder; its children are entries of their own.
    Folder,
    /// A regular file of `size` bytes.
    File {
        /// Logical size in bytes, holes included.
        size: u64,
    },
    /// A symbolic link; the target is kept byte for byte and never followed.
    Symlink {
        /// The target, 1 to 4,095 bytes.
        target: Vec<u8>,
    },
    /// A further name of a file that came earlier.
    HardLink {
        /// The path of the earlier entry, within the same vault.
        target: EntryPath,
    },
    /// A named pipe.
    Fifo,
    /// The name of a Unix socket.
    Socket,
    /// An inert character device.
    CharDevice {
        /// Device number as in `st_rdev`.
        rdev: u64,
    },
    /// An inert block device.
    BlockDevice {
        /// Device number as in `st_rdev`.
        rdev: u64,
    },
}

/// A name with its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One entry as an archive tells it, without the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Mode and times.
    pub attributes: Attributes,
    /// Extended attributes, in the order of their names.
    pub xattrs: Vec<Xattr>,
}

/// A checked path within a vault: relative, without `.`, `..`, empty names or NUL; bytes, not necessarily UTF-8.
/// The empty path is the root.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Vec<u8>);

/// Why some bytes are no path within a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// A component is `..`.
    #[error("the path leads out of the vault through '..'")]
    Parent,
    /// A byte is NUL.
    #[error("the path holds a NUL byte")]
    Nul,
    /// A component is longer than [`NAME_MAX`].
    #[error("a name is longer than {NAME_MAX} bytes")]
    NameTooLong,
    /// The whole is longer than [`PATH_MAX`].
    #[error("the path is longer than {PATH_MAX} bytes")]
    TooLong,
}

impl EntryPath {
    /// Returns the path of the root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks a path as archives write it: `./` and doubled or trailing slashes are dropped, anything unsafe is refused.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(PathError::Parent),
                _ if component.contains(&0) => return Err(PathError::Nul),
                _ if component.len() > NAME_MAX => return Err(PathError::NameTooLong),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        if path.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self(path))
    }

    /// Returns the path with a name added; the name must be one that [`EntryPath::parse`] would accept.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// Returns the bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// Returns the parent folder's path and the last name, or `None` for the root.
    pub fn split_last(&self) -> Option<(EntryPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0),
        })
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_or_refused() {
        assert_eq!(EntryPath::parse(b"./a//b/").unwrap().as_bytes(), b"a/b");
        assert!(EntryPath::parse(b"./").unwrap().is_root());
        assert_eq!(EntryPath::parse(b"/etc/passwd"), Err(PathError::Absolute));
        assert_eq!(EntryPath::parse(b"a/../../b"), Err(PathError::Parent));
        assert_eq!(EntryPath::parse(b"a\0b"), Err(PathError::Nul));
        assert_eq!(EntryPath::parse(&[b'x'; 256]), Err(PathError::NameTooLong));
        assert_eq!(EntryPath::parse(&b"abcdefg/".repeat(600)), Err(PathError::TooLong));
        assert_eq!(EntryPath::parse(b"\xff\xfe").unwrap().as_bytes(), b"\xff\xfe");
    }

    #[test]
    fn times_before_the_epoch_round_down() {
        let time = std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1);
        assert_eq!(Timestamp::from(time), Timestamp { secs: -1, nanos: 999_999_999 });
        assert_eq!(Timestamp::from(time).successor(), Timestamp { secs: 0, nanos: 0 });
    }
}
