//! A frozen tree, for writers of archives.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::crypto::SessionSealer;
use crate::entry::{Attributes, Entry, EntryKind, EntryPath, InodeId};

use super::inode::{Inode, Node, SharedInode};
use super::{Ino, Revision, TreeError};

/// A frozen tree that shares its content with the living one.
pub struct Snapshot {
    revision: Revision,
    inodes: OrdMap<Ino, SharedInode>,
    sealer: Arc<SessionSealer>,
}

impl Snapshot {
    pub(super) fn new(revision: Revision, inodes: OrdMap<Ino, SharedInode>, sealer: Arc<SessionSealer>) -> Self {
        Self { revision, inodes, sealer }
    }

    /// Tells which changes it holds.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn inodes(&self) -> &OrdMap<Ino, SharedInode> {
        &self.inodes
    }

    pub(super) fn sealer(&self) -> &SessionSealer {
        &self.sealer
    }

    /// Walks all entries in an order that a reader can take: the root first (with the empty path), folders before what they
    /// hold, names sorted by bytes, the first name of a file as `File` and further ones as `HardLink`.
    pub fn entries(self: &Arc<Self>) -> SnapshotEntries {
        self.entries_from(Ino::ROOT, EntryPath::root())
    }

    /// The same of one entry and all below it, as if it lay at a path.
    pub fn entries_from(self: &Arc<Self>, ino: Ino, path: EntryPath) -> SnapshotEntries {
        SnapshotEntries { snapshot: self.clone(), waiting: vec![(path, ino)], first_names: HashMap::new() }
    }

    /// Walks a path without following symbolic links.
    pub fn resolve(&self, path: &EntryPath) -> Option<Ino> {
        path.components().try_fold(Ino::ROOT, |folder, name| match &self.inodes.get(&folder)?.0.node {
            Node::Folder(folder) => folder.child(name).map(|child| child.ino),
            _ => None,
        })
    }

    /// What an inode is called in archives.
    pub fn id_of(&self, ino: Ino) -> Option<InodeId> {
        self.inodes.get(&ino).map(|inode| inode.0.id)
    }

    /// Counts what has a name, the root left out, and the files among it.
    pub fn count(&self) -> (u64, u64) {
        let linked = self.inodes.iter().filter(|(ino, inode)| **ino != Ino::ROOT && inode.0.is_linked(**ino));
        linked.fold((0, 0), |(all, files), (_, inode)| {
            (all + 1, files + u64::from(matches!(inode.0.node, Node::File(_))))
        })
    }
}

/// Walks a snapshot.
pub struct SnapshotEntries {
    snapshot: Arc<Snapshot>,
    /// What comes next, last first.
    waiting: Vec<(EntryPath, Ino)>,
    /// Where an inode with several names came first.
    first_names: HashMap<Ino, EntryPath>,
}

impl SnapshotEntries {
    /// Reads content of a file of the snapshot; returns how many bytes there were.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::Invalid`] (not a file), [`TreeError::Sealing`].
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, TreeError> {
        match &self.snapshot.inodes.get(&ino).ok_or(TreeError::NotFound)?.0.node {
            Node::File(file) => {
                let slice = file.content.slice(offset, out.len());
                self.snapshot.sealer.with_cipher(|cipher| slice.open(cipher, out))
            }
            _ => Err(TreeError::Invalid),
        }
    }

    fn push_children(&mut self, path: &EntryPath, inode: &Inode) {
        if let Node::Folder(folder) = &inode.node {
            let children = folder.entries().rev().map(|(name, ino)| (path.join(name), ino));
            self.waiting.extend(children);
        }
    }
}

impl Iterator for SnapshotEntries {
    type Item = (Entry, Ino);

    fn next(&mut self) -> Option<(Entry, Ino)> {
        let (path, ino) = self.waiting.pop()?;
        let inode = self.snapshot.inodes.get(&ino).expect("a folder's entry has its inode").0.clone();
        self.push_children(&path, &inode);
        let mut kind = EntryKind::from(&inode.node);
        if inode.places.len() > 1 {
            match self.first_names.get(&ino) {
                Some(first) => kind = EntryKind::HardLink { target: first.clone() },
                None => {
                    self.first_names.insert(ino, path.clone());
                }
            }
        }
        let attributes = Attributes { mode: inode.mode, mtime: inode.mtime, ctime: inode.ctime };
        let xattrs = match kind {
            EntryKind::HardLink { .. } => Vec::new(),
            _ => inode.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        };
        Some((Entry { path, kind, attributes, xattrs }, ino))
    }
}
