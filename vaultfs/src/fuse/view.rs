//! What a mount shows: its root under FUSE's number 1, what it hides, whether it can be changed.

use std::collections::HashSet;

use fuser::{Errno, INodeNo};
use parking_lot::RwLock;

use crate::entry::EntryPath;
use crate::tree::{CONFLICTS, Ino, Tree};

/// What one mount shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The folder, or the single file, that is the mount's root.
    pub root: Ino,
    /// Whether it can be changed.
    pub access: Access,
    /// Entries that are not shown, with all they hold: paths within the vault.
    pub hidden: Vec<EntryPath>,
}

/// Whether a view can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing.
    ReadWrite,
    /// Reading.
    ReadOnly,
}

impl View {
    /// Shows the whole tree.
    pub fn whole(access: Access) -> Self {
        Self { root: Ino::ROOT, access, hidden: Vec::new() }
    }
}

/// A view made ready for requests. Hidden is what lies at the hidden paths, and what lay there when the mount came or when
/// something on the way was moved, wherever it is now.
pub(super) struct ViewFilter {
    pub root: Ino,
    access: Access,
    paths: Vec<EntryPath>,
    inodes: RwLock<HashSet<Ino>>,
}

impl ViewFilter {
    pub fn new(view: View, tree: &Tree) -> Self {
        let mut paths = view.hidden;
        if !paths.is_empty() {
            // Copies of what is hidden may lie there.
            paths.push(EntryPath::root().join(CONFLICTS));
        }
        let filter = Self { root: view.root, access: view.access, paths, inodes: RwLock::default() };
        filter.remember_hidden(tree);
        filter
    }

    /// Notes what lies at the hidden paths now, so that it stays hidden where it is moved.
    pub fn remember_hidden(&self, tree: &Tree) {
        let hidden = self.paths.iter().filter_map(|path| tree.resolve(path).ok());
        self.inodes.write().extend(hidden.map(|stat| stat.ino));
    }

    /// To be told before an entry is moved, through whichever mount.
    pub fn before_move(&self, tree: &Tree, parent: Ino, name: &[u8]) {
        if self.guards(tree, parent, name) {
            self.remember_hidden(tree);
        }
    }

    /// The tree's inode for a number of FUSE's.
    pub fn ino(&self, nodeid: INodeNo) -> Ino {
        if nodeid == INodeNo::ROOT { self.root } else { Ino(nodeid.0) }
    }

    /// FUSE's number for an inode of the tree.
    pub fn nodeid(&self, ino: Ino) -> INodeNo {
        if ino == self.root { INodeNo::ROOT } else { INodeNo(ino.0) }
    }

    /// Refuses changes where the view is read-only.
    pub fn check_writable(&self) -> Result<(), Errno> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Errno::EROFS),
        }
    }

    /// Tells whether anything is hidden.
    pub fn hides_anything(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Tells whether an entry that leads to an inode is not shown.
    pub fn hides(&self, tree: &Tree, parent: Ino, name: &[u8], ino: Ino) -> bool {
        self.hides_anything() && (self.inodes.read().contains(&ino) || self.hides_name(tree, parent, name))
    }

    /// Tells whether nothing may lie or is shown under a name.
    pub fn hides_name(&self, tree: &Tree, parent: Ino, name: &[u8]) -> bool {
        if !self.hides_anything() {
            return false;
        }
        let leads_to_hidden = || tree.lookup(parent, name).is_ok_and(|stat| self.inodes.read().contains(&stat.ino));
        tree.path_of(parent).is_some_and(|folder| self.paths.contains(&folder.join(name))) || leads_to_hidden()
    }

    /// Tells whether an entry is hidden or lies on the way to one that is: moving it would show what it holds.
    pub fn guards(&self, tree: &Tree, parent: Ino, name: &[u8]) -> bool {
        if !self.hides_anything() {
            return false;
        }
        let Some(path) = tree.path_of(parent).map(|folder| folder.join(name)) else { return false };
        let is_on_the_way = |hidden: &EntryPath| {
            let mut hidden = hidden.components();
            path.components().all(|component| hidden.next() == Some(component))
        };
        self.paths.iter().any(is_on_the_way)
            || tree.lookup(parent, name).is_ok_and(|stat| {
                self.inodes.read().iter().any(|&hidden| hidden == stat.ino || tree.is_within(hidden, stat.ino))
            })
    }
}
