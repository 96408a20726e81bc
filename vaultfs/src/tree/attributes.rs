//! Attributes and size.

use crate::entry::Timestamp;

use super::inode::{Inode, Node};
use super::{Ino, SetAttributes, SetTime, Stat, Tree, TreeError};

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;

impl Tree {
    /// Changes attributes, all in one step after the size. Permissions are the kernel's business.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]; for a size also [`TreeError::IsFolder`], [`TreeError::Invalid`],
    /// [`TreeError::FileTooLarge`], [`TreeError::NoSpace`].
    pub fn set_attributes(&self, ino: Ino, set: &SetAttributes) -> Result<Stat, TreeError> {
        if let Some(size) = set.size {
            self.resize(ino, size)?;
        }
        self.change(|state| {
            let now = state.stamp();
            let inode = state.inode_mut(ino)?;
            apply(inode, set, now);
            Ok(state.inode(ino)?.stat(ino))
        })
    }
}

fn apply(inode: &mut Inode, set: &SetAttributes, now: Timestamp) {
    let owner_changes = set.uid.is_some() || set.gid.is_some();
    if set.kill_suid_sgid || (owner_changes && !matches!(inode.node, Node::Folder(_))) {
        kill_suid_sgid(inode);
    }
    if let Some(mode) = set.mode {
        inode.mode = mode & 0o7777;
    }
    inode.owner.uid = set.uid.unwrap_or(inode.owner.uid);
    inode.owner.gid = set.gid.unwrap_or(inode.owner.gid);
    let time = |set: SetTime| match set {
        SetTime::Now => now,
        SetTime::At(time) => time,
    };
    inode.atime = set.atime.map_or(inode.atime, time);
    inode.mtime = set.mtime.map_or(inode.mtime, time);
    inode.ctime = now;
}

/// Clears set-uid, and set-gid where the group may execute (elsewhere the bit meant mandatory locking), as Linux does.
pub(super) fn kill_suid_sgid(inode: &mut Inode) {
    inode.mode &= !S_ISUID;
    if inode.mode & S_IXGRP != 0 {
        inode.mode &= !S_ISGID;
    }
}
