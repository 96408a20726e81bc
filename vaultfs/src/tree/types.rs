//! The words of the tree's interface.

use crate::entry::Timestamp;

/// An inode number: 1 is the root, none is used twice within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root folder.
    pub const ROOT: Ino = Ino(1);
}

/// Counts changes of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// Who owns an inode within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Whoever runs this process: to them belongs what they unlock.
    pub fn of_this_process() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// Bounds and owner of a tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeOptions {
    /// Owner of all that is loaded.
    pub owner: Owner,
    /// `vault.size` in bytes: growth beyond is `NoSpace`. Counted: sealed content pages, names, targets, xattrs, a fixed cost an inode.
    pub size_limit: u64,
    /// Logical bytes of all files together, holes included; growth beyond is `NoSpace` (else a vault could be made that cannot be opened).
    pub logical_limit: u64,
    /// Entries; more is `NoSpace`.
    pub entry_limit: u64,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeType {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// The name of a Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// All that `stat(2)` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: Ino,
    /// Kind.
    pub node_type: NodeType,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Names of a file; for a folder 2 and its subfolders.
    pub nlink: u32,
    /// Owner.
    pub owner: Owner,
    /// Logical size in bytes.
    pub size: u64,
    /// Allocated bytes.
    pub allocated: u64,
    /// Device number.
    pub rdev: u64,
    /// Last access; only set by hand (the mount works like noatime).
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change.
    pub ctime: Timestamp,
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Position after this entry, stable while the folder changes; never 0, 1 or 2.
    pub cookie: u64,
    /// The inode.
    pub stat: Stat,
}

/// A new inode to be made. Parent set-gid inheritance (group, and the bit for folders) is done by the tree.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Kind with what it needs.
    pub kind: NewKind,
    /// Permission bits with the umask already applied.
    pub mode: u32,
    /// Who makes it.
    pub owner: Owner,
}

/// Kinds that can be made.
#[derive(Clone, Debug)]
pub enum NewKind {
    /// An empty folder.
    Folder,
    /// An empty file.
    File,
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice(u64),
    /// A block device.
    BlockDevice(u64),
}

/// How `rename` treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with `Exists`.
    NoReplace,
    /// Swaps the two; both must exist.
    Exchange,
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present time.
    Now,
    /// A given one.
    At(Timestamp),
}

/// What `setattr` changes; `None` leaves it. ctime always becomes the present time when anything is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncates or extends.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Clears set-uid, and set-gid of group-executable files, as a write or chown by an ordinary user does.
    pub kill_suid_sgid: bool,
}

/// How a write is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// At the end of the file, whatever the offset says (atomic with other appends).
    pub append: bool,
    /// As in [`SetAttributes::kill_suid_sgid`].
    pub kill_suid_sgid: bool,
}

/// What `fallocate` does. Only these are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Extends the file when needed and reserves quota for the range.
    Extend,
    /// The same without changing the size.
    KeepSize,
    /// Frees the range; the size stays.
    PunchHole,
    /// Makes the range read as zeros, extending.
    ZeroRange,
    /// Makes the range read as zeros, size kept.
    ZeroRangeKeepSize,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// The next data.
    Data,
    /// The next hole; the end of the file is one.
    Hole,
}

/// How `setxattr` treats an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Creates or replaces.
    Set,
    /// Fails with `Exists`.
    Create,
    /// Fails with `NoAttribute`.
    Replace,
}

/// How full a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes counted against the limit.
    pub used: u64,
    /// The limit in bytes.
    pub limit: u64,
    /// Inodes with a name, without the root.
    pub entries: u64,
    /// Cap of `entries`.
    pub entry_limit: u64,
}
