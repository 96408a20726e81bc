//! The requests of one mount's kernel: each handler enters the gate, calls the core, replies. Names and content are never
//! logged.
//!
//! Locks (flock, POSIX) are not asked for, so the kernel keeps them itself, within one mount. `access` is not answered,
//! since every mount has `default_permissions`.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use zeroize::Zeroize;

use crate::tree::{
    AllocateMode, NewKind, NodeType, SeekTarget, SetAttributes, Stat, TreeError, WriteOptions, XattrMode,
};

use super::attributes::{file_type, set_time};
use super::errno::{of_commit, of_tree};
use super::gate::Running;
use super::mount::{Mount, Reach};
use super::names::Removed;
use super::{CloseMode, Mounts};

/// Inode numbers are never used twice, so one generation serves them all.
const GENERATION: Generation = Generation(0);
/// The largest write request, in bytes. fuser's receive buffers keep what was last written, one a thread: this bounds it.
pub const MAX_WRITE: u32 = 128 * 1024;
/// The unit of `statfs`, in bytes.
const BLOCK: u32 = 4096;

/// Serves one mount.
pub(super) struct Adapter {
    pub mounts: Arc<Mounts>,
    pub mount: Arc<Mount>,
}

thread_local! {
    /// Plaintext on its way to the kernel; wiped after each reply.
    static OUTGOING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Adapter {
    fn enter(&self) -> Result<Running<'_>, Errno> {
        self.mounts.gate.enter().ok_or(Errno::EIO)
    }

    fn check_open(&self) -> Result<(), Errno> {
        if self.mounts.opens_refused.load(Ordering::SeqCst) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    fn reply_entry(&self, stat: Result<Stat, Errno>, reply: ReplyEntry) {
        match stat {
            Ok(stat) => reply.entry(&self.reach(stat.ino).timeout(), &self.attr_of(&stat), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn reply_attr(&self, stat: Result<Stat, Errno>, reply: ReplyAttr) {
        match stat {
            Ok(stat) => reply.attr(&self.reach(stat.ino).timeout(), &self.attr_of(&stat)),
            Err(errno) => reply.error(errno),
        }
    }

    /// Answers once everything up to now is in the archive, from the committer's thread: no worker waits.
    fn reply_durable(&self, reply: ReplyEmpty) {
        self.mounts.committer.commit_then(Box::new(move |outcome| match outcome {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(of_commit(&error)),
        }));
    }

    fn folder_flags(&self, folder: INodeNo) -> FopenFlags {
        match self.reach(self.mount.view.ino(folder)) {
            Reach::Alone => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
            Reach::Shared => FopenFlags::empty(),
        }
    }

    fn open_or_create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        flags: i32,
    ) -> Result<Stat, Errno> {
        self.check_open()?;
        match self.make(request, parent, name, NewKind::File, mode) {
            // Another mount was faster than this kernel's lookup.
            Err(errno) if errno.code() == libc::EEXIST && flags & libc::O_EXCL == 0 => self.find(parent, name),
            outcome => outcome,
        }
    }

    fn set(&self, ino: INodeNo, set: &SetAttributes) -> Result<Stat, Errno> {
        self.check_writable()?;
        self.mounts.tree.set_attributes(self.mount.view.ino(ino), set).map_err(of_tree)
    }

    fn write_data(&self, ino: INodeNo, offset: u64, data: &[u8], write: WriteFlags, open: i32) -> Result<(), Errno> {
        self.check_writable()?;
        let ino = self.mount.view.ino(ino);
        // The kernel of a single mount knows the end of a file itself; of several mounts only the tree does.
        let is_append = open & libc::O_APPEND != 0 && !write.contains(WriteFlags::FUSE_WRITE_CACHE);
        let options = WriteOptions {
            append: is_append && self.reach(ino) == Reach::Shared,
            kill_suid_sgid: write.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        self.mounts.tree.write(ino, offset, data, options).map(drop).map_err(of_tree)
    }
}

/// Gives `Ok(value)` or answers with the error and returns from the handler.
macro_rules! attempt {
    ($reply:ident, $outcome:expr) => {
        match $outcome {
            Ok(value) => value,
            Err(errno) => return $reply.error(errno),
        }
    };
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Never the writeback cache: with two mounts the kernel would own size and mtime. HANDLE_KILLPRIV_V2 saves a getxattr
        // of security.capability before each write.
        let wanted = InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        if let Err(missing) = config.add_capabilities(wanted) {
            tracing::info!(?missing, "the kernel lacks FUSE capabilities");
            // What is left of them is asked for one by one.
            wanted.iter().filter(|flag| !missing.contains(*flag)).for_each(|flag| {
                config.add_capabilities(flag).expect("the kernel said that it has it");
            });
        }
        config.set_max_write(MAX_WRITE).map_err(|_| io::Error::other("the kernel refused the size of writes"))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _running = attempt!(reply, self.enter());
        self.reply_entry(self.find(parent, name), reply);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.mount.lookups.forget(&self.mounts.tree, self.mount.view.ino(ino), count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let _running = attempt!(reply, self.enter());
        self.reply_attr(self.mounts.tree.stat(self.mount.view.ino(ino)).map_err(of_tree), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
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
        let _running = attempt!(reply, self.enter());
        let set = SetAttributes {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            // fuser does not pass FATTR_KILL_SUIDGID on; the kernel sets it for who lacks CAP_FSETID, as only root has it.
            kill_suid_sgid: size.is_some() && request.uid() != 0,
        };
        self.reply_attr(self.set(ino, &set), reply);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let _running = attempt!(reply, self.enter());
        let target = attempt!(reply, self.mounts.tree.read_link(self.mount.view.ino(ino)).map_err(of_tree));
        reply.data(&target);
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
        let _running = attempt!(reply, self.enter());
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => NewKind::File,
            libc::S_IFIFO => NewKind::Fifo,
            libc::S_IFSOCK => NewKind::Socket,
            libc::S_IFCHR => NewKind::CharDevice(u64::from(rdev)),
            libc::S_IFBLK => NewKind::BlockDevice(u64::from(rdev)),
            _ => return reply.error(Errno::EINVAL),
        };
        self.reply_entry(self.make(request, parent, name, kind, mode), reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let _running = attempt!(reply, self.enter());
        self.reply_entry(self.make(request, parent, name, NewKind::Folder, mode), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _running = attempt!(reply, self.enter());
        let kind = NewKind::Symlink(target.as_os_str().as_bytes().to_vec());
        self.reply_entry(self.make(request, parent, name, kind, 0o777), reply);
    }

    fn link(&self, _request: &Request, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        let _running = attempt!(reply, self.enter());
        self.reply_entry(Adapter::link(self, ino, new_parent, new_name), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.remove(parent, name, Removed::Name));
        reply.ok();
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.remove(parent, name, Removed::Folder));
        reply.ok();
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, Adapter::rename(self, (parent, name), (new_parent, new_name), flags));
        reply.ok();
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_open());
        self.mount.opened();
        // What other mounts change shows in mtime and size, by which AUTO_INVAL_DATA drops the cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
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
        let _running = attempt!(reply, self.enter());
        let stat = attempt!(reply, self.open_or_create(request, parent, name, mode, flags));
        self.mount.opened();
        let timeout = self.reach(stat.ino).timeout();
        reply.created(&timeout, &self.attr_of(&stat), GENERATION, FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _running = attempt!(reply, self.enter());
        OUTGOING.with_borrow_mut(|buffer| {
            buffer.resize(buffer.len().max(size as usize), 0);
            let out = &mut buffer[..size as usize];
            match self.mounts.tree.read(self.mount.view.ino(ino), offset, out) {
                Ok(filled) => reply.data(&out[..filled]),
                Err(error) => reply.error(of_tree(error)),
            }
            out.zeroize();
        });
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.write_data(ino, offset, data, write_flags, flags.0));
        reply.written(data.len() as u32);
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        match self.mounts.options.close {
            CloseMode::Strict => self.reply_durable(reply),
            // The kernel takes it as success and asks no more.
            CloseMode::Relaxed => reply.error(Errno::ENOSYS),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.mount.released();
        if flags.0 & libc::O_ACCMODE != libc::O_RDONLY {
            self.mounts.committer.commit_soon();
        }
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        self.reply_durable(reply);
    }

    fn fsyncdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        self.reply_durable(reply);
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_open());
        self.mount.opened();
        reply.opened(FileHandle(0), self.folder_flags(ino));
    }

    fn releasedir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.mount.released();
        reply.ok();
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _running = attempt!(reply, self.enter());
        let folder = file_type(NodeType::Folder);
        if offset < 1 && reply.add(ino, 1, folder, ".")
            || offset < 2 && reply.add(self.parent_number(ino), 2, folder, "..")
        {
            return reply.ok();
        }
        for entry in attempt!(reply, self.list(ino, offset)) {
            let number = self.mount.view.number(entry.stat.ino);
            if reply.add(number, entry.cookie, file_type(entry.stat.node_type), OsStr::from_bytes(&entry.name)) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _running = attempt!(reply, self.enter());
        let own = attempt!(reply, self.mounts.tree.stat(self.mount.view.ino(ino)).map_err(of_tree));
        let (attr, timeout) = (self.attr_of(&own), self.reach(own.ino).timeout());
        // The kernel counts no lookups for these two.
        if offset < 1 && reply.add(ino, 1, ".", &timeout, &attr, GENERATION)
            || offset < 2 && reply.add(self.parent_number(ino), 2, "..", &timeout, &attr, GENERATION)
        {
            return reply.ok();
        }
        for entry in attempt!(reply, self.list(ino, offset)) {
            // Removed since it was listed.
            let Ok(()) = self.remember(&entry.stat) else { continue };
            let timeout = self.reach(entry.stat.ino).timeout();
            let attr = self.attr_of(&entry.stat);
            if reply.add(attr.ino, entry.cookie, OsStr::from_bytes(&entry.name), &timeout, &attr, GENERATION) {
                self.mount.lookups.forget(&self.mounts.tree, entry.stat.ino, 1);
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let _running = attempt!(reply, self.enter());
        let usage = self.mounts.tree.usage();
        let blocks = usage.limit / u64::from(BLOCK);
        let free = usage.limit.saturating_sub(usage.used) / u64::from(BLOCK);
        let free_entries = usage.entry_limit.saturating_sub(usage.entries);
        reply.statfs(blocks, free, free, usage.entry_limit, free_entries, BLOCK, crate::entry::NAME_MAX as u32, BLOCK);
    }

    fn setxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_writable());
        let mode = match flags {
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => XattrMode::Set,
        };
        let ino = self.mount.view.ino(ino);
        attempt!(reply, self.mounts.tree.set_xattr(ino, name.as_bytes(), value, mode).map_err(of_tree));
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _running = attempt!(reply, self.enter());
        let value = self.mounts.tree.xattr(self.mount.view.ino(ino), name.as_bytes());
        let value = attempt!(reply, value.map_err(of_tree));
        reply_sized(&value, size, reply);
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let _running = attempt!(reply, self.enter());
        let names = attempt!(reply, self.mounts.tree.xattr_names(self.mount.view.ino(ino)).map_err(of_tree));
        let list: Vec<u8> = names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect();
        reply_sized(&list, size, reply);
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_writable());
        let removed = self.mounts.tree.remove_xattr(self.mount.view.ino(ino), name.as_bytes());
        attempt!(reply, removed.map_err(of_tree));
        reply.ok();
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_writable());
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let mode = match mode {
            0 => AllocateMode::Extend,
            libc::FALLOC_FL_KEEP_SIZE => AllocateMode::KeepSize,
            PUNCH => AllocateMode::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => AllocateMode::ZeroRange,
            ZERO_KEEP => AllocateMode::ZeroRangeKeepSize,
            _ => return reply.error(of_tree(TreeError::NotSupported)),
        };
        attempt!(reply, self.mounts.tree.allocate(self.mount.view.ino(ino), offset, length, mode).map_err(of_tree));
        reply.ok();
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _running = attempt!(reply, self.enter());
        let target = match whence {
            libc::SEEK_DATA => SeekTarget::Data,
            libc::SEEK_HOLE => SeekTarget::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let offset = attempt!(reply, u64::try_from(offset).map_err(|_| Errno::ENXIO));
        let found = self.mounts.tree.seek(self.mount.view.ino(ino), offset, target);
        let found = attempt!(reply, found.map_err(of_tree));
        reply.offset(found as i64);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _running = attempt!(reply, self.enter());
        attempt!(reply, self.check_writable());
        let view = &self.mount.view;
        let length = length.min(1 << 30);
        let copied = self.mounts.tree.copy_range(view.ino(from), from_offset, view.ino(to), to_offset, length);
        let copied = attempt!(reply, copied.map_err(of_tree));
        reply.written(copied as u32);
    }
}

/// Answers with a value, or with its length where the caller has no room for any.
fn reply_sized(value: &[u8], room: u32, reply: ReplyXattr) {
    match room as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
