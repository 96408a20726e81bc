//! The borders of subtrees that are mounted on their own. Nothing is moved or linked across one: an inode would become
//! reachable through a second kernel cache while the first believes that it is alone.

use std::sync::Arc;

use fuser::Errno;

use crate::tree::{Ino, Tree};

use super::mount::Mount;

/// Refuses with EXDEV when one of two inodes lies within a mounted subtree and the other does not.
pub(super) fn check_same_side(tree: &Tree, mounts: &[Arc<Mount>], one: Ino, other: Ino) -> Result<(), Errno> {
    if one == other {
        return Ok(());
    }
    for root in subtrees(mounts) {
        if tree.is_within(one, root) != tree.is_within(other, root) {
            return Err(Errno::EXDEV);
        }
    }
    Ok(())
}

/// Refuses with EBUSY when an entry is the root of a mount.
pub(super) fn check_not_mounted(tree: &Tree, mounts: &[Arc<Mount>], parent: Ino, name: &[u8]) -> Result<(), Errno> {
    if subtrees(mounts).next().is_none() {
        return Ok(());
    }
    match tree.lookup(parent, name) {
        Ok(stat) if subtrees(mounts).any(|root| root == stat.ino) => Err(Errno::EBUSY),
        _ => Ok(()),
    }
}

/// Roots of mounts, without the tree's own, which has no outside.
fn subtrees(mounts: &[Arc<Mount>]) -> impl Iterator<Item = Ino> {
    mounts.iter().map(|mount| mount.view.root).filter(|&root| root != Ino::ROOT)
}
