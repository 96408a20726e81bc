//! Changes of the tree that come through no mount, as a merge makes them: what kernels and views have to know before and after.

use std::sync::Arc;

use crate::tree::{Ino, TreeChanges};

use super::mount::Mount;
use super::orphans::{self, Removed};
use super::{MountId, Mounts, invalidation};

/// No mount.
const NOBODY: MountId = MountId(0);

impl Mounts {
    /// To be called before the tree is changed by anything but a mount: dirty mapped pages come home, so that they are part of
    /// what is changed, and what views hide stays hidden wherever it goes. Never call it from a request handler.
    pub fn before_outside_change(&self) {
        for mount in self.mounts() {
            mount.view.remember_hidden(&self.tree);
        }
        self.invalidate_all();
    }

    /// To be called after it: kernels look again at everything that changed. Never call it from a request handler.
    pub fn after_outside_change(self: &Arc<Self>, changes: &TreeChanges) {
        // No answer is under way then that was found before the change.
        drop(self.serving.write());
        for mount in self.mounts() {
            tell(&mount, changes);
            if changes.moved_folders {
                // What lies in them is within reach of other mounts than before.
                invalidation::invalidate(&self.tree, &mount, &|_| true);
            }
        }
        for (ino, parent, name) in &changes.removed {
            if self.tree.stat(*ino).is_ok() {
                orphans::add(self, *ino, Removed { through: NOBODY, parent: *parent, name: name.clone() });
            }
        }
    }
}

fn tell(mount: &Mount, changes: &TreeChanges) {
    let is_known = |ino: Ino| ino == mount.view.root || mount.lookups.knows(ino);
    let nodeid = |ino: Ino| mount.view.nodeid(ino).0;
    let entries = changes.names.iter().filter(|(parent, _)| is_known(*parent));
    let outcomes = changes
        .inodes
        .iter()
        .filter(|ino| is_known(**ino))
        .map(|&ino| mount.notifier.invalidate_inode(nodeid(ino)))
        .chain(entries.map(|(parent, name)| mount.notifier.expire_entry(nodeid(*parent), name)));
    for error in outcomes.filter_map(Result::err) {
        // ENODEV or ENOTCONN: the mount is gone, and its caches with it.
        tracing::debug!(%error, "a kernel cache could not be told of a change");
    }
}
