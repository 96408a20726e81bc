//! The difference between two states of a tree, piece by piece. Shared by the tree, which finds and applies it, and the format,
//! which writes and reads it.

use super::{Attributes, InodeId};

/// What an inode is, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InodeKind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Logical size in bytes, holes included.
        size: u64,
    },
    /// A symbolic link; its target follows.
    Symlink,
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

/// The most bytes that one [`Change::Data`] holds.
pub const DATA_MAX: usize = 64 * 1024;

/// One piece of a difference. They come in this order: inodes, each with what belongs to it (target, holes, data, attributes);
/// all unlinks; all links; all drops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A new inode, or the present state of one that was there (of the same kind). What belongs to it follows.
    Inode {
        /// Which.
        id: InodeId,
        /// What it is.
        kind: InodeKind,
        /// Mode and times.
        attributes: Attributes,
    },
    /// Where a new symbolic link leads.
    Target(&'a [u8]),
    /// A range of the file holds zeros.
    Hole {
        /// First byte.
        offset: u64,
        /// Number of bytes, not 0.
        length: u64,
    },
    /// Bytes of the file, 1 to [`DATA_MAX`].
    Data {
        /// First byte.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// An extended attribute is there with this value.
    SetXattr {
        /// Name with its namespace.
        name: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// An extended attribute is gone.
    RemoveXattr(&'a [u8]),
    /// A name is gone.
    Unlink {
        /// The folder.
        parent: InodeId,
        /// The name.
        name: &'a [u8],
    },
    /// A name is there.
    Link {
        /// The folder.
        parent: InodeId,
        /// What it leads to.
        id: InodeId,
        /// The name.
        name: &'a [u8],
    },
    /// An inode is gone; it has no name any more.
    Drop(InodeId),
}
