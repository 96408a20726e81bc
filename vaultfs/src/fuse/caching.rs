//! How long a kernel may believe what it was told: long where its mount is the only one that can reach an inode, not at
//! all where another can reach it too, since the kernels' caches know nothing of each other.

use std::sync::Arc;
use std::time::Duration;

use crate::tree::{Ino, NodeType, Stat, Tree};

use super::mount::Mount;

/// For what only one mount can reach: its kernel makes all the changes itself.
const ALONE: Duration = Duration::from_secs(3600);

/// Returns how long attributes of an inode, and an entry that leads to it, may be cached by `mount`.
pub(super) fn lifetime(tree: &Tree, mounts: &[Arc<Mount>], mount: &Mount, stat: &Stat) -> Duration {
    if is_shared(tree, mounts, mount, stat) { Duration::ZERO } else { ALONE }
}

/// Tells whether any other mount may reach an inode.
pub(super) fn is_shared(tree: &Tree, mounts: &[Arc<Mount>], mount: &Mount, stat: &Stat) -> bool {
    let mut others = mounts.iter().filter(|other| other.id != mount.id).peekable();
    if others.peek().is_none() {
        return false;
    }
    // Without a name it may be open elsewhere; with several, one may lie elsewhere.
    let one_name = stat.nlink == 1 || (stat.node_type == NodeType::Folder && stat.nlink > 0);
    !one_name || others.any(|other| reaches(tree, other, stat.ino))
}

/// Tells whether a mount can reach an inode, or knows it from when it could.
pub(super) fn reaches(tree: &Tree, mount: &Mount, ino: Ino) -> bool {
    let root = mount.view.root;
    root == Ino::ROOT || root == ino || mount.lookups.knows(ino) || tree.is_within(ino, root)
}
