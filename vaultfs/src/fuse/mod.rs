//! The only folder that imports fuser: serves views of a tree on FUSE descriptors that somebody else mounted.

mod errno;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::tree::{Ino, Tree};
use crate::vault::Committer;

/// What one mount shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The folder that is the mount's root.
    pub root: Ino,
    /// Whether it can be changed.
    pub access: Access,
    /// Entries that are not shown: paths below the view's root (with all they hold).
    pub hidden: Vec<crate::entry::EntryPath>,
}

/// Whether a view can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing.
    ReadWrite,
    /// Reading.
    ReadOnly,
}

/// How all mounts are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Worker threads a mount.
    pub threads: usize,
    /// `commit: strict`: `close` waits for the commit.
    pub strict_close: bool,
    /// Other users may come in (mounted with `allow_other`); for tests as root.
    pub allow_other: bool,
}

/// Names a mount within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u64);

/// All mounts of one tree. Keeps them coherent with each other, and revokes them together.
pub struct Mounts;

impl Mounts {
    /// Starts with no mount.
    pub fn new(tree: Arc<Tree>, committer: Committer, options: ServeOptions) -> Arc<Self> {
        let _ = (tree, committer, options);
        todo!()
    }
    /// Serves a view on a mounted FUSE descriptor until it is unmounted or stopped; returns after the kernel's INIT was answered.
    pub fn serve(self: &Arc<Self>, fuse: OwnedFd, view: View) -> std::io::Result<MountId> {
        let _ = (fuse, view);
        todo!()
    }
    /// Opens refused with EBUSY from here on (lock, step 1), or allowed again.
    pub fn refuse_opens(&self, refuse: bool) {
        let _ = refuse;
        todo!()
    }
    /// Number of open files and folders, by mount.
    pub fn open_handles(&self) -> u64 {
        todo!()
    }
    /// Invalidates every inode that any kernel knows, while still serving: dirty mapped pages come home before it returns.
    /// Never call it from a request handler.
    pub fn invalidate_all(&self) {
        todo!()
    }
    /// The same for one mount, before it is taken away.
    pub fn invalidate(&self, mount: MountId) {
        let _ = mount;
        todo!()
    }
    /// Answers every request with EIO from here on, and waits until the running ones are done (at most `timeout`).
    pub fn stop_answering(&self, timeout: std::time::Duration) -> bool {
        let _ = timeout;
        todo!()
    }
    /// Mounts that are still served (one that the kernel ended drops out by itself).
    pub fn served(&self) -> Vec<MountId> {
        todo!()
    }
}
