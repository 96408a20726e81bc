//! What one mount shows of the tree.

use std::collections::HashSet;

use fuser::INodeNo;

use crate::entry::EntryPath;
use crate::tree::{Ino, Tree};

/// What one mount shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The folder that is the mount's root.
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

    /// The kernel knows the root of each mount as inode 1.
    pub(super) fn ino(&self, number: INodeNo) -> Ino {
        if number == INodeNo::ROOT { self.root } else { Ino(number.0) }
    }

    pub(super) fn number(&self, ino: Ino) -> INodeNo {
        if ino == self.root { INodeNo::ROOT } else { INodeNo(ino.0) }
    }
}

/// What a view hides: what lies at the hidden paths, and what lay there when the mount came, wherever it was moved since.
pub(super) struct Filter {
    paths: Vec<EntryPath>,
    inodes: HashSet<Ino>,
}

impl Filter {
    pub fn new(view: &View, tree: &Tree) -> Self {
        let inodes = view.hidden.iter().filter_map(|path| tree.resolve(path).ok()).map(|stat| stat.ino).collect();
        Self { paths: view.hidden.clone(), inodes }
    }

    pub fn hides_inode(&self, ino: Ino) -> bool {
        self.inodes.contains(&ino)
    }

    pub fn hides_name(&self, tree: &Tree, parent: Ino, name: &[u8]) -> bool {
        !self.paths.is_empty() && tree.path_of(parent).is_some_and(|folder| self.paths.contains(&folder.join(name)))
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}
