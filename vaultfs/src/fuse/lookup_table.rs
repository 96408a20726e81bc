//! How often a mount's kernel cache was told of each inode. Holds one pin in the tree for every inode that it knows, so
//! that it lives as long as the kernel can ask for it.

use parking_lot::Mutex;

use crate::tree::{Ino, InodeCounts, Tree, TreeError};

/// Lookup counts of one mount.
#[derive(Default)]
pub(super) struct LookupTable(Mutex<InodeCounts>);

impl LookupTable {
    /// Counts an inode that an answer is going to name.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]: it went away meanwhile.
    pub fn reference(&self, tree: &Tree, ino: Ino) -> Result<(), TreeError> {
        let mut counts = self.0.lock();
        if !counts.contains(ino) {
            tree.pin(ino)?;
        }
        counts.add(ino);
        Ok(())
    }

    /// Takes back counts as the kernel forgets them.
    pub fn forget(&self, tree: &Tree, ino: Ino, lookups: u64) {
        let mut counts = self.0.lock();
        if counts.subtract(ino, lookups) {
            tree.unpin(ino, 1);
        }
    }

    /// Forgets everything: the kernel's cache is gone.
    pub fn release_all(&self, tree: &Tree) {
        let mut counts = self.0.lock();
        counts.clear().into_iter().for_each(|ino| tree.unpin(ino, 1));
    }

    /// Tells whether the kernel may ask for an inode.
    pub fn knows(&self, ino: Ino) -> bool {
        self.0.lock().contains(ino)
    }

    /// All inodes that the kernel may ask for, apart from the root.
    pub fn known(&self) -> Vec<Ino> {
        self.0.lock().inodes()
    }
}
