//! The file system in memory: inodes, folders, sealed content. Knows no FUSE, no archive, no files.

mod error;
mod types;

pub use error::TreeError;
pub use types::*;

use std::sync::Arc;

use crate::entry::{EntryPath, Timestamp, Xattr};

/// The file system in memory. All methods take `&self` and may be called from any thread.
///
/// Lock order: an inode's write gate, then the tree's lock. Nothing slow happens under the tree's lock: pages are sealed
/// and opened outside it.
pub struct Tree;

impl Tree {
    /// Makes a tree with an empty root folder (mode 0700).
    pub fn new(options: TreeOptions) -> Result<Self, TreeError> {
        let _ = options;
        todo!()
    }
    // --- looking ---
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Stat, TreeError> {
        let _ = (parent, name);
        todo!()
    }
    pub fn stat(&self, ino: Ino) -> Result<Stat, TreeError> {
        let _ = ino;
        todo!()
    }
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>, TreeError> {
        let _ = ino;
        todo!()
    }
    /// Lists entries after `cookie` (0: from the start; `.` and `..` are the caller's) in cookie order until `visit` returns false.
    pub fn list(
        &self,
        folder: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), TreeError> {
        let _ = (folder, cookie, visit);
        todo!()
    }
    /// The folder's parent; the root is its own.
    pub fn parent_of(&self, folder: Ino) -> Result<Ino, TreeError> {
        let _ = folder;
        todo!()
    }
    /// Walks a path without following symbolic links.
    pub fn resolve(&self, path: &EntryPath) -> Result<Stat, TreeError> {
        let _ = path;
        todo!()
    }
    /// Some path of an inode, for messages; `None` when it has no name any more.
    pub fn path_of(&self, ino: Ino) -> Option<EntryPath> {
        let _ = ino;
        todo!()
    }
    /// Whether any name of `ino` lies at or below `root`.
    pub fn is_within(&self, ino: Ino, root: Ino) -> bool {
        let _ = (ino, root);
        todo!()
    }
    pub fn usage(&self) -> Usage {
        todo!()
    }

    // --- changing ---
    pub fn make(&self, parent: Ino, name: &[u8], node: NewNode) -> Result<Stat, TreeError> {
        let _ = (parent, name, node);
        todo!()
    }
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Stat, TreeError> {
        let _ = (ino, parent, name);
        todo!()
    }
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), TreeError> {
        let _ = (parent, name);
        todo!()
    }
    pub fn remove_folder(&self, parent: Ino, name: &[u8]) -> Result<(), TreeError> {
        let _ = (parent, name);
        todo!()
    }
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        let _ = (parent, name, new_parent, new_name, mode);
        todo!()
    }
    pub fn set_attributes(&self, ino: Ino, set: &SetAttributes) -> Result<Stat, TreeError> {
        let _ = (ino, set);
        todo!()
    }

    // --- content ---
    /// Fills `out` from `offset`; returns how many bytes there were.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, TreeError> {
        let _ = (ino, offset, out);
        todo!()
    }
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], options: WriteOptions) -> Result<Stat, TreeError> {
        let _ = (ino, offset, data, options);
        todo!()
    }
    pub fn allocate(&self, ino: Ino, offset: u64, len: u64, mode: AllocateMode) -> Result<(), TreeError> {
        let _ = (ino, offset, len, mode);
        todo!()
    }
    /// SEEK_DATA / SEEK_HOLE.
    pub fn seek(&self, ino: Ino, offset: u64, target: SeekTarget) -> Result<u64, TreeError> {
        let _ = (ino, offset, target);
        todo!()
    }
    pub fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64, TreeError> {
        let _ = (from, from_offset, to, to_offset, len);
        todo!()
    }

    // --- extended attributes ---
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, TreeError> {
        let _ = (ino, name);
        todo!()
    }
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, TreeError> {
        let _ = ino;
        todo!()
    }
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), TreeError> {
        let _ = (ino, name, value, mode);
        todo!()
    }
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<(), TreeError> {
        let _ = (ino, name);
        todo!()
    }

    // --- references: an inode without a name lives until the last is gone ---
    pub fn pin(&self, ino: Ino) -> Result<(), TreeError> {
        let _ = ino;
        todo!()
    }
    pub fn unpin(&self, ino: Ino, count: u64) {
        let _ = (ino, count);
        todo!()
    }

    // --- for the committer ---
    /// Rises with each change.
    pub fn revision(&self) -> Revision {
        todo!()
    }
    /// Called after each change, without any lock held; must be quick and must not call the tree.
    pub fn set_observer(&self, observer: Box<dyn Fn(Revision) + Send + Sync>) {
        let _ = observer;
        todo!()
    }
    /// A frozen copy of the whole tree; content pages are shared, not copied.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
    /// Ends loading: from here on `revision` counts. Loading goes through [`Loader`].
    pub fn loader(&mut self) -> Loader<'_> {
        todo!()
    }
    pub fn seal_memory_kind(&self) -> crate::crypto::SecretMemoryKind {
        todo!()
    }
}

/// Fills a new tree from an archive: no quota, no observer, times as given. Duplicate paths, missing parents and non-folder
/// parents are refused; a folder may come twice (the later attributes count).
pub struct Loader<'a>(&'a mut Tree);
impl Loader<'_> {
    /// Adds an entry (the empty path sets the root's attributes). Returns the inode.
    pub fn add(&mut self, entry: crate::entry::Entry) -> Result<Ino, TreeError> {
        let _ = entry;
        todo!()
    }
    /// Appends content to a file just added; pages that are all zero become holes.
    pub fn append(&mut self, ino: Ino, bytes: &[u8]) -> Result<(), TreeError> {
        let _ = (ino, bytes);
        todo!()
    }
}

/// A frozen tree.
pub struct Snapshot;
impl Snapshot {
    pub fn revision(&self) -> Revision {
        todo!()
    }
    /// All entries in an order that a reader can take: the root first (with the empty path), folders before their children
    /// (names sorted by bytes), the first name of a file as `File`, further ones as `HardLink`.
    pub fn entries(self: &Arc<Self>) -> SnapshotEntries {
        todo!()
    }
}
/// Walks a snapshot.
pub struct SnapshotEntries;
impl SnapshotEntries {
    /// The next entry with its inode.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(crate::entry::Entry, Ino)> {
        todo!()
    }
    /// Reads content of a file of the snapshot.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, TreeError> {
        let _ = (ino, offset, out);
        todo!()
    }
}
#[allow(unused)]
fn _unused(_: Timestamp, _: Xattr) {}
