//! One mount: its view, what its kernel knows, and how long it may remember it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuser::Notifier;

use crate::tree::{Ino, Tree};

use super::MountId;
use super::lookups::Lookups;
use super::view::{Filter, View};

/// How long the kernel of the only mount that reaches an inode may remember it: nobody else can change it.
const LONG: Duration = Duration::from_secs(3600);

pub(super) struct Mount {
    pub id: MountId,
    pub view: View,
    pub filter: Filter,
    pub lookups: Lookups,
    pub open_handles: AtomicU64,
    pub notifier: OnceLock<Notifier>,
}

impl Mount {
    pub fn new(id: MountId, view: View, tree: &Tree) -> Self {
        let filter = Filter::new(&view, tree);
        Self {
            id,
            view,
            filter,
            lookups: Lookups::default(),
            open_handles: AtomicU64::new(0),
            notifier: OnceLock::new(),
        }
    }

    /// Makes the kernel drop what it caches of an inode; dirty mapped pages come home first.
    pub fn invalidate_inode(&self, ino: Ino) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(self.view.number(ino), 0, 0)
        {
            tracing::debug!(%error, "an inode could not be invalidated");
        }
    }

    /// Makes the kernel look up the names of an inode again.
    pub fn invalidate_names(&self, tree: &Tree, ino: Ino) {
        let Some(notifier) = self.notifier.get() else { return };
        for (parent, name) in tree.names_of(ino) {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(name.as_slice());
            if let Err(error) = notifier.inval_entry(self.view.number(parent), name) {
                tracing::debug!(%error, "a name could not be invalidated");
            }
        }
    }

    pub fn opened(&self) {
        self.open_handles.fetch_add(1, Ordering::Relaxed);
    }

    pub fn released(&self) {
        self.open_handles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether other mounts can change an inode behind a kernel's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only the asking mount reaches it: the kernel may cache all of it.
    Alone,
    /// Another mount reaches it too: the kernel must ask each time.
    Shared,
}

impl Reach {
    pub fn timeout(self) -> Duration {
        match self {
            Reach::Alone => LONG,
            Reach::Shared => Duration::ZERO,
        }
    }
}
