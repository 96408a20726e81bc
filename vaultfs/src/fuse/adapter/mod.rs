//! FUSE requests: each is logged without names or content, handed to the core functions beside this file, and answered
//! while the list of mounts is held for reading.

mod attributes;
mod call;
mod files;
mod folders;
mod names;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::tree::Owner;

use super::mount::Mount;
use super::{Mounts, session};

use attributes::AttributeChange;
use call::{BLOCK_SIZE, Call, GENERATION};

/// Serves one mount.
pub(super) struct Adapter {
    mounts: Arc<Mounts>,
    mount: Arc<Mount>,
}

impl Adapter {
    pub fn new(mounts: Arc<Mounts>, mount: Arc<Mount>) -> Self {
        Self { mounts, mount }
    }

    fn begin(&self, request: &Request) -> Result<Call<'_>, Errno> {
        self.mounts.requests.count(request.pid());
        let serving = self.mounts.serving.read();
        // Looked at with the list held: whoever stopped the answers waits for those that did not see it.
        if self.mounts.stopped.load(Ordering::SeqCst) {
            return Err(Errno::EIO);
        }
        let caller = Owner { uid: request.uid(), gid: request.gid() };
        Ok(Call { mounts: &self.mounts, mount: &self.mount, serving, caller })
    }
}

