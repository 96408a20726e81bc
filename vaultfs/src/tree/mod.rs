//! The file system in memory: inodes, folders, sealed content. Knows no FUSE, no archive, no files.
//!
//! Lock order: the write gate of one inode, then the tree's lock. Nothing slow happens under the tree's lock: pages are
//! sealed and opened outside it, but for those of a long write, whose writer has its answer by then; snapshots share what they
//! freeze.

#[cfg(test)]
mod accounting_tests;
mod across;
mod apply;
mod attributes;
mod between;
mod content;
mod counts;
mod data;
mod difference;
#[cfg(test)]
mod difference_tests;
mod error;
mod ids;
mod inode;
mod loader;
mod merge;
mod names;
mod path_changes;
mod paths;
mod rename;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod unchanged;
mod xattrs;

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::crypto::{SecretMemoryKind, SessionSealer};
use crate::entry::EntryPath;

use ids::IdSource;
use state::State;

pub use apply::{Applier, KeptContent};
pub use counts::InodeCounts;
pub use error::TreeError;
pub use loader::Loader;
pub use merge::{CONFLICTS, Conflict, ConflictKind, Matching, MergeLabel, MergeWith, Merged, TreeChanges};
pub use path_changes::PathChange;
pub use snapshot::{Snapshot, SnapshotEntries};
pub use types::*;

type Observer = Box<dyn Fn(Revision) + Send + Sync>;

/// The file system in memory. All methods take `&self` and may be called from any thread.
pub struct Tree {
    state: RwLock<State>,
    sealer: Arc<SessionSealer>,
    observer: OnceLock<Observer>,
}

impl Tree {
    /// Makes a tree with an empty root folder (mode 0700) and a sealing key of its own.
    ///
    /// # Errors
    /// [`TreeError::Sealing`]: the system gives no memory or no randomness for the key.
    pub fn new(options: TreeOptions) -> Result<Self, TreeError> {
        let sealer = SessionSealer::new().map_err(|_| TreeError::Sealing)?;
        let ids = IdSource::new().map_err(|_| TreeError::Sealing)?;
        let state = RwLock::new(State::new(options, ids));
        Ok(Self { state, sealer: Arc::new(sealer), observer: OnceLock::new() })
    }

