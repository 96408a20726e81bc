//! Messages to the kernel's cache, written to the FUSE descriptor as `linux/fuse.h` lays them out. fuser's own notifier
//! cannot expire an entry; it drops it, which takes the path from programs whose working folder it is.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
/// Since Linux 6.18.
const NOTIFY_PRUNE: i32 = 9;
/// The entry is looked up again when it is next used, instead of being dropped. Kernels before 6.2 drop it.
const EXPIRE_ONLY: u32 = 1;
/// `struct fuse_out_header`, in bytes.
const HEADER_LEN: usize = 16;
/// Inodes in one message.
const PRUNE_MAX: usize = 1024;

/// Writes notifications. All but [`KernelNotifier::drop_unused`] may wait until requests that are under way are answered.
pub(super) struct KernelNotifier(OwnedFd);

impl KernelNotifier {
    pub fn new(fuse: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fuse.try_clone_to_owned()?))
    }

    /// Drops attributes and pages of an inode; dirty pages are written back first.
    pub fn invalidate_inode(&self, nodeid: u64) -> io::Result<()> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&nodeid.to_ne_bytes());
        body.extend_from_slice(&[0; 16]); // offset 0, length 0: all of it
        self.send(NOTIFY_INVAL_INODE, &body)
    }

    /// Has an entry looked up again before it is next used.
    pub fn expire_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        self.invalidate_entry(parent, name, EXPIRE_ONLY)
    }

    /// Drops an entry, and its inode as soon as nobody uses it.
    pub fn drop_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        self.invalidate_entry(parent, name, 0)
    }

    /// Drops those inodes that nobody uses, with all their entries.
    ///
    /// # Errors
    /// `InvalidInput`: the kernel is older than 6.18. Else the mount is gone.
    pub fn drop_unused(&self, nodeids: &[u64]) -> io::Result<()> {
        for nodeids in nodeids.chunks(PRUNE_MAX) {
            let mut body = Vec::with_capacity(16 + 8 * nodeids.len());
            body.extend_from_slice(&(nodeids.len() as u32).to_ne_bytes());
            body.extend_from_slice(&[0; 12]); // padding and spare
            nodeids.iter().for_each(|nodeid| body.extend_from_slice(&nodeid.to_ne_bytes()));
            self.send(NOTIFY_PRUNE, &body)?;
        }
        Ok(())
    }

    fn invalidate_entry(&self, parent: u64, name: &[u8], flags: u32) -> io::Result<()> {
        let name_len = u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut body = Vec::with_capacity(17 + name.len());
        body.extend_from_slice(&parent.to_ne_bytes());
        body.extend_from_slice(&name_len.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(name);
        body.push(0);
        self.send(NOTIFY_INVAL_ENTRY, &body)
    }

    fn send(&self, code: i32, body: &[u8]) -> io::Result<()> {
        let len = HEADER_LEN + body.len();
        let mut message = Vec::with_capacity(len);
        message.extend_from_slice(&(len as u32).to_ne_bytes());
        message.extend_from_slice(&code.to_ne_bytes());
        message.extend_from_slice(&0_u64.to_ne_bytes()); // no request: a notification
        message.extend_from_slice(body);
        match rustix::io::write(&self.0, &message) {
            Ok(_) => Ok(()),
            // The kernel has dropped it already.
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