/// Answers a request with what its core function returns, holding the call until the answer is sent.
macro_rules! answer {
    ($self:ident, $request:ident, $operation:literal, $reply:ident, |$call:ident| $core:expr, |$value:pat_param| $send:expr) => {{
        tracing::trace!(operation = $operation);
        match $self.begin($request) {
            Err(errno) => $reply.error(errno),
            Ok($call) => match $core {
                Ok($value) => $send,
                Err(errno) => $reply.error(errno),
            },
        }
    }};
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        session::negotiate(config);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self, request, "lookup", reply, |call| call.lookup(parent, name.as_bytes()), |found| {
            reply.entry(&found.lifetime, &found.attr, GENERATION)
        });
    }

    fn forget(&self, _request: &Request, nodeid: INodeNo, lookups: u64) {
        tracing::trace!(operation = "forget");
        self.mount.lookups.forget(&self.mounts.tree, self.mount.view.ino(nodeid), lookups);
    }

    fn getattr(&self, request: &Request, nodeid: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(self, request, "getattr", reply, |call| call.getattr(nodeid), |found| {
            reply.attr(&found.lifetime, &found.attr)
        });
    }

    fn setattr(
        &self,
        request: &Request,
        nodeid: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttributeChange { mode, uid, gid, size, atime, mtime };
        answer!(self, request, "setattr", reply, |call| call.setattr(nodeid, change), |changed| {
            reply.attr(&changed.lifetime, &changed.attr)
        });
    }

    fn readlink(&self, request: &Request, nodeid: INodeNo, reply: ReplyData) {
        answer!(self, request, "readlink", reply, |call| call.readlink(nodeid), |target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        answer!(self, request, "mknod", reply, |call| call.mknod(parent, name.as_bytes(), mode, rdev), |made| {
            reply.entry(&made.lifetime, &made.attr, GENERATION)
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        answer!(self, request, "mkdir", reply, |call| call.mkdir(parent, name.as_bytes(), mode), |made| {
            reply.entry(&made.lifetime, &made.attr, GENERATION)
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, request, "unlink", reply, |call| call.unlink(parent, name.as_bytes()), |()| reply.ok());
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, request, "rmdir", reply, |call| call.rmdir(parent, name.as_bytes()), |()| reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        answer!(self, request, "symlink", reply, |call| call.symlink(parent, name.as_bytes(), target), |made| {
            reply.entry(&made.lifetime, &made.attr, GENERATION)
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent, name.as_bytes()), (new_parent, new_name.as_bytes()));
        answer!(self, request, "rename", reply, |call| call.rename(from, to, flags), |()| reply.ok());
    }

    fn link(&self, request: &Request, nodeid: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self, request, "link", reply, |call| call.link(nodeid, parent, name.as_bytes()), |linked| {
            reply.entry(&linked.lifetime, &linked.attr, GENERATION)
        });
    }

    fn open(&self, request: &Request, nodeid: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(self, request, "open", reply, |call| call.open(nodeid, flags), |opened| {
            reply.opened(opened.handle, opened.flags)
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OpenFlags(flags);
        answer!(self, request, "create", reply, |call| call.create(parent, name.as_bytes(), mode, flags), |made| {
            let (made, opened) = made;
            reply.created(&made.lifetime, &made.attr, GENERATION, opened.handle, opened.flags)
        });
    }

    fn read(
        &self,
        request: &Request,
        nodeid: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        tracing::trace!(operation = "read");
        match self.begin(request) {
            Err(errno) => reply.error(errno),
            Ok(call) => call.read(nodeid, offset, size, reply),
        }
    }

    fn write(
        &self,
        request: &Request,
        nodeid: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        tracing::trace!(operation = "write");
        let call = match self.begin(request) {
            Err(errno) => return reply.error(errno),
            Ok(call) => call,
        };
        // It is answered before the last of it is done.
        let mut reply = Some(reply);
        let answer = || {
            if let Some(reply) = reply.take() {
                reply.written(data.len() as u32);
            }
        };
        let written = call.write(nodeid, offset, data, write_flags, flags, answer);
        if let (Err(errno), Some(reply)) = (written, reply) {
            reply.error(errno);
        }
    }

    fn flush(&self, request: &Request, _nodeid: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        tracing::trace!(operation = "flush");
        match self.begin(request) {
            Err(errno) => reply.error(errno),
            Ok(call) => call.flush(handle, reply),
        }
    }

    fn release(
        &self,
        _request: &Request,
        nodeid: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        tracing::trace!(operation = "release");
        self.release_handle(nodeid, handle);
        reply.ok();
    }

    fn fsync(&self, request: &Request, _nodeid: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        tracing::trace!(operation = "fsync");
        match self.begin(request) {
            Err(errno) => reply.error(errno),
            Ok(call) => call.commit(reply),
        }
    }

    fn opendir(&self, request: &Request, nodeid: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        answer!(self, request, "opendir", reply, |call| call.opendir(nodeid), |opened| {
            reply.opened(opened.handle, opened.flags)
        });
    }

    fn readdir(&self, request: &Request, nodeid: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        answer!(self, request, "readdir", reply, |call| call.readdir(nodeid, offset, &mut reply), |()| reply.ok());
    }

    fn readdirplus(
        &self,
        request: &Request,
        nodeid: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        answer!(self, request, "readdirplus", reply, |call| call.readdirplus(nodeid, offset, &mut reply), |()| {
            reply.ok()
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _nodeid: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        tracing::trace!(operation = "releasedir");
        self.mount.count_release();
        reply.ok();
    }

    fn fsyncdir(&self, request: &Request, nodeid: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.fsync(request, nodeid, handle, data_only, reply);
    }

    fn statfs(&self, request: &Request, _nodeid: INodeNo, reply: ReplyStatfs) {
        answer!(self, request, "statfs", reply, |call| Ok::<_, Errno>(call.space()), |space| {
            let (blocks, free) = (space.blocks, space.blocks_free);
            reply.statfs(blocks, free, free, space.inodes, space.inodes_free, BLOCK_SIZE, space.name_max, BLOCK_SIZE)
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        nodeid: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        answer!(self, request, "setxattr", reply, |call| call.setxattr(nodeid, name.as_bytes(), value, flags), |()| {
            reply.ok()
        });
    }

    fn getxattr(&self, request: &Request, nodeid: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(self, request, "getxattr", reply, |call| call.getxattr(nodeid, name.as_bytes()), |value| {
            attributes::reply_xattr(reply, &value, size)
        });
    }

    fn listxattr(&self, request: &Request, nodeid: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(self, request, "listxattr", reply, |call| call.listxattr(nodeid), |names| {
            attributes::reply_xattr(reply, &names, size)
        });
    }

    fn removexattr(&self, request: &Request, nodeid: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, request, "removexattr", reply, |call| call.removexattr(nodeid, name.as_bytes()), |()| {
            reply.ok()
        });
    }

    fn access(&self, _request: &Request, _nodeid: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself (default_permissions).
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _nodeid: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _nodeid: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel then takes files as always ready, and asks no more.
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        request: &Request,
        nodeid: INodeNo,
        _handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer!(self, request, "fallocate", reply, |call| call.fallocate(nodeid, offset, len, mode), |()| reply.ok());
    }

    fn lseek(
        &self,
        request: &Request,
        nodeid: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        answer!(self, request, "lseek", reply, |call| call.lseek(nodeid, offset, whence), |at| reply.offset(at));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((from, from_offset), (to, to_offset));
        answer!(self, request, "copy_file_range", reply, |call| call.copy_range(from, to, len, flags), |copied| {
            reply.written(copied)
        });
    }
}