    /// Finds a name in a folder.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`], [`TreeError::NameTooLong`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Stat, TreeError> {
        let state = self.state.read();
        let ino = state.child(parent, name)?;
        Ok(state.inode(ino)?.stat(ino))
    }

    /// Tells the attributes of an inode.
    ///
    /// # Errors
    /// [`TreeError::NotFound`].
    pub fn stat(&self, ino: Ino) -> Result<Stat, TreeError> {
        Ok(self.state.read().inode(ino)?.stat(ino))
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::Invalid`] for anything but a symbolic link.
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>, TreeError> {
        match &self.state.read().inode(ino)?.node {
            inode::Node::Symlink(target) => Ok(target.to_vec()),
            _ => Err(TreeError::Invalid),
        }
    }

    /// Shows the entries after `cookie` (0: all) in the order of cookies until `visit` returns false. `.` and `..` are the
    /// caller's. `visit` runs under the tree's lock: it must be quick and must not call the tree.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`].
    pub fn list(
        &self,
        folder: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), TreeError> {
        let state = self.state.read();
        for (cookie, name, ino) in state.folder(folder)?.entries_after(cookie) {
            let stat = state.inode(ino)?.stat(ino);
            if !visit(&DirEntry { name, cookie, stat }) {
                break;
            }
        }
        Ok(())
    }

    /// Returns the folder that holds a folder; the root is its own parent.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`].
    pub fn parent_of(&self, folder: Ino) -> Result<Ino, TreeError> {
        self.state.read().parent_of(folder)
    }

    /// Walks a path without following symbolic links.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`].
    pub fn resolve(&self, path: &EntryPath) -> Result<Stat, TreeError> {
        let state = self.state.read();
        let ino = path.components().try_fold(Ino::ROOT, |folder, name| state.child(folder, name))?;
        Ok(state.inode(ino)?.stat(ino))
    }

    /// Returns a path of an inode, for messages; `None` when it has no name any more.
    pub fn path_of(&self, ino: Ino) -> Option<EntryPath> {
        self.state.read().path_of(ino)
    }

    /// Returns every name of an inode with the folder that holds it.
    pub fn names_of(&self, ino: Ino) -> Vec<(Ino, Vec<u8>)> {
        self.state.read().names_of(ino)
    }

    /// Tells whether any name of `ino` lies at or below the folder `root`.
    pub fn is_within(&self, ino: Ino, root: Ino) -> bool {
        self.state.read().is_within(ino, root)
    }

    /// Tells how full the tree is.
    pub fn usage(&self) -> Usage {
        self.state.read().usage()
    }

    /// Counts a reference that keeps an inode alive without a name.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]: it is gone already.
    pub fn pin(&self, ino: Ino) -> Result<(), TreeError> {
        let mut state = self.state.write();
        state.inode(ino)?;
        state.pins.add(ino);
        Ok(())
    }

    /// Gives references back; an inode without a name goes with the last.
    pub fn unpin(&self, ino: Ino, count: u64) {
        let gone = {
            let mut state = self.state.write();
            if !state.pins.subtract(ino, count) {
                return;
            }
            state.reap(ino);
            std::mem::take(&mut state.gone)
        };
        drop(gone);
    }

    /// Tells how many changes there were.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// Sets what is called after each change, with no lock held. It must be quick. Only the first one counts.
    pub fn set_observer(&self, observer: Box<dyn Fn(Revision) + Send + Sync>) {
        if self.observer.set(observer).is_err() {
            tracing::error!("a tree has one observer; the second was ignored");
        }
    }

    /// Counts a change that the archive must learn although no entry changed (something was dropped on reading).
    pub fn mark_changed(&self) {
        let revision = self.state.write().bump();
        self.notify(revision);
    }

    /// Freezes the whole tree in constant time; everything is shared, nothing copied.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        Snapshot::new(state.revision, state.inodes.clone(), self.sealer.clone())
    }

    /// Another tree in the same state, which seals with the same key: both share what neither changes.
    ///
    /// # Errors
    /// As for [`Tree::new`].
    pub fn fork(&self) -> Result<Self, TreeError> {
        Self::forked(&self.state.read(), &self.sealer)
    }

    fn forked(state: &State, sealer: &Arc<SessionSealer>) -> Result<Self, TreeError> {
        let ids = IdSource::new().map_err(|_| TreeError::Sealing)?;
        Ok(Self { state: RwLock::new(state.fork(ids)), sealer: sealer.clone(), observer: OnceLock::new() })
    }

    /// Starts filling the tree from an archive.
    pub fn loader(&mut self) -> Loader<'_> {
        Loader::new(self.state.get_mut(), &self.sealer)
    }

    /// Starts applying differences to the tree that follow each other, the first of them to what is in it.
    pub fn applier(&mut self) -> Applier<'_> {
        Applier::new(self.state.get_mut(), &self.sealer)
    }

    /// Tells what kind of memory holds the sealing key.
    pub fn seal_memory_kind(&self) -> SecretMemoryKind {
        self.sealer.memory_kind()
    }

    fn notify(&self, revision: Revision) {
        if let Some(observer) = self.observer.get() {
            observer(revision);
        }
    }

    /// Runs a change under the lock; when it worked it is counted and told.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, TreeError>) -> Result<T, TreeError> {
        let (value, revision, gone) = {
            let mut state = self.state.write();
            let value = change(&mut state)?;
            (value, state.bump(), std::mem::take(&mut state.gone))
        };
        drop(gone);
        self.notify(revision);
        Ok(value)
    }
}
