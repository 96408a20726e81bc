//! Stats and times in fuser's words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::entry::Timestamp;
use crate::tree::{NodeType, SetTime, Stat};

/// Turns a stat into what a reply carries.
pub(super) fn file_attr(number: INodeNo, stat: &Stat) -> FileAttr {
    FileAttr {
        ino: number,
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
        // The kernel's 32-bit device number (12 bits major, 20 bits minor) is what makedev gives for numbers in that range.
        rdev: stat.rdev as u32,
        blksize: 4096,
        flags: 0,
    }
}

/// Turns a kind into fuser's.
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

/// Turns a requested time into the tree's.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(Timestamp::from(time)),
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let base = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|base| base.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}
