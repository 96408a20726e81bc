//! A request while it is answered: who asks, through which mount, and the tree's words in fuser's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo};
use parking_lot::RwLockReadGuard;

use crate::entry::Timestamp;
use crate::fuse::mount::Mount;
use crate::fuse::{Mounts, caching};
use crate::tree::{Ino, NodeType, Owner, Stat, Tree};

/// Inode numbers are never used twice.
pub(super) const GENERATION: Generation = Generation(0);
/// `st_blksize`, bytes.
pub(super) const BLOCK_SIZE: u32 = 4096;

/// A request that is being answered.
pub(super) struct Call<'a> {
    pub mounts: &'a Arc<Mounts>,
    pub mount: &'a Mount,
    pub serving: RwLockReadGuard<'a, Vec<Arc<Mount>>>,
    pub caller: Owner,
}

/// Attributes for the kernel and how long it may believe them.
pub(super) struct Attributes {
    pub attr: FileAttr,
    pub lifetime: Duration,
}

impl<'a> Call<'a> {
    pub fn tree(&self) -> &'a Tree {
        &self.mounts.tree
    }

    pub fn ino(&self, nodeid: INodeNo) -> Ino {
        self.mount.view.ino(nodeid)
    }

    pub fn check_writable(&self) -> Result<(), Errno> {
        self.mount.view.check_writable()
    }

    pub fn check_opens(&self) -> Result<(), Errno> {
        if self.mounts.refusing_opens.load(Ordering::SeqCst) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    pub fn attributes(&self, stat: &Stat) -> Attributes {
        let lifetime = caching::lifetime(self.tree(), &self.serving, self.mount, stat);
        Attributes { attr: self.file_attr(stat), lifetime }
    }

    pub fn file_attr(&self, stat: &Stat) -> FileAttr {
        FileAttr {
            ino: self.mount.view.nodeid(stat.ino),
            size: stat.size,
            blocks: stat.allocated.div_ceil(512),
            atime: system_time(stat.atime),
            mtime: system_time(stat.mtime),
            ctime: system_time(stat.ctime),
            crtime: UNIX_EPOCH,
            kind: file_type(stat.node_type),
            perm: stat.mode as u16,
            nlink: stat.nlink,
            uid: stat.owner.uid,
            gid: stat.owner.gid,
            rdev: stat.rdev as u32,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }
}

pub(super) fn file_type(node_type: NodeType) -> FileType {
    match node_type {
        NodeType::Folder => FileType::Directory,
        NodeType::File => FileType::RegularFile,
        NodeType::Symlink => FileType::Symlink,
        NodeType::Fifo => FileType::NamedPipe,
        NodeType::Socket => FileType::Socket,
        NodeType::CharDevice => FileType::CharDevice,
        NodeType::BlockDevice => FileType::BlockDevice,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}
