//! How often a mount's kernel cache was told of each inode. Holds one pin in the tree for every inode that it knows, so
//! that it lives as long as the kernel can ask for it.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::tree::{Ino, Tree, TreeError};

/// Lookup counts of one mount.
#[derive(Default)]
pub(super) struct LookupTable(Mutex<FxHashMap<Ino, u64>>);

impl LookupTable {
    /// Counts an inode that an answer is going to name.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]: it went away meanwhile.
    pub fn reference(&self, tree: &Tree, ino: Ino) -> Result<(), TreeError> {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(&ino) {
            *count += 1;
            return Ok(());
        }
        tree.pin(ino)?;
        counts.insert(ino, 1);
        Ok(())
    }

    /// Takes back counts as the kernel forgets them.
    pub fn forget(&self, tree: &Tree, ino: Ino, lookups: u64) {
        let mut counts = self.0.lock();
        let Some(count) = counts.get_mut(&ino) else { return };
        *count = count.saturating_sub(lookups);
        if *count == 0 {
            counts.remove(&ino);
            tree.unpin(ino, 1);
        }
    }

    /// Forgets everything: the kernel's cache is gone.
    pub fn release_all(&self, tree: &Tree) {
        for (ino, _) in self.0.lock().drain() {
            tree.unpin(ino, 1);
        }
    }

    /// Tells whether the kernel may ask for an inode.
    pub fn knows(&self, ino: Ino) -> bool {
        self.0.lock().contains_key(&ino)
    }

    /// All inodes that the kernel may ask for, apart from the root.
    pub fn known(&self) -> Vec<Ino> {
        self.0.lock().keys().copied().collect()
    }
}
