//! Which inodes a kernel knows, and how often it was told of them. Each known inode is pinned once in the tree.
//!
//! Lock order: this table, then the tree.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::tree::{Ino, Tree, TreeError};

#[derive(Default)]
pub(super) struct Lookups(Mutex<FxHashMap<Ino, u64>>);

impl Lookups {
    /// Counts that the kernel is told of an inode.
    pub fn remember(&self, tree: &Tree, ino: Ino) -> Result<(), TreeError> {
        let mut known = self.0.lock();
        match known.get_mut(&ino) {
            Some(count) => *count += 1,
            None => {
                tree.pin(ino)?;
                known.insert(ino, 1);
            }
        }
        Ok(())
    }

    /// Takes counts back.
    pub fn forget(&self, tree: &Tree, ino: Ino, count: u64) {
        let mut known = self.0.lock();
        let Some(held) = known.get_mut(&ino) else { return };
        *held = held.saturating_sub(count);
        if *held == 0 {
            known.remove(&ino);
            tree.unpin(ino, 1);
        }
    }

    /// Takes all back: the mount is gone.
    pub fn forget_all(&self, tree: &Tree) {
        for (ino, _) in self.0.lock().drain() {
            tree.unpin(ino, 1);
        }
    }

    pub fn known(&self) -> Vec<Ino> {
        self.0.lock().keys().copied().collect()
    }
}
