//! Requests about open files and their content.

use std::cell::RefCell;

use fuser::{
    CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, OpenAccMode, OpenFlags, ReplyData, ReplyEmpty,
    WriteFlags,
};
use zeroize::Zeroize;

use crate::tree::{AllocateMode, Ino, NewKind, NodeType, SeekTarget, SetAttributes, WriteOptions};

use super::Adapter;
use super::call::{Attributes, Call};
use crate::fuse::{CloseMode, errno};

/// Handles tell only what a file was opened for; everything else hangs on the inode.
const READ_HANDLE: FileHandle = FileHandle(0);
const WRITE_HANDLE: FileHandle = FileHandle(1);
const RUN_HANDLE: FileHandle = FileHandle(2);

/// The kernel's flag of an open by execve(2) (`FMODE_EXEC` in include/linux/fs.h).
const OPEN_TO_RUN: i32 = 0x20;

/// Bytes that one `copy_file_range` request copies, so that it does not keep a worker for long.
const COPY_MAX: u64 = 16 << 20;

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;

/// What the kernel is told of an opened file or folder.
pub(super) struct Opened {
    pub handle: FileHandle,
    pub flags: FopenFlags,
}

thread_local! {
    /// Content on its way to the kernel, wiped after each answer. Kept, since fresh pages would cost more than the copy.
    static OUTGOING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Adapter {
    /// Ends a handle; after writing, a commit is due soon.
    pub(super) fn release_handle(&self, nodeid: INodeNo, handle: FileHandle) {
        self.mount.count_release();
        match handle {
            WRITE_HANDLE => self.mounts.committer.commit_soon(),
            RUN_HANDLE => self.mount.count_end(self.mount.view.ino(nodeid)),
            _ => {}
        }
    }
}

impl Call<'_> {
    pub(super) fn open(&self, nodeid: INodeNo, flags: OpenFlags) -> Result<Opened, Errno> {
        self.check_opens()?;
        let ino = self.ino(nodeid);
        let stat = self.tree().stat(ino).map_err(errno::of_tree)?;
        if stat.node_type != NodeType::File {
            return Err(Errno::EINVAL);
        }
        let truncates = flags.0 & libc::O_TRUNC != 0;
        if truncates || flags.acc_mode() != OpenAccMode::O_RDONLY {
            self.check_writable()?;
        }
        if truncates {
            self.check_not_running(ino, flags)?;
            let kill_suid_sgid = self.loses_privileges();
            let set = SetAttributes { size: Some(0), kill_suid_sgid, ..SetAttributes::default() };
            self.tree().set_attributes(ino, &set).map_err(errno::of_tree)?;
        }
        Ok(self.opened(ino, flags))
    }

    /// A running program is not truncated. The kernel sees to it where a file is opened for writing; where it is opened for
    /// reading, it looks only after our answer, when the content would be gone.
    fn check_not_running(&self, ino: Ino, flags: OpenFlags) -> Result<(), Errno> {
        let unseen = flags.acc_mode() == OpenAccMode::O_RDONLY;
        if unseen && self.mount.is_running(ino) { Err(Errno::ETXTBSY) } else { Ok(()) }
    }

    pub(super) fn create(
        &self,
        parent: INodeNo,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Attributes, Opened), Errno> {
        self.check_opens()?;
        let made = self.make(parent, name, NewKind::File, mode).map_err(|errno| {
            // Made through another mount meanwhile: the kernel looks again, and opens it with its permissions checked.
            let may_exist = flags.0 & libc::O_EXCL == 0;
            if errno == Errno::EEXIST && may_exist { Errno::ESTALE } else { errno }
        })?;
        let attributes = self.introduce(&made)?;
        Ok((attributes, self.opened(made.ino, flags)))
    }

    fn opened(&self, ino: Ino, flags: OpenFlags) -> Opened {
        self.mount.count_open();
        let handle = match flags.acc_mode() {
            OpenAccMode::O_RDONLY if flags.0 & OPEN_TO_RUN != 0 => {
                self.mount.count_start(ino);
                RUN_HANDLE
            }
            OpenAccMode::O_RDONLY => READ_HANDLE,
            _ => WRITE_HANDLE,
        };
        // The kernel drops its pages by itself when it is told another mtime or size (AUTO_INVAL_DATA).
        Opened { handle, flags: FopenFlags::FOPEN_KEEP_CACHE }
    }

    pub(super) fn read(&self, nodeid: INodeNo, offset: u64, size: u32, reply: ReplyData) {
        let size = size as usize;
        OUTGOING.with_borrow_mut(|buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let out = &mut buffer[..size];
            match self.tree().read(self.ino(nodeid), offset, out) {
                Ok(len) => reply.data(&out[..len]),
                Err(error) => reply.error(errno::of_tree(error)),
            }
            out.zeroize();
        });
    }

    pub(super) fn write(
        &self,
        nodeid: INodeNo,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        answer: impl FnOnce(),
    ) -> Result<(), Errno> {
        self.check_writable()?;
        // Pages of a shared mapping have their place, whatever the flags of the handle that the kernel picked.
        let from_mapping = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let options = WriteOptions {
            append: !from_mapping && flags.0 & libc::O_APPEND != 0,
            kill_suid_sgid: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        self.tree().write_answering(self.ino(nodeid), offset, data, options, answer).map_err(errno::of_tree)
    }

    /// `close`: waits for the commit where that was asked for, else tells the kernel once that it need not ask.
    pub(super) fn flush(&self, handle: FileHandle, reply: ReplyEmpty) {
        match self.mounts.options.close {
            CloseMode::Relaxed => reply.error(Errno::ENOSYS),
            CloseMode::Strict if handle == WRITE_HANDLE => self.commit(reply),
            CloseMode::Strict => reply.ok(),
        }
    }

    /// `fsync`: answers from the committer's thread, so that no worker waits.
    pub(super) fn commit(&self, reply: ReplyEmpty) {
        self.mounts.committer.commit_then(Box::new(move |outcome| match outcome {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno::of_commit(&error)),
        }));
    }

    pub(super) fn fallocate(&self, nodeid: INodeNo, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        self.check_writable()?;
        let (ino, mode) = (self.ino(nodeid), allocate_mode(mode)?);
        self.tree().allocate(ino, offset, len, mode).map_err(errno::of_tree)?;
        self.drop_privileges(ino)
    }

    pub(super) fn lseek(&self, nodeid: INodeNo, offset: i64, whence: i32) -> Result<i64, Errno> {
        let target = match whence {
            libc::SEEK_DATA => SeekTarget::Data,
            libc::SEEK_HOLE => SeekTarget::Hole,
            _ => return Err(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = self.tree().seek(self.ino(nodeid), offset, target).map_err(errno::of_tree)?;
        i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    }

    pub(super) fn copy_range(
        &self,
        (from, from_offset): (INodeNo, u64),
        (to, to_offset): (INodeNo, u64),
        len: u64,
        flags: CopyFileRangeFlags,
    ) -> Result<u32, Errno> {
        self.check_writable()?;
        if !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (self.ino(from), self.ino(to));
        let copied = self.tree().copy_range(from, from_offset, to, to_offset, len.min(COPY_MAX));
        let copied = copied.map_err(errno::of_tree)?;
        self.drop_privileges(to)?;
        Ok(copied as u32)
    }

    /// Whether a change of content by the caller takes set-uid and set-gid away. The kernel says so for writes only; for
    /// the rest, root is taken to hold CAP_FSETID and nobody else.
    pub(super) fn loses_privileges(&self) -> bool {
        self.caller.uid != 0
    }

    /// Takes set-uid and set-gid away after a change that could not do so itself.
    fn drop_privileges(&self, ino: Ino) -> Result<(), Errno> {
        let stat = self.tree().stat(ino).map_err(errno::of_tree)?;
        if !self.loses_privileges() || stat.mode & (S_ISUID | S_ISGID) == 0 {
            return Ok(());
        }
        let set = SetAttributes { kill_suid_sgid: true, ..SetAttributes::default() };
        self.tree().set_attributes(ino, &set).map(drop).map_err(errno::of_tree)
    }
}

fn allocate_mode(mode: i32) -> Result<AllocateMode, Errno> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(AllocateMode::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Ok(AllocateMode::KeepSize),
        PUNCH => Ok(AllocateMode::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(AllocateMode::ZeroRange),
        ZERO_KEEP => Ok(AllocateMode::ZeroRangeKeepSize),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
