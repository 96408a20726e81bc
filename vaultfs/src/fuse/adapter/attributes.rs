//! Requests about attributes, extended attributes and free space.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{Errno, INodeNo, ReplyXattr, TimeOrNow};

use crate::entry::{NAME_MAX, Timestamp};
use crate::tree::{SetAttributes, SetTime, XattrMode};

use super::call::{Attributes, BLOCK_SIZE, Call};
use crate::fuse::errno;

/// What a `setattr` request asks for.
pub(super) struct AttributeChange {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrNow>,
    pub mtime: Option<TimeOrNow>,
}

/// What `statfs` tells.
pub(super) struct Space {
    pub blocks: u64,
    pub blocks_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub name_max: u32,
}

impl Call<'_> {
    pub(super) fn getattr(&self, nodeid: INodeNo) -> Result<Attributes, Errno> {
        Ok(self.attributes(&self.tree().stat(self.ino(nodeid)).map_err(errno::of_tree)?))
    }

    pub(super) fn setattr(&self, nodeid: INodeNo, change: AttributeChange) -> Result<Attributes, Errno> {
        self.check_writable()?;
        let set = SetAttributes {
            mode: change.mode.map(|mode| mode & 0o7777),
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: change.atime.map(set_time),
            mtime: change.mtime.map(set_time),
            kill_suid_sgid: change.size.is_some() && self.loses_privileges(),
        };
        let stat = self.tree().set_attributes(self.ino(nodeid), &set).map_err(errno::of_tree)?;
        Ok(self.attributes(&stat))
    }

    pub(super) fn readlink(&self, nodeid: INodeNo) -> Result<Vec<u8>, Errno> {
        self.tree().read_link(self.ino(nodeid)).map_err(errno::of_tree)
    }

    pub(super) fn space(&self) -> Space {
        let usage = self.tree().usage();
        let block = u64::from(BLOCK_SIZE);
        Space {
            blocks: usage.limit / block,
            blocks_free: usage.limit.saturating_sub(usage.used) / block,
            inodes: usage.entry_limit,
            inodes_free: usage.entry_limit.saturating_sub(usage.entries),
            name_max: NAME_MAX as u32,
        }
    }

    pub(super) fn getxattr(&self, nodeid: INodeNo, name: &[u8]) -> Result<Vec<u8>, Errno> {
        check_namespace(name)?;
        self.tree().xattr(self.ino(nodeid), name).map_err(errno::of_tree)
    }

    /// The names, each followed by a NUL.
    pub(super) fn listxattr(&self, nodeid: INodeNo) -> Result<Vec<u8>, Errno> {
        let names = self.tree().xattr_names(self.ino(nodeid)).map_err(errno::of_tree)?;
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list)
    }

    pub(super) fn setxattr(&self, nodeid: INodeNo, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        self.check_writable()?;
        check_namespace(name)?;
        let mode = match flags {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Errno::EINVAL),
        };
        self.tree().set_xattr(self.ino(nodeid), name, value, mode).map_err(errno::of_tree)
    }

    pub(super) fn removexattr(&self, nodeid: INodeNo, name: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        check_namespace(name)?;
        self.tree().remove_xattr(self.ino(nodeid), name).map_err(errno::of_tree)
    }
}

/// Answers a request for a value, or for its size when there is no room for any.
pub(super) fn reply_xattr(reply: ReplyXattr, value: &[u8], room: u32) {
    if room == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > room as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

/// Only `user.` is kept: the rest would give privileges or belongs to the system.
fn check_namespace(name: &[u8]) -> Result<(), Errno> {
    if name.starts_with(b"user.") { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// fuser takes seconds and nanoseconds both away from the epoch when the seconds are negative; this undoes it.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp { secs: after.as_secs() as i64, nanos: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            Timestamp { secs: (before.as_secs() as i64).wrapping_neg(), nanos: before.subsec_nanos() }
        }
    }
}
